//! The loop around the plans: what is decided, and what is begun because of that.

use super::{Host, Later, Working, failure, shape};
use crate::chance::Chance;
use crate::scenario::{Scenario, Trait};
use tamer_agent::journal::{Baseline, SlotJournal};
use tamer_agent::plan::{self, Course, Decision, Step};
use tamer_core::desired::{ActivationReport, Desired, DesiredComponent, FailureKind, Slot};
use tamer_core::release::ReleaseRef;

/// How many releases are kept, at least: `keep` of `agent.toml`.
const KEEP: usize = 5;

impl Host {
    /// Decides over everything once, and begins what is to be done.
    pub fn round(
        &mut self,
        scenario: &Scenario,
        chance: &mut Chance,
        now: u64,
    ) -> Vec<(u64, Later)> {
        let mut later = Vec::new();
        self.look(scenario, now);
        let Some(desired) = self.agent.desired.clone() else {
            return later;
        };
        let needed = desired.environment_version;
        let known = self.agent.environment.is_some_and(|known| known >= needed);
        if !known && self.agent.asked.is_none() && self.agent.line.is_some() {
            self.agent.asked = Some(needed);
            later.push((chance.between(5, 3_000), Later::Environment(needed)));
        }
        self.settle_ends(now);
        let mut written_soon = false;
        for wanted in &desired.components {
            written_soon |= self.decide(&desired, wanted, scenario, chance, now, &mut later);
        }
        if !written_soon {
            let _ = self.write(now, |_| ());
        }
        self.stage(&desired, scenario, chance, now, &mut later);
        for wanted in &desired.components {
            self.prune(wanted, scenario);
        }
        later
    }

    pub(super) fn decide(
        &mut self,
        desired: &Desired,
        wanted: &DesiredComponent,
        scenario: &Scenario,
        chance: &mut Chance,
        now: u64,
        later: &mut Vec<(u64, Later)>,
    ) -> bool {
        let slot = &wanted.slot;
        let unknown = SlotJournal::new(slot.clone());
        let known = self.disk.journal.slot(slot).unwrap_or(&unknown).clone();
        let void = self.disk.journal.void_through;
        let clock = self.clock(now);
        let facts = self.facts(slot, wanted.run.as_ref(), scenario, now);
        let memory = self.agent.slots.entry(slot.clone()).or_default();
        if let Some(working) = &mut memory.working {
            working.withdrawn |= working.grant.is_some() && wanted.run != working.release;
            return false;
        }
        if let (Some(ended), Some(grant)) = (&memory.ended, wanted.grant)
            && ended.grant >= grant.id
        {
            return false;
        }
        let needed = desired.environment_version;
        match plan::activation(wanted, needed, &facts, &known, void, clock) {
            Decision::Wait(_) => false,
            Decision::End(status) => {
                let Some(grant) = wanted.grant else {
                    return false;
                };
                let report = ActivationReport {
                    grant: grant.id,
                    release: wanted.run.clone(),
                    status,
                };
                let written = report.clone();
                let _ = self.write(now, |it| it.slot_mut(slot).last = Some(written));
                self.memory(slot).ended = Some(report);
                true
            }
            Decision::Go(go) => {
                let others = self.agent.slots.values().filter(|it| it.working.is_some());
                if !go.may_begin(others.map(|_| false)) {
                    return false;
                }
                let writes = go.before.is_empty();
                let ends = (shape(&go.from, scenario), shape(&go.to, scenario));
                let course = Course::begin(*go, ends);
                self.launch(slot, course, Baseline::default(), scenario, chance, later);
                writes
            }
        }
    }

    pub(super) fn launch(
        &mut self,
        slot: &Slot,
        course: Course,
        baseline: Baseline,
        scenario: &Scenario,
        chance: &mut Chance,
        later: &mut Vec<(u64, Later)>,
    ) {
        let go = course.go();
        let working = Working {
            grant: go.grant,
            release: go.to.clone(),
            withdrawn: false,
            baseline,
            course,
        };
        later.push((
            self.duration(&working, scenario, chance),
            Later::Acted(slot.clone()),
        ));
        let memory = self.memory(slot);
        memory.owed = None;
        memory.working = Some(working);
    }

    /// Tells the journal what it is still owed.
    pub(super) fn settle_ends(&mut self, now: u64) {
        let slots: Vec<Slot> = self.agent.slots.keys().cloned().collect();
        for slot in slots {
            let Some((go, entry)) = self.memory(&slot).owed.take() else {
                continue;
            };
            let baseline = Baseline::default();
            let written = self.write(now, |it| entry.write(it.slot_mut(&slot), &go, &baseline));
            if written.is_err() {
                self.memory(&slot).owed = Some((go, entry));
            }
        }
    }

    /// Whether it is just being changed: what an agent does, or one that was killed has not ended.
    pub fn changes(&self, slot: &Slot) -> bool {
        let known = self.disk.journal.slot(slot);
        let begun = known.is_some_and(|it| it.activation.is_some());
        let memory = self.agent.slots.get(slot);
        begun && (!self.up || memory.is_some_and(|it| it.working.is_some()))
    }

    /// Begins the most urgent staging that is due.
    pub(super) fn stage(
        &mut self,
        desired: &Desired,
        scenario: &Scenario,
        chance: &mut Chance,
        now: u64,
        later: &mut Vec<(u64, Later)>,
    ) {
        if self.agent.staging.is_some() {
            return;
        }
        for wanted in &desired.components {
            let facts = self.facts(&wanted.slot, wanted.run.as_ref(), scenario, now);
            let unknown = SlotJournal::new(wanted.slot.clone());
            let known = self.disk.journal.slot(&wanted.slot);
            for staging in plan::stage(wanted, &facts, known.unwrap_or(&unknown)) {
                let digest = staging.release.manifest;
                let memory = self.memory(&wanted.slot);
                let early = memory.failed.get(&digest).is_some_and(|it| now < it.1);
                let Ok(steps) = staging.steps else { continue };
                if early {
                    continue;
                }
                let fetches = steps.contains(&Step::Unpack);
                let after = match fetches {
                    true => chance.between(200, 60_000),
                    false => chance.between(20, 500),
                };
                let slot = wanted.slot.clone();
                self.agent.staging = Some((slot.clone(), digest));
                later.push((after, Later::Staged(slot, staging.release)));
                return;
            }
        }
    }

    /// A staging ends.
    pub fn staged(
        &mut self,
        slot: &Slot,
        release: &ReleaseRef,
        scenario: &Scenario,
        chance: &mut Chance,
        now: u64,
    ) {
        self.agent.staging = None;
        let on_disk = self.disk.releases.entry(slot.clone()).or_default();
        let there = on_disk.iter().any(|(it, _)| it == release);
        let outcome = if there {
            Ok(())
        } else if scenario.trait_of(release) == Trait::Untrusted {
            Err(failure(FailureKind::Evidence, "nobody has reviewed it"))
        } else if self.agent.line.is_none() || chance.permille(20) {
            Err(failure(FailureKind::Fetch, "the line was cut"))
        } else if now < self.full_until {
            Err(failure(FailureKind::Disk, "no room is left"))
        } else {
            let seq = on_disk.iter().map(|(_, seq)| *seq).max().unwrap_or(0) + 1;
            on_disk.push((release.clone(), seq));
            Ok(())
        };
        let memory = self.memory(slot);
        match outcome {
            Ok(()) => {
                memory.failed.remove(&release.manifest);
                memory.whole.insert(release.manifest, true);
                // As the executor does: since the first release was staged it is known where it lives.
                let root = format!("/srv/{}/{}", slot.application, slot.component);
                if self
                    .disk
                    .journal
                    .slot(slot)
                    .is_none_or(|it| it.root.is_none())
                {
                    let _ = self.write(now, |it| it.slot_mut(slot).root = Some(root.into()));
                }
            }
            Err(failure) => {
                let times = memory.failed.get(&release.manifest).map_or(0, |it| it.2);
                let wait = (1_000_u64 << times.min(9)).min(300_000);
                let entry = (failure, now + wait, times + 1);
                memory.failed.insert(release.manifest, entry);
            }
        }
    }

    /// The environment's file has come, if there is a line.
    pub fn environment(&mut self, version: u64) {
        self.agent.asked = None;
        if self.agent.line.is_some() {
            self.agent.environment = Some(version);
        }
    }

    pub(super) fn prune(&mut self, wanted: &DesiredComponent, scenario: &Scenario) {
        let slot = &wanted.slot;
        let memory = self.memory(slot);
        let busy = memory.working.is_some();
        let staging = self.agent.staging.as_ref().is_some_and(|it| it.0 == *slot);
        let Some(known) = self.disk.journal.slot(slot).cloned() else {
            return;
        };
        if busy || staging {
            return;
        }
        let facts = self.facts(slot, None, scenario, 0);
        let doomed = plan::prune(Some(wanted), &facts, &known, KEEP);
        if let Some(releases) = self.disk.releases.get_mut(slot) {
            releases
                .retain(|(release, seq)| !doomed.contains(&format!("{seq}-{}", release.version)));
        }
    }
}
