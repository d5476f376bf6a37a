//! The whole system as its users have it: real processes on loopback, real files, real keys.
//!
//! A [`Fleet`] is a controller, an engineer's desk and any number of [`Host`]s, all below one temporary
//! directory. Everything goes through the programs' command lines, so that nothing here can know more
//! than a person who types. What a host really runs is read from its disk, never asked for.
//!
//! Processes end with the value that stands for them, by their number, whatever happens to the test; a
//! test that fails prints their logs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "only tests use this crate, and a test that cannot go on has failed"
)]

mod app;
mod cable;
mod clock;
mod controller;
pub mod crash;
mod fleet;
mod host;
mod process;
mod programs;
mod store;
pub mod wire;

pub use app::{App, MARKED};
pub use cable::Cable;
pub use clock::clocks_can_be_set;
pub use controller::{Controller, free_address};
pub use fleet::{ENVIRONMENT, Fleet};
pub use host::{Host, HostOptions};
pub use process::{Daemon, LIMIT, Said, Typed, until};
pub use programs::{files, is_root, program};
pub use store::{Store, program_of_others};
