//! What a host is told to do to a database, and what it says of it.
//!
//! Like everything that a host is told it is a state, which may be lost or repeated: an order is carried
//! out once, whatever happens, for the agent writes down that it begins before it begins, and an order
//! that was begun and whose end is not known is never begun again.

use crate::desired::Failure;
use crate::generation::Generation;
use crate::id::SchemaName;
use crate::moment::Moment;
use crate::release::ReleaseRef;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An order to one host, which holds the lease of the database as long as the order stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationOrder {
    /// Which order; rises within a controller. One that is not newer than the newest that the host knows
    /// is never begun.
    pub id: Generation,
    /// Which database.
    pub schema: SchemaName,
    /// What to do.
    pub task: Task,
    /// The release whose programs do it; it is staged on the host.
    pub release: ReleaseRef,
    /// The version that the database must have at the beginning; of no meaning for [`Task::Read`].
    pub from: u64,
    /// The version that it is to have afterwards; of no meaning for [`Task::Read`].
    pub to: u64,
    /// It must have begun by then (controller's clock), or it never begins.
    pub start_by: Moment,
}

/// What is to be done to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Its version is read; that changes nothing.
    Read,
    /// It is brought up.
    Up,
    /// It is brought down.
    Down,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// What a host says of the newest order that it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationReport {
    /// Which order.
    pub id: Generation,
    /// How far it is.
    pub status: MigrationStatus,
}

/// How far an order is. All but `Working` are final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationStatus {
    /// It is being carried out.
    Working,
    /// It was carried out, and the database has this version.
    Done(u64),
    /// Nothing was done to the database, and nothing will be.
    NotBegun {
        /// The version that was found, where it was read.
        found: Option<u64>,
        /// Why not.
        failure: Failure,
    },
    /// The program ended by itself, and not well; the database has this version now.
    Failed {
        /// The version that was read afterwards.
        version: u64,
        /// What failed.
        failure: Failure,
    },
    /// It was begun, and how it ended is not known: a person must look.
    Unknown {
        /// The version that was read when this was found, where that was possible.
        version: Option<u64>,
        /// What is known of it.
        failure: Failure,
    },
}

impl MigrationStatus {
    /// Whether nothing more will come of the order.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Working)
    }

    /// Which of them it is, in a word or two.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Done(_) => "done",
            Self::NotBegun { .. } => "not begun",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// What failed, where something did.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Working | Self::Done(_) => None,
            Self::NotBegun { failure, .. }
            | Self::Failed { failure, .. }
            | Self::Unknown { failure, .. } => Some(failure),
        }
    }
}
