//! How long to wait before the next try: exponential, with full jitter, so that a fleet that
//! lost its controller does not come back all at once.
//!
//! "Full jitter" is the scheme of the AWS Architecture Blog's "Exponential Backoff And Jitter":
//! a random share of a ceiling that doubles. Randomness is an argument.

use std::time::Duration;

/// The state of one series of tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// The first wait is at most `min`; the ceiling then doubles up to `max`.
    /// A `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            ceiling: min,
        }
    }

    /// The wait before the next try: the share `random`, in 0..=1, of the ceiling, which then doubles.
    /// What lies outside, or is not a number, counts as 1: a broken source never makes a storm.
    pub fn next(&mut self, random: f64) -> Duration {
        let share = if (0.0..=1.0).contains(&random) {
            random
        } else {
            1.0
        };
        let wait = self.ceiling.mul_f64(share).min(self.ceiling);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        wait
    }

    /// After a success: begins anew.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

/// The wait before the next try of somebody who has been without a connection for `gone`: the share `random`, in 0..=1,
/// of that time, which counts as at least `min` and at most `max`. What lies outside of 0..=1, or is not a number,
/// counts as 1.
///
/// Whoever is one of thousands that wait for the same server is spread by it as by [`Backoff`], and does not wait longer
/// for having been unlucky before: a server that was away for less than `max` has all of them back after twice that
/// time, and `min`.
pub fn share_of_absence(gone: Duration, min: Duration, max: Duration, random: f64) -> Duration {
    let mut backoff = Backoff::new(gone.max(min).min(max), max);
    backoff.next(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_to_the_maximum_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let full: Vec<u64> = (0..5).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(full, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next(0.5), Duration::from_millis(500));
        assert_eq!(backoff.next(f64::NAN), Duration::from_secs(2));
        assert_eq!(backoff.next(-3.0), Duration::from_secs(4));
    }

    proptest! {
        #[test]
        fn after_an_absence_all_are_back_within_twice_its_time(
            min in 1u64..1000, away in 0u64..30_000, randoms in prop::collection::vec(0.0f64..1.0, 400),
        ) {
            let (min, max) = (Duration::from_millis(min), Duration::from_secs(30));
            let away = Duration::from_millis(away);
            let mut at = Duration::ZERO;
            for random in randoms.into_iter().chain(std::iter::repeat(1.0)) {
                at += share_of_absence(at, min, max, random);
                if at >= away {
                    break;
                }
            }
            prop_assert!(at <= away.max(min) * 2, "{at:?} after an absence of {away:?}");
        }

        #[test]
        fn waits_stay_below_the_maximum_and_use_the_whole_range(
            min in 1u64..10_000, max in 1u64..1_000_000, randoms in prop::collection::vec(0.0f64..1.0, 1..80),
        ) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
            let mut jittered = Backoff::new(min, max);
            let mut full = jittered.clone();
            let mut last = Duration::ZERO;
            for random in randoms {
                let (wait, ceiling) = (jittered.next(random), full.next(1.0));
                prop_assert!(wait <= ceiling && ceiling <= max.max(min));
                prop_assert!(ceiling >= last, "ceilings never fall");
                prop_assert!((wait.as_secs_f64() - ceiling.as_secs_f64() * random).abs() < 1e-6);
                last = ceiling;
            }
        }
    }
}
