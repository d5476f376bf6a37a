//! Removing releases, and what crashes left of them.
//!
//! A release that is being unpacked is `.<name>.tmp`, one that is being removed `.gone-<name>`: whatever is
//! called `name` is whole.

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use tamer_kit::durable::{self, FileError};

const GONE: &str = ".gone-";

/// The name under which a release is unpacked.
pub(crate) fn temp_name(name: &str) -> String {
    format!(".{name}.tmp")
}

/// Removes a release. From the first moment on it is no longer there under its name; a crash leaves at most
/// what [`sweep`] removes.
///
/// # Errors
/// [`FileError`], also if it is not there.
pub fn remove_release(release: &Path) -> Result<(), FileError> {
    let mut gone = std::ffi::OsString::from(GONE);
    gone.push(release.file_name().unwrap_or_default());
    let gone = release.with_file_name(gone);
    remove_if_there(&gone)?;
    durable::rename(release, &gone)?;
    remove_if_there(&gone)
}

/// Removes what crashes left in a directory of releases: `.<name>.tmp` and `.gone-<name>`. Gives what it
/// removed, sorted. Nothing may be unpacked there meanwhile.
///
/// # Errors
/// [`FileError`] of the first that could not be removed.
pub fn sweep(parent: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut removed = Vec::new();
    let entries = match fs::read_dir(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(removed),
        entries => entries.map_err(FileError::new("read", parent))?,
    };
    for entry in entries {
        let name = entry.map_err(FileError::new("read", parent))?.file_name();
        let text = name.to_string_lossy();
        let left = text.starts_with(GONE) || (text.starts_with('.') && text.ends_with(".tmp"));
        if left {
            let path = parent.join(&name);
            remove_if_there(&path)?;
            removed.push(path);
        }
    }
    removed.sort();
    Ok(removed)
}

/// Removes a tree, a file or a link, read-only or not; that it is not there is fine too.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), FileError> {
    let remove = || match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    let removed = match remove() {
        // Only root may remove from read-only directories; others open their own first.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(rustix::fs::CWD, path)
                .map_err(|e| FileError::new("open for removal", path)(e.into()))?;
            remove()
        }
        removed => removed,
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(FileError::new("remove", path)),
    }
}

/// Makes a directory and all below it writable for their owner; follows no link.
fn open_up(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(at, name, flags, Mode::empty())?;
    rustix::fs::fchmod(&dir, Mode::RWXU)?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match entry.file_type() {
            FileType::Directory => open_up(dir.as_fd(), name)?,
            // Some file systems do not say; what is no directory needs nothing.
            FileType::Unknown => match open_up(dir.as_fd(), name) {
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                opened => opened?,
            },
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn locked_tree(root: &Path) {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/f"), "x").unwrap();
        symlink("/", root.join("a/l")).unwrap();
        for dir in ["a/b", "a", ""] {
            let mode = fs::Permissions::from_mode(0o555);
            fs::set_permissions(root.join(dir), mode).unwrap();
        }
    }

    #[test]
    fn a_read_only_release_is_removed_and_a_stale_one_aside_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let release = dir.path().join("1-1.0.0-abc");
        locked_tree(&release);
        locked_tree(&dir.path().join(".gone-1-1.0.0-abc"));
        remove_release(&release).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(remove_release(&release).unwrap_err().is_not_found());
    }

    #[test]
    fn open_up_makes_every_directory_writable_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let root = dir.path().join("r");
        fs::create_dir(&root).unwrap();
        symlink(outside.path(), root.join("out")).unwrap();
        locked_tree(&root);
        open_up(rustix::fs::CWD, &root).unwrap();
        assert_eq!(mode(&root.join("a/b")), 0o700);
        assert_eq!(mode(outside.path()), 0o555);
    }

    #[test]
    fn sweep_removes_leftovers_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".x.tmp", ".gone-y", "z", "tmp.tmp", ".keep"] {
            locked_tree(&dir.path().join(name));
        }
        let removed = sweep(dir.path()).unwrap();
        assert_eq!(
            removed,
            [dir.path().join(".gone-y"), dir.path().join(".x.tmp")]
        );
        for name in ["z", "tmp.tmp", ".keep"] {
            assert!(dir.path().join(name).join("a/b/f").exists());
            remove_release(&dir.path().join(name)).unwrap();
        }
        assert!(sweep(&dir.path().join("none")).unwrap().is_empty());
    }
}
