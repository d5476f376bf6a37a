//! What a host sees of itself, and says.

use super::{Host, Memory};
use crate::scenario::{Scenario, Trait};
use tamer_agent::plan::{Act, Current, Entry, Facts, OnDisk};
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{ActivationReport, ActivationStatus, ComponentReport, HostReport, Slot};
use tamer_core::release::ReleaseRef;

impl Host {
    /// Tries the checks of what is at rest, and compares what runs with its manifest.
    pub(super) fn look(&mut self, scenario: &Scenario, now: u64) {
        let slots: Vec<Slot> = self.agent.slots.keys().cloned().collect();
        for slot in slots {
            let checks = self.checks(&slot, scenario, now);
            let current = self.disk.current.get(&slot).map(|it| it.manifest);
            let memory = self.memory(&slot);
            if memory.working.is_none() {
                memory.checks = checks;
                memory.whole.extend(current.map(|it| (it, true)));
            }
        }
    }

    pub(super) fn checks(&self, slot: &Slot, scenario: &Scenario, now: u64) -> Results {
        let Some(release) = self.disk.current.get(slot) else {
            return Results::new();
        };
        let runs = self.services.get(slot).filter(|(it, _)| it == release);
        let well = match (runs, scenario.trait_of(release)) {
            (None, _) => false,
            (_, Trait::FailsCheck) => false,
            (_, Trait::FailsOnSome) => self.number.is_multiple_of(2),
            (Some((_, since)), Trait::FailsLater(after)) => now < since + after,
            _ => true,
        };
        let result = match well && !self.is_sick(now) {
            true => CheckResult::Passed,
            false => CheckResult::Failed("500".to_owned()),
        };
        Results::from([("home".parse().expect("a name"), result)])
    }

    pub(super) fn facts(
        &self,
        slot: &Slot,
        run: Option<&ReleaseRef>,
        scenario: &Scenario,
        now: u64,
    ) -> Facts {
        let nothing = Memory::default();
        let memory = self.agent.slots.get(slot).unwrap_or(&nothing);
        let releases = self.disk.releases.get(slot);
        let on_disk = releases.into_iter().flatten().map(|(release, seq)| OnDisk {
            release: release.clone(),
            name: format!("{seq}-{}", release.version),
            seq: *seq,
            accepted: true,
            approved: true,
            plan: None,
            whole: memory.whole.get(&release.manifest).copied(),
            linked: true,
            stale: false,
            shape: scenario.shape_of(release),
        });
        let current = self.disk.current.get(slot).cloned();
        Facts {
            on_disk: on_disk.collect(),
            current: current.map_or(Current::Nothing, Current::Release),
            revoked: Default::default(),
            environment_version: self.agent.environment,
            staging_failure: run
                .and_then(|run| memory.failed.get(&run.manifest))
                .filter(|(_, until, _)| now < *until)
                .map(|(failure, ..)| failure.clone()),
            switching: memory.working.is_some(),
        }
    }

    /// What it says of itself.
    pub fn report(&self, scenario: &Scenario) -> HostReport {
        let journal = &self.disk.journal;
        let mut slots: Vec<Slot> = journal.slots.iter().map(|it| it.slot.clone()).collect();
        let desired = self.agent.desired.iter().flat_map(|it| &it.components);
        slots.extend(desired.map(|it| it.slot.clone()));
        slots.sort();
        slots.dedup();
        HostReport {
            generation: journal.generation,
            components: slots
                .into_iter()
                .map(|slot| self.component(slot, scenario))
                .collect(),
            checks: Results::new(),
            inspection: None,
            routes: Vec::new(),
        }
    }

    pub(super) fn component(&self, slot: Slot, scenario: &Scenario) -> ComponentReport {
        let nothing = Memory::default();
        let memory = self.agent.slots.get(&slot).unwrap_or(&nothing);
        let facts = self.facts(&slot, None, scenario, 0);
        let known = self.disk.journal.slot(&slot);
        let working = memory.working.as_ref().and_then(|working| {
            let step = match working.course.act() {
                Act::Step(step) => step.name(),
                _ => "begin",
            };
            Some(ActivationReport {
                grant: working.grant?,
                release: working.release.clone(),
                status: ActivationStatus::Working(step.to_owned()),
            })
        });
        let owed = memory.owed.as_ref().and_then(|(go, entry)| {
            let undone = !matches!(entry, Entry::Ended(ActivationStatus::Refused(_)));
            Some(ActivationReport {
                grant: go.grant.filter(|_| undone)?,
                release: go.to.clone(),
                status: ActivationStatus::Working("unwritten".to_owned()),
            })
        });
        let working = working.or(owed);
        let last = known.and_then(|it| it.last.clone());
        let last = match (memory.ended.clone(), last) {
            (Some(memory), Some(journal)) if memory.grant > journal.grant => Some(memory),
            (memory, None) => memory,
            (_, journal) => journal,
        };
        let desired = self.agent.desired.iter().flat_map(|it| &it.components);
        let wanted = desired.filter(|it| it.slot == slot);
        let named = wanted.flat_map(|it| it.run.iter().chain(&it.stage));
        let staging_failure = named
            .filter_map(|release| memory.failed.get(&release.manifest))
            .map(|(failure, ..)| failure.clone())
            .next();
        ComponentReport {
            running: facts.running().cloned(),
            staged: facts
                .on_disk
                .iter()
                .filter(|it| it.ready())
                .map(|it| it.release.manifest)
                .collect(),
            staging_failure,
            activation: working.or(last),
            checks: memory.checks.clone(),
            hold: known.and_then(|it| it.hold.clone()),
            compared: true,
            drift: None,
            repair: None,
            migration: None,
            slot,
        }
    }
}
