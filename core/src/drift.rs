//! Drift: what of a release on a host is not what was deployed.

use crate::digest::Digest;
use crate::moment::Moment;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most differences that an ordinary report names.
pub const NAMED: usize = 20;

/// The most differences of a component that are named to whoever asks for them all.
pub const NAMED_WHEN_ASKED: usize = 10_000;

/// The path of a difference that says that `current` itself is not what Tamer put there: relative to the release that
/// should run, as all of them are. No release can list it.
pub const CURRENT: &str = "../../current";

/// Somebody wants to know what differs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspect {
    /// Which wish: each has another number, so that an answer says what it answers.
    pub id: u64,
    /// Whether every byte is to be read, and not only what the record does not vouch for.
    pub full: bool,
}

/// A release that is not what was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Over the release and everything that differs, with what is there instead. Whoever adopts a drift
    /// adopts this one: each further change gives another digest.
    pub digest: Digest,
    /// How many differences there are; more than none.
    pub total: u64,
    /// The first of them, sorted by path, names before what lies below them.
    pub differences: Vec<Difference>,
}

/// One path at which a release on disk is not what was deployed, and how. A path may differ in several ways.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// Relative to the release; `.` is the release's own directory, and [`CURRENT`] the link to it.
    pub path: String,
    /// How it differs.
    pub change: Change,
}

/// How a path differs from what was deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is not in the manifest.
    Added,
    /// It is gone.
    Removed,
    /// It is something else: a directory for a file, a FIFO …
    Kind,
    /// The file's content.
    Content,
    /// Its permission bits.
    Mode,
    /// Its user or group.
    Owner,
    /// Where the link points to.
    Target,
    /// What part of root's power whoever starts the file gets.
    Capabilities,
}

/// What somebody said of a drift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// What becomes of it.
    pub way: Way,
    /// Which drift: [`Drift::digest`].
    pub digest: Digest,
    /// How many differences it had.
    pub total: u64,
    /// Who.
    pub by: String,
    /// Why; may be empty for a repair.
    pub reason: String,
    /// When.
    pub at: Moment,
}

/// What becomes of a drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It stays until the next release, which it does not keep away.
    Adopt,
    /// What was deployed is put back.
    Repair,
}

impl Drift {
    /// Whether it is `current` that was put there by hand, and not a release that was edited.
    pub fn is_of_current(&self) -> bool {
        self.differences.iter().any(|it| it.path == CURRENT)
    }

    /// The same with at most `most` differences named.
    #[must_use]
    pub fn naming(&self, most: usize) -> Self {
        Self {
            digest: self.digest,
            total: self.total,
            differences: self.differences.iter().take(most).cloned().collect(),
        }
    }
}

impl Change {
    /// Every way in which a path may differ.
    pub const ALL: [Self; 8] = [
        Self::Added,
        Self::Removed,
        Self::Kind,
        Self::Content,
        Self::Mode,
        Self::Owner,
        Self::Target,
        Self::Capabilities,
    ];

    /// The change with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Its name in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Target => "target",
            Self::Capabilities => "capabilities",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Kind => "of another kind",
            Self::Content => "changed",
            Self::Mode => "of another mode",
            Self::Owner => "of another owner",
            Self::Target => "points elsewhere",
            Self::Capabilities => "of other capabilities",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.change)
    }
}

/// A few of the differences, and how many more there are.
impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        for (n, difference) in self.differences.iter().take(SHOWN).enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{difference}")?;
        }
        let shown = self.differences.len().min(SHOWN) as u64;
        match self.total.saturating_sub(shown) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_differences_are_counted() {
        let differences = (0..7).map(|n| Difference {
            path: format!("f{n}"),
            change: Change::Content,
        });
        let mut drift = Drift {
            digest: Digest::new([1; 32]),
            total: 9,
            differences: differences.collect(),
        };
        let said = drift.to_string();
        assert!(said.starts_with("f0: changed, f1: changed"), "{said}");
        assert!(said.ends_with("f4: changed and 4 more"), "{said}");
        drift.differences.truncate(1);
        drift.total = 1;
        assert_eq!(drift.to_string(), "f0: changed");
    }
}
