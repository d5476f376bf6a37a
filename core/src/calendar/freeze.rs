//! `[[freeze]]`: when nothing is moved forward, whatever the windows say.

use super::zone::Zone;
use crate::moment::{Moment, Span};
use jiff::civil::{Date, DateTime};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The longest freeze: what is closed for longer is locked, and a person opens it.
pub const LONGEST_FREEZE: Span = Span::secs(366 * 24 * 3600);

/// The longest reason, in characters.
const MAX_REASON: usize = 200;

/// A time in which an environment is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct Freeze {
    text: Text,
    begins: Moment,
    ends: Moment,
}

/// A freeze as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    /// Its first day, or when it begins.
    from: Border,
    /// Its last day, or when it ends.
    to: Border,
    /// Whose calendar and clock are meant.
    zone: Zone,
    /// Why, for people.
    reason: String,
}

/// A day, or a minute of one: `2026-12-20`, `2026-12-20 18:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Border {
    /// A whole day.
    Day(Date),
    /// A minute.
    Minute(DateTime),
}

/// TOML has dates of its own, and people write either.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Date(toml::value::Datetime),
}

// === impl Border ===

impl FromStr for Border {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        let read = match given.len() {
            10 => given.parse().ok().map(Self::Day),
            _ => given.parse().ok().map(Self::Minute),
        };
        // A moment that says its own offset is not one of the zone's clock.
        let odd = given.len() < 10
            || given.ends_with(['Z', 'z', ']'])
            || given[10..].contains(['+', '-']);
        read.filter(|_| !odd).ok_or_else(|| {
            let given: String = given.chars().take(80).collect();
            format!(
                "`{given}` is no date and no time in the zone: write 2026-12-20, or 2026-12-20 18:00"
            )
        })
    }
}

impl TryFrom<Written> for Border {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Date(date) => date.to_string().parse(),
        }
    }
}

impl From<Border> for String {
    fn from(border: Border) -> Self {
        match border {
            Border::Day(date) => date.to_string(),
            Border::Minute(minute) => minute.to_string(),
        }
    }
}

impl Border {
    /// When something begins that begins with this.
    pub fn begins(self, zone: &Zone) -> Option<Moment> {
        match self {
            Self::Day(date) => zone.first(date.at(0, 0, 0, 0)),
            Self::Minute(minute) => zone.first(minute),
        }
    }

    /// When something ends that ends with this: a day is over with its end.
    pub fn ends(self, zone: &Zone) -> Option<Moment> {
        match self {
            Self::Day(date) => zone.first(date.tomorrow().ok()?.at(0, 0, 0, 0)),
            Self::Minute(minute) => zone.last(minute),
        }
    }
}

// === impl Freeze ===

impl TryFrom<Text> for Freeze {
    type Error = String;
    fn try_from(text: Text) -> Result<Self, String> {
        let reason = text.reason.trim();
        if reason.is_empty() || reason.chars().any(char::is_control) {
            return Err("`reason` says in one line why nothing moves: write it".to_owned());
        }
        if reason.chars().count() > MAX_REASON {
            return Err(format!("`reason` is longer than {MAX_REASON} characters"));
        }
        let (begins, ends) = (text.from.begins(&text.zone), text.to.ends(&text.zone));
        let (Some(begins), Some(ends)) = (begins, ends) else {
            return Err("a freeze that begins or ends at the end of all calendars".to_owned());
        };
        if ends <= begins {
            return Err("`to` is not after `from`, so this freeze would never be".to_owned());
        }
        if ends.since(begins) > LONGEST_FREEZE.0 {
            return Err(
                "a freeze of more than 366 days closes the environment for good: `tamer lock` does that until a person opens it"
                    .to_owned(),
            );
        }
        Ok(Self { text, begins, ends })
    }
}

impl From<Freeze> for Text {
    fn from(freeze: Freeze) -> Self {
        freeze.text
    }
}

impl Freeze {
    /// It as a time in which nothing is moved forward.
    pub(super) fn shut(&self) -> super::Shut {
        super::Shut {
            from: self.begins,
            until: Some(self.ends),
            why: format!("frozen: {}", self.text.reason.trim()),
        }
    }

    /// Whose calendar is meant.
    pub(super) fn zone(&self) -> &Zone {
        &self.text.zone
    }
}
