//! What becomes of releases that were changed by hand: a person's word for one drift of one host. Another
//! change is another drift, of which nobody has spoken.

use super::Fleet;
use super::deploy::{By, Refused};
use super::hosts::is_of;
use super::observation::short;
use super::persist::Object;
use tamer_core::desired::ComponentReport;
use tamer_core::digest::Digest;
use tamer_core::drift::{Drift, Inspect, Way, Word};
use tamer_core::id::{HostName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::Target;

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
        if way == Way::Adopt && drift.is_of_current() {
            return Err(Refused::Drift(format!(
                "`current` of {}/{} on {name} was put there by hand, and no release can run beside it: `tamer drift --host {name} --repair` leads it back, and keeps what is there as `current.by-hand`",
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
        let drift = drift.clone();
        self.note(now, &by.who, action, object, &by.reason);
        self.note_word(key, name, &word, &drift);
        self.words.insert((key.clone(), name.clone()), word);
        self.word_changed(key, name);
        Ok(())
    }

    /// Somebody wants to know what differs on these hosts. Who asked before is answered by the same look, so
    /// that is as close as the closest that was asked for.
    pub fn ask_what_differs(&mut self, hosts: &[HostName], inspect: Inspect) {
        for name in hosts {
            let asked = self.asked.entry(name.clone()).or_insert(inspect);
            asked.id = asked.id.max(inspect.id);
            asked.full |= inspect.full;
            self.stale.insert(name.clone());
        }
    }

    /// These hosts have answered the wishes with these numbers, or nobody waits for it any more.
    pub fn ask_no_more(&mut self, hosts: &[(HostName, u64)]) {
        for (name, id) in hosts {
            if self.asked.get(name).is_some_and(|asked| asked.id <= *id) {
                self.asked.remove(name);
                self.stale.insert(name.clone());
            }
        }
    }

    /// The hosts on which something of a target was changed by hand, and nobody has accepted it.
    pub fn drifted<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a HostName> {
        let key = &target.key;
        target.hosts.keys().filter(move |name| {
            let drift = self.heard(name, key).and_then(|said| said.drift.as_ref());
            let word = |drift| self.word(name, key, drift);
            drift.is_some_and(|it| word(it).is_none_or(|word| word.way != Way::Adopt))
        })
    }

    /// What was said of the drift that a host has now.
    pub fn word(&self, name: &HostName, key: &TargetKey, drift: &Drift) -> Option<&Word> {
        let word = self.words.get(&(key.clone(), name.clone()))?;
        (word.digest == drift.digest).then_some(word)
    }

    /// After a report: a word is over with the drift that it was about, and a repair with its failure.
    pub(super) fn settle_words(&mut self, name: &HostName, key: &TargetKey, now: Moment) {
        let Some(word) = self.words.get(&(key.clone(), name.clone())) else {
            return;
        };
        let Some(said) = self.heard(name, key) else {
            return;
        };
        if let Some(became) = is_over(word, said) {
            self.end_word(key, name, &became, now);
            self.words.remove(&(key.clone(), name.clone()));
            self.word_changed(key, name);
        }
    }

    /// The host is gone, or another machine: what was said of the old one is void.
    pub(super) fn forget_words(&mut self, name: &HostName, now: Moment) {
        let about: Vec<_> = self
            .words
            .keys()
            .filter(|(_, host)| host == name)
            .cloned()
            .collect();
        for (key, host) in about {
            self.end_word(&key, &host, "the host has gone, or is another machine", now);
            self.words.remove(&(key.clone(), host.clone()));
            self.word_changed(&key, &host);
        }
    }

    pub(super) fn heard(&self, name: &HostName, key: &TargetKey) -> Option<&ComponentReport> {
        let components = &self.seats.get(name)?.components;
        components.iter().find(|said| is_of(&said.slot, key))
    }

    fn word_changed(&mut self, key: &TargetKey, name: &HostName) {
        self.dirty.insert(Object::Word(key.clone(), name.clone()));
        self.stale.insert(name.clone());
    }
}

/// What came of it, once it is over.
fn is_over(word: &Word, said: &ComponentReport) -> Option<String> {
    let failed = said.repair.as_ref().filter(|it| it.drift == word.digest);
    match (word.way, &said.drift) {
        // Before the host has looked, nothing is known.
        (_, None) if !said.compared => None,
        (Way::Adopt, None) => Some("nothing differs any more".to_owned()),
        // It may be changed once more, and back.
        (Way::Adopt, Some(_)) => None,
        (Way::Repair, None) => Some("put back".to_owned()),
        (Way::Repair, Some(drift)) if drift.digest != word.digest => {
            Some("changed once more".to_owned())
        }
        (Way::Repair, Some(_)) => {
            failed.map(|it| format!("not put back: {}", short(&it.failure).message))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fleet::past;
    use tamer_core::check::Results;
    use tamer_core::desired::{Failure, FailureKind, RepairReport, Slot};
    use tamer_core::drift::{CURRENT, Change, Difference};
    use tamer_core::policy::Policy;
    use tamer_core::rollout::Host;

    fn drift(n: u8) -> Drift {
        Drift {
            digest: Digest::new([n; 32]),
            total: 1,
            differences: Vec::new(),
        }
    }

    fn said(drift: Option<u8>, compared: bool, failed: bool) -> ComponentReport {
        let drift = drift.map(self::drift);
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

    fn key() -> TargetKey {
        TargetKey {
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        }
    }

    /// `web-1` of production, where something was changed by hand.
    pub(crate) fn drifting() -> (Fleet, TargetKey, HostName) {
        let mut fleet = Fleet::new(1, None);
        let key = key();
        let web: HostName = "web-1".parse().unwrap();
        let mut target = Target::new(key.clone(), Policy::default());
        target.hosts.insert(web.clone(), Host::new(Moment(0)));
        fleet.targets.insert(key.clone(), target);
        let seat = fleet.seats.entry(web.clone()).or_default();
        seat.components = vec![said(Some(1), true, false)];
        (fleet, key, web)
    }

    #[test]
    fn what_was_said_and_what_came_of_it_stays_in_the_history() {
        let (mut fleet, key, web) = drifting();
        let by = By {
            who: "anna".to_owned(),
            reason: "a hot fix".to_owned(),
        };
        let digest = Digest::new([1; 32]);
        for (way, at) in [(Way::Adopt, 5), (Way::Repair, 6)] {
            let settled = fleet.settle_drift(&web, &key, &digest, way, &by, Moment(at));
            settled.unwrap();
        }
        let seat = fleet.seats.get_mut(&web).unwrap();
        seat.components = vec![said(None, true, false)];
        fleet.settle_words(&web, &key, Moment(7));
        let past: Vec<_> = fleet
            .past_words
            .values()
            .map(|it| (it.word.way, it.ended.clone()))
            .collect();
        let ended = |at, became: &str| Some((Moment(at), became.to_owned()));
        assert_eq!(
            past,
            [
                (Way::Adopt, ended(6, "something else was said of it")),
                (Way::Repair, ended(7, "put back"))
            ]
        );
        let (word, drift) = (fleet.past_words[&2].word.clone(), drift(1));
        for _ in 0..past::KEPT {
            fleet.note_word(&key, &web, &word, &drift);
        }
        assert_eq!(fleet.past_words.len(), past::KEPT);
        assert_eq!(fleet.past_words.keys().next(), Some(&3));
    }

    #[test]
    fn a_current_that_was_put_there_by_hand_is_led_back_and_not_adopted() {
        let (mut fleet, key, web) = drifting();
        let by = By {
            who: "anna".to_owned(),
            reason: "a hot fix".to_owned(),
        };
        let seat = fleet.seats.get_mut(&web).unwrap();
        let drift = seat.components[0].drift.as_mut().unwrap();
        drift.differences = vec![Difference {
            path: CURRENT.to_owned(),
            change: Change::Target,
        }];
        let digest = drift.digest;
        let adopted = fleet.settle_drift(&web, &key, &digest, Way::Adopt, &by, Moment(5));
        let said = adopted.unwrap_err().to_string();
        assert!(said.contains("tamer drift --host web-1 --repair"), "{said}");
        let repaired = fleet.settle_drift(&web, &key, &digest, Way::Repair, &by, Moment(6));
        repaired.unwrap();
    }

    #[test]
    fn what_was_said_of_a_machine_goes_with_it() {
        let mut fleet = Fleet::new(1, None);
        let key = key();
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
        fleet.forget_words(&hosts[0], Moment(1));
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
            assert_eq!(
                is_over(&word(way), &said).is_some(),
                over,
                "{way:?} {said:?}"
            );
        }
    }
}
