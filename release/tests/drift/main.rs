//! Looking again with a record: whatever is edited, in whatever way, is named, and nothing else is; and what
//! was not edited is not read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;
mod edits;
mod model;
mod records;
mod site;
