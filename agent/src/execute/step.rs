//! One step, done.

use super::{Executor, Job, hooks, validate};
use crate::allowed::failure;
use crate::drift::Tree;
use crate::host::{blocking, layout};
use crate::journal::Baseline;
use crate::own::HandOver;
use crate::plan::{self, Edited, Step};
use tamer_core::application::Hook;
use tamer_core::desired::{Failure, FailureKind, Purpose};

/// Which end of the switch a step is about.
#[derive(Clone, Copy)]
enum Which {
    Old,
    New,
}

impl Executor {
    /// Does one step of a switch, all but the journal's own (`commit`, `undo-commit`). `baseline` is
    /// written by `pre-checks` and read by what looks afterwards.
    ///
    /// # Errors
    /// Why it failed; the plan says what that means.
    pub(super) async fn step(
        &self,
        step: Step,
        job: &Job,
        baseline: &mut Baseline,
    ) -> Result<(), Failure> {
        match step {
            Step::PreChecks => {
                if job.go.exchanges_agent() {
                    self.own.can_be_exchanged()?;
                }
                // Both only look, each at a release of its own.
                let (old, new) = tokio::join!(self.edited(job), self.untouched(job));
                old.and(new)?;
                *baseline = validate::before(self, job).await?;
                Ok(())
            }
            Step::PreActivate => self.hook(job, Which::New, Hook::PreActivate).await,
            Step::Drain => self.hook(job, Which::Old, Hook::Drain).await,
            Step::Stop => self.stop(job, Which::Old).await,
            Step::Switch => self.switch(job, Which::New).await,
            Step::Start => self.start(job, Which::New).await,
            Step::Validate => match &job.to {
                None => Ok(()),
                Some(end) => {
                    validate::new_release(self, job, end, baseline).await?;
                    self.hook(job, Which::New, Hook::Validate).await
                }
            },
            Step::HandOver => self.hand_over(job, Which::New).await,
            Step::CheckIn => {
                self.own.check_in().await;
                Ok(())
            }
            Step::Admit => self.hook(job, Which::New, Hook::Admit).await,
            Step::Confirm => self.own.confirm().await,
            Step::UndoDrain => self.hook(job, Which::New, Hook::Drain).await,
            Step::UndoStop => self.stop(job, Which::New).await,
            Step::UndoSwitch => self.switch(job, Which::Old).await,
            Step::UndoStart => self.start(job, Which::Old).await,
            Step::UndoHandOver => self.hand_over(job, Which::Old).await,
            Step::UndoValidate => match &job.from {
                None => Ok(()),
                Some(end) => validate::old_release(self, job, end, baseline).await,
            },
            Step::UndoAdmit => self.hook(job, Which::Old, Hook::Admit).await,
            Step::Verify
            | Step::Approve
            | Step::Unpack
            | Step::Inspect
            | Step::LinkShared
            | Step::Exchange
            | Step::Commit
            | Step::UndoCommit => Err(failure(
                FailureKind::Host,
                format!("internal error: `{step}` is no step of a switch"),
            )),
        }
    }

    async fn hook(&self, job: &Job, which: Which, hook: Hook) -> Result<(), Failure> {
        let (end, other) = ends(job, which);
        let Some(end) = end else { return Ok(()) };
        let previous = other.map(|other| &other.installed.release);
        hooks::run(&self.config, &job.slot, end, hook, previous).await
    }

    /// The hook, then the unit, unless the other end's start restarts that same unit anyway.
    async fn stop(&self, job: &Job, which: Which) -> Result<(), Failure> {
        self.hook(job, which, Hook::Stop).await?;
        let (end, other) = ends(job, which);
        let unit = end.and_then(|end| end.place.unit.as_deref());
        match unit {
            Some(unit) if other.and_then(|other| other.place.unit.as_deref()) != Some(unit) => {
                self.services.stop(unit).await
            }
            _ => Ok(()),
        }
    }

    async fn start(&self, job: &Job, which: Which) -> Result<(), Failure> {
        self.hook(job, which, Hook::Start).await?;
        let Some(end) = ends(job, which).0 else {
            return Ok(());
        };
        let within = job.view.policy.healthy_deadline.0;
        match (end.place.unit.as_deref(), end.installed.spec.reload) {
            (Some(unit), false) => self.services.restart(unit, within).await,
            (Some(unit), true) => self.services.reload(unit, within).await,
            (None, _) => Ok(()),
        }
    }

    async fn hand_over(&self, job: &Job, which: Which) -> Result<(), Failure> {
        let (to, _) = ends(job, which);
        let forward = job.go.purpose == Purpose::Forward && matches!(which, Which::New);
        let old = || job.from.as_ref().map(|end| end.installed.name.as_str());
        let order = HandOver {
            root: &job.root,
            to: to.map(|end| end.dir.as_path()),
            trial: forward.then(old),
        };
        self.own.hand_over(&*self.services, order).await
    }

    async fn switch(&self, job: &Job, which: Which) -> Result<(), Failure> {
        let name = ends(job, which).0.map(|end| end.installed.name.clone());
        let root = job.root.clone();
        blocking(move || layout::switch(&root, name.as_deref())).await
    }

    /// Refuses to go forward to a release that was edited since it was last compared.
    async fn untouched(&self, job: &Job) -> Result<(), Failure> {
        let Some(end) = &job.to else { return Ok(()) };
        let tree = Tree::new(&self.config, &job.slot, &job.root, &end.installed);
        let Some(drift) = blocking(move || tree.fast()).await?.drift else {
            return Ok(());
        };
        let release = &end.installed.release.version;
        Err(failure(
            FailureKind::Host,
            format!(
                "{release} was edited on the server before it ran: {drift}. It is made anew: deploy again"
            ),
        ))
    }

    /// Refuses to replace a release that was edited on the server: the edit would be lost unseen.
    async fn edited(&self, job: &Job) -> Result<(), Failure> {
        let Some(end) = &job.from else { return Ok(()) };
        let tree = Tree::new(&self.config, &job.slot, &job.root, &end.installed);
        let Some(drift) = blocking(move || tree.fast()).await?.drift else {
            return Ok(());
        };
        let release = &end.installed.release.version;
        let policy = job.view.policy.on_drift;
        match plan::edited(&drift, job.go.adopted.as_ref(), policy) {
            Edited::Adopted => {
                tracing::info!(slot = %job.slot, %release, %drift, "edited on the server, and adopted");
                Ok(())
            }
            Edited::Warned => {
                tracing::warn!(slot = %job.slot, %release, %drift, "edited on the server: that is lost now");
                Ok(())
            }
            Edited::Blocks => Err(failure(
                FailureKind::Drift,
                format!(
                    "edited on the server: {drift}, in {release}. Next: tamer drift --host {}, then --repair or --adopt --reason TEXT",
                    self.config.name
                ),
            )),
        }
    }
}

/// The end that a step is about, and the other one.
fn ends(job: &Job, which: Which) -> (Option<&super::End>, Option<&super::End>) {
    match which {
        Which::Old => (job.from.as_ref(), job.to.as_ref()),
        Which::New => (job.to.as_ref(), job.from.as_ref()),
    }
}
