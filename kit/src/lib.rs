//! Small things that more than one binary needs, and that belong to no room of the house:
//! durable files, hashing, chained logs, configuration files, TLS set-up, HTTP, backoff, telemetry, metrics,
//! what a service tells systemd, asking a person, what lies below an error, manual pages and completions.
//!
//! Nothing here decides anything about deploying.

pub mod address;
pub mod audit;
pub mod backoff;
pub mod cause;
pub mod chain;
pub mod channel;
pub mod clock;
pub mod config;
pub mod durable;
pub mod hash;
pub mod http;
pub mod manual;
pub mod metrics;
pub mod supervisor;
pub mod telemetry;
pub mod terminal;
pub mod tls;
pub mod token;
