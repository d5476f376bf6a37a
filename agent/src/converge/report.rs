//! What the host says of itself.

use super::Converge;
use crate::plan::{self, Current, Entry, OnDisk};
use tamer_core::desired::{ActivationReport, ActivationStatus, ComponentReport, HostReport, Slot};

/// The step that an activation is at that has ended and that the journal could not be told of.
const UNWRITTEN: &str = "end: the journal cannot be written";

impl Converge {
    /// Publishes the report if anything in it is new.
    pub(super) fn publish(&mut self) {
        let journal = self.executor.journal.get();
        let mut slots: Vec<Slot> = journal.slots.iter().map(|it| it.slot.clone()).collect();
        for wanted in self.desired.iter().flat_map(|it| &it.components) {
            if !slots.contains(&wanted.slot) {
                slots.push(wanted.slot.clone());
            }
        }
        slots.sort();
        let components = slots.into_iter().map(|slot| self.component(slot)).collect();
        let report = HostReport {
            generation: journal.generation,
            components,
            checks: self.checks.environment.clone(),
            routes: self.route_reports(),
            inspection: self.inspection(),
        };
        self.outgoing.send_if_modified(|known| {
            let new = *known != report;
            if new {
                *known = report;
            }
            new
        });
    }

    fn component(&mut self, slot: Slot) -> ComponentReport {
        let journal = self.executor.journal.get();
        let known = journal.slot(&slot);
        let wanted = self
            .desired
            .as_ref()
            .and_then(|it| it.components.iter().find(|c| c.slot == slot))
            .cloned();
        let state = self.state(&slot);
        let facts = state.facts(None, None);
        let working = state.working.as_ref().and_then(|working| {
            Some(ActivationReport {
                grant: working.go.grant?,
                release: working.go.to.clone(),
                status: ActivationStatus::Working(
                    working.step.map_or("begin", |step| step.name()).to_owned(),
                ),
            })
        });
        // What was undone and is not in the journal yet would be taken up again by the next agent: it has not ended.
        let owed = state.owed.as_ref().and_then(|(go, entry)| {
            let undone = !matches!(entry, Entry::Ended(ActivationStatus::Refused(_)));
            Some(ActivationReport {
                grant: go.grant.filter(|_| undone)?,
                release: go.to.clone(),
                status: ActivationStatus::Working(UNWRITTEN.to_owned()),
            })
        });
        let working = working.or(owed);
        let last = known.and_then(|it| it.last.clone());
        let named = wanted.iter().flat_map(|it| it.run.iter().chain(&it.stage));
        let staging_failure = named
            .filter_map(|release| state.failed.get(&release.manifest))
            .map(|(failure, _)| failure.clone())
            .next();
        let drift = match &state.current {
            Current::Foreign(what) => Some(Some(plan::foreign(what))),
            Current::Nothing | Current::Release(_) => state
                .running()
                .and_then(|it| state.drift.get(&it.name))
                .cloned(),
        };
        ComponentReport {
            running: facts.running().cloned(),
            staged: facts
                .on_disk
                .iter()
                .filter(|it| it.ready())
                .map(|it: &OnDisk| it.release.manifest)
                .collect(),
            staging_failure,
            activation: working.or_else(|| newer(state.ended.clone(), last)),
            checks: state.checks.clone(),
            hold: known.and_then(|it| it.hold.clone()),
            compared: drift.is_some(),
            drift: drift.flatten(),
            repair: state.looking.failed.clone(),
            migration: state.migration.report(known),
            slot,
        }
    }
}

/// The newer of what memory and what the journal holds; the journal's word where both know it.
fn newer(
    memory: Option<ActivationReport>,
    journal: Option<ActivationReport>,
) -> Option<ActivationReport> {
    match (memory, journal) {
        (Some(memory), Some(journal)) if memory.grant > journal.grant => Some(memory),
        (memory, None) => memory,
        (_, journal) => journal,
    }
}
