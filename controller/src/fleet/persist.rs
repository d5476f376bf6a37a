//! How the fleet lies in the store: one small object for each host, member, rollout, deployment.
//!
//! | key | value |
//! |---|---|
//! | `host/NAME`, `operator/NAME`, `token/DIGEST` | the registry |
//! | `target/ID` | a target without its hosts; ID is made from its key |
//! | `member/ID/HOST` | one host of a target |
//! | `router/ID`, `route/ID/HOST` | a component's routers without their hosts; one of these |
//! | `deployment/N` | a deployment |
//! | `drift/ID/HOST` | what somebody said of a release that was changed by hand |
//! | `word/N` | the same of the past, with what came of it |
//! | `declared/DIGEST` | what a release says of databases, by its manifest |
//! | `desired/HOST` | what the host was last told |
//! | `closure/KIND/NAME` | what somebody froze or locked |
//! | `standing/ENVIRONMENT/APPLICATION` | which versions stood there, and what was given up |
//! | `numbers` | the numbers given out last |
//! | `event/N` | what happened, for people: never read back into the state |
//!
//! Environment files are not here: the signed metadata is the truth of them.

use super::closing::Closed;
use super::hosts::Seat;
use super::{Fleet, GRACE};
use crate::identity::peer::Identity;
use crate::identity::registry::{Host, Operator, Roles};
use crate::identity::tokens::{Grant, Token};
use crate::store::{BadEntry, Batch, Key, Loaded, MAX_BATCH};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tamer_core::desired::Desired;
use tamer_core::digest::Digest;
use tamer_core::id::{ApplicationName, EnvironmentName, HostName, OperatorName, TargetKey};
use tamer_core::moment::{Moment, Span};
use tamer_core::rollout::deployment::DeploymentId;
use tamer_core::rollout::switching::{Router, RouterKey, SwitchEvent};
use tamer_core::rollout::{Event, Target};
use tamer_kit::hash::sha256;

/// How many entries of the history are kept.
const HISTORY_KEPT: u64 = 100_000;

/// The numbers given out last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Numbers {
    /// Deployments.
    pub deployment: u64,
    /// Rollouts.
    pub rollout: u64,
    /// Entries of the history.
    pub event: u64,
    /// What was said of changes by hand.
    pub word: u64,
    /// The epoch that the store was last written in: a lower one than the controller's is a backup's.
    pub epoch: u64,
}

/// One object of the store. The order is the order of writing where one batch does not hold all: a
/// rollout's hosts before the rollout itself, so that a torn write never shows a rollout without them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Token(Digest),
    Declared(Digest),
    Host(HostName),
    Operator(OperatorName),
    Member(TargetKey, HostName),
    RouterHost(RouterKey, HostName),
    Word(TargetKey, HostName),
    PastWord(u64),
    Closure(Closed),
    Standing(EnvironmentName, ApplicationName),
    Desired(HostName),
    Target(TargetKey),
    Router(RouterKey),
    Deployment(DeploymentId),
}

/// What is known of a host or an operator.
impl From<&Identity> for Object {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::Host { name, .. } => Self::Host(name.clone()),
            Identity::Operator { name } => Self::Operator(name.clone()),
        }
    }
}

/// What happened, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at: Moment,
    /// Where.
    pub target: String,
    /// What, in a few words.
    pub what: String,
}

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

/// The first content of a new store: the token of the first admin.
///
/// # Errors
/// Never in practice: the token is small.
pub fn genesis(
    now: Moment,
    secret: Digest,
    name: &OperatorName,
    roles: Roles,
) -> Result<Batch, BadEntry> {
    let mut fleet = Fleet::new(0, None);
    let token = Token {
        grant: Grant::Operator {
            name: name.clone(),
            roles,
        },
        expires: now + Span::secs(24 * 3600),
        created_by: None,
        used: None,
    };
    fleet.tokens.issue(secret, token);
    fleet.dirty.insert(Object::Token(secret));
    Ok(fleet.drain()?.into_iter().next().unwrap_or_default())
}

// === impl HistoryEntry ===

impl HistoryEntry {
    /// An entry for events that people care about; reports and connections are too many.
    pub(super) fn of(key: &TargetKey, event: &Event, at: Moment) -> Option<Self> {
        let what = match event {
            Event::Connected(_)
            | Event::Lost(_)
            | Event::Reported(..)
            | Event::PolicyChanged(_)
            | Event::Opening(_)
            | Event::MayStage(_) => return None,
            Event::Line(Some(line)) => format!("the database: {line}"),
            Event::Line(None) => "it works with the database".to_owned(),
            Event::Approval(Some(how)) => format!("waits for approval: {how}"),
            Event::Approval(None) => "approved".to_owned(),
            Event::Frozen(cause) => format!("failed, and does not go back: {cause}"),
            Event::Restored => "restored from a backup: unsettled".to_owned(),
            Event::Adopted => "what runs counts as wanted".to_owned(),
            Event::Settled => "every host runs what the restored controller wants".to_owned(),
            Event::HostAdded(host) => format!("{host} was added"),
            Event::HostRemoved(host) => format!("{host} was removed"),
            Event::HostReset(host) => format!("{host} was rebuilt"),
            Event::Started(new) => {
                let to = new
                    .rollout
                    .release
                    .as_ref()
                    .map_or("nothing".to_owned(), ToString::to_string);
                format!(
                    "rollout {} to {to} started on {} hosts",
                    new.rollout.id,
                    new.waves.len()
                )
            }
            Event::Paused { by, .. } => format!("paused by {by}"),
            Event::Resumed => "resumed".to_owned(),
            Event::Promoted { by, .. } => format!("promoted by {by}"),
            Event::Aborted { by, .. } => format!("aborted by {by}"),
            Event::RollbackAsked { by, .. } => format!("rollback asked for by {by}"),
            Event::Granted {
                host, id, release, ..
            } => {
                let to = release
                    .as_ref()
                    .map_or("nothing".to_owned(), ToString::to_string);
                format!("{host} was granted {to}, grant {id}")
            }
            Event::GaveUp(host) => format!("{host} fell silent"),
            Event::WaveStarted(wave) => format!("wave {wave} started"),
            Event::WaveBaking(wave) => format!("wave {wave} is through"),
            Event::TurnedBack(cause) | Event::PausedByPolicy(cause) => format!("failed: {cause}"),
            Event::Ended(outcome) => format!("ended: {outcome:?}").chars().take(300).collect(),
        };
        Some(Self {
            at,
            target: key.to_string(),
            what,
        })
    }
}

impl HistoryEntry {
    /// The same for routers.
    pub(super) fn of_router(key: &RouterKey, event: &SwitchEvent, at: Moment) -> Option<Self> {
        let what = match event {
            SwitchEvent::Connected(_)
            | SwitchEvent::Lost(_)
            | SwitchEvent::Reported(..)
            | SwitchEvent::Weighed(..)
            | SwitchEvent::Configured(_) => return None,
            SwitchEvent::HostAdded(host) => format!("router {host} was added"),
            SwitchEvent::HostRemoved(host) => format!("router {host} was removed"),
            SwitchEvent::HostReset(host) => format!("router {host} was rebuilt"),
            SwitchEvent::Restored => "routers were restored from a backup: unsettled".to_owned(),
            SwitchEvent::Started(switch) => format!(
                "switch {} from pool {} to {} started",
                switch.id, switch.from, switch.to
            ),
            SwitchEvent::RollbackAsked { by, .. } => format!("switch back asked for by {by}"),
            SwitchEvent::Aborted { by, .. } => format!("switch aborted by {by}"),
            SwitchEvent::Accepted => "the pool is accepted, and waits for a person".to_owned(),
            SwitchEvent::Promoted { by, .. } => format!("switch promoted by {by}"),
            SwitchEvent::Turned(order) => format!("routers are switched, order {order}"),
            SwitchEvent::Arrived => "all routers are switched".to_owned(),
            SwitchEvent::TurnedBack(order, cause) => {
                format!("routers are switched back, order {order}: {cause}")
            }
            SwitchEvent::Ended(outcome) => format!("switch ended: {outcome:?}")
                .chars()
                .take(300)
                .collect(),
            SwitchEvent::Settled(pool) => format!("all routers send to pool {pool}"),
        };
        Some(Self {
            at,
            target: key.to_string(),
            what,
        })
    }
}

// === impl Fleet: out ===

impl Fleet {
    /// Whether anything must be made durable.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.happened.is_empty()
    }

    /// Everything that must be made durable, as batches to be written in this order.
    ///
    /// # Errors
    /// An object is larger than the store takes; the fleet is then ahead of the store, and the
    /// controller must stop.
    pub fn drain(&mut self) -> Result<Vec<Batch>, BadEntry> {
        let mut batches = vec![Batch::default()];
        for object in std::mem::take(&mut self.dirty) {
            let (key, value) = self.write(&object)?;
            add(&mut batches, key, value)?;
        }
        for entry in std::mem::take(&mut self.happened) {
            self.numbers.event += 1;
            add(
                &mut batches,
                Key::numbered("event", self.numbers.event)?,
                Some(json(&entry)),
            )?;
            if let Some(old) = self.numbers.event.checked_sub(HISTORY_KEPT) {
                add(&mut batches, Key::numbered("event", old)?, None)?;
            }
        }
        add(&mut batches, "numbers".parse()?, Some(json(&self.numbers)))?;
        Ok(batches)
    }

    fn write(&self, object: &Object) -> Result<(Key, Option<Vec<u8>>), BadEntry> {
        Ok(match object {
            Object::Token(secret) => (
                format!("token/{secret}").parse()?,
                self.tokens.0.get(secret).map(json),
            ),
            Object::Declared(digest) => (
                format!("declared/{digest}").parse()?,
                self.declared.get(digest).map(json),
            ),
            Object::Host(name) => (
                format!("host/{name}").parse()?,
                self.registry.hosts.get(name).map(json),
            ),
            Object::Operator(name) => (
                format!("operator/{name}").parse()?,
                self.registry.operators.get(name).map(json),
            ),
            Object::Target(key) => {
                let head = self.targets.get(key).map(|target| Target {
                    hosts: BTreeMap::new(),
                    ..clone_head(target)
                });
                (
                    format!("target/{}", id(key)).parse()?,
                    head.as_ref().map(json),
                )
            }
            Object::Member(key, host) => {
                let member = self
                    .targets
                    .get(key)
                    .and_then(|target| target.hosts.get(host));
                (
                    format!("member/{}/{host}", id(key)).parse()?,
                    member.map(json),
                )
            }
            Object::Router(key) => {
                let head = self.routers.get(key).map(|router| Router {
                    hosts: BTreeMap::new(),
                    ..router.clone()
                });
                (
                    format!("router/{}", router_id(key)).parse()?,
                    head.as_ref().map(json),
                )
            }
            Object::RouterHost(key, host) => {
                let router = self.routers.get(key);
                let host_of = router.and_then(|router| router.hosts.get(host));
                (
                    format!("route/{}/{host}", router_id(key)).parse()?,
                    host_of.map(json),
                )
            }
            Object::Word(key, host) => (
                format!("drift/{}/{host}", id(key)).parse()?,
                self.words.get(&(key.clone(), host.clone())).map(json),
            ),
            Object::PastWord(number) => (
                Key::numbered("word", *number)?,
                self.past_words.get(number).map(json),
            ),
            Object::Deployment(number) => (
                Key::numbered("deployment", number.0)?,
                self.deployments.get(number).map(json),
            ),
            Object::Closure(what) => (
                format!("closure/{}", what.key()).parse()?,
                self.closures.get(what).map(json),
            ),
            Object::Standing(environment, application) => {
                let place = (environment.clone(), application.clone());
                (
                    format!("standing/{environment}/{application}").parse()?,
                    self.standings.get(&place).map(json),
                )
            }
            Object::Desired(host) => {
                let desired = self.seats.get(host).and_then(|seat| seat.desired.as_ref());
                (format!("desired/{host}").parse()?, desired.map(json))
            }
        })
    }
}

/// A target without its hosts, which may be thousands and are not copied.
fn clone_head(target: &Target) -> Target {
    Target {
        key: target.key.clone(),
        policy: target.policy.clone(),
        release: target.release.clone(),
        history: target.history.clone(),
        bad: target.bad.clone(),
        converging: target.converging,
        unsettled: target.unsettled,
        line: target.line.clone(),
        opening: target.opening.clone(),
        rollout: target.rollout.clone(),
        hosts: BTreeMap::new(),
    }
}

/// Short, because keys are: 64 bits of the digest of the target's name.
fn id(key: &TargetKey) -> String {
    let TargetKey {
        environment,
        application,
        component,
        pool,
    } = key;
    sha256(format!("{environment}/{application}/{component}/{pool}").as_bytes()).to_string()[..16]
        .to_owned()
}

fn router_id(key: &RouterKey) -> String {
    sha256(key.to_string().as_bytes()).to_string()[..16].to_owned()
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Maps with text keys and plain values: there is nothing that JSON could refuse.
    serde_json::to_vec(value).unwrap_or_default()
}

fn add(batches: &mut Vec<Batch>, key: Key, value: Option<Vec<u8>>) -> Result<(), BadEntry> {
    let size = key.as_str().len() + value.as_ref().map_or(0, Vec::len);
    if batches
        .last()
        .is_none_or(|batch| batch.size() + size > MAX_BATCH)
    {
        batches.push(Batch::default());
    }
    match (batches.last_mut(), value) {
        (Some(batch), Some(value)) => batch.put(key, value),
        (Some(batch), None) => batch.delete(key),
        (None, _) => Ok(()),
    }
}

// === impl Fleet: in ===

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
