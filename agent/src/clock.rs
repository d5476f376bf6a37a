//! The controller's clock, as the host knows it: what the controller said last, and what has passed
//! since by a clock that nobody sets.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tamer_core::moment::Moment;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
