//! Drives a switch from its first step to its end, and back where it fails: what comes next is [`Course`]'s word.

use super::{Executor, Job};
use crate::allowed::failure;
use crate::host::chain;
use crate::journal::progress::{Progress, Side};
use crate::journal::{Activation, Baseline, JournalError};
use crate::plan::{Act, Course, Ended, Entry, Go, Resume, Shape, Step};
use tamer_core::desired::{ActivationReport, ActivationStatus, Failure, FailureKind, Slot};

impl Executor {
    /// Carries out a switch. When this returns, the journal says how it ended, or is owed that.
    pub async fn activate(&self, job: &Job) -> Ended {
        let course = Course::begin(job.go.clone(), shapes(job));
        Run::new(self, job, Baseline::default()).take(course).await
    }

    /// Takes a switch up again that was interrupted; `how` is [`crate::plan::resume`]'s word.
    pub async fn resume(&self, job: &Job, interrupted: &Activation, how: Resume) -> Ended {
        let course = Course::resume(job.go.clone(), shapes(job), how);
        let baseline = interrupted.baseline.clone();
        Run::new(self, job, baseline).take(course).await
    }

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

    /// Ends a switch that cannot be carried out, or not to its end.
    pub async fn conclude(&self, slot: &Slot, go: &Go, status: ActivationStatus) -> Ended {
        let entry = Entry::Ended(status.clone());
        let written = self.enter(slot, go, &entry).await;
        let owed = written.is_err().then_some(entry);
        Ended { status, owed }
    }

    /// Writes into the journal what it is told of a switch.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn enter(&self, slot: &Slot, go: &Go, entry: &Entry) -> Result<(), Failure> {
        let nothing = Baseline::default();
        self.enter_begun(slot, go, entry, &nothing).await
    }

    async fn enter_begun(
        &self,
        slot: &Slot,
        go: &Go,
        entry: &Entry,
        baseline: &Baseline,
    ) -> Result<(), Failure> {
        let written = self
            .journal
            .update(|it| entry.write(it.slot_mut(slot), go, baseline));
        match written.await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(%slot, error = %chain(&error), "the journal cannot be written");
                Err(unwritten(&error))
            }
        }
    }
}

fn unwritten(error: &JournalError) -> Failure {
    failure(
        FailureKind::Disk,
        format!("the journal cannot be written: {}", chain(error)),
    )
}

/// What runs, and what is to run.
fn shapes(job: &Job) -> (Option<Shape>, Option<Shape>) {
    let shape = |end: &Option<super::End>| end.as_ref().map(|it| Shape::from(&it.installed.spec));
    (shape(&job.from), shape(&job.to))
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

    async fn take(mut self, mut course: Course) -> Ended {
        loop {
            let outcome = match course.act().clone() {
                Act::Step(step) => self.step(step).await,
                Act::Write(entry) => self.write(&entry).await,
                Act::End(ended) => return ended,
            };
            course.took(outcome);
        }
    }

    /// One step between its two marks.
    async fn step(&mut self, step: Step) -> Result<(), Failure> {
        self.progress.mark(step, Side::Before);
        (self.job.at)(step);
        let outcome = self.executor.step(step, self.job, &mut self.baseline);
        match outcome.await {
            Ok(()) => self.progress.mark(step, Side::After),
            Err(failure) => {
                tracing::warn!(slot = %self.job.slot, %step, %failure, "the step failed");
                return Err(failure);
            }
        }
        Ok(())
    }

    /// One write of the journal, between two marks where it is a step.
    async fn write(&mut self, entry: &Entry) -> Result<(), Failure> {
        let (slot, go) = (&self.job.slot, &self.job.go);
        if let Entry::Undoing(failure) = entry {
            tracing::warn!(%slot, %failure, "undoing");
        }
        if let Some(step) = entry.step() {
            self.progress.mark(step, Side::Before);
        }
        let executor = self.executor;
        executor
            .enter_begun(slot, go, entry, &self.baseline)
            .await?;
        if let Some(step) = entry.step() {
            self.progress.mark(step, Side::After);
        }
        Ok(())
    }
}
