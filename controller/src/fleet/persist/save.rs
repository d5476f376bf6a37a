//! The fleet's way into the store.

use super::{Object, id, router_id};
use crate::fleet::Fleet;
use crate::store::{BadEntry, Batch, Key, MAX_BATCH};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use tamer_core::id::TargetKey;
use tamer_core::rollout::Target;
use tamer_core::rollout::switching::Router;

/// How many entries of the history are kept.
const HISTORY_KEPT: u64 = 100_000;

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
        let mut ids = Ids::default();
        for object in std::mem::take(&mut self.dirty) {
            let (key, value) = self.write(&object, &mut ids)?;
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

    fn write(&self, object: &Object, ids: &mut Ids) -> Result<(Key, Option<Vec<u8>>), BadEntry> {
        Ok(match object {
            Object::Token(secret) => (
                named(format_args!("token/{secret}"))?,
                self.tokens.0.get(secret).map(json),
            ),
            Object::Declared(digest) => (
                named(format_args!("declared/{digest}"))?,
                self.declared.get(digest).map(json),
            ),
            Object::Host(name) => (
                named(format_args!("host/{name}"))?,
                self.registry.hosts.get(name).map(json),
            ),
            Object::Operator(name) => (
                named(format_args!("operator/{name}"))?,
                self.registry.operators.get(name).map(json),
            ),
            Object::Target(key) => {
                let head = self.targets.get(key).map(|target| Target {
                    hosts: BTreeMap::new(),
                    ..clone_head(target)
                });
                (
                    named(format_args!("target/{}", ids.of(key)))?,
                    head.as_ref().map(json),
                )
            }
            Object::Member(key, host) => {
                let member = self
                    .targets
                    .get(key)
                    .and_then(|target| target.hosts.get(host));
                (
                    named(format_args!("member/{}/{host}", ids.of(key)))?,
                    member.map(json),
                )
            }
            Object::Router(key) => {
                let head = self.routers.get(key).map(|router| Router {
                    hosts: BTreeMap::new(),
                    ..router.clone()
                });
                (
                    named(format_args!("router/{}", router_id(key)))?,
                    head.as_ref().map(json),
                )
            }
            Object::RouterHost(key, host) => {
                let router = self.routers.get(key);
                let host_of = router.and_then(|router| router.hosts.get(host));
                (
                    named(format_args!("route/{}/{host}", router_id(key)))?,
                    host_of.map(json),
                )
            }
            Object::Word(key, host) => (
                named(format_args!("drift/{}/{host}", ids.of(key)))?,
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
                named(format_args!("closure/{}", what.key()))?,
                self.closures.get(what).map(json),
            ),
            Object::Standing(environment, application) => {
                let place = (environment.clone(), application.clone());
                (
                    named(format_args!("standing/{environment}/{application}"))?,
                    self.standings.get(&place).map(json),
                )
            }
            Object::Desired(host) => {
                let desired = self.seats.get(host).and_then(|seat| seat.desired.as_ref());
                (named(format_args!("desired/{host}"))?, desired.map(json))
            }
        })
    }
}

/// What targets are called in keys. One hash serves all members of a target, which come one after the other.
#[derive(Default)]
struct Ids(Option<(TargetKey, String)>);

impl Ids {
    fn of(&mut self, key: &TargetKey) -> &str {
        let known = self.0.take().filter(|(known, _)| known == key);
        let (_, id) = self
            .0
            .insert(known.unwrap_or_else(|| (key.clone(), id(key))));
        id
    }
}

/// Most keys are shorter: a kind, the hash of a target, a host.
const KEY: usize = 96;
/// Most values are smaller: a host's part in a target, what a host was told.
const VALUE: usize = 1024;

fn named(text: fmt::Arguments<'_>) -> Result<Key, BadEntry> {
    let mut key = String::with_capacity(KEY);
    // A string takes everything.
    let _ = key.write_fmt(text);
    key.try_into()
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

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = Vec::with_capacity(VALUE);
    // Maps with text keys and plain values: there is nothing that JSON could refuse.
    match serde_json::to_writer(&mut text, value) {
        Ok(()) => text,
        Err(_) => Vec::new(),
    }
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
