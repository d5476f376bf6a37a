//! Routers of components with two pools: which hosts those are, what they are told, and what follows from what they
//! say. Which pool a release goes to is in `pools`.

use super::Fleet;
use super::observation::short;
use super::persist::{HistoryEntry, Object};
use std::collections::BTreeSet;
use tamer_core::check::CheckResult;
use tamer_core::desired::{Failure, FailureKind, Purpose};
use tamer_core::environment::Environment;
use tamer_core::id::{ComponentPath, EnvironmentName, HostName, PoolName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::switching::{RouteSeen, Router, RouterKey, Settings, SwitchEvent};
use tamer_core::rollout::{Event, Illegal};
use tamer_core::router::{AcceptanceReport, DesiredRoute, Placed, RouteOrder, RouteReport};

/// Routers that have not come to rest after so many decisions are a mistake of ours.
const MOST_DECISIONS: usize = 1000;

impl Fleet {
    /// Applies an event to a component's routers, and marks what must be stored, decided and sent because of it.
    ///
    /// # Errors
    /// [`Illegal`]; nothing has changed then.
    pub fn apply_route(
        &mut self,
        key: &RouterKey,
        event: &SwitchEvent,
        at: Moment,
    ) -> Result<(), Illegal> {
        let router = self.routers.get_mut(key).ok_or(Illegal::NoRollout)?;
        let touched = router.apply(event, at)?;
        if touched.is_empty() {
            return Ok(());
        }
        if touched.head {
            self.dirty.insert(Object::Router(key.clone()));
            self.stale.extend(router.hosts.keys().cloned());
        }
        for host in touched.hosts {
            self.dirty
                .insert(Object::RouterHost(key.clone(), host.clone()));
            self.stale.insert(host);
        }
        self.restless_routers.insert(key.clone());
        self.happened
            .extend(HistoryEntry::of_router(key, event, at));
        self.set_pool_policies(key, at);
        Ok(())
    }

    /// The idle pool's hosts are changed otherwise than those that are used.
    pub(super) fn set_pool_policies(&mut self, key: &RouterKey, now: Moment) {
        let Some((router, place)) = self
            .routers
            .get(key)
            .zip(self.environments.get(&key.environment))
        else {
            return;
        };
        let policies = router.settings.pools.iter().map(|pool| {
            let policy = router.policy_of(pool, &place.file.policy);
            (key.target(pool), policy)
        });
        for (target, policy) in policies.collect::<Vec<_>>() {
            let differs = |it: &&tamer_core::rollout::Target| it.policy != policy;
            if self.targets.get(&target).filter(differs).is_some() {
                // A policy may always change: a running rollout keeps its own.
                let _ = self.apply(&target, &Event::PolicyChanged(policy), now);
            }
        }
    }

    /// Lets everything happen to a component's routers that follows now.
    pub(super) fn settle_router(&mut self, key: &RouterKey, now: Moment) {
        for _ in 0..MOST_DECISIONS {
            let Some(router) = self.routers.get(key) else {
                self.router_wakes.remove(key);
                return;
            };
            let forward = router
                .running()
                .is_some_and(|it| it.purpose == Purpose::Forward);
            let awaited = router.hosts.keys().any(|host| self.awaited.contains(host));
            if forward && awaited && now < self.patient_until {
                // It is the controller that was away: routers have a moment to say what they do.
                self.router_wakes.insert(key.clone(), self.patient_until);
                return;
            }
            let decision = router.decide(now, self.epoch);
            if decision.events.is_empty() {
                match decision.wake_at {
                    Some(at) => self.router_wakes.insert(key.clone(), at),
                    None => self.router_wakes.remove(key),
                };
                self.restless_routers.remove(key);
                return;
            }
            for event in &decision.events {
                if let Err(error) = self.apply_route(key, event, now) {
                    tracing::error!(router = %key, %error, ?event, "decided what the routers' state does not allow");
                    self.restless_routers.remove(key);
                    return;
                }
            }
        }
        tracing::error!(router = %key, "the routers do not come to rest");
    }

    /// Tells a target's routers whether it can serve, where it has routers.
    pub(super) fn weigh(&mut self, target: &TargetKey, now: Moment) {
        let key = RouterKey::from(target);
        let Some((router, found)) = self.routers.get(&key).zip(self.targets.get(target)) else {
            return;
        };
        let unfit = found.is_fit().err();
        let ours = router.settings.pools.contains(&target.pool);
        if ours && router.unfit.get(&target.pool) != unfit.as_ref() {
            let event = SwitchEvent::Weighed(target.pool.clone(), unfit);
            // Never refused.
            let _ = self.apply_route(&key, &event, now);
        }
    }

    // === which hosts ===

    /// Where a component comes to have pools, or has none any more, its hosts stay: what they should run goes with
    /// them, to both pools, or from the pool that was used.
    pub(super) fn pass_on(&mut self, name: &EnvironmentName, file: &Environment) {
        let Some(before) = self.environments.get(name) else {
            return;
        };
        let mut passed = Vec::new();
        for path in file.place.keys() {
            let key = router_key(name, path);
            let main = key.target(&PoolName::default());
            match (before.file.pools.get(path), file.pools.get(path)) {
                (None, Some(pools)) if before.file.place.contains_key(path) => {
                    let to = pools.keys().map(|pool| (main.clone(), key.target(pool)));
                    passed.extend(to);
                }
                (Some(_), None) => {
                    let router = self.routers.get(&key);
                    let used = router.and_then(|router| router.active.as_ref());
                    passed.extend(used.map(|pool| (key.target(pool), main)));
                }
                _ => {}
            }
        }
        for (from, to) in passed {
            let Some(from) = self.targets.get(&from) else {
                continue;
            };
            let (release, history) = (from.release.clone(), from.history.clone());
            let (bad, unsettled) = (from.bad.clone(), from.unsettled);
            if let Some(target) = self.targets.get_mut(&to) {
                (target.release, target.history) = (release, history);
                (target.bad, target.unsettled) = (bad, unsettled);
                self.dirty.insert(Object::Target(to));
            }
        }
    }

    /// Takes in what an environment file says of routers.
    pub(super) fn set_routers(&mut self, name: &EnvironmentName, file: &Environment, now: Moment) {
        let gone: Vec<RouterKey> = self
            .routers
            .keys()
            .filter(|key| key.environment == *name && !file.router.contains_key(&key.path()))
            .cloned()
            .collect();
        for key in gone {
            if let Some(router) = self.routers.remove(&key) {
                let hosts = router.hosts.into_keys();
                let members = hosts.map(|host| {
                    self.stale.insert(host.clone());
                    Object::RouterHost(key.clone(), host)
                });
                self.dirty.extend(members.collect::<Vec<_>>());
                self.dirty.insert(Object::Router(key));
            }
        }
        for path in file.router.keys() {
            let key = router_key(name, path);
            let Some(settings) = Settings::of(file, path) else {
                continue;
            };
            if self.routers.contains_key(&key) {
                // Never refused.
                let _ = self.apply_route(&key, &SwitchEvent::Configured(settings), now);
            } else {
                self.routers
                    .insert(key.clone(), Router::new(key.clone(), settings));
                self.dirty.insert(Object::Router(key.clone()));
            }
            self.set_pool_policies(&key, now);
            for pool in self.routers[&key].settings.pools.clone() {
                self.weigh(&key.target(&pool), now);
            }
        }
    }

    /// Has a host route for the components that its labels choose, and for no other.
    pub(super) fn place_router(&mut self, name: &HostName, now: Moment) {
        let wanted = self.routes_for(name);
        let present: BTreeSet<RouterKey> = self.routers_of(name).into_iter().collect();
        for key in present.difference(&wanted) {
            // Never refused.
            let _ = self.apply_route(key, &SwitchEvent::HostRemoved(name.clone()), now);
        }
        for key in wanted.difference(&present) {
            // Never refused.
            let _ = self.apply_route(key, &SwitchEvent::HostAdded(name.clone()), now);
            if self
                .seats
                .get(name)
                .is_some_and(|seat| seat.session.is_some())
            {
                let _ = self.apply_route(key, &SwitchEvent::Connected(name.clone()), now);
                self.route_again(name, key, now);
            }
        }
    }

    fn routes_for(&self, name: &HostName) -> BTreeSet<RouterKey> {
        let host = self.registry.hosts.get(name).filter(|host| !host.revoked);
        let place = host.and_then(|host| self.environments.get(&host.environment));
        let Some((host, place)) = host.zip(place) else {
            return BTreeSet::new();
        };
        let chosen = place.file.router.iter();
        chosen
            .filter(|(_, router)| router.hosts.matches(&host.labels))
            .map(|(path, _)| router_key(&host.environment, path))
            .collect()
    }

    /// Hosts that have the component's place and are in none of its pools.
    pub fn in_no_pool(&self, key: &RouterKey) -> impl Iterator<Item = &HostName> {
        let place = self.environments.get(&key.environment);
        let path = key.path();
        let of_it = |host: &crate::identity::registry::Host| {
            !host.revoked && host.environment == key.environment
        };
        let hosts = self.registry.hosts.iter();
        hosts
            .filter(move |(_, host)| {
                let placed = place.map(|place| place.file.placed(&path, &host.labels));
                of_it(host) && placed == Some(Placed::InNoPool)
            })
            .map(|(name, _)| name)
    }

    /// The components that a host routes for.
    pub fn routers_of(&self, name: &HostName) -> Vec<RouterKey> {
        let routers = self.routers.iter();
        routers
            .filter(|(_, router)| router.hosts.contains_key(name))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Something happened to a host, as far as it routes.
    pub(super) fn happen_to_router(
        &mut self,
        name: &HostName,
        event: impl Fn(HostName) -> SwitchEvent,
        now: Moment,
    ) {
        for key in self.routers_of(name) {
            // The host is one of them: this cannot be refused.
            let _ = self.apply_route(&key, &event(name.clone()), now);
        }
    }

    // === what they say, and what they are told ===

    /// What a host last said of a component's route goes to its routers.
    pub(super) fn route_again(&mut self, name: &HostName, key: &RouterKey, now: Moment) {
        let path = key.path();
        let said = self.seats.get(name).and_then(|seat| {
            let mut routes = seat.routes.iter();
            routes.find(|route| route.component == path)
        });
        if let Some(seen) = said.map(seen) {
            let event = SwitchEvent::Reported(name.clone(), Box::new(seen));
            let _ = self.apply_route(key, &event, now);
        }
    }

    /// What a host is told of the components that it routes for.
    pub(super) fn desired_routes(&self, name: &HostName) -> Vec<DesiredRoute> {
        let told = |key: &RouterKey| {
            let router = self.routers.get(key)?;
            let order = |(pool, id): (&PoolName, _)| RouteOrder {
                id,
                pool: pool.clone(),
            };
            Some(DesiredRoute {
                component: key.path(),
                send: router.told.as_ref().map(|(pool, id)| order((pool, *id))),
                accept: router.acceptance().map(|(id, pool)| order((pool, id))),
            })
        };
        self.routers_of(name).iter().filter_map(told).collect()
    }
}

fn router_key(environment: &EnvironmentName, path: &ComponentPath) -> RouterKey {
    RouterKey {
        environment: environment.clone(),
        application: path.application.clone(),
        component: path.component.clone(),
    }
}

/// What is cared for of a report, cut to a size that the store takes.
fn seen(said: &RouteReport) -> RouteSeen {
    RouteSeen {
        answered: said.answered,
        sends_to: said.sends_to.clone(),
        failure: said.failure.as_ref().map(short),
        acceptance: said.acceptance.as_ref().map(|it| (it.id, refused(it))),
    }
}

/// Why a pool was not accepted.
fn refused(said: &AcceptanceReport) -> Option<Failure> {
    let failed = said
        .results
        .iter()
        .find_map(|(check, result)| match result {
            CheckResult::Failed(why) => Some(Failure {
                check: Some(check.clone()),
                ..Failure::seen(FailureKind::Check, format!("check `{check}` fails: {why}"))
            }),
            CheckResult::Passed => None,
        });
    said.failure.clone().or(failed).as_ref().map(short)
}
