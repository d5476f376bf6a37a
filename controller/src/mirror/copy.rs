//! How one thing is copied: a log by its new lines, a file as a whole, a blob once. All of it blocks, all
//! of it is durable when it returns, and nothing is ever deleted.

use std::fs::{self, File, FileTimes, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tamer_kit::durable::{self, FileError};

/// How much of the end of a copied log is compared with the original, in bytes.
const COMPARED: u64 = 64 << 10;

/// Brings the copy `to` of the append-only file `from` up to date. A copy that is not the beginning of
/// `from` is set aside, never overwritten. Without `from` nothing happens.
pub(super) fn log(from: &Path, to: &Path) -> Result<(), FileError> {
    let Some(mut source) = open(from)? else {
        return Ok(());
    };
    let read = |error| FileError::new("read", from)(error);
    let length = source.metadata().map_err(read)?.len();
    let copied = metadata(to)?.map(|found| found.len());
    match copied {
        Some(copied) if copied <= length && same_end(&source, to, copied)? => {
            if copied == length {
                return Ok(());
            }
            io::Seek::seek(&mut source, io::SeekFrom::Start(copied)).map_err(read)?;
            let mut rest = Vec::new();
            source
                .take(length - copied)
                .read_to_end(&mut rest)
                .map_err(read)?;
            let written = File::options().append(true).open(to).and_then(|mut copy| {
                copy.write_all(&rest)?;
                copy.sync_data()
            });
            written.map_err(FileError::new("write", to))
        }
        Some(_) => {
            set_aside(to)?;
            whole(from, to)
        }
        None => whole(from, to),
    }
}

/// Whether the last bytes of the copy stand at the same place in the original.
fn same_end(source: &File, to: &Path, copied: u64) -> Result<bool, FileError> {
    let compared = copied.min(COMPARED);
    let mut ours = vec![0; usize::try_from(compared).unwrap_or(0)];
    let mut theirs = ours.clone();
    let copy = File::open(to).map_err(FileError::new("open", to))?;
    let read = copy.read_exact_at(&mut theirs, copied - compared);
    read.map_err(FileError::new("read", to))?;
    let read = source.read_exact_at(&mut ours, copied - compared);
    read.map_err(FileError::new("read", to))?;
    Ok(ours == theirs)
}

fn set_aside(path: &Path) -> Result<(), FileError> {
    for n in 1.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".other-{n}"));
        let place = PathBuf::from(name);
        if metadata(&place)?.is_none() {
            return durable::rename(path, &place);
        }
    }
    Ok(())
}

/// Copies a file that is replaced as a whole, where size or time differ. Without `from` nothing happens.
pub(super) fn file(from: &Path, to: &Path) -> Result<(), FileError> {
    match (metadata(from)?, metadata(to)?) {
        (None, _) => Ok(()),
        (Some(from), Some(to)) if same(&from, &to) => Ok(()),
        _ => whole(from, to),
    }
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    one.len() == other.len() && one.modified().ok() == other.modified().ok()
}

/// Copies every file below the directory `from`, as [`file()`] does, but those whose names begin with a
/// dot: they are on their way.
pub(super) fn tree(from: &Path, to: &Path) -> Result<(), FileError> {
    for (path, name) in entries(from)? {
        let place = to.join(&name);
        if path.is_dir() {
            tree(&path, &place)?;
        } else {
            file(&path, &place)?;
        }
    }
    Ok(())
}

/// Copies the blobs in `from` that `to` lacks: linked where that can be done. Blobs never change.
pub(super) fn blobs(from: &Path, to: &Path) -> Result<(), FileError> {
    for (path, name) in entries(from)? {
        // An upload that is not done.
        if name.to_string_lossy().contains('#') {
            continue;
        }
        let place = to.join(&name);
        let length = metadata(&path)?.map(|found| found.len());
        if metadata(&place)?.map(|found| found.len()) == length {
            continue;
        }
        durable::create_dir_all(to, 0o700)?;
        let aside = aside(&place);
        remove(&aside)?;
        if fs::hard_link(&path, &aside).is_err() {
            whole(&path, &place)?;
        } else {
            durable::rename(&aside, &place)?;
        }
    }
    Ok(())
}

/// A whole file with its permissions and time; copied by the kernel, which shares the blocks where the
/// file system can.
fn whole(from: &Path, to: &Path) -> Result<(), FileError> {
    if let Some(dir) = to.parent() {
        durable::create_dir_all(dir, 0o700)?;
    }
    let aside = aside(to);
    remove(&aside)?;
    let modified = metadata(from)?.and_then(|found| found.modified().ok());
    let written = fs::copy(from, &aside).and_then(|_| {
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
        let file = File::options().write(true).open(&aside)?;
        if let Some(modified) = modified {
            file.set_times(FileTimes::new().set_modified(modified))?;
        }
        file.sync_all()
    });
    written.map_err(FileError::new("copy to", to))?;
    durable::rename(&aside, to)
}

fn aside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".copy");
    path.with_file_name(name)
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(FileError::new("remove", path)(e)),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<Option<File>, FileError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileError::new("open", path)(e)),
    }
}

fn metadata(path: &Path) -> Result<Option<Metadata>, FileError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileError::new("look at", path)(e)),
    }
}

/// What lies in a directory and is not on its way; nothing where there is none.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, std::ffi::OsString)>, FileError> {
    let list = |error| FileError::new("list", dir)(error);
    let read = match fs::read_dir(dir) {
        Ok(read) => read,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(list(e)),
    };
    let mut found = Vec::new();
    for entry in read {
        let entry = entry.map_err(|e| FileError::new("list", dir)(e))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push((entry.path(), entry.file_name()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_log_is_continued_and_another_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b/a"));
        log(&from, &to).unwrap();
        assert!(!to.exists());
        fs::write(&from, "one\n").unwrap();
        log(&from, &to).unwrap();
        fs::write(&from, "one\ntwo\n").unwrap();
        log(&from, &to).unwrap();
        assert_eq!(text(&to), "one\ntwo\n");
        // The same length, another content; then a shorter one.
        fs::write(&from, "one\nsix\n").unwrap();
        log(&from, &to).unwrap();
        fs::write(&from, "one\n").unwrap();
        log(&from, &to).unwrap();
        assert_eq!(text(&to), "one\n");
        let aside = |n| text(&dir.path().join(format!("b/a.other-{n}")));
        assert_eq!(
            (aside(1), aside(2)),
            ("one\ntwo\n".into(), "one\nsix\n".into())
        );
    }

    #[test]
    fn a_tree_is_copied_where_it_differs_and_nothing_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("app")).unwrap();
        fs::write(from.join("app/1.root.json"), "root").unwrap();
        fs::write(from.join("app/.on-its-way"), "x").unwrap();
        tree(&from, &to).unwrap();
        assert_eq!(text(&to.join("app/1.root.json")), "root");
        assert_eq!(fs::read_dir(to.join("app")).unwrap().count(), 1);
        let mode = fs::metadata(to.join("app/1.root.json")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        fs::remove_file(from.join("app/1.root.json")).unwrap();
        fs::write(from.join("app/2.root.json"), "next").unwrap();
        tree(&from, &to).unwrap();
        assert_eq!(text(&to.join("app/1.root.json")), "root");
        fs::write(from.join("app/2.root.json"), "more").unwrap();
        tree(&from, &to).unwrap();
        assert_eq!(text(&to.join("app/2.root.json")), "more");
    }

    #[test]
    fn blobs_are_copied_once_and_half_ones_never() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("aa"), "blob").unwrap();
        fs::write(from.join("bb#1"), "half").unwrap();
        blobs(&from, &to).unwrap();
        blobs(&from, &to).unwrap();
        assert_eq!(text(&to.join("aa")), "blob");
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
        // A copy that was cut short is made again.
        fs::remove_file(to.join("aa")).unwrap();
        fs::write(to.join("aa"), "bl").unwrap();
        blobs(&from, &to).unwrap();
        assert_eq!(text(&to.join("aa")), "blob");
    }
}
