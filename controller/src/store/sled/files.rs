//! The directory of a store: what lies where, its lock, and copies of it.
//!
//! ```text
//! <dir>/lock            held by whoever has the store open
//! <dir>/data/           sled's files (db, conf, snap.*) and `head`; swapped as one
//! <dir>/probe-<pid>/    a copy of data/ while it is probed
//! <dir>/fresh/          a new data/ while it is made
//! <dir>/set-aside-<n>/  what was in the way: never deleted by Tamer
//! ```

use crate::store::StoreError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tamer_kit::durable::{self, FileError};

/// What the directory of a probe's copy is called, before the process id.
const PROBE: &str = "probe-";

/// A process that was killed while it started a probe leaves the lock for a moment with the child,
/// which gives it back at its exec. So a lock is asked for so many times, with such pauses.
pub(crate) const PATIENCE: usize = 50;
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// The lock of a store's directory; given back when it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// The parts of a store's directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// sled's files and the head.
    pub(crate) data: PathBuf,
    /// A copy to be probed.
    pub(crate) probe: PathBuf,
    /// A new `data` under way.
    pub(crate) fresh: PathBuf,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            data: dir.join("data"),
            // Named after the process: the probe of one that was killed may still be at work.
            probe: dir.join(format!("{PROBE}{}", std::process::id())),
            fresh: dir.join("fresh"),
        }
    }

    /// Takes the lock, or says who is in the way; makes the directory if asked to.
    pub(crate) fn lock(&self, make: bool) -> Result<Lock, StoreError> {
        if make {
            durable::create_dir_all(&self.dir, 0o700)?;
        }
        let path = self.dir.join("lock");
        let missing = || StoreError::Missing {
            dir: self.dir.clone(),
        };
        let file = match File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
        {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(missing()),
            Err(e) => return Err(FileError::new("open", &path)(e).into()),
        };
        let mut file = file;
        for _ in 0..PATIENCE {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Lock { _file: file }),
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, e)) => return Err(FileError::new("lock", &path)(e.into()).into()),
            }
            std::thread::sleep(PAUSE);
        }
        Err(StoreError::InUse {
            dir: self.dir.clone(),
        })
    }

    /// Whether there is a store.
    pub(crate) fn exists(&self) -> bool {
        self.data.is_dir()
    }

    /// A new directory `set-aside-<n>`.
    pub(crate) fn set_aside(&self) -> Result<PathBuf, StoreError> {
        for n in 1u32.. {
            let place = self.dir.join(format!("set-aside-{n}"));
            match fs::create_dir(&place) {
                Ok(()) => {
                    durable::sync_dir(&self.dir)?;
                    return Ok(place);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(FileError::new("create", &place)(e).into()),
            }
        }
        Err(FileError::new("create", &self.dir)(ErrorKind::QuotaExceeded.into()).into())
    }

    /// Copies `data` to `probe`; clears away what killed processes left.
    pub(crate) fn copy_for_probe(&self) -> Result<(), StoreError> {
        for left in list(&self.dir, |name| name.starts_with(PROBE))? {
            if let Err(error) = remove(&left) {
                tracing::warn!(%error, "an old probe is left where it is");
            }
        }
        copy_dir(&self.data, &self.probe)
    }
}

/// Removes a directory of our own making, with all in it, if it is there.
pub(crate) fn remove(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(FileError::new("remove", dir)(e).into()),
        _ => Ok(()),
    }
}

/// The files in `dir` whose names `wanted` takes.
pub(crate) fn list(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(FileError::new("list", dir))? {
        let entry = entry.map_err(FileError::new("list", dir))?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The bytes of all files under `dir`.
pub(crate) fn bytes_in(dir: &Path) -> Result<u64, StoreError> {
    let mut sum = 0;
    for path in list(dir, |_| true)? {
        let meta = fs::symlink_metadata(&path).map_err(FileError::new("look at", &path))?;
        sum += if meta.is_dir() {
            bytes_in(&path)?
        } else {
            meta.len()
        };
    }
    Ok(sum)
}

/// Syncs every file and directory under `dir`, and its name.
pub(crate) fn sync_tree(dir: &Path) -> Result<(), StoreError> {
    for path in list(dir, |_| true)? {
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(FileError::new("fsync", &path))?;
        }
    }
    durable::sync_dir(dir)?;
    Ok(durable::sync_parent(dir)?)
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), StoreError> {
    durable::create_dir_all(to, 0o700)?;
    for path in list(from, |_| true)? {
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() {
            copy_dir(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name)).map_err(FileError::new("copy", &path))?;
        }
    }
    Ok(())
}
