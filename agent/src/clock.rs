//! The controller's clock, as the host knows it: what the controller said last, and what has passed
//! since by a clock that nobody sets.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tamer_core::moment::{Moment, Span};

/// Clocks that differ by less are as good as equal.
const AS_GOOD: Span = Span::secs(300);

/// The controller's clock.
#[derive(Debug, Default)]
pub struct ControllerClock(Mutex<Option<(Moment, Instant)>>);

impl ControllerClock {
    /// Takes in that the controller's clock stood at `said`, at some time after `asked`. What it took
    /// the answer to come counts as passed: so this clock may run ahead of the controller's by that,
    /// and never behind, and no grant is begun too late.
    pub fn set(&self, said: Moment, asked: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((said, asked));
    }

    /// How far this host's own clock, which stands at `own`, is off; `None` where the two are as good as equal, or the
    /// controller was not heard yet.
    pub fn off(&self, own: Moment) -> Option<Off> {
        let heard = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        heard.then(|| Off::between(own, self.now())).flatten()
    }

    /// Now; by this host's own clock until the controller was first heard.
    pub fn now(&self) -> Moment {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((said, asked)) => {
                let passed = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
                Moment(said.0.saturating_add(passed))
            }
            None => tamer_kit::clock::now(),
        }
    }
}

/// How far this host's clock is from the controller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Off {
    /// This host's clock is ahead, and not behind.
    pub ahead: bool,
    /// By how much, to the minute.
    pub by: Span,
}

impl Off {
    fn between(own: Moment, controllers: Moment) -> Option<Self> {
        let by = own.since(controllers).max(controllers.since(own));
        (by >= AS_GOOD.0).then(|| Self {
            ahead: own > controllers,
            by: Span::secs((by.as_secs() + 30) / 60 * 60),
        })
    }

    /// In seconds, below zero where this host's clock is behind.
    pub fn seconds(self) -> i64 {
        let by = i64::try_from(self.by.0.as_secs()).unwrap_or(i64::MAX);
        if self.ahead { by } else { -by }
    }

    /// Whether this is as good as another one.
    pub fn like(self, other: Self) -> bool {
        self.seconds().abs_diff(other.seconds()) < AS_GOOD.0.as_secs()
    }
}

/// `1d ahead of the controller's`
impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.ahead { "ahead of" } else { "behind" };
        write!(f, "{} {way} the controller's", self.by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_that_is_off_is_told_from_one_that_is_as_good() {
        let clock = ControllerClock::default();
        assert_eq!(clock.off(Moment(5)), None, "nothing was heard yet");
        let told = Moment(1_000_000_000_000);
        clock.set(told, Instant::now());
        assert_eq!(clock.off(told), None);
        assert_eq!(clock.off(told + Span::secs(200)), None);
        let ahead = clock.off(told + Span::secs(24 * 3600 + 120));
        let ahead = ahead.expect("it is off");
        assert_eq!(ahead.to_string(), "1day 2m ahead of the controller's");
        let behind = clock.off(Moment(told.0 - 3_600_000)).expect("it is off");
        assert!(!behind.ahead && behind.seconds() <= -3600, "{behind}");
        assert!(behind.like(behind) && !behind.like(ahead));
    }

    #[test]
    fn it_runs_on_from_what_was_said_and_never_behind() {
        let clock = ControllerClock::default();
        let own = tamer_kit::clock::now();
        assert!(clock.now() >= own && clock.now().since(own) < Duration::from_secs(60));
        let asked = Instant::now()
            .checked_sub(Duration::from_secs(5))
            .expect("the machine has been up for so long");
        clock.set(Moment(1_000_000), asked);
        let now = clock.now();
        assert!(
            now >= Moment(1_005_000) && now < Moment(1_065_000),
            "{now:?}"
        );
    }
}
