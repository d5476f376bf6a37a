//! The audit log: who did what, why, and when; append-only and hash-chained.
//!
//! A file of JSON lines outside the database. Each line begins with its own hash, which is the
//! SHA-256 of the line's bytes behind it, and these hold the hash of the line before. So a line that
//! was changed, removed, inserted or moved breaks the chain. Lines cut off at the *end* can be told
//! only by whoever kept a [`Head`]: see [`verify`].

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;
use tamer_kit::durable::{self, FileError};
use tamer_kit::hash;

/// The longest line, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When it was done.
    pub at: Moment,
    /// Who did it: an operator, or the controller itself.
    pub who: String,
    /// What was done: `deploy`, `host.invite` …
    pub action: String,
    /// To what: `production shop@1.4.2`.
    pub object: String,
    /// Why, where a reason was given or demanded.
    pub reason: Option<String>,
    /// Whatever else belongs to it.
    pub details: serde_json::Value,
}

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
struct Link {
    line: u64,
    prev: Digest,
    entry: Entry,
}

/// Why an audit log can't be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has it open.
    #[error("the audit log {path} is in use by another process", path = .0.display())]
    InUse(PathBuf),
    /// Its end is not what was written.
    #[error("the audit log {path} is broken", path = .path.display())]
    Broken {
        /// The log.
        path: PathBuf,
        /// Where and how.
        #[source]
        source: Broken,
    },
    /// An entry is too long to be one line.
    #[error("an audit entry of {0} bytes is too long: {MAX_LINE} are allowed")]
    TooLong(usize),
    /// A write failed earlier; what is on disk is known only after opening it again.
    #[error("the audit log stopped after a failed write")]
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

/// An open audit log; one a file.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: Flock<File>,
    length: u64,
    head: Head,
    stopped: bool,
}

// === impl AuditLog ===

impl AuditLog {
    /// Opens the log, or makes it. A torn last line, which was never acknowledged, is moved to
    /// `<path>.torn-<n>` with a warning.
    ///
    /// # Errors
    /// [`AuditError`]; [`AuditError::Broken`] if the last whole line is not what was written.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
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
                return Err(AuditError::InUse(path.to_owned()));
            }
            Err((_, e)) => return Err(FileError::new("lock", path)(e.into()).into()),
        };
        durable::sync_parent(path)?;
        let (head, length) = recover(&file, path)?;
        Ok(Self {
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
    /// [`AuditError`]; after a failed write the log takes nothing more until it is opened again.
    pub fn append(&mut self, entries: &[Entry]) -> Result<Head, AuditError> {
        if self.stopped {
            return Err(AuditError::Stopped);
        }
        let (mut head, mut bytes) = (self.head, Vec::new());
        for entry in entries {
            let (line, next) = line(head, entry);
            if line.len() > MAX_LINE {
                return Err(AuditError::TooLong(line.len()));
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
fn recover(file: &File, path: &Path) -> Result<(Head, u64), AuditError> {
    let read = |error| AuditError::from(FileError::new("read", path)(error));
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
        return Err(AuditError::Broken { path, source });
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
            "the audit log ended in a torn line, which was never acknowledged: it is set aside"
        );
    }
    if whole == 0 {
        return Ok((START, kept));
    }
    let last = &tail[last_start(whole)..whole - 1];
    let (hash, link) = parse(last).map_err(|why| AuditError::Broken {
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
fn line(head: Head, entry: &Entry) -> (Vec<u8>, Head) {
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
fn parse(line: &[u8]) -> Result<(Digest, Link), String> {
    let not_one = || "it is not a line of an audit log".to_owned();
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

/// What a whole log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The last line's place; its number is that of all lines.
    pub head: Head,
    /// The first and the last entry's time.
    pub span: Option<(Moment, Moment)>,
}

/// Reads a whole log and checks every link; with `known`, a head that was kept elsewhere, also that
/// nothing was cut off or rewritten up to there.
///
/// # Errors
/// [`AuditError::Broken`] with the first line that is wrong; or the file can't be read.
pub fn verify(path: &Path, known: Option<Head>) -> Result<Summary, AuditError> {
    let broken = |line, why: String| AuditError::Broken {
        path: path.to_owned(),
        source: Broken { line, why },
    };
    let file = File::open(path).map_err(FileError::new("open", path))?;
    let mut input = BufReader::new(file);
    let (mut head, mut span) = (START, None);
    let mut seen = known.is_none_or(|known| known == START);
    loop {
        let mut bytes = Vec::new();
        let n = (&mut input)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|e: io::Error| AuditError::from(FileError::new("read", path)(e)))?;
        if n == 0 {
            break;
        }
        let number = head.line + 1;
        if bytes.pop() != Some(b'\n') {
            return Err(broken(number, "it is cut short or too long".to_owned()));
        }
        let (hash, link) = parse(&bytes).map_err(|why| broken(number, why))?;
        if link.prev != head.hash || link.line != number {
            let why =
                "it does not follow the line before it: a line was removed, inserted or moved";
            return Err(broken(number, why.to_owned()));
        }
        head = Head { line: number, hash };
        seen |= known == Some(head);
        let first = span.map_or(link.entry.at, |(first, _)| first);
        span = Some((first, link.entry.at));
    }
    if !seen {
        let line = known.map_or(0, |known| known.line);
        let why = "the log that was known to hold this line does not: it was cut off or rewritten";
        return Err(broken(line, why.to_owned()));
    }
    Ok(Summary { head, span })
}

#[cfg(test)]
mod tests;
