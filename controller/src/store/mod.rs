//! Where the controller keeps what it must not forget: a narrow, ordered map of small values
//! that changes in whole batches, each against the revision that its writer has seen.
//!
//! | module | what it holds |
//! |---|---|
//! | [`key`] | keys, batches and their limits |
//! | [`frame`] | how a value lies on disk, and the seal over all of them |
//! | [`memory`] | the twin for tests, with faults on demand |
//! | [`sled`] | the default: sled 0.34.7 and a guard against each of its limits |
//! | [`backup`], [`maintain`] | one-file backups; restore, compact, check |
//! | [`epoch`] | what lies outside the database: the epoch and the `held` marker |
//!
//! Nothing outside [`sled`] knows sled's types: the trait fits etcd's transactions as well.
//! All calls but [`Store::submit`] block; from async code they go through `spawn_blocking`.

pub mod backup;
pub mod epoch;
pub mod frame;
pub mod key;
pub mod maintain;
pub mod memory;
pub mod sled;

pub use key::{BadEntry, Batch, Key, MAX_BATCH, MAX_KEY, MAX_VALUE, Op};

use std::future::Future;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tamer_kit::durable::FileError;
use tokio::sync::oneshot;

/// An ordered map of [`Key`] to bytes with one revision that rises by one with every batch.
pub trait Store: Send + Sync + 'static {
    /// The revision of the last durable batch; 0 in a new store.
    fn revision(&self) -> u64;

    /// The value of `key`, if it has one.
    ///
    /// # Errors
    /// [`StoreError`], also for a damaged value.
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError>;

    /// A stretch of the map, see [`Scan`].
    ///
    /// # Errors
    /// [`StoreError`], also for a damaged value.
    fn scan(&self, scan: &Scan) -> Result<Vec<(Key, Vec<u8>)>, StoreError>;

    /// Shows every object under `prefix` to `each`, in order and as of one revision, which is the
    /// answer. Batches wait meanwhile: `each` must be quick.
    ///
    /// # Errors
    /// [`StoreError`], also for a damaged value.
    fn visit(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(&Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<u64, StoreError>;

    /// Hands over a batch that was made upon revision `expected`, and returns at once. Batches are
    /// applied in the order of this call, so a writer need not wait for one answer before it hands
    /// over the next batch, upon `expected + 1`.
    fn submit(&self, expected: u64, batch: Batch) -> Ticket;

    /// Hands over a batch and waits until it is durable; gives the new revision.
    ///
    /// # Errors
    /// See [`CommitError`].
    fn commit(&self, expected: u64, batch: Batch) -> Result<u64, CommitError> {
        self.submit(expected, batch).wait()
    }

    /// Everything under `prefix` (all, if it is empty), as of one revision.
    ///
    /// # Errors
    /// [`StoreError`], also for a damaged value.
    fn load(&self, prefix: &str) -> Result<Loaded, StoreError> {
        let mut objects = Vec::new();
        let revision = self.visit(prefix, &mut |key, value| {
            objects.push((key.clone(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(Loaded { revision, objects })
    }
}

/// Objects of a store as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The revision.
    pub revision: u64,
    /// The objects, in the order of their keys.
    pub objects: Vec<(Key, Vec<u8>)>,
}

/// Which stretch of the map to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Only keys that begin so; all, if it is empty.
    pub prefix: String,
    /// Where to begin, this key included; `None` for the first key in reading order.
    pub from: Option<Key>,
    /// At most so many objects.
    pub limit: usize,
    /// From the last key to the first.
    pub reverse: bool,
}

/// The answer to a batch that was handed over: a future, or something to block on.
#[derive(Debug)]
#[must_use = "a batch is durable only once its ticket says so"]
pub struct Ticket(oneshot::Receiver<Result<u64, CommitError>>);

impl Ticket {
    /// A ticket and the end on which it is answered.
    pub(crate) fn new() -> (oneshot::Sender<Result<u64, CommitError>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Blocks until the batch is durable or refused; gives the new revision.
    ///
    /// # Errors
    /// See [`CommitError`].
    ///
    /// # Panics
    /// In an async context: await the ticket there.
    pub fn wait(self) -> Result<u64, CommitError> {
        self.0
            .blocking_recv()
            .unwrap_or_else(|_| Err(CommitError::gone()))
    }
}

impl Future for Ticket {
    type Output = Result<u64, CommitError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or_else(|_| Err(CommitError::gone())))
    }
}

/// Why a batch was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// Somebody else committed first. Nothing was changed.
    #[error("the batch was made upon revision {expected}, but the store is at {found}")]
    Conflict {
        /// The revision that the writer had seen.
        expected: u64,
        /// The store's revision.
        found: u64,
    },
    /// It could not be made durable. Whether it is there is known only after opening the store
    /// again; until then the store answers nothing.
    #[error("cannot commit to the store")]
    Failed(#[source] Arc<StoreError>),
}

impl CommitError {
    fn gone() -> Self {
        Self::Failed(Arc::new(StoreError::Stopped {
            why: "it was closed".to_owned(),
        }))
    }
}

/// Why a store can't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the store in {dir} is in use by another process", dir = .dir.display())]
    InUse {
        /// The store's directory.
        dir: PathBuf,
    },
    /// There is none.
    #[error("there is no store in {dir}: `tamer-controller init` makes a new one, `tamer-controller restore` brings back a backup", dir = .dir.display())]
    Missing {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A new one was to be made where one is.
    #[error("there is already a store in {dir}", dir = .dir.display())]
    Exists {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A value is not what was written.
    #[error(
        "the value of `{key}` is damaged: {why}; `tamer-controller restore` puts the newest backup in place"
    )]
    Damaged {
        /// The key, as far as it can be shown.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something acknowledged is not there any more.
    #[error("the store in {dir} has lost data: {why}; `tamer-controller restore` puts the newest backup in place", dir = .dir.display())]
    Lost {
        /// The store's directory.
        dir: PathBuf,
        /// What is missing.
        why: String,
    },
    /// All that may be tried without risk was tried. Nothing was deleted.
    #[error("the store in {dir} can't be opened: {why}; nothing was deleted: `tamer-controller restore` puts the newest backup in place", dir = .dir.display())]
    Unopenable {
        /// The store's directory.
        dir: PathBuf,
        /// What the last try said.
        why: String,
    },
    /// The database refused or panicked.
    #[error("cannot {operation} the database in {dir}", dir = .dir.display())]
    Engine {
        /// What was tried: `open`, `read`, `write` …
        operation: &'static str,
        /// The directory.
        dir: PathBuf,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A write failed earlier, so nothing can be promised until the store is opened again.
    #[error("the store has stopped: {why}")]
    Stopped {
        /// The earlier failure.
        why: String,
    },
    /// A backup can't be used.
    #[error("the backup {file} can't be used: {why}", file = .file.display())]
    BadBackup {
        /// The backup.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file beside the database.
    #[error(transparent)]
    File(#[from] FileError),
}
