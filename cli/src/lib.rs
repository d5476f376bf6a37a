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
//! | [`blobs`], [`repository`] | uploads, and signed metadata: read, verified, extended |

pub mod args;
pub mod blobs;
pub mod client;
pub mod commands;
pub mod error;
pub mod exit;
pub mod home;
pub mod identity;
pub mod printer;
pub mod repository;
pub mod views;
