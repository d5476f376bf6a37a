//! Activations beside the loop: how one is begun, carried out, and taken note of when it has ended.

use super::slot::Working;
use super::{Converge, Event};
use crate::brake::Brake;
use crate::execute::{End, Executor, Job};
use crate::host::layout;
use crate::journal::Activation;
use crate::plan::{Ended, Go, Resume};
use crate::source::EnvironmentView;
use std::path::PathBuf;
use std::sync::Arc;
use tamer_core::desired::{ActivationReport, ActivationStatus, Slot};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// What a spawned activation needs besides its job's plan.
pub(super) struct Launch {
    pub(super) slot: Slot,
    pub(super) root: PathBuf,
    pub(super) go: Go,
    pub(super) interrupted: Option<(Activation, Resume)>,
}

impl Converge {
    /// Begins an activation beside the loop.
    pub(super) fn launch(&mut self, launch: Launch) {
        let Launch {
            slot,
            root,
            go,
            interrupted,
        } = launch;
        let (from, to) = (
            go.from.as_ref().map(tracing::field::display),
            go.to.as_ref().map(tracing::field::display),
        );
        tracing::info!(%slot, from, to, purpose = %go.purpose, "activating");
        let withdrawn = CancellationToken::new();
        let view = self.view.clone().unwrap_or_default();
        let state = self.state(&slot);
        let repair = state.looking.stop();
        let find = |release: &Option<_>| release.as_ref().and_then(|it| state.find(it).cloned());
        let ends = (find(&go.from), find(&go.to));
        let task = Task {
            executor: self.executor.clone(),
            event: self.event.clone(),
            slot: slot.clone(),
            root,
            view,
            withdrawn: withdrawn.clone(),
            repair,
        };
        let task = tokio::spawn(task.run(go.clone(), ends, interrupted));
        let state = self.state(&slot);
        // What begins now says all that the journal needs to know.
        state.owed = None;
        state.working = Some(Working {
            go,
            step: None,
            withdrawn,
            _task: AbortOnDropHandle::new(task),
        });
    }

    /// Tells the journal what it is still owed of switches that have ended.
    pub(super) async fn settle_ends(&mut self) {
        for (slot, state) in &mut self.slots {
            if let Some((go, entry)) = state.owed.take()
                && self.executor.enter(slot, &go, &entry).await.is_err()
            {
                state.owed = Some((go, entry));
            }
        }
    }

    /// An activation ended: what is there is looked at anew, and its checks are tried at once.
    pub(super) async fn activated(&mut self, slot: &Slot, ended: Ended) {
        let Ended { status, owed } = ended;
        tracing::info!(%slot, %status, "activation ended");
        self.rescan(slot).await;
        let state = self.state(slot);
        if let Some(working) = state.working.take() {
            // It may be refused because it is not what it was when it was staged: so it is compared again.
            if let (ActivationStatus::Refused(_), Some(to)) = (&status, &working.go.to)
                && let Some(installed) = state.find(to)
            {
                let name = installed.name.clone();
                state.drift.remove(&name);
            }
            state.ended = working.go.grant.map(|grant| ActivationReport {
                grant,
                release: working.go.to.clone(),
                status,
            });
            state.owed = owed.map(|entry| (working.go, entry));
        }
        state.checks.clear();
        self.checks.forget(Some(slot));
    }
}

/// An activation beside the loop.
struct Task {
    executor: Executor,
    event: mpsc::UnboundedSender<Event>,
    slot: Slot,
    root: PathBuf,
    view: EnvironmentView,
    withdrawn: CancellationToken,
    /// A repair that was under way.
    repair: Option<Arc<Brake>>,
}

type Found = Option<Arc<layout::Installed>>;

impl Task {
    async fn run(self, go: Go, ends: (Found, Found), interrupted: Option<(Activation, Resume)>) {
        let (event, slot) = (self.event.clone(), self.slot.clone());
        if let Some(repair) = &self.repair {
            repair.at_rest().await;
        }
        let ended = self.activate(go, ends, interrupted).await;
        let _ = event.send(Event::Activated(slot, ended));
    }

    async fn activate(
        self,
        go: Go,
        ends: (Found, Found),
        interrupted: Option<(Activation, Resume)>,
    ) -> Ended {
        let executor = &self.executor;
        let end = async |installed: Found| match installed {
            None => Ok(None),
            Some(it) => End::new(&executor.config, &self.slot, &self.root, &it)
                .await
                .map(Some),
        };
        let both = match (end(ends.0).await, end(ends.1).await) {
            (Ok(from), Ok(to)) => Ok((from, to)),
            (Err(failure), _) | (_, Err(failure)) => Err(failure),
        };
        let (from, to) = match both {
            Ok(both) => both,
            Err(failure) => {
                let status = match &interrupted {
                    Some(_) => ActivationStatus::Stuck(failure),
                    None => ActivationStatus::Refused(failure),
                };
                return executor.conclude(&self.slot, &go, status).await;
            }
        };
        let (event, slot) = (self.event, self.slot.clone());
        let job = Job {
            slot: self.slot,
            root: self.root,
            go,
            from,
            to,
            view: self.view,
            withdrawn: self.withdrawn,
            at: Box::new(move |step| {
                let _ = event.send(Event::At(slot.clone(), step));
            }),
        };
        match interrupted {
            None => executor.activate(&job).await,
            Some((activation, how)) => executor.resume(&job, &activation, how).await,
        }
    }
}
