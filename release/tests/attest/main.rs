//! Evidence: what is proven, and what every attack on it comes to.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot go on has failed"
)]

mod approvals;
mod attacks;
mod laws;
mod made;
mod others;
mod places;
