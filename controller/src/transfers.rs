//! What hosts fetch now, and how far they have come. It is kept in memory alone and beside the fleet: nothing is
//! decided by it, nothing of it is stored, and the driver hears of none of it.

use crate::fleet::hosts::{SessionId, is_of};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tamer_core::desired::{Slot, Transfer};
use tamer_core::digest::Digest;
use tamer_core::id::{HostName, TargetKey};
use tamer_proto::v1;
use tokio::sync::watch;

/// What each host fetches, and the session over which it said so.
type ByHost = BTreeMap<HostName, (SessionId, Vec<(Slot, Transfer)>)>;

/// What connected hosts fetch.
#[derive(Debug, Default)]
pub struct Transfers {
    by_host: Mutex<ByHost>,
    changed: watch::Sender<()>,
}

impl Transfers {
    /// A host has said over this session what it fetches, all of it. What comes over an older session than the newest is
    /// not believed.
    pub fn heard(&self, host: &HostName, session: SessionId, fetched: Vec<(Slot, Transfer)>) {
        let mut by_host = self.lock();
        let known = by_host.get(host);
        if known.is_some_and(|(current, _)| *current > session) {
            return;
        }
        if fetched.is_empty() {
            if by_host.remove(host).is_none() {
                return;
            }
        } else {
            by_host.insert(host.clone(), (session, fetched));
        }
        drop(by_host);
        self.changed.send_replace(());
    }

    /// A session has ended: what was fetched then, nobody knows.
    pub fn ended(&self, host: &HostName, session: SessionId) {
        self.heard(host, session, Vec::new());
    }

    /// Told whenever any of it has changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The hosts that fetch this release for a target's component, and how far they have come.
    pub fn of(
        &self,
        key: &TargetKey,
        release: &Digest,
        is_there: impl Fn(&HostName) -> bool,
    ) -> BTreeMap<HostName, Transfer> {
        let by_host = self.lock();
        let there = by_host.iter().filter(|(host, _)| is_there(host));
        let fetch = there.filter_map(|(host, (_, fetched))| {
            let mut fetched = fetched.iter();
            let ours =
                fetched.find(|(slot, transfer)| is_of(slot, key) && transfer.release == *release);
            ours.map(|(_, transfer)| (host.clone(), *transfer))
        });
        fetch.collect()
    }

    fn lock(&self) -> MutexGuard<'_, ByHost> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What they fetch all together; `None`: nothing.
pub fn sum(transfers: &BTreeMap<HostName, Transfer>) -> Option<v1::TransferSum> {
    let add = |mut sum: v1::TransferSum, it: &Transfer| {
        sum.hosts += 1;
        sum.rate = sum.rate.saturating_add(it.rate);
        sum.left = sum.left.saturating_add(it.total - it.done);
        sum
    };
    let sum = transfers.values().fold(v1::TransferSum::default(), add);
    (sum.hosts > 0).then_some(sum)
}

/// How far one host has come.
pub fn row(transfer: &Transfer) -> v1::TransferRow {
    v1::TransferRow {
        done: transfer.done,
        total: transfer.total,
        rate: transfer.rate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::id::PoolName;

    fn key() -> TargetKey {
        TargetKey {
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: PoolName::default(),
        }
    }

    fn fetched(component: &str, release: u8, done: u64) -> (Slot, Transfer) {
        let slot = Slot {
            application: "shop".parse().unwrap(),
            component: component.parse().unwrap(),
            pool: PoolName::default(),
        };
        let transfer = Transfer {
            release: Digest::new([release; 32]),
            done,
            total: 100,
            rate: 7,
        };
        (slot, transfer)
    }

    #[test]
    fn a_rollout_is_told_of_its_own_release_on_its_own_hosts() {
        let transfers = Transfers::default();
        let names = ["web-1", "web-2", "web-3", "web-4", "other"];
        let hosts: Vec<HostName> = names.map(|it| it.parse().unwrap()).into();
        let said = [
            fetched("web", 1, 10),
            fetched("web", 1, 30),
            fetched("web", 2, 50),
            fetched("worker", 1, 50),
            fetched("web", 1, 50),
        ];
        for (host, fetched) in hosts.iter().zip(said) {
            transfers.heard(host, SessionId(1), vec![fetched]);
        }
        let there = |host: &HostName| host.as_str().starts_with("web");
        let ours = transfers.of(&key(), &Digest::new([1; 32]), there);
        assert_eq!(ours.keys().collect::<Vec<_>>(), [&hosts[0], &hosts[1]]);
        let all = v1::TransferSum {
            hosts: 2,
            rate: 14,
            left: 160,
        };
        assert_eq!(sum(&ours), Some(all));
        assert_eq!(sum(&BTreeMap::new()), None);
    }

    #[test]
    fn what_an_older_line_says_late_is_not_believed_and_a_line_that_is_lost_fetches_nothing() {
        let transfers = Transfers::default();
        let host: HostName = "web-1".parse().unwrap();
        let done = || {
            let known = transfers.of(&key(), &Digest::new([1; 32]), |_| true);
            known.get(&host).map(|it| it.done)
        };
        let mut changes = transfers.changes();
        transfers.ended(&host, SessionId(1));
        assert!(!changes.has_changed().unwrap(), "it said nothing before");
        transfers.heard(&host, SessionId(2), vec![fetched("web", 1, 20)]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        transfers.heard(&host, SessionId(1), vec![fetched("web", 1, 10)]);
        transfers.ended(&host, SessionId(1));
        assert_eq!(done(), Some(20));
        assert!(!changes.has_changed().unwrap());
        transfers.ended(&host, SessionId(2));
        assert_eq!(done(), None);
    }
}
