//! Environment files, and which host belongs to which target.

use super::persist::Object;
use super::{Fleet, Place};
use std::collections::BTreeSet;
use tamer_core::environment::Environment;
use tamer_core::id::{EnvironmentName, HostName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::{Event, Target};
use tamer_core::router::Placed;

impl Fleet {
    /// Takes in an environment file that was published: places, policy and checks hold from now on.
    pub fn set_environment(
        &mut self,
        name: &EnvironmentName,
        version: u64,
        text: String,
        file: Environment,
        now: Moment,
    ) {
        let pools = |path| {
            file.pools_of(path)
                .into_iter()
                .map(move |pool| (path, pool))
        };
        for (path, pool) in file.place.keys().flat_map(pools) {
            let key = TargetKey {
                environment: name.clone(),
                application: path.application.clone(),
                component: path.component.clone(),
                pool,
            };
            match self.targets.get(&key) {
                None => {
                    self.targets
                        .insert(key.clone(), Target::new(key.clone(), file.policy.clone()));
                    self.dirty.insert(Object::Target(key.clone()));
                    self.restless.insert(key);
                }
                // Those of pools are seen to with their routers.
                Some(_) if file.router.contains_key(path) => {}
                Some(target) if target.policy != file.policy => {
                    // A policy may always change: a running rollout keeps its own.
                    let _ = self.apply(&key, &Event::PolicyChanged(file.policy.clone()), now);
                }
                Some(_) => {}
            }
        }
        self.openings.clear();
        let all = self.targets.keys();
        let places = all.map(|key| (key.environment.clone(), key.application.clone()));
        self.unlooked.extend(places);
        let here = self.targets.keys().filter(|key| key.environment == *name);
        self.restless.extend(here.cloned());
        self.pass_on(name, &file);
        self.environments.insert(
            name.clone(),
            Place {
                version,
                text,
                file,
            },
        );
        let routing = self.environments.get(name).map(|place| place.file.clone());
        if let Some(file) = routing {
            self.set_routers(name, &file, now);
        }
        let hosts: Vec<HostName> = self
            .registry
            .hosts
            .iter()
            .filter(|(_, host)| host.environment == *name)
            .map(|(name, _)| name.clone())
            .collect();
        for host in hosts {
            self.place_host(&host, now);
            self.stale.insert(host);
        }
    }

    /// Puts a host into the targets that its labels choose, and out of the others.
    pub fn place_host(&mut self, name: &HostName, now: Moment) {
        let wanted = self.places_of(name);
        let present: BTreeSet<TargetKey> = self.targets_of(name).into_iter().collect();
        for key in present.difference(&wanted) {
            // The host is the target's: this cannot be refused.
            let _ = self.apply(key, &Event::HostRemoved(name.clone()), now);
        }
        for key in wanted.difference(&present) {
            // Adding a host is never refused.
            let _ = self.apply(key, &Event::HostAdded(name.clone()), now);
            if self
                .seats
                .get(name)
                .is_some_and(|seat| seat.session.is_some())
            {
                let _ = self.apply(key, &Event::Connected(name.clone()), now);
                self.tell_again(name, key, now);
            }
        }
        self.place_router(name, now);
        self.stale.insert(name.clone());
    }

    /// The targets that a host's labels choose; none for one that was revoked.
    fn places_of(&self, name: &HostName) -> BTreeSet<TargetKey> {
        let Some(host) = self.registry.hosts.get(name).filter(|host| !host.revoked) else {
            return BTreeSet::new();
        };
        let Some(place) = self.environments.get(&host.environment) else {
            return BTreeSet::new();
        };
        place
            .file
            .place
            .keys()
            .filter_map(|path| match place.file.placed(path, &host.labels) {
                Placed::Nowhere | Placed::InNoPool => None,
                Placed::In(pool) => Some(TargetKey {
                    environment: host.environment.clone(),
                    application: path.application.clone(),
                    component: path.component.clone(),
                    pool,
                }),
            })
            .collect()
    }

    /// The targets that a host is in.
    pub fn targets_of(&self, name: &HostName) -> Vec<TargetKey> {
        let Some(host) = self.registry.hosts.get(name) else {
            return Vec::new();
        };
        self.targets
            .iter()
            .filter(|(key, target)| {
                key.environment == host.environment && target.hosts.contains_key(name)
            })
            .map(|(key, _)| key.clone())
            .collect()
    }
}
