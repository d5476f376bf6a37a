//! The whole of it: hosts, lines and the controller, on one virtual clock.

mod faults;
mod lines;
mod people;

use crate::chance::Chance;
use crate::controller::{Ask, Change, Controller, Line, Said, site};
use crate::counts::Counts;
use crate::host::{Host, Later, Note};
use crate::scenario::{BUSY, QUIET, Scenario};
use crate::witness::Witness;
use std::collections::BTreeMap;
use tamer_controller::fleet::Fleet;
use tamer_controller::fleet::deploy::Control;
use tamer_controller::identity::tokens::{Grant, Token};
use tamer_core::desired::Desired;
use tamer_core::digest::Digest;
use tamer_core::id::HostName;
use tamer_core::moment::Moment;

/// When every run begins.
const BEGIN: u64 = 1_000_000_000;

/// How long everything must have been at rest before a run is over, in milliseconds.
const AT_REST: u64 = 20 * 60 * 1000;

/// How often a host looks at itself, in milliseconds.
const LOOK: u64 = 20_000;

/// Something that happens at its time.
enum Happening {
    /// On a host, in that life of its agent.
    OnHost(usize, u64, Later),
    /// A host tries to connect.
    Connect(usize, u64),
    /// A host hears something on its line.
    Heard(usize, Line, Option<Moment>, Option<Box<Desired>>),
    /// A host finds out that its line has ended.
    HungUp(usize, Line),
    /// Something comes to the controller, in that life of it.
    Came(u64, Change),
    /// The controller's commit has ended.
    Committed(u64),
    /// Time alone may change what the controller decides.
    Wake(u64),
    /// The controller starts.
    ControllerStarts(u64),
    /// A host starts.
    HostStarts(usize, u64),
    /// A host can be reached again.
    Reunited(usize),
    /// Somebody does something.
    Act,
    /// Something goes wrong.
    Fault,
}

struct Wire {
    host: usize,
    /// Of the controller.
    life: u64,
    /// When the last message arrives, there and here: none overtakes another.
    last: (u64, u64),
}

/// A run.
pub struct World {
    scenario: Scenario,
    chance: Chance,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    numbers: u64,
    controller: Controller,
    hosts: Vec<Host>,
    names: BTreeMap<HostName, usize>,
    wires: BTreeMap<Line, Wire>,
    parted: Vec<bool>,
    witness: Witness,
    counts: Counts,
    traced: bool,
    wake: Option<u64>,
    /// When something last changed that is of account.
    stirred: u64,
}

impl World {
    /// The world of a seed, before anything has happened.
    ///
    /// # Panics
    /// Where a host cannot join: a mistake of this file.
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut chance = Chance::of(seed);
        let scenario = Scenario::of(&mut chance);
        let mut fleet = Fleet::new(1, None);
        publish(&mut fleet, &scenario, Moment(BEGIN));
        let hosts: Vec<Host> = (0..scenario.hosts).map(Host::new).collect();
        for host in &hosts {
            let secret = Digest::new([host.number as u8 + 200; 32]);
            let grant = Grant::Host {
                environment: site().0,
                labels: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
                replaces: None,
            };
            let token = Token {
                grant,
                expires: Moment(BEGIN),
                created_by: None,
                used: None,
            };
            fleet.tokens.issue(secret, token);
            let key = Digest::new([host.number as u8; 32]);
            let joined = fleet.join(secret, Some(&host.name), key, Moment(BEGIN));
            joined.expect("a host that joins");
        }
        let names = hosts.iter().enumerate();
        let names = names.map(|(at, host)| (host.name.clone(), at)).collect();
        let mut world = Self {
            parted: vec![false; hosts.len()],
            witness: Witness::new(&scenario),
            controller: Controller::new(fleet),
            scenario,
            chance,
            now: BEGIN,
            queue: BTreeMap::new(),
            numbers: 0,
            hosts,
            names,
            wires: BTreeMap::new(),
            counts: Counts::default(),
            traced,
            wake: None,
            stirred: BEGIN,
        };
        world.say(|world| world.scenario.environment.replace('\n', " · "));
        world.reach_controller(Change::Tick);
        for at in 0..world.hosts.len() {
            world.after(world.hosts[at].number * 7, Happening::Connect(at, 0));
            world.after(LOOK, Happening::OnHost(at, 0, Later::Round));
        }
        world.after(5_000, Happening::Act);
        world.after(30_000, Happening::Fault);
        world
    }

    /// Lets it run to its end, and gives what happened.
    ///
    /// # Panics
    /// Where a promise is broken, with which one.
    pub fn run(mut self) -> Counts {
        while self.now < BEGIN + BUSY {
            self.next();
        }
        self.heal();
        let mut resumed = self.now;
        while !self.is_at_rest() {
            assert!(
                self.now < BEGIN + BUSY + QUIET,
                "it does not come to rest: {}",
                self.unrest()
            );
            if self.now > resumed + 600_000 {
                resumed = self.now;
                self.ask(Ask::Control(Control::Resume));
            }
            self.next();
        }
        let clock = self.controller.clock(self.now);
        self.witness.rest(self.fleet(), &self.hosts, clock);
        // Nothing is known that a restart would not know.
        let before = known(self.fleet());
        self.controller.crash(false);
        self.start_controller();
        let after = known(self.fleet());
        let at = before.bytes().zip(after.bytes()).position(|(a, b)| a != b);
        if before != after {
            let from = at.unwrap_or(0).saturating_sub(120);
            let part = |all: &str| all.chars().skip(from).take(400).collect::<String>();
            panic!(
                "a restart changes what is known: {} … {}",
                part(&before),
                part(&after)
            );
        }
        self.counts
    }

    fn fleet(&self) -> &Fleet {
        self.controller
            .fleet
            .as_ref()
            .expect("the controller is up")
    }

    #[expect(clippy::print_stderr, reason = "a trace is for whoever asked for it")]
    fn say(&self, what: impl FnOnce(&Self) -> String) {
        if self.traced {
            let seconds = (self.now - BEGIN) as f64 / 1000.0;
            eprintln!("{seconds:>10.3}  {}", what(self));
        }
    }

    fn after(&mut self, wait: u64, what: Happening) {
        self.numbers += 1;
        self.queue.insert((self.now + wait, self.numbers), what);
    }

    fn next(&mut self) {
        let Some(((at, _), what)) = self.queue.pop_first() else {
            return;
        };
        self.now = at;
        match what {
            Happening::OnHost(at, life, later) if self.hosts[at].life == life => {
                self.on_host(at, later);
            }
            Happening::OnHost(..) => {}
            Happening::Connect(at, life) => self.connect(at, life),
            Happening::Heard(at, line, clock, desired) => self.heard(at, line, clock, desired),
            Happening::HungUp(at, line) => self.hung_up(at, line),
            Happening::Came(life, change) if self.controller.life == life => {
                self.reach_controller(change);
            }
            Happening::Came(..) => {}
            Happening::Committed(life) if self.controller.life == life => self.committed(),
            Happening::Committed(_) => {}
            Happening::Wake(life) => {
                self.wake = None;
                if self.controller.life == life {
                    self.reach_controller(Change::Tick);
                }
            }
            Happening::ControllerStarts(life) => {
                if self.controller.life == life && self.controller.fleet.is_none() {
                    self.start_controller();
                    self.reach_controller(Change::Tick);
                }
            }
            Happening::HostStarts(at, life) => {
                let host = &mut self.hosts[at];
                if host.life == life && !host.up {
                    let later = host.start(&self.scenario, &mut self.chance, self.now);
                    self.say(|it| format!("{} starts", it.hosts[at].name));
                    self.schedule(at, later);
                    self.after(LOOK, Happening::OnHost(at, life, Later::Round));
                    self.after(50, Happening::Connect(at, life));
                    self.settle_host(at);
                }
            }
            Happening::Reunited(at) => self.parted[at] = false,
            Happening::Act => {
                self.act();
                let wait = self.chance.between(1_000, 2 * self.scenario.act_every);
                if self.now + wait < BEGIN + BUSY {
                    self.after(wait, Happening::Act);
                }
            }
            Happening::Fault => {
                self.fault();
                let wait = self.chance.between(1_000, 2 * self.scenario.fault_every);
                if self.now + wait < BEGIN + BUSY {
                    self.after(wait, Happening::Fault);
                }
            }
        }
    }

    fn on_host(&mut self, at: usize, later: Later) {
        let (scenario, chance, now) = (&self.scenario, &mut self.chance, self.now);
        let host = &mut self.hosts[at];
        match later {
            Later::Acted(slot) => {
                let (note, after) = host.acted(&slot, scenario, chance, now);
                let life = host.life;
                if let Some(note) = note {
                    self.stirred = self.now;
                    self.say(|it| match &note {
                        Note::Begun(go) => {
                            format!(
                                "{} begins {slot} {} {:?}",
                                it.hosts[at].name, go.purpose, go.to
                            )
                        }
                        Note::Ended(_, status) => {
                            format!("{} ends {slot}: {status}", it.hosts[at].name)
                        }
                    });
                    self.counts.note(&note);
                    self.witness.noted(&note, &self.hosts, at, &slot);
                }
                if let Some(after) = after {
                    self.after(after, Happening::OnHost(at, life, Later::Acted(slot)));
                }
            }
            Later::Staged(slot, release) => host.staged(&slot, &release, scenario, chance, now),
            Later::Environment(version) => host.environment(version),
            Later::Round => {
                let life = host.life;
                self.after(LOOK, Happening::OnHost(at, life, Later::Round));
            }
        }
        self.settle_host(at);
    }

    /// The host decides, and says what has changed.
    fn settle_host(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if !host.up {
            return;
        }
        let later = host.round(&self.scenario, &mut self.chance, self.now);
        self.schedule(at, later);
        let host = &mut self.hosts[at];
        let Some((line, true)) = host.agent.line else {
            return;
        };
        let report = host.report(&self.scenario);
        if host.agent.sent.as_ref() == Some(&report) {
            return;
        }
        self.stirred = self.now;
        host.agent.sent = Some(report.clone());
        let host = host.name.clone();
        let twice = self.chance.permille(30);
        self.counts.duplicated += u64::from(twice);
        for _ in 0..=usize::from(twice) {
            let (host, report) = (host.clone(), Box::new(report.clone()));
            self.send(line, Change::Reported { host, line, report });
        }
    }

    fn schedule(&mut self, at: usize, later: Vec<(u64, Later)>) {
        let life = self.hosts[at].life;
        for (wait, what) in later {
            self.after(wait, Happening::OnHost(at, life, what));
        }
    }

    fn reach_controller(&mut self, change: Change) {
        if self.controller.take(change, self.now) {
            self.commit_ends();
        }
    }

    fn commit_ends(&mut self) {
        let wait = match self.chance.permille(20) {
            true => self.chance.between(100, 5_000),
            false => self.chance.between(1, 20),
        };
        let life = self.controller.life;
        self.after(wait, Happening::Committed(life));
    }

    fn committed(&mut self) {
        match self.controller.committed(self.now) {
            Err(why) => {
                self.say(|_| format!("the controller stops: {why}"));
                self.controller_dies(false);
            }
            Ok((said, more)) => {
                self.pass_on(said);
                let fleet = self.controller.fleet.as_ref();
                let fleet = fleet.expect("the controller is up");
                if !more {
                    let ended = self.witness.committed(fleet, &self.hosts, &mut self.counts);
                    for what in ended {
                        self.say(|_| what);
                    }
                } else {
                    self.commit_ends();
                }
                self.wait_for_time();
            }
        }
    }

    fn pass_on(&mut self, said: Said) {
        for id in &said.begun {
            self.stirred = self.now;
            self.counts.deployments += 1;
            self.say(|_| format!("deployment {id} begins"));
        }
        for (host, line, desired) in said.welcomed {
            self.stirred = self.now;
            self.say(|_| format!("{host} is welcomed"));
            let clock = self.controller.clock(self.now);
            self.tell(line, Some(clock), desired);
        }
        if let Some((host, _)) = said.turned_away.first() {
            panic!("{host} was turned away although there is but one");
        }
        for (host, desired) in said.messages {
            let at = self.names[&host];
            let newest = self.lines_of(at).into_iter().next_back();
            if let Some(line) = newest {
                self.tell(line, None, Some(desired));
            }
        }
    }

    fn wait_for_time(&mut self) {
        let Some(at) = self.controller.next_wake() else {
            return;
        };
        let at = at.max(self.now + 1);
        if self.wake.is_none_or(|known| at < known) {
            self.wake = Some(at);
            let life = self.controller.life;
            self.after(at - self.now, Happening::Wake(life));
        }
    }

    fn is_at_rest(&self) -> bool {
        let Some(fleet) = &self.controller.fleet else {
            return false;
        };
        self.now > self.stirred + AT_REST
            && self.controller.is_idle()
            && fleet.deployments.values().all(|it| it.ended.is_some())
            && self
                .hosts
                .iter()
                .all(|host| host.up && host.agent.line.is_some_and(|(_, welcomed)| welcomed))
    }

    fn unrest(&self) -> String {
        let Some(fleet) = &self.controller.fleet else {
            return "the controller is down".to_owned();
        };
        let running = fleet.deployments.values().filter(|it| it.ended.is_none());
        let targets = fleet.targets.values();
        let now = self.controller.clock(self.now);
        let waits = targets.map(|target| {
            let decision = target.decide(now, fleet.epoch);
            let stage = target.rollout.as_ref().map(|it| &it.stage);
            let hosts = target.hosts.iter().map(|(name, host)| {
                let status = host.part.as_ref().map(|it| &it.status);
                format!("{name} {status:?} {:?}", host.grant)
            });
            let hosts = hosts.collect::<Vec<_>>().join(", ");
            format!("{}: {decision:?} {stage:?} {hosts}", target.key)
        });
        format!(
            "last stirred {} s ago; deployments {:?}; {}",
            (self.now - self.stirred) / 1000,
            running.map(|it| it.id).collect::<Vec<_>>(),
            waits.collect::<Vec<_>>().join("; ")
        )
    }
}

/// What a controller must know again after a restart: all but who is connected.
fn known(fleet: &Fleet) -> String {
    let targets = fleet.targets.values().map(|target| {
        let hosts = target.hosts.values();
        let hosts = hosts.map(|host| (&host.running, &host.staged, &host.tried, &host.part));
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            target.key,
            target.release,
            target.history,
            target.bad,
            target.rollout,
            hosts.collect::<Vec<_>>()
        )
    });
    let targets: Vec<String> = targets.collect();
    format!("{targets:?} {:?}", fleet.deployments)
}

fn publish(fleet: &mut Fleet, scenario: &Scenario, clock: Moment) {
    let (text, file) = (scenario.environment.clone(), scenario.file.clone());
    fleet.set_environment(&site().0, 1, text, file, clock);
}
