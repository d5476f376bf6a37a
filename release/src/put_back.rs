//! Undoes what was changed by hand in a release, path by path, with what a fresh copy of it has.
//!
//! Directories stay the ones that they are, so that whoever works in one goes on working there. Each path is
//! the old or the right one at every instant, and the release has fewer differences after each: whatever
//! ends this in the middle, doing it again goes on from there. Between two paths it asks whether it is to go on.

use crate::beneath::{Beneath, split};
use rustix::fs::{AtFlags, FileType, Gid, Mode, RawMode, Uid};
use rustix::io::Errno;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use tamer_core::drift::{Change, Drift};
use tamer_core::path::TreePath;
use tamer_kit::durable::FileError;

/// What is put back from where.
#[derive(Debug, Clone, Copy)]
pub struct PutBack<'a> {
    /// The release that was changed.
    pub release: &'a Path,
    /// A fresh copy of it, on the same file system; what is put back is taken out of it.
    pub fresh: &'a Path,
    /// An empty directory on the same file system: what was added goes there.
    pub aside: &'a Path,
}

struct Work {
    release: Beneath,
    fresh: Beneath,
    aside: OwnedFd,
    moved: u64,
}

/// Puts back everything that `drift` names, as long as `go_on`, asked before each path, says so. Gives whether it
/// was asked to end before all of it was done.
///
/// # Errors
/// [`FileError`] of the first path that could not be put back.
pub fn put_back(
    what: PutBack<'_>,
    drift: &Drift,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<ControlFlow<()>, FileError> {
    let aside = Beneath::open(what.aside)?.dir(b"")?;
    let mut work = Work {
        release: Beneath::open(what.release)?,
        fresh: Beneath::open(what.fresh)?,
        aside,
        moved: 0,
    };
    let mut before = None;
    for difference in &drift.differences {
        // A path that differs in several ways is put back once.
        if before == Some(&difference.path) {
            continue;
        }
        before = Some(&difference.path);
        // What was moved and is not synced yet may be moved again: no harm in that.
        if go_on().is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let added = difference.change == Change::Added;
        let path = match difference.path.as_str() {
            "." => None,
            shown => Some(TreePath::from_shown(shown).map_err(|bad| {
                let place = what.release.join(shown);
                FileError::new("put back", &place)(std::io::Error::other(bad))
            })?),
        };
        let bytes = path.as_ref().map_or(&b""[..], TreePath::as_bytes);
        work.path(bytes, added).map_err(|e| {
            let place = path
                .as_ref()
                .map_or(what.release.to_owned(), |path| what.release.join(path));
            FileError::new("put back", &place)(e.into())
        })?;
    }
    rustix::fs::syncfs(work.release.root())
        .map_err(|e| FileError::new("sync the file system of", what.release)(e.into()))?;
    Ok(ControlFlow::Continue(()))
}

impl Work {
    fn path(&mut self, path: &[u8], added: bool) -> Result<(), Errno> {
        if path.is_empty() {
            return close(self.release.root().as_fd(), self.fresh.root().as_fd());
        }
        let (above, name) = split(path);
        // What lay below something that was moved went with it.
        let Some(parent) = open(&self.release, above)? else {
            return Ok(());
        };
        let there = kind(&parent, name)?;
        if added {
            return match there {
                Some(_) => self.set_aside(&parent, name),
                None => Ok(()),
            };
        }
        let Some(from) = open(&self.fresh, above)? else {
            return Ok(());
        };
        match (kind(&from, name)?, there) {
            (None, _) => Ok(()),
            (Some(FileType::Directory), Some(FileType::Directory)) => {
                let Some(dir) = open(&self.release, path)? else {
                    return Ok(());
                };
                match open(&self.fresh, path)? {
                    Some(fresh) => close(dir.as_fd(), fresh.as_fd()),
                    None => Ok(()),
                }
            }
            (Some(fresh), there) => {
                let in_the_way = there.is_some_and(|there| {
                    there == FileType::Directory || fresh == FileType::Directory
                });
                if in_the_way {
                    self.set_aside(&parent, name)?;
                }
                moved(&from, name, &parent, name)
            }
        }
    }

    fn set_aside(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        self.moved += 1;
        moved(parent, name, &self.aside, self.moved.to_string().as_bytes())
    }
}

/// Gives a directory of the release the owner and the mode of the fresh one.
fn close(dir: impl AsFd, fresh: impl AsFd) -> Result<(), Errno> {
    let (about, right) = (rustix::fs::fstat(&dir)?, rustix::fs::fstat(&fresh)?);
    if (about.st_uid, about.st_gid) != (right.st_uid, right.st_gid) {
        let (user, group) = (Uid::from_raw(right.st_uid), Gid::from_raw(right.st_gid));
        rustix::fs::fchown(&dir, Some(user), Some(group))?;
    }
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(right.st_mode & 0o7777))
}

fn open(beneath: &Beneath, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    match beneath.dir(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) => match Errno::from_io_error(&error.source) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            errno => Err(errno.unwrap_or(Errno::IO)),
        },
    }
}

fn kind(dir: &OwnedFd, name: &[u8]) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(about) => Ok(Some(FileType::from_raw_mode(about.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Moves something from one directory to another. Releases are read-only: who is not root opens them up for
/// the moment.
fn moved(from: &OwnedFd, name: &[u8], to: &OwnedFd, new: &[u8]) -> Result<(), Errno> {
    match rustix::fs::renameat(from, name, to, new) {
        Err(Errno::ACCESS | Errno::PERM) => {}
        done => return done,
    }
    // A directory that changes its parent is written to, as well.
    let flags = rustix::fs::OFlags::RDONLY
        | rustix::fs::OFlags::DIRECTORY
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::CLOEXEC;
    let itself = rustix::fs::openat(from, name, flags, Mode::empty()).ok();
    let mut opened: Vec<(&OwnedFd, RawMode)> = Vec::new();
    for dir in [Some(from), Some(to), itself.as_ref()]
        .into_iter()
        .flatten()
    {
        let mode = rustix::fs::fstat(dir)?.st_mode;
        // What is writable stays as it is: it may have a bit that the agent may not set.
        if mode & 0o200 == 0 {
            rustix::fs::fchmod(dir, Mode::from_raw_mode(mode | 0o200))?;
            opened.push((dir, mode));
        }
    }
    let done = rustix::fs::renameat(from, name, to, new);
    for (dir, mode) in opened.into_iter().rev() {
        rustix::fs::fchmod(dir, Mode::from_raw_mode(mode))?;
    }
    done
}

/// Makes an empty directory for a repair below `releases`, whatever a crash left there; the next sweep removes
/// it too.
///
/// # Errors
/// [`FileError`] of the file system.
pub fn room(releases: &Path) -> Result<std::path::PathBuf, FileError> {
    let room = releases.join(crate::tree::temp_name("repair"));
    crate::tree::remove_if_there(&room)?;
    for dir in [room.clone(), room.join("aside")] {
        fs::create_dir(&dir).map_err(FileError::new("create the directory", &dir))?;
    }
    Ok(room)
}

/// Removes what [`room`] made, and all that is left in it.
///
/// # Errors
/// [`FileError`] of the file system.
pub fn clear(room: &Path) -> Result<(), FileError> {
    crate::tree::remove_if_there(room)
}
