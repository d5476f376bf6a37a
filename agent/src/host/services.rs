//! Units, behind a trait: systemd through `systemctl`, and nothing where there is no systemd.

use super::unit::{Observation, PROPERTIES};
use crate::allowed::failure;
use crate::checks::seconds;
use crate::process::{self, Command, Exit};
use async_trait::async_trait;
use std::time::Duration;
use tamer_core::desired::{Failure, FailureKind};

/// How long stopping a unit may take: longer than systemd's own `TimeoutStopSec`, 90 s
/// (systemd-system.conf(5)).
const STOP: Duration = Duration::from_secs(200);

/// How long systemd may take to answer a question.
const ANSWER: Duration = Duration::from_secs(30);

/// How many lines of the unit's log a failure shows.
const LOG_LINES: &str = "--lines=20";

/// Starts and stops units.
#[async_trait]
pub trait Services: Send + Sync {
    /// Restarts a unit, or starts it, and waits until systemd says that it is done, at most `within`.
    ///
    /// # Errors
    /// [`FailureKind::Service`] with the last lines of its log.
    async fn restart(&self, unit: &str, within: Duration) -> Result<(), Failure>;

    /// Has a unit read its settings again, and waits as long as for a restart. One that does not run or
    /// that cannot be reloaded is restarted.
    ///
    /// # Errors
    /// [`FailureKind::Service`] with the last lines of its log.
    async fn reload(&self, unit: &str, within: Duration) -> Result<(), Failure>;

    /// Asks systemd to restart this process's own unit. Returns before that has happened.
    ///
    /// # Errors
    /// [`FailureKind::Service`]: systemd did not take the order.
    async fn hand_over(&self, unit: &str) -> Result<(), Failure>;

    /// The last lines that a unit logged, in the run named `invocation` if that is not empty; nothing if
    /// they cannot be had.
    async fn log(&self, unit: &str, invocation: &str) -> String;

    /// Stops a unit and waits until it has stopped. One that does not run is stopped.
    ///
    /// # Errors
    /// [`FailureKind::Service`].
    async fn stop(&self, unit: &str) -> Result<(), Failure>;

    /// How a unit is now.
    ///
    /// # Errors
    /// [`FailureKind::Service`]: systemd does not say.
    async fn look(&self, unit: &str) -> Result<Observation, Failure>;
}

/// systemd.
#[derive(Debug, Clone, Copy, Default)]
pub struct Systemd;

impl Systemd {
    async fn systemctl(words: &[&str], unit: &str, within: Duration) -> Result<String, Failure> {
        let line = words.join(" ");
        let mut command = Command::new("systemctl");
        // `--` is not needed: a unit's name never starts with a dash (ComponentSpec::validate).
        command.args = words
            .iter()
            .chain([&unit])
            .map(|it| it.to_string())
            .collect();
        command.time_limit = within;
        let said = |what: String| failure(FailureKind::Service, what);
        let outcome = process::run(command)
            .await
            .map_err(|e| said(format!("cannot run `systemctl {line} {unit}`: {e}")))?;
        let how = match outcome.status {
            Exit::Code(0) => return Ok(outcome.output),
            Exit::TimedOut => format!("did not end within {}", seconds(within)),
            _ => "failed".to_owned(),
        };
        Err(Failure {
            output: outcome.output,
            ..said(format!("`systemctl {line} {unit}` {how}"))
        })
    }

    /// Changes a unit's state; a failure shows what the unit logged.
    async fn change(&self, words: &[&str], unit: &str, within: Duration) -> Result<(), Failure> {
        let Err(mut failure) = Self::systemctl(words, unit, within).await else {
            return Ok(());
        };
        let invocation = self.look(unit).await.map(|it| it.invocation);
        let log = self.log(unit, &invocation.unwrap_or_default()).await;
        failure.output.push_str(&log);
        Err(failure)
    }
}

/// What `journalctl` is asked for: lines of the run's own processes, and systemd's about it. `INVOCATION_ID`
/// without its process could be claimed by anybody who logs.
fn lines_of(unit: &str, invocation: &str) -> Vec<String> {
    let mut words: Vec<String> = ["--no-pager", "--quiet", "--output=cat", LOG_LINES]
        .map(str::to_owned)
        .to_vec();
    match invocation {
        "" => words.push(format!("--unit={unit}")),
        run => words.extend([
            format!("_SYSTEMD_INVOCATION_ID={run}"),
            "+".to_owned(),
            "_PID=1".to_owned(),
            format!("INVOCATION_ID={run}"),
        ]),
    }
    words
}

async fn journalctl(args: Vec<String>) -> String {
    let mut command = Command::new("journalctl");
    command.args = args;
    command.time_limit = Duration::from_secs(5);
    match process::run(command).await {
        Ok(outcome) if outcome.status == Exit::Code(0) => outcome.output,
        _ => String::new(),
    }
}

#[async_trait]
impl Services for Systemd {
    async fn restart(&self, unit: &str, within: Duration) -> Result<(), Failure> {
        // A release that died again and again must not count against the one that is started now: without
        // this, systemd may refuse to start it, or go on counting restarts. One that systemd does not know
        // has nothing to reset, and the restart says so.
        let _ = Self::systemctl(&["reset-failed"], unit, ANSWER).await;
        self.change(&["restart"], unit, within).await
    }

    async fn reload(&self, unit: &str, within: Duration) -> Result<(), Failure> {
        if self.look(unit).await?.is_reloadable() {
            return self.change(&["reload"], unit, within).await;
        }
        tracing::info!(%unit, "it does not run or cannot be reloaded: it is restarted");
        self.restart(unit, within).await
    }

    async fn hand_over(&self, unit: &str) -> Result<(), Failure> {
        let words = ["--no-block", "restart"];
        Self::systemctl(&words, unit, ANSWER).await.map(drop)
    }

    async fn log(&self, unit: &str, invocation: &str) -> String {
        // What was written before it ended may not have been taken in yet.
        journalctl(vec!["--sync".to_owned()]).await;
        journalctl(lines_of(unit, invocation)).await
    }

    async fn stop(&self, unit: &str) -> Result<(), Failure> {
        self.change(&["stop"], unit, STOP).await
    }

    async fn look(&self, unit: &str) -> Result<Observation, Failure> {
        let show = format!("--property={PROPERTIES}");
        let said = Self::systemctl(&["show", &show], unit, ANSWER).await?;
        Ok(Observation::parse(&said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_put_lines_into_a_units_log() {
        let words = lines_of("shop-web.service", "ab12").join(" ");
        assert!(words.ends_with("_SYSTEMD_INVOCATION_ID=ab12 + _PID=1 INVOCATION_ID=ab12"));
        let words = lines_of("shop-web.service", "").join(" ");
        assert!(words.ends_with("--unit=shop-web.service"));
    }

    #[test]
    fn the_properties_are_one_word() {
        assert!(!PROPERTIES.contains(' '), "{PROPERTIES}");
    }
}
