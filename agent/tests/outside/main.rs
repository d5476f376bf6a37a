//! The agent's outside against a controller's port made for the tests: real TLS, gRPC and HTTP over
//! loopback, with answers that the tests choose.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod binary;
mod enrolment;
mod liar;
mod line;
mod published;
mod releases;
mod world;
