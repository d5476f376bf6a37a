//! Carries out what [`crate::plan`] decided, one step after the other, and chooses nothing: what to do
//! when a step fails is the plan's word too ([`plan::on_failure`]).
//!
//! Each step is fit to be done twice. Durable are the moment before the first change, the moment an
//! undo begins, and the end; the steps between leave marks ([`Progress`]).

mod accepting;
pub mod drive;
pub mod environment;
mod hooks;
mod material;
mod migrate;
mod program;
pub mod repair;
pub mod route;
pub mod stage;
mod step;
pub mod underway;
mod validate;

use crate::allowed::{self, Place, failure};
use crate::checks::Surroundings;
use crate::config::Config;
use crate::host::blocking;
use crate::host::layout::{self, Installed};
use crate::host::services::Services;
use crate::journal::JournalFile;
use crate::own::Own;
use crate::plan::{Go, Step};
use crate::process::User;
use crate::source::{EnvironmentView, Probe};
use stage::Stager;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tamer_core::desired::{Failure, FailureKind, Slot};
use tokio_util::sync::CancellationToken;

#[cfg(doc)]
use crate::{journal::progress::Progress, plan};

/// What every activation on this host works with.
#[derive(Clone)]
pub struct Executor {
    /// The agent's configuration.
    pub config: Arc<Config>,
    /// The journal.
    pub journal: Arc<JournalFile>,
    /// Tries checks.
    pub probe: Arc<dyn Probe>,
    /// Restarts units.
    pub services: Arc<dyn Services>,
    /// The agent as a component of its own.
    pub own: Arc<Own>,
}

/// One end of a switch: a release on disk, and how it may touch the host.
#[derive(Debug, Clone)]
pub struct End {
    /// The release.
    pub installed: Arc<Installed>,
    /// Where it lies.
    pub dir: PathBuf,
    /// Its place.
    pub place: Place,
    /// Its user; `None` for the agent's own.
    pub user: Option<User>,
}

/// A switch, with all that its steps need.
pub struct Job {
    /// Which component.
    pub slot: Slot,
    /// Its root.
    pub root: PathBuf,
    /// What the plan says.
    pub go: Go,
    /// What runs.
    pub from: Option<End>,
    /// What is to run.
    pub to: Option<End>,
    /// The environment as last verified.
    pub view: EnvironmentView,
    /// Cancelled when the desired state does not want it any more: a release that is still being
    /// looked at is then undone at once.
    pub withdrawn: CancellationToken,
    /// Told of each step.
    pub at: Box<dyn Fn(Step) + Send + Sync>,
}

// === impl End ===

impl End {
    /// Looks a release's place and user up.
    ///
    /// # Errors
    /// [`FailureKind::NotAllowed`]; [`FailureKind::Host`] where the user is not there.
    pub async fn new(
        config: &Config,
        slot: &Slot,
        root: &Path,
        installed: &Arc<Installed>,
    ) -> Result<Self, Failure> {
        let place = allowed::place(config, slot, &installed.spec)?;
        let user = user(&place).await?;
        Ok(Self {
            dir: layout::releases(root).join(&installed.name),
            installed: Arc::clone(installed),
            place,
            user,
        })
    }
}

/// The user that a place names.
///
/// # Errors
/// [`FailureKind::Host`]: there is no such user, or the system's databases did not answer.
pub async fn user(place: &Place) -> Result<Option<User>, Failure> {
    let Some(name) = place.user.clone() else {
        return Ok(None);
    };
    blocking(move || match User::named(&name) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(failure(
            FailureKind::Host,
            format!("there is no user `{name}` on this host: create it first"),
        )),
        Err(e) => Err(failure(
            FailureKind::Host,
            format!("cannot look up the user `{name}`: {e}"),
        )),
    })
    .await
}

// === impl Executor ===

impl Executor {
    /// What a component's checks know of the host.
    pub fn around_component(&self, slot: &Slot, end: &End) -> Surroundings {
        let users = (!self.config.rootless).then(|| {
            self.config
                .allowed(&slot.application)
                .users
                .into_iter()
                .collect()
        });
        Surroundings {
            host: self.config.name.to_string(),
            variables: self.config.variables.clone(),
            env: environment::environment(&self.config, &environment::About::new(slot, end, None)),
            dir: end.dir.clone(),
            user: end.user.clone(),
            users,
            runner: self.config.runner.clone(),
        }
    }

    /// What the environment's checks know of the host.
    ///
    /// Their commands run as `nobody`, unless the signed file names somebody; rootless, as the agent.
    pub fn around_environment(&self) -> Surroundings {
        let nobody = || User::named("nobody").ok().flatten();
        Surroundings {
            host: self.config.name.to_string(),
            variables: self.config.variables.clone(),
            user: if self.config.rootless { None } else { nobody() },
            runner: self.config.runner.clone(),
            ..Surroundings::default()
        }
    }
}
