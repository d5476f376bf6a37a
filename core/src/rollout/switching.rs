//! Switching a component's routers from one pool to the other, and back.
//!
//! Like a [`Target`](super::Target), a [`Router`] is pure: an event changes it ([`Router::apply`]), the state and the
//! time decide what happens next ([`Router::decide`]). It holds every host that routes for the component and at most
//! one switch.
//!
//! ```text
//! preparing ─▶ turning ─▶ watching ─▶ over: the new pool is the active one
//!     │           │           │
//!     │           └───────────┴─▶ turning back ─▶ over: the old pool stays the active one
//!     └─▶ over, nothing was touched
//! ```
//!
//! Routers are told which pool to send to under an *order*, a number that rises with each change; a router carries
//! an order out once, and says what it does now and then. Who comes back late is told the same as all others.

mod apply;
mod decide;
mod fitness;

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
use crate::policy::{Policy, Quantity};
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

    /// The pool that is not used: the next release goes there.
    ///
    /// # Errors
    /// [`NoSwitch::Unsettled`]: it is not known which one is.
    pub fn idle(&self) -> Result<PoolName, NoSwitch> {
        let active = self.settled()?;
        let other = self.settings.pools.iter().find(|pool| *pool != active);
        other
            .cloned()
            .ok_or_else(|| NoSwitch::NoSuchPool(active.clone()))
    }

    fn settled(&self) -> Result<&PoolName, NoSwitch> {
        match &self.active {
            Some(active) if !self.unsettled => Ok(active),
            _ => Err(NoSwitch::Unsettled(self.disagreement())),
        }
    }

    /// Who keeps it from being known where routers send.
    fn disagreement(&self) -> String {
        if self.hosts.is_empty() {
            return NoSwitch::NoRouters.to_string();
        }
        let silent = self.hosts.iter().find(|(_, host)| !host.heard);
        if let Some((name, _)) = silent {
            return format!("the router {name} has not said what it does");
        }
        let lost = self.hosts.iter().find(|(_, host)| host.sends_to.is_none());
        if let Some((name, host)) = lost {
            let why = host
                .failure
                .as_ref()
                .map_or_else(String::new, |it| format!(": {it}"));
            return format!("the router {name} cannot tell where it sends{why}");
        }
        let said = self.hosts.iter().filter_map(|(name, host)| {
            Some(format!("{name} sends to {}", host.sends_to.as_ref()?))
        });
        said.take(4).collect::<Vec<_>>().join(", ")
    }

    /// A router that may be sending to a pool which should be idle, and why: nothing may be done to the pool's hosts.
    /// A router that is away cannot have changed by itself what it last said.
    pub fn may_send_to(&self, pool: &PoolName) -> Option<String> {
        if self.unsettled {
            return Some(self.disagreement());
        }
        let order = self
            .told
            .as_ref()
            .map(|(_, order)| *order)
            .unwrap_or_default();
        self.hosts.iter().find_map(|(name, host)| {
            let away = if host.is_connected() {
                ""
            } else {
                ", and is away"
            };
            match &host.sends_to {
                Some(other) if other == pool => {
                    Some(format!("the router {name} sends to {pool}{away}"))
                }
                _ if !host.heard => Some(format!(
                    "the router {name} has not said where it sends{away}"
                )),
                None => Some(format!(
                    "the router {name} cannot tell where it sends{away}"
                )),
                Some(_) if host.answered < order => {
                    Some(format!("the router {name} has not been switched yet{away}"))
                }
                Some(_) => None,
            }
        })
    }

    /// How carefully the hosts of a pool are changed. An idle pool serves nobody: all of its hosts may be changed at
    /// once, and nothing is gained by a canary there or by watching it while nobody uses it.
    pub fn policy_of(&self, pool: &PoolName, policy: &Policy) -> Policy {
        let turning = self.running().is_some_and(|switch| switch.to == *pool);
        if self.unsettled || turning || self.active.as_ref() == Some(pool) {
            return policy.clone();
        }
        Policy {
            canary: None,
            steps: vec![Quantity::Percent(100)],
            max_parallel: Quantity::Percent(100),
            all_at_once: true,
            bake: Span::secs(0),
            ..policy.clone()
        }
    }

    /// A switch that is about to start.
    ///
    /// # Errors
    /// [`NoSwitch`] when nothing could be done.
    pub fn plan(
        &self,
        id: RolloutId,
        to: &PoolName,
        purpose: Purpose,
        (at, epoch): (Moment, u64),
    ) -> Result<Switch, NoSwitch> {
        if self.hosts.is_empty() {
            return Err(NoSwitch::NoRouters);
        }
        if !self.settings.pools.contains(to) {
            return Err(NoSwitch::NoSuchPool(to.clone()));
        }
        if !self.hosts.values().any(RouterHost::is_connected) {
            return Err(NoSwitch::NoneReachable(self.hosts.len()));
        }
        // Going back names where to: what routers do now does not matter then.
        let from = match (self.settled(), purpose) {
            (Ok(active), _) => active.clone(),
            (Err(why), Purpose::Forward) => return Err(why),
            (Err(_), Purpose::Back) => to.clone(),
        };
        let accepts = self.settings.accepts && purpose == Purpose::Forward;
        Ok(Switch {
            id,
            from,
            to: to.clone(),
            purpose,
            settings: self.settings.clone(),
            taking_part: BTreeSet::new(),
            stage: SwitchStage::Preparing {
                acceptance: accepts.then(|| self.newest.next(epoch)),
                since: at,
            },
            started_at: at,
        })
    }

    /// The number under which routers try the acceptance checks now, and on which pool.
    pub fn acceptance(&self) -> Option<(Generation, &PoolName)> {
        let switch = self.running()?;
        match &switch.stage {
            SwitchStage::Preparing { acceptance, .. } => Some(((*acceptance)?, &switch.to)),
            _ => None,
        }
    }

    /// Routers that do not do what they were told, although they have carried it out once or failed at it, and what
    /// they do instead; none while a switch runs.
    pub fn astray(&self) -> Vec<(&HostName, String)> {
        let wanted = match (&self.told, &self.active) {
            _ if self.running().is_some() || self.unsettled => None,
            (Some((pool, order)), _) => Some((pool, *order)),
            (None, active) => active.as_ref().map(|pool| (pool, Generation::default())),
        };
        let Some((pool, order)) = wanted else {
            return Vec::new();
        };
        let strays = self.hosts.iter().filter_map(|(name, host)| {
            let what = match (&host.sends_to, &host.failure) {
                _ if host.answered < order || !host.heard => return None,
                (Some(other), _) if other == pool => return None,
                (Some(other), Some(why)) => format!("sends to {other}: {why}"),
                (Some(other), None) => format!("sends to {other}: it was changed by hand"),
                (None, Some(why)) => format!("cannot tell where it sends: {why}"),
                (None, None) => return None,
            };
            Some((name, what))
        });
        strays.collect()
    }
}

impl From<NoSwitch> for Illegal {
    fn from(why: NoSwitch) -> Self {
        Self::NoSwitch(why.to_string())
    }
}
