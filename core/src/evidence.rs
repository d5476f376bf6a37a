//! What an environment demands to be proven of a release, and what is missing.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A kind of signed statement about a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// How it was built, from which commit.
    Build,
    /// The linters passed.
    Lint,
    /// The tests passed.
    Test,
    /// Somebody other than the author reviewed the commit.
    Review,
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Lint => "lint",
            Self::Test => "test",
            Self::Review => "review",
        })
    }
}

/// What an environment demands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demanded {
    /// The kinds that must all be proven.
    #[serde(default)]
    pub require: BTreeSet<EvidenceKind>,
}

impl Demanded {
    /// What is demanded and not proven; empty when the release may be accepted.
    pub fn missing(&self, proven: &BTreeSet<EvidenceKind>) -> BTreeSet<EvidenceKind> {
        self.require.difference(proven).copied().collect()
    }
}
