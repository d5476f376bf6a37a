//! Removing releases, and what crashes left of them.
//!
//! A release that is being unpacked is `.<name>.tmp`, one that is being removed `.gone-<name>`: whatever is
//! called `name` is whole.

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
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
/// [`FileError`], also if it is not there, or if something is mounted in it.
pub fn remove_release(release: &Path) -> Result<(), FileError> {
    let mut gone = OsString::from(GONE);
    gone.push(release.file_name().unwrap_or_default());
    let gone = release.with_file_name(gone);
    remove_if_there(&gone)?;
    without_mounts(release)?;
    durable::rename(release, &gone)?;
    remove_if_there(&gone)
}

/// Exchanges a release for another one, in one instant; the old one is then where the new one was. On a file system
/// that cannot swap, a crash between two renames leaves neither under its name, and [`sweep`] removes them.
///
/// # Errors
/// [`FileError`], also if something is mounted in the old one.
pub fn exchange(old: &Path, new: &Path) -> Result<(), FileError> {
    without_mounts(old)?;
    // A directory that gets another parent is written to: who is not root opens both up for the moment.
    let mut opened = Vec::new();
    if !rustix::process::geteuid().is_root() {
        for dir in [old, new] {
            opened.push((dir, set_mode(dir, None)?));
        }
    }
    let done = swap(old, new);
    let swapped = done.is_ok();
    for (dir, mode) in opened {
        let other = if dir == old { new } else { old };
        set_mode(if swapped { other } else { dir }, Some(mode))?;
    }
    done
}

/// Gives a directory this mode, or makes it writable for its owner; tells the mode that it had.
fn set_mode(dir: &Path, mode: Option<u32>) -> Result<u32, FileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let about = fs::symlink_metadata(dir).map_err(FileError::new("look at", dir))?;
    let before = about.permissions().mode() & 0o7777;
    let wanted = mode.unwrap_or(before | 0o200);
    // What stays is not asked for: a directory may have a bit that the agent may not set.
    if wanted != before {
        let mode = fs::Permissions::from_mode(wanted);
        fs::set_permissions(dir, mode).map_err(FileError::new("change the mode of", dir))?;
    }
    Ok(before)
}

fn swap(old: &Path, new: &Path) -> Result<(), FileError> {
    let unable = match durable::exchange(old, new) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let cannot = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP];
    if !Errno::from_io_error(&unable.source).is_some_and(|errno| cannot.contains(&errno)) {
        return Err(unable);
    }
    let mut gone = OsString::from(GONE);
    gone.push(old.file_name().unwrap_or_default());
    let gone = old.with_file_name(gone);
    remove_if_there(&gone)?;
    durable::rename(old, &gone)?;
    durable::rename(new, old)?;
    durable::rename(&gone, new)
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

/// Refuses a tree in which something else is mounted: removing it would empty that.
fn without_mounts(path: &Path) -> Result<(), FileError> {
    const TABLE: &str = "/proc/self/mountinfo";
    let Ok(tree) = fs::canonicalize(path) else {
        return Ok(()); // It is not there, or a link that leads nowhere: nothing is below it.
    };
    let table = fs::read(TABLE).map_err(FileError::new("read", Path::new(TABLE)))?;
    match mounted_below(&tree, &table) {
        None => Ok(()),
        Some(mount) => {
            let said = format!("{0} is mounted there. Next: umount {0}", mount.display());
            Err(FileError::new("remove", path)(io::Error::other(said)))
        }
    }
}

/// The first mount point of a table like `/proc/self/mountinfo` that is below `tree`, or `tree` itself. The
/// fifth field is where it is mounted, with blanks and the like as `\\040` (`man 5 proc_pid_mountinfo`).
fn mounted_below(tree: &Path, table: &[u8]) -> Option<PathBuf> {
    let fields = table.split(|&byte| byte == b'\n');
    fields
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescaped(field))))
        .find(|mount| mount.starts_with(tree))
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *byte == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(meant) => {
                out.push(meant);
                rest = &after[3..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// Removes a tree, a file or a link, read-only or not; that it is not there is fine too. A tree in which
/// something is mounted is left alone.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), FileError> {
    if fs::symlink_metadata(path).is_ok_and(|about| about.is_dir()) {
        without_mounts(path)?;
    }
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
    fn a_release_is_exchanged_for_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let room = dir.path().join(".repair.tmp");
        fs::create_dir(&room).unwrap();
        let (old, new) = (dir.path().join("1-1.0.0-abc"), room.join("1-1.0.0-abc"));
        for (place, text) in [(&old, "edited"), (&new, "deployed")] {
            locked_tree(place);
            fs::set_permissions(place.join("a/b/f"), fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(place.join("a/b/f"), text).unwrap();
        }
        exchange(&old, &new).unwrap();
        for (place, text) in [(&old, "deployed"), (&new, "edited")] {
            assert_eq!(fs::read_to_string(place.join("a/b/f")).unwrap(), text);
            let mode = fs::metadata(place).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o555);
        }
        let none = dir.path().join("none");
        assert!(exchange(&old, &none).unwrap_err().is_not_found());
        assert_eq!(fs::read(old.join("a/b/f")).unwrap(), b"deployed");
    }

    #[test]
    fn what_is_mounted_in_a_release_is_found() {
        let table = b"22 1 0:20 / / rw - ext4 /dev/a rw\n\
            31 22 0:30 / /srv/shop/web/releases/1-1.0.0-aa/n\\040fs rw,relatime shared:1 - nfs a:/b rw\n\
            32 22 0:31 / /srv/shop/web/releases/1-1.0.0-aab rw - tmpfs tmpfs rw\n\
            a line that is none\n";
        let found = |tree: &str| mounted_below(Path::new(tree), table);
        let at = "/srv/shop/web/releases/1-1.0.0-aa";
        assert_eq!(found(at), Some(Path::new(at).join("n fs")));
        assert_eq!(found("/srv/shop/web/releases/1-1.0.0-a"), None);
        assert_eq!(found("/srv/shop/web/releases/2-1.0.0-bb"), None);
        // As this machine has it: something is always mounted at the root, and never in a directory just made.
        assert!(without_mounts(Path::new("/")).is_err());
        without_mounts(tempfile::tempdir().unwrap().path()).unwrap();
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
