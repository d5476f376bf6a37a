//! A backup: one file with everything in it, which says of itself whether it is whole.
//!
//! ```text
//! header   "TAMERBK1"  epoch u64  written u64 (ms since 1970)
//! record   1 u8  key length u16  value length u32  key  value     in the order of keys
//! trailer  0 u8  number of records u64  revision u64  SHA-256 of all before it
//! ```
//!
//! Numbers are little-endian. The file is written aside, synced and renamed.

use super::key::{Key, MAX_KEY, MAX_VALUE};
use super::{Store, StoreError};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tamer_core::moment::Moment;
use tamer_kit::durable::{self, FileError};
use tamer_kit::hash::{HashingReader, HashingWriter};

const MAGIC: &[u8; 8] = b"TAMERBK1";
const SUFFIX: &str = ".tamer-backup";
/// The header: magic and two numbers.
const HEAD: usize = 24;

/// What a backup says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// The store's revision when it was made.
    pub revision: u64,
    /// The controller's epoch when it was made.
    pub epoch: u64,
    /// When it was made.
    pub written: Moment,
    /// The number of objects.
    pub objects: u64,
}

/// Writes a backup of everything in `store` into `dir`; gives its path. Commits wait while the
/// objects are read.
///
/// # Errors
/// [`StoreError`]; there is then no new backup.
pub fn backup(
    store: &dyn Store,
    dir: &Path,
    epoch: u64,
    now: Moment,
) -> Result<PathBuf, StoreError> {
    durable::create_dir_all(dir, 0o700)?;
    let aside = dir.join(".backup.new");
    let made = write(store, &aside, epoch, now);
    let revision = match made {
        Ok(revision) => revision,
        Err(error) => {
            let _ = fs::remove_file(&aside);
            return Err(error);
        }
    };
    let path = dir.join(format!("{:016}-r{revision}{SUFFIX}", now.0));
    durable::rename(&aside, &path)?;
    Ok(path)
}

fn write(store: &dyn Store, path: &Path, epoch: u64, now: Moment) -> Result<u64, StoreError> {
    let io = |error| StoreError::from(FileError::new("write", path)(error));
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let mut out = HashingWriter::new(BufWriter::new(file));
    out.write_all(MAGIC).map_err(io)?;
    out.write_all(&epoch.to_le_bytes()).map_err(io)?;
    out.write_all(&now.0.to_le_bytes()).map_err(io)?;
    let (mut objects, mut failed) = (0u64, None);
    let revision = store.visit("", &mut |key, value| {
        objects += 1;
        match record(&mut out, key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    let end = (|| {
        if let Some(error) = failed {
            return Err(error);
        }
        out.write_all(&[0])?;
        out.write_all(&objects.to_le_bytes())?;
        out.write_all(&revision.to_le_bytes())?;
        let (mut inner, digest) = out.finish();
        inner.write_all(digest.as_bytes())?;
        inner.into_inner().map_err(io::Error::from)?.sync_all()
    })();
    end.map_err(io)?;
    Ok(revision)
}

fn record(out: &mut impl Write, key: &Key, value: &[u8]) -> io::Result<()> {
    let key = key.as_str().as_bytes();
    out.write_all(&[1])?;
    out.write_all(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes())?;
    out.write_all(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes())?;
    out.write_all(key)?;
    out.write_all(value)
}

/// Reads a backup and checks every byte of it.
///
/// # Errors
/// [`StoreError::BadBackup`], or that it can't be read.
pub fn verify(file: &Path) -> Result<Contents, StoreError> {
    read(file, &mut |_, _| Ok(()))
}

/// Shows every object of a backup to `each`, then checks the whole: only when this returns may
/// what was shown be trusted.
///
/// # Errors
/// [`StoreError::BadBackup`], that it can't be read, or what `each` said.
pub fn read(
    file: &Path,
    each: &mut dyn FnMut(Key, Vec<u8>) -> Result<(), StoreError>,
) -> Result<Contents, StoreError> {
    let bad = |why: &str| StoreError::BadBackup {
        file: file.to_owned(),
        why: why.to_owned(),
    };
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("it is cut short"),
        _ => FileError::new("read", file)(error).into(),
    };
    let open = File::open(file).map_err(FileError::new("open", file))?;
    let mut raw = BufReader::new(open);
    let mut input = HashingReader::new(&mut raw);
    let mut head = [0; HEAD];
    input.read_exact(&mut head).map_err(io)?;
    if &head[..8] != MAGIC {
        return Err(bad("it is not a backup, or one of a later version"));
    }
    let mut contents = Contents {
        revision: 0,
        epoch: number(&head[8..16]),
        written: Moment(number(&head[16..24])),
        objects: 0,
    };
    let mut last: Option<Key> = None;
    loop {
        let mut tag = [0];
        input.read_exact(&mut tag).map_err(io)?;
        match tag {
            [1] => {}
            [0] => break,
            _ => return Err(bad("a record in it is damaged")),
        }
        let mut lengths = [0; 6];
        input.read_exact(&mut lengths).map_err(io)?;
        let key_length = number(&lengths[..2]) as usize;
        let value_length = number(&lengths[2..]) as usize;
        if key_length > MAX_KEY || value_length > MAX_VALUE {
            return Err(bad("a record in it is damaged"));
        }
        let mut key = vec![0; key_length];
        input.read_exact(&mut key).map_err(io)?;
        let mut value = vec![0; value_length];
        input.read_exact(&mut value).map_err(io)?;
        let key = String::from_utf8(key).ok().and_then(|k| k.parse().ok());
        let key: Key = key.ok_or_else(|| bad("a key in it is damaged"))?;
        if last.is_some_and(|last| last >= key) {
            return Err(bad("its keys are not in order"));
        }
        last = Some(key.clone());
        contents.objects += 1;
        each(key, value)?;
    }
    let mut end = [0; 16];
    input.read_exact(&mut end).map_err(io)?;
    contents.revision = number(&end[8..]);
    let (digest, _) = input.finish();
    let mut written = [0; 32];
    raw.read_exact(&mut written).map_err(io)?;
    let mut behind = [0];
    if raw.read(&mut behind).map_err(io)? != 0 {
        return Err(bad("something follows its end"));
    }
    if number(&end[..8]) != contents.objects || digest.as_bytes() != &written {
        return Err(bad("its checksum does not agree"));
    }
    Ok(contents)
}

/// The backups in `dir`, the newest first; none if there is no such directory.
///
/// # Errors
/// [`StoreError::File`].
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let is_backup = |name: &str| name.ends_with(SUFFIX) && !name.starts_with('.');
    let mut found = super::sled::files::list(dir, is_backup)?;
    found.reverse();
    Ok(found)
}

/// Whether the newest backup in `dir` was made longer than `every` ago, or there is none.
///
/// # Errors
/// [`StoreError::File`].
pub fn is_due(dir: &Path, now: Moment, every: Duration) -> Result<bool, StoreError> {
    let newest = list(dir)?.into_iter().next();
    let made = newest.as_deref().and_then(|file| {
        let name = file.file_name()?.to_str()?;
        name.split('-').next()?.parse().ok().map(Moment)
    });
    Ok(made.is_none_or(|made| now.since(made) >= every))
}

/// The newest backup in `dir` that is whole, and what it holds; damaged ones are passed over with
/// a warning.
///
/// # Errors
/// [`StoreError::File`].
pub fn newest(dir: &Path) -> Result<Option<(PathBuf, Contents)>, StoreError> {
    for file in list(dir)? {
        match verify(&file) {
            Ok(contents) => return Ok(Some((file, contents))),
            Err(error) => tracing::warn!(%error, "a backup is passed over"),
        }
    }
    Ok(None)
}

/// Removes all but the `keep` newest backups in `dir`; gives what was removed. The newest one that
/// is whole stays, however many damaged ones are newer.
///
/// # Errors
/// [`StoreError::File`].
pub fn rotate(dir: &Path, keep: usize) -> Result<Vec<PathBuf>, StoreError> {
    let old: Vec<_> = list(dir)?.into_iter().skip(keep).collect();
    if old.is_empty() {
        return Ok(old);
    }
    let whole = newest(dir)?.map(|(file, _)| file);
    let mut removed = Vec::new();
    for file in old {
        if Some(&file) != whole.as_ref() {
            fs::remove_file(&file).map_err(FileError::new("remove", &file))?;
            removed.push(file);
        }
    }
    durable::sync_dir(dir)?;
    Ok(removed)
}

fn number(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(wide)
}
