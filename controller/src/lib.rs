//! The fleet's single point of decision.
//!
//! ```text
//! api ─▶ driver ─▶ fleet (pure) ─▶ store, audit
//!           │
//!           └────▶ sessions ─▶ agents
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`serve`] | everything put together |
//! | [`api`] | thin: convert, send to the driver, await |
//! | [`driver`] | the only writer: change, decide, commit, dispatch |
//! | [`fleet`] | everything known, and every change to it; no I/O |
//! | [`status`], [`notes`] | the fleet as people see it, and what they should know |
//! | [`sessions`], [`server`] | who is connected; the one port |
//! | [`transfers`], [`inspections`] | what hosts say for people alone: how far they have fetched, what differs |
//! | [`identity`], [`authority`] | the CA, join tokens, who may do what; the CA at work |
//! | [`acting`] | who asks for what, from where: noted beside the deed |
//! | [`publications`], [`artifacts`], [`catalog`] | signed metadata, blobs, and looking things up in both |
//! | [`store`], [`audit`], [`revocations`], [`migrations`] | what must not be forgotten; logs that are [`chain`]s |
//! | [`following`] | begins what environments that follow have coming |
//! | [`backups`], [`mirror`] | copies of all of it |
//! | [`config`], [`metrics`] | |

pub mod acting;
pub mod api;
pub mod artifacts;
pub mod audit;
pub mod authority;
pub mod backups;
pub mod catalog;
pub mod chain;
pub mod config;
pub mod driver;
pub mod evidence;
pub mod fleet;
pub mod following;
pub mod identity;
pub mod inspections;
pub mod metrics;
pub mod migrations;
pub mod mirror;
pub mod notes;
pub mod publications;
pub mod revocations;
pub mod serve;
pub mod server;
pub mod sessions;
pub mod status;
pub mod store;
pub mod transfers;
mod utc;

pub use utc::utc;
