//! One open sled database with its head: verified when it is opened, written in sealed groups.
//!
//! Every call into sled goes through [`calmly`]: on damage sled panics as often as it returns an
//! error, and a panic here must end in an error that names the store.

use super::files::{PATIENCE, PAUSE};
use super::head::Head;
use crate::store::frame::{self, Header, SEAL_KEY, Seal};
use crate::store::key::{Key, Op};
use crate::store::{Batch, StoreError, maintain::Report};
use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tamer_kit::durable::FileError;

/// sled's page cache, in bytes. Its default is 1 GB, which a controller for a few thousand hosts
/// has no use for.
const CACHE: u64 = 32 << 20;

/// The read side: many may have it.
#[derive(Clone)]
pub(crate) struct Reader {
    db: sled::Db,
    data: PathBuf,
}

/// The write side: one has it.
pub(crate) struct Engine {
    reader: Reader,
    file: File,
    head: Head,
    seal: Seal,
    report: Report,
}

/// Takes an object that is walked past, and says whether to go on.
pub(crate) type Each<'a> = dyn FnMut(&Key, Header, &[u8]) -> ControlFlow<()> + 'a;

/// A group of batches that is not written yet.
pub(crate) struct Staged {
    /// The seal once it is written.
    pub(crate) seal: Seal,
    changed: HashMap<Vec<u8>, Option<Header>>,
    writes: sled::Batch,
}

impl Engine {
    /// Makes a new, empty database at `revision` in `data`, which must not be there.
    pub(crate) fn create(data: &Path, revision: u64) -> Result<Self, StoreError> {
        tamer_kit::durable::create_dir_all(data, 0o700)?;
        let seal = Seal {
            revision,
            ..Seal::default()
        };
        let reader = Reader::open(data)?;
        calmly("write", data, || {
            reader.db.insert(SEAL_KEY, &seal.to_bytes()[..])?;
            reader.db.flush()
        })?;
        Head::create(data, seal)?;
        // sled syncs neither `conf` nor the directory.
        super::files::sync_tree(data)?;
        Self::with(reader)
    }

    /// Opens the database in `data` and reads all of it.
    pub(crate) fn open(data: &Path) -> Result<Self, StoreError> {
        // Before sled: it would make an empty database where it finds none.
        Head::open(data)?;
        Self::with(Reader::open(data)?)
    }

    fn with(reader: Reader) -> Result<Self, StoreError> {
        let data = reader.data.clone();
        let (head, acknowledged) = Head::open(&data)?;
        let (seal, report) = reader.verify(acknowledged)?;
        let path = data.join("db");
        let file = File::open(&path).map_err(FileError::new("open", &path))?;
        Ok(Self {
            reader,
            file,
            head,
            seal,
            report,
        })
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What was found when it was opened.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    pub(crate) fn seal(&self) -> Seal {
        self.seal
    }

    /// From now on no write succeeds, as on a broken disk.
    #[cfg(test)]
    pub(crate) fn break_head(&mut self) {
        self.head.break_it();
    }

    /// An empty group upon what is there.
    pub(crate) fn stage(&self) -> Staged {
        Staged {
            seal: self.seal,
            changed: HashMap::new(),
            writes: sled::Batch::default(),
        }
    }

    /// Adds the changes of a batch to a group, at the revision that follows if `count` is set.
    pub(crate) fn add(
        &self,
        staged: &mut Staged,
        batch: &Batch,
        count: bool,
    ) -> Result<(), StoreError> {
        for op in batch.ops() {
            let (key, value) = match op {
                Op::Put(key, value) => (key, Some(value)),
                Op::Delete(key) => (key, None),
            };
            let raw = key.as_str().as_bytes();
            let old = match staged.changed.get(raw) {
                Some(header) => *header,
                None => self.reader.header(raw)?,
            };
            if let Some(old) = old {
                staged.seal.remove(raw, old);
            }
            let mut kept = 0;
            let mut new = None;
            if let Some(value) = value {
                let (header, pieces) = frame::pieces(key, value);
                kept = pieces.len();
                for (at, piece) in pieces {
                    staged.writes.insert(at, piece);
                }
                staged.seal.add(raw, header);
                new = Some(header);
            }
            for n in kept..old.map_or(0, Header::pieces) {
                staged.writes.remove(frame::piece_key(raw, n));
            }
            staged.changed.insert(raw.to_vec(), new);
        }
        staged.seal.revision += u64::from(count);
        Ok(())
    }

    /// Writes a group: all of it is durable, with its seal, when this returns.
    pub(crate) fn write(&mut self, staged: Staged) -> Result<(), StoreError> {
        let Staged {
            seal, mut writes, ..
        } = staged;
        writes.insert(SEAL_KEY, &seal.to_bytes()[..]);
        let data = &self.reader.data;
        calmly("write", data, || {
            self.reader.db.apply_batch(writes)?;
            self.reader.db.flush()
        })?;
        // sled's flush hands the bytes to the kernel and no further.
        self.file
            .sync_data()
            .map_err(FileError::new("fsync", &data.join("db")))?;
        self.head.record(seal)?;
        self.seal = seal;
        Ok(())
    }

    /// Makes the head anew at what was written last: of groups of one revision, it could not tell which one that was.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        let data = &self.reader.data;
        Head::create(data, self.seal)?;
        self.head = Head::open(data)?.0;
        Ok(())
    }
}

impl Reader {
    fn open(data: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(data)
            .cache_capacity(CACHE)
            // What the store needs is little space. 0.34.7 knows the modes but treats them alike.
            .mode(sled::Mode::LowSpace);
        let mut patience = PATIENCE;
        let db = loop {
            match calmly("open", data, || config.open()) {
                // Our own lock is held already, so this is a database of ours that was closed a moment
                // ago: sled lets go of its file in the background.
                Err(error) if patience > 0 && is_locked(&error) => {
                    patience -= 1;
                    std::thread::sleep(PAUSE);
                }
                other => break other?,
            }
        };
        Ok(Self {
            db,
            data: data.to_owned(),
        })
    }

    fn raw(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        calmly("read", &self.data, || self.db.get(key))
    }

    fn header(&self, key: &[u8]) -> Result<Option<Header>, StoreError> {
        let first = self.raw(key)?;
        first.map(|first| Header::read(key, &first)).transpose()
    }

    fn join(&self, key: &[u8], first: &[u8]) -> Result<(Header, Vec<u8>), StoreError> {
        frame::join(key, first, |at| {
            Ok(self.raw(at)?.map(|piece| piece.to_vec()))
        })
    }

    /// The value of one key.
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let raw = key.as_str().as_bytes();
        let Some(first) = self.raw(raw)? else {
            return Ok(None);
        };
        Ok(Some(self.join(raw, &first)?.1))
    }

    /// Shows the objects from `low` (included) to `high` (not included), in order or against it.
    pub(crate) fn walk(
        &self,
        low: &[u8],
        high: &[u8],
        reverse: bool,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        if low >= high {
            return Ok(());
        }
        let mut range = calmly("read", &self.data, || Ok(self.db.range(low..high)))?;
        loop {
            let next = calmly("read", &self.data, || {
                let next = if reverse {
                    range.next_back()
                } else {
                    range.next()
                };
                next.transpose()
            })?;
            let Some((raw, first)) = next else {
                return Ok(());
            };
            if frame::is_inner(&raw) {
                continue;
            }
            let key = frame::parse_key(&raw)?;
            let (header, value) = self.join(&raw, &first)?;
            if each(&key, header, &value).is_break() {
                return Ok(());
            }
        }
    }

    /// Reads everything and compares it with the seal inside, and that with the one acknowledged.
    pub(crate) fn verify(&self, acknowledged: Seal) -> Result<(Seal, Report), StoreError> {
        let lost = |why: String| {
            Err(StoreError::Lost {
                dir: self.data.clone(),
                why,
            })
        };
        let stored = self.raw(SEAL_KEY)?;
        let Some(seal) = stored.and_then(|bytes| Seal::from_bytes(&bytes)) else {
            return lost("its seal is missing or damaged".to_owned());
        };
        let mut found = Seal {
            revision: seal.revision,
            ..Seal::default()
        };
        let (mut live_bytes, mut pieces) = (0, 1);
        self.walk(&[1], &[0xff], false, &mut |key, header, value| {
            let raw = key.as_str().as_bytes();
            found.add(raw, header);
            pieces += header.pieces();
            live_bytes += (raw.len() + value.len()) as u64;
            ControlFlow::Continue(())
        })?;
        if found != seal {
            let (is, was) = (found.objects, seal.objects);
            return lost(format!(
                "{is} objects are there, {was} were written, and they are not the same"
            ));
        }
        let raw_keys = calmly("read", &self.data, || Ok(self.db.len()))?;
        if raw_keys != pieces {
            return lost(format!(
                "{raw_keys} pieces are there, {pieces} belong there"
            ));
        }
        if seal.revision < acknowledged.revision
            || (seal.revision == acknowledged.revision && seal != acknowledged)
        {
            let (is, was) = (seal.revision, acknowledged.revision);
            return lost(format!(
                "it is at revision {is}, but revision {was} was acknowledged"
            ));
        }
        let report = Report {
            revision: seal.revision,
            objects: seal.objects,
            live_bytes,
            disk_bytes: super::files::bytes_in(&self.data)?,
            blobs: super::files::list(&self.data.join("blobs"), |_| true)?.len() as u64,
        };
        Ok((seal, report))
    }
}

/// Calls into sled, and makes an error of a panic.
fn calmly<T>(
    operation: &'static str,
    data: &Path,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, StoreError> {
    let engine = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Engine {
        operation,
        dir: data.to_owned(),
        source,
    };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(engine(error.into())),
        Err(panic) => Err(engine(panic_text(panic.as_ref()).into())),
    }
}

/// Whether sled could not get its own lock; it has no error of its own for that.
fn is_locked(error: &StoreError) -> bool {
    matches!(error, StoreError::Engine { source, .. } if source.to_string().contains("could not acquire lock"))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without a word"))
}
