//! The journal's file: `tamer-journal 1 <sha256>` and a line of JSON, replaced as a whole.
//!
//! A damaged journal is not guessed at: the agent stops with a message, and `tamer-agent recover`
//! ([`recover`]) makes a new one from what the disk says. A lost journal is a damaged one too: it is
//! told from a first start by the acceptance record, which is written after the first journal.

use super::{Acceptance, Journal, SlotJournal};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tamer_core::desired::{Desired, Slot};
use tamer_core::release::ReleaseRef;
use tamer_kit::durable::{self, FileError};
use tamer_kit::hash::sha256;

/// The largest journal or acceptance record that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content is not what was written.
    #[error(
        "{path} is damaged ({reason}): nothing is changed on this host until a person has looked at it. \
         `tamer-agent recover` makes a new one from what is on disk",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another agent uses the directory.
    #[error("another tamer-agent uses {path}", path = path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
}

/// Held by the one process that may write a state directory; given up when dropped or killed.
#[derive(Debug)]
pub struct StateLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl StateLock {
    /// Takes the lock of `state`, creating the directory where there is none.
    ///
    /// # Errors
    /// [`JournalError::InUse`] when another process holds it; [`JournalError::File`].
    pub fn take(state: &Path) -> Result<Self, JournalError> {
        durable::create_dir_all(state, 0o700)?;
        let path = state.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(FileError::new("open", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(JournalError::InUse {
                path: state.to_owned(),
            }),
            Err((_, error)) => Err(FileError::new("lock", &path)(error.into()).into()),
        }
    }
}

/// The journal in memory and on disk. What readers see is on disk.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    durable: Mutex<Arc<Journal>>,
    /// Taken in, and written with the next change.
    deferred: Mutex<Option<Desired>>,
    /// One writer at a time.
    writing: tokio::sync::Mutex<()>,
}

impl JournalFile {
    /// Reads the journal of `state`; a first start gets an empty one.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when it is not whole, or is gone while the acceptance record is there.
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        durable::create_dir_all(state, 0o700)?;
        let path = state.join("journal");
        let journal = match read::<Journal>(&path, "tamer-journal")? {
            Some(journal) => journal,
            None if Acceptance::path(state).exists() => {
                let reason = "the file is gone".to_owned();
                return Err(JournalError::Damaged { path, reason });
            }
            None => {
                write(&path, "tamer-journal", &Journal::default())?;
                Journal::default()
            }
        };
        Ok(Self {
            path,
            durable: Mutex::new(Arc::new(journal)),
            deferred: Mutex::new(None),
            writing: tokio::sync::Mutex::new(()),
        })
    }

    /// The journal as it is on disk.
    pub fn get(&self) -> Arc<Journal> {
        Arc::clone(&locked(&self.durable))
    }

    /// Has a desired state taken in together with the next change, so that going back at once costs one
    /// write less. Until then readers do not see it.
    pub fn take_in_with_next(&self, desired: Desired) {
        *locked(&self.deferred) = Some(desired);
    }

    /// Changes a copy, writes it once, durably, and only then shows it to readers. A change that
    /// changes nothing writes nothing.
    ///
    /// # Errors
    /// [`JournalError::File`]; the journal is then as it was, in memory and on disk.
    pub async fn update(
        &self,
        change: impl FnOnce(&mut Journal),
    ) -> Result<Arc<Journal>, JournalError> {
        let _one = self.writing.lock().await;
        let before = self.get();
        let mut after = Journal::clone(&before);
        let deferred = locked(&self.deferred).clone();
        let generation = deferred.as_ref().map(|it| it.generation);
        if let Some(desired) = deferred {
            after.take_in(desired);
        }
        change(&mut after);
        if after == *before {
            return Ok(before);
        }
        let after = Arc::new(after);
        let (path, to_write) = (self.path.clone(), Arc::clone(&after));
        tokio::task::spawn_blocking(move || write(&path, "tamer-journal", &*to_write))
            .await
            .map_err(|gone| FileError::new("write", &self.path)(std::io::Error::other(gone)))??;
        *locked(&self.durable) = Arc::clone(&after);
        let mut deferred = locked(&self.deferred);
        // A newer one may have come while this one was written.
        if deferred.as_ref().map(|it| it.generation) == generation {
            *deferred = None;
        }
        drop(deferred);
        Ok(after)
    }
}

/// A lock whose holders never leave anything half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a new journal from what the disk says, for a person to call after the old one was damaged;
/// the old file is kept aside as `journal.damaged`. Every grant given so far is void afterwards, for
/// whether it had failed is not known any more. `current` says what runs at a root.
///
/// # Errors
/// [`JournalError`], also when the acceptance record is damaged too: remove it, and the releases on
/// this host are verified anew.
pub fn recover(
    state: &Path,
    current: impl Fn(&Slot, &Path) -> Option<ReleaseRef>,
) -> Result<Journal, JournalError> {
    let path = state.join("journal");
    let acceptance = Acceptance::read(state)?;
    let mut journal = Journal {
        recovered: true,
        ..Journal::default()
    };
    for accepted in &acceptance.releases {
        let running = current(&accepted.slot, &accepted.root);
        let slot: &mut SlotJournal = journal.slot_mut(&accepted.slot);
        slot.root = Some(accepted.root.clone());
        slot.good = running.clone().into_iter().collect();
        slot.committed = running;
    }
    if path.exists() {
        durable::rename(&path, &state.join("journal.damaged"))?;
    }
    write(&path, "tamer-journal", &journal)?;
    Ok(journal)
}

/// Writes a value with a line in front that says what it is and what its digest is.
pub(super) fn write<T: Serialize>(path: &Path, kind: &str, value: &T) -> Result<(), JournalError> {
    let json = serde_json::to_vec(value)
        .map_err(|e| FileError::new("write", path)(std::io::Error::other(e)))?;
    let mut bytes = format!("{kind} 1 {}\n", sha256(&json)).into_bytes();
    bytes.extend_from_slice(&json);
    bytes.push(b'\n');
    Ok(durable::replace(path, &bytes, 0o600)?)
}

/// Reads what [`write`] wrote; `None` where there is no file.
pub(super) fn read<T: DeserializeOwned>(
    path: &Path,
    kind: &str,
) -> Result<Option<T>, JournalError> {
    let damaged = |reason: &str| JournalError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let Some(bytes) = durable::read_capped(path, MAX_FILE)? else {
        return Ok(None);
    };
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let head = lines.next().unwrap_or_default();
    let Some(json) = lines.next().and_then(|rest| rest.strip_suffix(b"\n")) else {
        return Err(damaged("it ends too early"));
    };
    if head != format!("{kind} 1 {}", sha256(json)).as_bytes() {
        return Err(damaged("its checksum does not fit"));
    }
    serde_json::from_slice(json)
        .map(Some)
        .map_err(|e| damaged(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::generation::Generation;

    fn generation(counter: u64) -> Generation {
        Generation { epoch: 1, counter }
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_what_failed_to_be_written_never_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = JournalFile::open(dir.path()).unwrap();
        file.update(|it| it.generation = generation(3))
            .await
            .unwrap();
        let again = JournalFile::open(dir.path()).unwrap();
        assert_eq!(again.get().generation, generation(3));
        // A directory in the way of the file that is written aside.
        std::fs::create_dir(dir.path().join(".journal.new")).unwrap();
        assert!(
            again
                .update(|it| it.generation = generation(4))
                .await
                .is_err()
        );
        assert_eq!(again.get().generation, generation(3));
    }

    #[test]
    fn every_torn_or_flipped_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop(JournalFile::open(dir.path()).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let said = JournalFile::open(dir.path()).unwrap_err().to_string();
            assert!(said.contains("tamer-agent recover"), "cut at {cut}: {said}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            assert!(JournalFile::open(dir.path()).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn a_lost_journal_is_not_taken_for_a_first_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(JournalFile::open(dir.path()).unwrap());
        Acceptance::default().write(dir.path()).unwrap();
        std::fs::remove_file(dir.path().join("journal")).unwrap();
        assert!(matches!(
            JournalFile::open(dir.path()),
            Err(JournalError::Damaged { .. })
        ));
        let journal = recover(dir.path(), |_, _| None).unwrap();
        assert!(journal.recovered);
        assert_eq!(*JournalFile::open(dir.path()).unwrap().get(), journal);
    }

    #[test]
    fn one_process_at_a_time_uses_a_state_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::take(dir.path()).unwrap();
        assert!(matches!(
            StateLock::take(dir.path()),
            Err(JournalError::InUse { .. })
        ));
        drop(first);
        StateLock::take(dir.path()).unwrap();
    }
}
