//! Hosts that have heard of generations above all that this controller has told: another controller spoke to them, with
//! the keys of this one. They take in nothing older, and here nobody believes what they say, until a person takes
//! them back.

use super::Fleet;
use super::deploy::By;
use super::restored::AHEAD;
use tamer_core::generation::Generation;
use tamer_core::id::HostName;
use tamer_core::moment::Moment;

/// Why a host is not taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTakenBack {
    /// There is no need.
    #[error(
        "{0} has heard of no generation above this controller's: there is nothing to take back"
    )]
    WithinReach(HostName),
    /// No agent takes in such a number, so the host lies; and numbers must not be used up.
    #[error(
        "{name} says that it has heard of generation {beyond}, which no agent takes in: make it new (tamer host invite \
         --replace {name}; there, with its state removed, tamer-agent enroll)"
    )]
    Absurd {
        /// The host.
        name: HostName,
        /// What it speaks of.
        beyond: Generation,
    },
}

impl Fleet {
    /// Raises the epoch above what a host has heard, so that what this controller says is newer, and believes the host
    /// again when it next greets. Gives the epoch. Everything else stays as it is.
    ///
    /// # Errors
    /// [`NotTakenBack`].
    pub fn take_back(
        &mut self,
        name: &HostName,
        by: &By,
        now: Moment,
    ) -> Result<u64, NotTakenBack> {
        let seat = self.seats.get_mut(name);
        let Some((seat, beyond)) = seat.and_then(|it| it.beyond.map(|beyond| (it, beyond))) else {
            return Err(NotTakenBack::WithinReach(name.clone()));
        };
        if beyond.epoch > self.epoch.max(now.0 / 1000).saturating_add(AHEAD) {
            let name = name.clone();
            return Err(NotTakenBack::Absurd { name, beyond });
        }
        seat.beyond = None;
        // Another host may have been taken back from the same before.
        if beyond.epoch >= self.epoch {
            self.epoch = beyond.epoch + 1;
            self.note_epoch(&format!("{name} was taken back from {beyond}"), now);
        }
        let object = format!("{name} from {beyond}, epoch {}", self.epoch);
        self.note(now, &by.who, "host.take-back", object, &by.reason);
        Ok(self.epoch)
    }
}
