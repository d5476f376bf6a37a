//! Frames of an archive, and files of older releases, become a read-only tree, whole and durable under its final
//! name, or nothing at all.
//!
//! The manifest decides what is created, a [`Delta`] from what; the bytes only have to match. A tree is made in
//! `.<name>.tmp` beside its final place, synced, and renamed. In it:
//!
//! - files have the manifest's mode less all write bits, directories 0555 or 0550; all have the manifest's `mtime`;
//! - `.tamer/manifest.json` holds the manifest, and belongs to whoever unpacked, never to `owner`;
//! - there is nothing else.
//!
//! Memory is bounded by a few frames, each of at most [`frames::MAX_UNPACKED`](crate::frames::MAX_UNPACKED).

mod arrivals;
mod error;
mod fill;
mod frame;
mod room;
mod work;

pub use arrivals::Arrivals;
pub use error::UnpackError;

use crate::delta::Delta;
use crate::layout::Layout;
use crate::manifest;
use crate::tree;
use crate::verify_tree::Record;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::release::Manifest;
use tamer_kit::durable::{self, FileError};

/// Where the manifest lies in an unpacked release.
pub const MANIFEST_PATH: &str = ".tamer/manifest.json";

/// What a release is made from.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// Its manifest, which was judged.
    pub manifest: &'a Manifest,
    /// The digest that was signed: the manifest that is kept in the release has it.
    pub digest: &'a Digest,
    /// The layout of its archive.
    pub layout: &'a Layout,
    /// How it is made.
    pub delta: &'a Delta,
    /// The directories of the older releases that `delta` was planned with, in that order.
    pub older: &'a [PathBuf],
    /// Holds the frames of `delta`, each where it stands in the archive. What else is in it is not read.
    pub archive: &'a File,
    /// Which of these frames are still on their way into it.
    pub arrivals: &'a Arrivals,
}

/// Unpacks the whole archive as the directory `name` in `parent`, owned by `owner`; see [`make`].
///
/// # Errors
/// [`UnpackError`]; nothing of the release is then left in `parent`.
pub fn unpack(
    archive: &File,
    manifest: &Manifest,
    parent: &Path,
    name: &str,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf, UnpackError> {
    let layout = manifest::validate(manifest)?;
    let material = Material {
        manifest,
        digest: &manifest::digest(manifest),
        layout: &layout,
        delta: &Delta::whole(manifest, &layout),
        older: &[],
        archive,
        arrivals: &Arrivals::default(),
    };
    make(&material, parent, name, owner)
}

/// Makes the directory `name` in `parent`, owned by `owner` (user and group id; without it, by whoever runs
/// this), from older releases and frames as the delta says, and gives its path.
///
/// Frames may still be coming: directories are made meanwhile, and what a frame gives as soon as it is there. A
/// leftover of an earlier try that crashed is removed first. One caller at a time may make one name.
///
/// # Errors
/// [`UnpackError`]; nothing of the release is then left in `parent`. After [`UnpackError::Spoilt`] it is tried
/// again when [`Delta::instead`] was asked and the frames that it gave are there.
pub fn make(
    from: &Material<'_>,
    parent: &Path,
    name: &str,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf, UnpackError> {
    make_and_record(from, parent, name, owner).map(|(path, _)| path)
}

/// The same, and gives also what `stat` said of what is in the release: for a look of the depth
/// [`Unpacked`](crate::verify_tree::Depth::Unpacked).
///
/// # Errors
/// As [`make`].
pub fn make_and_record(
    from: &Material<'_>,
    parent: &Path,
    name: &str,
    owner: Option<(u32, u32)>,
) -> Result<(PathBuf, Record), UnpackError> {
    if !tamer_core::application::is_inside(name) || name.contains('/') || name.starts_with('.') {
        return Err(UnpackError::Name(name.chars().take(255).collect()));
    }
    let target = parent.join(name);
    if fs::symlink_metadata(&target).is_ok() {
        return Err(UnpackError::Exists(target));
    }
    let temp = parent.join(tree::temp_name(name));
    tree::remove_if_there(&temp)?;
    room::judge(parent, from.manifest)?;

    let made = make_dir(&temp).and_then(|()| {
        let job = fill::Job {
            place: &temp,
            manifest: from.manifest,
            digest: from.digest,
            layout: from.layout,
            delta: from.delta,
            older: from.older,
            archive: from.archive,
            arrivals: from.arrivals,
            owner,
        };
        fill::fill(&job)
    });
    let mut left = &temp;
    let done = made.and_then(|record| {
        durable::rename(&temp, &target).inspect_err(|_| {
            // Renamed, but not durably.
            if !temp.exists() {
                left = &target;
            }
        })?;
        Ok(record)
    });
    match done {
        Ok(record) => Ok((target, record)),
        Err(error) => {
            if let Err(error) = tree::remove_if_there(left) {
                tracing::warn!(%error, "a release that was not unpacked could not be removed");
            }
            Err(error)
        }
    }
}

/// Makes the temporary directory, which nobody else can enter before it is whole.
fn make_dir(temp: &Path) -> Result<(), UnpackError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(temp)
        .map_err(FileError::new("create the directory", temp))?;
    Ok(())
}

/// Opens the manifest that an unpacked release carries; the caller compares its digest with the one that it
/// trusts.
///
/// # Errors
/// [`FileError`], also if there is none.
pub fn open_manifest(release: &Path) -> Result<File, FileError> {
    let path = release.join(MANIFEST_PATH);
    File::open(&path).map_err(FileError::new("open", &path))
}
