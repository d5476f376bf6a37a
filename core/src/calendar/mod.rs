//! When an environment is open: windows and freezes, and what follows from them at a moment. Time is an argument,
//! and the zones' rules are data in the binary, so the answer is the same on every machine.
//!
//! Closed means that no host is moved *forward*. Nothing here stops going back.

mod freeze;
mod window;
mod zone;

pub use freeze::{Border, Freeze, LONGEST_FREEZE};
pub use window::{Day, TimeOfDay, Window};
pub use zone::Zone;

use crate::moment::{Moment, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The most windows, and the most freezes, of one environment.
pub const MOST: usize = 64;

/// How far borders of windows are looked for at a time: windows come again every week, and the clock may be put forward
/// over one of them.
const FAR: Span = Span::secs(16 * 24 * 3600);

/// Whether hosts may be moved forward, and for how long that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opening {
    /// They may.
    Open {
        /// Until when; `None`: until somebody closes it.
        until: Option<Moment>,
    },
    /// They may not.
    Closed {
        /// Why, and in words when it opens.
        why: String,
        /// Until when; `None`: until a person opens it.
        until: Option<Moment>,
    },
}

/// A time in which nothing is moved forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shut {
    /// From then on.
    pub from: Moment,
    /// Until then; `None`: until a person opens it.
    pub until: Option<Moment>,
    /// Why, for people: `frozen: Christmas`.
    pub why: String,
}

/// All that says whether an environment is open.
#[derive(Debug, Clone, Default)]
pub struct Calendar<'a> {
    windows: &'a [Window],
    shut: Vec<Shut>,
    zone: Option<&'a Zone>,
}

// === impl Opening ===

impl Default for Opening {
    fn default() -> Self {
        Self::Open { until: None }
    }
}

impl Opening {
    /// Until when it stays like this.
    pub fn until(&self) -> Option<Moment> {
        match self {
            Self::Open { until } | Self::Closed { until, .. } => *until,
        }
    }

    /// Whether hosts may be moved forward at a moment. Whoever was told something that is over knows nothing.
    pub fn lets(&self, now: Moment) -> bool {
        matches!(self, Self::Open { until } if until.is_none_or(|until| now < until))
    }
}

// === impl Calendar ===

impl<'a> Calendar<'a> {
    /// Of an environment file.
    pub fn new(windows: &'a [Window], freezes: &'a [Freeze]) -> Self {
        let zone = windows.first().map(Window::zone);
        Self {
            windows,
            shut: freezes.iter().map(Freeze::shut).collect(),
            zone: zone.or_else(|| freezes.first().map(Freeze::zone)),
        }
    }

    /// The zone that it is read by; `None`: it says nothing.
    pub fn zone(&self) -> Option<&'a Zone> {
        self.zone
    }

    /// Closed at this time too.
    #[must_use]
    pub fn and(mut self, shut: Shut) -> Self {
        self.shut.push(shut);
        self
    }

    /// Whether it is open at `now`, and until when that holds.
    pub fn at(&self, now: Moment) -> Opening {
        let closed = self.closed(now);
        let until = self.change(now, closed.is_some());
        let Some(why) = closed else {
            return Opening::Open { until };
        };
        let opens = match (until, self.zone) {
            (Some(until), Some(zone)) => format!("; opens {}", zone.show(until)),
            (Some(until), None) => format!("; opens {}", utc(until)),
            (None, _) => String::new(),
        };
        Opening::Closed {
            why: format!("{why}{opens}"),
            until,
        }
    }

    /// Why it is closed.
    fn closed(&self, at: Moment) -> Option<&str> {
        let shuts = |it: &&Shut| it.from <= at && it.until.is_none_or(|until| at < until);
        if let Some(shut) = self.shut.iter().find(shuts) {
            return Some(&shut.why);
        }
        let open = self.windows.is_empty() || self.windows.iter().any(|it| it.is_open(at));
        (!open).then_some("outside of its windows")
    }

    /// When it is first otherwise than `now`.
    fn change(&self, now: Moment, closed: bool) -> Option<Moment> {
        let mut from = now;
        loop {
            let far = from + FAR;
            let shut = self.shut.iter();
            let all: BTreeSet<Moment> = shut
                .flat_map(|it| [Some(it.from), it.until])
                .flatten()
                .filter(|at| *at > from)
                .collect();
            let windows = self.windows.iter();
            let near = windows.flat_map(|it| it.borders(from, far));
            let near: BTreeSet<Moment> = near.chain(all.range(..=far).copied()).collect();
            let otherwise = |at: &Moment| self.closed(*at).is_some() != closed;
            if let Some(found) = near.into_iter().find(otherwise) {
                return Some(found);
            }
            // As long as this nothing changes but with what lies beyond.
            from = Moment(all.into_iter().find(|at| *at > far)?.0 - 1);
        }
    }
}

/// `2026-11-30 08:00 UTC`
pub fn utc(at: Moment) -> String {
    match "UTC".parse::<Zone>() {
        Ok(zone) => zone.show(at),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests;
