//! A log of lines that hang together: append-only, hash-chained, durable before it is believed.
//!
//! A file of JSON lines outside the database. Each line begins with its own hash, which is the
//! SHA-256 of the line's bytes behind it, and these hold the hash of the line before. So a line that
//! was changed, removed, inserted or moved breaks the chain. Lines cut off at the *end* can be told
//! only by whoever kept a [`Head`]: see [`read`]. The audit log and the revocations are such logs.

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_kit::durable::{self, FileError};
use tamer_kit::hash;

/// The longest line, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// A place in the chain. Kept elsewhere, it proves later that nothing up to it was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of the line, from 1; 0 in an empty log.
    pub line: u64,
    /// The line's hash; zeros in an empty log.
    pub hash: Digest,
}

const START: Head = Head {
    line: 0,
    hash: Digest::new([0; 32]),
};

/// What a line holds behind its hash.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link<T> {
    line: u64,
    prev: Digest,
    entry: T,
}

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

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Broken {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
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
    let (hash, link) = parse::<T>(last).map_err(|why| ChainError::Broken {
        path: path.to_owned(),
        source: Broken { line: 0, why },
    })?;
    let line = link.line;
    Ok((Head { line, hash }, kept))
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

/// The line of an entry that follows `head`, with its newline.
pub(crate) fn line<T: Serialize>(head: Head, entry: &T) -> (Vec<u8>, Head) {
    let link = serde_json::json!({ "line": head.line + 1, "prev": head.hash, "entry": entry });
    // `{"entry":…}`: everything behind the brace is hashed as it stands in the file.
    let text = link.to_string();
    let rest = &text[1..];
    let hash = hash::sha256(rest.as_bytes());
    let next = Head {
        line: head.line + 1,
        hash,
    };
    (format!("{{\"hash\":\"{hash}\",{rest}\n").into_bytes(), next)
}

/// Reads a line without its newline, and checks its own hash.
fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<(Digest, Link<T>), String> {
    let not_one = || "it is not a line of this log".to_owned();
    let behind = line.strip_prefix(b"{\"hash\":\"").ok_or_else(not_one)?;
    let (hash, behind) = behind.split_at_checked(64).ok_or_else(not_one)?;
    let rest = behind.strip_prefix(b"\",").ok_or_else(not_one)?;
    let hash: Digest = std::str::from_utf8(hash)
        .ok()
        .and_then(|hash| hash.parse().ok())
        .ok_or_else(not_one)?;
    if hash::sha256(rest) != hash {
        return Err("it was changed: its hash does not agree".to_owned());
    }
    let mut text = vec![b'{'];
    text.extend_from_slice(rest);
    let link = serde_json::from_slice(&text).map_err(|_| not_one())?;
    Ok((hash, link))
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
    let broken = |line, why: String| ChainError::Broken {
        path: path.to_owned(),
        source: Broken { line, why },
    };
    let file = File::open(path).map_err(FileError::new("open", path))?;
    let mut input = BufReader::new(file);
    let mut head = START;
    let mut seen = known.is_none_or(|known| known == START);
    loop {
        let mut bytes = Vec::new();
        let n = (&mut input)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|e: io::Error| ChainError::from(FileError::new("read", path)(e)))?;
        if n == 0 {
            break;
        }
        let number = head.line + 1;
        if bytes.pop() != Some(b'\n') {
            return Err(broken(number, "it is cut short or too long".to_owned()));
        }
        let (hash, link) = parse::<T>(&bytes).map_err(|why| broken(number, why))?;
        if link.prev != head.hash || link.line != number {
            let why =
                "it does not follow the line before it: a line was removed, inserted or moved";
            return Err(broken(number, why.to_owned()));
        }
        head = Head { line: number, hash };
        seen |= known == Some(head);
        each(link.entry);
    }
    if !seen {
        let line = known.map_or(0, |known| known.line);
        let why = "the log that was known to hold this line does not: it was cut off or rewritten";
        return Err(broken(line, why.to_owned()));
    }
    Ok(head)
}
