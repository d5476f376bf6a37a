//! Screens: pure functions from what the controller says to lines of text, so that every one of
//! them is tested as a user sees it.

pub mod approval;
pub mod audit;
pub mod ca;
pub mod cause;
pub mod databases;
pub mod drift;
pub mod environments;
pub mod failures;
pub mod hosts;
pub mod human;
pub mod notes;
pub mod operators;
pub mod plan;
pub mod releases;
pub mod routers;
#[cfg(test)]
pub(crate) mod sample;
pub mod status;
pub mod table;
mod transfers;
pub mod transitions;
pub mod trust;
