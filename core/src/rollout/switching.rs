//! Switching a component's routers from one pool to the other, and back.
//!
//! Like a [`Target`](super::Target), a [`Router`] is pure: an event changes it ([`Router::apply`]), the state and the
//! time decide what happens next ([`Router::decide`]). It holds every host that routes for the component and at most
//! one switch.
//!
//! ```text
//! preparing ─▶ turning ─▶ watching ─▶ over: the new pool is the active one
//!   │   ▲         │           │
//!   │   │         └───────────┴─▶ turning back ─▶ over: the old pool stays the active one
//!   │ accepted: a person looks at it, and then it is prepared once more
//!   └─▶ over, nothing was touched
//! ```
//!
//! Routers are told which pool to send to under an *order*, a number that rises with each change; a router carries
//! an order out once, and says what it does now and then. Who comes back late is told the same as all others.

mod apply;
mod decide;
mod fitness;
mod questions;

pub use decide::{SwitchDecision, SwitchWaiting};
pub use fitness::Unfit;

use super::event::Illegal;
use super::state::{Cause, Outcome, Presence, RolloutId};
use crate::desired::{Failure, Purpose};
use crate::environment::Environment;
use crate::generation::Generation;
use crate::id::{
    ApplicationName, ComponentName, ComponentPath, EnvironmentName, HostName, PoolName, TargetKey,
};
use crate::moment::{Moment, Span};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Which component's routers, in which environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouterKey {
    /// The environment.
    pub environment: EnvironmentName,
    /// The application.
    pub application: ApplicationName,
    /// The component.
    pub component: ComponentName,
}

/// The routers of a component: which pool they send to, and the switch, if any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// Whose.
    pub key: RouterKey,
    /// The environment file as it is now; a switch keeps what it started with.
    pub settings: Settings,
    /// The pool that routers should send to. Changes when a switch succeeds, or when all of them were heard to send
    /// to one while it was not known. `None` until the first time.
    pub active: Option<PoolName>,
    /// Set while it is not known where routers send: in the beginning, and after the controller was restored. They
    /// are told nothing then, and it ends when all of them were heard to send to one pool.
    pub unsettled: bool,
    /// Where routers were told to send, and under which order; `None`: they were told nothing.
    pub told: Option<(PoolName, Generation)>,
    /// The newest number that was given to an order or to acceptance checks.
    pub newest: Generation,
    /// Why a pool cannot serve; what is not here can.
    pub unfit: BTreeMap<PoolName, Unfit>,
    /// The switch that runs, or the last one that ended.
    pub switch: Option<Switch>,
    /// The hosts that route.
    pub hosts: BTreeMap<HostName, RouterHost>,
}

/// What the environment file says of a component's routers, as far as it is decided over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The two pools.
    pub pools: BTreeSet<PoolName>,
    /// How long a mixed set of routers may last.
    pub deadline: Span,
    /// How long the pool may take to be fit and accepted.
    pub acceptance_deadline: Span,
    /// How long the pool is watched after the switch.
    pub bake: Span,
    /// Whether the routers try checks on the pool first.
    pub accepts: bool,
    /// Whether a person must let the switch happen once it is accepted.
    pub approval: bool,
}

/// What is known of one host that routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterHost {
    /// Whether it is connected.
    pub presence: Presence,
    /// Whether it has said what it does, since it was added or the controller was restored.
    pub heard: bool,
    /// The newest order that it has carried out, or failed at.
    pub answered: Generation,
    /// The pool that it said it sends to, when it last looked; `None`: it could not tell.
    pub sends_to: Option<PoolName>,
    /// Why the order failed there, or why it could not tell.
    pub failure: Option<Failure>,
    /// Which acceptance checks it tried last, and what failed.
    pub acceptance: Option<(Generation, Option<Failure>)>,
}

/// What a host said of one component's route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteSeen {
    /// The newest order that it has carried out, or failed at; the lowest one before the first.
    pub answered: Generation,
    /// The pool that it sends to.
    pub sends_to: Option<PoolName>,
    /// Why the order failed, or why it cannot tell.
    pub failure: Option<Failure>,
    /// Which acceptance checks it tried last, and what failed.
    pub acceptance: Option<(Generation, Option<Failure>)>,
}

/// A switch from one pool to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Its number, out of those of rollouts.
    pub id: RolloutId,
    /// The pool that was active when it started.
    pub from: PoolName,
    /// The pool that it makes the active one.
    pub to: PoolName,
    /// Forward, with all care; or back, at once, failures not stopping it.
    pub purpose: Purpose,
    /// What the environment file said when it started.
    pub settings: Settings,
    /// Whether a person has let it happen.
    pub promoted: bool,
    /// The routers that have a vote: those that were connected when it turned.
    pub taking_part: BTreeSet<HostName>,
    /// Where it stands.
    pub stage: SwitchStage,
    /// When it started.
    pub started_at: Moment,
}

/// Where a switch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchStage {
    /// The pool has to be fit, and routers try its acceptance checks; nothing was touched.
    Preparing {
        /// The number under which they try them; `None`: there are none.
        acceptance: Option<Generation>,
        /// Since when.
        since: Moment,
    },
    /// The pool is accepted, and a person has to let the switch happen; nothing was touched.
    Accepted {
        /// Since when.
        since: Moment,
    },
    /// Routers are told to send to the new pool.
    Turning {
        /// Since when.
        since: Moment,
    },
    /// All of them do; the pool is watched.
    Watching {
        /// Since when.
        since: Moment,
    },
    /// Routers are told to send to the old pool again.
    TurningBack {
        /// Since when.
        since: Moment,
        /// Why.
        cause: Cause,
    },
    /// It is over.
    Ended {
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: Moment,
    },
}

/// Something that happened to a component's routers, or that was decided about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchEvent {
    /// A host routes for the component from now on.
    HostAdded(HostName),
    /// A host does so no more.
    HostRemoved(HostName),
    /// A host was rebuilt under its old name: what it said is void.
    HostReset(HostName),
    /// The environment file changed; a running switch keeps what it started with.
    Configured(Settings),
    /// A pool can serve, or why it cannot.
    Weighed(PoolName, Option<Unfit>),
    /// The state is that of a backup: routers may have been switched since.
    Restored,
    /// A host connected.
    Connected(HostName),
    /// A host's connection is gone.
    Lost(HostName),
    /// A host said what it does.
    Reported(HostName, Box<RouteSeen>),
    /// A switch starts.
    Started(Box<Switch>),
    /// It goes back.
    RollbackAsked {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The pool is accepted, and a person has to let the switch happen.
    Accepted,
    /// A person lets it happen: the pool is looked at once more, for people take their time, and then routers are
    /// switched.
    Promoted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// It is given up while nothing was touched.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Routers are told the new pool, under this order.
    Turned(Generation),
    /// All routers send to it: it is watched.
    Arrived,
    /// Routers are told the old pool again, under this order.
    TurnedBack(Generation, Cause),
    /// The switch is over.
    Ended(Outcome),
    /// All routers were heard to send to this pool: it is the active one.
    Settled(PoolName),
}

/// Why a switch cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSwitch {
    /// Nobody routes.
    #[error("no host has the labels of its routers")]
    NoRouters,
    /// Nobody who routes can be reached.
    #[error("none of its {0} routers can be reached")]
    NoneReachable(usize),
    /// It is not a pool of the component.
    #[error("`{0}` is none of its pools")]
    NoSuchPool(PoolName),
    /// It is not known where routers send.
    #[error("it is not known which pool is used: {0}")]
    Unsettled(String),
}

// === impl RouterKey ===

impl RouterKey {
    /// Of which component.
    pub fn path(&self) -> ComponentPath {
        ComponentPath {
            application: self.application.clone(),
            component: self.component.clone(),
        }
    }

    /// The target of one of the component's pools.
    pub fn target(&self, pool: &PoolName) -> TargetKey {
        TargetKey {
            environment: self.environment.clone(),
            application: self.application.clone(),
            component: self.component.clone(),
            pool: pool.clone(),
        }
    }
}

impl From<&TargetKey> for RouterKey {
    fn from(target: &TargetKey) -> Self {
        Self {
            environment: target.environment.clone(),
            application: target.application.clone(),
            component: target.component.clone(),
        }
    }
}

impl fmt::Display for RouterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.environment, self.application, self.component
        )
    }
}

// === impl Settings ===

impl Settings {
    /// What an environment file says of a component's routers; `None` where it has none.
    pub fn of(file: &Environment, component: &ComponentPath) -> Option<Self> {
        let router = file.router.get(component)?;
        Some(Self {
            pools: file.pools.get(component)?.keys().cloned().collect(),
            deadline: router.deadline,
            acceptance_deadline: router.acceptance_deadline,
            bake: router.bake,
            accepts: file
                .acceptance
                .get(component)
                .is_some_and(|it| !it.is_empty()),
            approval: router.approval,
        })
    }
}

// === impl RouterHost ===

impl RouterHost {
    /// A host that has never spoken.
    pub fn new(at: Moment) -> Self {
        Self {
            presence: Presence::Away(at),
            heard: false,
            answered: Generation::default(),
            sends_to: None,
            failure: None,
            acceptance: None,
        }
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        self.presence == Presence::Connected
    }
}

// === impl Switch ===

impl Switch {
    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.stage, SwitchStage::Ended { .. })
    }

    /// Whether no router has been told anything yet.
    pub fn is_untouched(&self) -> bool {
        matches!(
            self.stage,
            SwitchStage::Preparing { .. } | SwitchStage::Accepted { .. }
        )
    }
}

// === impl Router ===

impl Router {
    /// Routers of which nothing is known yet.
    pub fn new(key: RouterKey, settings: Settings) -> Self {
        Self {
            key,
            settings,
            active: None,
            unsettled: true,
            told: None,
            newest: Generation::default(),
            unfit: BTreeMap::new(),
            switch: None,
            hosts: BTreeMap::new(),
        }
    }

    /// The switch that runs, if one does.
    pub fn running(&self) -> Option<&Switch> {
        self.switch.as_ref().filter(|switch| !switch.has_ended())
    }
}

impl From<NoSwitch> for Illegal {
    fn from(why: NoSwitch) -> Self {
        Self::NoSwitch(why.to_string())
    }
}
