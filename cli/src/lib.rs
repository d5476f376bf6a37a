//! `tamer`: what engineers type.
//!
//! | module | what it holds |
//! |---|---|
//! | [`args`] | what can be typed |
//! | [`commands`] | what it means: one file a command |
//! | [`views`] | screens, as pure functions of what the controller says |
//! | [`printer`] | the only place that prints |
//! | [`exit`], [`error`] | how a command ends, and what it tells when it fails |
//! | [`home`], [`identity`], [`client`] | who you are, and the connection to the controller |
//! | [`keys`], [`drafts`] | the team's keys on this machine, and changes that wait for more of them |
//! | [`evidence`], [`junit`], [`git`] | statements as files, and where they come from |
//! | [`blobs`], [`repository`] | uploads, and signed metadata: read, verified, extended |

pub mod args;
pub mod blobs;
pub mod client;
pub mod commands;
pub mod drafts;
pub mod error;
pub mod evidence;
pub mod exit;
pub mod git;
pub mod home;
pub mod identity;
pub mod junit;
pub mod keys;
pub mod printer;
pub mod repository;
pub mod views;
