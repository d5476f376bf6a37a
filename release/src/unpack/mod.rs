//! An archive becomes a read-only tree, whole and durable under its final name, or nothing at all.
//!
//! The manifest decides what is created; the archive's bytes only have to match. A tree is made in
//! `.<name>.tmp` beside its final place, synced, and renamed. In it:
//!
//! - files have the manifest's mode less all write bits, directories 0555; all have the manifest's `mtime`;
//! - `.tamer/manifest.json` holds the manifest, and belongs to whoever unpacked, never to `owner`;
//! - there is nothing else.
//!
//! Memory is bounded by a few frames, each of at most [`frames::MAX_UNPACKED`](crate::frames::MAX_UNPACKED).

mod error;
mod fill;
mod frame;
mod room;

pub use error::UnpackError;

use crate::manifest::{self, RESERVED};
use crate::tree;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tamer_core::release::Manifest;
use tamer_kit::durable::{self, FileError};

/// Where the manifest lies in an unpacked release.
pub const MANIFEST_PATH: &str = ".tamer/manifest.json";

/// Unpacks the archive as the directory `name` in `parent`, owned by `owner` (user and group id; without it,
/// by whoever runs this), and gives its path.
///
/// A leftover of an earlier try that crashed is removed first. One caller at a time may unpack one name.
///
/// # Errors
/// [`UnpackError`]; nothing of the release is then left in `parent`.
pub fn unpack(
    archive: impl Read,
    manifest: &Manifest,
    parent: &Path,
    name: &str,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf, UnpackError> {
    let bytes = manifest::to_bytes(manifest);
    unpack_judged(archive, manifest, &bytes, parent, name, owner)
}

/// Like [`unpack`], for a manifest's bytes as they were signed; exactly these are kept in the release.
///
/// # Errors
/// [`UnpackError`], also if the bytes are no manifest.
pub fn unpack_signed(
    archive: impl Read,
    manifest_bytes: &[u8],
    parent: &Path,
    name: &str,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf, UnpackError> {
    let manifest = manifest::parse(manifest_bytes)?;
    unpack_judged(archive, &manifest, manifest_bytes, parent, name, owner)
}

fn unpack_judged(
    archive: impl Read,
    manifest: &Manifest,
    manifest_bytes: &[u8],
    parent: &Path,
    name: &str,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf, UnpackError> {
    let layout = manifest::validate(manifest)?;
    if !tamer_core::application::is_inside(name) || name.contains('/') || name.starts_with('.') {
        return Err(UnpackError::Name(name.chars().take(255).collect()));
    }
    let target = parent.join(name);
    if fs::symlink_metadata(&target).is_ok() {
        return Err(UnpackError::Exists(target));
    }
    let temp = parent.join(tree::temp_name(name));
    tree::remove_if_there(&temp)?;
    room::judge(parent, manifest, manifest_bytes.len() as u64)?;

    let made = make(&temp, |temp| {
        let job = fill::Job {
            place: temp,
            manifest,
            layout: &layout,
            owner,
        };
        fill::fill(archive, &job, manifest_bytes)
    });
    let mut left = &temp;
    let done = made.and_then(|()| {
        durable::rename(&temp, &target).map_err(|error| {
            // Renamed, but not durably.
            if !temp.exists() {
                left = &target;
            }
            error.into()
        })
    });
    if let Err(error) = done {
        if let Err(error) = tree::remove_if_there(left) {
            tracing::warn!(%error, "a release that was not unpacked could not be removed");
        }
        return Err(error);
    }
    Ok(target)
}

/// Makes the temporary directory, which nobody else can enter before it is whole.
fn make(
    temp: &Path,
    fill: impl FnOnce(&Path) -> Result<(), UnpackError>,
) -> Result<(), UnpackError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(temp)
        .map_err(FileError::new("create the directory", temp))?;
    fill(temp)
}

/// Reads the manifest that an unpacked release carries, byte for byte as it was signed; the caller compares
/// its digest with the one that it trusts.
///
/// # Errors
/// [`FileError`], also if there is none.
pub fn read_manifest(release: &Path) -> Result<Vec<u8>, FileError> {
    let path = release.join(RESERVED).join("manifest.json");
    durable::read_capped(&path, tamer_core::release::MAX_MANIFEST)?
        .ok_or_else(|| FileError::new("open", &path)(std::io::ErrorKind::NotFound.into()))
}
