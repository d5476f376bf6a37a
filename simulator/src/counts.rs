//! What happened in runs.

use crate::host::Note;
use std::collections::BTreeMap;
use std::fmt;
use tamer_core::desired::ActivationStatus;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The controller is killed, with what was not flushed.
    ControllerKilled,
    /// Its disk refuses a batch.
    ControllerDisk,
    /// Its clock jumps.
    ControllerClock,
    /// An agent is killed.
    AgentKilled,
    /// A host loses its power.
    PowerLost,
    /// A line is cut.
    LineCut,
    /// A host cannot be reached for a while.
    Parted,
    /// About half of them cannot.
    HalfParted,
    /// A host's checks fail for a while.
    Sick,
    /// A host's journal cannot be written for a while.
    DiskFull,
    /// A host's clock jumps.
    HostClock,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ControllerKilled,
        Self::ControllerDisk,
        Self::ControllerClock,
        Self::AgentKilled,
        Self::PowerLost,
        Self::LineCut,
        Self::Parted,
        Self::HalfParted,
        Self::Sick,
        Self::DiskFull,
        Self::HostClock,
    ];
}

/// What happened in runs.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Runs.
    pub runs: u64,
    /// Deployments that were begun.
    pub deployments: u64,
    /// Rollouts that have ended, by how.
    pub rollouts: BTreeMap<&'static str, u64>,
    /// Switches on hosts that were begun, and how all of them ended.
    pub switches: BTreeMap<&'static str, u64>,
    /// Faults, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Messages that were lost.
    pub lost: u64,
    /// Messages that came late, by a second and more.
    pub late: u64,
    /// Messages that came twice, or after newer ones.
    pub duplicated: u64,
}

impl Counts {
    /// Counts a fault.
    pub fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Counts how a rollout has ended.
    pub fn rollout(&mut self, how: &'static str) {
        *self.rollouts.entry(how).or_default() += 1;
    }

    /// Counts what came of an act.
    pub fn note(&mut self, note: &Note) {
        let what = match note {
            Note::Begun(_) => "begun",
            Note::Ended(_, status) => match status {
                ActivationStatus::Done => "done",
                ActivationStatus::Refused(_) => "refused",
                ActivationStatus::Undone(_) => "undone",
                ActivationStatus::Stuck(_) => "stuck",
                ActivationStatus::Working(_) | ActivationStatus::Expired => "other",
            },
        };
        *self.switches.entry(what).or_default() += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.deployments += other.deployments;
        self.lost += other.lost;
        self.late += other.late;
        self.duplicated += other.duplicated;
        for (how, number) in &other.rollouts {
            *self.rollouts.entry(how).or_default() += number;
        }
        for (how, number) in &other.switches {
            *self.switches.entry(how).or_default() += number;
        }
        for (fault, number) in &other.faults {
            *self.faults.entry(*fault).or_default() += number;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |map: &BTreeMap<&'static str, u64>| {
            let said = map.iter().map(|(how, number)| format!("{number} {how}"));
            said.collect::<Vec<_>>().join(", ")
        };
        let rollouts: u64 = self.rollouts.values().sum();
        let faults: u64 = self.faults.values().sum();
        writeln!(
            f,
            "{} runs, {} deployments, {rollouts} rollouts ({}), switches: {}",
            self.runs,
            self.deployments,
            list(&self.rollouts),
            list(&self.switches)
        )?;
        let kinds = self.faults.iter();
        let kinds = kinds.map(|(fault, number)| format!("{number} {fault:?}"));
        write!(
            f,
            "{faults} faults ({}); messages lost {}, late {}, twice or out of order {}",
            kinds.collect::<Vec<_>>().join(", "),
            self.lost,
            self.late,
            self.duplicated
        )
    }
}
