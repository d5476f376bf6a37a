//! Who waits to hear what differs on which hosts. Answers are passed on and kept by nobody: each may name
//! thousands of paths.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tamer_core::desired::Inspection;
use tamer_core::id::HostName;
use tokio::sync::mpsc;

/// Who waits for what.
#[derive(Debug, Default)]
pub struct Inspections(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The wish that was made last.
    last: u64,
    by_ticket: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// The hosts that have not answered, each with the wish that was made of it.
    hosts: BTreeMap<HostName, u64>,
    tell: mpsc::UnboundedSender<(HostName, Inspection)>,
}

/// Somebody who waits.
#[derive(Debug)]
pub struct Ticket {
    id: u64,
    /// What hosts answer, in the order in which they do.
    pub answers: mpsc::UnboundedReceiver<(HostName, Inspection)>,
}

impl Inspections {
    /// Somebody begins to wait. Numbers are not lower than `now`, in milliseconds: after a restart no old
    /// answer is taken for a new one.
    pub fn open(&self, now: u64) -> Ticket {
        let mut waiting = self.lock();
        waiting.last = now.max(waiting.last + 1);
        let id = waiting.last;
        let (tell, answers) = mpsc::unbounded_channel();
        let hosts = BTreeMap::new();
        waiting.by_ticket.insert(id, Waiter { hosts, tell });
        Ticket { id, answers }
    }

    /// From here on answers of these hosts are waited for. Gives the number of the wish.
    pub fn wait_for(&self, ticket: &Ticket, hosts: &[HostName]) -> u64 {
        let mut waiting = self.lock();
        waiting.last += 1;
        let wish = waiting.last;
        if let Some(waiter) = waiting.by_ticket.get_mut(&ticket.id) {
            let hosts = hosts.iter().map(|host| (host.clone(), wish));
            waiter.hosts.extend(hosts);
        }
        wish
    }

    /// A host has answered: whoever asked it this or something earlier is told.
    pub fn answer(&self, host: &HostName, inspection: &Inspection) {
        for waiter in self.lock().by_ticket.values_mut() {
            if waiter
                .hosts
                .get(host)
                .is_some_and(|wish| *wish <= inspection.id)
            {
                waiter.hosts.remove(host);
                // Who has gone needs no answer.
                let _ = waiter.tell.send((host.clone(), inspection.clone()));
            }
        }
    }

    /// Somebody waits no longer. Gives the hosts that nobody waits for any more, with the wish that each was told.
    pub fn close(&self, ticket: &Ticket) -> Vec<(HostName, u64)> {
        let mut waiting = self.lock();
        let Some(waiter) = waiting.by_ticket.remove(&ticket.id) else {
            return Vec::new();
        };
        let others = |host: &HostName| {
            let mut others = waiting.by_ticket.values();
            others.any(|other| other.hosts.contains_key(host))
        };
        let left = waiter.hosts.into_iter();
        left.filter(|(host, _)| !others(host)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspection(id: u64) -> Inspection {
        Inspection {
            id,
            components: Vec::new(),
        }
    }

    #[test]
    fn an_answer_is_for_whoever_asked_it_or_something_earlier() {
        let inspections = Inspections::default();
        let (a, b): (HostName, HostName) = ("web-1".parse().unwrap(), "web-2".parse().unwrap());
        let mut first = inspections.open(1_000);
        let mut second = inspections.open(5);
        let hosts = [a.clone(), b.clone()];
        let wish = inspections.wait_for(&first, &hosts);
        let later = inspections.wait_for(&second, &hosts[..1]);
        assert!(1_000 < wish && wish < later);
        inspections.answer(&a, &inspection(wish));
        assert_eq!(first.answers.try_recv().unwrap().0, a);
        assert!(second.answers.try_recv().is_err(), "it was asked later");
        inspections.answer(&a, &inspection(later));
        assert_eq!(second.answers.try_recv().unwrap().1.id, later);
        assert!(first.answers.try_recv().is_err(), "it has its answer");
        // Somebody else still waits for one of them.
        inspections.wait_for(&second, &hosts[1..]);
        assert_eq!(inspections.close(&first), []);
        let left = inspections.close(&second);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].0, b);
    }
}
