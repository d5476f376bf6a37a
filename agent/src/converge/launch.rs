//! Activations beside the loop: how one is begun, carried out, and taken note of when it has ended.

use super::slot::Working;
use super::{Converge, Event};
use crate::brake::Brake;
use crate::execute::{End, Executor, Job};
use crate::host::layout;
use crate::journal::Activation;
use crate::plan::{Go, Resume};
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
        let (grant, release) = (go.grant, go.to.clone());
        let own = go.exchanges_agent();
        let task = tokio::spawn(task.run(go, ends, interrupted));
        self.state(&slot).working = Some(Working {
            grant,
            release,
            step: None,
            own,
            withdrawn,
            _task: AbortOnDropHandle::new(task),
        });
    }

    /// An activation ended: what is there is looked at anew, and its checks are tried at once.
    pub(super) async fn activated(&mut self, slot: &Slot, status: ActivationStatus) {
        tracing::info!(%slot, %status, "activation ended");
        self.rescan(slot).await;
        let state = self.state(slot);
        if let Some(working) = state.working.take() {
            // It may be refused because it is not what it was when it was staged: so it is compared again.
            if let (ActivationStatus::Refused(_), Some(to)) = (&status, &working.release)
                && let Some(installed) = state.find(to)
            {
                let name = installed.name.clone();
                state.drift.remove(&name);
            }
            state.ended = working.grant.map(|grant| ActivationReport {
                grant,
                release: working.release,
                status,
            });
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
        let status = self.activate(go, ends, interrupted).await;
        let _ = event.send(Event::Activated(slot, status));
    }

    async fn activate(
        self,
        go: Go,
        ends: (Found, Found),
        interrupted: Option<(Activation, Resume)>,
    ) -> ActivationStatus {
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
        let (from, to) = match (both, &interrupted) {
            (Ok(both), _) => both,
            (Err(failure), Some((activation, _))) => {
                return executor.give_up(&self.slot, activation, failure).await;
            }
            (Err(failure), None) => {
                let status = ActivationStatus::Refused(failure);
                if let Some(grant) = go.grant {
                    let report = ActivationReport {
                        grant,
                        release: go.to.clone(),
                        status: status.clone(),
                    };
                    executor.end_grant(&self.slot, &report).await;
                }
                return status;
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
