//! What every path of a release looked like when it was judged last.
//!
//! ```text
//! tamer-record 1 <sha256 of the rest>\n
//! manifest's digest (32) · end of the last full look, ms since 1970 (0: never) · number of paths
//! path by path, in the order of walking:
//!     bytes shared with the path before · further bytes · these bytes
//!     what is known (1 byte) · [size mtime ctime inode mode user group] · [changes (1 byte) · evidence (32)]
//! ```
//! Numbers are LEB128, signed ones zigzag; about 50 bytes a path. In memory it is the same bytes: a release may
//! have very many paths.

use super::entries::{Cursor, Damaged, Entries, Reader, Verdict, Writer};
use tamer_core::digest::Digest;
use tamer_core::drift::{Difference, Drift};
use tamer_core::moment::Moment;
use tamer_core::path::{Shown, walk_order};
use tamer_kit::hash::{Hasher, sha256};

/// The largest record that is read, in bytes: room for millions of paths.
pub const MAX_RECORD: u64 = 256 << 20;

/// The first words of the file.
const MAGIC: &str = "tamer-record 1 ";

/// What was seen of a release, and what was judged of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The digest of the release's manifest.
    pub manifest: Digest,
    /// When everything was last read.
    pub read: Option<Moment>,
    /// Every path, in the order of walking.
    pub(super) entries: Entries,
}

// === impl Record ===

impl Record {
    /// What differs, with at most `most` differences named; `None`: nothing.
    pub fn drift(&self, most: usize) -> Option<Drift> {
        let mut said = Said::new(&self.manifest, most);
        let mut cursor = self.entries.cursor();
        while let Some((path, known)) = cursor.next() {
            if let Some(verdict) = &known.verdict {
                said.differs(path, verdict);
            }
        }
        said.drift()
    }

    /// How many paths it knows.
    pub fn len(&self) -> usize {
        self.entries.count as usize
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The record as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(64);
        head.extend_from_slice(self.manifest.as_bytes());
        let mut numbers = Writer(&mut head);
        numbers.number(self.read.map_or(0, |read| read.0));
        numbers.number(self.entries.count);
        let mut hasher = Hasher::default();
        hasher.update(&head);
        hasher.update(&self.entries.bytes);
        let magic = format!("{MAGIC}{}\n", hasher.finish());
        [magic.as_bytes(), &head, &self.entries.bytes].concat()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Damaged`]: these are not the bytes of a record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let end = bytes.iter().position(|&b| b == b'\n').ok_or(Damaged)?;
        let (head, body) = (&bytes[..end], &bytes[end + 1..]);
        if head != format!("{MAGIC}{}", sha256(body)).as_bytes() {
            return Err(Damaged);
        }
        let mut body = Reader(body);
        let manifest = body.digest()?;
        let read = body.number()?;
        let count = body.number()?;
        let bytes = body.0;
        let mut cursor = Cursor::of(count, bytes);
        let mut last: Option<Vec<u8>> = None;
        while cursor.try_next()?.is_some() {
            let path = &cursor.path;
            match &mut last {
                Some(last) if walk_order(last, path).is_ge() => return Err(Damaged),
                Some(last) => last.clone_from(path),
                None => last = Some(path.clone()),
            }
        }
        if !cursor.rest.0.is_empty() {
            return Err(Damaged);
        }
        Ok(Self {
            manifest,
            read: Some(Moment(read)).filter(|read| read.0 != 0),
            entries: Entries {
                count,
                bytes: bytes.to_vec(),
                last: last.unwrap_or_default(),
            },
        })
    }
}

/// What differs, said path by path.
pub(super) struct Said {
    most: usize,
    hasher: Hasher,
    total: u64,
    differences: Vec<Difference>,
}

impl Said {
    pub(super) fn new(manifest: &Digest, most: usize) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(manifest.as_bytes());
        Self {
            most,
            hasher,
            total: 0,
            differences: Vec::new(),
        }
    }

    pub(super) fn differs(&mut self, path: &[u8], verdict: &Verdict) {
        self.hasher.update(&(path.len() as u64).to_le_bytes());
        self.hasher.update(path);
        self.hasher.update(&[verdict.changes.0]);
        self.hasher.update(verdict.evidence.as_bytes());
        let path = if path.is_empty() { b"." } else { path };
        for change in verdict.changes.iter() {
            self.total += 1;
            if self.differences.len() < self.most {
                self.differences.push(Difference {
                    path: Shown(path).to_string(),
                    change,
                });
            }
        }
    }

    /// As a drift; `None`: nothing does.
    pub(super) fn drift(self) -> Option<Drift> {
        (self.total > 0).then(|| Drift {
            digest: self.hasher.finish(),
            total: self.total,
            differences: self.differences,
        })
    }
}
