//! One release as bytes: pack, sign, verify, unpack. No network of its own, and no async but in [`trust`].
//!
//! | module | what it holds |
//! |---|---|
//! | [`manifest`] | the manifest as bytes: written deterministically, read and judged strictly |
//! | [`layout`] | the tar stream as a pure function of the manifest: which byte stands where |
//! | [`frames`] | the independent zstd frames: where to cut, and how to open one |
//! | [`delta`] | what is on disk already, and what must be fetched |
//! | [`pack`] | a tree becomes an archive and a manifest, the same ones everywhere |
//! | [`unpack`] | an archive becomes a read-only tree, or nothing at all |
//! | [`patch`] | a manifest as a difference from one that is known |
//! | [`tree`] | removing releases, and what crashes left |
//! | [`verify_tree`], [`put_back`] | what of a release was changed by hand; what was deployed, put back |
//! | [`json`] | JSON that means one thing, for what is signed |
//! | [`trust`] | who says that it is a release |
//! | [`attest`] | what is said about it, signed: evidence and approvals, and what they prove |
//! | [`proofs`] | the evidence of one release, as it is kept and handed out |
//!
//! # Conventions that are fixed
//!
//! The tar stream inside an archive is *exactly* what [`layout`] says for the manifest's entries, byte for
//! byte, and unpacking demands that. So no tar parser stands between what was signed and what is written,
//! each frame can be unpacked for itself and in any order, and an unpacked size cannot be lied about.
//! Whatever changes this needs a name in the manifest's `requires`.

pub mod attest;
mod beneath;
mod capabilities;
pub mod delta;
pub mod frames;
pub mod json;
pub mod layout;
pub mod manifest;
pub mod pack;
pub mod patch;
pub mod proofs;
pub mod put_back;
pub mod tree;
pub mod trust;
pub mod unpack;
pub mod verify_tree;
