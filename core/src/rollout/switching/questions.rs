//! What others ask of a component's routers: which pool is idle, whether anybody sends to it, how carefully its hosts
//! change, who does not do what they were told; and whether a switch can start.

use super::{NoSwitch, Router, RouterHost, Switch, SwitchStage};
use crate::desired::Purpose;
use crate::generation::Generation;
use crate::id::{HostName, PoolName};
use crate::moment::{Moment, Span};
use crate::policy::{Policy, Quantity};
use crate::rollout::state::RolloutId;
use std::collections::BTreeSet;

impl Router {
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
            promoted: false,
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
