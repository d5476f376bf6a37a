//! What may happen to a target.

use super::plan::NewRollout;
use super::state::{Cause, Outcome};
use crate::calendar::Opening;
use crate::desired::{ActivationReport, Failure, Purpose};
use crate::digest::Digest;
use crate::generation::Generation;
use crate::id::HostName;
use crate::moment::Moment;
use crate::policy::Policy;
use crate::release::ReleaseRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something that happened to a target, or that was decided about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    // --- from the registry and the environment file ---
    /// A host belongs to the target from now on.
    HostAdded(HostName),
    /// A host belongs to it no more; nothing that it was granted counts any longer.
    HostRemoved(HostName),
    /// A host was rebuilt under its old name: whatever it was granted before is void.
    HostReset(HostName),
    /// The environment's policy changed; a running rollout keeps its own.
    PolicyChanged(Policy),
    /// The target's release does not work with a database as that is now, and why; or it does again.
    Line(Option<String>),
    /// Hosts may be moved forward from now on, or may not; until when that holds.
    Opening(Opening),
    /// What the approval of the running rollout waits for; `None`: it is approved, or needs none.
    Approval(Option<String>),
    /// The state is that of a backup: whatever it says of hosts is old, and what it wants of them may be.
    Restored,

    // --- from hosts ---
    /// A host connected.
    Connected(HostName),
    /// A host's connection is gone.
    Lost(HostName),
    /// A host said what it is.
    Reported(HostName, Box<Observation>),

    // --- from people ---
    /// A rollout starts.
    Started(Box<NewRollout>),
    /// No further host is granted anything until `Resumed`.
    Paused {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A paused rollout goes on; failures so far are accepted.
    Resumed,
    /// A rollout that has come to a point of approval goes on.
    Promoted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The rollout stops where it is.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The rollout goes back.
    RollbackAsked {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Somebody has decided what comes next in an unsettled target: what prevails there counts as what
    /// was wanted so far, and is what going back goes to.
    Adopted,

    // --- decided ---
    /// A host may switch.
    Granted {
        /// Which host.
        host: HostName,
        /// Which grant; newer than every one that the host had.
        id: Generation,
        /// To which release.
        release: Option<ReleaseRef>,
        /// Forward or back.
        purpose: Purpose,
        /// The host must start by then.
        start_by: Moment,
        /// The host counts as silent from then on.
        give_up_at: Moment,
    },
    /// A host may fetch the rollout's release, ahead of its turn.
    MayStage(HostName),
    /// A host did not get there in time.
    GaveUp(HostName),
    /// Every host of an unsettled target was heard since, and runs its release.
    Settled,
    /// The next wave starts.
    WaveStarted(u32),
    /// Every host of the waves so far is through; they are watched.
    WaveBaking(u32),
    /// The rollout has failed; it goes back.
    TurnedBack(Cause),
    /// The rollout has failed; it pauses.
    PausedByPolicy(Cause),
    /// The rollout has failed, and going back would cross the line that a database draws: it pauses.
    Frozen(Cause),
    /// The rollout is over.
    Ended(Outcome),
}

/// What a host said of one component, as far as rollouts care.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observation {
    /// What `current` points to.
    pub running: Option<ReleaseRef>,
    /// The releases that are whole on its disk.
    pub staged: BTreeSet<Digest>,
    /// Why what should be staged *now* is not, where trying again would not help.
    pub staging_failure: Option<Failure>,
    /// The newest grant that it has seen.
    pub activation: Option<ActivationReport>,
    /// The component's check that fails, and why.
    pub unhealthy: Option<Failure>,
    /// Why it is held.
    pub hold: Option<String>,
}

/// An event that cannot happen in this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// There is no rollout that runs.
    #[error("no rollout is running")]
    NoRollout,
    /// There is one already.
    #[error("rollout {0} is running")]
    AlreadyRunning(super::RolloutId),
    /// What it would go back to does not work with a database.
    #[error("going back would cross the line that the database draws: {0}")]
    Line(String),
    /// It is not paused.
    #[error("the rollout is not paused")]
    NotPaused,
    /// It waits for nobody to let it go on.
    #[error("the rollout is not at a point of approval: {0}")]
    NoPoint(&'static str),
    /// It is paused already.
    #[error("the rollout is paused already, by {0}")]
    AlreadyPaused(String),
    /// It goes back already.
    #[error("the rollout is going back already")]
    AlreadyGoingBack,
    /// The release was found bad here.
    #[error("release {0} was found bad here, so nothing goes back to it")]
    KnownBad(ReleaseRef),
    /// The event names a host that is not the target's.
    #[error("{0} is not a host of this target")]
    NoSuchHost(HostName),
    /// A grant for a host that has an open one, or with a number that is not new.
    #[error("a grant for {0} that its state does not allow")]
    BadGrant(HostName),
    /// A switch that cannot start.
    #[error("{0}")]
    NoSwitch(String),
    /// Routers are being switched, and a mixed set of them must not stay.
    #[error(
        "routers are being switched, and must not stay half-way: let it end, or go back with `tamer rollback`"
    )]
    Mixed,
    /// A stage of the rollout that does not follow from the present one.
    #[error("that stage does not follow from the present one")]
    OutOfOrder,
}

/// Which parts of a target an event has changed: these must be made durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Whether anything but the hosts changed.
    pub head: bool,
    /// The hosts that changed, were added or removed.
    pub hosts: BTreeSet<HostName>,
}

impl Touched {
    pub(super) fn head() -> Self {
        Self {
            head: true,
            hosts: BTreeSet::new(),
        }
    }

    pub(super) fn host(name: &HostName) -> Self {
        Self {
            head: false,
            hosts: BTreeSet::from([name.clone()]),
        }
    }

    pub(super) fn and_head(mut self) -> Self {
        self.head = true;
        self
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.head && self.hosts.is_empty()
    }

    /// Both changes together.
    pub fn merge(&mut self, other: Self) {
        self.head |= other.head;
        self.hosts.extend(other.hosts);
    }
}
