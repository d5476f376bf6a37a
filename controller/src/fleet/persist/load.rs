//! The fleet's way out of the store.

use super::{id, router_id};
use crate::fleet::closing::Closed;
use crate::fleet::hosts::Seat;
use crate::fleet::{Fleet, GRACE};
use crate::identity::registry::{Host, Operator};
use crate::identity::tokens::Token;
use crate::store::{Key, Loaded};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use tamer_core::desired::Desired;
use tamer_core::id::{HostName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::switching::{Router, RouterKey, SwitchEvent};
use tamer_core::rollout::{Event, Target};

/// Why the store's content is not a fleet.
#[derive(Debug, thiserror::Error)]
#[error("the object `{key}` in the store is not what this version of Tamer writes")]
pub struct BadObject {
    /// Which object.
    pub key: String,
    /// Why not.
    #[source]
    pub source: serde_json::Error,
}

impl Fleet {
    /// The fleet that was stored. Every host counts as away until it connects.
    ///
    /// # Errors
    /// [`BadObject`] for the first object that can't be read.
    pub fn load(
        stored: &Loaded,
        epoch: u64,
        held: Option<String>,
        now: Moment,
    ) -> Result<Self, BadObject> {
        let mut fleet = Self::new(epoch, held);
        let mut keys = BTreeMap::new();
        let mut routers = BTreeMap::new();
        for (key, value) in &stored.objects {
            if let Some(("target", _)) = key.as_str().split_once('/') {
                let target: Target = read(key, value)?;
                keys.insert(id(&target.key), target.key.clone());
                fleet.targets.insert(target.key.clone(), target);
            }
            if let Some(("router", _)) = key.as_str().split_once('/') {
                let router: Router = read(key, value)?;
                routers.insert(router_id(&router.key), router.key.clone());
                fleet.routers.insert(router.key.clone(), router);
            }
        }
        for (key, value) in &stored.objects {
            fleet.take_in(key, value, &keys)?;
            fleet.take_in_route(key, value, &routers)?;
        }
        fleet.patient_until = now + GRACE;
        fleet.wake_up(now);
        Ok(fleet)
    }

    fn take_in(
        &mut self,
        key: &Key,
        value: &[u8],
        targets: &BTreeMap<String, TargetKey>,
    ) -> Result<(), BadObject> {
        let Some((kind, name)) = key.as_str().split_once('/') else {
            if key.as_str() == "numbers" {
                self.numbers = read(key, value)?;
            }
            return Ok(());
        };
        match kind {
            "host" => {
                let host: Host = read(key, value)?;
                if let Ok(name) = name.parse::<HostName>() {
                    self.seats.entry(name.clone()).or_default();
                    self.registry.hosts.insert(name, host);
                }
            }
            "operator" => {
                let operator: Operator = read(key, value)?;
                if let Ok(name) = name.parse() {
                    self.registry.operators.insert(name, operator);
                }
            }
            "token" => {
                let token: Token = read(key, value)?;
                if let Ok(secret) = name.parse() {
                    self.tokens.issue(secret, token);
                }
            }
            "declared" => {
                let declared = read(key, value)?;
                if let Ok(digest) = name.parse() {
                    self.declared.insert(digest, declared);
                }
            }
            "member" => {
                let member = read(key, value)?;
                let place = name
                    .split_once('/')
                    .and_then(|(id, host)| Some((targets.get(id)?, host.parse().ok()?)));
                if let Some((target, host)) = place
                    && let Some(target) = self.targets.get_mut(target)
                {
                    target.hosts.insert(host, member);
                }
            }
            "drift" => {
                let word = read(key, value)?;
                let place = name
                    .split_once('/')
                    .and_then(|(id, host)| Some((targets.get(id)?.clone(), host.parse().ok()?)));
                if let Some(place) = place {
                    self.words.insert(place, word);
                }
            }
            "word" => {
                let past = read(key, value)?;
                if let Some(number) = key.number() {
                    self.past_words.insert(number, past);
                }
            }
            "closure" => {
                let closure = read(key, value)?;
                if let Some(what) = Closed::of_key(name) {
                    self.closures.insert(what, closure);
                }
            }
            "standing" => {
                let standing = read(key, value)?;
                let place = name.split_once('/').and_then(|(environment, application)| {
                    Some((environment.parse().ok()?, application.parse().ok()?))
                });
                if let Some(place) = place {
                    self.standings.insert(place, standing);
                }
            }
            "deployment" => {
                let deployment: tamer_core::rollout::deployment::Deployment = read(key, value)?;
                self.deployments.insert(deployment.id, deployment);
            }
            "desired" => {
                let desired: Desired = read(key, value)?;
                if let Ok(name) = name.parse() {
                    self.seats.insert(
                        name,
                        Seat {
                            desired: Some(desired),
                            ..Seat::default()
                        },
                    );
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_in_route(
        &mut self,
        key: &Key,
        value: &[u8],
        routers: &BTreeMap<String, RouterKey>,
    ) -> Result<(), BadObject> {
        let Some(name) = key.as_str().strip_prefix("route/") else {
            return Ok(());
        };
        let place = name
            .split_once('/')
            .and_then(|(id, host)| Some((routers.get(id)?, host.parse().ok()?)));
        if let Some((router, host)) = place
            && let Some(router) = self.routers.get_mut(router)
        {
            router.hosts.insert(host, read(key, value)?);
        }
        Ok(())
    }

    /// Nobody is connected to a controller that has just started, and everything must be looked at.
    fn wake_up(&mut self, now: Moment) {
        let keys: Vec<TargetKey> = self.targets.keys().cloned().collect();
        for key in keys {
            let hosts: Vec<HostName> = self.targets[&key].hosts.keys().cloned().collect();
            for host in hosts {
                if self.targets[&key].hosts[&host].is_connected() {
                    self.awaited.insert(host.clone());
                }
                // The host is the target's: this cannot be refused.
                let _ = self.apply(&key, &Event::Lost(host), now);
            }
            self.restless.insert(key);
        }
        let keys: Vec<RouterKey> = self.routers.keys().cloned().collect();
        for key in keys {
            let hosts = self.routers[&key].hosts.iter();
            let hosts: Vec<_> = hosts
                .map(|(name, it)| (name.clone(), it.is_connected()))
                .collect();
            for (host, connected) in hosts {
                if connected {
                    self.awaited.insert(host.clone());
                }
                // The host is one of them: this cannot be refused.
                let _ = self.apply_route(&key, &SwitchEvent::Lost(host), now);
            }
            self.restless_routers.insert(key);
        }
    }
}

fn read<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, BadObject> {
    serde_json::from_slice(value).map_err(|source| BadObject {
        key: key.as_str().to_owned(),
        source,
    })
}
