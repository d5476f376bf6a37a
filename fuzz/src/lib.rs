//! Bad input: releases made to do harm, and what every parser of bytes from outside must stand.
//!
//! | module | what it holds |
//! |---|---|
//! | [`corpus`] | hostile releases, each with what its refusal says |
//! | [`targets`] | one function a parser: takes any bytes, and panics where a promise is broken |
//! | [`made`] | releases from entries that no packer would take, signed as if one had |
//! | [`site`] | a place to attack, which notices everything that is not as it was |
//!
//! The same functions are run in two ways: as ordinary tests over their seeds and over what was found before
//! (`tests/`), and under libFuzzer, guided by coverage, by `deploy-scripts/fuzz`.

#![allow(
    clippy::unwrap_used,
    reason = "what is made here for tests alone, and cannot be made, has failed"
)]

mod choices;
pub mod corpus;
pub mod made;
pub mod site;
pub mod targets;

/// An error with all its causes, as people read it.
pub fn said(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}
