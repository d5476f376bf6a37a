//! One round: over each component is decided what is to be done now, and that is begun.

use super::launch::Launch;
use super::{Converge, Event, Staging};
use crate::execute::environment::is_told;
use crate::execute::stage::StageJob;
use crate::host::layout;
use crate::host::shared;
use crate::journal::SlotJournal;
use crate::plan::{self, Decision, OnDisk, Step};
use std::sync::Arc;
use tamer_core::desired::{ActivationReport, Desired, DesiredComponent, Slot};
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The longest time without a round: clocks are corrected meanwhile.
const MAX_SLEEP: std::time::Duration = std::time::Duration::from_secs(60);

impl Converge {
    /// Decides over everything once, and begins what is to be done.
    pub(super) async fn round(&mut self) {
        let Some(desired) = self.desired.clone() else {
            self.watch_at_rest();
            return;
        };
        self.settle_ends().await;
        self.ask_for_environment(&desired);
        let mut written_soon = false;
        for wanted in &desired.components {
            // A database is migrated by what is staged, while nothing is switched here.
            if !self.migrate(wanted).await {
                written_soon |= self.decide(&desired, wanted).await;
            }
        }
        if !written_soon {
            self.settle().await;
        }
        self.stage_next(&desired);
        for wanted in &desired.components {
            self.lead_back(wanted).await;
            self.repair(wanted, desired.environment_version);
        }
        for wanted in &desired.components {
            self.prune(wanted);
        }
        self.ask_what_differs(&desired);
        self.route_all(&desired).await;
        self.watch_at_rest();
    }

    /// Fetches the environment's file where the desired state was made with a newer one.
    fn ask_for_environment(&mut self, desired: &Desired) {
        let needed = desired.environment_version;
        let known = self
            .view
            .as_ref()
            .is_some_and(|view| view.version >= needed);
        let early = self
            .view_retry
            .is_some_and(|retry| Instant::now() < retry.at);
        if known || early || self.view_asked.is_some() {
            return;
        }
        self.view_asked = Some(needed);
        let (source, event) = (Arc::clone(&self.hands.source), self.event.clone());
        tokio::spawn(async move {
            let outcome = source.environment(needed).await;
            let _ = event.send(Event::Environment(outcome));
        });
    }

    /// Decides over one component. Says whether an activation was begun that writes the journal at once.
    async fn decide(&mut self, desired: &Desired, wanted: &DesiredComponent) -> bool {
        let slot = &wanted.slot;
        let journal = self.executor.journal.get();
        let unknown = SlotJournal::new(slot.clone());
        let known = journal.slot(slot).unwrap_or(&unknown);
        let now = (self.hands.clock)();
        let view = self.view.clone();
        let state = self.state(slot);
        if let Some(root) = &known.root {
            state.look_at_current(root);
        }
        if let Some(working) = &state.working {
            // Only another wish ends it: one that merely says nothing of the grant any more does not.
            if working.go.grant.is_some() && wanted.run != working.go.to {
                working.withdrawn.cancel();
            }
            return false;
        }
        if let (Some(ended), Some(grant)) = (&state.ended, wanted.grant)
            && ended.grant >= grant.id
        {
            return false; // It ended, and only the journal does not know.
        }
        let facts = state.facts(wanted.run.as_ref(), view.as_ref());
        let needed = desired.environment_version;
        let decision = plan::activation(wanted, needed, &facts, known, journal.void_through, now);
        match decision {
            Decision::Wait(why) => {
                tracing::debug!(%slot, %why, "waits");
                false
            }
            Decision::End(status) => {
                let Some(grant) = wanted.grant else {
                    return false;
                };
                tracing::info!(%slot, grant = %grant.id, %status, "grant ended");
                let report = ActivationReport {
                    grant: grant.id,
                    release: wanted.run.clone(),
                    status,
                };
                self.executor.end_grant(slot, &report).await;
                self.state(slot).ended = Some(report);
                true
            }
            Decision::Go(go) => {
                let Some(root) = known.root.clone() else {
                    return false;
                };
                let switches = self.slots.values().filter_map(|it| it.working.as_ref());
                // Nor does the agent's restart interrupt what is being done to a database.
                let migrations = self.slots.values().map(|it| &it.migration.working);
                let migrations = migrations.filter(|it| it.is_some()).map(|_| false);
                if !go.may_begin(switches.map(|it| it.go.exchanges_agent()).chain(migrations)) {
                    tracing::debug!(%slot, "waits for another component's switch");
                    return false;
                }
                let writes = go.before.is_empty();
                let slot = slot.clone();
                self.launch(Launch {
                    slot,
                    root,
                    go: *go,
                    interrupted: None,
                });
                writes
            }
        }
    }

    /// Begins the most urgent staging that is due, or ends one that nobody wants any more.
    fn stage_next(&mut self, desired: &Desired) {
        let wants = |it: &Staging| {
            let component = desired.components.iter().find(|c| c.slot == it.slot);
            component.is_some_and(|c| {
                let mut named = c
                    .run
                    .iter()
                    .chain(&c.stage)
                    .map(|release| &release.manifest);
                named.any(|manifest| *manifest == it.release) || c.keep.contains(&it.release)
            })
        };
        if let Some(staging) = &self.staging {
            if !wants(staging) && !staging.withdrawn.is_cancelled() {
                tracing::info!(slot = %staging.slot, release = %staging.release.short(), "staging withdrawn");
                staging.withdrawn.cancel();
            }
            return;
        }
        self.drop_downloads();
        let now = Instant::now();
        for (slot, state) in &mut self.slots {
            let wanted = desired.components.iter().find(|it| it.slot == *slot);
            state.forget_failures(wanted);
        }
        let journal = self.executor.journal.get();
        for wanted in &desired.components {
            let view = self.view.clone();
            let unknown = SlotJournal::new(wanted.slot.clone());
            let known = journal.slot(&wanted.slot).unwrap_or(&unknown);
            let state = self.state(&wanted.slot);
            let facts = state.facts(wanted.run.as_ref(), view.as_ref());
            let missing = plan::stage(wanted, &facts, known);
            // Of what is ready and lacks nothing no failure is left: what it lacked then is not due now.
            let settled = |it: &Digest| {
                let ready = facts.find(it).is_some_and(OnDisk::ready);
                ready
                    && missing
                        .iter()
                        .all(|staging| staging.release.manifest != *it)
            };
            state.failed.retain(|digest, _| !settled(digest));
            for staging in missing {
                let digest = staging.release.manifest;
                let early = state
                    .failed
                    .get(&digest)
                    .is_some_and(|(_, retry)| now < retry.at);
                let installed = state.find(&staging.release).cloned();
                let busy = installed
                    .as_ref()
                    .is_some_and(|it| state.pruning.contains(&it.name));
                // Nor is anything made again in what is being looked at: that waits its turn.
                let looked_at = state
                    .running()
                    .is_some_and(|it| it.release == staging.release)
                    && state.looking.make_way();
                if early || busy || looked_at {
                    continue;
                }
                let steps = match staging.steps {
                    Ok(steps) => steps,
                    Err(failure) => {
                        state.staged(digest, Err(failure));
                        continue;
                    }
                };
                let mut older = state.older(&digest);
                // Most of one that was edited is still good.
                let edited = installed.iter().filter(|_| steps.contains(&Step::Exchange));
                older.splice(..0, edited.cloned());
                let job = StageJob {
                    slot: wanted.slot.clone(),
                    release: staging.release,
                    steps,
                    environment_version: desired.environment_version,
                    installed,
                    older,
                    next_seq: state.next_seq(),
                    ahead: staging.ahead,
                    newest: known.newest_plan().copied(),
                    withdrawn: CancellationToken::new(),
                };
                self.stage(job);
                return;
            }
        }
    }

    fn stage(&mut self, job: StageJob) {
        let (slot, release) = (job.slot.clone(), job.release.manifest);
        let withdrawn = job.withdrawn.clone();
        let (stager, event) = (self.stager.clone(), self.event.clone());
        let task = tokio::spawn(async move {
            let outcome = stager.stage(&job).await;
            let _ = event.send(Event::Staged(job.slot, job.release.manifest, outcome));
        });
        self.staging = Some(Staging {
            slot,
            release,
            withdrawn,
            _task: AbortOnDropHandle::new(task),
        });
    }

    /// Begins to remove what a component does not need.
    fn prune(&mut self, wanted: &DesiredComponent) {
        let journal = self.executor.journal.get();
        let Some(known) = journal.slot(&wanted.slot) else {
            return;
        };
        let Some(root) = known.root.clone() else {
            return;
        };
        let staging = self
            .staging
            .as_ref()
            .is_some_and(|it| it.slot == wanted.slot);
        let keep = self.hands.config.keep;
        let state = self.state(&wanted.slot);
        let busy =
            state.working.is_some() || state.migration.working.is_some() || state.looking.repairs();
        let early = state
            .not_pruned
            .is_some_and(|retry| Instant::now() < retry.at);
        if staging || busy || early || !state.pruning.is_empty() {
            return;
        }
        let facts = state.facts(None, None);
        let names = plan::prune(Some(wanted), &facts, known, keep);
        let doomed: Vec<_> = names
            .iter()
            .filter_map(|name| state.installed.get(name).cloned())
            .collect();
        state.pruning.extend(names);
        if doomed.is_empty() {
            state.not_pruned = None;
            return;
        }
        let (stager, event, slot) = (self.stager.clone(), self.event.clone(), wanted.slot.clone());
        tokio::spawn(async move {
            for installed in doomed {
                let outcome = stager.remove(&slot, &root, &installed).await;
                let name = installed.name.clone();
                let _ = event.send(Event::Pruned(slot.clone(), name, outcome));
            }
        });
    }

    /// Looks at a component's directories again.
    pub(super) async fn rescan(&mut self, slot: &Slot) {
        let journal = self.executor.journal.get();
        let Some(root) = journal.slot(slot).and_then(|it| it.root.clone()) else {
            self.state(slot);
            return;
        };
        let known = self.state(slot).installed.clone();
        let (given, place) = (slot.clone(), root.clone());
        let found = crate::host::blocking(move || {
            let found = layout::scan(&place, &given, &known)?;
            let linked = found
                .values()
                .filter(|it| {
                    let dir = layout::releases(&place).join(&it.name);
                    shared::linked(&dir, &it.spec) && is_told(&dir)
                })
                .map(|it| it.name.clone())
                .collect();
            Ok((found, linked))
        })
        .await;
        let environment = self.hands.config.environment.clone();
        let record = Arc::clone(&self.stager.acceptance);
        let record = record.lock().await;
        let state = self.state(slot);
        match found {
            Ok((found, linked)) => {
                state.installed = found;
                state.linked = linked;
            }
            Err(why) => tracing::error!(%slot, %why, "cannot look at the releases"),
        }
        state.judge(&record, slot, &environment);
        state.look_at_current(&root);
    }

    /// When the next round is due, if nothing happens before.
    pub(super) fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut wake = now + MAX_SLEEP;
        if let (Some(retry), None) = (self.view_retry, self.view_asked) {
            wake = wake.min(retry.at);
        }
        if self.staging.is_none() {
            let retries = self.slots.values().flat_map(|slot| slot.failed.values());
            for (_, retry) in retries {
                wake = wake.min(retry.at.max(now + std::time::Duration::from_millis(100)));
            }
        }
        let clock: Moment = (self.hands.clock)();
        for wanted in self.desired.iter().flat_map(|it| &it.components) {
            let state = self.slots.get(&wanted.slot);
            let busy = state.is_some_and(|it| it.working.is_some());
            if let Some(retry) = state.and_then(|it| it.not_pruned) {
                wake = wake.min(retry.at.max(now + std::time::Duration::from_secs(1)));
            }
            if let (Some(grant), false) = (wanted.grant, busy)
                && grant.start_by >= clock
            {
                let left = grant.start_by.since(clock) + std::time::Duration::from_millis(1);
                wake = wake.min(now + left);
            }
            if let Some(order) = &wanted.migrate
                && order.start_by >= clock
            {
                let left = order.start_by.since(clock) + std::time::Duration::from_millis(1);
                wake = wake.min(now + left);
            }
        }
        let resting = self
            .slots
            .values()
            .filter(|it| it.working.is_none() && it.running().is_some());
        if let Some(at) = resting.filter_map(|it| it.looking.wake_at()).min() {
            wake = wake.min(at);
        }
        self.checks.wake_at(self.route_wake(wake))
    }
}
