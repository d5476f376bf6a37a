//! Goes through a release, and judges what its record does not vouch for.

use super::judge::{Inside, Listed, Should, judge};
use super::record::{self, Changes, Entry, Record, Stat, Verdict, walk_order};
use super::{Depth, Look, LookError, Outcome};
use crate::beneath::Beneath;
use crate::unpack::{self, MANIFEST_PATH};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::ops::ControlFlow;
use std::rc::Rc;
use tamer_core::drift::Change;
use tamer_core::release::{EntryKind, Manifest};
use tamer_kit::durable::FileError;
use tamer_kit::hash::{Hasher, sha256};

/// Of a file that is not what it should be anyway, so many bytes are read to tell one change from another.
const MAX_EVIDENCE: u64 = 16 << 20;

/// How deep the tree is followed: an open directory for each level.
const MAX_DEPTH: usize = 256;

/// How much is read at once.
const CHUNK: usize = 128 << 10;

/// Looks at a release; `manifest` is given where the caller has it, and else read from the release.
pub(super) fn look(
    what: &Look<'_>,
    before: Option<&Record>,
    manifest: Option<&Manifest>,
    pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Outcome, LookError> {
    let beneath = Beneath::open(what.release)?;
    let before = before.filter(|record| record.manifest == what.manifest);
    let mut walk = Walk {
        what,
        before: before.map_or(&[], |record| &record.entries),
        at: 0,
        listed: manifest.map(|manifest| Rc::new(Listed::new(manifest, what.manifest))),
        entries: Vec::new(),
        unread: Vec::new(),
        unaccounted: false,
        pace,
        buffer: Vec::new(),
        beneath,
    };
    let record = |entries, read| Record {
        manifest: what.manifest,
        read,
        entries,
    };
    let read_before = before.and_then(|record| record.read);
    match walk.root() {
        Ok(()) => {
            let read = match (&what.depth, before) {
                (Depth::Fast, Some(_)) => read_before,
                _ => Some(what.now),
            };
            Ok(Outcome::Whole(record(walk.finished()?, read)))
        }
        Err(Stop::GivenUp) => {
            let seen = walk.entries;
            let after = seen.last().map_or("", |entry| &entry.path).to_owned();
            Ok(Outcome::GivenUp {
                record: record(with_what_was_not_met(seen, walk.before), read_before),
                after,
            })
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// What was seen, and all else that the record knows, in order. What it knows and nobody met is kept as it is:
/// it may be known to be missing, and if not, the next look misses it.
fn with_what_was_not_met(seen: Vec<Entry>, before: &[Entry]) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(seen.len().max(before.len()));
    let mut before = before.iter().peekable();
    for entry in seen {
        while let Some(older) = before.next_if(|it| walk_order(&it.path, &entry.path).is_lt()) {
            entries.push(older.clone());
        }
        before.next_if(|it| it.path == entry.path);
        entries.push(entry);
    }
    entries.extend(before.cloned());
    entries
}

/// Why a walk ends early.
enum Stop {
    GivenUp,
    Failed(LookError),
}

impl From<LookError> for Stop {
    fn from(error: LookError) -> Self {
        Self::Failed(error)
    }
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Self {
        Self::Failed(error.into())
    }
}

struct Walk<'a> {
    what: &'a Look<'a>,
    /// What the record knows, and how much of that was passed.
    before: &'a [Entry],
    at: usize,
    /// Read when it is needed first.
    listed: Option<Rc<Listed>>,
    entries: Vec<Entry>,
    /// Directories into which nobody could look: what should be below them is not called removed.
    unread: Vec<String>,
    /// Whether something that the record knows was not met.
    unaccounted: bool,
    pace: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    buffer: Vec<u8>,
    beneath: Beneath,
}

impl<'a> Walk<'a> {
    fn root(&mut self) -> Result<(), Stop> {
        let fd = self.beneath.dir("")?;
        let found = rustix::fs::fstat(&fd).map_err(self.beneath.failed("look at", ""))?;
        self.entry(String::new(), &fd, c".", &found)?;
        self.dir("", fd, 0)
    }

    /// Everything in a directory, in order.
    fn dir(&mut self, path: &str, fd: OwnedFd, depth: usize) -> Result<(), Stop> {
        let failed = |this: &Self, e| this.beneath.failed("read", path)(e);
        let mut names: BTreeMap<String, CString> = BTreeMap::new();
        for entry in Dir::read_from(&fd).map_err(|e| failed(self, e))? {
            let entry = entry.map_err(|e| failed(self, e))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let mut shown = shown(name.to_bytes());
            while names.contains_key(&shown) {
                shown.push('~');
            }
            names.insert(shown, name.to_owned());
        }
        let slash = if path.is_empty() { "" } else { "/" };
        for (shown, name) in names {
            let path = format!("{path}{slash}{shown}");
            let found = match rustix::fs::statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                // Gone between the listing and now.
                Err(Errno::NOENT) => continue,
                found => found.map_err(self.beneath.failed("look at", &path))?,
            };
            let kind = FileType::from_raw_mode(found.st_mode);
            self.entry(path.clone(), &fd, &name, &found)?;
            if kind != FileType::Directory {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&fd, &name, flags, Mode::empty()) {
                Ok(below) if depth < MAX_DEPTH => self.dir(&path, below, depth + 1)?,
                Ok(_) | Err(Errno::ACCESS) => self.unread.push(format!("{path}/")),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(self.beneath.failed("open", &path)(e).into()),
            }
        }
        Ok(())
    }

    /// What is at a path: as the record says, or judged.
    fn entry(
        &mut self,
        path: String,
        dir: &OwnedFd,
        name: &std::ffi::CStr,
        found: &rustix::fs::Stat,
    ) -> Result<(), Stop> {
        if let Depth::Full { .. } = self.what.depth
            && (self.pace)(0).is_break()
        {
            return Err(Stop::GivenUp);
        }
        let stat = Stat::from(found);
        let known = self.known(&path);
        let trusted = match &self.what.depth {
            Depth::Unpacked => false,
            Depth::Fast => true,
            Depth::Full { after } => after
                .as_ref()
                .is_some_and(|after| walk_order(&path, after).is_le()),
        };
        match known.filter(|known| trusted && known.stat == Some(stat)) {
            Some(known) => self.entries.push(known.clone()),
            None => {
                let judged = self.judged(path, dir, name, stat)?;
                self.entries.extend(judged);
            }
        }
        Ok(())
    }

    /// What the record knows of a path; paths come in the record's order.
    fn known(&mut self, path: &str) -> Option<&'a Entry> {
        while let Some(entry) = self.before.get(self.at) {
            match walk_order(&entry.path, path) {
                std::cmp::Ordering::Less => {
                    self.unaccounted |= !is_removed(entry);
                    self.at += 1;
                }
                std::cmp::Ordering::Equal => {
                    self.at += 1;
                    return Some(entry);
                }
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    fn judged(
        &mut self,
        path: String,
        dir: &OwnedFd,
        name: &std::ffi::CStr,
        mut stat: Stat,
    ) -> Result<Option<Entry>, Stop> {
        let listed = self.listed()?;
        let should = listed.should(&path);
        let inside = match FileType::from_raw_mode(stat.mode) {
            FileType::Symlink => match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) => Inside::Target(target.into_bytes()),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(e) => return Err(self.beneath.failed("read", &path)(e).into()),
            },
            FileType::RegularFile => {
                let right_size = match should {
                    Should::Entry(EntryKind::File { size, .. }) => *size == stat.size,
                    Should::Manifest(_) => true,
                    _ => false,
                };
                if should == Should::Own {
                    Inside::Unseen
                } else if right_size && self.what.depth == Depth::Unpacked {
                    Inside::AsListed
                } else if right_size || stat.size <= MAX_EVIDENCE {
                    match self.content(&path, dir, name, &mut stat)? {
                        Some(inside) => inside,
                        None => return Ok(None),
                    }
                } else {
                    Inside::Unseen
                }
            }
            _ => Inside::Unseen,
        };
        let verdict = judge(&path, should, &stat, self.what.owners, &inside);
        Ok(Some(Entry {
            stat: Some(stat).filter(|stat| stat.vouches(self.what.now)),
            path,
            verdict,
        }))
    }

    /// Reads a file; `None`: it is not there any more. `stat` becomes what it is of the file that was read.
    fn content(
        &mut self,
        path: &str,
        dir: &OwnedFd,
        name: &std::ffi::CStr,
        stat: &mut Stat,
    ) -> Result<Option<Inside>, Stop> {
        // A FIFO put there this moment must not make anyone wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(Errno::ACCESS | Errno::PERM) => return Ok(Some(Inside::Unseen)),
            Err(e) => return Err(self.beneath.failed("open", path)(e).into()),
        };
        let found = rustix::fs::fstat(&file).map_err(self.beneath.failed("look at", path))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        *stat = Stat::from(&found);
        let mut hasher = Hasher::default();
        self.buffer.resize(CHUNK, 0);
        let mut left = stat.size;
        loop {
            // What meets the end of the file reads nothing.
            if left > 0 && (self.pace)(left.min(CHUNK as u64)).is_break() {
                return Err(Stop::GivenUp);
            }
            match rustix::io::read(file.as_fd(), &mut self.buffer[..]) {
                Ok(0) => return Ok(Some(Inside::Content(hasher.finish()))),
                Ok(n) => {
                    hasher.update(&self.buffer[..n]);
                    left = left.saturating_sub(n as u64);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.beneath.failed("read", path)(e).into()),
            }
        }
    }

    fn listed(&mut self) -> Result<Rc<Listed>, LookError> {
        if let Some(listed) = &self.listed {
            return Ok(Rc::clone(listed));
        }
        let digest = self.what.manifest;
        let strange = |found| {
            let differing = [(MANIFEST_PATH, Verdict::of_manifest(found))];
            let drift = record::drift(&digest, differing.into_iter(), 1);
            drift.map(|drift| LookError::Manifest {
                drift: Box::new(drift),
            })
        };
        let bytes = match unpack::read_manifest(self.what.release) {
            Err(e) if e.is_not_found() => return strange(None).map_or(Err(e.into()), Err),
            bytes => bytes?,
        };
        let found = sha256(&bytes);
        if found != digest
            && let Some(error) = strange(Some(found))
        {
            return Err(error);
        }
        let manifest = crate::manifest::parse(&bytes)?;
        let listed = Rc::new(Listed::new(&manifest, digest));
        self.listed = Some(Rc::clone(&listed));
        Ok(listed)
    }

    /// All that was seen, and what is missing.
    fn finished(mut self) -> Result<Vec<Entry>, LookError> {
        let rest = &self.before[self.at..];
        self.unaccounted |= rest.iter().any(|entry| !is_removed(entry));
        if self.listed.is_none() && !self.unaccounted && !self.before.is_empty() {
            // Nothing had to be judged: what was missing is missing still.
            let missing = self.before.iter().filter(|entry| is_removed(entry));
            self.entries.extend(missing.cloned());
        } else {
            let listed = self.listed()?;
            let mut needed: Vec<&str> = listed.needed().collect();
            needed.sort_unstable_by(|a, b| walk_order(a, b));
            let mut seen = self
                .entries
                .iter()
                .map(|entry| entry.path.as_str())
                .peekable();
            let mut missing = Vec::new();
            for path in needed {
                while seen
                    .next_if(|seen| walk_order(seen, path).is_lt())
                    .is_some()
                {}
                let unread = self.unread.iter().any(|dir| path.starts_with(dir));
                if seen.peek() != Some(&path) && !unread {
                    missing.push(Entry {
                        path: path.to_owned(),
                        stat: None,
                        verdict: Some(Verdict::removed()),
                    });
                }
            }
            self.entries.extend(missing);
        }
        self.entries.sort_by(|a, b| walk_order(&a.path, &b.path));
        Ok(self.entries)
    }
}

/// Whether nothing was there.
fn is_removed(entry: &Entry) -> bool {
    let removed = |changes: Changes| changes.has(Change::Removed);
    entry
        .verdict
        .is_some_and(|verdict| removed(verdict.changes))
}

/// A name as people and records see it: bytes that are no UTF-8 are escaped.
fn shown(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        shown.push_str(chunk.valid());
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}
