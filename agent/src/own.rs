//! The agent as a component of its own: how it hands the server over to another release of itself.
//!
//! A process cannot restart itself and see how that went. So the work is divided:
//!
//! ```text
//! the old agent     switches `current`, arms a trial, asks systemd to restart the unit
//! systemd           runs `agent-trial begin`: armed ─▶ running; starts the new agent
//! the new agent     goes on with the activation it finds in the journal: is welcomed by the controller,
//!                   tells systemd that it is ready, holds its checks, ends the trial, commits
//! ```
//!
//! If it ends before that, or is not ready within the unit's `TimeoutStartSec`, systemd runs
//! `agent-trial settle` (a shell script: it needs no agent that works), which puts the old link back, and
//! starts the unit again: the old agent finds the activation, and why it was taken back, and undoes the
//! rest. An agent that is not on trial is ready as soon as it runs: a controller that is away must not
//! make it restart.

use crate::allowed::{AGENT_UNIT, failure};
use crate::host::services::Services;
use crate::host::{blocking, file_failure};
use crate::plan::undo::Stand;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tamer_core::desired::{Failure, FailureKind};
use tamer_kit::{durable, supervisor};
use tokio::sync::watch;

/// The longest reason that is read from a trial.
const MAX_REASON: u64 = 4096;

/// How long systemd may take to stop this process: the unit's `TimeoutStopSec` is 30 s, its default 90 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// What this process is, and whether it can be exchanged.
#[derive(Debug, Clone)]
pub struct Own {
    who: Who,
    trial: Trial,
    welcomed: watch::Receiver<bool>,
}

#[derive(Debug, Clone)]
enum Who {
    /// The agent, as the unit runs it: this program.
    Unit(PathBuf),
    /// An agent that nobody would take back, and why.
    Alone(String),
    /// A command that works on the state while no agent runs: what it switches, the unit starts next.
    Command,
}

/// The files of a trial, in the state directory.
#[derive(Debug, Clone)]
pub struct Trial {
    dir: PathBuf,
}

/// To what the server is handed over.
pub(crate) struct HandOver<'a> {
    /// The component's root.
    pub(crate) root: &'a Path,
    /// The directory of the release that is to run; `None` for the package's.
    pub(crate) to: Option<&'a Path>,
    /// Where it must prove itself: the directory's name of the release that is put back otherwise, or
    /// `None` for the package's.
    pub(crate) trial: Option<Option<&'a str>>,
}

// === impl Own ===

impl Own {
    /// An agent that runs as the unit, from `program`. `welcomed` tells when the controller has welcomed it.
    pub fn unit(program: PathBuf, state: &Path, welcomed: watch::Receiver<bool>) -> Self {
        Self {
            who: Who::Unit(program),
            trial: Trial::new(state),
            welcomed,
        }
    }

    /// An agent that systemd does not watch over, for this reason: it is not exchanged.
    pub fn alone(why: String, state: &Path) -> Self {
        Self {
            who: Who::Alone(why),
            trial: Trial::new(state),
            welcomed: watch::channel(false).1,
        }
    }

    /// A command that works on the state itself, while no agent runs.
    pub fn command(state: &Path) -> Self {
        Self {
            who: Who::Command,
            trial: Trial::new(state),
            welcomed: watch::channel(false).1,
        }
    }

    /// Whether the agent may be exchanged here.
    ///
    /// # Errors
    /// [`FailureKind::NotAllowed`]: nobody would take a bad one back.
    pub(crate) fn can_be_exchanged(&self) -> Result<(), Failure> {
        match &self.who {
            Who::Unit(_) | Who::Command => Ok(()),
            Who::Alone(why) => Err(failure(
                FailureKind::NotAllowed,
                format!("the agent cannot be exchanged: {why}"),
            )),
        }
    }

    /// The files of its trial.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Tells systemd that the agent is ready, unless it is on trial: then that is told once the controller
    /// has welcomed it. A trial without an activation is nobody's, and ends here.
    ///
    /// # Errors
    /// What the file system says.
    pub fn started(&self, activating: bool) -> Result<(), Failure> {
        if activating && self.trial.runs() {
            tracing::info!("on trial: ready once the controller has welcomed this agent");
            return Ok(());
        }
        supervisor::ready();
        match activating {
            true => Ok(()),
            false => self.trial.end(),
        }
    }

    /// Restarts the unit, unless what is to run is what runs here already. Returns only then, or when it
    /// failed: a restart ends this process.
    ///
    /// # Errors
    /// [`FailureKind::NotAllowed`]: it is not systemd's to restart; [`FailureKind::Service`]: systemd did not.
    pub(crate) async fn hand_over(
        &self,
        services: &dyn Services,
        order: HandOver<'_>,
    ) -> Result<(), Failure> {
        self.can_be_exchanged()?;
        let Who::Unit(program) = &self.who else {
            tracing::warn!("start it with `systemctl restart tamer-agent`");
            return Ok(());
        };
        let there = match order.to {
            Some(dir) => program.starts_with(dir),
            None => !program.starts_with(order.root),
        };
        let (trial, root) = (self.trial.clone(), order.root.to_owned());
        if there {
            return blocking(move || trial.forget()).await;
        }
        let proves = order.trial.map(|old| old.map(str::to_owned));
        blocking(move || match proves {
            Some(old) => trial.arm(&root, old.as_deref()),
            None => trial.end(),
        })
        .await?;
        services.hand_over(AGENT_UNIT).await?;
        tokio::time::sleep(PATIENCE).await;
        Err(failure(
            FailureKind::Service,
            format!(
                "systemd did not restart {AGENT_UNIT} within {} s",
                PATIENCE.as_secs()
            ),
        ))
    }

    /// Waits until the controller has welcomed this agent; systemd's patience is the limit.
    pub(crate) async fn check_in(&self) {
        let mut welcomed = self.welcomed.clone();
        if welcomed.wait_for(|it| *it).await.is_err() {
            // The line has ended, and so will this process.
            std::future::pending::<()>().await;
        }
        supervisor::ready();
    }

    /// The agent has proved itself.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) async fn confirm(&self) -> Result<(), Failure> {
        let trial = self.trial.clone();
        blocking(move || trial.end()).await
    }
}

// === impl Trial ===

impl Trial {
    fn new(state: &Path) -> Self {
        Self {
            dir: state.join("trial"),
        }
    }

    /// Whether the agent that is there now has still to prove itself.
    pub fn runs(&self) -> bool {
        self.dir.join("running").exists()
    }

    /// How it stands; how it ended is known until somebody takes note of it.
    pub fn stand(&self) -> Stand {
        let ended = durable::read_capped(&self.dir.join("failed"), MAX_REASON);
        match ended {
            _ if self.runs() => Stand::Runs,
            Ok(None) => Stand::None,
            Ok(Some(why)) => Stand::TakenBack(String::from_utf8_lossy(&why).trim().to_owned()),
            Err(error) => Stand::TakenBack(format!("it cannot be read why: {error}")),
        }
    }

    /// What is started next is on trial; `old` is the release directory's name to go back to.
    fn arm(&self, root: &Path, old: Option<&str>) -> Result<(), Failure> {
        self.forget()?;
        let text = format!("{}\n{}\n", root.display(), old.unwrap_or("-"));
        durable::create_dir_all(&self.dir, 0o700)
            .and_then(|()| durable::replace(&self.dir.join("armed"), text.as_bytes(), 0o600))
            .map_err(|e| file_failure(&e))
    }

    /// There is no trial any more, and none will begin.
    fn end(&self) -> Result<(), Failure> {
        self.remove(&["armed", "running", "failed"])
    }

    /// Takes note of how the last one ended, and leaves the one that runs.
    fn forget(&self) -> Result<(), Failure> {
        self.remove(&["armed", "failed"])
    }

    fn remove(&self, names: &[&str]) -> Result<(), Failure> {
        let mut removed = false;
        for name in names {
            let path = self.dir.join(name);
            match fs::remove_file(&path) {
                Ok(()) => removed = true,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    return Err(file_failure(&durable::FileError::new("remove", &path)(e)));
                }
            }
        }
        match removed {
            true => durable::sync_dir(&self.dir).map_err(|e| file_failure(&e)),
            false => Ok(()),
        }
    }
}
