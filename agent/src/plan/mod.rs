//! The agent's decisions, pure: from what is desired, what is there and what the journal holds to the
//! steps to take, or to the reason why none is taken. Time is an argument; nothing here looks at a host.
//!
//! | module | what it decides |
//! |---|---|
//! | [`activate`] | whether a component may be switched now, and by which steps |
//! | [`course`] | the course of a switch, step by step, and back where one fails |
//! | [`mod@drift`] | what a release that was changed by hand means |
//! | [`mod@migrate`] | whether an order to migrate a database is begun |
//! | [`mod@stage`] | what is fetched, verified and unpacked ahead |
//! | [`mod@undo`] | what a failed step means, and the way back |
//! | [`mod@route`] | what a router does next |
//! | [`mod@prune`] | what leaves the disk |

pub mod activate;
pub mod course;
pub mod drift;
pub mod migrate;
pub mod prune;
pub mod route;
pub mod stage;
pub mod undo;

pub use activate::{Decision, Go, Waiting, activation};
pub use course::{Act, Course, Ended, Entry};
pub use drift::{Edited, edited, foreign, foreign_said, lead_back, repair};
pub use migrate::{Migrate, interrupted, interrupted_before, migrate};
pub use prune::prune;
pub use route::{Route, RouteFacts, route};
pub use stage::{Staging, stage};
pub use undo::{Next, Resume, again, on_failure, resume, undo};

use crate::allowed::AGENT_UNIT;
use crate::journal::Journal;
use std::collections::BTreeSet;
use std::fmt;
use tamer_core::application::{ComponentSpec, Hook};
use tamer_core::desired::{Desired, Failure};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::id::EnvironmentName;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::PlanRef;

/// One step, as data. The executor does it and chooses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The manifest is verified by its signatures, and the environment admits the release.
    Verify,
    /// What is not on disk is fetched, and unpacked as it comes; each byte is held against the manifest on the way.
    Unpack,
    /// Enough people approved a deployment of a release that is ready for it.
    Approve,
    /// A tree that is on disk already is held against its manifest.
    Inspect,
    /// Shared paths are linked into the release.
    LinkShared,
    /// The host is looked at before anything changes.
    PreChecks,
    /// The new release's `pre-activate` hook.
    PreActivate,
    /// The old release's `drain` hook.
    Drain,
    /// The old release's `stop` hook, or its unit is stopped.
    Stop,
    /// `current` is switched, or removed.
    Switch,
    /// The new release's `start` hook, and its unit is restarted.
    Start,
    /// The agent itself: systemd starts the new one in its place, on trial.
    HandOver,
    /// The agent itself: the new one has been welcomed by the controller.
    CheckIn,
    /// The checks are tried until they have held long enough; then the `validate` hook.
    Validate,
    /// The new release's `admit` hook.
    Admit,
    /// The agent itself: the trial ends, the new one has proved itself.
    Confirm,
    /// The journal says that the new release runs.
    Commit,
    /// Undo: the new release's `drain` hook, if it may be in service already.
    UndoDrain,
    /// Undo: the new release's `stop` hook, or its unit is stopped.
    UndoStop,
    /// Undo: `current` is switched back, or removed.
    UndoSwitch,
    /// Undo: the old release's `start` hook, and its unit is restarted.
    UndoStart,
    /// Undo: the agent itself, systemd starts the old one in its place.
    UndoHandOver,
    /// Undo: the checks are tried until none is worse than before.
    UndoValidate,
    /// Undo: the old release's `admit` hook.
    UndoAdmit,
    /// Undo: the journal says that the old release runs.
    UndoCommit,
    /// A release that was edited, and does not run, is exchanged for the one that was made anew beside it.
    Exchange,
}

/// What is there of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its releases on disk.
    pub on_disk: Vec<OnDisk>,
    /// What `current` points to.
    pub current: Current,
    /// Releases that the environment's signed file revokes, as last verified.
    pub revoked: BTreeSet<Digest>,
    /// The version of the environment's signed metadata as last verified.
    pub environment_version: Option<u64>,
    /// Why the release in `run` is not staged, if that was tried.
    pub staging_failure: Option<Failure>,
    /// Whether a switch is under way, which may have to go back.
    pub switching: bool,
}

/// A release on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDisk {
    /// Which release.
    pub release: ReleaseRef,
    /// Its directory's name below `releases/`.
    pub name: String,
    /// Its number in order of unpacking.
    pub seq: u64,
    /// Whether the acceptance record holds it.
    pub accepted: bool,
    /// Whether it may be activated as far as people have to approve that: enough did, or nobody had to.
    pub approved: bool,
    /// The plan that they approved.
    pub plan: Option<PlanRef>,
    /// Whether its tree was compared with its manifest since the agent started, and was the same.
    pub whole: Option<bool>,
    /// Whether its shared paths are linked.
    pub linked: bool,
    /// Whether it is time to look at it again. Until that is done, what was seen last holds.
    pub stale: bool,
    /// What matters of its manifest.
    pub shape: Shape,
}

/// What of a release decides over the steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// The hooks that it has.
    pub hooks: BTreeSet<Hook>,
    /// Its unit.
    pub service: Option<String>,
}

/// What `current` points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// There is no `current`.
    Nothing,
    /// A release on disk.
    Release(ReleaseRef),
    /// Something that Tamer did not put there, or that is not whole.
    Foreign(Foreign),
}

/// What was found in the place of `current`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// A link that leads there.
    Link(String),
    /// No link at all.
    NoLink,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(target) => write!(f, "a link to {target}"),
            Self::NoLink => f.write_str("not a link"),
        }
    }
}

// === impl Step ===

impl Step {
    /// Its name in marks, reports and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Unpack => "unpack",
            Self::Approve => "approve",
            Self::Inspect => "inspect",
            Self::LinkShared => "link-shared",
            Self::PreChecks => "pre-checks",
            Self::PreActivate => "pre-activate",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Switch => "switch",
            Self::Start => "start",
            Self::HandOver => "hand-over",
            Self::CheckIn => "check-in",
            Self::Validate => "validate",
            Self::Admit => "admit",
            Self::Confirm => "confirm",
            Self::Commit => "commit",
            Self::UndoDrain => "undo-drain",
            Self::UndoStop => "undo-stop",
            Self::UndoSwitch => "undo-switch",
            Self::UndoStart => "undo-start",
            Self::UndoHandOver => "undo-hand-over",
            Self::UndoValidate => "undo-validate",
            Self::UndoAdmit => "undo-admit",
            Self::UndoCommit => "undo-commit",
            Self::Exchange => "exchange",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

// === impl OnDisk ===

impl OnDisk {
    /// Whether it is staged: it can be switched to, once it is approved.
    pub fn ready(&self) -> bool {
        self.accepted && self.linked && self.whole == Some(true)
    }
}

// === impl Facts ===

impl Facts {
    /// The release on disk with this digest.
    pub fn find(&self, manifest: &Digest) -> Option<&OnDisk> {
        self.on_disk
            .iter()
            .find(|it| it.release.manifest == *manifest)
    }

    /// The release that `current` points to.
    pub fn running(&self) -> Option<&ReleaseRef> {
        match &self.current {
            Current::Release(release) => Some(release),
            Current::Nothing | Current::Foreign(_) => None,
        }
    }
}

// === impl Shape ===

impl Shape {
    /// Whether it is the agent itself.
    pub fn is_agent(&self) -> bool {
        self.service.as_deref() == Some(AGENT_UNIT)
    }
}

impl From<&ComponentSpec> for Shape {
    fn from(spec: &ComponentSpec) -> Self {
        Self {
            hooks: spec.hooks.keys().copied().collect(),
            service: spec.service.clone(),
        }
    }
}

/// Why a desired state is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is for hosts of another environment.
    #[error("desired state for the environment {given} was refused: this host belongs to {own}")]
    OtherEnvironment {
        /// The environment it is for.
        given: EnvironmentName,
        /// This host's.
        own: EnvironmentName,
    },
    /// A newer one was taken in before.
    #[error("desired state {given} was refused: {newest} was taken in before")]
    Older {
        /// Its generation.
        given: Generation,
        /// The newest generation taken in.
        newest: Generation,
    },
    /// It has the generation of the one taken in, and says something else.
    #[error(
        "desired state {0} was refused: another one of the same generation was taken in before"
    )]
    Contradiction(Generation),
    /// Its epoch is far above the clock here: taken in, it would leave no numbers for what follows.
    #[error(
        "desired state {given} was refused: an epoch above {most} is of no controller by the clock here; is that right (timedatectl)?"
    )]
    Ahead {
        /// Its generation.
        given: Generation,
        /// The highest epoch that is taken in now.
        most: u64,
    },
}

/// How far above this host's clock an epoch may be, in seconds: epochs are made from clocks. It is less than what the
/// controller takes a host back from (`tamer host take-back`), so that there is always a way back.
const AHEAD: u64 = 300 * 24 * 3600;

/// The highest epoch that is taken in after this generation.
pub fn highest_epoch(newest: Generation, now: Moment) -> u64 {
    newest.epoch.max((now.0 / 1000).saturating_add(AHEAD))
}

/// Whether a desired state may be taken in by a host of the environment `own`. One that was taken in
/// already may be again. `now` is this host's clock.
///
/// # Errors
/// [`Refused`] with the reason.
pub fn take_in(
    journal: &Journal,
    own: &EnvironmentName,
    desired: &Desired,
    now: Moment,
) -> Result<(), Refused> {
    if desired.environment != *own {
        return Err(Refused::OtherEnvironment {
            given: desired.environment.clone(),
            own: own.clone(),
        });
    }
    if desired.generation < journal.generation {
        return Err(Refused::Older {
            given: desired.generation,
            newest: journal.generation,
        });
    }
    let most = highest_epoch(journal.generation, now);
    if desired.generation.epoch > most {
        return Err(Refused::Ahead {
            given: desired.generation,
            most,
        });
    }
    match &journal.desired {
        Some(known) if known.generation == desired.generation && known != desired => {
            Err(Refused::Contradiction(desired.generation))
        }
        _ => Ok(()),
    }
}
