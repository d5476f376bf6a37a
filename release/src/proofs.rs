//! A release's evidence as one file: a bundle a line, the oldest first. The controller keeps it so beside the
//! signed metadata, hands it out so, and an agent keeps so what it accepted a release by.
//!
//! What a bundle proves is for [`crate::attest::judge()`], and for each agent; here is only who has a place.

use crate::attest::bundle::{BadBundle, Bundle};
use crate::attest::judge::SKEW;
use crate::attest::statement::{Approved, Claim, Run};
use crate::attest::{CommitId, Statement, Subject, key_hint};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::digest::Digest;
use tamer_core::evidence::{EvidenceKind, VerifyingKey};
use tamer_core::id::EnvironmentName;
use tamer_core::moment::Moment;
use tamer_kit::hash::sha256;

/// The largest bundle that is kept, in bytes.
pub const MAX_LINE: usize = 256 << 10;

/// The most bundles that are kept for one release.
pub const MAX_LINES: usize = 64;

/// The most bytes that are kept for one release.
pub const MAX_FILE: u64 = 4 << 20;

/// How many of the bundles of a release may be strangers': see [`Kept`].
pub const MAX_STRANGERS: usize = 16;

/// The most bytes that strangers' bundles of one release may have.
pub const MAX_STRANGERS_BYTES: usize = 1 << 20;

/// Why a bundle is not added.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// It is not a bundle.
    #[error("this is no evidence: {0}")]
    Shape(#[from] BadBundle),
    /// It is too large to be kept.
    #[error("the bundle has {0} bytes, and {MAX_LINE} are the most")]
    TooLarge(usize),
    /// There is no room for it.
    #[error(
        "the release has {lines} bundles of {bytes} bytes: {MAX_LINES} bundles and {MAX_FILE} bytes are the most"
    )]
    Full {
        /// How many it has.
        lines: usize,
        /// How many bytes they have.
        bytes: usize,
    },
    /// No environment wants it, and there is no room for more of those.
    #[error(
        "no environment lists the key of this bundle for this release, and it has {lines} such bundles of {bytes} \
         bytes: {MAX_STRANGERS} and {MAX_STRANGERS_BYTES} bytes are the most. List the key in the file of an \
         environment (`tamer env apply`), then attach it again"
    )]
    Strangers {
        /// How many such bundles it has.
        lines: usize,
        /// How many bytes they have.
        bytes: usize,
    },
}

/// Where a controller gives the evidence of the release with this manifest: `evidence/<sha256>`.
pub fn path(manifest: &Digest) -> String {
    format!("evidence/{manifest}")
}

/// The bundles of a file.
pub fn bundles(file: &[u8]) -> Vec<&[u8]> {
    let lines = file.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty()).collect()
}

/// The keys that environments list, by what bundles call them.
#[derive(Debug, Clone, Default)]
pub struct Listed(BTreeMap<Digest, VerifyingKey>);

impl FromIterator<VerifyingKey> for Listed {
    fn from_iter<I: IntoIterator<Item = VerifyingKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key_hint(&key), key)).collect())
    }
}

impl Listed {
    /// What a listed key signed.
    fn read(&self, bundle: &Bundle) -> Option<Stated> {
        let by = bundle.key()?;
        let payload = bundle.envelope.verify(self.0.get(&by)?)?;
        Some(Stated {
            by,
            payload: sha256(payload),
            statement: Statement::parse(payload).ok()?,
        })
    }
}

/// The evidence of a release that is to have more.
///
/// Whoever may attach evidence must not be able to fill a release's places with rubbish, so that what an environment
/// demands finds none. A bundle that a listed key signed, about this release or the commit of such a build, has a
/// place among all, and once: the same words of the same key are not kept again, however they are wrapped. All others
/// are strangers', and have [`MAX_STRANGERS`] of the places. That is judged whenever more comes, so a key may
/// be listed after it has signed.
///
/// Only the newest of what a key says of one thing decides anything. Once all places are taken, what a listed key has
/// said anew since makes room, the oldest of it first: no number of runs stands in the way of the next one.
#[derive(Debug)]
pub struct Kept<'a> {
    manifest: &'a Digest,
    listed: &'a Listed,
    lines: Vec<Line>,
    now: Moment,
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    stated: Option<Stated>,
}

/// What a listed key said.
#[derive(Debug)]
struct Stated {
    by: Digest,
    payload: Digest,
    statement: Statement,
}

/// Who says something, and of what: the newest of what is said of it counts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Topic<'a> {
    by: Digest,
    /// `None` for an approval.
    kind: Option<EvidenceKind>,
    /// Where something is approved.
    environment: Option<&'a EnvironmentName>,
    /// Whether it is about the release; a review is about commits.
    release: bool,
    commits: BTreeSet<&'a CommitId>,
}

impl Stated {
    fn topic<'a>(&'a self, manifest: &Digest, built: &BTreeSet<&CommitId>) -> Topic<'a> {
        let is_review = matches!(self.statement.claim, Claim::Review(_));
        let commits = self.statement.subjects.iter().filter_map(|it| match it {
            Subject::Commit(commit) if is_review && built.contains(commit) => Some(commit),
            _ => None,
        });
        Topic {
            by: self.by,
            kind: self.statement.kind(),
            environment: match &self.statement.claim {
                Claim::Approval(Approved { plan, .. }) => Some(&plan.environment),
                _ => None,
            },
            release: !is_review && self.statement.is_about(manifest),
            commits: commits.collect(),
        }
    }

    /// The commit that the release was built from, as this says.
    fn commit(&self, manifest: &Digest) -> Option<&CommitId> {
        match &self.statement.claim {
            Claim::Build(build) if self.statement.is_about(manifest) => Some(&build.commit),
            _ => None,
        }
    }
}

impl<'a> Kept<'a> {
    /// What this file has at this time, of the release with this manifest.
    pub fn read(file: &[u8], manifest: &'a Digest, listed: &'a Listed, now: Moment) -> Self {
        let line = |bytes: &[u8]| Line {
            bytes: bytes.to_vec(),
            stated: Bundle::parse(bytes).ok().and_then(|it| listed.read(&it)),
        };
        Self {
            manifest,
            listed,
            lines: bundles(file).into_iter().map(line).collect(),
            now,
        }
    }

    /// Adds a bundle; `false` where it is there already.
    ///
    /// # Errors
    /// [`NotAdded`].
    pub fn add(&mut self, bundle: &[u8]) -> Result<bool, NotAdded> {
        if bundle.len() > MAX_LINE {
            return Err(NotAdded::TooLarge(bundle.len()));
        }
        // Written anew, it is one line; payload and signature stay byte for byte.
        let bundle = Bundle::parse(bundle)?;
        let bytes = bundle.to_json();
        if self.lines.iter().any(|it| it.bytes == bytes) {
            return Ok(false);
        }
        let stated = self.listed.read(&bundle);
        let same = |it: &Stated, other: &Stated| (it.by, it.payload) == (other.by, other.payload);
        let mut before = self.lines.iter().filter_map(|it| it.stated.as_ref());
        if let Some(stated) = &stated
            && before.any(|it| same(it, stated))
        {
            return Ok(false);
        }
        let line = Line { bytes, stated };
        if self.is_strangers(&line) {
            self.has_room_for_strangers(&line)?;
        }
        let (lines, bytes) = (self.len(), self.bytes());
        self.lines.push(line);
        match self.without_outdated() {
            Some(rest) => {
                self.lines = rest;
                Ok(true)
            }
            None => {
                self.lines.truncate(lines);
                Err(NotAdded::Full { lines, bytes })
            }
        }
    }

    fn has_room_for_strangers(&self, line: &Line) -> Result<(), NotAdded> {
        let strangers = || self.lines.iter().filter(|it| self.is_strangers(it));
        let (lines, bytes) = (
            strangers().count(),
            strangers().map(|it| it.bytes.len()).sum(),
        );
        match lines >= MAX_STRANGERS || bytes + line.bytes.len() > MAX_STRANGERS_BYTES {
            true => Err(NotAdded::Strangers { lines, bytes }),
            false => Ok(()),
        }
    }

    fn is_strangers(&self, line: &Line) -> bool {
        let Some(stated) = &line.stated else {
            return true;
        };
        let commits = self.commits();
        let is_built =
            |subject: &Subject| matches!(subject, Subject::Commit(of) if commits.contains(of));
        !stated.statement.is_about(self.manifest) && !stated.statement.subjects.iter().any(is_built)
    }

    /// The commits that the release was built from, as listed keys say.
    fn commits(&self) -> BTreeSet<&CommitId> {
        let said = self.lines.iter().filter_map(|it| it.stated.as_ref());
        said.filter_map(|it| it.commit(self.manifest)).collect()
    }

    /// The lines that have room, without as many of the outdated ones as need be; `None` where that is not enough, or
    /// the last line would be one of them.
    fn without_outdated(&mut self) -> Option<Vec<Line>> {
        let (mut lines, mut bytes) = (self.len(), self.bytes() as u64);
        let mut outdated = self.outdated().into_iter();
        let mut gone = BTreeSet::new();
        while lines > MAX_LINES || bytes > MAX_FILE {
            let number = outdated.next().filter(|it| it + 1 < self.len())?;
            gone.insert(number);
            lines -= 1;
            bytes -= self.lines[number].bytes.len() as u64 + 1;
        }
        let all = std::mem::take(&mut self.lines).into_iter().zip(0..);
        let rest = all.filter(|(_, number)| !gone.contains(number));
        Some(rest.map(|(line, _)| line).collect())
    }

    /// The numbers of the lines that decide nothing any more, because the same key has said the same kind of thing
    /// anew, of the same: the oldest first. What is dated in the future does not count yet.
    fn outdated(&self) -> Vec<usize> {
        let commits = self.commits();
        let mut newest = BTreeMap::new();
        let mut outdated = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            let Some(stated) = line.stated.as_ref().filter(|_| !self.is_strangers(line)) else {
                continue;
            };
            let at = stated.statement.claim.at();
            let failed = matches!(
                &stated.statement.claim,
                Claim::Run(Run { passed: false, .. })
            );
            // As `judge` has it: of two at the same time the one that failed, and then the first.
            let rank = (at.since(self.now) <= SKEW, at, failed, Reverse(number));
            let before = newest
                .entry(stated.topic(self.manifest, &commits))
                .or_insert(rank);
            if *before != rank {
                outdated.push(rank.min(*before));
                *before = rank.max(*before);
            }
        }
        outdated.sort_unstable();
        outdated.into_iter().map(|it| it.3.0).collect()
    }

    /// How many bundles there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn bytes(&self) -> usize {
        self.lines.iter().map(|it| it.bytes.len() + 1).sum()
    }

    /// All of them as a file.
    pub fn to_file(&self) -> Vec<u8> {
        let lines = self.lines.iter().flat_map(|it| [&it.bytes[..], b"\n"]);
        lines.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::dsse::Envelope;

    const RELEASE: Digest = Digest::new([7; 32]);
    const NOW: Moment = Moment(1_800_000_000_000);

    fn bundle(n: usize) -> Vec<u8> {
        let payload = format!("{{\"n\":{n}}}").into_bytes();
        let bundle = Bundle {
            hint: "somebody".to_owned(),
            envelope: Envelope::new(payload, vec![7; 70], "ci"),
        };
        bundle.to_json()
    }

    #[test]
    fn a_bundle_is_one_line_and_is_kept_once_and_there_is_an_end() {
        let value: serde_json::Value = serde_json::from_slice(&bundle(0)).unwrap();
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        let listed = Listed::default();
        let mut kept = Kept::read(b"", &RELEASE, &listed, NOW);
        assert!(kept.add(&pretty).unwrap());
        assert_eq!(bundles(&kept.to_file()), [bundle(0)]);
        assert!(!kept.add(&bundle(0)).unwrap());
        for n in 1..MAX_STRANGERS {
            assert!(kept.add(&bundle(n)).unwrap());
        }
        let file = kept.to_file();
        let mut kept = Kept::read(&file, &RELEASE, &listed, NOW);
        assert_eq!(kept.len(), MAX_STRANGERS);
        let more = kept.add(&bundle(MAX_STRANGERS));
        assert!(matches!(more, Err(NotAdded::Strangers { .. })));
        assert!(!kept.add(&bundle(3)).unwrap());
        assert_eq!(kept.to_file(), file);
    }

    #[test]
    fn what_is_no_bundle_is_not_kept() {
        let listed = Listed::default();
        let mut kept = Kept::read(b"", &RELEASE, &listed, NOW);
        assert!(matches!(kept.add(b"{}"), Err(NotAdded::Shape(_))));
        let large = vec![b' '; MAX_LINE + 1];
        assert!(matches!(kept.add(&large), Err(NotAdded::TooLarge(_))));
        assert!(kept.is_empty());
    }
}
