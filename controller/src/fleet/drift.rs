//! What becomes of releases that were changed by hand: a person's word for one drift of one host. Another
//! change is another drift, of which nobody has spoken.

use super::Fleet;
use super::deploy::{By, Refused};
use super::hosts::is_of;
use super::persist::Object;
use tamer_core::desired::ComponentReport;
use tamer_core::digest::Digest;
use tamer_core::drift::{Drift, Way, Word};
use tamer_core::id::{HostName, TargetKey};
use tamer_core::moment::Moment;

impl Fleet {
    /// Somebody has seen a drift, and says what becomes of it.
    ///
    /// # Errors
    /// [`Refused`], also if it is another drift by now; nothing has changed then.
    pub fn settle_drift(
        &mut self,
        name: &HostName,
        key: &TargetKey,
        asked: &Digest,
        way: Way,
        by: &By,
        now: Moment,
    ) -> Result<(), Refused> {
        let said = self.heard(name, key).and_then(|said| said.drift.as_ref());
        let Some(drift) = said else {
            return Err(Refused::NoDeployment(format!(
                "nothing of {}/{} is known to be changed on {name}: `tamer drift --host {name}` shows what is",
                key.application, key.component
            )));
        };
        if drift.digest != *asked {
            return Err(Refused::Drift(format!(
                "{}/{} was changed once more on {name}: `tamer drift --host {name}` shows what it is now",
                key.application, key.component
            )));
        }
        let word = Word {
            way,
            digest: *asked,
            total: drift.total,
            by: by.who.clone(),
            reason: by.reason.clone(),
            at: now,
        };
        let object = format!("{name} {}/{}: {drift}", key.application, key.component);
        let action = match way {
            Way::Adopt => "drift.adopt",
            Way::Repair => "drift.repair",
        };
        self.note(now, &by.who, action, object, &by.reason);
        self.words.insert((key.clone(), name.clone()), word);
        self.word_changed(key, name);
        Ok(())
    }

    /// What was said of the drift that a host has now.
    pub fn word(&self, name: &HostName, key: &TargetKey, drift: &Drift) -> Option<&Word> {
        let word = self.words.get(&(key.clone(), name.clone()))?;
        (word.digest == drift.digest).then_some(word)
    }

    /// After a report: a word is over with the drift that it was about, and a repair with its failure.
    pub(super) fn settle_words(&mut self, name: &HostName, key: &TargetKey) {
        let Some(word) = self.words.get(&(key.clone(), name.clone())) else {
            return;
        };
        let Some(said) = self.heard(name, key) else {
            return;
        };
        if is_over(word, said) {
            self.words.remove(&(key.clone(), name.clone()));
            self.word_changed(key, name);
        }
    }

    /// The host is gone, or another machine: what was said of the old one is void.
    pub(super) fn forget_words(&mut self, name: &HostName) {
        let about: Vec<_> = self
            .words
            .keys()
            .filter(|(_, host)| host == name)
            .cloned()
            .collect();
        for (key, host) in about {
            self.words.remove(&(key.clone(), host.clone()));
            self.word_changed(&key, &host);
        }
    }

    fn heard(&self, name: &HostName, key: &TargetKey) -> Option<&ComponentReport> {
        let components = &self.seats.get(name)?.components;
        components.iter().find(|said| is_of(&said.slot, key))
    }

    fn word_changed(&mut self, key: &TargetKey, name: &HostName) {
        self.dirty.insert(Object::Word(key.clone(), name.clone()));
        self.stale.insert(name.clone());
    }
}

fn is_over(word: &Word, said: &ComponentReport) -> bool {
    let failed = said
        .repair
        .as_ref()
        .is_some_and(|it| it.drift == word.digest);
    match (word.way, &said.drift) {
        // Before the host has looked, nothing is known.
        (_, None) => said.compared,
        // It may be changed once more, and back.
        (Way::Adopt, Some(_)) => false,
        (Way::Repair, Some(drift)) => failed || drift.digest != word.digest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::check::Results;
    use tamer_core::desired::{Failure, FailureKind, RepairReport, Slot};

    fn said(drift: Option<u8>, compared: bool, failed: bool) -> ComponentReport {
        let drift = drift.map(|n| Drift {
            digest: Digest::new([n; 32]),
            total: 1,
            differences: Vec::new(),
        });
        ComponentReport {
            slot: Slot {
                application: "shop".parse().unwrap(),
                component: "web".parse().unwrap(),
                pool: Default::default(),
            },
            running: None,
            staged: Vec::new(),
            staging_failure: None,
            activation: None,
            checks: Results::new(),
            hold: None,
            drift,
            compared,
            repair: failed.then(|| RepairReport {
                drift: Digest::new([1; 32]),
                failure: Failure::seen(FailureKind::Fetch, "no network".to_owned()),
            }),
            migration: None,
        }
    }

    #[test]
    fn what_was_said_of_a_machine_goes_with_it() {
        let mut fleet = Fleet::new(1, None);
        let key = TargetKey {
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        };
        let word = Word {
            way: Way::Adopt,
            digest: Digest::new([1; 32]),
            total: 1,
            by: "anna".to_owned(),
            reason: "a fix".to_owned(),
            at: Moment(0),
        };
        let hosts: [HostName; 2] = ["web-1", "web-2"].map(|name| name.parse().unwrap());
        for host in &hosts {
            fleet
                .words
                .insert((key.clone(), host.clone()), word.clone());
        }
        fleet.forget_words(&hosts[0]);
        let left: Vec<_> = fleet.words.keys().map(|(_, host)| host).collect();
        assert_eq!(left, [&hosts[1]]);
        assert!(fleet.is_dirty(), "the store is told");
    }

    #[test]
    fn a_word_lasts_as_long_as_what_it_is_about() {
        let word = |way| Word {
            way,
            digest: Digest::new([1; 32]),
            total: 1,
            by: "anna".to_owned(),
            reason: String::new(),
            at: Moment(0),
        };
        for (way, drift, compared, failed, over) in [
            (Way::Adopt, Some(1), true, false, false),
            (Way::Adopt, Some(2), true, false, false),
            (Way::Adopt, None, false, false, false),
            (Way::Adopt, None, true, false, true),
            (Way::Repair, Some(1), true, false, false),
            (Way::Repair, Some(1), true, true, true),
            (Way::Repair, Some(2), true, false, true),
            (Way::Repair, None, false, false, false),
            (Way::Repair, None, true, false, true),
        ] {
            let said = said(drift, compared, failed);
            assert_eq!(is_over(&word(way), &said), over, "{way:?} {said:?}");
        }
    }
}
