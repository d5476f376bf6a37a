//! The agents that are connected: where to put what they should be. The newest state wins; what an
//! agent has not read yet is replaced, never queued.

use crate::fleet::hosts::SessionId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tamer_core::desired::Desired;
use tamer_core::id::HostName;
use tokio::sync::watch;

/// The agents that are connected.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    by_host: HashMap<HostName, (SessionId, watch::Sender<Option<Desired>>)>,
}

impl Sessions {
    /// Opens a session; one that the host had before ends, for its receiver says that it is closed.
    pub fn open(&self, host: &HostName) -> (SessionId, watch::Receiver<Option<Desired>>) {
        let mut open = self.lock();
        open.last += 1;
        let id = SessionId(open.last);
        let (sender, receiver) = watch::channel(None);
        open.by_host.insert(host.clone(), (id, sender));
        (id, receiver)
    }

    /// Ends a session, unless it has been replaced.
    pub fn close(&self, host: &HostName, id: SessionId) {
        let mut open = self.lock();
        if open
            .by_host
            .get(host)
            .is_some_and(|(current, _)| *current == id)
        {
            open.by_host.remove(host);
        }
    }

    /// Ends all sessions: the controller is stopping, and agents look for it again.
    pub fn close_all(&self) {
        self.lock().by_host.clear();
    }

    /// Puts a state before a host's agent, if it is connected and has none that is newer.
    pub fn send(&self, host: &HostName, desired: Desired) {
        if let Some((_, sender)) = self.lock().by_host.get(host) {
            sender.send_if_modified(|waiting| {
                let newer = waiting
                    .as_ref()
                    .is_none_or(|waiting| waiting.generation < desired.generation);
                if newer {
                    *waiting = Some(desired);
                }
                newer
            });
        }
    }

    /// How many agents are connected.
    pub fn count(&self) -> usize {
        self.lock().by_host.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
