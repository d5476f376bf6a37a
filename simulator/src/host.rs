//! A host: the real plans, the real course of a switch and the real journal, over a disk and services that are only
//! told of. The loop around the plans is the agent's in small: the same calls, in the same order.

use crate::chance::Chance;
use crate::scenario::{Scenario, Trait};
use std::collections::BTreeMap;
use tamer_agent::journal::{Baseline, Journal, SlotJournal};
use tamer_agent::plan::{
    self, Act, Course, Current, Decision, Entry, Facts, Go, OnDisk, Resume, Step, undo::Stand,
};
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{
    ActivationReport, ActivationStatus, ComponentReport, Desired, DesiredComponent, Failure,
    FailureKind, HostReport, Slot,
};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::id::{EnvironmentName, HostName};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;

/// How many releases are kept, at least: `keep` of `agent.toml`.
const KEEP: usize = 5;

/// Something that takes time on a host, and comes back to it.
#[derive(Debug, Clone)]
pub enum Later {
    /// The act of a switch that is under way.
    Acted(Slot),
    /// A release was staged, or was not.
    Staged(Slot, ReleaseRef),
    /// The environment's file of this version has come.
    Environment(u64),
    /// Nothing but the time.
    Round,
}

/// A host.
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Its number.
    pub number: u64,
    /// Whether its agent runs.
    pub up: bool,
    /// Rises with every start of the agent.
    pub life: u64,
    /// What its clock is ahead of the true time, in milliseconds.
    pub skew: i64,
    /// Its checks fail until then, whatever runs.
    pub sick_until: u64,
    /// Its journal cannot be written until then.
    pub full_until: u64,
    /// What survives.
    pub disk: Disk,
    /// What runs, and since when.
    services: BTreeMap<Slot, (ReleaseRef, u64)>,
    /// What the agent knows in memory.
    pub agent: Agent,
}

/// What survives a crash.
#[derive(Default)]
pub struct Disk {
    /// The journal.
    pub journal: Journal,
    /// Releases that are unpacked and accepted, in the order of their unpacking.
    releases: BTreeMap<Slot, Vec<(ReleaseRef, u64)>>,
    /// What `current` leads to.
    pub current: BTreeMap<Slot, ReleaseRef>,
    /// The last mark of a switch.
    marks: BTreeMap<Slot, String>,
}

/// What the agent knows in memory.
#[derive(Default)]
pub struct Agent {
    desired: Option<Desired>,
    /// Taken in, and written with what is written next.
    deferred: Option<Desired>,
    environment: Option<u64>,
    asked: Option<u64>,
    slots: BTreeMap<Slot, Memory>,
    staging: Option<(Slot, Digest)>,
    /// What the controller's clock is ahead of the true time, as it was told; its own counts until then. What passes
    /// since is measured by a clock that nobody sets.
    offset: Option<i64>,
    /// The connection, and whether the controller has welcomed it.
    pub line: Option<(u64, bool)>,
    /// What was said last on it.
    pub sent: Option<HostReport>,
}

#[derive(Default)]
struct Memory {
    working: Option<Working>,
    ended: Option<ActivationReport>,
    owed: Option<(Go, Entry)>,
    /// Releases that were compared with their manifests.
    whole: BTreeMap<Digest, bool>,
    failed: BTreeMap<Digest, (Failure, u64, u32)>,
    checks: Results,
}

struct Working {
    course: Course,
    grant: Option<Generation>,
    release: Option<ReleaseRef>,
    withdrawn: bool,
    baseline: Baseline,
}

/// What came of an act, for whoever watches.
pub enum Note {
    /// The journal holds a switch as begun.
    Begun(Go),
    /// A switch has ended.
    Ended(Go, ActivationStatus),
}

// === impl Host ===

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure {
        kind,
        message: message.to_owned(),
        check: None,
        output: String::new(),
    }
}

impl Host {
    /// A host that has just joined, and whose agent runs.
    ///
    /// # Panics
    /// Never: its name can be read.
    pub fn new(number: u64) -> Self {
        Self {
            name: format!("web-{number}").parse().expect("a name"),
            number,
            up: true,
            life: 0,
            skew: 0,
            sick_until: 0,
            full_until: 0,
            disk: Disk::default(),
            services: BTreeMap::new(),
            agent: Agent::default(),
        }
    }

    /// The controller's clock, as this host knows it.
    fn clock(&self, now: u64) -> Moment {
        let offset = self.agent.offset.unwrap_or(self.skew);
        Moment(now.saturating_add_signed(offset))
    }

    /// The controller has welcomed it, and said what time it is.
    pub fn welcomed(&mut self, said: Moment, now: u64) {
        self.agent.offset = Some(said.0 as i64 - now as i64);
        if let Some((_, welcomed)) = &mut self.agent.line {
            *welcomed = true;
        }
    }

    /// Writes the journal once, with what was taken in before.
    fn write(&mut self, now: u64, change: impl FnOnce(&mut Journal)) -> Result<(), Failure> {
        if now < self.full_until {
            return Err(failure(FailureKind::Disk, "the journal cannot be written"));
        }
        if let Some(desired) = self.agent.deferred.take() {
            self.disk.journal.take_in(desired);
        }
        change(&mut self.disk.journal);
        Ok(())
    }

    /// Takes in what the controller says, if it is fit to be.
    ///
    /// # Errors
    /// The controller has said two things under one generation.
    pub fn take_in(
        &mut self,
        desired: Desired,
        own: &EnvironmentName,
        now: u64,
    ) -> Result<(), String> {
        let _ = self.write(now, |_| ());
        match plan::take_in(&self.disk.journal, own, &desired) {
            Err(refused @ plan::Refused::Contradiction(_)) => return Err(refused.to_string()),
            Err(_) => return Ok(()),
            Ok(()) => {}
        }
        if self.disk.journal.desired.as_ref() == Some(&desired) {
            return Ok(());
        }
        self.agent.deferred = Some(desired.clone());
        for memory in self.agent.slots.values_mut() {
            memory.failed.values_mut().for_each(|it| it.1 = 0);
        }
        self.agent.desired = Some(desired);
        Ok(())
    }

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

    fn decide(
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

    fn launch(
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
    fn settle_ends(&mut self, now: u64) {
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

    /// How long the act takes that is under way.
    fn duration(&self, working: &Working, scenario: &Scenario, chance: &mut Chance) -> u64 {
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

    fn carry_out(
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

    fn step(
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

    fn switch(&mut self, slot: &Slot, release: Option<ReleaseRef>) {
        match release {
            Some(release) => drop(self.disk.current.insert(slot.clone(), release)),
            None => drop(self.disk.current.remove(slot)),
        }
    }

    fn is_sick(&self, now: u64) -> bool {
        now < self.sick_until
    }

    fn memory(&mut self, slot: &Slot) -> &mut Memory {
        self.agent.slots.entry(slot.clone()).or_default()
    }

    /// Tries the checks of what is at rest, and compares what runs with its manifest.
    fn look(&mut self, scenario: &Scenario, now: u64) {
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

    fn checks(&self, slot: &Slot, scenario: &Scenario, now: u64) -> Results {
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

    fn facts(&self, slot: &Slot, run: Option<&ReleaseRef>, scenario: &Scenario, now: u64) -> Facts {
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

    /// Begins the most urgent staging that is due.
    fn stage(
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

    fn prune(&mut self, wanted: &DesiredComponent, scenario: &Scenario) {
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

    fn component(&self, slot: Slot, scenario: &Scenario) -> ComponentReport {
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

    /// The agent is killed, or the host loses its power: acts under way have had their effect, or have not.
    pub fn crash(&mut self, power: bool, scenario: &Scenario, chance: &mut Chance, now: u64) {
        for (slot, memory) in std::mem::take(&mut self.agent.slots) {
            let Some(mut working) = memory.working else {
                continue;
            };
            if chance.permille(500) {
                let act = working.course.act().clone();
                let _ = self.carry_out(&slot, &mut working, &act, scenario, chance, now);
            }
        }
        if power {
            self.services.clear();
            if chance.permille(500) {
                self.disk.marks.clear();
            }
        }
        self.agent = Agent::default();
        self.up = false;
        self.life += 1;
    }

    /// The host and its agent start.
    pub fn start(
        &mut self,
        scenario: &Scenario,
        chance: &mut Chance,
        now: u64,
    ) -> Vec<(u64, Later)> {
        self.up = true;
        for (slot, release) in &self.disk.current {
            if scenario.trait_of(release) != Trait::FailsStart {
                let service = self.services.entry(slot.clone());
                service.or_insert((release.clone(), now));
            }
        }
        let journal = self.disk.journal.clone();
        self.agent.desired.clone_from(&journal.desired);
        let mut later = Vec::new();
        for known in &journal.slots {
            self.memory(&known.slot);
            let Some(activation) = &known.activation else {
                continue;
            };
            let mark = self.disk.marks.get(&known.slot).map(String::as_str);
            let how = plan::resume(activation, mark, &Stand::None);
            let ends = (
                shape(&activation.from, scenario),
                shape(&activation.to, scenario),
            );
            let steps = plan::activate::steps;
            let (_, change) = steps(activation.purpose, ends.0.as_ref(), ends.1.as_ref());
            assert!(
                self.has(&known.slot, &activation.from)
                    && (matches!(how, Resume::Undo(_)) || self.has(&known.slot, &activation.to)),
                "{}: a release that a switch under way needs was pruned",
                self.name
            );
            let go = Go {
                grant: activation.grant,
                purpose: activation.purpose,
                from: activation.from.clone(),
                to: activation.to.clone(),
                before: Vec::new(),
                change,
                adopted: None,
                plan: None,
            };
            let course = Course::resume(go, ends, how);
            let baseline = activation.baseline.clone();
            self.launch(&known.slot, course, baseline, scenario, chance, &mut later);
        }
        later
    }

    fn has(&self, slot: &Slot, release: &Option<ReleaseRef>) -> bool {
        let on_disk = self.disk.releases.get(slot);
        release.as_ref().is_none_or(|release| {
            on_disk.is_some_and(|there| there.iter().any(|(it, _)| it == release))
        })
    }
}

fn shape(release: &Option<ReleaseRef>, scenario: &Scenario) -> Option<plan::Shape> {
    release.as_ref().map(|release| scenario.shape_of(release))
}
