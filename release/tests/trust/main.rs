//! Trust, from the outside: real keys, real signatures, an in-memory network that can lie.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod attacks;
mod client;
mod flips;
mod interop;
mod publication;
mod replay;
mod rotation;
mod sequences;
mod store;
mod world;
