//! A check that fails once is asked again before anybody hears of it: one lost packet must not turn a
//! canary back. What is known to fail is not asked again; its news can wait for the next interval.

use crate::checks::Surroundings;
use crate::source::Probe;
use std::time::Duration;
use tamer_core::check::{CheckResult, Checks, Results};
use tokio::time::{Instant, sleep};

/// How often a check must fail in a row.
const TRIES: u32 = 3;

/// The wait between two of these tries; shorter where the check's interval leaves no room for it.
const PAUSE: Duration = Duration::from_secs(1);

/// Tries each of these checks, and gives `tell` their results as they become certain: one that failed
/// and is not known to fail (from `before`) is tried again, up to [`TRIES`] times within its interval.
pub(super) async fn confirmed(
    probe: &dyn Probe,
    checks: Checks,
    before: &Results,
    around: &Surroundings,
    mut tell: impl FnMut(Results),
) {
    let failing = |result: &CheckResult| !result.passed();
    let started = Instant::now();
    let mut open = checks;
    for left in (0..TRIES).rev() {
        let mut certain = probe.run(&open, around).await;
        // As many seconds as the most impatient of those that are still open allows.
        let mut pause = PAUSE;
        open.retain(|name, check| {
            let wait = PAUSE.min(check.interval.0 / TRIES);
            let again = left > 0
                && certain.get(name).is_some_and(failing)
                && !before.get(name).is_some_and(failing)
                && started.elapsed() + wait < check.interval.0;
            if again {
                certain.remove(name);
                pause = pause.min(wait);
            }
            again
        });
        if !certain.is_empty() {
            tell(certain);
        }
        if open.is_empty() {
            return;
        }
        tracing::debug!(checks = open.len(), "failed once, tried again");
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::sync::Mutex;

    /// Each check answers with its letters, one a try: `p` passed, `f` failed; the last one for ever.
    struct Scripted {
        script: Vec<(&'static str, &'static str)>,
        takes: Duration,
        tried: Mutex<Vec<(String, Duration)>>,
        started: Instant,
    }

    #[async_trait]
    impl Probe for Scripted {
        async fn run(&self, checks: &Checks, _: &Surroundings) -> Results {
            let mut results = Results::new();
            for name in checks.keys() {
                let mut tried = self.tried.lock().unwrap();
                let nth = tried.iter().filter(|it| it.0 == name.as_str()).count();
                tried.push((name.to_string(), self.started.elapsed()));
                let letters = self.script.iter().find(|it| it.0 == name.as_str());
                let letters = letters.unwrap().1.as_bytes();
                let result = match letters[nth.min(letters.len() - 1)] {
                    b'p' => CheckResult::Passed,
                    _ => CheckResult::Failed(format!("try {}", nth + 1)),
                };
                results.insert(name.clone(), result);
            }
            sleep(self.takes).await;
            results
        }
    }

    struct Told {
        /// `name: result`, in the order in which it was told, with how long that took.
        results: Vec<(String, Duration)>,
        tried: Vec<(String, Duration)>,
    }

    async fn told(
        script: &[(&'static str, &'static str)],
        interval: Duration,
        takes: Duration,
        before: &[(&str, bool)],
    ) -> Told {
        let started = Instant::now();
        let text = format!(r#"{{"type":"tcp","address":"a:1","interval":"{interval:?}"}}"#);
        let check: tamer_core::check::Check = serde_json::from_str(&text).unwrap();
        let checks = script
            .iter()
            .map(|(name, _)| (name.parse().unwrap(), check.clone()))
            .collect();
        let before = before
            .iter()
            .map(|(name, passed)| {
                let result = match passed {
                    true => CheckResult::Passed,
                    false => CheckResult::Failed("before".to_owned()),
                };
                (name.parse().unwrap(), result)
            })
            .collect();
        let probe = Scripted {
            script: script.to_vec(),
            takes,
            tried: Mutex::default(),
            started,
        };
        let mut results = Vec::new();
        confirmed(&probe, checks, &before, &Surroundings::default(), |news| {
            for (name, result) in news {
                let result = match result {
                    CheckResult::Passed => "passed".to_owned(),
                    CheckResult::Failed(why) => why,
                };
                results.push((format!("{name}: {result}"), started.elapsed()));
            }
        })
        .await;
        Told {
            results,
            tried: probe.tried.into_inner().unwrap(),
        }
    }

    const HALF_MINUTE: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn times(of: &[(String, Duration)]) -> Vec<(&str, u64)> {
        let millis = |it: &Duration| u64::try_from(it.as_millis()).unwrap();
        of.iter().map(|(a, b)| (a.as_str(), millis(b))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_is_no_news_and_three_in_a_row_are() {
        let script = [("calm", "p"), ("flaky", "fp"), ("gone", "f")];
        let before = [("calm", true), ("flaky", true), ("gone", true)];
        let told = told(&script, HALF_MINUTE, Duration::ZERO, &before).await;
        // What held is told at once, whatever the others do.
        assert_eq!(
            times(&told.results),
            [
                ("calm: passed", 0),
                ("flaky: passed", 1000),
                ("gone: try 3", 2000)
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_to_fail_is_told_at_once_and_what_is_new_is_asked_again() {
        let script = [("known", "f"), ("new", "fp")];
        let told = told(&script, HALF_MINUTE, Duration::ZERO, &[("known", false)]).await;
        assert_eq!(
            times(&told.results),
            [("known: try 1", 0), ("new: passed", 1000)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_tries_stay_within_the_interval() {
        let before = [("gone", true)];
        let quick = Duration::from_millis(300);
        let short = told(&[("gone", "f")], quick, Duration::ZERO, &before).await;
        assert_eq!(
            times(&short.tried),
            [("gone", 0), ("gone", 100), ("gone", 200)]
        );
        assert_eq!(times(&short.results), [("gone: try 3", 200)]);
        // A try that takes longer than the interval is not repeated.
        let slow = told(&[("gone", "f")], SECOND, SECOND * 2, &before).await;
        assert_eq!(times(&slow.results), [("gone: try 1", 2000)]);
    }
}
