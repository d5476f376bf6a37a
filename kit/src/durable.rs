//! Files that are there, whole, after the power was lost: write aside, fsync, rename, fsync the directory.
//!
//! This is the only place that renames: see `clippy.toml`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tamer_core::path::Shown;

/// A failed operation on a file, with the operation and the path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}", path = Shown(path.as_os_str().as_bytes()))]
pub struct FileError {
    /// What was tried: `write`, `rename`, `fsync` …
    pub operation: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: names the operation and the path.
    pub fn new(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            operation,
            path,
            source,
        }
    }

    /// Whether the file was not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Replaces the file at `path` by one with these bytes and permission bits, whatever the umask, durably:
/// at every instant the old file or the new one is there, whole.
///
/// # Errors
/// [`FileError`]; the old file is then still in place.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    replace_with(path, mode, |file| file.write_all(bytes))
}

/// As [`replace`], by what `write` writes; gives what that gives.
///
/// # Errors
/// [`FileError`]; the old file is then still in place.
pub fn replace_with<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<T>,
) -> Result<T, FileError> {
    let aside = aside(path);
    let written = write_new(&aside, mode, write)?;
    rename(&aside, path)?;
    Ok(written)
}

/// Reads a file of at most `max` bytes; `None` where there is none.
///
/// # Errors
/// [`FileError`], also for a file that is larger.
pub fn read_capped(path: &Path, max: u64) -> Result<Option<Vec<u8>>, FileError> {
    use io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::new("open", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::new("read", path))?;
    if bytes.len() as u64 > max {
        let reason = io::Error::other(format!("it is larger than {max} bytes"));
        return Err(FileError::new("read", path)(reason));
    }
    Ok(Some(bytes))
}

/// Renames in one directory or between two on one file system, then fsyncs the directories.
///
/// # Errors
/// [`FileError`]. After an error of the fsync the rename may have happened.
#[expect(clippy::disallowed_methods, reason = "the one place that renames")]
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::new("rename", from))?;
    sync_parent(to)?;
    if from.parent() == to.parent() {
        Ok(())
    } else {
        sync_parent(from)
    }
}

/// Swaps two files or directories of one file system, durably: at every instant both are there, each
/// under one of the two names.
///
/// # Errors
/// [`FileError`], also where the file system can't swap (NFS). After an error of the fsync the swap
/// may have happened.
pub fn exchange(one: &Path, other: &Path) -> Result<(), FileError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|e| FileError::new("swap", one)(e.into()))?;
    sync_parent(one)?;
    sync_parent(other)
}

/// Makes what was created, renamed or removed in the directory of `path` durable.
///
/// # Errors
/// [`FileError`] of the open or the fsync.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes what was created, renamed or removed in `dir` durable.
///
/// # Errors
/// [`FileError`] of the open or the fsync.
pub fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(FileError::new("fsync", dir))
}

/// Creates a directory and its parents, durably, with these permission bits, whatever the umask, for
/// those that are new.
///
/// # Errors
/// [`FileError`] of the first step that failed.
pub fn create_dir_all(dir: &Path, mode: u32) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir_all(parent, mode)?;
    }
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => {
            fs::set_permissions(dir, Permissions::from_mode(mode))
                .map_err(FileError::new("change the mode of", dir))?;
            sync_parent(dir)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(FileError::new("create the directory", dir)(e)),
    }
}

/// Switches the symbolic link at `link` to `target`, durably: at every instant it points to the old
/// target or to the new one.
///
/// # Errors
/// [`FileError`].
pub fn symlink(target: &Path, link: &Path) -> Result<(), FileError> {
    let aside = aside(link);
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::new("remove", &aside)(e));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(target, &aside).map_err(FileError::new("link", &aside))?;
    rename(&aside, link)
}

/// Writes a file that is synced but whose name is not yet durable.
fn write_new<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<T>,
) -> Result<T, FileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::new("remove", path)(e));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(FileError::new("create", path))?;
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(FileError::new("change the mode of", path))?;
    let written = write(&mut file).map_err(FileError::new("write", path))?;
    file.sync_all().map_err(FileError::new("fsync", path))?;
    Ok(written)
}

/// `.name.new` beside `name`: one writer a file is assumed.
fn aside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_keeps_the_mode_and_leaves_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// An installation that an administrator with a strict umask made must be readable to its service.
    #[test]
    fn modes_are_what_was_asked_for_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let (file, sub) = (dir.path().join("f"), dir.path().join("d/e"));
        replace(&file, b"x", 0o666).unwrap();
        create_dir_all(&sub, 0o777).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let parent = sub.parent().unwrap();
        assert_eq!(
            (mode(&file), mode(&sub), mode(parent)),
            (0o666, 0o777, 0o777)
        );
    }

    #[test]
    fn a_leftover_of_a_crash_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".f.new"), b"torn").unwrap();
        replace(&dir.path().join("f"), b"whole", 0o644).unwrap();
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"whole");
        std::os::unix::fs::symlink("torn", dir.path().join(".l.new")).unwrap();
        symlink(Path::new("f"), &dir.path().join("l")).unwrap();
        assert_eq!(fs::read_link(dir.path().join("l")).unwrap(), Path::new("f"));
    }

    #[test]
    fn errors_name_the_operation_and_the_path() {
        let said = replace(Path::new("/nonexistent/x"), b"", 0o600)
            .unwrap_err()
            .to_string();
        assert_eq!(said, "cannot create /nonexistent/.x.new");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("big"), b"12345").unwrap();
        assert!(read_capped(&dir.path().join("big"), 4).is_err());
        assert_eq!(
            read_capped(&dir.path().join("big"), 5).unwrap().unwrap(),
            b"12345"
        );
        assert!(read_capped(&dir.path().join("none"), 5).unwrap().is_none());
    }
}
