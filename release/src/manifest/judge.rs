//! Whether a manifest is sound: its paths stay inside the release and stand in order, its numbers fit together.

use super::{CAPABILITIES, MAX_ENTRIES, ManifestError, RESERVED, known};
use crate::frames;
use crate::layout::{Layout, Span};
use std::cmp::Ordering;
use std::ops::Range;
use tamer_core::path::{BadPath, TreePath};
use tamer_core::release::{Entry, EntryKind, Frame, Manifest};

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
    let mut order = Order::default();
    for entry in &manifest.files {
        judge(entry, &mut order).map_err(|reason| refused(&entry.path, reason))?;
    }
    judge_shared(manifest)?;
    judge_capabilities(manifest)?;
    Layout::of(&manifest.files)
        .ok_or_else(|| ManifestError::Archive("its sizes do not fit 64 bits".to_owned()))
}

fn refused(path: &TreePath, reason: &'static str) -> ManifestError {
    ManifestError::Entry(BadPath::new(path.as_bytes(), reason))
}

/// Whether entries come as a walk meets them.
#[derive(Default)]
struct Order<'a> {
    before: Option<&'a TreePath>,
    /// The directories that what comes next may lie in, each in the one before it.
    open: Vec<&'a TreePath>,
}

impl<'a> Order<'a> {
    fn next(&mut self, entry: &'a Entry) -> Result<(), &'static str> {
        let path = &entry.path;
        match self.before.map(|before| before.cmp(path)) {
            Some(Ordering::Equal) => return Err("it is listed twice"),
            Some(Ordering::Greater) => return Err("it is not in order"),
            _ => {}
        }
        self.before = Some(path);
        if let Some(parent) = path.parent() {
            while self.open.last().is_some_and(|it| it.as_bytes() != parent) {
                self.open.pop();
            }
            if self.open.is_empty() {
                return Err("its parent is not a directory of the release");
            }
        } else {
            self.open.clear();
        }
        if matches!(entry.kind, EntryKind::Directory { .. }) {
            self.open.push(path);
        }
        Ok(())
    }
}

fn judge<'a>(entry: &'a Entry, order: &mut Order<'a>) -> Result<(), &'static str> {
    entry.path.judge().map_err(|bad| bad.reason)?;
    judge_own(entry.path.as_bytes())?;
    order.next(entry)?;
    match &entry.kind {
        EntryKind::Directory { mode } | EntryKind::File { mode, .. } => judge_mode(*mode),
        EntryKind::Link { target } => target.judge(&entry.path),
    }
}

/// `.tamer` lies in every release, and is none of it.
pub(crate) fn judge_own(path: &[u8]) -> Result<(), &'static str> {
    let first = path.split(|byte| *byte == b'/').next();
    if first == Some(RESERVED.as_bytes()) {
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

/// What is shared must not be in the release too: one of the two would be hidden.
fn judge_shared(manifest: &Manifest) -> Result<(), ManifestError> {
    for shared in &manifest.spec.shared {
        let path: TreePath = shared.trim_end_matches('/').parse()?;
        judge_own(path.as_bytes()).map_err(|reason| refused(&path, reason))?;
        if manifest.entry(path.as_bytes()).is_some() {
            return Err(refused(&path, "it is in the release and in `shared`"));
        }
        let bytes = path.as_bytes();
        for end in (0..bytes.len()).filter(|at| bytes[*at] == b'/') {
            let above = TreePath::new(&bytes[..end])?;
            let kind = manifest.entry(above.as_bytes()).map(|entry| &entry.kind);
            if !matches!(kind, None | Some(EntryKind::Directory { .. })) {
                return Err(refused(&above, "`shared` needs it to be a directory"));
            }
        }
    }
    Ok(())
}

/// Capabilities are those of files that are there, and whoever does not know of them must not run the release.
fn judge_capabilities(manifest: &Manifest) -> Result<(), ManifestError> {
    let named = manifest.requires.contains(CAPABILITIES);
    if named == manifest.spec.capabilities.is_empty() {
        let said = "`requires` and `capabilities` do not fit together";
        return Err(ManifestError::Spec(said.to_owned()));
    }
    for path in manifest.spec.capabilities.keys() {
        let path: TreePath = path.parse()?;
        let kind = manifest.entry(path.as_bytes()).map(|entry| &entry.kind);
        if !matches!(kind, Some(EntryKind::File { .. })) {
            return Err(refused(
                &path,
                "it has capabilities, and is no file of the release",
            ));
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
