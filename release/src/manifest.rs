//! The manifest as bytes: written deterministically, read and judged strictly.
//!
//! The bytes are JSON without white space, keys in the order of the types in `tamer_core::release`, sets and
//! maps sorted. SHA-256 of these bytes is the release's identity, so they are kept as they were signed.

use crate::frames;
use crate::layout::{Layout, Span};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use tamer_core::application::is_inside;
use tamer_core::release::{Entry, EntryKind, FORMAT, Frame, MAX_MANIFEST, Manifest};

/// The features that this code knows: what a manifest may demand in `requires`.
pub const SUPPORTED_FEATURES: &[&str] = &[SCHEMA];

/// The release carries the programs of a database.
pub const SCHEMA: &str = "schema";

/// The most entries that a release may have.
pub const MAX_ENTRIES: usize = 500_000;

/// The longest path of an entry, in bytes: with the install root before it, it must fit `PATH_MAX`.
pub const MAX_PATH: usize = 2048;

/// The longest name in a path, in bytes (`NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// The longest target of a link, in bytes (`PATH_MAX` less its NUL).
pub const MAX_TARGET: usize = 4095;

/// The top-level name that is Tamer's own: `.tamer/manifest.json` lies in every unpacked release.
pub const RESERVED: &str = ".tamer";

/// The name, in [`RESERVED`], of the file in which the agent tells a release where it runs.
pub const ENVIRONMENT: &str = "environment";

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
    #[error("the manifest's entry `{path}` is refused: {reason}")]
    Entry {
        /// The entry's path, as printed by `escape_debug`.
        path: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Its archive's numbers do not fit together.
    #[error("the manifest's archive is refused: {0}")]
    Archive(String),
    /// What it carries of `tamer.toml` is not allowed.
    #[error("the manifest's component is refused: {0}")]
    Spec(String),
}

/// The manifest's bytes: the same value gives the same bytes.
///
/// # Panics
/// Never: the keys of a manifest's maps are names, and JSON can say all else.
pub fn to_bytes(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).expect("a manifest can be said in JSON")
}

/// Reads a manifest and judges it, see [`validate`].
///
/// # Errors
/// [`ManifestError`]. A format or a feature that is not known is named before anything else is looked at.
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
        requires: BTreeSet<String>,
    }
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(ManifestError::TooLarge(bytes.len() as u64));
    }
    let manifest = match serde_json::from_slice(bytes) {
        Ok(manifest) => manifest,
        // A newer packer may have written what this code cannot read: then it said so in front.
        Err(error) => {
            if let Ok(head) = serde_json::from_slice::<Head>(bytes) {
                known(head.format, &head.requires)?;
            }
            return Err(ManifestError::Json(error));
        }
    };
    validate(&manifest)?;
    Ok(manifest)
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

/// Judges a manifest: after this its paths stay inside the release, its numbers fit together, and the layout
/// of its archive is known.
///
/// # Errors
/// [`ManifestError`].
pub fn validate(manifest: &Manifest) -> Result<Layout, ManifestError> {
    let layout = layout(manifest)?;
    judge_archive(manifest, &layout).map_err(ManifestError::Archive)?;
    Ok(layout)
}

/// Judges everything but the archive, which is not made yet when a tree is packed.
pub(crate) fn layout(manifest: &Manifest) -> Result<Layout, ManifestError> {
    known(manifest.format, &manifest.requires)?;
    manifest.spec.validate().map_err(ManifestError::Spec)?;
    if i64::try_from(manifest.mtime).is_err() {
        return Err(ManifestError::Archive("its time is no time".to_owned()));
    }
    if manifest.files.len() > MAX_ENTRIES {
        return Err(ManifestError::TooMany(manifest.files.len()));
    }
    let mut before: Option<&str> = None;
    let mut directories = HashSet::new();
    for entry in &manifest.files {
        judge(entry, before, &directories).map_err(|reason| refused(&entry.path, reason))?;
        if matches!(entry.kind, EntryKind::Directory { .. }) {
            directories.insert(entry.path.as_str());
        }
        before = Some(&entry.path);
    }
    judge_shared(manifest)?;
    Layout::of(&manifest.files)
        .ok_or_else(|| ManifestError::Archive("its sizes do not fit 64 bits".to_owned()))
}

fn refused(path: &str, reason: &'static str) -> ManifestError {
    let path = path.chars().take(200).collect::<String>();
    ManifestError::Entry {
        path: path.escape_debug().to_string(),
        reason,
    }
}

fn judge(
    entry: &Entry,
    before: Option<&str>,
    directories: &HashSet<&str>,
) -> Result<(), &'static str> {
    let path = entry.path.as_str();
    judge_path(path)?;
    match before {
        Some(before) if before == path => return Err("it is listed twice"),
        Some(before) if before > path => return Err("it is not in order"),
        _ => {}
    }
    if let Some((parent, _)) = path.rsplit_once('/')
        && !directories.contains(parent)
    {
        return Err("its parent is not a directory of the release");
    }
    match &entry.kind {
        EntryKind::Directory { mode } | EntryKind::File { mode, .. } => judge_mode(*mode),
        EntryKind::Link { target } => judge_target(path, target),
    }
}

/// Judges a path by itself: relative, plain names, not too long, not Tamer's own.
pub(crate) fn judge_path(path: &str) -> Result<(), &'static str> {
    if !is_inside(path) {
        return Err("it is not a relative path of plain names");
    }
    if path.len() > MAX_PATH || path.split('/').any(|name| name.len() > MAX_NAME) {
        return Err("it is too long");
    }
    if path.split('/').next() == Some(RESERVED) {
        return Err("`.tamer` is Tamer's own");
    }
    Ok(())
}

pub(crate) fn judge_mode(mode: u32) -> Result<(), &'static str> {
    if mode > 0o7777 {
        return Err("its mode has more than permission bits");
    }
    if mode & 0o7000 != 0 {
        return Err("it has a setuid, setgid or sticky bit");
    }
    Ok(())
}

/// Judges where a link points to: relative, inside the tree, and with `..` only in front.
///
/// A `..` in front counts from the link's own directory, which is a real one. After a name it would count
/// from wherever that name leads, if it is a link itself, and could leave the tree although it reads as if
/// it stayed.
pub(crate) fn judge_target(path: &str, target: &str) -> Result<(), &'static str> {
    if target.is_empty() || target.len() > MAX_TARGET || target.contains('\0') {
        return Err("its target is no path");
    }
    if target.starts_with('/') {
        return Err("it points to an absolute path");
    }
    let mut depth = path.matches('/').count();
    let mut names = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if names => return Err("its target has `..` after a name"),
            ".." => depth = depth.checked_sub(1).ok_or("it points out of the release")?,
            _ => names = true,
        }
    }
    Ok(())
}

/// What is shared must not be in the release too: one of the two would be hidden.
fn judge_shared(manifest: &Manifest) -> Result<(), ManifestError> {
    if manifest.spec.shared.is_empty() {
        return Ok(());
    }
    let kinds: BTreeMap<&str, &EntryKind> = manifest
        .files
        .iter()
        .map(|entry| (entry.path.as_str(), &entry.kind))
        .collect();
    for shared in &manifest.spec.shared {
        let path = shared.trim_end_matches('/');
        judge_path(path).map_err(|reason| refused(path, reason))?;
        if kinds.contains_key(path) {
            return Err(refused(path, "it is in the release and in `shared`"));
        }
        for (end, _) in path.match_indices('/') {
            if !matches!(
                kinds.get(&path[..end]),
                None | Some(EntryKind::Directory { .. })
            ) {
                return Err(refused(&path[..end], "`shared` needs it to be a directory"));
            }
        }
    }
    Ok(())
}

fn judge_archive(manifest: &Manifest, layout: &Layout) -> Result<(), String> {
    let (archive, total) = (&manifest.archive, layout.total);
    if archive.unpacked != total {
        return Err(format!(
            "it unpacks to {} bytes, and its entries need {total}",
            archive.unpacked
        ));
    }
    let (mut length, mut unpacked) = (0_u64, 0_u64);
    // The frames are in order, and so are the entries: each is looked at with its neighbours alone.
    let mut entry = 0;
    for (n, frame) in archive.frames.iter().enumerate() {
        judge_frame(frame).map_err(|reason| format!("frame {n} {reason}"))?;
        let part = unpacked..unpacked.saturating_add(frame.unpacked);
        judge_cuts(frame, &part, layout, &mut entry)
            .map_err(|reason| format!("frame {n} {reason}"))?;
        length = length.saturating_add(frame.length);
        unpacked = part.end;
    }
    if length != archive.length || unpacked != total {
        return Err(format!(
            "its frames have {length} bytes and unpack to {unpacked}, it has {} and unpacks to {total}",
            archive.length
        ));
    }
    Ok(())
}

/// A file's content is whole in one frame, or in frames that hold nothing else. `entry` is the first entry
/// that ends behind the frame's start, and is moved on.
fn judge_cuts(
    frame: &Frame,
    part: &Range<u64>,
    layout: &Layout,
    entry: &mut usize,
) -> Result<(), &'static str> {
    let spans = &layout.spans;
    while spans.get(*entry).is_some_and(|span| span.end <= part.start) {
        *entry += 1;
    }
    let first = spans.get(*entry).map(Span::content);
    if frame.content.is_some() {
        let alone = first.is_some_and(|it| it.start <= part.start && part.end <= it.end);
        return if alone {
            Ok(())
        } else {
            Err("is said to hold a piece of one file, and holds more")
        };
    }
    // Only the first and the last entry that a frame touches can be cut by it.
    let last = spans[*entry..].partition_point(|span| span.start < part.end) + *entry;
    let last = last
        .checked_sub(1)
        .and_then(|n| spans.get(n))
        .map(Span::content);
    for content in [first, last].into_iter().flatten() {
        let outside = content.end <= part.start || part.end <= content.start;
        let inside = part.start <= content.start && content.end <= part.end;
        if !outside && !inside {
            return Err("cuts a file, and holds something else too");
        }
    }
    Ok(())
}

fn judge_frame(frame: &Frame) -> Result<(), &'static str> {
    if frame.length == 0 || frame.unpacked == 0 {
        return Err("is empty");
    }
    if frame.unpacked > frames::MAX_UNPACKED {
        return Err("is too large when unpacked");
    }
    // zstd's own bound for data that cannot be compressed (ZSTD_COMPRESSBOUND), rounded up.
    if frame.length > frame.unpacked + (frame.unpacked >> 8) + 1024 {
        return Err("is larger than what it holds");
    }
    Ok(())
}
