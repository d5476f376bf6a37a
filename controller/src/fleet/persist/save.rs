//! The fleet's way into the store.

use super::{Object, id, router_id};
use crate::fleet::Fleet;
use crate::store::{BadEntry, Batch, Key, MAX_BATCH};
use serde::Serialize;
use std::collections::BTreeMap;
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
