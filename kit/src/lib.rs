//! Small things that more than one binary needs, and that belong to no room of the house:
//! durable files, hashing, configuration files, TLS set-up, HTTP, backoff, telemetry.
//!
//! Nothing here decides anything about deploying.

pub mod config;
pub mod durable;
pub mod hash;
