//! Time as values: core has no clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

/// A moment: milliseconds since the Unix epoch, by the controller's clock.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// How long after `earlier` this is; zero if it is before it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Moment {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        let millis = u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// A length of time, written by people as `10s`, `5m`, `1h 30m`, `250ms`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// So many milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
}

/// Why a string is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length of time: write it like 10s, 5m or 1h 30m")]
pub struct BadSpan(String);

impl FromStr for Span {
    type Err = BadSpan;
    fn from_str(given: &str) -> Result<Self, BadSpan> {
        humantime::parse_duration(given)
            .map(Self)
            .map_err(|_| BadSpan(given.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Span {
    type Error = BadSpan;
    fn try_from(given: String) -> Result<Self, BadSpan> {
        given.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_duration(self.0).to_string())
    }
}
