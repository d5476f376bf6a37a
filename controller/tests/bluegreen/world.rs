//! Six hosts in two pools, two routers in front of them, and one controller.

pub(crate) use super::common::anna;
use super::common::{Part, joins, session};
use std::collections::{BTreeMap, BTreeSet};
use tamer_controller::fleet::Fleet;
use tamer_controller::fleet::back::How;
use tamer_controller::fleet::deploy::{Asked, Refused, Wanted};
use tamer_controller::fleet::hosts::SessionId;
use tamer_controller::store::memory::MemoryStore;
use tamer_controller::store::{Loaded, Store};
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{Desired, Failure, FailureKind, Grant, HostReport, Slot};
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::generation::Generation;
use tamer_core::id::HostName;
use tamer_core::moment::{Moment, Span};
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::deployment::{DeploymentId, Ending};
use tamer_core::rollout::switching::Router;
use tamer_core::router::{AcceptanceReport, RouteReport};

pub(crate) const ENVIRONMENT: &str = r#"
[place]
"shop/web" = { role = "web" }
[policy]
canary = 1
max_parallel = 1
bake = "5s"
[pools."shop/web"]
blue = { pool = "blue" }
green = { pool = "green" }
[router."shop/web"]
hosts = { role = "lb" }
switch = ["/etc/lb/switch"]
active = ["/etc/lb/active"]
bake = "20s"
[acceptance."shop/web".home]
type = "http"
url = "http://{pool}.internal/"
"#;

pub(crate) fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        version: format!("1.{n}.0").parse().unwrap(),
        manifest: Digest::new([n + 1; 32]),
    }
}

pub(crate) fn wanted(n: u8) -> Wanted {
    Wanted {
        environment: "production".parse().unwrap(),
        application: "shop".parse().unwrap(),
        version: format!("1.{n}.0").parse().unwrap(),
        component: None,
        releases: vec![("web".parse().unwrap(), release(n))],
        evidence: BTreeMap::new(),
        declared: BTreeMap::new(),
        no_way_back: false,
        override_freeze: false,
        wait: false,
        confirmed: true,
    }
}

fn failure(why: &str) -> Failure {
    Failure::seen(FailureKind::Check, why)
}

/// A host, as far as its controller can tell.
#[derive(Default)]
struct Server {
    seen: Generation,
    told: Option<Desired>,
    session: Option<u64>,
    slot: Option<Slot>,
    part: Part,
    sends_to: String,
    answered: Generation,
    failed: bool,
    acceptance: Option<AcceptanceReport>,
}

pub(crate) struct Kept(MemoryStore);

impl Kept {
    pub(crate) fn load_all(&self) -> Loaded {
        self.0.load("").unwrap()
    }
}

pub(crate) struct World {
    pub(crate) store: Kept,
    pub(crate) fleet: Fleet,
    pub(crate) now: Moment,
    servers: BTreeMap<HostName, Server>,
    sessions: u64,
    epoch: u64,
    text: String,
    /// How often each router was switched.
    pub(crate) switched: BTreeMap<String, u32>,
    /// Routers whose switch fails.
    pub(crate) broken: BTreeSet<HostName>,
    /// Routers that get nowhere.
    pub(crate) slow: BTreeSet<HostName>,
    /// Releases that fail on hosts.
    pub(crate) bad: BTreeSet<Digest>,
    /// Releases that are not accepted.
    pub(crate) refuses: BTreeSet<Digest>,
    /// Whether no host may change that a router sends to.
    pub(crate) strict: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            store: Kept(MemoryStore::new()),
            fleet: Fleet::new(1, None),
            now: Moment(1_000_000),
            servers: BTreeMap::new(),
            sessions: 0,
            epoch: 1,
            text: ENVIRONMENT.to_owned(),
            switched: BTreeMap::new(),
            broken: BTreeSet::new(),
            slow: BTreeSet::new(),
            bad: BTreeSet::new(),
            refuses: BTreeSet::new(),
            strict: false,
        };
        world.publish(ENVIRONMENT);
        for n in 0..8_u8 {
            let (name, labels): (String, Vec<(&str, &str)>) = match n {
                0..3 => (format!("blue-{n}"), vec![("role", "web"), ("pool", "blue")]),
                3..6 => (
                    format!("green-{}", n - 3),
                    vec![("role", "web"), ("pool", "green")],
                ),
                _ => (format!("lb-{}", n - 6), vec![("role", "lb")]),
            };
            let now = world.now;
            let name = joins(
                &mut world.fleet,
                (&name, n + 50),
                "production",
                &labels,
                now,
            );
            let server = Server {
                sends_to: "blue".to_owned(),
                ..Server::default()
            };
            world.servers.insert(name, server);
        }
        world.turn();
        world.connect_all();
        world.settle();
        world
    }

    pub(crate) fn publish(&mut self, text: &str) {
        self.text = text.to_owned();
        let file = Environment::parse("production.toml", text).unwrap();
        let name = "production".parse().unwrap();
        self.fleet
            .set_environment(&name, 1, text.to_owned(), file, self.now);
    }

    pub(crate) fn router(&self) -> &Router {
        self.fleet.routers.values().next().unwrap()
    }

    // === the controller ===

    /// One round of the driver: what follows, commit, dispatch.
    pub(crate) fn turn(&mut self) {
        self.fleet.advance(self.now);
        let messages = self.fleet.dispatch();
        for batch in self.fleet.drain().unwrap() {
            self.store.0.commit(self.store.0.revision(), batch).unwrap();
        }
        self.fleet.take_audit();
        for (host, desired) in messages {
            let server = self.servers.get_mut(&host).unwrap();
            if server.session.is_some() {
                assert!(
                    desired.generation > server.seen,
                    "{host} was told something older"
                );
                server.seen = desired.generation;
                server.told = Some(desired);
            }
        }
    }

    /// The controller is killed with everything that was not committed, and starts again.
    pub(crate) fn crash(&mut self) {
        let stored = self.store.load_all();
        self.fleet = Fleet::load(&stored, self.epoch, None, self.now).unwrap();
        let text = self.text.clone();
        self.publish(&text);
        let mut names = Vec::new();
        for (name, server) in &mut self.servers {
            if server.session.take().is_some() {
                names.push(name.clone());
            }
        }
        for name in names {
            self.connect(name.as_str());
        }
    }

    /// The controller is killed, and starts again after so long; nobody has come back yet.
    pub(crate) fn down_for(&mut self, seconds: u64) {
        let stored = self.store.load_all();
        self.now = self.now + Span::secs(seconds);
        self.fleet = Fleet::load(&stored, self.epoch, None, self.now).unwrap();
        for server in self.servers.values_mut() {
            server.session = None;
        }
        let text = self.text.clone();
        self.publish(&text);
        self.turn();
    }

    /// The controller comes back from an old copy of its store.
    pub(crate) fn restore(&mut self, kept: &Loaded) {
        self.epoch += 1;
        self.fleet = Fleet::load(kept, self.epoch, None, self.now).unwrap();
        self.store = Kept(MemoryStore::new());
        self.fleet.begin_restored(self.now);
        let text = self.text.clone();
        self.publish(&text);
        for server in self.servers.values_mut() {
            server.session = None;
        }
        self.pass(60);
    }

    pub(crate) fn connect_all(&mut self) {
        for name in self.servers.keys().cloned().collect::<Vec<_>>() {
            self.connect(name.as_str());
        }
    }

    pub(crate) fn connect(&mut self, name: &str) {
        let name: HostName = name.parse().unwrap();
        if self.servers[&name].session.is_some() {
            return;
        }
        self.sessions += 1;
        let report = self.report(&name);
        let session = session(self.sessions);
        let told = self
            .fleet
            .connected(&name, session, report, self.now)
            .unwrap();
        let server = self.servers.get_mut(&name).unwrap();
        server.session = Some(self.sessions);
        if let Some(desired) = told.filter(|it| it.generation >= server.seen) {
            server.seen = desired.generation;
            server.told = Some(desired);
        }
        self.turn();
    }

    pub(crate) fn cut_off(&mut self, name: &str) {
        let name: HostName = name.parse().unwrap();
        if let Some(session) = self.servers.get_mut(&name).unwrap().session.take() {
            self.fleet.lost(&name, SessionId(session), self.now);
            self.turn();
        }
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        let until = self.now + Span::secs(seconds);
        while self.now < until {
            let wake = self.fleet.next_wake().filter(|at| *at > self.now);
            self.now = wake.unwrap_or(until).min(until);
            self.turn();
        }
    }

    // === people ===

    pub(crate) fn deploy(&mut self, n: u8) -> DeploymentId {
        let asked = self.fleet.deploy(&wanted(n), &anna(), self.now).unwrap();
        self.turn();
        match asked {
            Asked::Started(id) => id,
            Asked::NothingToDo => panic!("there is something to do"),
        }
    }

    pub(crate) fn go_back(&mut self, how: &How) -> Result<DeploymentId, Refused> {
        self.back(None, how)
    }

    pub(crate) fn send_all(&mut self, how: &How) -> Result<DeploymentId, Refused> {
        self.back(Some("web"), how)
    }

    fn back(&mut self, component: Option<&str>, how: &How) -> Result<DeploymentId, Refused> {
        let (environment, application) = ("production".parse().unwrap(), "shop".parse().unwrap());
        let component = component.map(|it| it.parse().unwrap());
        let site = (&environment, &application);
        let asked = self
            .fleet
            .go_back(site, component.as_ref(), None, how, &anna(), self.now)?;
        self.turn();
        match asked {
            Asked::Started(id) => Ok(id),
            Asked::NothingToDo => panic!("there is something to do"),
        }
    }

    pub(crate) fn ending(&self, id: DeploymentId) -> Option<Ending> {
        self.fleet.deployments[&id].ended.map(|(_, ending)| ending)
    }

    // === hosts ===

    pub(crate) fn nth(&self, n: usize) -> HostName {
        self.servers
            .keys()
            .nth(n % self.servers.len())
            .unwrap()
            .clone()
    }

    pub(crate) fn set(
        &mut self,
        n: usize,
        on: bool,
        whose: impl Fn(&mut Self) -> &mut BTreeSet<HostName>,
    ) {
        let name = self.nth(n);
        match on {
            true => drop(whose(self).insert(name)),
            false => drop(whose(self).remove(&name)),
        }
    }

    pub(crate) fn by_hand(&mut self, router: &str, pool: &str) {
        let router: HostName = router.parse().unwrap();
        self.servers.get_mut(&router).unwrap().sends_to = pool.to_owned();
    }

    /// Where each router sends.
    pub(crate) fn sends(&self) -> Vec<String> {
        let routers = self
            .servers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("lb"));
        routers.map(|(_, server)| server.sends_to.clone()).collect()
    }

    /// The release that all hosts of a pool run, by its number.
    pub(crate) fn runs(&self, pool: &str) -> Option<u8> {
        let hosts = self
            .servers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(pool));
        let mut all: BTreeSet<_> = hosts.map(|(_, it)| it.part.running.clone()).collect();
        assert_eq!(all.len(), 1, "{pool} is mixed");
        let one = all.pop_first().flatten()?;
        one.version.to_string().split('.').nth(1)?.parse().ok()
    }

    /// Hosts that were given leave to switch and have not done it.
    pub(crate) fn granted(&self) -> Vec<String> {
        let open = self.servers.iter().filter(|(_, server)| {
            let mut told = server.told.iter().flat_map(|it| &it.components);
            told.any(|it| server.part.granted(it).is_some())
        });
        open.map(|(name, _)| name.to_string()).collect()
    }

    fn report(&self, name: &HostName) -> HostReport {
        let server = &self.servers[name];
        let component = server.slot.as_ref().map(|slot| server.part.report(slot));
        let routes = server.told.iter().flat_map(|told| &told.routes);
        HostReport {
            generation: server.seen,
            components: Vec::from_iter(component),
            checks: Results::new(),
            routes: routes
                .map(|route| RouteReport {
                    component: route.component.clone(),
                    answered: server.answered,
                    sends_to: server.sends_to.parse().ok(),
                    failure: server.failed.then(|| failure("the socket is gone")),
                    acceptance: server.acceptance.clone(),
                })
                .collect(),
            inspection: None,
        }
    }

    /// A host does what it was told, and says so.
    pub(crate) fn work(&mut self, name: &HostName) {
        self.switch_release(name);
        self.route(name);
        if self.servers[name].session.is_some() {
            let report = self.report(name);
            self.fleet.reported(name, report, self.now);
        }
        self.turn();
    }

    fn switch_release(&mut self, name: &HostName) {
        let used = self.sends();
        let server = self.servers.get_mut(name).unwrap();
        let Some(told) = server.told.clone() else {
            return;
        };
        for component in told.components {
            server.slot = Some(component.slot.clone());
            let in_time = |it: Grant| self.now <= it.start_by;
            let switches = server.part.granted(&component).is_some_and(in_time);
            let pool = component.slot.pool.as_str();
            let touches = switches && server.part.running != component.run;
            assert!(
                !(self.strict && touches && used.iter().any(|it| it == pool)),
                "{name} is touched, and routers send to {pool}"
            );
            let bad = |it: &ReleaseRef| self.bad.contains(&it.manifest);
            let bad = component.run.as_ref().is_some_and(bad);
            server.part.obey(&component, bad, self.now);
        }
    }

    fn route(&mut self, name: &HostName) {
        let told = self.servers[name].told.clone();
        for route in told.iter().flat_map(|told| &told.routes) {
            if let Some(order) = &route.accept {
                let pool = order.pool.as_str();
                let hosts = self
                    .servers
                    .iter()
                    .filter(|(name, _)| name.as_str().starts_with(pool));
                let mut runs = hosts.filter_map(|(_, it)| it.part.running.as_ref());
                let refused = runs.any(|it| self.refuses.contains(&it.manifest));
                let result = match refused {
                    true => CheckResult::Failed("status 500".to_owned()),
                    false => CheckResult::Passed,
                };
                self.servers.get_mut(name).unwrap().acceptance = Some(AcceptanceReport {
                    id: order.id,
                    results: [("home".parse().unwrap(), result)].into(),
                    failure: None,
                });
            }
            let slow = self.slow.contains(name);
            let broken = self.broken.contains(name);
            let server = self.servers.get_mut(name).unwrap();
            if let Some(order) = route
                .send
                .as_ref()
                .filter(|it| it.id > server.answered && !slow)
            {
                let there = server.sends_to == order.pool.as_str();
                server.answered = order.id;
                server.failed = broken && !there;
                if !broken {
                    server.sends_to = order.pool.to_string();
                    *self.switched.entry(name.to_string()).or_default() += 1;
                }
            }
        }
    }

    /// Every host works once.
    pub(crate) fn round(&mut self) {
        for n in 0..self.servers.len() {
            let name = self.nth(n);
            self.work(&name);
        }
    }

    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        for _ in 0..200 {
            for n in 0..self.servers.len() {
                let name = self.nth(n);
                self.work(&name);
                if wanted(self) {
                    return;
                }
            }
            self.pass(1);
        }
        panic!("never {what}");
    }

    pub(crate) fn settle(&mut self) {
        for _ in 0..60 {
            self.round();
            self.pass(17);
        }
    }
}
