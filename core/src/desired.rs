//! The whole of what one host should be, and the whole of what it reports to be.
//!
//! Both are states, not commands: either may be lost, repeated or overtaken without harm.

use crate::check::Results;
use crate::digest::Digest;
use crate::drift::{Drift, Inspect};
use crate::generation::Generation;
use crate::id::{ApplicationName, CheckName, ComponentName, EnvironmentName, PoolName};
use crate::moment::Moment;
use crate::release::ReleaseRef;
use crate::router::{DesiredRoute, RouteReport};
use crate::schema::{MigrationOrder, MigrationReport};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which component, on one host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The application.
    pub application: ApplicationName,
    /// The component.
    pub component: ComponentName,
    /// The pool that the host belongs to.
    pub pool: PoolName,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.component)?;
        if self.pool == PoolName::default() {
            Ok(())
        } else {
            write!(f, "/{}", self.pool)
        }
    }
}

/// What a host should be. An agent refuses one that is older than the newest it has seen,
/// and one for another environment than its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which statement this is.
    pub generation: Generation,
    /// The environment that it is for.
    pub environment: EnvironmentName,
    /// The version of the environment's signed metadata that it was made with, so that the agent
    /// knows when to fetch anew.
    pub environment_version: u64,
    /// Every component the host should have.
    pub components: Vec<DesiredComponent>,
    /// Every component that the host routes for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<DesiredRoute>,
    /// Set while somebody waits to hear what differs from what was deployed, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspect: Option<Inspect>,
}

/// What one component on the host should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredComponent {
    /// Which component.
    pub slot: Slot,
    /// The release it should run; `None`: none, stopped and without `current`.
    pub run: Option<ReleaseRef>,
    /// Releases to fetch, verify and unpack ahead. A release in `run` is staged in any case.
    pub stage: Vec<ReleaseRef>,
    /// Releases to keep on disk, for going back.
    pub keep: Vec<Digest>,
    /// Leave to switch to `run`. Without one the host stays with what it runs.
    pub grant: Option<Grant>,
    /// Set while people have to approve a deployment of what is staged: it is made ready, and what approves it is
    /// asked for later. A host activates nothing without having seen that, whatever this says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_approval: bool,
    /// What to do to a database: the host holds its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<MigrationOrder>,
    /// The drift that somebody adopted: this one alone does not keep the next release away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Digest>,
    /// The drift that is to be put right: this one alone, so that nothing is overwritten that nobody has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<Digest>,
}

/// Leave to switch one component of one host, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which grant. A failure is final for its grant: no restart and no repeated message tries it
    /// again; a new grant does.
    pub id: Generation,
    /// The switch must have started by then (controller's clock), or the grant is void.
    pub start_by: Moment,
    /// Whether this goes forward or back.
    pub purpose: Purpose,
}

/// What a switch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To a release that must prove itself: checks before, checks after, local undo when they fail.
    Forward,
    /// Back to a release that was accepted here before: nothing stands in the way, and nothing is
    /// undone, for there is nothing better to go to.
    Back,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Back => "back",
        })
    }
}

/// What a host says of itself, whole. The newest replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The newest desired state that the agent has taken in.
    pub generation: Generation,
    /// Every component that is on the host or should be.
    pub components: Vec<ComponentReport>,
    /// The environment's checks, as they last ended.
    pub checks: Results,
    /// Every component that the host routes for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteReport>,
    /// What was found because the desired state asks for it; only as long as it does.
    pub inspection: Option<Inspection>,
}

/// What a host found that was asked what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Which wish this answers: [`Inspect::id`].
    pub id: u64,
    /// Every component that the host should have.
    pub components: Vec<Inspected>,
}

/// What differs of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// Which component.
    pub slot: Slot,
    /// What differs, with at most [`crate::drift::NAMED_WHEN_ASKED`] differences named; `None`: nothing, or
    /// nothing runs. Or why it could not be looked at.
    pub found: Result<Option<Drift>, Failure>,
}

/// What a host says of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentReport {
    /// Which component.
    pub slot: Slot,
    /// What `current` points to.
    pub running: Option<ReleaseRef>,
    /// Releases that are whole on disk, manifests by digest.
    pub staged: Vec<Digest>,
    /// Why the release that was to be staged is not: the last try's failure.
    pub staging_failure: Option<Failure>,
    /// The newest grant that the agent has seen for it, and how far that went.
    pub activation: Option<ActivationReport>,
    /// The component's checks, as they last ended; empty before the first try.
    pub checks: Results,
    /// Set by `tamer-agent rollback` on the server: why it stays where it is until someone releases it.
    pub hold: Option<String>,
    /// How the running release differs from what was deployed, with at most [`crate::drift::NAMED`]
    /// differences named; `None` also before it was compared.
    pub drift: Option<Drift>,
    /// Whether the running release was compared with its manifest since the agent started.
    pub compared: bool,
    /// The drift that could not be put right, and why: the last try's failure.
    pub repair: Option<RepairReport>,
    /// The newest order to migrate that the agent knows, and how far it is.
    pub migration: Option<MigrationReport>,
}

/// Why a drift was not put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// Which drift.
    pub drift: Digest,
    /// Why not.
    pub failure: Failure,
}

/// How far a host has come that fetches a release. It is for people alone: it comes beside the report, so that no
/// decision sees it and nothing stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Which release.
    pub release: Digest,
    /// The bytes of its archive that have come.
    pub done: u64,
    /// The bytes of its archive that are fetched in all: what older releases on the host give is not among them.
    pub total: u64,
    /// How many bytes a second came over the last seconds.
    pub rate: u64,
}

/// How far a granted switch went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationReport {
    /// Which grant.
    pub grant: Generation,
    /// The release it was for.
    pub release: Option<ReleaseRef>,
    /// How far it went.
    pub status: ActivationStatus,
}

/// How far a granted switch went. All but `Working` are final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationStatus {
    /// Under way, at the named step.
    Working(String),
    /// Committed: the release runs.
    Done,
    /// Refused before anything changed.
    Refused(Failure),
    /// Tried and undone: what ran before runs again.
    Undone(Failure),
    /// Tried, and what is there now is not whole or not healthy: a person is needed.
    Stuck(Failure),
    /// The time to start was over.
    Expired,
}

impl ActivationStatus {
    /// Whether nothing more will come of this grant.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Working(_))
    }
}

impl fmt::Display for ActivationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Working(step) => write!(f, "working: {step}"),
            Self::Done => f.write_str("done"),
            Self::Refused(failure) => write!(f, "refused: {failure}"),
            Self::Undone(failure) => write!(f, "undone: {failure}"),
            Self::Stuck(failure) => write!(f, "stuck: {failure}"),
            Self::Expired => f.write_str("expired"),
        }
    }
}

/// What failed on a host, for people and for the exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of thing failed.
    pub kind: FailureKind,
    /// One sentence.
    pub message: String,
    /// The check, where one failed.
    pub check: Option<CheckName>,
    /// The last lines of what was printed, at most 4 KiB.
    pub output: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What kind of thing failed on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// A signature, a digest, a version, an environment: it was not to be trusted.
    Trust,
    /// The environment demands evidence that is not there.
    Evidence,
    /// `agent.toml` does not allow the application to touch this.
    NotAllowed,
    /// The release needs a feature that this agent lacks.
    Unsupported,
    /// It could not be fetched.
    Fetch,
    /// The disk is full, or would be.
    Disk,
    /// What runs was changed by hand, and the next release would overwrite that.
    Drift,
    /// A check failed before anything changed.
    PreCheck,
    /// A check failed after the switch.
    Check,
    /// A hook failed.
    Hook,
    /// The service did not start or did not stay.
    Service,
    /// A database was not read or migrated.
    Migration,
    /// The agent or the server stopped in the middle.
    Interrupted,
    /// Anything else on the host.
    Host,
}
