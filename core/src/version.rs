//! Versions, in the sense of Semantic Versioning 2.0.0, so that "below the minimum" has a meaning.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A version of an application or of a component: `1.4.2`, `2.0.0-rc.1`.
///
/// Ordered by precedence; build metadata breaks ties, so the order is total.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Version(semver::Version);

/// The longest version, in bytes: it becomes part of a directory's name.
pub const MAX_VERSION: usize = 64;

/// Why a string is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a version: {reason} (write it like 1.4.2 or 2.0.0-rc.1)")]
pub struct BadVersion {
    given: String,
    reason: String,
}

impl FromStr for Version {
    type Err = BadVersion;
    fn from_str(given: &str) -> Result<Self, BadVersion> {
        let bad = |reason: String| BadVersion {
            given: given.chars().take(80).collect(),
            reason,
        };
        if given.len() > MAX_VERSION {
            return Err(bad(format!("it is longer than {MAX_VERSION} characters")));
        }
        given
            .parse()
            .map(Self)
            .map_err(|e: semver::Error| bad(e.to_string()))
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;
    fn try_from(given: String) -> Result<Self, BadVersion> {
        given.parse()
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}
