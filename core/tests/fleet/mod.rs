//! A small world around one target: agents that behave as the design says, a network that does not,
//! and a witness.

mod agent;
mod told;

use agent::Agent;
pub(crate) use agent::{Act, act};
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::calendar::Opening;
use tamer_core::desired::Purpose;
use tamer_core::digest::Digest;
use tamer_core::id::{HostName, PoolName, TargetKey};
use tamer_core::moment::{Moment, Span};
use tamer_core::policy::Policy;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::invariants::Witness;
use tamer_core::rollout::{Decision, Event, Observation, RolloutId, Target};

pub(crate) fn release(n: usize) -> ReleaseRef {
    ReleaseRef {
        version: format!("1.{n}.0").parse().unwrap(),
        manifest: Digest::new([n as u8 + 1; 32]),
    }
}

pub(crate) struct World {
    pub(crate) target: Target,
    witness: Witness,
    now: Moment,
    epoch: u64,
    /// When time alone may change something; `None` until it has come to rest.
    rested: Option<Option<Moment>>,
    /// The newest grant of each host.
    given: BTreeMap<HostName, told::Given>,
    agents: BTreeMap<HostName, Agent>,
    mail: Vec<(HostName, Observation)>,
    spoilt: BTreeSet<Digest>,
    rollouts: u64,
    hosts: usize,
    /// Whether somebody lets rollouts go on at every point of approval, in a friendly world.
    pub(crate) promotes: bool,
}

impl World {
    pub(crate) fn new(hosts: usize, policy: Policy) -> Self {
        let key = TargetKey {
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: PoolName::default(),
        };
        let mut world = Self {
            target: Target::new(key, policy),
            witness: Witness::default(),
            now: Moment(1_000_000),
            epoch: 1,
            rested: None,
            given: BTreeMap::new(),
            agents: BTreeMap::new(),
            mail: Vec::new(),
            spoilt: BTreeSet::new(),
            rollouts: 0,
            hosts: 0,
            promotes: true,
        };
        for _ in 0..hosts {
            world.add();
        }
        for n in 0..hosts {
            world.connect(n);
            world.send(n);
            world.arrive(0, true);
        }
        world
    }

    /// Applies an event if it is legal, under the witness's eyes, and everything that follows from it:
    /// each decision whole, as whoever drives the engine does.
    fn happen(&mut self, event: &Event) {
        self.apply(event);
        self.settle();
    }

    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 200, "the engine never comes to rest");
            let decision = self.decide();
            if decision.events.is_empty() {
                let quiet = self.target.active().is_none()
                    || decision.wake_at.is_some()
                    || !decision.waiting_on.is_empty();
                assert!(quiet, "it neither goes on nor says what it waits for");
                self.rested = Some(decision.wake_at);
                return;
            }
            for event in &decision.events {
                assert!(
                    self.apply(event),
                    "the engine decided what its state does not allow: {event:?}"
                );
            }
        }
    }

    fn apply(&mut self, event: &Event) -> bool {
        let before = self.target.clone();
        let result = self.target.apply(event, self.now);
        match result {
            Err(_) => {
                assert_eq!(self.target, before, "a refused event changed the state");
                false
            }
            Ok(touched) => {
                for name in before.hosts.keys().chain(self.target.hosts.keys()) {
                    if before.hosts.get(name) != self.target.hosts.get(name) {
                        assert!(
                            touched.hosts.contains(name),
                            "{name} changed, and {event:?} did not say so"
                        );
                    }
                }
                let head = |target: &Target| Target {
                    hosts: BTreeMap::new(),
                    ..target.clone()
                };
                assert!(
                    touched.head || head(&before) == head(&self.target),
                    "{event:?} changed the head and did not say so"
                );
                if let Err(broken) = self.witness.saw(&before, event, &self.target, self.now) {
                    panic!("{broken}\nat {event:?}");
                }
                self.given.extend(told::Given::of(event));
                self.check_told();
                true
            }
        }
    }

    pub(crate) fn name(&self, n: usize) -> HostName {
        let names: Vec<_> = self.agents.keys().collect();
        names[n % names.len()].clone()
    }

    // === the network ===

    /// The agent takes in what it should be now.
    pub(crate) fn deliver(&mut self, n: usize) {
        let name = self.name(n);
        let connected = self
            .target
            .hosts
            .get(&name)
            .is_some_and(tamer_core::rollout::Host::is_connected);
        let Some(desired) = self.target.desired(&name).filter(|_| connected) else {
            return;
        };
        self.agents
            .get_mut(&name)
            .unwrap()
            .take_in(desired, self.now);
    }

    pub(crate) fn act(&mut self, n: usize, act: &Act) {
        let name = self.name(n);
        let agent = self.agents.get_mut(&name).unwrap();
        agent.act(act, &self.spoilt);
    }

    pub(crate) fn send(&mut self, n: usize) {
        let name = self.name(n);
        let seen = self.agents[&name].says();
        self.mail.push((name, seen));
    }

    pub(crate) fn says(&self, n: usize) -> Observation {
        self.agents[&self.name(n)].says()
    }

    pub(crate) fn arrive(&mut self, n: usize, once: bool) {
        if self.mail.is_empty() {
            return;
        }
        let n = n % self.mail.len();
        let (name, seen) = if once {
            self.mail.remove(n)
        } else {
            self.mail[n].clone()
        };
        self.happen(&Event::Reported(name, Box::new(seen)));
    }

    pub(crate) fn lose(&mut self, n: usize) {
        if !self.mail.is_empty() {
            let n = n % self.mail.len();
            self.mail.remove(n);
        }
    }

    /// What a host does whose messages arrive: it takes in what it should be, acts, and says so.
    pub(crate) fn obey(&mut self, n: usize, act: &Act) {
        let name = self.name(n);
        if !self.target.hosts[&name].is_connected() {
            return;
        }
        self.deliver(n);
        self.act(n, act);
        self.send(n);
        self.arrive(self.mail.len() - 1, true);
    }

    pub(crate) fn connect(&mut self, n: usize) {
        self.happen(&Event::Connected(self.name(n)));
    }

    pub(crate) fn disconnect(&mut self, n: usize) {
        self.happen(&Event::Lost(self.name(n)));
    }

    pub(crate) fn sicken(&mut self, n: usize, sick: bool) {
        let name = self.name(n);
        self.agents.get_mut(&name).unwrap().sick = sick;
    }

    pub(crate) fn unstageable(&mut self, n: usize, fails: bool) {
        let name = self.name(n);
        self.agents.get_mut(&name).unwrap().unstageable = fails;
    }

    pub(crate) fn hold(&mut self, n: usize, held: bool) {
        let name = self.name(n);
        self.agents.get_mut(&name).unwrap().held = held;
    }

    pub(crate) fn set_clock_ahead(&mut self, n: usize, ahead: Span) {
        let name = self.name(n);
        self.agents.get_mut(&name).unwrap().ahead = Some(ahead);
    }

    pub(crate) fn spoil(&mut self, n: usize) {
        self.spoilt.insert(release(n).manifest);
    }

    pub(crate) fn mend(&mut self, n: usize) {
        self.spoilt.remove(&release(n).manifest);
    }

    /// Somebody on the server points `current` somewhere else.
    pub(crate) fn run_by_hand(&mut self, n: usize, to: usize) {
        let name = self.name(n);
        self.agents.get_mut(&name).unwrap().running = Some(release(to));
    }

    // === time, the controller, people ===

    pub(crate) fn tick(&mut self, seconds: u64) {
        self.oversleep(seconds);
        self.settle();
    }

    /// Time passes, and the controller is too busy, or too dead, to look at the clock.
    pub(crate) fn oversleep(&mut self, seconds: u64) {
        let later = self.now + Span::secs(seconds);
        if let Some(wake_at) = self.rested.filter(|wake_at| *wake_at != Some(self.now)) {
            let still = wake_at.map_or(later, |at| later.min(Moment(at.0 - 1)));
            let early = self.target.decide(still, self.epoch).events;
            assert_eq!(early, [], "something happens before it asked to be woken");
            if wake_at.is_some_and(|at| at <= later) {
                self.rested = None;
            }
        }
        self.now = later;
    }

    /// A controller that starts again knows what it had stored, and nothing else; its hosts connect anew.
    pub(crate) fn restart(&mut self) {
        let stored = serde_json::to_string(&self.target).unwrap();
        let read: Target = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, self.target);
        self.target = read;
        for n in 0..self.agents.len() {
            self.disconnect(n);
        }
    }

    /// A controller restored from a backup that lost nothing: a new epoch.
    pub(crate) fn restore(&mut self) {
        self.epoch += 1;
        self.restart();
        self.happen(&Event::Restored);
    }

    /// A controller restored from a backup: whatever happened since is unknown to it, and to the witness.
    pub(crate) fn restore_from(&mut self, backup: Target) {
        self.target = backup;
        self.witness = Witness::default();
        self.given.clear();
        self.mail.clear();
        self.rested = None;
        self.restore();
    }

    /// Every host connects and says what it is.
    pub(crate) fn all_speak(&mut self) {
        for n in 0..self.agents.len() {
            self.connect(n);
            self.send(n);
            self.arrive(self.mail.len() - 1, true);
        }
    }

    /// What each host really runs.
    pub(crate) fn runs(&self) -> Vec<Option<ReleaseRef>> {
        let agents = self.agents.values();
        agents.map(|agent| agent.running.clone()).collect()
    }

    pub(crate) fn new_policy(&mut self, policy: Policy) {
        self.happen(&Event::PolicyChanged(policy));
    }

    pub(crate) fn decide(&self) -> Decision {
        self.target.decide(self.now, self.epoch)
    }

    pub(crate) fn start(&mut self, n: usize) {
        self.start_release(n % 4);
    }

    pub(crate) fn start_release(&mut self, n: usize) {
        self.begin(Some(release(n)), Purpose::Forward);
    }

    pub(crate) fn back_to(&mut self, n: usize) {
        self.begin(Some(release(n)), Purpose::Back);
    }

    pub(crate) fn go_back(&mut self) {
        if let Some(release) = self.target.last_good().cloned() {
            self.begin(Some(release), Purpose::Back);
        }
    }

    fn begin(&mut self, release: Option<ReleaseRef>, purpose: Purpose) {
        let id = RolloutId(self.rollouts + 1);
        if let Ok(new) = self.target.plan(id, release, purpose, self.now) {
            self.rollouts += 1;
            if self.target.active().is_none() {
                self.happen(&Event::Adopted);
            }
            self.happen(&Event::Started(Box::new(new)));
        }
    }

    pub(crate) fn pause(&mut self) {
        self.happen(&Event::Paused {
            by: "anna".into(),
            reason: String::new(),
        });
    }

    pub(crate) fn resume(&mut self) {
        self.happen(&Event::Resumed);
    }

    pub(crate) fn promote(&mut self) {
        self.happen(&Event::Promoted {
            by: "anna".into(),
            reason: String::new(),
        });
    }

    pub(crate) fn abort(&mut self) {
        self.happen(&Event::Aborted {
            by: "anna".into(),
            reason: String::new(),
        });
    }

    pub(crate) fn ask_rollback(&mut self) {
        self.happen(&Event::RollbackAsked {
            by: "anna".into(),
            reason: String::new(),
        });
    }

    pub(crate) fn add(&mut self) {
        self.hosts += 1;
        let name: HostName = format!("web-{:02}", self.hosts).parse().unwrap();
        self.agents.insert(name.clone(), Agent::default());
        self.happen(&Event::HostAdded(name));
    }

    pub(crate) fn remove(&mut self, n: usize) {
        if self.agents.len() > 1 {
            let name = self.name(n);
            self.agents.remove(&name);
            self.mail.retain(|(host, _)| *host != name);
            self.happen(&Event::HostRemoved(name));
        }
    }

    pub(crate) fn rebuild(&mut self, n: usize) {
        let name = self.name(n);
        self.agents.insert(name.clone(), Agent::default());
        self.mail.retain(|(host, _)| *host != name);
        self.happen(&Event::HostReset(name));
    }

    /// The database has come to where the target's release does not work with it, or is back.
    pub(crate) fn draw_line(&mut self, drawn: bool) {
        let line = drawn.then(|| "1.0.0 works with main 41, and the database has 42".to_owned());
        self.happen(&Event::Line(line));
    }

    /// People have to approve the rollout that runs, or have done so.
    pub(crate) fn await_approval(&mut self, awaited: bool) {
        let how = awaited.then(|| "0 of 1 approved".to_owned());
        self.happen(&Event::Approval(how));
    }

    /// Whoever looks at the calendar says that it is open from now on, or closed, and for how long.
    pub(crate) fn opens(&mut self, open: bool, seconds: Option<u64>) {
        let until = seconds.map(|seconds| self.now + Span::secs(seconds));
        let why = "frozen: Christmas".to_owned();
        self.happen(&Event::Opening(match open {
            true => Opening::Open { until },
            false => Opening::Closed { why, until },
        }));
    }

    // === liveness ===

    /// Every host comes back, gets well, and does what it is told; messages arrive; paused rollouts are resumed.
    pub(crate) fn turn_friendly(&mut self) {
        self.draw_line(false);
        self.await_approval(false);
        self.opens(true, None);
        for n in 0..self.agents.len() {
            self.sicken(n, false);
            self.unstageable(n, false);
            self.hold(n, false);
            self.connect(n);
        }
        self.run_friendly();
    }

    /// The same, for the hosts that are connected.
    pub(crate) fn run_friendly(&mut self) {
        self.mail.clear();
        let mut quiet = 0;
        for _ in 0..400 {
            quiet = if self.target.active().is_none() {
                quiet + 1
            } else {
                0
            };
            if quiet > 30 {
                return;
            }
            if self
                .target
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.paused.is_some())
            {
                self.resume();
            }
            for n in 0..self.agents.len() {
                self.obey(n, &Act::Finish);
            }
            if self.promotes {
                self.promote();
            }
            self.tick(7);
        }
    }

    /// At rest: nothing is open, and every host runs what the target runs, but where that failed before.
    pub(crate) fn check_rest(&self) {
        for (name, host) in &self.target.hosts {
            assert!(host.grant.is_none(), "{name} still has a grant");
            let free =
                self.target.converges() && host.tried.is_none() && self.target.release.is_some();
            if free && host.running != self.target.release {
                let budget = self.target.parallel_limit();
                panic!(
                    "{name} runs {:?}, the target {:?}, limit {budget}",
                    host.running, self.target.release
                );
            }
        }
    }
}
