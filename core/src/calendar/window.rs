//! `[[window]]`: when rollouts may move hosts forward.

use super::zone::Zone;
use crate::moment::{Moment, Span};
use jiff::civil::{Date, DateTime, Weekday};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The minutes of a day.
const DAY: u16 = 24 * 60;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// A time of day, `09:30`; `24:00` is the end of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

/// When an environment is open: on these days, between these times of a clock on the wall in this zone. It is open for
/// as long as that clock shows such a time: an hour longer or shorter where the clock is put back or forward within it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct Window {
    days: BTreeSet<Day>,
    from: TimeOfDay,
    to: TimeOfDay,
    zone: Zone,
}

/// A window as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    /// The days on which it begins; absent: every day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    days: Option<Vec<Day>>,
    /// When it begins; absent: with the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<TimeOfDay>,
    /// When it ends, on the next day where that is not later; absent: with the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<TimeOfDay>,
    /// Whose clock is meant.
    zone: Zone,
}

// === impl Day ===

impl Day {
    const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    /// The day of the week of a date.
    pub(super) fn of(date: Date) -> Self {
        match date.weekday() {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === impl TimeOfDay ===

impl TryFrom<String> for TimeOfDay {
    type Error = String;
    fn try_from(given: String) -> Result<Self, String> {
        let two = |part: &str, most: u16| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u16>().ok().filter(|n| digits && *n <= most)
        };
        let minutes = given.split_once(':').and_then(|(hour, minute)| {
            let minutes = two(hour, 24)? * 60 + two(minute, 59)?;
            Some(minutes).filter(|minutes| *minutes <= DAY)
        });
        minutes.map(Self).ok_or_else(|| {
            let given: String = given.chars().take(80).collect();
            format!("`{given}` is no time of day: write it from 00:00 to 24:00, like 09:30")
        })
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl TimeOfDay {
    fn on(self, date: Date) -> Option<DateTime> {
        if self.0 == DAY {
            return Some(date.tomorrow().ok()?.at(0, 0, 0, 0));
        }
        let (hour, minute) = (self.0 / 60, self.0 % 60);
        Some(date.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0))
    }
}

// === impl Window ===

impl TryFrom<Text> for Window {
    type Error = String;
    fn try_from(text: Text) -> Result<Self, String> {
        let days = text
            .days
            .map_or_else(|| Day::ALL.into(), BTreeSet::from_iter);
        if days.is_empty() {
            return Err(
                "`days` is empty, so this window would never open: name the days, or leave it out for every day"
                    .to_owned(),
            );
        }
        let from = text.from.unwrap_or(TimeOfDay(0));
        let to = text.to.unwrap_or(TimeOfDay(DAY));
        if from == to || from.0 == DAY {
            return Err(format!(
                "a window from {from} to {to} would never open: for a whole day leave both out"
            ));
        }
        Ok(Self {
            days,
            from,
            to,
            zone: text.zone,
        })
    }
}

impl From<Window> for Text {
    fn from(window: Window) -> Self {
        Self {
            days: Some(window.days.into_iter().collect()),
            from: Some(window.from),
            to: Some(window.to),
            zone: window.zone,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.from, self.to)
    }
}

impl Window {
    /// How long it is open at a time, where the clock is not put forward or back meanwhile.
    pub fn length(&self) -> Span {
        let minutes = match self.ends_next_day() {
            false => self.to.0 - self.from.0,
            true => DAY - self.from.0 + self.to.0,
        };
        Span::secs(u64::from(minutes) * 60)
    }

    /// Whose clock is meant.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    fn ends_next_day(&self) -> bool {
        self.to <= self.from
    }

    /// Whether it is open.
    pub(super) fn is_open(&self, at: Moment) -> bool {
        let wall = self.zone.wall(at);
        let minute =
            u16::from(wall.hour().unsigned_abs()) * 60 + u16::from(wall.minute().unsigned_abs());
        let begins_on = |date: Date| self.days.contains(&Day::of(date));
        if !self.ends_next_day() {
            return begins_on(wall.date()) && (self.from.0..self.to.0).contains(&minute);
        }
        let yesterday = wall.date().yesterday();
        begins_on(wall.date()) && minute >= self.from.0
            || minute < self.to.0 && yesterday.is_ok_and(begins_on)
    }

    /// The moments after one and up to another at which it may open or close; at no other it does.
    pub(super) fn borders(&self, after: Moment, until: Moment) -> BTreeSet<Moment> {
        let mut borders: BTreeSet<Moment> = self.zone.shifts(after, until).collect();
        let last = self.zone.wall(until).date();
        let mut next = self.zone.wall(after).date().yesterday().ok();
        while let Some(date) = next.filter(|date| *date <= last) {
            for wall in [self.from.on(date), self.to.on(date)].into_iter().flatten() {
                borders.extend(self.zone.first(wall));
                borders.extend(self.zone.last(wall));
            }
            next = date.tomorrow().ok();
        }
        borders.retain(|at| *at > after && *at <= until);
        borders
    }
}
