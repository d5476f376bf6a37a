//! A switch under way: how long each act takes, and what it does.

use super::{Host, Note, Working, failure};
use crate::chance::Chance;
use crate::scenario::{Scenario, Trait};
use tamer_agent::plan::{self, Act, Entry, Step};
use tamer_core::check::CheckResult;
use tamer_core::desired::{ActivationReport, ActivationStatus, Failure, FailureKind, Slot};
use tamer_core::release::ReleaseRef;

impl Host {
    /// How long the act takes that is under way.
    pub(super) fn duration(
        &self,
        working: &Working,
        scenario: &Scenario,
        chance: &mut Chance,
    ) -> u64 {
        if chance.permille(2) {
            return chance.between(60_000, 900_000); // Something hangs.
        }
        let healthy = u64::from(!chance.permille(100)) * 10_000;
        match working.course.act() {
            Act::Write(_) | Act::End(_) => chance.between(1, 30),
            Act::Step(Step::Validate | Step::UndoValidate) => {
                let to = working.release.as_ref().map(|it| scenario.trait_of(it));
                match to {
                    Some(Trait::FailsCheck | Trait::FailsOnSome) => chance.between(500, 60_000),
                    _ => healthy.max(10_000) + chance.between(0, 2_000),
                }
            }
            Act::Step(Step::Start | Step::PreChecks | Step::UndoStart) => chance.between(50, 3_000),
            Act::Step(_) => chance.between(1, 300),
        }
    }

    /// The act that is under way ends: what it does is done, and what comes next begins.
    pub fn acted(
        &mut self,
        slot: &Slot,
        scenario: &Scenario,
        chance: &mut Chance,
        now: u64,
    ) -> (Option<Note>, Option<u64>) {
        let Some(mut working) = self.memory(slot).working.take() else {
            return (None, None);
        };
        let act = working.course.act().clone();
        let outcome = self.carry_out(slot, &mut working, &act, scenario, chance, now);
        let done = outcome.is_ok();
        working.course.took(outcome);
        let mut note = None;
        if let (Act::Write(Entry::Begun), true) = (&act, done) {
            note = Some(Note::Begun(working.course.go().clone()));
        }
        if let Act::End(plan::Ended { status, owed }) = working.course.act().clone() {
            let go = working.course.go().clone();
            let memory = self.memory(slot);
            memory.owed = owed.map(|entry| (go.clone(), entry));
            if let (ActivationStatus::Refused(_), Some(to)) = (&status, &go.to) {
                memory.whole.remove(&to.manifest);
            }
            memory.ended = go.grant.map(|grant| ActivationReport {
                grant,
                release: go.to.clone(),
                status: status.clone(),
            });
            memory.checks.clear();
            return (Some(Note::Ended(go, status)), None);
        }
        let after = self.duration(&working, scenario, chance);
        self.memory(slot).working = Some(working);
        (note, Some(after))
    }

    pub(super) fn carry_out(
        &mut self,
        slot: &Slot,
        working: &mut Working,
        act: &Act,
        scenario: &Scenario,
        chance: &mut Chance,
        now: u64,
    ) -> Result<(), Failure> {
        match act {
            Act::End(_) => Ok(()),
            Act::Write(entry) => {
                let go = working.course.go();
                let baseline = &working.baseline;
                self.write(now, |it| entry.write(it.slot_mut(slot), go, baseline))
            }
            Act::Step(step) => {
                self.disk
                    .marks
                    .insert(slot.clone(), format!("before {step}"));
                self.step(slot, working, *step, scenario, chance, now)?;
                self.disk
                    .marks
                    .insert(slot.clone(), format!("after {step}"));
                Ok(())
            }
        }
    }

    pub(super) fn step(
        &mut self,
        slot: &Slot,
        working: &mut Working,
        step: Step,
        scenario: &Scenario,
        chance: &mut Chance,
        now: u64,
    ) -> Result<(), Failure> {
        if chance.permille(4) {
            return Err(failure(FailureKind::Host, "something on the host refused"));
        }
        let go = working.course.go().clone();
        let to = go.to.as_ref().map(|it| scenario.trait_of(it));
        let worse = |host: &Self| {
            let before = working.baseline.component.values();
            let was = before.into_iter().any(|it| *it != CheckResult::Passed);
            host.is_sick(now) && !was
        };
        match step {
            Step::PreChecks => {
                working.baseline.component = self.checks(slot, scenario, now);
                if to == Some(Trait::FailsBefore) {
                    return Err(failure(FailureKind::PreCheck, "it cannot send e-mail"));
                }
            }
            Step::Stop | Step::UndoStop => drop(self.services.remove(slot)),
            Step::Switch => self.switch(slot, go.to),
            Step::UndoSwitch => self.switch(slot, go.from),
            Step::Start | Step::UndoStart => {
                if let Some(release) = self.disk.current.get(slot).cloned() {
                    let starts = scenario.trait_of(&release) != Trait::FailsStart;
                    if step == Step::Start && !starts {
                        self.services.remove(slot);
                        return Err(failure(FailureKind::Service, "it does not start"));
                    }
                    self.services.insert(slot.clone(), (release, now));
                }
            }
            Step::Validate => {
                let unfit = match to {
                    Some(Trait::FailsCheck) => true,
                    Some(Trait::FailsOnSome) => self.number % 2 == 1,
                    _ => false,
                };
                if unfit || worse(self) {
                    return Err(failure(FailureKind::Check, "500"));
                }
                if working.withdrawn {
                    return Err(failure(FailureKind::Check, "it is not wanted any more"));
                }
            }
            Step::UndoValidate if worse(self) => {
                return Err(failure(FailureKind::Check, "worse than before"));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn switch(&mut self, slot: &Slot, release: Option<ReleaseRef>) {
        match release {
            Some(release) => drop(self.disk.current.insert(slot.clone(), release)),
            None => drop(self.disk.current.remove(slot)),
        }
    }

    pub(super) fn is_sick(&self, now: u64) -> bool {
        now < self.sick_until
    }
}
