//! The versions of a database that a release works with: `41`, `41..=42`, `41..`, `..=42`.

use crate::id::SchemaName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The databases that a component uses, and the versions of each that it can live with. One that is not
/// named is not used.
pub type WorksWith = BTreeMap<SchemaName, VersionRange>;

/// Versions of a database, from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange {
    from: u64,
    /// `None`: every later one.
    to: Option<u64>,
}

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    /// It is not written as one.
    #[error("`{0}` is no range of versions: write it like 41, 41..=42, 41.. or ..=42")]
    Unreadable(String),
    /// No version is in it.
    #[error("`{0}` holds no version: the first number is the lower one")]
    Empty(String),
}

// === impl VersionRange ===

impl VersionRange {
    /// Every version: what a release works with that does not use the database.
    pub const ALL: Self = Self { from: 0, to: None };

    /// One version alone.
    pub const fn only(version: u64) -> Self {
        Self {
            from: version,
            to: Some(version),
        }
    }

    /// From `from` to `to`, both included; `None` where that holds no version.
    pub const fn between(from: u64, to: u64) -> Option<Self> {
        if from <= to {
            Some(Self { from, to: Some(to) })
        } else {
            None
        }
    }

    /// Whether the version is in it.
    pub fn contains(self, version: u64) -> bool {
        self.from <= version && self.to.is_none_or(|to| version <= to)
    }

    /// Whether every version from `one` to `other` is in it, whichever is the lower one: a migration
    /// passes through all of them.
    pub fn spans(self, one: u64, other: u64) -> bool {
        self.contains(one) && self.contains(other)
    }

    /// The versions that are in both; `None` where there are none.
    pub fn and(self, other: Self) -> Option<Self> {
        let from = self.from.max(other.from);
        let to = match (self.to, other.to) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        to.is_none_or(|to| from <= to).then_some(Self { from, to })
    }

    /// The highest version in it that is not above `version`.
    pub fn highest_up_to(self, version: u64) -> Option<u64> {
        let highest = self.to.map_or(version, |to| to.min(version));
        (self.from <= highest).then_some(highest)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (from, Some(to)) if from == to => write!(f, "{from}"),
            (0, Some(to)) => write!(f, "..={to}"),
            (from, Some(to)) => write!(f, "{from}..={to}"),
            (from, None) => write!(f, "{from}.."),
        }
    }
}

impl FromStr for VersionRange {
    type Err = BadRange;
    fn from_str(given: &str) -> Result<Self, BadRange> {
        let unreadable = || BadRange::Unreadable(given.chars().take(80).collect());
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let parsed = plain.then(|| text.parse::<u64>().ok()).flatten();
            parsed.ok_or_else(unreadable)
        };
        let text = given.trim();
        let range = if let Some((from, to)) = text.split_once("..=") {
            let from = match from {
                "" => 0,
                from => number(from)?,
            };
            let to = number(to)?;
            return Self::between(from, to).ok_or_else(|| BadRange::Empty(text.to_owned()));
        } else if let Some(from) = text.strip_suffix("..") {
            Self {
                from: number(from)?,
                to: None,
            }
        } else {
            Self::only(number(text)?)
        };
        Ok(range)
    }
}

impl TryFrom<String> for VersionRange {
    type Error = BadRange;
    fn try_from(given: String) -> Result<Self, BadRange> {
        given.parse()
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_people_write_them() {
        for (text, inside, outside) in [
            ("41", vec![41], vec![0, 40, 42]),
            ("41..=42", vec![41, 42], vec![40, 43]),
            ("41..", vec![41, 42, u64::MAX], vec![40]),
            ("..=42", vec![0, 42], vec![43]),
            ("0..=0", vec![0], vec![1]),
        ] {
            let range: VersionRange = text.parse().unwrap();
            assert!(inside.iter().all(|v| range.contains(*v)), "{text}");
            assert!(!outside.iter().any(|v| range.contains(*v)), "{text}");
        }
        for bad in [
            "",
            "..",
            "a",
            "1..2",
            "1...=2",
            "-1",
            "+1",
            "1..=",
            "1 2",
            "99999999999999999999",
        ] {
            let said = bad.parse::<VersionRange>().unwrap_err().to_string();
            assert!(said.contains("write it like 41"), "{bad}: {said}");
        }
        let said = "42..=41".parse::<VersionRange>().unwrap_err().to_string();
        assert!(said.contains("holds no version"), "{said}");
    }

    fn any_range() -> impl Strategy<Value = VersionRange> {
        (0_u64..12, prop::option::of(0_u64..12)).prop_map(|(from, more)| VersionRange {
            from,
            to: more.map(|more| from + more),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(range in any_range()) {
            prop_assert_eq!(range.to_string().parse::<VersionRange>().unwrap(), range);
        }

        #[test]
        fn both_is_what_each_holds(a in any_range(), b in any_range(), v in 0_u64..30) {
            let both = a.and(b);
            prop_assert_eq!(both.is_some_and(|both| both.contains(v)), a.contains(v) && b.contains(v));
            let highest = (0..=v).rev().find(|n| a.contains(*n));
            prop_assert_eq!(a.highest_up_to(v), highest);
        }
    }
}
