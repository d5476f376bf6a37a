//! What must outlive the database: the epoch, which rises with every restore, and the marker that
//! makes a restored controller start held.

use super::StoreError;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use tamer_kit::durable::{self, FileError};

const EPOCH: &str = "epoch";
const HELD: &str = "held";
/// The largest file of these that is read, in bytes.
const MAX: u64 = 4096;

/// The epoch in the directory `state`; 0 where none was recorded yet.
///
/// # Errors
/// [`StoreError::File`] for a file that can't be read, or that does not hold what was written.
pub fn read(state: &Path) -> Result<u64, StoreError> {
    let path = state.join(EPOCH);
    let Some(bytes) = durable::read_capped(&path, MAX)? else {
        return Ok(0);
    };
    let text = String::from_utf8_lossy(&bytes);
    let epoch = text.split(' ').next().and_then(|n| n.parse().ok());
    match epoch {
        Some(epoch) if text == line(epoch) => Ok(epoch),
        _ => {
            let damaged = io::Error::new(ErrorKind::InvalidData, "it is damaged");
            Err(FileError::new("read", &path)(damaged).into())
        }
    }
}

/// Raises the epoch above itself and above `other`, durably; gives the new one.
///
/// # Errors
/// [`StoreError::File`]; the epoch is then as it was.
pub fn bump(state: &Path, other: u64) -> Result<u64, StoreError> {
    let epoch = read(state)?.max(other) + 1;
    durable::create_dir_all(state, 0o700)?;
    durable::replace(&state.join(EPOCH), line(epoch).as_bytes(), 0o600)?;
    Ok(epoch)
}

/// `17 (crc32 1a2b3c4d)`: a person can read it, and a changed digit is told.
fn line(epoch: u64) -> String {
    let checksum = crc32fast::hash(epoch.to_string().as_bytes());
    format!("{epoch} (crc32 {checksum:08x})\n")
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
        assert_eq!(bump(&state, 0).unwrap(), 1);
        assert_eq!(bump(&state, 0).unwrap(), 2);
        assert_eq!(bump(&state, 40).unwrap(), 41);
        assert_eq!(bump(&state, 3).unwrap(), 42);
        assert_eq!(read(&state).unwrap(), 42);
    }

    #[test]
    fn a_damaged_epoch_is_told_and_not_raised() {
        let dir = tempfile::tempdir().unwrap();
        bump(dir.path(), 16).unwrap();
        let path = dir.path().join(EPOCH);
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in ["", "1", "18 (crc32 00000000)\n", &whole.replace("17", "12")] {
            fs::write(&path, damaged).unwrap();
            assert!(read(dir.path()).is_err(), "{damaged:?}");
            assert!(bump(dir.path(), 0).is_err(), "{damaged:?}");
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
