//! Holds what happens against the promises, with books of its own: what hosts really do, not what the controller
//! thinks of them. A broken promise is a panic that says which one.

use crate::counts::Counts;
use crate::host::{Host, Note};
use crate::scenario::Scenario;
use std::collections::{BTreeMap, BTreeSet};
use tamer_controller::fleet::Fleet;
use tamer_core::desired::{ActivationStatus, Purpose, Slot};
use tamer_core::generation::Generation;
use tamer_core::id::{HostName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::policy::Policy;
use tamer_core::rollout::{Outcome, PartStatus, RolloutId, Stage, Target};

/// The books.
pub struct Witness {
    policy: Policy,
    hosts: u32,
    /// Grants that were begun, and where: each is begun once.
    begun: BTreeSet<(HostName, Slot, Generation)>,
    /// What a host ran when its switch was begun.
    before: BTreeMap<(HostName, Slot), Option<tamer_core::release::ReleaseRef>>,
    /// Rollouts whose end was seen.
    ended: BTreeSet<RolloutId>,
    /// Releases that rollouts found bad, as far as that is durable.
    bad: BTreeMap<TargetKey, BTreeSet<tamer_core::digest::Digest>>,
}

impl Witness {
    /// Empty books.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            policy: scenario.file.policy.clone(),
            hosts: scenario.hosts as u32,
            begun: BTreeSet::new(),
            before: BTreeMap::new(),
            ended: BTreeSet::new(),
            bad: BTreeMap::new(),
        }
    }

    /// Something happened to a switch on the host `at`.
    pub fn noted(&mut self, note: &Note, hosts: &[Host], at: usize, slot: &Slot) {
        let host = &hosts[at];
        match note {
            Note::Begun(go) => {
                if let Some(grant) = go.grant {
                    let new = self.begun.insert((host.name.clone(), slot.clone(), grant));
                    assert!(new, "{}: grant {grant} was begun twice", host.name);
                }
                let changing = hosts.iter().filter(|host| host.changes(slot)).count() as u32;
                // Independent of how the engine counts: a share of all hosts, at least one.
                let most = match self.policy.max_parallel {
                    tamer_core::policy::Quantity::Hosts(most) => most,
                    tamer_core::policy::Quantity::Percent(share) => {
                        self.hosts * u32::from(share) / 100
                    }
                };
                assert!(
                    changing <= most.max(1),
                    "{changing} hosts of {slot} are being changed at once, {most} may be"
                );
                if go.purpose == Purpose::Back
                    && let Some(to) = &go.to
                {
                    let bad = |(key, bad): (&TargetKey, &BTreeSet<_>)| {
                        key.component == slot.component && bad.contains(&to.manifest)
                    };
                    assert!(
                        !self.bad.iter().any(bad),
                        "{}: back to {to}, which was found bad",
                        host.name
                    );
                }
                let key = (host.name.clone(), slot.clone());
                self.before.insert(key, go.from.clone());
            }
            Note::Ended(go, status) => {
                let current = host.disk.current.get(slot);
                let name = &host.name;
                match status {
                    ActivationStatus::Done => {
                        assert_eq!(current, go.to.as_ref(), "{name}: done, and it is not there");
                    }
                    ActivationStatus::Undone(_) | ActivationStatus::Refused(_) => {
                        assert_eq!(current, go.from.as_ref(), "{name}: {status}");
                    }
                    ActivationStatus::Stuck(_)
                    | ActivationStatus::Working(_)
                    | ActivationStatus::Expired => {}
                }
            }
        }
    }

    /// The controller has committed, and what it knows is durable. Gives the rollouts that have ended, for the trace.
    pub fn committed(&mut self, fleet: &Fleet, hosts: &[Host], counts: &mut Counts) -> Vec<String> {
        let mut ended = Vec::new();
        for target in fleet.targets.values() {
            if let Some(release) = &target.release {
                assert!(
                    !target.bad.contains(&release.manifest),
                    "{}: {release} is wanted and was found bad",
                    target.key
                );
            }
            self.bad.insert(target.key.clone(), target.bad.clone());
            let Some(rollout) = &target.rollout else {
                continue;
            };
            let Stage::Ended { outcome, .. } = &rollout.stage else {
                continue;
            };
            if !self.ended.insert(rollout.id) {
                continue;
            }
            counts.rollout(match outcome {
                Outcome::Succeeded if rollout.purpose == Purpose::Back => "went back",
                Outcome::Succeeded => "succeeded",
                Outcome::RolledBack(_) => "rolled back",
                Outcome::NotRolledBack(_) => "not wholly rolled back",
                Outcome::Aborted { .. } => "aborted",
            });
            honest(target, outcome, hosts);
            let name = target.key.component.as_str();
            ended.push(format!(
                "rollout {} of {name} ends: {outcome:?}",
                rollout.id
            ));
        }
        ended
    }

    /// Everything has come to rest: all hosts are where their target wants them, or it is known why not.
    pub fn rest(&self, fleet: &Fleet, hosts: &[Host], now: Moment) {
        for target in fleet.targets.values() {
            assert!(
                target.active().is_none(),
                "{}: a rollout runs although nothing happens",
                target.key
            );
            for host in hosts {
                let known = &target.hosts[&host.name];
                let current = current(host, &target.key);
                assert_eq!(
                    known.running.as_ref(),
                    current,
                    "{}: what is known of it is not what is there",
                    host.name
                );
                let slots = host.disk.journal.slots.iter();
                for slot in slots.filter(|it| it.slot.component == target.key.component) {
                    assert_eq!(slot.activation, None, "{}: it still switches", host.name);
                }
                let waits = !target.decide(now, fleet.epoch).waiting_on.is_empty();
                let failed = known
                    .tried
                    .as_ref()
                    .is_some_and(|it| it.release == target.release);
                let there = current == target.release.as_ref();
                assert!(
                    there || failed || waits || !target.converges(),
                    "{} runs {current:?}, {} wants {:?}, and nothing is done about it: {known:?}",
                    host.name,
                    target.key,
                    target.release
                );
            }
        }
    }
}

fn current<'a>(host: &'a Host, key: &TargetKey) -> Option<&'a tamer_core::release::ReleaseRef> {
    let mut current = host.disk.current.iter();
    let found = current.find(|(slot, _)| slot.component == key.component);
    found.map(|(_, release)| release)
}

/// How a rollout ended is what is there.
fn honest(target: &Target, outcome: &Outcome, hosts: &[Host]) {
    let rollout = target.rollout.as_ref().expect("it has just ended");
    for host in hosts {
        let known = &target.hosts[&host.name];
        let Some(part) = known
            .part
            .as_ref()
            .filter(|part| part.rollout == rollout.id)
        else {
            continue;
        };
        let there = current(host, &target.key) == rollout.release.as_ref();
        match outcome {
            Outcome::Succeeded if part.status == PartStatus::Done => assert!(
                there,
                "rollout {} says that {} runs its release, and it does not",
                rollout.id, host.name
            ),
            Outcome::RolledBack(_) => assert!(
                !there || part.from == rollout.release || target.release == rollout.release,
                "rollout {} says that everything is back, and {} is not",
                rollout.id,
                host.name
            ),
            _ => {}
        }
    }
}
