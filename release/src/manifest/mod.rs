//! The manifest as bytes: written deterministically, read and judged strictly.
//!
//! The bytes are JSON without white space, keys in the order of the types in `tamer_core::release`, sets and
//! maps sorted. SHA-256 of these bytes is the release's identity. A manifest has no other spelling: one that was
//! read is written as the same bytes again, so that nobody needs to keep its text, which is much longer than
//! what it says.

mod judge;
mod stream;

pub use judge::validate;
pub(crate) use judge::{judge_own, layout};
pub use stream::{About, Visit, about, read, visit};

use serde::Deserialize;
use std::collections::BTreeSet;
use std::io;
use tamer_core::digest::Digest;
use tamer_core::path::BadPath;
use tamer_core::release::{EntryKind, FORMAT, MAX_MANIFEST, Manifest};
use tamer_kit::hash::{HashingWriter, sha256};

/// The features that this code knows: what a manifest may demand in `requires`.
pub const SUPPORTED_FEATURES: &[&str] = &[CAPABILITIES, SCHEMA];

/// Files of the release have capabilities.
pub const CAPABILITIES: &str = "capabilities";

/// The release carries the programs of a database.
pub const SCHEMA: &str = "schema";

/// The most entries that a release may have.
pub const MAX_ENTRIES: usize = 500_000;

/// The top-level name that is Tamer's own: `.tamer/manifest.json` lies in every unpacked release.
pub const RESERVED: &str = ".tamer";

/// The name, in [`RESERVED`], of the file in which the agent tells a release where it runs.
pub const ENVIRONMENT: &str = "environment";

/// The permission bits that an entry has on disk: nobody writes to a release. A directory can be gone through
/// by whoever may read it.
pub fn mode_on_disk(kind: &EntryKind) -> u32 {
    match kind {
        EntryKind::Directory { mode } => 0o550 | (mode & 0o005),
        EntryKind::File { mode, .. } => mode & 0o555,
        EntryKind::Link { .. } => 0o777,
    }
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It has too many bytes.
    #[error("the manifest has {0} bytes; {max} is the most", max = MAX_MANIFEST)]
    TooLarge(u64),
    /// It is not the JSON of a manifest.
    #[error("the manifest cannot be read")]
    Json(#[source] serde_json::Error),
    /// It has another format.
    #[error("the manifest has format {0}, and this version of Tamer knows {FORMAT}")]
    Format(u32),
    /// It demands features that this code lacks.
    #[error("the release requires what this version of Tamer lacks: {}", .0.join(", "))]
    Requires(Vec<String>),
    /// It has too many entries.
    #[error("the manifest lists {0} entries; {MAX_ENTRIES} is the most")]
    TooMany(usize),
    /// One of its entries is not allowed.
    #[error("the manifest's entry `{}` is refused: {}", .0.shown, .0.reason)]
    Entry(BadPath),
    /// It says what a manifest may say, and not as a manifest is written.
    #[error("the manifest is not written as Tamer writes it")]
    Spelling,
    /// Its bytes did not come.
    #[error("the manifest did not come")]
    Read(#[source] io::Error),
    /// Its archive's numbers do not fit together.
    #[error("the manifest's archive is refused: {0}")]
    Archive(String),
    /// What it carries of `tamer.toml` is not allowed.
    #[error("the manifest's component is refused: {0}")]
    Spec(String),
}

impl From<BadPath> for ManifestError {
    fn from(bad: BadPath) -> Self {
        Self::Entry(bad)
    }
}

/// The manifest's bytes: the same value gives the same bytes.
///
/// # Panics
/// Never: the keys of a manifest's maps are names, and JSON can say all else.
pub fn to_bytes(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).expect("a manifest can be said in JSON")
}

/// Writes the manifest's bytes, and gives their digest.
///
/// # Errors
/// The writer's.
pub fn write(manifest: &Manifest, to: impl io::Write) -> io::Result<Digest> {
    // Many small pieces are hashed together.
    let mut text = io::BufWriter::with_capacity(64 << 10, HashingWriter::new(to));
    serde_json::to_writer(&mut text, manifest)?;
    let hashed = text.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(hashed.finish().1)
}

/// The digest of the manifest's bytes: the release's identity.
pub fn digest(manifest: &Manifest) -> Digest {
    // Nothing is written, so nothing fails.
    write(manifest, io::sink()).unwrap_or_else(|_| sha256(&[]))
}

/// Reads a manifest and judges it, see [`validate`].
///
/// # Errors
/// [`ManifestError`]. A format or a feature that is not known is named before anything else is looked at.
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    read(|| Ok(bytes)).map(|(manifest, _)| manifest)
}

/// What stands in front of every manifest, of whatever format.
#[derive(Deserialize)]
struct Head {
    format: u32,
    requires: BTreeSet<String>,
}

fn known(format: u32, requires: &BTreeSet<String>) -> Result<(), ManifestError> {
    if format != FORMAT {
        return Err(ManifestError::Format(format));
    }
    let lacking: Vec<String> = requires
        .iter()
        .filter(|feature| !SUPPORTED_FEATURES.contains(&feature.as_str()))
        .take(10)
        .map(|feature| feature.chars().take(80).collect())
        .collect();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(ManifestError::Requires(lacking))
    }
}
