//! A small mail server for demonstrations and tests: it speaks real SMTP, and whatever it accepts
//! it writes into a directory, one file a message.
//!
//! [`server`] carries a conversation over TCP and TLS; [`mailbox`] says what is accepted. The
//! protocol's grammar and states are the `mailin` crate's.

pub mod mailbox;
pub mod server;
