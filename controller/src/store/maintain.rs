//! What an operator does to a store at rest: restore, compact, check.
//!
//! Each holds the store's lock, builds the new database beside the old one, and swaps the two with
//! one `renameat2(RENAME_EXCHANGE)`: at every instant there is one whole store.

use super::backup::{self, Contents};
use super::sled::engine::Engine;
use super::sled::files::{self, Layout};
use super::sled::probe;
use super::{Batch, Key, StoreError, epoch};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tamer_core::moment::Moment;
use tamer_kit::durable;

/// Below this size on disk, in bytes, a store is not worth compacting.
const WORTHWHILE: u64 = 64 << 20;
/// With so many times its live data on disk a store is mostly dead.
const DEAD: u64 = 8;
/// How much is imported in one write, in bytes.
const IMPORT: usize = 256 << 10;

/// What is in a store, all of it read and found whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The revision.
    pub revision: u64,
    /// The number of objects.
    pub objects: u64,
    /// The bytes of their keys and values.
    pub live_bytes: u64,
    /// The bytes of the database's files.
    pub disk_bytes: u64,
    /// Blob files, which sled makes of large pages, never syncs and never shrinks: should be 0.
    pub blobs: u64,
}

impl Report {
    /// Whether compacting is worth its time.
    pub fn is_mostly_dead(&self) -> bool {
        self.disk_bytes > WORTHWHILE && self.disk_bytes / DEAD > self.live_bytes
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup held.
    pub contents: Contents,
    /// The new epoch.
    pub epoch: u64,
    /// Where the store lies that was in place before.
    pub set_aside: Option<PathBuf>,
}

/// Reads everything in the store in `dir`, on a copy, and changes nothing.
///
/// # Errors
/// [`StoreError`]: what is damaged or missing.
pub fn check(dir: &Path, exe: &Path) -> Result<Report, StoreError> {
    let layout = Layout::new(dir);
    let _lock = layout.lock(false)?;
    probe::look(&layout, exe)
}

/// Takes the lock of the store in `dir`, and lets it go again.
///
/// # Errors
/// [`StoreError::InUse`], or that there is none.
pub fn lock(dir: &Path) -> Result<(), StoreError> {
    Layout::new(dir).lock(false).map(drop)
}

/// Writes the store in `dir` anew, without its dead space; gives the reports before and after.
///
/// # Errors
/// [`StoreError`]; the store is then as it was.
pub fn compact(dir: &Path, exe: &Path) -> Result<(Report, Report), StoreError> {
    let layout = Layout::new(dir);
    let _lock = layout.lock(false)?;
    let before = probe::make_openable(&layout, exe)?;
    let after = rewrite(&layout)?;
    Ok((before, after))
}

/// [`compact`], under a lock that is held and after a probe that went well.
pub(crate) fn rewrite(layout: &Layout) -> Result<Report, StoreError> {
    files::remove(&layout.fresh)?;
    let source = Engine::open(&layout.data)?;
    let mut import = Import::new(&layout.fresh, source.seal().revision)?;
    let mut failed = None;
    source.reader().walk(
        &[1],
        &[0xff],
        false,
        &mut |key, _, value| match import.object(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    if let Some(error) = failed {
        return Err(error);
    }
    let written = import.finish()?;
    if written.seal() != source.seal() {
        return Err(StoreError::Lost {
            dir: layout.fresh.clone(),
            why: "the copy is not like the original, which is left in place".to_owned(),
        });
    }
    drop((source, written));
    // Read again as it lies there, before the old one goes.
    let report = Engine::open(&layout.fresh)?.report().clone();
    durable::exchange(&layout.fresh, &layout.data)?;
    files::remove(&layout.fresh)?;
    Ok(report)
}

/// Makes a store of the backup `file` in `dir`; the one that is there, whatever its state, is set
/// aside whole. In the directory `state` the epoch rises above every earlier one, and the marker
/// is set that makes the controller start held.
///
/// # Errors
/// [`StoreError`]; the old store is then still in place, though held and under a new epoch.
pub fn restore(file: &Path, dir: &Path, state: &Path, now: Moment) -> Result<Restored, StoreError> {
    let contents = backup::verify(file)?;
    let layout = Layout::new(dir);
    let _lock = layout.lock(true)?;
    // First: a crash at any later point leaves a controller that holds still.
    epoch::hold(state, &format!("restored from {}", file.display()))?;
    let epoch = epoch::bump(state, contents.epoch, now)?;
    epoch::note_restored(state, contents.written)?;
    let place = layout.set_aside()?;
    let fresh = place.join("data");
    let mut import = Import::new(&fresh, contents.revision)?;
    backup::read(file, &mut |key, value| import.object(&key, &value))?;
    drop(import.finish()?);
    drop(Engine::open(&fresh)?);
    let set_aside = if layout.exists() {
        durable::exchange(&fresh, &layout.data)?;
        Some(place)
    } else {
        durable::rename(&fresh, &layout.data)?;
        None
    };
    Ok(Restored {
        contents,
        epoch,
        set_aside,
    })
}

/// A new database under way.
struct Import {
    engine: Engine,
    batch: Batch,
}

impl Import {
    fn new(data: &Path, revision: u64) -> Result<Self, StoreError> {
        Ok(Self {
            engine: Engine::create(data, revision)?,
            batch: Batch::default(),
        })
    }

    fn object(&mut self, key: &Key, value: &[u8]) -> Result<(), StoreError> {
        if self.batch.size() >= IMPORT {
            self.write()?;
        }
        let added = self.batch.put(key.clone(), value.to_vec());
        added.map_err(|error| StoreError::Damaged {
            key: error.to_string(),
            why: "it does not fit into a store",
        })
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let mut staged = self.engine.stage();
        let batch = std::mem::take(&mut self.batch);
        self.engine.add(&mut staged, &batch, false)?;
        self.engine.write(staged)
    }

    fn finish(mut self) -> Result<Engine, StoreError> {
        self.write()?;
        self.engine.settle()?;
        Ok(self.engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_store_of_mostly_dead_space_is_compacted_at_start() {
        let with = |live_bytes, disk_bytes| Report {
            revision: 1,
            objects: 1,
            live_bytes,
            disk_bytes,
            blobs: 0,
        };
        let mib = 1 << 20;
        assert!(!with(1, 64 * mib).is_mostly_dead());
        assert!(with(10 * mib, 100 * mib).is_mostly_dead());
        assert!(!with(20 * mib, 100 * mib).is_mostly_dead());
    }
}
