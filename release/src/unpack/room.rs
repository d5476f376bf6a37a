//! Whether a release fits on its file system, asked before anything is written.

use super::UnpackError;
use std::path::Path;
use tamer_core::release::{EntryKind, Manifest};
use tamer_kit::durable::FileError;

/// Refuses a release that has no room in `parent`. Another writer may still take the room afterwards.
pub(super) fn judge(parent: &Path, manifest: &Manifest) -> Result<(), UnpackError> {
    let stat =
        rustix::fs::statvfs(parent).map_err(|e| FileError::new("look at", parent)(e.into()))?;
    let block = stat.f_frsize.max(1);
    let refuse = |unit, needed, free| UnpackError::Room {
        place: parent.to_owned(),
        unit,
        needed,
        free,
    };
    let needed = bytes(manifest, block);
    let free = stat.f_bavail.saturating_mul(block);
    if needed > free {
        return Err(refuse("bytes", needed, free));
    }
    // The entries, the release itself, `.tamer` and what is in it. Some file systems count no inodes.
    let inodes = manifest.files.len() as u64 + 3;
    if stat.f_files > 0 && inodes > stat.f_favail {
        return Err(refuse("inodes", inodes, stat.f_favail));
    }
    Ok(())
}

/// The room for all contents in whole blocks, without the manifest; never too much, so that nothing is refused
/// that would have fitted.
fn bytes(manifest: &Manifest, block: u64) -> u64 {
    let sizes = manifest.files.iter().map(|entry| match entry.kind {
        EntryKind::File { size, .. } => size,
        EntryKind::Directory { .. } | EntryKind::Link { .. } => 0,
    });
    sizes
        .map(|size| size.checked_next_multiple_of(block).unwrap_or(u64::MAX))
        .fold(0, u64::saturating_add)
}
