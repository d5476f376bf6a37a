//! What must outlive the database: the epoch, which rises with every restore, and the marker that
//! makes a restored controller start held.

use super::StoreError;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use tamer_core::moment::Moment;
use tamer_kit::durable::{self, FileError};

const EPOCH: &str = "epoch";
const HELD: &str = "held";
const RESTORED: &str = "restored-from";
/// The largest file of these that is read, in bytes.
const MAX: u64 = 4096;

/// The epoch in the directory `state`; 0 where none was recorded yet.
///
/// # Errors
/// [`StoreError::File`] for a file that can't be read, or that does not hold what was written.
pub fn read(state: &Path) -> Result<u64, StoreError> {
    Ok(number(&state.join(EPOCH))?.unwrap_or(0))
}

fn number(path: &Path) -> Result<Option<u64>, StoreError> {
    let Some(bytes) = durable::read_capped(path, MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let number = text.split(' ').next().and_then(|n| n.parse().ok());
    match number {
        Some(number) if text == line(number) => Ok(Some(number)),
        _ => {
            let damaged = io::Error::new(ErrorKind::InvalidData, "it is damaged");
            Err(FileError::new("read", path)(damaged).into())
        }
    }
}

/// Raises the epoch above itself and above `other`, durably; gives the new one. It is not below the
/// seconds since 1970: so two restores of the same copy, which knows nothing of either, differ.
///
/// # Errors
/// [`StoreError::File`]; the epoch is then as it was.
pub fn bump(state: &Path, other: u64, now: Moment) -> Result<u64, StoreError> {
    let epoch = (read(state)?.max(other) + 1).max(now.0 / 1000);
    raise(state, epoch)?;
    Ok(epoch)
}

/// Raises the epoch to `least`, durably, unless it is higher already.
///
/// # Errors
/// [`StoreError::File`]; the epoch is then as it was.
pub fn raise(state: &Path, least: u64) -> Result<(), StoreError> {
    let epoch = read(state)?.max(least);
    durable::create_dir_all(state, 0o700)?;
    Ok(durable::replace(
        &state.join(EPOCH),
        line(epoch).as_bytes(),
        0o600,
    )?)
}

/// Notes of what moment the store is that was put in place, durably.
///
/// # Errors
/// [`StoreError::File`].
pub fn note_restored(state: &Path, of: Moment) -> Result<(), StoreError> {
    durable::create_dir_all(state, 0o700)?;
    Ok(durable::replace(
        &state.join(RESTORED),
        line(of.0).as_bytes(),
        0o600,
    )?)
}

/// Of what moment the backup was that the store came from; `None` if it never came from one.
///
/// # Errors
/// [`StoreError::File`].
pub fn restored_from(state: &Path) -> Result<Option<Moment>, StoreError> {
    Ok(number(&state.join(RESTORED))?.map(Moment))
}

/// `17 (crc32 1a2b3c4d)`: a person can read it, and a changed digit is told.
fn line(number: u64) -> String {
    let checksum = crc32fast::hash(number.to_string().as_bytes());
    format!("{number} (crc32 {checksum:08x})\n")
}

/// Marks the controller as held, and says why, durably.
///
/// # Errors
/// [`StoreError::File`].
pub fn hold(state: &Path, why: &str) -> Result<(), StoreError> {
    durable::create_dir_all(state, 0o700)?;
    let why: String = why.chars().take(1000).collect();
    Ok(durable::replace(&state.join(HELD), why.as_bytes(), 0o600)?)
}

/// Why the controller is held; `None` if it is not.
///
/// # Errors
/// [`StoreError::File`]: whether it is held can't be told, so it must be taken for held.
pub fn held(state: &Path) -> Result<Option<String>, StoreError> {
    let why = durable::read_capped(&state.join(HELD), MAX)?;
    Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
}

/// Lets the controller go on.
///
/// # Errors
/// [`StoreError::File`].
pub fn release(state: &Path) -> Result<(), StoreError> {
    let path: PathBuf = state.join(HELD);
    match fs::remove_file(&path) {
        Ok(()) => Ok(durable::sync_parent(&path)?),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(FileError::new("remove", &path)(e).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_only_rises_and_is_above_every_other() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(read(&state).unwrap(), 0);
        let early = Moment(0);
        assert_eq!(bump(&state, 0, early).unwrap(), 1);
        assert_eq!(bump(&state, 0, early).unwrap(), 2);
        assert_eq!(bump(&state, 40, early).unwrap(), 41);
        assert_eq!(bump(&state, 3, early).unwrap(), 42);
        assert_eq!(read(&state).unwrap(), 42);
        raise(&state, 7).unwrap();
        assert_eq!(read(&state).unwrap(), 42);
        assert_eq!(bump(&state, 3, Moment(90_000)).unwrap(), 90);
        assert_eq!(bump(&state, 3, Moment(90_000)).unwrap(), 91);
    }

    #[test]
    fn two_restores_of_the_same_copy_differ() {
        let restore = |second: u64| {
            let dir = tempfile::tempdir().unwrap();
            raise(dir.path(), 5).unwrap();
            bump(dir.path(), 5, Moment(second * 1000)).unwrap()
        };
        assert!(restore(1_800_000_000) < restore(1_800_000_001));
    }

    #[test]
    fn the_moment_of_the_backup_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(restored_from(dir.path()).unwrap(), None);
        note_restored(dir.path(), Moment(77)).unwrap();
        assert_eq!(restored_from(dir.path()).unwrap(), Some(Moment(77)));
    }

    #[test]
    fn a_damaged_epoch_is_told_and_not_raised() {
        let dir = tempfile::tempdir().unwrap();
        bump(dir.path(), 16, Moment(0)).unwrap();
        let path = dir.path().join(EPOCH);
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in ["", "1", "18 (crc32 00000000)\n", &whole.replace("17", "12")] {
            fs::write(&path, damaged).unwrap();
            assert!(read(dir.path()).is_err(), "{damaged:?}");
            assert!(bump(dir.path(), 0, Moment(0)).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn held_until_released() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(held(dir.path()).unwrap(), None);
        hold(dir.path(), "restored").unwrap();
        assert_eq!(held(dir.path()).unwrap().as_deref(), Some("restored"));
        release(dir.path()).unwrap();
        release(dir.path()).unwrap();
        assert_eq!(held(dir.path()).unwrap(), None);
    }
}
