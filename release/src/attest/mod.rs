//! Evidence: signed statements about a release, and what they prove.
//!
//! A statement ([`statement`]: in-toto Statement v1) is the payload of an envelope ([`dsse`]), which travels as a
//! Sigstore bundle v0.3 with a public-key hint ([`bundle`]), so that tools of others read it too. [`judge()`] is
//! pure: what an environment demands, the digest of a manifest, bundles and the time give what is proven by
//! whom, and what is lacking and why. [`approval`] judges approvals of a deployment the same way, and
//! [`approved`] finds the deployment of a release that most people approved.
//!
//! | a statement of | is about | predicate |
//! |---|---|---|
//! | build | manifests | SLSA provenance v1 |
//! | lint, test, unit, functional, acceptance | manifests | in-toto test-result v0.1 |
//! | review | the commit that the build names | [`statement::REVIEW`] |
//! | approval | manifests, and the plan that brings them somewhere, whole | [`statement::APPROVAL`] |
//!
//! Nothing here believes what it reads before the signature of a listed key was verified over the very bytes
//! that are then read, and one bad bundle never stands in the way of good ones.

pub mod approval;
pub mod approved;
pub mod bundle;
pub mod dsse;
pub mod judge;
mod reading;
mod said;
pub mod statement;

pub use bundle::{MAX_BUNDLE, SealError, seal};
pub use judge::{Judged, Proof, Refusal, SetAside, judge};
pub use statement::{BadStatement, Claim, CommitId, Statement, Subject};

use tamer_core::digest::Digest;
use tamer_core::evidence::VerifyingKey;

/// The most bundles that are looked at for one release: those beyond are set aside.
pub const MAX_BUNDLES: usize = 256;

/// The name of a public key in bundles: SHA-256 of its SubjectPublicKeyInfo.
pub fn key_hint(key: &VerifyingKey) -> Digest {
    tamer_kit::hash::sha256(&key.der())
}
