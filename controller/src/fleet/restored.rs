//! What a controller does whose store is that of a backup: it is older than its hosts, and knows it.
//!
//! | the store may not know | so |
//! |---|---|
//! | who used a token | none of before is good |
//! | what hosts were moved to | targets are unsettled, rollouts paused ([`tamer_core::rollout::Event::Restored`]) |
//! | where routers were switched | they are told nothing until all were heard to send to one pool |
//! | keys that were renewed | a newer certificate of the same CA brings its key along |
//! | who was shut out | stands outside the store (`revocations.log`) |
//! | hosts that joined | they are shown, and not let in |
//! | what the lost controller told | a new epoch, above every one that a host speaks of |

use super::Fleet;
use super::hosts::{counts, spoken_of};
use super::persist::{HistoryEntry, Object};
use crate::identity::peer::{Caller, Identity};
use crate::identity::registry::Denied;
use crate::revocations::Revocation;
use tamer_core::desired::HostReport;
use tamer_core::id::{EnvironmentName, HostName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::Event;
use tamer_core::rollout::switching::{RouterKey, SwitchEvent};

/// How many unknown hosts are remembered.
const STRANGERS: usize = 1000;
/// More numbers than a controller gives out between two backups.
const UNTOLD: u64 = 1000;
/// How far above the clock an epoch may be that a host speaks of, in seconds: epochs are made from
/// clocks, and clocks differ; but nobody may use up the numbers.
pub(super) const AHEAD: u64 = 366 * 24 * 3600;

/// A host that shows a certificate of this controller's CA, and that its store does not know, or knows
/// with an older key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The environment that it joined.
    pub environment: EnvironmentName,
    /// Whether there is a host of that name.
    pub known: bool,
    /// When it last called.
    pub at: Moment,
}

impl Fleet {
    /// Begins with the store of a backup, once: the store notes with what follows from this that it has
    /// been done in this epoch. Does nothing with a store of this epoch.
    pub fn begin_restored(&mut self, now: Moment) {
        if self.numbers.epoch >= self.epoch {
            return;
        }
        for secret in std::mem::take(&mut self.tokens).0.into_keys() {
            self.dirty.insert(Object::Token(secret));
        }
        let keys: Vec<TargetKey> = self.targets.keys().cloned().collect();
        for key in keys {
            // Never refused.
            let _ = self.apply(&key, &Event::Restored, now);
        }
        let routers: Vec<RouterKey> = self.routers.keys().cloned().collect();
        for key in routers {
            // Never refused.
            let _ = self.apply_route(&key, &SwitchEvent::Restored, now);
        }
        // What the lost controller told people after the backup must not be told of something else.
        self.numbers.deployment += UNTOLD;
        self.numbers.rollout += UNTOLD;
        self.note_epoch("restored from a backup", now);
    }

    /// Takes in what was revoked, whatever the store says.
    pub fn keep_out(&mut self, revocations: &[Revocation], now: Moment) {
        for revocation in revocations {
            let Ok(whose) = revocation.whose.parse::<Identity>() else {
                self.registry.shut_out.insert(revocation.key);
                continue;
            };
            if !self
                .registry
                .shut_out(revocation.key, &whose, revocation.at)
            {
                continue;
            }
            tracing::warn!(who = %whose, why = revocation.why, "the store is older than its revocation: it stays out, and joins again only by a new invitation");
            self.dirty.insert(Object::from(&whose));
            if let Identity::Host { name, .. } = &whose {
                self.place_host(name, now);
            }
        }
    }

    /// Takes in a key that was renewed after the backup.
    pub fn catch_up(&mut self, caller: &Caller) {
        let (Some(backup), Some(peer)) = (self.restored_from, caller.peer()) else {
            return;
        };
        if self.registry.catch_up(peer, backup) {
            tracing::info!(who = %peer.identity, "it has a newer key than the restored store knew of");
            self.dirty.insert(Object::from(&peer.identity));
        }
    }

    /// Remembers a host that the restored store does not know, to be shown.
    pub(super) fn note_stranger(&mut self, caller: &Caller, denied: &Denied, now: Moment) {
        let Some(Identity::Host {
            environment, name, ..
        }) = caller.peer().map(|peer| &peer.identity)
        else {
            return;
        };
        let known = match denied {
            Denied::Unknown(_) => false,
            Denied::OldKey(_) => true,
            _ => return,
        };
        let room = self.strangers.len() < STRANGERS || self.strangers.contains_key(name);
        if self.restored_from.is_none() || !room {
            return;
        }
        let stranger = Stranger {
            environment: environment.clone(),
            known,
            at: now,
        };
        if self.strangers.insert(name.clone(), stranger).is_none() {
            tracing::warn!(host = %name, "it joined after the backup that the store came from, and is not let in: `tamer hosts` says what to do");
        }
    }

    /// While nothing has been sent in this epoch, it may still rise: above every epoch that a host speaks
    /// of, for those of the lost controller, or of an earlier restore, may be higher than the mirror knew.
    pub(super) fn raise_epoch(&mut self, name: &HostName, report: &HostReport, now: Moment) {
        let spoken = spoken_of(report).filter(counts).map(|g| g.epoch).max();
        let spoken = spoken.unwrap_or_default();
        let most = self.epoch.max(now.0 / 1000).saturating_add(AHEAD);
        if self.held.is_none() || spoken < self.epoch || spoken > most {
            return;
        }
        self.epoch = spoken + 1;
        tracing::warn!(host = %name, spoken, epoch = self.epoch, "a host has heard of an epoch that is not below ours: ours rises");
        self.note_epoch("restored from a backup", now);
    }

    /// Makes the epoch durable, and says why it is what it is.
    pub(super) fn note_epoch(&mut self, why: &str, now: Moment) {
        self.numbers.epoch = self.epoch;
        // Makes the numbers durable as well.
        self.happened.push(HistoryEntry {
            at: now,
            target: "controller".to_owned(),
            what: format!("{why}; its epoch is {} now", self.epoch),
        });
    }

    /// Somebody decides what comes next in these targets: see [`Event::Adopted`].
    pub(super) fn adopt<'a>(&mut self, keys: impl Iterator<Item = &'a TargetKey>, now: Moment) {
        for key in keys {
            // Never refused.
            let _ = self.apply(key, &Event::Adopted, now);
        }
    }
}

#[cfg(test)]
mod tests;
