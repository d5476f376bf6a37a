//! Goes through a release, and judges what its record does not vouch for.

mod reading;

use super::entries::{Cursor, Entries, Known, Stat, Verdict};
use super::judge::{Held, Inside, Listed, Should, judge};
use super::merge::{merged, with_what_was_not_met};
use super::record::Record;
use super::{Depth, Look, LookError, Outcome};
use crate::beneath::{Beneath, split};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::rc::Rc;
use tamer_core::path::{Shown, TreePath, walk_order};
use tamer_core::release::{EntryKind, Manifest};
use tamer_kit::durable::FileError;

/// Of a file that is not what it should be anyway, so many bytes are read to tell one change from another.
const MAX_EVIDENCE: u64 = 16 << 20;

/// How deep the tree is followed: an open directory for each level.
const MAX_DEPTH: usize = 256;

/// Paths from the release's directory on are looked up whole while their directory's is so long at most: the
/// kernel takes 4,096 bytes, and a name has 255.
const MAX_WHOLE: usize = 4096 - 256;

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
    let mut cursor = before.map(|record| record.entries.cursor());
    let met = cursor.as_mut().is_some_and(|it| it.next().is_some());
    let after = match &what.depth {
        // The release's own directory is shown as nothing.
        Depth::Full { after: Some(after) } => Some(
            TreePath::from_shown(after)
                .map(|path| path.as_bytes().to_vec())
                .unwrap_or_default(),
        ),
        _ => None,
    };
    let mut walk = Walk {
        what,
        after,
        before: cursor.filter(|_| met),
        listed: manifest.map(|manifest| Rc::new(Listed::new(Held::Given(manifest), what.manifest))),
        entries: Entries::default(),
        missing: Vec::new(),
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
            Ok(Outcome::Whole(record(walk.finished(before)?, read)))
        }
        Err(Stop::GivenUp) => {
            let seen = walk.entries;
            let after = Shown(seen.last()).to_string();
            let entries = match before {
                Some(before) => with_what_was_not_met(&seen, &before.entries),
                None => seen,
            };
            Ok(Outcome::GivenUp {
                record: record(entries, read_before),
                after,
            })
        }
        Err(Stop::Failed(error)) => Err(error),
    }
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
    /// Up to here the record is believed, where everything else is read.
    after: Option<Vec<u8>>,
    /// What the record knows, at the first path that was not passed.
    before: Option<Cursor<'a>>,
    /// Read when it is needed first.
    listed: Option<Rc<Listed<'a>>>,
    entries: Entries,
    /// What was missing before.
    missing: Vec<(Vec<u8>, Known)>,
    /// Directories into which nobody could look: what should be below them is not called removed.
    unread: Vec<Vec<u8>>,
    /// Whether something that the record knows was not met.
    unaccounted: bool,
    pace: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    buffer: Vec<u8>,
    beneath: Beneath,
}

impl<'a> Walk<'a> {
    fn root(&mut self) -> Result<(), Stop> {
        let fd = self.beneath.dir(b"")?;
        let found = rustix::fs::fstat(&fd).map_err(self.beneath.failed("look at", b""))?;
        match self.entry(b"", Some((&fd, c".")), &found)? && self.knows_more_of(b"") {
            true => self.unchanged(b"", 0),
            false => self.dir(b"", fd, 0),
        }
    }

    /// Everything in a directory in which nothing was added, removed or renamed since it was recorded, as its
    /// change time says: the record has its names, and it need not be opened.
    fn unchanged(&mut self, dir: &[u8], depth: usize) -> Result<(), Stop> {
        while self.knows_more_of(dir)
            && let Some((path, known)) = self.before.as_ref().map(Cursor::here)
        {
            if known.is_removed() {
                self.pass();
                continue;
            }
            let path = path.to_vec();
            if let Some(noted) = self.noted_file() {
                self.step();
                let known = self.recorded(&path, noted)?;
                self.entries.push(&path, &known);
                continue;
            }
            match rustix::fs::statat(self.beneath.root(), &path[..], AtFlags::SYMLINK_NOFOLLOW) {
                // Gone this moment, or something on the way to it is.
                Err(Errno::NOENT | Errno::NOTDIR) => self.pass(),
                found => {
                    let found = found.map_err(self.beneath.failed("look at", &path))?;
                    self.visit(&path, None, &found, depth)?;
                }
            }
        }
        Ok(())
    }

    /// What was noted of the next path while it was unpacked, if it is a file: since then nothing has replaced it,
    /// and whoever has written to it is found by the next look.
    fn noted_file(&self) -> Option<Known> {
        let known = *self.before.as_ref()?.here().1;
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.mode) == FileType::RegularFile;
        let noted = self.what.depth == Depth::Unpacked && known.stat.is_some_and(is_file);
        noted.then_some(known)
    }

    /// Whether the next path that the record knows is below this directory.
    fn knows_more_of(&self, dir: &[u8]) -> bool {
        let next = self.before.as_ref().map(|before| before.here().0);
        let rest = next.and_then(|path| path.strip_prefix(dir));
        rest.is_some_and(|rest| dir.is_empty() || rest.starts_with(b"/"))
    }

    /// Everything in a directory, in order.
    fn dir(&mut self, path: &[u8], fd: OwnedFd, depth: usize) -> Result<(), Stop> {
        let failed = |this: &Self, e| this.beneath.failed("read", path)(e);
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(&fd).map_err(|e| failed(self, e))? {
            let entry = entry.map_err(|e| failed(self, e))?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
        for name in names {
            let path = [path, slash, name.to_bytes()].concat();
            let found = match rustix::fs::statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                // Gone between the listing and now.
                Err(Errno::NOENT) => continue,
                found => found.map_err(self.beneath.failed("look at", &path))?,
            };
            self.visit(&path, Some((&fd, &name)), &found, depth)?;
        }
        Ok(())
    }

    /// A path, and what is below it.
    fn visit(
        &mut self,
        path: &[u8],
        at: Option<(&OwnedFd, &CStr)>,
        found: &rustix::fs::Stat,
        depth: usize,
    ) -> Result<(), Stop> {
        let as_recorded = self.entry(path, at, found)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Ok(());
        }
        // One without anything in it may be one that nobody could look into.
        if as_recorded && self.knows_more_of(path) && path.len() <= MAX_WHOLE {
            return self.unchanged(path, depth + 1);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match at {
            Some((dir, name)) => rustix::fs::openat(dir, name, flags, Mode::empty()),
            None => self.beneath.open_dir(path),
        };
        match opened {
            Ok(below) if depth < MAX_DEPTH => self.dir(path, below, depth + 1)?,
            Ok(_) | Err(Errno::ACCESS) => self.unread.push([path, b"/"].concat()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(self.beneath.failed("open", path)(e).into()),
        }
        Ok(())
    }

    /// What is at a path: as the record says, or judged. `at` is its directory and its name there, where that is
    /// open. Gives whether nothing about the path has changed since it was recorded, where that is believed.
    fn entry(
        &mut self,
        path: &[u8],
        at: Option<(&OwnedFd, &CStr)>,
        found: &rustix::fs::Stat,
    ) -> Result<bool, Stop> {
        if let Depth::Full { .. } = self.what.depth
            && (self.pace)(0).is_break()
        {
            return Err(Stop::GivenUp);
        }
        let stat = Stat::from(found);
        let known = self.known(path);
        let trusted = match &self.what.depth {
            Depth::Unpacked | Depth::Fast => true,
            Depth::Full { .. } => {
                let passed = |after: &Vec<u8>| walk_order(path, after).is_le();
                self.after.as_ref().is_some_and(passed)
            }
        };
        match known.filter(|known| trusted && known.stat == Some(stat)) {
            Some(known) => {
                let known = self.recorded(path, known)?;
                self.entries.push(path, &known);
                Ok(matches!(self.what.depth, Depth::Fast | Depth::Unpacked))
            }
            None => {
                let judged = match at {
                    Some((dir, name)) => self.judged(path, dir, name, stat)?,
                    None => {
                        let (above, name) = split(path);
                        let name = CString::new(name).unwrap_or_default();
                        match self.beneath.open_dir(above) {
                            Ok(dir) => self.judged(path, &dir, &name, stat)?,
                            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                            Err(e) => return Err(self.beneath.failed("open", above)(e).into()),
                        }
                    }
                };
                if let Some(judged) = judged {
                    self.entries.push(path, &judged);
                }
                Ok(false)
            }
        }
    }

    /// What is known of a path that is as the record says. That of the unpacking holds no verdicts: owners and modes
    /// are judged here, by what `stat` said.
    fn recorded(&mut self, path: &[u8], known: Known) -> Result<Known, LookError> {
        let (Depth::Unpacked, Some(stat)) = (&self.what.depth, &known.stat) else {
            return Ok(known);
        };
        let listed = self.listed()?;
        let verdict = judge(
            path,
            listed.should(path),
            listed.capabilities(path),
            stat,
            self.what.owners,
            &Inside::AsListed,
        );
        Ok(Known { verdict, ..known })
    }

    /// What the record knows of a path; paths come in the record's order.
    fn known(&mut self, path: &[u8]) -> Option<Known> {
        loop {
            let (there, known) = self.before.as_ref()?.here();
            let order = walk_order(there, path);
            if order.is_gt() {
                return None;
            }
            let known = *known;
            if order.is_lt() {
                self.pass();
            } else {
                self.step();
                return Some(known);
            }
        }
    }

    /// Passes a path that was not met.
    fn pass(&mut self) {
        if let Some(before) = &self.before {
            let (path, known) = before.here();
            if known.is_removed() {
                self.missing.push((path.to_vec(), *known));
            } else {
                self.unaccounted = true;
            }
        }
        self.step();
    }

    fn step(&mut self) {
        if let Some(before) = &mut self.before
            && before.next().is_none()
        {
            self.before = None;
        }
    }

    fn judged(
        &mut self,
        path: &[u8],
        dir: &OwnedFd,
        name: &CStr,
        mut stat: Stat,
    ) -> Result<Option<Known>, Stop> {
        let listed = self.listed()?;
        let should = listed.should(path);
        let inside = match FileType::from_raw_mode(stat.mode) {
            FileType::Symlink => match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) => Inside::Target(target.into_bytes()),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(e) => return Err(self.beneath.failed("read", path)(e).into()),
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
                    match self.content(path, dir, name, &mut stat)? {
                        Some(inside) => inside,
                        None => return Ok(None),
                    }
                } else {
                    Inside::Unseen
                }
            }
            _ => Inside::Unseen,
        };
        Ok(Some(Known {
            verdict: judge(
                path,
                should,
                listed.capabilities(path),
                &stat,
                self.what.owners,
                &inside,
            ),
            stat: Some(stat).filter(|stat| match self.what.depth {
                Depth::Unpacked => stat.is_fine(),
                _ => stat.vouches(self.what.now),
            }),
        }))
    }

    /// All that was seen, and what is missing.
    fn finished(mut self, before: Option<&Record>) -> Result<Entries, LookError> {
        while self.before.is_some() {
            self.pass();
        }
        let seen = std::mem::take(&mut self.entries);
        let nothing_judged = self.listed.is_none() && !self.unaccounted;
        let mut missing = std::mem::take(&mut self.missing);
        if !nothing_judged || before.is_none_or(Record::is_empty) {
            missing.clear();
            let listed = self.listed()?;
            let mut cursor = seen.cursor();
            let mut there = cursor.next().is_some();
            for path in listed.needed() {
                while there && walk_order(cursor.here().0, path).is_lt() {
                    there = cursor.next().is_some();
                }
                let found = there && cursor.here().0 == path;
                if !found && !self.unread.iter().any(|dir| path.starts_with(dir)) {
                    let known = Known {
                        stat: None,
                        verdict: Some(Verdict::removed()),
                    };
                    missing.push((path.to_vec(), known));
                }
            }
        }
        Ok(merged(seen, missing))
    }
}
