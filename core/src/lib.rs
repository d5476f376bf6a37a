//! Words and decisions of Tamer.
//!
//! No I/O, no clock, no randomness, no async: everything here is a value or a
//! pure function, so that it can be tested over thousands of generated cases.
//!
//! | module | what it holds |
//! |---|---|
//! | [`id`], [`version`], [`digest`], [`generation`], [`moment`] | names and numbers, parsed once at the boundary |
//! | [`text`] | strict TOML: unknown keys are refused with the nearest known one |
//! | [`application`], [`build`], [`limits`], [`capability`] | `tamer.toml`: what an application consists of, how it is built, and what its hooks may use |
//! | [`release`], [`path`] | the manifest: one version of one component, as signed; where its entries lie |
//! | [`environment`], [`policy`], [`calendar`], [`selector`] | where, how carefully, when, and on what evidence |
//! | [`auto`] | environments that follow another one, or what is published |
//! | [`router`] | two pools of a component, and what sends to one of them |
//! | [`check`], [`evidence`] | what must hold on a host; what must be proven of a release |
//! | [`desired`], [`drift`] | the whole of what one host should be; what was changed there by hand |
//! | [`schema`] | databases: what may be deployed over them, and how far back is safe |
//! | [`rollout`] | the engine: plan, apply, decide, invariants |

pub mod application;
pub mod auto;
pub mod build;
pub mod calendar;
pub mod capability;
pub mod check;
pub mod desired;
pub mod digest;
pub mod drift;
pub mod environment;
pub mod evidence;
pub mod generation;
pub mod id;
pub mod limits;
pub mod moment;
pub mod path;
pub mod policy;
pub mod release;
pub mod rollout;
pub mod router;
pub mod schema;
pub mod selector;
pub mod text;
pub mod version;
