//! Trust: TUF, as one small repository per application and one per environment, all under the
//! team's root keys.
//!
//! | module | what it holds |
//! |---|---|
//! | [`names`] | repositories, metadata files, targets and blobs by name |
//! | [`keys`] | signing keys as files, public keys as metadata |
//! | [`signer`] | who signs: everything that signs takes a [`Signer`], never a key |
//! | [`external`] | a program that signs, for a KMS or hardware |
//! | [`document`] | one signed document: parsed, capped, bound to its repository |
//! | [`signatures`] | who must have signed what a document says in [canonical form](crate::json) |
//! | [`targets`], [`paths`] | the files that a targets document vouches for, and whom it trusts with which names |
//! | [`roots`] | chains of roots, and the team's that anchors them |
//! | [`workflow`] | the client's rules, pure, with the specification's step numbers beside them |
//! | [`storage`] | what a host has accepted, byte for byte; damage fails closed |
//! | [`steps`], [`transport`], [`error`] | the workflow over a [`Transport`] |
//! | [`client`] | a host's client: the steps, under the team's root, over a store that fails closed |
//! | [`plain`] | the same steps over any TUF repository, delegations included: for suites of tests |
//! | [`editor`] | the team's side: roots and targets, made and signed offline |
//! | [`rotation`] | the next root: whose keys may sign what, and whose signatures it needs |
//! | [`draft`] | a change that waits for signatures, as a file that travels |
//! | [`walk`] | all roots to the newest, for those who change them |
//! | [`live`] | which targets are live, and which are retired |
//! | [`publication`] | the controller's side: what is offered is verified, kept, and vouched for online |
//!
//! `tough` has the schema and the keys. The workflow is ours, after sections 5.3 to
//! 5.6 of the TUF specification 1.0. On top of the specification stand three rules:
//!
//! - **Every document names its repository** in the signed field `x-tamer-repository`. The team's
//!   keys sign many repositories and one online key vouches for all of them, so without it the
//!   documents of one could be served as those of another.
//! - **A repository's newest root must be signed by a threshold of the team's current root keys.**
//!   That is what anchors a repository that a host meets for the first time, and it ends the power
//!   of a team key that was rotated out. When the team's keys change, sign the repositories' new
//!   roots with both sets of keys and publish them before the team's new root.
//! - **Going back needs no freshness**: [`Client::cached`] gives what was last accepted, without
//!   network and without looking at expiry.

pub mod client;
pub mod document;
pub mod draft;
pub mod editor;
pub mod error;
pub mod external;
mod files;
pub mod keys;
pub mod live;
pub mod names;
pub mod paths;
pub mod plain;
pub mod publication;
pub mod roots;
pub mod rotation;
mod sealed;
pub mod signatures;
pub mod signer;
pub mod steps;
pub mod storage;
pub mod targets;
pub mod transport;
pub mod walk;
pub mod workflow;

pub use client::Client;
pub use document::{Refused, Target, Verified};
pub use error::TrustError;
pub use files::PublicationError;
pub use keys::{KeyError, PublicKey, SigningKey};
pub use live::{NewTarget, targets_with};
pub use names::{MetadataFile, RepositoryName};
pub use publication::{PublishedRepository, PublishedTeam};
pub use roots::TeamRoot;
pub use signer::Signer;
pub use storage::TrustStore;
pub use transport::{Transport, TransportError};
pub use workflow::Trusted;
