//! A directory below which everything is opened, and nothing through a symbolic link.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tamer_kit::durable::FileError;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// The most directories that are held open at once.
const MOST_OPEN: usize = 64;

/// An open directory; paths are relative to it, and come from a manifest that was judged.
pub(crate) struct Beneath {
    root: OwnedFd,
    /// For messages.
    place: PathBuf,
    /// The kernel (before 5.6) or its guard knows no `openat2`: names are followed one by one.
    by_name: AtomicBool,
}

impl Beneath {
    /// Opens the directory at `place`, which is no link itself.
    pub(crate) fn open(place: &Path) -> Result<Self, FileError> {
        let flags = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(place, flags, Mode::empty())
            .map_err(|e| FileError::new("open", place)(e.into()))?;
        Ok(Self {
            root,
            place: place.to_owned(),
            by_name: AtomicBool::new(false),
        })
    }

    /// Names the operation and the whole path.
    pub(crate) fn failed(
        &self,
        operation: &'static str,
        path: &[u8],
    ) -> impl FnOnce(Errno) -> FileError {
        let path = self.place.join(OsStr::from_bytes(path));
        move |e| FileError::new(operation, &path)(e.into())
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// A new file, not there before, open for reading and writing.
    pub(crate) fn create(&self, path: &[u8], mode: u32) -> Result<File, FileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.at(path, flags, Mode::from_raw_mode(mode))
            .map(File::from)
            .map_err(self.failed("create", path))
    }

    /// An existing file, open for reading, or for writing too.
    pub(crate) fn file(&self, path: &[u8], write: bool) -> Result<File, FileError> {
        let flags = if write { OFlags::RDWR } else { OFlags::RDONLY };
        // A FIFO put there by hand must not make anyone wait.
        self.at(path, flags | OFlags::NONBLOCK, Mode::empty())
            .map(File::from)
            .map_err(self.failed("open", path))
    }

    /// An existing directory; the empty path is the root.
    pub(crate) fn dir(&self, path: &[u8]) -> Result<OwnedFd, FileError> {
        self.open_dir(path).map_err(self.failed("open", path))
    }

    /// A new directory.
    pub(crate) fn create_dir(&self, path: &[u8], mode: u32) -> Result<(), FileError> {
        let (parent, name) = split(path);
        self.open_dir(parent)
            .and_then(|dir| rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)))
            .map_err(self.failed("create the directory", path))
    }

    /// New directories, each after the one that it is in. Those on the way to the last one stay open, so that no
    /// path is followed from the top again.
    pub(crate) fn create_dirs<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a [u8]>,
        mode: u32,
    ) -> Result<(), FileError> {
        let mut way: Vec<(&[u8], OwnedFd)> = Vec::new();
        for path in paths {
            let (parent, name) = split(path);
            let create = |way: &mut Vec<(&'a [u8], OwnedFd)>| {
                while way.last().is_some_and(|(open, _)| !is_below(parent, open)) {
                    way.pop();
                }
                if way.last().is_none_or(|(open, _)| *open != parent) {
                    let dir = match way.last() {
                        // The last one that was created, mostly: one name, which is no link.
                        Some((open, dir)) if split(parent).0 == *open => {
                            let flags = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                            rustix::fs::openat(dir, split(parent).1, flags, Mode::empty())?
                        }
                        _ => self.open_dir(parent)?,
                    };
                    if way.len() == MOST_OPEN {
                        way.clear();
                    }
                    way.push((parent, dir));
                }
                let dir = way.last().map_or(self.root.as_fd(), |(_, dir)| dir.as_fd());
                rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))
            };
            create(&mut way).map_err(self.failed("create the directory", path))?;
        }
        Ok(())
    }

    /// A new symbolic link.
    pub(crate) fn link(&self, path: &[u8], target: &[u8]) -> Result<(), FileError> {
        let (parent, name) = split(path);
        self.open_dir(parent)
            .and_then(|dir| rustix::fs::symlinkat(target, dir, name))
            .map_err(self.failed("link", path))
    }

    /// The same, for who knows what to make of an error.
    pub(crate) fn open_dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        self.at(path, DIRECTORY, Mode::empty())
    }

    fn at(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if !self.by_name.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&self.root, path, flags, mode, resolve) {
                // EPERM is what some containers' guards answer to what they do not know.
                Err(Errno::NOSYS | Errno::PERM) => self.by_name.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        let (parents, name) = split(path);
        let mut dir: Option<OwnedFd> = None;
        for parent in parents
            .split(|byte| *byte == b'/')
            .filter(|parent| !parent.is_empty())
        {
            let from = dir.as_ref().unwrap_or(&self.root).as_fd();
            let flags = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dir = Some(rustix::fs::openat(from, parent, flags, Mode::empty())?);
        }
        rustix::fs::openat(dir.as_ref().unwrap_or(&self.root), name, flags, mode)
    }
}

/// Whether a path is this directory, or in it at any depth.
fn is_below(path: &[u8], dir: &[u8]) -> bool {
    let rest = path.strip_prefix(dir);
    rest.is_some_and(|rest| dir.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
}

/// The parent, empty for the root, and the name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_is_followed_with_or_without_openat2() {
        for by_name in [false, true] {
            let outside = tempfile::tempdir().unwrap();
            fs::write(outside.path().join("f"), "theirs").unwrap();
            let place = tempfile::tempdir().unwrap();
            let mut beneath = Beneath::open(place.path()).unwrap();
            beneath.by_name = AtomicBool::new(by_name);
            beneath.create_dir(b"d", 0o755).unwrap();
            beneath.create_dir(b"d/e", 0o755).unwrap();
            drop(beneath.create(b"d/e/f", 0o644).unwrap());
            beneath.file(b"d/e/f", false).unwrap();
            assert!(beneath.create(b"d/e/f", 0o644).is_err(), "exclusive");
            symlink(outside.path(), place.path().join("out")).unwrap();
            symlink("d", place.path().join("in")).unwrap();
            for through in ["out", "in/e"] {
                assert!(
                    beneath
                        .create(format!("{through}/new").as_bytes(), 0o644)
                        .is_err()
                );
                assert!(
                    beneath
                        .file(format!("{through}/f").as_bytes(), false)
                        .is_err()
                );
                assert!(
                    beneath
                        .create_dir(format!("{through}/new").as_bytes(), 0o755)
                        .is_err()
                );
                assert!(
                    beneath
                        .link(format!("{through}/new").as_bytes(), b"x")
                        .is_err()
                );
            }
            assert!(beneath.dir(b"out").is_err());
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn directories_are_created_in_one_walk_however_deep_and_through_no_link() {
        let place = tempfile::tempdir().unwrap();
        let beneath = Beneath::open(place.path()).unwrap();
        let deep: Vec<String> = (1..200).map(|n| ["d"; 200][..n].join("/")).collect();
        let paths = ["a", "a/b", "a/b/c", "a/bc", "ab", "ab/a", "ab/a/b"];
        let all = paths.into_iter().chain(deep.iter().map(String::as_str));
        let all: Vec<&str> = all.chain(["e", "e/f", "a/late"]).collect();
        beneath
            .create_dirs(all.iter().map(|it| it.as_bytes()), 0o700)
            .unwrap();
        for path in &all {
            assert!(place.path().join(path).is_dir(), "{path}");
        }
        let again = beneath.create_dirs([&b"a/b"[..]], 0o700).unwrap_err();
        assert!(again.to_string().contains("a/b"), "{again}");

        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), place.path().join("out")).unwrap();
        symlink("a", place.path().join("in")).unwrap();
        for through in ["out/new", "in/new"] {
            let refused = beneath.create_dirs([through.as_bytes()], 0o700);
            assert!(refused.is_err(), "{through}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(!place.path().join("a/new").exists());
    }

    #[test]
    fn the_root_is_no_link_itself() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        symlink(".", &link).unwrap();
        assert!(Beneath::open(&link).is_err());
    }
}
