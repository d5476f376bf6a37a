//! The fleet over its store, with a controller that is killed at any moment: what was committed is
//! all that survives, and every deployment goes on to its end.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tamer_controller::fleet::Fleet;
use tamer_controller::fleet::deploy::{Asked, By, Control, Wanted};
use tamer_controller::fleet::hosts::{Session, SessionId};
use tamer_controller::identity::tokens::Grant;
use tamer_controller::store::Store;
use tamer_controller::store::memory::MemoryStore;
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{
    ActivationReport, ActivationStatus, ComponentReport, Desired, Failure, FailureKind, HostReport,
    Purpose,
};
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::generation::Generation;
use tamer_core::id::HostName;
use tamer_core::moment::{Moment, Span};
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::deployment::Ending;

const ENVIRONMENT: &str = r#"
[place]
"shop/web" = { role = "web" }
"shop/worker" = { role = "web" }
[policy]
canary = 1
max_parallel = 2
bake = "5s"
"#;

fn release(component: &str, n: u8) -> ReleaseRef {
    let salt = if component == "web" { 0 } else { 100 };
    ReleaseRef {
        version: format!("1.{n}.0").parse().unwrap(),
        manifest: Digest::new([n + 1 + salt; 32]),
    }
}

fn wanted(n: u8) -> Wanted {
    Wanted {
        environment: "production".parse().unwrap(),
        application: "shop".parse().unwrap(),
        version: format!("1.{n}.0").parse().unwrap(),
        // The worker first: the web needs it.
        releases: ["worker", "web"]
            .map(|c| (c.parse().unwrap(), release(c, n)))
            .to_vec(),
        proven: BTreeSet::new(),
    }
}

fn anna() -> By {
    By {
        who: "anna".into(),
        reason: "because".into(),
    }
}

/// A server, as far as its controller can tell.
#[derive(Default)]
struct Server {
    seen: Generation,
    told: Option<Desired>,
    components: BTreeMap<String, Part>,
    sessions: u64,
}

#[derive(Default, Clone)]
struct Part {
    running: Option<ReleaseRef>,
    staged: BTreeSet<Digest>,
    activation: Option<ActivationReport>,
}

struct World {
    store: MemoryStore,
    fleet: Fleet,
    now: Moment,
    servers: BTreeMap<HostName, Server>,
    bad: BTreeSet<Digest>,
    sessions: u64,
}

impl World {
    fn new(hosts: usize) -> Self {
        let mut world = Self {
            store: MemoryStore::new(),
            fleet: Fleet::new(1, None),
            now: Moment(1_000_000),
            servers: BTreeMap::new(),
            bad: BTreeSet::new(),
            sessions: 0,
        };
        world.publish();
        for n in 0..hosts {
            let secret = Digest::new([n as u8 + 200; 32]);
            let labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
            let grant = Grant::Host {
                environment: "production".parse().unwrap(),
                labels,
                replaces: None,
            };
            world.fleet.invite(
                secret,
                grant,
                Span::secs(60),
                &"anna".parse().unwrap(),
                world.now,
            );
            let name: HostName = format!("web-{n}").parse().unwrap();
            world
                .fleet
                .join(secret, Some(&name), Digest::new([n as u8; 32]), world.now)
                .unwrap();
            world.servers.insert(name, Server::default());
        }
        world.turn();
        world.connect_all();
        world
    }

    fn publish(&mut self) {
        let file = Environment::parse("production.toml", ENVIRONMENT).unwrap();
        let name = "production".parse().unwrap();
        self.fleet
            .set_environment(&name, 1, ENVIRONMENT.to_owned(), file, self.now);
    }

    /// One round of the driver: what follows, commit, dispatch.
    fn turn(&mut self) {
        self.fleet.advance(self.now);
        let messages = self.fleet.dispatch();
        for batch in self.fleet.drain().unwrap() {
            self.store.commit(self.store.revision(), batch).unwrap();
        }
        self.fleet.take_audit();
        for (host, desired) in messages {
            let server = self.servers.get_mut(&host).unwrap();
            assert!(
                desired.generation > server.seen,
                "{host} was told something older than it knows"
            );
            server.seen = desired.generation;
            server.told = Some(desired);
        }
    }

    /// The controller is killed with everything that was not committed, and starts again.
    fn crash(&mut self) {
        let stored = self.store.load("").unwrap();
        self.fleet = Fleet::load(&stored, 1, None, self.now).unwrap();
        self.publish();
        self.connect_all();
    }

    fn connect_all(&mut self) {
        let names: Vec<HostName> = self.servers.keys().cloned().collect();
        for name in names {
            self.sessions += 1;
            let report = self.report(&name);
            let server = self.servers.get_mut(&name).unwrap();
            server.sessions += 1;
            let session = Session {
                id: SessionId(self.sessions),
                run_id: "one".into(),
                agent_version: "0.1.0".into(),
            };
            if let Some(desired) = self
                .fleet
                .connected(&name, session, report, self.now)
                .unwrap()
            {
                assert!(
                    desired.generation >= server.seen,
                    "{name} was told something older after a restart"
                );
                server.told = Some(desired);
            }
            self.turn();
        }
    }

    fn report(&self, name: &HostName) -> HostReport {
        let server = &self.servers[name];
        let components = server
            .told
            .iter()
            .flat_map(|told| &told.components)
            .map(|component| {
                let part = server
                    .components
                    .get(component.slot.component.as_str())
                    .cloned()
                    .unwrap_or_default();
                ComponentReport {
                    slot: component.slot.clone(),
                    running: part.running,
                    staged: part.staged.into_iter().collect(),
                    staging_failure: None,
                    activation: part.activation,
                    checks: Results::from([("home".parse().unwrap(), CheckResult::Passed)]),
                    hold: None,
                    drift: Vec::new(),
                }
            });
        HostReport {
            generation: server.seen,
            components: components.collect(),
            checks: Results::new(),
        }
    }

    /// A server does what it was told, and says so.
    fn work(&mut self, n: usize) {
        let name = self
            .servers
            .keys()
            .nth(n % self.servers.len())
            .unwrap()
            .clone();
        let server = self.servers.get_mut(&name).unwrap();
        for component in server.told.iter().flat_map(|told| &told.components) {
            let part = server
                .components
                .entry(component.slot.component.to_string())
                .or_default();
            part.staged.extend(
                component
                    .run
                    .iter()
                    .chain(&component.stage)
                    .map(|release| release.manifest),
            );
            let Some(grant) = component.grant else {
                continue;
            };
            if part
                .activation
                .as_ref()
                .is_some_and(|known| known.grant >= grant.id)
            {
                continue;
            }
            let bad = component
                .run
                .as_ref()
                .is_some_and(|release| self.bad.contains(&release.manifest));
            let status = if self.now > grant.start_by {
                ActivationStatus::Expired
            } else if bad && grant.purpose == Purpose::Forward {
                ActivationStatus::Undone(Failure {
                    kind: FailureKind::Check,
                    message: "500".into(),
                    check: None,
                    output: String::new(),
                })
            } else {
                part.running.clone_from(&component.run);
                ActivationStatus::Done
            };
            part.activation = Some(ActivationReport {
                grant: grant.id,
                release: component.run.clone(),
                status,
            });
        }
        let report = self.report(&name);
        self.fleet.reported(&name, report, self.now);
        self.turn();
    }

    fn run(&mut self, n: u8) -> Option<tamer_core::rollout::deployment::DeploymentId> {
        match self.fleet.deploy(&wanted(n), &anna(), self.now) {
            Ok(Asked::Started(id)) => {
                self.turn();
                Some(id)
            }
            _ => None,
        }
    }

    fn settle(&mut self) {
        for _ in 0..60 {
            for n in 0..self.servers.len() {
                self.work(n);
            }
            self.now = self.now + Span::secs(7);
            self.turn();
        }
    }

    fn running(&self, component: &str) -> BTreeSet<Option<ReleaseRef>> {
        let of = |server: &Server| {
            server
                .components
                .get(component)
                .and_then(|part| part.running.clone())
        };
        self.servers.values().map(of).collect()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Work(usize),
    Tick(u64),
    Crash,
    Deploy(u8),
    Back,
    Control(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..16usize).prop_map(Op::Work),
        3 => (1..90u64).prop_map(Op::Tick),
        3 => Just(Op::Crash),
        2 => (0..3u8).prop_map(Op::Deploy),
        1 => Just(Op::Back),
        1 => (0..4u8).prop_map(Op::Control),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_killed_controller_goes_on_where_it_was(ops in proptest::collection::vec(op(), 1..80)) {
        let mut world = World::new(4);
        let (environment, application) = ("production".parse().unwrap(), "shop".parse().unwrap());
        for op in &ops {
            match op {
                Op::Work(n) => world.work(*n),
                Op::Tick(seconds) => {
                    world.now = world.now + Span::secs(*seconds);
                    world.turn();
                }
                Op::Crash => world.crash(),
                Op::Deploy(n) => drop(world.run(*n)),
                Op::Back => {
                    // Refused where there is nothing to go back to.
                    let _ = world.fleet.go_back(&environment, &application, None, None, &anna(), world.now);
                    world.turn();
                }
                Op::Control(what) => {
                    let what = [Control::Pause, Control::Resume, Control::Abort, Control::Rollback][usize::from(*what)];
                    if let Some(id) = world.fleet.running_in(&environment, &application) {
                        let _ = world.fleet.control(id, what, &anna(), world.now);
                        world.turn();
                    }
                }
            }
        }
        if let Some(id) = world.fleet.running_in(&environment, &application) {
            let _ = world.fleet.control(id, Control::Resume, &anna(), world.now);
        }
        world.settle();
        prop_assert_eq!(world.fleet.running_in(&environment, &application), None);
        // Nothing is known that a restart would not know.
        let before = format!("{:?} {:?}", world.fleet.targets, world.fleet.deployments);
        world.crash();
        let after = format!("{:?} {:?}", world.fleet.targets, world.fleet.deployments);
        prop_assert_eq!(before, after);
    }
}

#[test]
fn a_version_goes_out_component_by_component_and_back() {
    let mut world = World::new(4);
    let first = world.run(0).unwrap();
    world.settle();
    assert_eq!(
        world.fleet.deployments[&first].ended.unwrap().1,
        Ending::Succeeded
    );
    let second = world.run(1).unwrap();
    world.crash();
    world.settle();
    assert_eq!(
        world.fleet.deployments[&second].ended.unwrap().1,
        Ending::Succeeded
    );
    assert_eq!(
        world.running("web"),
        BTreeSet::from([Some(release("web", 1))])
    );
    let (environment, application) = ("production".parse().unwrap(), "shop".parse().unwrap());
    let asked = world
        .fleet
        .go_back(&environment, &application, None, None, &anna(), world.now)
        .unwrap();
    assert!(matches!(asked, Asked::Started(_)));
    world.turn();
    world.settle();
    for component in ["web", "worker"] {
        assert_eq!(
            world.running(component),
            BTreeSet::from([Some(release(component, 0))])
        );
    }
}

#[test]
fn a_later_component_that_fails_takes_the_earlier_one_back() {
    let mut world = World::new(4);
    world.run(0).unwrap();
    world.settle();
    world.bad.insert(release("web", 1).manifest);
    let id = world.run(1).unwrap();
    world.settle();
    let deployment = &world.fleet.deployments[&id];
    assert_eq!(
        deployment.ended.unwrap().1,
        Ending::RolledBack,
        "{deployment:#?}"
    );
    assert_eq!(
        world.running("worker"),
        BTreeSet::from([Some(release("worker", 0))])
    );
    assert_eq!(
        world.running("web"),
        BTreeSet::from([Some(release("web", 0))])
    );
}

#[test]
fn a_host_that_speaks_of_what_nobody_told_it_is_shut_out() {
    let mut world = World::new(2);
    let name: HostName = "web-0".parse().unwrap();
    for generation in [
        Generation {
            epoch: 9,
            counter: 1,
        },
        Generation {
            epoch: 1,
            counter: u64::MAX,
        },
    ] {
        let report = HostReport {
            generation,
            ..world.report(&name)
        };
        let session = Session {
            id: SessionId(99),
            run_id: "one".into(),
            agent_version: "0.1.0".into(),
        };
        let said = world
            .fleet
            .connected(&name, session, report, world.now)
            .unwrap_err();
        assert!(said.contains("--replace web-0"), "{said}");
        world.turn();
    }
    world.run(0).unwrap();
    world.work(1);
    assert!(
        !world
            .fleet
            .targets
            .values()
            .any(|target| target.hosts[&name].is_connected())
    );
}

#[test]
fn two_live_agents_with_one_identity_are_both_shut_out() {
    let mut world = World::new(1);
    let name: HostName = "web-0".parse().unwrap();
    let mut connect = |run_id: &str, id: u64| {
        let report = world.report(&name);
        let session = Session {
            id: SessionId(id),
            run_id: run_id.into(),
            agent_version: "0.1.0".into(),
        };
        world
            .fleet
            .connected(&name, session, report, world.now)
            .map(drop)
    };
    assert_eq!(
        connect("two", 50),
        Ok(()),
        "an agent that was started again while its line hung"
    );
    assert!(
        connect("one", 51).unwrap_err().contains("two agents claim"),
        "and the first one speaks again"
    );
    assert!(connect("two", 52).is_err());
}

#[test]
fn a_host_that_says_too_much_does_not_stop_the_controller() {
    let mut world = World::new(1);
    world.run(0).unwrap();
    let name: HostName = "web-0".parse().unwrap();
    let long = "ä\u{1}".repeat(40_000);
    let failure = Failure {
        kind: FailureKind::Hook,
        message: long.clone(),
        check: None,
        output: long.clone(),
    };
    for status in [
        ActivationStatus::Working(long.clone()),
        ActivationStatus::Stuck(failure.clone()),
        ActivationStatus::Refused(failure.clone()),
    ] {
        let mut report = world.report(&name);
        for component in &mut report.components {
            component.running = Some(release("web", 0));
            component.staged = (0..1000u32)
                .map(|n| Digest::new(std::array::from_fn(|i| (n >> (8 * (i % 4))) as u8)))
                .collect();
            component.staging_failure = Some(failure.clone());
            component.hold = Some(long.clone());
            component.checks =
                Results::from([("home".parse().unwrap(), CheckResult::Failed(long.clone()))]);
            let grant = Generation {
                epoch: 1,
                counter: 1,
            };
            component.activation = Some(ActivationReport {
                grant,
                release: None,
                status: status.clone(),
            });
        }
        world.fleet.reported(&name, report, world.now);
        world.turn();
    }
}
