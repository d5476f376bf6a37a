//! Generations: which of two statements about a host is the newer one.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `(epoch, counter)`. The epoch rises when a controller is restored from a backup, so that
/// every statement of the restored controller is newer than all that the lost one made.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Generation {
    /// Rises with every restore of the controller; recorded outside its database.
    pub epoch: u64,
    /// Rises with every change within an epoch.
    pub counter: u64,
}

impl Generation {
    /// The first generation after this one in `epoch`, which is never below this one's.
    pub fn next(self, epoch: u64) -> Self {
        if epoch > self.epoch {
            Self { epoch, counter: 1 }
        } else {
            Self {
                epoch: self.epoch,
                counter: self.counter.saturating_add(1),
            }
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}
