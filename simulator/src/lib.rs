//! Whole rollouts on one virtual clock, by the thousand: the controller's real fleet, its turns and its engine, the
//! agent's real plans, the real course of a switch and the real journal, over a disk, a network and services that are
//! only told of. What goes wrong, and when, comes from a seed, so that a run that breaks a promise can be run again.
//!
//! What is *not* here: the bytes of releases, TLS and signatures, and whatever the agent's loop does beside switches;
//! those have tests of their own with the real things.
//!
//! | module | what it holds |
//! |---|---|
//! | [`chance`] | all that is left to chance |
//! | [`scenario`] | what a seed means |
//! | [`controller`] | the controller, its commits and its crashes |
//! | [`host`] | a host and its agent |
//! | [`world`] | lines between them, time, people and faults |
//! | [`witness`] | what was promised |
//! | [`counts`] | what happened |

pub mod chance;
pub mod controller;
pub mod counts;
pub mod host;
pub mod scenario;
pub mod witness;
pub mod world;
