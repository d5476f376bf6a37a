//! The default store: sled 0.34.7, behind a guard for each of its limits.
//!
//! | limit | guard |
//! |---|---|
//! | `flush` never fsyncs | `sync_data` on our own descriptor before any answer (`engine`) |
//! | damage can lose keys silently | a seal over all objects, verified at every open ([`crate::store::frame`]) |
//! | a cut log looks like an older store | the acknowledged seal, kept beside it (`head`) |
//! | opening a damaged store may panic, or write | it is probed first: a copy, in a child process ([`probe`]) |
//! | torn snapshot files | set aside, and read again from the log ([`probe`]) |
//! | blob files are never synced and never shrink | pieces that are too small for them ([`crate::store::frame`]) |
//! | errors leave memory and disk apart | the first failure stops the store (`writer`) |
//! | dead space | compacted at start-up ([`crate::store::maintain`]) |

pub(crate) mod engine;
pub(crate) mod files;
pub(crate) mod head;
pub mod probe;
mod writer;

use super::{Batch, Key, Scan, Store, StoreError, Ticket, maintain};
use engine::{Engine, Reader};
use files::{Layout, Lock};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use tamer_kit::durable::FileError;
use writer::Request;

/// What readers and the writer share; whoever reads holds it, so that nothing is read that is not
/// durable yet.
#[derive(Debug)]
pub(crate) struct Shared {
    revision: u64,
    stopped: Option<String>,
}

pub(crate) type Gate = RwLock<Shared>;

/// A store in a directory; see the [module](self).
pub struct SledStore {
    reader: Reader,
    gate: Arc<Gate>,
    requests: Option<Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    _lock: Lock,
}

impl SledStore {
    /// Makes a new, empty store at revision 0 in `dir`.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Exists`] where one is.
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(dir);
        let lock = layout.lock(true)?;
        if layout.exists() {
            return Err(StoreError::Exists {
                dir: dir.to_owned(),
            });
        }
        files::remove(&layout.fresh)?;
        drop(Engine::create(&layout.fresh, 0)?);
        tamer_kit::durable::rename(&layout.fresh, &layout.data)?;
        Self::start(&layout, lock)
    }

    /// Opens the store in `dir`: probes it first in a child process, for which `exe` must be a
    /// program that calls [`probe::probe_main`] when it is started with
    /// [`probe::ARGUMENT`] and a directory; compacts it if it holds mostly dead space.
    ///
    /// # Errors
    /// [`StoreError`]. Nothing is deleted; torn snapshot files may have been set aside.
    pub fn open(dir: &Path, exe: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(dir);
        let lock = layout.lock(false)?;
        let report = probe::make_openable(&layout, exe)?;
        if report.is_mostly_dead() {
            tracing::info!(
                live = report.live_bytes,
                disk = report.disk_bytes,
                "the store holds mostly dead space: compacting"
            );
            // A disk without room for the copy is no reason to serve nobody.
            if let Err(error) = maintain::rewrite(&layout) {
                let _ = files::remove(&layout.fresh);
                tracing::warn!(%error, "cannot compact the store");
            }
        }
        Self::start(&layout, lock)
    }

    /// Opens the store in `dir` in this process at once. For tests, and for what was probed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_unprobed(dir: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(dir);
        let lock = layout.lock(false)?;
        if !layout.exists() {
            return Err(StoreError::Missing {
                dir: dir.to_owned(),
            });
        }
        Self::start(&layout, lock)
    }

    fn start(layout: &Layout, lock: Lock) -> Result<Self, StoreError> {
        Self::with(Engine::open(&layout.data)?, layout, lock)
    }

    fn with(engine: Engine, layout: &Layout, lock: Lock) -> Result<Self, StoreError> {
        let reader = engine.reader().clone();
        let gate = Arc::new(RwLock::new(Shared {
            revision: engine.seal().revision,
            stopped: None,
        }));
        let (requests, queue) = channel();
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let gate = Arc::clone(&gate);
                move || writer::run(engine, &gate, &queue)
            })
            .map_err(FileError::new("start the writer of", &layout.dir))?;
        Ok(Self {
            reader,
            gate,
            requests: Some(requests),
            writer: Some(writer),
            _lock: lock,
        })
    }

    fn gate(&self) -> Result<RwLockReadGuard<'_, Shared>, StoreError> {
        let shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        match &shared.stopped {
            None => Ok(shared),
            Some(why) => Err(StoreError::Stopped { why: why.clone() }),
        }
    }
}

pub(crate) fn lock_for_writing(gate: &Gate) -> RwLockWriteGuard<'_, Shared> {
    // The writer catches its own panics and records them; the lock's mark says nothing more.
    gate.write().unwrap_or_else(PoisonError::into_inner)
}

impl Store for SledStore {
    fn revision(&self) -> u64 {
        self.gate
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .revision
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let _durable = self.gate()?;
        self.reader.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let (mut low, mut high) = bounds(&scan.prefix);
        match &scan.from {
            // Directly behind `from` and its pieces comes `from` with a byte of 1.
            Some(from) if scan.reverse => {
                high = high.min([from.as_str().as_bytes(), &[1]].concat());
            }
            Some(from) => low = low.max(from.as_str().as_bytes().to_vec()),
            None => {}
        }
        let mut found = Vec::new();
        if scan.limit == 0 {
            return Ok(found);
        }
        let _durable = self.gate()?;
        self.reader
            .walk(&low, &high, scan.reverse, &mut |key, _, value| {
                found.push((key.clone(), value.to_vec()));
                if found.len() < scan.limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        Ok(found)
    }

    fn visit(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(&Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        let shared = self.gate()?;
        let (low, high) = bounds(prefix);
        self.reader
            .walk(&low, &high, false, &mut |key, _, value| each(key, value))?;
        Ok(shared.revision)
    }

    fn submit(&self, expected: u64, batch: Batch) -> Ticket {
        let (answer, ticket) = Ticket::new();
        let request = Request {
            expected,
            batch,
            answer,
        };
        // Without a writer the answer's end is dropped, and the ticket says that it was closed.
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
        ticket
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Raw keys from the first with this prefix to behind the last: keys are ASCII, and the seal lies
/// before them all.
fn bounds(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    let low = if prefix.is_empty() {
        vec![1]
    } else {
        prefix.as_bytes().to_vec()
    };
    (low, [prefix.as_bytes(), &[0xff]].concat())
}

/// What both stores must do alike is tested in `store_twins`; here is what only sled can do wrong.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::CommitError;
    use crate::store::frame::SEAL_KEY;
    use crate::store::key::MAX_VALUE;

    fn batch(puts: &[(&str, usize)]) -> Batch {
        let mut batch = Batch::default();
        for (key, size) in puts {
            batch.put(key.parse().unwrap(), vec![7; *size]).unwrap();
        }
        batch
    }

    fn filled(dir: &Path) {
        let store = SledStore::create(dir).unwrap();
        let objects = batch(&[("host/a", 10), ("host/b", 10), ("big/a", MAX_VALUE)]);
        assert_eq!(store.commit(0, objects).unwrap(), 1);
    }

    /// Changes the database behind the store's back, as silent damage would.
    fn tamper(dir: &Path, change: impl FnOnce(&::sled::Db)) {
        let db = ::sled::Config::new().path(dir.join("data")).open().unwrap();
        change(&db);
        db.flush().unwrap();
    }

    fn refusal(dir: &Path) -> String {
        SledStore::open_unprobed(dir).err().unwrap().to_string()
    }

    #[test]
    fn a_second_opener_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::create(dir.path()).unwrap();
        assert!(refusal(dir.path()).contains("in use by another process"));
        drop(store);
        SledStore::open_unprobed(dir.path()).unwrap();
        assert!(matches!(
            SledStore::create(dir.path()),
            Err(StoreError::Exists { .. })
        ));
    }

    #[test]
    fn where_no_store_is_none_is_made_by_opening() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refusal(dir.path()).contains("tamer-controller init"));
        assert!(refusal(&dir.path().join("none")).contains("tamer-controller init"));
        filled(dir.path());
        let is_snapshot = |name: &str| name.starts_with("snap.");
        let data = dir.path().join("data");
        std::fs::remove_file(data.join("db")).unwrap();
        refusal(dir.path());
        for snapshot in files::list(&data, is_snapshot).unwrap() {
            std::fs::remove_file(snapshot).unwrap();
        }
        // sled makes a new, empty database of this, without a word.
        assert!(refusal(dir.path()).contains("its seal is missing"));
    }

    #[test]
    fn a_key_that_is_silently_gone_is_told() {
        for gone in [&b"host/a"[..], SEAL_KEY] {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path());
            tamper(dir.path(), |db| drop(db.remove(gone).unwrap()));
            assert!(refusal(dir.path()).contains("lost data"));
        }
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        tamper(dir.path(), |db| drop(db.remove(b"big/a\0\x03").unwrap()));
        assert!(refusal(dir.path()).contains("the value of `big/a` is damaged"));
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        tamper(dir.path(), |db| {
            drop(db.insert(b"big/z\0\x01", b"x").unwrap());
        });
        assert!(refusal(dir.path()).contains("pieces"));
    }

    #[test]
    fn a_consistent_but_older_database_is_told() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let old = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.copy_for_probe().unwrap();
        let store = SledStore::open_unprobed(dir.path()).unwrap();
        store.commit(1, batch(&[("host/c", 3)])).unwrap();
        drop(store);
        // The older database, whole, under the newer head.
        std::fs::copy(dir.path().join("data/head"), layout.probe.join("head")).unwrap();
        std::process::Command::new("cp")
            .arg("-r")
            .arg(&layout.probe)
            .arg(old.path().join("data"))
            .status()
            .unwrap();
        let said = refusal(old.path());
        assert!(said.contains("revision 2 was acknowledged"), "{said}");
    }

    #[test]
    fn after_a_failed_write_nothing_is_answered_and_all_acknowledged_is_there() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let layout = Layout::new(dir.path());
        let lock = layout.lock(false).unwrap();
        let mut engine = Engine::open(&layout.data).unwrap();
        engine.break_head();
        let store = SledStore::with(engine, &layout, lock).unwrap();
        let failed = store.commit(1, batch(&[("host/c", 1)]));
        assert!(matches!(failed, Err(CommitError::Failed(_))), "{failed:?}");
        let later = store.commit(1, batch(&[("host/d", 1)]));
        assert!(matches!(later, Err(CommitError::Failed(_))), "{later:?}");
        assert!(matches!(store.load(""), Err(StoreError::Stopped { .. })));
        assert_eq!(store.revision(), 1);
        drop(store);
        // Batch 2 was not answered: it may be there, but then whole.
        let store = SledStore::open_unprobed(dir.path()).unwrap();
        let loaded = store.load("host/").unwrap();
        let hosts = usize::try_from(loaded.revision).unwrap() + 1;
        assert_eq!(loaded.objects.len(), hosts);
    }

    #[test]
    fn large_values_and_long_keys_make_no_blob_files() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::create(dir.path()).unwrap();
        let long = "k".repeat(crate::store::key::MAX_KEY - 9);
        for round in 0..40u64 {
            let keys: Vec<String> = (0..8)
                .map(|n| format!("{n}/{long}{:03}", (round * 7 + n) % 60))
                .collect();
            let puts: Vec<_> = keys.iter().map(|k| (k.as_str(), MAX_VALUE)).collect();
            store.commit(round, batch(&puts)).unwrap();
        }
        let blobs = files::list(&dir.path().join("data/blobs"), |_| true).unwrap();
        assert!(blobs.is_empty(), "{} blobs", blobs.len());
        drop(store);
        SledStore::open_unprobed(dir.path()).unwrap();
    }
}
