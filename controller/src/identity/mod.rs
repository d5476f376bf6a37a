//! Who may speak with the controller, and what they may do.
//!
//! A certificate of the controller's own [`ca`] says only *who* its bearer is ([`peer`]); what the
//! bearer may do stands in the [`registry`], so that a revocation or a change of role holds at
//! once. Newcomers bring a one-time token ([`tokens`]) and a signing request ([`csr`]); [`join`]
//! puts the two together. While one CA takes another's place there are two ([`authorities`]).
//!
//! Everything but the CAs' files is pure: time and randomness are arguments, the driver stores.

pub mod attempts;
pub mod authorities;
pub mod ca;
pub mod csr;
pub mod join;
pub mod peer;
pub mod registry;
pub mod tokens;
