//! What of an unpacked release was changed by hand: told by content, never by size and time alone.
//!
//! `.tamer` is not looked at. A path that the component shares may be absent, or a link as [`shared_target`]
//! says; the directories on the way to it may be there although the manifest lists none.

use crate::beneath::Beneath;
use crate::manifest::RESERVED;
use rustix::fs::{Dir, FileType};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use tamer_core::digest::Digest;
use tamer_core::release::{EntryKind, Manifest};
use tamer_kit::durable::FileError;
use tamer_kit::hash::Hasher;

/// The most differences that are named; whoever changed more changed everything.
pub const MAX_DIFFERENCES: usize = 1000;

/// One path at which a release on disk is not what was deployed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Relative to the release; what is no UTF-8 in it is replaced.
    pub path: String,
    /// How it differs.
    pub change: Change,
}

/// How a path differs from the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is gone.
    Missing,
    /// It is not in the manifest. Of a whole directory only the directory is named.
    Extra,
    /// It is something else: a directory for a file, a FIFO …
    Kind,
    /// The file's content.
    Content,
    /// Whether the file is executable, or a setuid, setgid or sticky bit.
    Mode,
    /// Where the link points to.
    Target,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Kind => "of another kind",
            Self::Content => "changed",
            Self::Mode => "of another mode",
            Self::Target => "points elsewhere",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.change)
    }
}

/// Compares the release at `release` with its manifest; gives the differences, sorted by path, at most
/// [`MAX_DIFFERENCES`]. Every file is read. The manifest must have been judged.
///
/// # Errors
/// [`FileError`] if the release cannot be read.
pub fn verify(release: &Path, manifest: &Manifest) -> Result<Vec<Difference>, FileError> {
    let mut walk = Walk {
        beneath: Beneath::open(release)?,
        missing: manifest
            .files
            .iter()
            .map(|entry| (entry.path.as_str(), &entry.kind))
            .collect(),
        shared: manifest
            .spec
            .shared
            .iter()
            .map(|path| path.trim_end_matches('/'))
            .collect(),
        differences: Vec::new(),
    };
    walk.dir("")?;
    let missing: Vec<String> = walk.missing.keys().map(|path| (*path).to_owned()).collect();
    for path in missing {
        walk.differs(path, Change::Missing);
    }
    walk.differences.sort();
    Ok(walk.differences)
}

/// What the link at a shared path of a release points to: from the link's directory up to the release, from
/// there over `releases` to the component's root, and down into `shared`.
pub fn shared_target(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let up = "../".repeat(path.split('/').count() + 1);
    format!("{up}shared/{path}")
}

struct Walk<'a> {
    beneath: Beneath,
    /// What the manifest lists and was not met yet.
    missing: BTreeMap<&'a str, &'a EntryKind>,
    shared: BTreeSet<&'a str>,
    differences: Vec<Difference>,
}

impl Walk<'_> {
    fn differs(&mut self, path: String, change: Change) {
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(Difference { path, change });
        }
    }

    /// Compares all that lies in a directory of the release; the empty path is the release.
    fn dir(&mut self, path: &str) -> Result<(), FileError> {
        let failed = |beneath: &Beneath, e| beneath.failed("read", path)(e);
        let fd = self.beneath.dir(path)?;
        let entries = Dir::read_from(&fd).map_err(|e| failed(&self.beneath, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| failed(&self.beneath, e))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || (path.is_empty() && name == RESERVED.as_bytes()) {
                continue;
            }
            let prefix = if path.is_empty() { "" } else { "/" };
            match std::str::from_utf8(name) {
                Ok(name) => self.entry(format!("{path}{prefix}{name}"))?,
                Err(_) => {
                    let name = String::from_utf8_lossy(name);
                    self.differs(format!("{path}{prefix}{name}"), Change::Extra);
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: String) -> Result<(), FileError> {
        let found = match self.beneath.stat(&path) {
            // Gone between the listing and now: it stays among the missing.
            Err(e) if e.is_not_found() => return Ok(()),
            found => found?,
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        let Some(listed) = self.missing.remove(path.as_str()) else {
            return self.unlisted(path, kind);
        };
        match (listed, kind) {
            (EntryKind::Directory { .. }, FileType::Directory) => self.dir(&path)?,
            (EntryKind::Link { target }, FileType::Symlink) => {
                if self.beneath.target(&path)? != target.as_bytes() {
                    self.differs(path, Change::Target);
                }
            }
            (EntryKind::File { mode, size, sha256 }, FileType::RegularFile) => {
                let executable = |mode: u32| mode & 0o111 != 0;
                if executable(found.st_mode) != executable(*mode) || found.st_mode & 0o7000 != 0 {
                    self.differs(path.clone(), Change::Mode);
                }
                let same_size = u64::try_from(found.st_size) == Ok(*size);
                if !same_size || self.digest(&path)? != *sha256 {
                    self.differs(path, Change::Content);
                }
            }
            _ => self.differs(path, Change::Kind),
        }
        Ok(())
    }

    fn unlisted(&mut self, path: String, kind: FileType) -> Result<(), FileError> {
        if self.shared.contains(path.as_str()) {
            if kind != FileType::Symlink {
                self.differs(path, Change::Kind);
                return Ok(());
            }
            if self.beneath.target(&path)? != shared_target(&path).as_bytes() {
                self.differs(path, Change::Target);
            }
            return Ok(());
        }
        let prefix = format!("{path}/");
        let leads_to_shared = self
            .shared
            .range(prefix.as_str()..)
            .next()
            .is_some_and(|shared| shared.starts_with(&prefix));
        if leads_to_shared && kind == FileType::Directory {
            return self.dir(&path);
        }
        self.differs(path, Change::Extra);
        Ok(())
    }

    fn digest(&self, path: &str) -> Result<Digest, FileError> {
        let mut file = self.beneath.file(path, false)?;
        let mut hasher = Hasher::default();
        let mut buffer = [0; 64 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let errno = rustix::io::Errno::from_io_error(&e);
                    return Err(self.beneath.failed("read", path)(
                        errno.unwrap_or(rustix::io::Errno::IO),
                    ));
                }
            }
        }
    }
}
