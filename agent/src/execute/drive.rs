//! Drives a switch from its first step to its end, and back where it fails.

use super::{Executor, Job};
use crate::allowed::failure;
use crate::host::chain;
use crate::journal::progress::{Progress, Side};
use crate::journal::{Activation, Baseline, JournalError};
use crate::plan::{self, Next, Resume, Shape, Step};
use tamer_core::desired::{ActivationReport, ActivationStatus, Failure, FailureKind, Slot};

impl Executor {
    /// Carries out a switch. When this returns, the journal says how it ended, unless it could not be
    /// written: then the status still says it, and the caller remembers it.
    pub async fn activate(&self, job: &Job) -> ActivationStatus {
        let mut run = Run::new(self, job, Baseline::default());
        for &step in &job.go.before {
            if let Err(failure) = run.step(step).await {
                return run.end(ActivationStatus::Refused(failure)).await;
            }
        }
        let activation = Activation {
            grant: job.go.grant,
            purpose: job.go.purpose,
            from: job.go.from.clone(),
            to: job.go.to.clone(),
            tries: 1,
            undoing: None,
            baseline: run.baseline.clone(),
        };
        let begun = self
            .journal
            .update(|it| it.slot_mut(&job.slot).begin(activation, job.go.plan))
            .await;
        match begun {
            Ok(_) => run.change().await,
            Err(error) => run.end(ActivationStatus::Refused(unwritten(&error))).await,
        }
    }

    /// Takes a switch up again that was interrupted; `how` is [`plan::resume`]'s word.
    pub async fn resume(
        &self,
        job: &Job,
        interrupted: &Activation,
        how: Resume,
    ) -> ActivationStatus {
        let run = Run::new(self, job, interrupted.baseline.clone());
        match how {
            Resume::Undo(failure) => run.undo(None, failure).await,
            Resume::Again => {
                let again = self
                    .journal
                    .update(|it| {
                        if let Some(activation) = &mut it.slot_mut(&job.slot).activation {
                            activation.tries += 1;
                        }
                    })
                    .await;
                match again {
                    Ok(_) => run.change().await,
                    Err(error) => run.undo(None, unwritten(&error)).await,
                }
            }
        }
    }
}

impl Executor {
    /// Ends a grant without anything having been changed on the host. When the journal cannot be
    /// written, the caller remembers it.
    pub async fn end_grant(&self, slot: &Slot, report: &ActivationReport) {
        let written = self
            .journal
            .update(|it| it.slot_mut(slot).last = Some(report.clone()))
            .await;
        if let Err(error) = written {
            tracing::error!(%slot, error = %chain(&error), "the journal cannot be written");
        }
    }

    /// Ends an interrupted switch that can be neither taken up nor undone.
    pub async fn give_up(
        &self,
        slot: &Slot,
        interrupted: &Activation,
        why: Failure,
    ) -> ActivationStatus {
        let status = ActivationStatus::Stuck(why);
        let report = interrupted.grant.map(|grant| ActivationReport {
            grant,
            release: interrupted.to.clone(),
            status: status.clone(),
        });
        let written = self
            .journal
            .update(|it| {
                let slot = it.slot_mut(slot);
                slot.activation = None;
                slot.committed = None;
                slot.last = report.or(slot.last.take());
            })
            .await;
        if let Err(error) = written {
            tracing::error!(%slot, error = %chain(&error), "the journal cannot be written");
        }
        status
    }
}

fn unwritten(error: &JournalError) -> Failure {
    failure(
        FailureKind::Disk,
        format!("the journal cannot be written: {}", chain(error)),
    )
}

/// A switch under way.
struct Run<'a> {
    executor: &'a Executor,
    job: &'a Job,
    progress: Progress,
    baseline: Baseline,
}

impl<'a> Run<'a> {
    fn new(executor: &'a Executor, job: &'a Job, baseline: Baseline) -> Self {
        Self {
            executor,
            job,
            progress: Progress::begin(&executor.config.state, &job.slot),
            baseline,
        }
    }

    /// One step between its two marks.
    async fn step(&mut self, step: Step) -> Result<(), Failure> {
        self.progress.mark(step, Side::Before);
        (self.job.at)(step);
        self.executor
            .step(step, self.job, &mut self.baseline)
            .await?;
        self.progress.mark(step, Side::After);
        Ok(())
    }

    /// The steps that change the host.
    async fn change(mut self) -> ActivationStatus {
        for &step in &self.job.go.change {
            let done = match step {
                Step::Commit => self.commit().await,
                step => self.step(step).await,
            };
            let Err(failure) = done else { continue };
            match plan::on_failure(self.job.go.purpose, step) {
                Next::GoOn => tracing::warn!(slot = %self.job.slot, %step, %failure, "going on"),
                Next::Undo | Next::Refuse => return self.undo(Some(step), failure).await,
                Next::Stuck => return self.end(ActivationStatus::Stuck(failure)).await,
            }
        }
        ActivationStatus::Done
    }

    /// One write of the journal says that the new release runs, and how the grant ended.
    async fn commit(&mut self) -> Result<(), Failure> {
        self.progress.mark(Step::Commit, Side::Before);
        let report = self.report(ActivationStatus::Done);
        let slot = &self.job.slot;
        self.executor
            .journal
            .update(|it| {
                let slot = it.slot_mut(slot);
                if let Some(activation) = slot.activation.take() {
                    slot.commit(&activation);
                }
                if report.is_some() {
                    slot.last = report;
                }
            })
            .await
            .map_err(|error| unwritten(&error))?;
        self.progress.mark(Step::Commit, Side::After);
        Ok(())
    }

    /// The way back. `reached` is the step that failed; `None` after an interruption.
    async fn undo(mut self, reached: Option<Step>, failure: Failure) -> ActivationStatus {
        tracing::warn!(slot = %self.job.slot, %failure, "undoing");
        let why = failure.clone();
        let slot = &self.job.slot;
        let noted = self
            .executor
            .journal
            .update(|it| {
                if let Some(activation) = &mut it.slot_mut(slot).activation {
                    activation.undoing = Some(why);
                }
            })
            .await;
        if let Err(error) = noted {
            // The way back is taken all the same: what is there now is not healthy.
            tracing::error!(error = %chain(&error), "the journal cannot be written");
        }
        let shape =
            |end: &Option<super::End>| end.as_ref().map(|it| Shape::from(&it.installed.spec));
        let (from, to) = (shape(&self.job.from), shape(&self.job.to));
        for step in plan::undo(from.as_ref(), to.as_ref(), reached) {
            if step == Step::UndoCommit {
                self.progress.mark(step, Side::Before);
                let status = self.end(ActivationStatus::Undone(failure)).await;
                self.progress.mark(step, Side::After);
                return status;
            }
            let Err(worse) = self.step(step).await else {
                continue;
            };
            if plan::on_failure(self.job.go.purpose, step) == Next::GoOn {
                tracing::warn!(slot = %self.job.slot, %step, failure = %worse, "going on");
                continue;
            }
            let both = Failure {
                message: format!(
                    "{}; and going back failed at `{step}`: {}",
                    failure.message, worse.message
                ),
                output: worse.output,
                ..failure
            };
            return self.end(ActivationStatus::Stuck(both)).await;
        }
        ActivationStatus::Undone(failure)
    }

    /// Writes how it ended.
    async fn end(&self, status: ActivationStatus) -> ActivationStatus {
        let report = self.report(status.clone());
        let slot = &self.job.slot;
        let from = &self.job.go.from;
        let written = self
            .executor
            .journal
            .update(|it| {
                let slot = it.slot_mut(slot);
                match &status {
                    ActivationStatus::Undone(_) => slot.committed.clone_from(from),
                    // What is there now is nobody's word: a new grant activates anew.
                    ActivationStatus::Stuck(_) => slot.committed = None,
                    _ => {}
                }
                slot.activation = None;
                if report.is_some() {
                    slot.last = report;
                }
            })
            .await;
        if let Err(error) = written {
            tracing::error!(slot = %self.job.slot, error = %chain(&error), "the journal cannot be written");
        }
        status
    }

    /// What is reported of the grant; nothing of a rollback by a person on the server.
    fn report(&self, status: ActivationStatus) -> Option<ActivationReport> {
        Some(ActivationReport {
            grant: self.job.go.grant?,
            release: self.job.go.to.clone(),
            status,
        })
    }
}
