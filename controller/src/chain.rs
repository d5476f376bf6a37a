//! A file of lines that hang together ([`tamer_kit::chain`]): append-only, durable before it is believed.
//!
//! It lies outside the database. The audit log, the revocations and the record of migrations are such logs.

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
pub use tamer_kit::chain::{Broken, Head, MAX_LINE, START};
use tamer_kit::chain::{Follower, line, read_line};
use tamer_kit::durable::{self, FileError};

/// Why such a log can't be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has it open.
    #[error("the log {path} is in use by another process", path = .0.display())]
    InUse(PathBuf),
    /// Its end is not what was written.
    #[error("the log {path} is broken", path = .path.display())]
    Broken {
        /// The log.
        path: PathBuf,
        /// Where and how.
        #[source]
        source: Broken,
    },
    /// An entry is too long to be one line.
    #[error("an entry of {0} bytes is too long: {MAX_LINE} are allowed")]
    TooLong(usize),
    /// A write failed earlier; what is on disk is known only after opening it again.
    #[error("the log stopped after a failed write")]
    Stopped,
}

/// An open log of entries `T`; one a file.
#[derive(Debug)]
pub struct Chain<T> {
    entries: PhantomData<fn(&T)>,
    path: PathBuf,
    file: Flock<File>,
    length: u64,
    head: Head,
    stopped: bool,
}

// === impl Chain ===

impl<T: Serialize + DeserializeOwned> Chain<T> {
    /// Opens the log, or makes it. A torn last line, which was never acknowledged, is moved to
    /// `<path>.torn-<n>` with a warning.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Broken`] if the last whole line is not what was written.
    pub fn open(path: &Path) -> Result<Self, ChainError> {
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(FileError::new("open", path))?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(ChainError::InUse(path.to_owned()));
            }
            Err((_, e)) => return Err(FileError::new("lock", path)(e.into()).into()),
        };
        durable::sync_parent(path)?;
        let (head, length) = recover::<T>(&file, path)?;
        Ok(Self {
            entries: PhantomData,
            path: path.to_owned(),
            file,
            length,
            head,
            stopped: false,
        })
    }

    /// The place of the last line.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Appends entries, in order; all of them are durable when this returns.
    ///
    /// # Errors
    /// [`ChainError`]; after a failed write the log takes nothing more until it is opened again.
    pub fn append(&mut self, entries: &[T]) -> Result<Head, ChainError> {
        if self.stopped {
            return Err(ChainError::Stopped);
        }
        let (mut head, mut bytes) = (self.head, Vec::new());
        for entry in entries {
            let (line, next) = line(head, entry);
            if line.len() > MAX_LINE {
                return Err(ChainError::TooLong(line.len()));
            }
            bytes.extend(line);
            head = next;
        }
        let written = (&*self.file)
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.stopped = true;
            return Err(FileError::new("write", &self.path)(error).into());
        }
        self.head = head;
        self.length += bytes.len() as u64;
        Ok(head)
    }

    /// The length of the log, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Finds the last line; takes away what is torn behind it.
fn recover<T: DeserializeOwned>(file: &File, path: &Path) -> Result<(Head, u64), ChainError> {
    let read = |error| ChainError::from(FileError::new("read", path)(error));
    let length = file.metadata().map_err(read)?.len();
    // Room for a torn line, the last one, and the end of the one before.
    let window = length.min(3 * MAX_LINE as u64);
    let mut tail = vec![0; usize::try_from(window).unwrap_or(3 * MAX_LINE)];
    file.read_exact_at(&mut tail, length - window)
        .map_err(read)?;
    let mut whole = tail.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    // After a power cut a block that was never written reads as zeros, which JSON never holds.
    let last_start = |whole: usize| {
        let before = &tail[..whole.saturating_sub(1)];
        before
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |n| n + 1)
    };
    while whole > 0 && tail[last_start(whole)..whole].contains(&0) {
        whole = last_start(whole);
    }
    if whole == 0 && window < length {
        let why = "no line ends where one must".to_owned();
        let source = Broken { line: 0, why };
        let path = path.to_owned();
        return Err(ChainError::Broken { path, source });
    }
    let kept = length - window + whole as u64;
    if kept < length {
        let place = set_aside(path, &tail[whole..])?;
        file.set_len(kept)
            .and_then(|()| file.sync_all())
            .map_err(FileError::new("cut", path))?;
        tracing::warn!(
            log = %path.display(),
            place = %place.display(),
            bytes = length - kept,
            "a log ended in a torn line, which was never acknowledged: it is set aside"
        );
    }
    if whole == 0 {
        return Ok((START, kept));
    }
    let last = &tail[last_start(whole)..whole - 1];
    let (head, _) = read_line::<T>(last).map_err(|why| ChainError::Broken {
        path: path.to_owned(),
        source: Broken { line: 0, why },
    })?;
    Ok((head, kept))
}

fn set_aside(path: &Path, torn: &[u8]) -> Result<PathBuf, FileError> {
    let mut n = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".torn-{n}"));
        let place = PathBuf::from(name);
        if !place.exists() {
            durable::replace(&place, torn, 0o600)?;
            return Ok(place);
        }
        n += 1;
    }
}

/// Reads a whole log, checks every link and shows every entry to `each`; with `known`, a head that was
/// kept elsewhere, also that nothing was cut off or rewritten up to there.
///
/// # Errors
/// [`ChainError::Broken`] with the first line that is wrong; or the file can't be read.
pub fn read<T: DeserializeOwned>(
    path: &Path,
    known: Option<Head>,
    each: &mut dyn FnMut(T),
) -> Result<Head, ChainError> {
    let broken = |source| ChainError::Broken {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(FileError::new("open", path))?;
    let mut input = BufReader::new(file);
    let mut follower = Follower::new(known);
    loop {
        let mut bytes = Vec::new();
        let n = (&mut input)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|e: io::Error| ChainError::from(FileError::new("read", path)(e)))?;
        if n == 0 {
            break;
        }
        if bytes.pop() != Some(b'\n') {
            let (line, why) = (follower.head().line + 1, "it is cut short or too long");
            let why = why.to_owned();
            return Err(broken(Broken { line, why }));
        }
        each(follower.next(&bytes).map_err(broken)?);
    }
    follower.end().map_err(broken)
}
