//! Units, behind a trait: systemd through `systemctl`, and nothing where there is no systemd.

use crate::allowed::failure;
use crate::process::{self, Command, Exit};
use async_trait::async_trait;
use std::time::Duration;
use tamer_core::desired::{Failure, FailureKind};

/// How long `systemctl` may take: longer than systemd's own `TimeoutStopSec` and `TimeoutStartSec`
/// together, both 90 s (systemd.service(5), systemd-system.conf(5)).
const PATIENCE: Duration = Duration::from_secs(200);

/// How many lines of the unit's log a failure shows.
const LOG_LINES: &str = "20";

/// Starts and stops units.
#[async_trait]
pub trait Services: Send + Sync {
    /// Restarts a unit, or starts it, and waits until systemd says that it is done.
    ///
    /// # Errors
    /// [`FailureKind::Service`] with the last lines of its log.
    async fn restart(&self, unit: &str) -> Result<(), Failure>;

    /// Asks systemd to restart this process's own unit. Returns before that has happened.
    ///
    /// # Errors
    /// [`FailureKind::Service`]: systemd did not take the order.
    async fn hand_over(&self, unit: &str) -> Result<(), Failure>;

    /// The last lines that a unit logged; empty if they cannot be had.
    async fn log(&self, unit: &str) -> String;

    /// Stops a unit and waits until it has stopped. One that does not run is stopped.
    ///
    /// # Errors
    /// [`FailureKind::Service`].
    async fn stop(&self, unit: &str) -> Result<(), Failure>;

    /// Whether a unit is active: still, or already.
    ///
    /// # Errors
    /// [`FailureKind::Service`] with its state and the last lines of its log.
    async fn active(&self, unit: &str) -> Result<(), Failure>;
}

/// systemd.
#[derive(Debug, Clone, Copy, Default)]
pub struct Systemd;

impl Systemd {
    async fn systemctl(verb: &str, unit: &str) -> Result<String, Failure> {
        let said = |what: String, output: String| Failure {
            output,
            ..failure(FailureKind::Service, what)
        };
        let mut command = Command::new("systemctl");
        // `--` is not needed: a unit's name never starts with a dash (ComponentSpec::validate).
        command.args = verb.split(' ').chain([unit]).map(str::to_owned).collect();
        command.time_limit = PATIENCE;
        let outcome = process::run(command).await.map_err(|e| {
            said(
                format!("cannot run `systemctl {verb} {unit}`: {e}"),
                String::new(),
            )
        })?;
        match outcome.status {
            Exit::Code(0) => Ok(outcome.output),
            _ if verb == "is-active" => Err(said(
                format!("{unit} is {}", outcome.output.trim()),
                Self::last_lines(unit).await,
            )),
            _ => Err(said(
                format!("`systemctl {verb} {unit}` failed"),
                outcome.output + &Self::last_lines(unit).await,
            )),
        }
    }

    async fn last_lines(unit: &str) -> String {
        let mut command = Command::new("journalctl");
        command.args = [
            "--no-pager",
            "--output=cat",
            "--lines",
            LOG_LINES,
            "--unit",
            unit,
        ]
        .map(str::to_owned)
        .to_vec();
        command.time_limit = Duration::from_secs(5);
        let outcome = process::run(command).await;
        outcome.map_or(String::new(), |outcome| outcome.output)
    }
}

#[async_trait]
impl Services for Systemd {
    async fn restart(&self, unit: &str) -> Result<(), Failure> {
        Self::systemctl("restart", unit).await.map(drop)
    }

    async fn hand_over(&self, unit: &str) -> Result<(), Failure> {
        Self::systemctl("--no-block restart", unit).await.map(drop)
    }

    async fn log(&self, unit: &str) -> String {
        Self::last_lines(unit).await
    }

    async fn stop(&self, unit: &str) -> Result<(), Failure> {
        Self::systemctl("stop", unit).await.map(drop)
    }

    async fn active(&self, unit: &str) -> Result<(), Failure> {
        Self::systemctl("is-active", unit).await.map(drop)
    }
}
