//! A turn of the driver: what follows from the changes before it, what must be durable because of that, and what may
//! be said once it is. No I/O: whoever takes the turn writes `batches` and the logs, then sends, closes and answers.

use super::Fleet;
use crate::audit::Entry;
use crate::revocations::Revocation;
use crate::store::{BadEntry, Batch};
use tamer_core::desired::Desired;
use tamer_core::id::HostName;
use tamer_core::moment::Moment;
use tamer_core::schema::Record;

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// Keys that were revoked: written down first, and their connections closed at the end.
    pub shut_out: Vec<Revocation>,
    /// What happened to databases: written down before the order is sent that it speaks of, and before the
    /// deployment knows of it.
    pub records: Vec<Record>,
    /// What people did, for the audit log.
    pub audit: Vec<Entry>,
    /// The epoch, which lies outside the store: written down where it has risen.
    pub epoch: u64,
    /// What has changed, for the store; empty where nothing has.
    pub batches: Vec<Batch>,
    /// What hosts are told, once all of the above is durable.
    pub messages: Vec<(HostName, Desired)>,
}

impl Fleet {
    /// Lets follow what follows now, and gives what must be made durable and sent. While the controller is held,
    /// nobody is told anything.
    ///
    /// # Errors
    /// An object is larger than the store takes; the fleet is then ahead of the store, and the controller must stop.
    pub fn turn(&mut self, now: Moment) -> Result<Turn, BadEntry> {
        self.advance(now);
        let messages = match self.held {
            Some(_) => Vec::new(),
            None => self.dispatch(),
        };
        Ok(Turn {
            messages,
            shut_out: self.take_shut_out(),
            records: self.take_records(),
            audit: self.take_audit(),
            epoch: self.epoch,
            batches: match self.is_dirty() {
                true => self.drain()?,
                false => Vec::new(),
            },
        })
    }
}
