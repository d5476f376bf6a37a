//! The head: the newest acknowledged seal, outside the database.
//!
//! A log that is cut at the border of two batches looks like a healthy older store: only a witness
//! beside it can tell. The head has two slots, each in a block of its own, written in turn and
//! synced after the database and before the answer. So whatever write is torn, the slot of the
//! last answered batch is whole.

use crate::store::StoreError;
use crate::store::frame::{SEAL, Seal};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tamer_kit::durable::{self, FileError};

const NAME: &str = "head";
/// The distance of the slots: a block of every usual disk, so that no torn write harms both.
const STRIDE: u64 = 4096;

/// The open head of one store.
#[derive(Debug)]
pub(crate) struct Head {
    file: File,
    path: PathBuf,
    next_slot: u64,
}

impl Head {
    /// Makes the head of a new store, with both slots at `seal`.
    pub(crate) fn create(data: &Path, seal: Seal) -> Result<(), StoreError> {
        let path = data.join(NAME);
        let mut bytes = vec![0; 2 * usize::try_from(STRIDE).unwrap_or(4096)];
        for slot in bytes.chunks_mut(bytes_per_slot()) {
            slot[..SEAL].copy_from_slice(&seal.to_bytes());
        }
        Ok(durable::replace(&path, &bytes, 0o600)?)
    }

    /// Opens the head and gives the newest seal in it.
    pub(crate) fn open(data: &Path) -> Result<(Self, Seal), StoreError> {
        let path = data.join(NAME);
        let lost = |why: &str| StoreError::Lost {
            dir: data.to_owned(),
            why: why.to_owned(),
        };
        let file = match OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
        {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(lost("the file `head` is not there"));
            }
            Err(e) => return Err(FileError::new("open", &path)(e).into()),
        };
        let slots = [slot(&file, 0), slot(&file, 1)];
        let newest = slots.iter().flatten().max_by_key(|seal| seal.revision);
        let seal = *newest.ok_or_else(|| lost("both records in the file `head` are damaged"))?;
        let next_slot = u64::from(slots[0] == Some(seal));
        let head = Self {
            file,
            path,
            next_slot,
        };
        Ok((head, seal))
    }

    #[cfg(test)]
    pub(crate) fn break_it(&mut self) {
        self.file = File::open(&self.path).unwrap();
    }

    /// Records `seal` durably. The database must hold it durably already.
    pub(crate) fn record(&mut self, seal: Seal) -> Result<(), StoreError> {
        self.file
            .write_all_at(&seal.to_bytes(), self.next_slot * STRIDE)
            .and_then(|()| self.file.sync_data())
            .map_err(FileError::new("write", &self.path))?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

fn bytes_per_slot() -> usize {
    usize::try_from(STRIDE).unwrap_or(4096)
}

fn slot(file: &File, n: u64) -> Option<Seal> {
    let mut bytes = [0; SEAL];
    file.read_exact_at(&mut bytes, n * STRIDE).ok()?;
    Seal::from_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64) -> Seal {
        Seal {
            revision,
            ..Seal::default()
        }
    }

    #[test]
    fn a_torn_write_never_harms_the_last_acknowledged_seal() {
        let dir = tempfile::tempdir().unwrap();
        Head::create(dir.path(), at(0)).unwrap();
        for revision in 1..6 {
            let (head, newest) = Head::open(dir.path()).unwrap();
            assert_eq!(newest, at(revision - 1));
            // A torn write, as the next record would leave it.
            head.file
                .write_all_at(&[0xff; 20], head.next_slot * STRIDE)
                .unwrap();
            let (mut head, newest) = Head::open(dir.path()).unwrap();
            assert_eq!(newest, at(revision - 1));
            head.record(at(revision)).unwrap();
        }
    }

    #[test]
    fn without_a_whole_slot_it_is_loud() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            Head::open(dir.path()),
            Err(StoreError::Lost { .. })
        ));
        std::fs::write(dir.path().join(NAME), [0; 5000]).unwrap();
        assert!(matches!(
            Head::open(dir.path()),
            Err(StoreError::Lost { .. })
        ));
    }
}
