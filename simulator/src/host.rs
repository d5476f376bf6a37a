//! A host: the real plans, the real course of a switch and the real journal, over a disk and services that are only
//! told of. The loop around the plans is the agent's in small: the same calls, in the same order.

mod acts;
mod round;
mod says;

use crate::chance::Chance;
use crate::scenario::{Scenario, Trait};
use std::collections::BTreeMap;
use tamer_agent::journal::{Baseline, Journal};
use tamer_agent::plan::{self, Course, Entry, Go, Resume, undo::Stand};
use tamer_core::check::Results;
use tamer_core::desired::{
    ActivationReport, ActivationStatus, Desired, Failure, FailureKind, HostReport, Slot,
};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::id::{EnvironmentName, HostName};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;

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

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure {
        kind,
        message: message.to_owned(),
        check: None,
        output: String::new(),
    }
}

// === impl Host ===

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
        match plan::take_in(&self.disk.journal, own, &desired, Moment(now)) {
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

    fn memory(&mut self, slot: &Slot) -> &mut Memory {
        self.agent.slots.entry(slot.clone()).or_default()
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
            assert!(
                self.has(&known.slot, &activation.from)
                    && (matches!(how, Resume::Undo(_)) || self.has(&known.slot, &activation.to)),
                "{}: a release that a switch under way needs was pruned",
                self.name
            );
            let go = plan::again(activation, ends.0.as_ref(), ends.1.as_ref());
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
