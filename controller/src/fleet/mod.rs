//! Everything the controller knows, in memory, and every change to it. No I/O, no clock.
//!
//! The driver is the only one who changes a [`Fleet`]. A change marks the objects that it touched;
//! the driver makes these durable before anything is sent or answered.
//!
//! | module | what it holds |
//! |---|---|
//! | [`persist`] | objects as the store keeps them |
//! | [`people`] | joining, inviting, revoking |
//! | [`restored`] | what a controller does that was restored from a backup |
//! | [`hosts`], `observation` | what hosts say, and what they should be |
//! | [`places`] | environment files, and which host belongs to which target |
//! | [`deploy`], `steer`, `back` | deployments: asking for them, steering them, going back |
//! | `approve` | approvals of deployments |
//! | [`closing`] | freezes and locks, and whether hosts may be moved forward |
//! | `routes`, `pools` | routers, and what they are told; pools in a deployment |
//! | `databases`, `migrate`, `settle` | what is known of databases; who reads and migrates them; what a person saw |
//! | [`auto`] | environments that follow: what stood where, what comes next by itself |
//! | [`outlook`] | what a deployment would do |
//! | [`drift`], [`past`] | what people say of releases that were changed by hand, and what came of it |
//! | [`advance`], [`turn`] | what follows by itself; what of that must be durable and is said |

pub mod advance;
mod approve;
pub mod auto;
pub mod back;
mod beyond;
pub mod closing;
mod databases;
pub mod deploy;
pub mod drift;
pub mod hosts;
mod migrate;
mod observation;
pub mod outlook;
pub mod past;
pub mod people;
pub mod persist;
pub mod places;
mod pools;
mod refused;
pub mod restored;
mod routes;
mod settle;
mod steer;
pub mod turn;

use crate::acting::{Acting, Refusals};
use crate::audit::{Entry, MAX_SAID, MAX_TEXT, Outcome, cut};
use crate::identity::peer::Identity;
use crate::identity::registry::Registry;
use crate::identity::tokens::Tokens;
use crate::revocations::Revocation;
use persist::Object;
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::auto::Standing;
use tamer_core::calendar::Opening;
use tamer_core::digest::Digest;
use tamer_core::drift::{Inspect, Word};
use tamer_core::environment::Environment;
use tamer_core::id::{ApplicationName, EnvironmentName, HostName, TargetKey};
use tamer_core::moment::{Moment, Span};
use tamer_core::rollout::deployment::{Deployment, DeploymentId};
use tamer_core::rollout::switching::{Router, RouterKey};
use tamer_core::rollout::{Event, Illegal, Target};
use tamer_core::schema::{Book, Declared, Record};
use tamer_core::version::Version;

/// Everything the controller knows.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Rises with every restore; recorded outside the store.
    pub epoch: u64,
    /// Why nothing is decided or sent: it was restored, and nobody has let it go on yet.
    pub held: Option<String>,
    /// Hosts and operators.
    pub registry: Registry,
    /// Join tokens.
    pub tokens: Tokens,
    /// The signed environment files, as last published.
    pub environments: BTreeMap<EnvironmentName, Place>,
    /// Every (environment, component, pool).
    pub targets: BTreeMap<TargetKey, Target>,
    /// The routers of components with pools.
    pub routers: BTreeMap<RouterKey, Router>,
    /// Deployments: those that run, and the last [`deploy::KEPT`] that ended.
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    /// What is known of each host beside its targets.
    pub seats: BTreeMap<HostName, hosts::Seat>,
    /// What releases say of databases, by manifest.
    pub declared: BTreeMap<Digest, Declared>,
    /// What is known of databases; the record of it lies outside the store.
    pub book: Book,
    /// What people said of releases that were changed by hand.
    pub words: BTreeMap<(TargetKey, HostName), Word>,
    /// Hosts that are asked what differs there, because somebody waits for it; never stored.
    asked: BTreeMap<HostName, Inspect>,
    /// The same of the past, the last [`past::KEPT`].
    pub past_words: BTreeMap<u64, past::PastWord>,
    /// What people closed, by a command.
    pub closures: BTreeMap<closing::Closed, closing::Closure>,
    /// Whether an application may be moved forward in an environment, overridden or not, as it was looked up last and
    /// since when; never stored.
    openings: BTreeMap<(EnvironmentName, ApplicationName, bool), (Moment, Opening)>,
    /// The versions of each application that are published and live; the signed metadata is the truth of them.
    pub published: BTreeMap<ApplicationName, BTreeSet<Version>>,
    /// How versions of an application stood in an environment.
    pub standings: BTreeMap<auto::Site, Standing>,
    /// Where that must be looked at anew.
    unlooked: BTreeSet<auto::Site>,
    /// What could not be deployed by itself; never stored.
    put_off: BTreeMap<auto::Site, auto::PutOff>,
    /// The numbers given out last.
    pub numbers: persist::Numbers,
    /// Until when nobody is given up who has not spoken since the start: see [`GRACE`].
    patient_until: Moment,
    /// Hosts that were connected when the controller stopped, and have not come back yet.
    awaited: BTreeSet<HostName>,
    /// What must be made durable.
    dirty: BTreeSet<Object>,
    /// Targets that must be decided anew.
    restless: BTreeSet<TargetKey>,
    /// Routers that must be decided anew.
    restless_routers: BTreeSet<RouterKey>,
    /// Hosts whose desired state must be made anew.
    stale: BTreeSet<HostName>,
    /// When a target must be looked at again.
    wakes: BTreeMap<TargetKey, Moment>,
    /// When routers must be looked at again.
    router_wakes: BTreeMap<RouterKey, Moment>,
    /// What happened since the last commit, for the history.
    happened: Vec<persist::HistoryEntry>,
    /// What people did since the last commit, for the audit log.
    audit: Vec<Entry>,
    /// The request that is changing something just now.
    acting: Option<Acting>,
    /// How many refusals of each caller were written down lately; never stored.
    refusals: BTreeMap<String, Refusals>,
    /// What happened to databases since the last commit, for the record.
    records: Vec<Record>,
    /// Keys that were revoked since the last commit: their connections must be closed.
    shut_out: Vec<Revocation>,
    /// Of what moment the backup was that the store came from.
    pub restored_from: Option<Moment>,
    /// Hosts whose certificate is good and that the restored store does not know.
    pub strangers: BTreeMap<HostName, restored::Stranger>,
    /// Why the mirror of what the store does not hold lacks something.
    pub mirror_trouble: Option<String>,
}

/// An environment as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The version of its signed metadata.
    pub version: u64,
    /// The file's text, as it was signed.
    pub text: String,
    /// The file.
    pub file: Environment,
}

/// How long hosts have after the controller's start to come back before their silence counts: it is the
/// controller that was away. Agents try again after at most 30 s, and soon where it was away shortly.
pub const GRACE: Span = Span::secs(45);

impl Fleet {
    /// An empty fleet of this epoch.
    pub fn new(epoch: u64, held: Option<String>) -> Self {
        Self {
            epoch,
            held,
            ..Self::default()
        }
    }

    /// Applies an event to a target, and marks what must be stored, decided and sent because of it.
    ///
    /// # Errors
    /// [`Illegal`]; nothing has changed then. A target that does not exist has no rollout.
    pub fn apply(&mut self, key: &TargetKey, event: &Event, at: Moment) -> Result<(), Illegal> {
        let target = self.targets.get_mut(key).ok_or(Illegal::NoRollout)?;
        let touched = target.apply(event, at)?;
        if touched.is_empty() {
            return Ok(());
        }
        if touched.head {
            self.dirty.insert(Object::Target(key.clone()));
            // Any stage of a rollout may change what any of its hosts should be; what is about one host does not.
            if !matches!(
                event,
                Event::Reported(..) | Event::Granted { .. } | Event::MayStage(_)
            ) {
                self.stale.extend(target.hosts.keys().cloned());
            }
        }
        for host in touched.hosts {
            self.dirty.insert(Object::Member(key.clone(), host.clone()));
            self.stale.insert(host);
        }
        self.restless.insert(key.clone());
        self.look_again(key);
        if let Some(entry) = persist::HistoryEntry::of(key, event, at) {
            self.happened.push(entry);
        }
        Ok(())
    }

    /// What people did since the last call, for the audit log.
    pub fn take_audit(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.audit)
    }

    /// Keys that were revoked since the last call: to be written down, then their connections closed.
    pub fn take_shut_out(&mut self) -> Vec<Revocation> {
        std::mem::take(&mut self.shut_out)
    }

    /// Revokes these keys for good.
    pub(crate) fn shut_out(&mut self, keys: &[Digest], whose: &Identity, why: &str, at: Moment) {
        for key in keys {
            self.registry.shut_out.insert(*key);
            self.shut_out.push(Revocation {
                key: *key,
                whose: whose.to_string(),
                why: why.to_owned(),
                at,
            });
        }
    }

    /// When something must be decided although nothing has happened.
    pub fn next_wake(&self) -> Option<Moment> {
        let patience = (!self.awaited.is_empty()).then_some(self.patient_until);
        let wakes = self.wakes.values().chain(self.router_wakes.values());
        wakes.copied().chain(patience).min()
    }

    /// What is changed from here on is changed by this request; with `None`, by nobody's.
    pub(crate) fn acts(&mut self, acting: Option<Acting>) {
        self.acting = acting;
    }

    /// Notes who did what, for the audit log; where it comes from is added by itself. The entry may be added to.
    /// Its end is cut off what is too long for that: what people say was refused before.
    pub(crate) fn note(
        &mut self,
        at: Moment,
        who: &str,
        action: &str,
        object: impl ToString,
        reason: &str,
    ) -> &mut Entry {
        let object = cut(object.to_string(), MAX_SAID);
        let mut entry = Entry::done(at, who.to_owned(), action.to_owned(), object);
        entry.reason = Some(cut(reason.to_owned(), MAX_TEXT)).filter(|reason| !reason.is_empty());
        if let Some(acting) = &self.acting {
            entry.role = acting.role();
            entry.source = acting.source;
            entry.request = Some(acting.request.clone());
        }
        let place = self.audit.len();
        self.audit.push(entry);
        &mut self.audit[place]
    }

    /// Notes that something was refused, or with `true` broken off, and why: no more than
    /// [`crate::acting::REFUSALS`] of a caller at once, for whoever is refused has not to be trusted.
    pub(crate) fn note_refused(
        &mut self,
        at: Moment,
        who: &str,
        action: &str,
        object: String,
        (why, failed): (String, bool),
    ) {
        let refusals = self.refusals.entry(who.to_owned()).or_default();
        let Some(unwritten) = refusals.take(at) else {
            return;
        };
        let why = cut(why, MAX_SAID);
        let entry = self.note(at, who, action, object, "");
        entry.unwritten = unwritten;
        entry.result = if failed {
            Outcome::Failed(why)
        } else {
            Outcome::Refused(why)
        };
    }
}

#[cfg(test)]
mod tests;
