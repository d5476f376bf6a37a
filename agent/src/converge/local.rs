//! What a person does on the server itself, and what a start finds half done.

use super::launch::Launch;
use super::looking::Due;
use super::routes::RouteStanding;
use super::{Converge, Event, Hands};
use crate::allowed::{AGENT_UNIT, failure};
use crate::config::Config;
use crate::drift::Tree;
use crate::host::{blocking, chain, layout};
use crate::journal::progress::Progress;
use crate::journal::{self, Activation, Journal, JournalError, StateLock};
use crate::plan::activate::local_rollback;
use crate::plan::undo::Stand;
use crate::plan::{Current, Resume, Shape, again, resume};
use std::collections::BTreeMap;
use tamer_core::desired::{ActivationStatus, FailureKind, Slot};
use tokio::sync::{oneshot, watch};

/// What a person on the server asks of the agent that runs there.
#[derive(Debug)]
pub enum Request {
    /// Go back to the release that ran well before, and stay there.
    Rollback {
        /// Which component.
        slot: Slot,
        /// Why, for whoever looks at the fleet.
        reason: String,
        /// Told where it goes, or why it does not.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// Say that the loop goes round.
    Alive {
        /// Told so.
        reply: oneshot::Sender<()>,
    },
    /// Say how the components stand that this host routes for.
    Routes {
        /// Told so.
        reply: oneshot::Sender<Vec<RouteStanding>>,
    },
    /// Follow the controller again.
    Release {
        /// Which component.
        slot: Slot,
        /// Told whether it was held.
        reply: oneshot::Sender<Result<bool, String>>,
    },
}

impl Converge {
    /// Does what a person asks for.
    pub(super) async fn answer(&mut self, request: Request) {
        match request {
            Request::Rollback {
                slot,
                reason,
                reply,
            } => {
                let _ = reply.send(self.go_back(&slot, reason).await);
            }
            Request::Alive { reply } => {
                let _ = reply.send(());
            }
            Request::Routes { reply } => {
                let _ = reply.send(self.route_standings());
            }
            Request::Release { slot, reply } => {
                let journal = self.executor.journal.get();
                let held = journal.slot(&slot).is_some_and(|it| it.hold.is_some());
                let freed = self.executor.journal.update(|it| {
                    if let Some(known) = it.slots.iter_mut().find(|it| it.slot == slot) {
                        known.hold = None;
                    }
                });
                let said = freed.await.map(|_| held).map_err(|e| chain(&e));
                let _ = reply.send(said);
            }
        }
    }

    /// Begins a rollback; the hold is written first, so that no grant comes in between.
    async fn go_back(&mut self, slot: &Slot, reason: String) -> Result<String, String> {
        let journal = self.executor.journal.get();
        let known = journal
            .slot(slot)
            .ok_or_else(|| format!("{slot} is not on this host"))?;
        let root = known
            .root
            .clone()
            .ok_or_else(|| format!("{slot} has never been deployed here"))?;
        if let Some(working) = &self.state(slot).working {
            working.withdrawn.cancel();
            return Err(format!(
                "{slot} is being switched: that is ended now; ask again"
            ));
        }
        if self.state(slot).migration.working.is_some() {
            return Err(format!(
                "a database of {} is being migrated by {slot}: ask again when that has ended",
                slot.application
            ));
        }
        self.rescan(slot).await;
        let running = self.state(slot).running().map(|it| it.release.clone());
        if let Some(target) = known.previous(running.as_ref()) {
            // Without a controller nothing may have compared it since the start.
            if let Some(installed) = self.state(slot).find(target).cloned() {
                let tree = Tree::new(&self.hands.config, slot, &root, &installed);
                let found = blocking(move || tree.fast()).await;
                self.inspected(slot, installed.name.clone(), Due::Fast, found);
            }
        }
        let view = self.view.clone();
        let facts = self.state(slot).facts(None, view.as_ref());
        let go = local_rollback(&facts, known)?;
        let said = format!(
            "{slot} goes back to {}",
            go.to.as_ref().map_or(String::new(), ToString::to_string)
        );
        self.executor
            .journal
            .update(|it| it.slot_mut(slot).hold = Some(reason))
            .await
            .map_err(|e| chain(&e))?;
        let slot = slot.clone();
        self.launch(Launch {
            slot,
            root,
            go,
            interrupted: None,
        });
        Ok(said)
    }

    /// Whether an activation exchanges the agent itself.
    fn is_agent(&mut self, slot: &Slot, activation: &Activation) -> bool {
        let state = self.state(slot);
        let mut ends = activation.from.iter().chain(&activation.to);
        ends.any(|it| {
            let installed = state.find(it);
            installed.is_some_and(|it| Shape::from(&it.spec).is_agent())
        })
    }

    /// Takes up what was interrupted, as [`resume`] decides.
    pub(super) async fn resume_interrupted(&mut self) {
        let journal = self.executor.journal.get();
        for known in &journal.slots {
            let (Some(activation), Some(root)) = (&known.activation, &known.root) else {
                continue;
            };
            let slot = &known.slot;
            let mark = Progress::last(&self.hands.config.state, slot);
            let trial = match self.is_agent(slot, activation) {
                true => self.hands.own.trial().stand(),
                false => Stand::None,
            };
            let mut how = resume(activation, mark.as_deref(), &trial);
            if let (Resume::Undo(why), Stand::TakenBack(_)) = (&mut how, &trial) {
                why.output = self.hands.services.log(AGENT_UNIT, "").await;
            }
            match trial {
                Stand::Runs => tracing::info!(%slot, "goes on with the exchange of the agent"),
                _ => tracing::warn!(%slot, mark, %how, "an activation was interrupted"),
            }
            let state = self.state(slot);
            let gone =
                |release: &Option<_>| release.as_ref().is_some_and(|it| state.find(it).is_none());
            let lost = match &how {
                Resume::Undo(_) => gone(&activation.from),
                Resume::Again => gone(&activation.from) || gone(&activation.to),
            };
            let shape = |release: &Option<_>| {
                let installed = release.as_ref().and_then(|it| state.find(it));
                installed.map(|it| Shape::from(&it.spec))
            };
            let (from, to) = (shape(&activation.from), shape(&activation.to));
            let go = again(activation, from.as_ref(), to.as_ref());
            if lost {
                let why = ActivationStatus::Stuck(failure(
                    FailureKind::Interrupted,
                    "it was interrupted, and a release that it needs is not on disk any more",
                ));
                let ended = self.executor.conclude(slot, &go, why).await;
                self.state(slot).owed = ended.owed.map(|entry| (go, entry));
                continue;
            }
            self.launch(Launch {
                slot: slot.clone(),
                root: root.clone(),
                go,
                interrupted: Some((activation.clone(), how)),
            });
        }
    }
}

/// `tamer-agent recover`: makes a new journal from what is on disk, after the old one was damaged. Every
/// grant given so far is void afterwards, and what `current` leads to is what runs.
///
/// # Errors
/// [`JournalError`], also while an agent runs.
pub fn recover_state(config: &Config) -> Result<Journal, JournalError> {
    let _lock = StateLock::take(&config.state)?;
    journal::recover(&config.state, |slot, root| {
        let found = layout::scan(root, slot, &BTreeMap::new()).ok()?;
        match layout::current(root, &found) {
            Current::Release(release) => Some(release),
            Current::Nothing | Current::Foreign(_) => None,
        }
    })
}

/// `tamer-agent rollback` where no agent runs: goes back, notes the hold, and ends. Where one runs, the
/// state directory is in use, and the request is the agent's to answer.
///
/// # Errors
/// A sentence for the person who asked.
pub async fn rollback_locally(hands: Hands, slot: &Slot, reason: String) -> Result<String, String> {
    let (_keep, nothing) = watch::channel(None);
    let opened = Converge::open(hands, nothing).await;
    let (mut converge, _reports, _requests) = opened.map_err(|e: JournalError| chain(&e))?;
    let said = converge.go_back(slot, reason).await?;
    while let Some(event) = converge.events.recv().await {
        if let Event::Activated(_, ended) = event {
            return match ended.status {
                ActivationStatus::Done => Ok(said),
                ActivationStatus::Refused(why)
                | ActivationStatus::Undone(why)
                | ActivationStatus::Stuck(why) => {
                    Err(format!("{slot}: {}\n{}", why.message, why.output))
                }
                ActivationStatus::Working(_) | ActivationStatus::Expired => {
                    Err(format!("{slot}: it did not end"))
                }
            };
        }
    }
    Err(format!("{slot}: it did not end"))
}
