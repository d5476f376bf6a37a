//! One database of a deployment: what is to be done to it, on which host, and how far that is.
//!
//! ```text
//! waiting ─▶ chosen(host) ─▶ ordered(lease) ─▶ read ─▶ waiting ─▶ … ─▶ ordered ─▶ done
//!                                  │                                      ├─▶ failed
//!                                  └──────────────────────────────────────┴─▶ asks a person
//! ```

use super::order::{MigrationOrder, MigrationStatus, Task};
use crate::desired::Failure;
use crate::generation::Generation;
use crate::id::{HostName, SchemaName, TargetKey};
use crate::moment::{Moment, Span};
use crate::release::ReleaseRef;
use serde::{Deserialize, Serialize};

/// A host must begin within this time, or the order is void.
pub const START_WITHIN: Span = Span::secs(120);

/// One database of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Which database.
    pub schema: SchemaName,
    /// Whose releases carry the programs.
    pub carrier: TargetKey,
    /// The release whose programs are run.
    pub release: ReleaseRef,
    /// Up or down.
    pub task: Task,
    /// The version that the database had when it was looked at; `None` before.
    pub from: Option<u64>,
    /// The version that it is to have.
    pub to: u64,
    /// In front of which of the deployment's rollouts it comes, by number; known once `from` is.
    pub before: usize,
    /// Whether a person said that it may cross the line behind which nothing leads back.
    pub no_way_back: bool,
    /// Who asked for a rollout that is frozen to go back once this one is done.
    pub frees: Option<Frees>,
    /// How far it is.
    pub state: State,
}

/// Somebody asked for a frozen rollout to go back, the database first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frees {
    /// Whose rollout.
    pub target: TargetKey,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How far a migration is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its turn has not come, or a host is looked for.
    Waiting,
    /// The host fetches the release; nothing was ordered, and another one may take its place.
    Chosen(HostName),
    /// The host has the order, and holds the lease until it has answered.
    Ordered(Lease),
    /// An order was begun, and how it ended is not known: a person is asked.
    Asks {
        /// The host that had the lease.
        host: HostName,
        /// What is known.
        failure: Failure,
    },
    /// The database is as it should be.
    Done,
    /// It failed.
    Failed {
        /// The version that the database has; `None`: nothing was done to it.
        version: Option<u64>,
        /// What failed.
        failure: Failure,
    },
    /// What stands in the way, found once the database was read; nothing was done to it.
    Refused(String),
}

/// The lease of a database: it never passes on by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which host.
    pub host: HostName,
    /// Which of the machines that bore its name.
    pub incarnation: u32,
    /// Which order.
    pub id: Generation,
    /// What it was ordered to do: to read, or what the migration is for.
    pub task: Task,
    /// Since when.
    pub since: Moment,
    /// It must begin by then.
    pub start_by: Moment,
}

/// What follows from a host's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follows {
    /// Nothing yet.
    Nothing,
    /// The database was read: now it is planned.
    Read(u64),
    /// It was migrated.
    Done(u64),
    /// It was begun, and failed.
    Failed(u64, Failure),
    /// Nothing was done to it, and trying again may help.
    Again(Failure),
    /// Nothing was done to it, and it has another version than was thought, or a program cannot be run.
    NotBegun(Option<u64>, Failure),
    /// A person is asked.
    Asks(Option<u64>, Failure),
}

// === impl Migration ===

impl Migration {
    /// What is ordered next: to read, as long as the version is not known.
    pub fn next_task(&self) -> Task {
        match self.from {
            None => Task::Read,
            Some(_) => self.task,
        }
    }

    /// The order that the lease stands for.
    pub fn order(&self) -> Option<(&HostName, MigrationOrder)> {
        let State::Ordered(lease) = &self.state else {
            return None;
        };
        Some((
            &lease.host,
            MigrationOrder {
                id: lease.id,
                schema: self.schema.clone(),
                task: lease.task,
                release: self.release.clone(),
                from: self.from.unwrap_or_default(),
                to: self.to,
                start_by: lease.start_by,
            },
        ))
    }

    /// The host that must have the release on its disk.
    pub fn host(&self) -> Option<&HostName> {
        match &self.state {
            State::Chosen(host) => Some(host),
            State::Ordered(lease) => Some(&lease.host),
            _ => None,
        }
    }

    /// Whether it stands in the way of what comes next: it is under way, or a person is asked.
    pub fn is_under_way(&self) -> bool {
        matches!(
            self.state,
            State::Chosen(_) | State::Ordered(_) | State::Asks { .. }
        )
    }

    /// Whether it has failed for good.
    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed { .. } | State::Refused(_))
    }

    /// What follows from what the leased host says of its order.
    pub fn follows(lease: &Lease, status: &MigrationStatus) -> Follows {
        match (lease.task, status) {
            (_, MigrationStatus::Working) => Follows::Nothing,
            (Task::Read, MigrationStatus::Done(version)) => Follows::Read(*version),
            (_, MigrationStatus::Done(version)) => Follows::Done(*version),
            (_, MigrationStatus::NotBegun { found, failure }) => {
                if found.is_none() && failure.kind == crate::desired::FailureKind::Interrupted {
                    Follows::Again(failure.clone())
                } else {
                    Follows::NotBegun(*found, failure.clone())
                }
            }
            // Reading changes nothing: however it ended, nothing was done to the database.
            (
                Task::Read,
                MigrationStatus::Failed { failure, .. } | MigrationStatus::Unknown { failure, .. },
            ) => Follows::NotBegun(None, failure.clone()),
            (_, MigrationStatus::Failed { version, failure }) => {
                Follows::Failed(*version, failure.clone())
            }
            (_, MigrationStatus::Unknown { version, failure }) => {
                Follows::Asks(*version, failure.clone())
            }
        }
    }
}
