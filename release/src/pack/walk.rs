//! What is in a tree, as the entries of a manifest: sorted, modes normalised, digests still to be filled in.

use super::{PackError, PackSpec};
use crate::capabilities;
use crate::manifest::judge_own;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::path::{LinkTarget, TreePath};
use tamer_core::release::{Entry, EntryKind};
use tamer_kit::durable::FileError;

/// The digest of a file that was not read yet.
pub(super) const UNREAD: Digest = Digest::new([0; 32]);

/// All entries of the tree, sorted by path.
pub(super) fn entries(tree: &Path, what: &PackSpec) -> Result<Vec<Entry>, PackError> {
    let mut entries = Vec::new();
    let mut waiting: Vec<(PathBuf, Vec<u8>)> = vec![(tree.to_owned(), Vec::new())];
    while let Some((dir, prefix)) = waiting.pop() {
        for child in fs::read_dir(&dir).map_err(FileError::new("read", &dir))? {
            let child = child.map_err(FileError::new("read", &dir))?;
            let at = child.path();
            let bytes = [&prefix, child.file_name().as_bytes()].concat();
            let path = TreePath::new(&bytes).map_err(|bad| refuse(&at, bad.reason))?;
            judge_own(&bytes).map_err(|reason| refuse(&at, reason))?;
            let meta = child.metadata().map_err(FileError::new("look at", &at))?;
            let kind = kind(&at, &path, &meta)?;
            if matches!(kind, EntryKind::File { .. }) {
                judge_capabilities(&at, &path, what)?;
            }
            if matches!(kind, EntryKind::Directory { .. }) {
                waiting.push((at, [&bytes[..], b"/"].concat()));
            }
            entries.push(Entry { path, kind });
        }
    }
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// The mode `open`, or the same without anything for others where they may not read this.
fn private(mode: u32, open: u32) -> u32 {
    if mode & 0o004 == 0 {
        open & 0o770
    } else {
        open
    }
}

fn refuse(path: &Path, reason: &'static str) -> PackError {
    PackError::Refused {
        path: path.to_owned(),
        reason,
    }
}

/// What a file of the tree has must be listed: a power that comes from nowhere is no part of a release. What is
/// listed need not be there: whoever builds is seldom root.
fn judge_capabilities(at: &Path, path: &TreePath, what: &PackSpec) -> Result<(), PackError> {
    let found = capabilities::at(at).map_err(|e| FileError::new("look at", at)(e.into()))?;
    let Some(found) = found else {
        return Ok(());
    };
    let text = str::from_utf8(path.as_bytes()).ok();
    let listed = text.and_then(|path| what.spec.capabilities.get(path));
    let found = capabilities::decoded(&found);
    if found.is_some() && found.as_ref() == listed {
        return Ok(());
    }
    let remedy = match (found, text) {
        (Some(found), Some(path)) => {
            let names: Vec<String> = found.iter().map(|it| format!("\"{it}\"")).collect();
            format!(
                "write `[component.{}.capabilities]` and below it `\"{path}\" = [{}]`, or remove them with `setcap -r`",
                what.component,
                names.join(", ")
            )
        }
        _ => "releases carry none of this kind: remove them with `setcap -r`".to_owned(),
    };
    Err(PackError::Capabilities {
        path: at.to_owned(),
        remedy,
    })
}

/// `meta` is of the thing itself: `DirEntry::metadata` follows no link.
fn kind(at: &Path, path: &TreePath, meta: &Metadata) -> Result<EntryKind, PackError> {
    let mode = meta.permissions().mode();
    let kind = meta.file_type();
    if kind.is_dir() {
        return Ok(EntryKind::Directory {
            mode: private(mode, 0o755),
        });
    }
    if kind.is_symlink() {
        let target = fs::read_link(at).map_err(FileError::new("read", at))?;
        let target =
            LinkTarget::new(target.as_os_str().as_bytes()).map_err(|bad| refuse(at, bad.reason))?;
        target.judge(path).map_err(|reason| refuse(at, reason))?;
        return Ok(EntryKind::Link { target });
    }
    if kind.is_file() {
        if mode & 0o6000 != 0 {
            return Err(refuse(at, "it has a setuid or setgid bit"));
        }
        return Ok(EntryKind::File {
            mode: private(mode, if mode & 0o111 == 0 { 0o644 } else { 0o755 }),
            size: meta.len(),
            sha256: UNREAD,
        });
    }
    Err(refuse(
        at,
        if kind.is_fifo() {
            "it is a FIFO"
        } else if kind.is_socket() {
            "it is a socket"
        } else {
            "it is a device"
        },
    ))
}
