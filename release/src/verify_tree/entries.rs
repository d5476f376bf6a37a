//! Paths, and what is known of each, as bytes: in the record's file and in memory, for a release may have very many.

use tamer_core::digest::Digest;
use tamer_core::drift::Change;
use tamer_core::moment::Moment;

/// How long after a change a further one may leave no trace in the change time: a few ticks of the kernel's
/// clock; where times have no fraction of a second, what the coarsest file systems need.
const TICKS: u64 = 50;
const COARSE: u64 = 2_000;

/// Paths in the order of walking, and what is known of each, as the record's file has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Entries {
    pub(super) count: u64,
    pub(super) bytes: Vec<u8>,
    /// The last path.
    pub(super) last: Vec<u8>,
}

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    /// What `stat` said when it was judged; `None`: it is gone, or it was changed too shortly before to
    /// be vouched for.
    pub(super) stat: Option<Stat>,
    /// How it differs from what was deployed; `None`: not at all.
    pub(super) verdict: Option<Verdict>,
}

/// Goes through [`Entries`].
pub(super) struct Cursor<'a> {
    left: u64,
    pub(super) rest: Reader<'a>,
    pub(super) path: Vec<u8>,
    known: Known,
}

/// How a path differs, and what is there instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) changes: Changes,
    pub(super) evidence: Digest,
}

/// Several changes of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Changes(pub(super) u8);

/// What `stat` says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) size: u64,
    pub(super) modified: Time,
    pub(super) changed: Time,
    pub(super) inode: u64,
    /// With the bits that say what it is.
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
}

/// A time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
}

/// The record is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is damaged")]
pub struct Damaged;

// === impl Stat ===

impl Stat {
    /// Whether a further change is bound to show in the change time, seen at `now`.
    pub(super) fn vouches(&self, now: Moment) -> bool {
        let milliseconds =
            i128::from(self.changed.seconds) * 1_000 + i128::from(self.changed.nanos / 1_000_000);
        let margin = if self.is_fine() { TICKS } else { COARSE };
        milliseconds + i128::from(margin) <= i128::from(now.0)
    }

    /// Whether the change time has a fraction of a second.
    pub(super) fn is_fine(&self) -> bool {
        self.changed.nanos != 0
    }
}

impl From<&rustix::fs::Stat> for Stat {
    fn from(stat: &rustix::fs::Stat) -> Self {
        // The widths of these fields differ between architectures.
        let time = |seconds: i64, nanos: u64| Time {
            seconds,
            nanos: nanos as u32,
        };
        Self {
            size: stat.st_size as u64,
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            mode: stat.st_mode,
            user: stat.st_uid,
            group: stat.st_gid,
        }
    }
}

// === impl Changes ===

impl Changes {
    pub(super) fn add(&mut self, change: Change) {
        self.0 |= Self::bit(change);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, change: Change) -> bool {
        self.0 & Self::bit(change) != 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Change> {
        Change::ALL
            .into_iter()
            .filter(move |change| self.has(*change))
    }

    fn bit(change: Change) -> u8 {
        match change {
            Change::Added => 1,
            Change::Removed => 2,
            Change::Kind => 4,
            Change::Content => 8,
            Change::Mode => 16,
            Change::Owner => 32,
            Change::Target => 64,
            Change::Capabilities => 128,
        }
    }
}

// === impl Known ===

impl Known {
    /// Whether nothing was there.
    pub(super) fn is_removed(&self) -> bool {
        let removed = |verdict: Verdict| verdict.changes.has(Change::Removed);
        self.verdict.is_some_and(removed)
    }
}

// === impl Entries ===

impl Entries {
    /// Adds a path, which comes after all others.
    pub(super) fn push(&mut self, path: &[u8], known: &Known) {
        let shared = self.last.iter().zip(path).take_while(|(a, b)| a == b);
        let shared = shared.count();
        let mut writer = Writer(&mut self.bytes);
        writer.number(shared as u64);
        writer.number((path.len() - shared) as u64);
        writer.0.extend_from_slice(&path[shared..]);
        let bits = u8::from(known.stat.is_some()) | u8::from(known.verdict.is_some()) << 1;
        writer.0.push(bits);
        if let Some(stat) = &known.stat {
            writer.stat(stat);
        }
        if let Some(verdict) = &known.verdict {
            writer.0.push(verdict.changes.0);
            writer.0.extend_from_slice(verdict.evidence.as_bytes());
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(&path[shared..]);
        self.count += 1;
    }

    /// The last path that was added.
    pub(super) fn last(&self) -> &[u8] {
        &self.last
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In front of the first one.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor::of(self.count, &self.bytes)
    }
}

impl<'a> Cursor<'a> {
    /// In front of the first of `count` paths.
    pub(super) fn of(count: u64, bytes: &'a [u8]) -> Self {
        Self {
            left: count,
            rest: Reader(bytes),
            path: Vec::new(),
            known: Known::default(),
        }
    }

    /// The next path, and what is known of it.
    pub(super) fn next(&mut self) -> Option<(&[u8], &Known)> {
        // What is here was written here, or read once already: it is not damaged.
        self.try_next().ok().flatten()?;
        Some((&self.path, &self.known))
    }

    /// The path that [`Cursor::next`] gave last, and what is known of it.
    pub(super) fn here(&self) -> (&[u8], &Known) {
        (&self.path, &self.known)
    }

    pub(super) fn try_next(&mut self) -> Result<Option<()>, Damaged> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let shared = usize::try_from(self.rest.number()?).map_err(|_| Damaged)?;
        let further = usize::try_from(self.rest.number()?).map_err(|_| Damaged)?;
        if shared > self.path.len() {
            return Err(Damaged);
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(self.rest.take(further)?);
        let bits = self.rest.byte()?;
        self.known.stat = (bits & 1 != 0).then(|| self.rest.stat()).transpose()?;
        self.known.verdict = (bits & 2 != 0).then(|| self.rest.verdict()).transpose()?;
        Ok(Some(()))
    }
}

// === bytes ===

pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn time(&mut self, time: Time) {
        self.number(((time.seconds << 1) ^ (time.seconds >> 63)) as u64);
        self.number(u64::from(time.nanos));
    }

    fn stat(&mut self, stat: &Stat) {
        self.number(stat.size);
        self.time(stat.modified);
        self.time(stat.changed);
        self.number(stat.inode);
        for number in [stat.mode, stat.user, stat.group] {
            self.number(u64::from(number));
        }
    }
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            number |= part.checked_shl(shift).ok_or(Damaged)?;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }

    fn small(&mut self) -> Result<u32, Damaged> {
        u32::try_from(self.number()?).map_err(|_| Damaged)
    }

    fn time(&mut self) -> Result<Time, Damaged> {
        let zigzag = self.number()?;
        Ok(Time {
            seconds: (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64),
            nanos: self.small()?,
        })
    }

    fn stat(&mut self) -> Result<Stat, Damaged> {
        Ok(Stat {
            size: self.number()?,
            modified: self.time()?,
            changed: self.time()?,
            inode: self.number()?,
            mode: self.small()?,
            user: self.small()?,
            group: self.small()?,
        })
    }

    pub(super) fn digest(&mut self) -> Result<Digest, Damaged> {
        Digest::try_from(self.take(32)?).map_err(|_| Damaged)
    }

    fn verdict(&mut self) -> Result<Verdict, Damaged> {
        let changes = Changes(self.byte()?);
        if changes.is_empty() {
            return Err(Damaged);
        }
        Ok(Verdict {
            changes,
            evidence: self.digest()?,
        })
    }
}
