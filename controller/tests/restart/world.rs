//! A small fleet around one controller: servers that do what they are told, and a store that survives.

pub(crate) use super::common::anna;
use super::common::{Part, joins, session};
use std::collections::{BTreeMap, BTreeSet};
use tamer_controller::fleet::Fleet;
use tamer_controller::fleet::deploy::{Asked, Wanted};
use tamer_controller::fleet::hosts::SessionId;
use tamer_controller::store::Store;
use tamer_controller::store::memory::MemoryStore;
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{
    ActivationStatus, ComponentReport, Desired, Failure, FailureKind, HostReport,
};
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::generation::Generation;
use tamer_core::id::HostName;
use tamer_core::moment::{Moment, Span};
use tamer_core::release::ReleaseRef;
use tamer_core::schema::{
    Declared, MigrationOrder, MigrationReport, MigrationStatus, Record, Task,
};

pub(crate) const ENVIRONMENT: &str = r#"
[place]
"shop/web" = { role = "web" }
"shop/worker" = { role = "web" }
[policy]
canary = 1
max_parallel = 2
bake = "5s"
"#;

pub(crate) fn release(component: &str, n: u8) -> ReleaseRef {
    let salt = if component == "web" { 0 } else { 100 };
    ReleaseRef {
        version: format!("1.{n}.0").parse().unwrap(),
        manifest: Digest::new([n + 1 + salt; 32]),
    }
}

pub(crate) fn wanted(n: u8) -> Wanted {
    Wanted {
        environment: "production".parse().unwrap(),
        application: "shop".parse().unwrap(),
        version: format!("1.{n}.0").parse().unwrap(),
        component: None,
        // The worker first: the web needs it.
        releases: ["worker", "web"]
            .map(|c| (c.parse().unwrap(), release(c, n)))
            .to_vec(),
        evidence: BTreeMap::new(),
        declared: BTreeMap::new(),
        no_way_back: false,
        override_freeze: false,
        confirmed: false,
        wait: false,
    }
}

/// What a release says of the database.
fn declared(component: &str, n: u8) -> Declared {
    let programs = match component {
        "worker" => format!(
            "[schemas.main]\ncomponent = \"worker\"\ncurrent = \"bin/current\"\ntarget = {n}\nup = \"bin/up\"\ndown = \"bin/down\"\n"
        ),
        _ => String::new(),
    };
    let text = format!("[works_with]\nmain = \"{n}..={}\"\n{programs}", n + 1);
    toml::from_str(&text).unwrap()
}

/// A server, as far as its controller can tell.
#[derive(Default)]
pub(crate) struct Server {
    seen: Generation,
    told: Option<Desired>,
    components: BTreeMap<String, Part>,
    sessions: u64,
    session: u64,
}

/// A database of the application: version N of it wants N and works with the one after; the worker's
/// releases carry the programs.
#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) version: u64,
    /// The orders that were begun, and where: each host numbers its own.
    pub(crate) begun: Vec<(HostName, MigrationOrder)>,
    /// The server that begins next is killed in the middle: whether the database has changed by then.
    pub(crate) death: Option<bool>,
}

impl Database {
    /// A server carries an order out, or is killed in the middle.
    fn migrate(&mut self, name: &HostName, order: &MigrationOrder, now: Moment) -> MigrationStatus {
        let failure = |kind| Failure {
            kind,
            message: "because".into(),
            check: None,
            output: String::new(),
        };
        let not_begun = |found, kind| MigrationStatus::NotBegun {
            found,
            failure: failure(kind),
        };
        if now > order.start_by {
            return not_begun(None, FailureKind::Interrupted);
        }
        if order.task == Task::Read || self.version == order.to {
            return MigrationStatus::Done(self.version);
        }
        if self.version != order.from {
            return not_begun(Some(self.version), FailureKind::Migration);
        }
        self.begun.push((name.clone(), order.clone()));
        let death = self.death.take();
        if death != Some(false) {
            self.version = order.to;
        }
        match death {
            None => MigrationStatus::Done(self.version),
            Some(_) => MigrationStatus::Unknown {
                version: Some(self.version),
                failure: failure(FailureKind::Interrupted),
            },
        }
    }
}

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) fleet: Fleet,
    pub(crate) now: Moment,
    /// How far the servers' clocks are ahead of the controller's.
    pub(crate) ahead: Span,
    pub(crate) servers: BTreeMap<HostName, Server>,
    pub(crate) bad: BTreeSet<Digest>,
    pub(crate) sessions: u64,
    pub(crate) database: Option<Database>,
    /// Servers that are cut off.
    pub(crate) away: BTreeSet<HostName>,
    /// What was written down outside the store.
    pub(crate) log: Vec<Record>,
}

impl World {
    pub(crate) fn new(hosts: usize) -> Self {
        let mut world = Self {
            store: MemoryStore::new(),
            fleet: Fleet::new(1, None),
            now: Moment(1_000_000),
            ahead: Span::secs(0),
            servers: BTreeMap::new(),
            bad: BTreeSet::new(),
            sessions: 0,
            database: None,
            away: BTreeSet::new(),
            log: Vec::new(),
        };
        world.publish();
        for n in 0..hosts {
            let (name, now) = (format!("web-{n}"), world.now);
            let (joining, role) = ((name.as_str(), n as u8), [("role", "web")]);
            let name = joins(&mut world.fleet, joining, "production", &role, now);
            world.servers.insert(name, Server::default());
        }
        world.turn();
        world.connect_all();
        world
    }

    pub(crate) fn publish(&mut self) {
        let file = Environment::parse("production.toml", ENVIRONMENT).unwrap();
        let name = "production".parse().unwrap();
        self.fleet
            .set_environment(&name, 1, ENVIRONMENT.to_owned(), file, self.now);
    }

    /// One round of the driver: what follows, commit, dispatch.
    pub(crate) fn turn(&mut self) {
        self.fleet.advance(self.now);
        let messages = self.fleet.dispatch();
        self.log.extend(self.fleet.take_records());
        for batch in self.fleet.drain().unwrap() {
            self.store.commit(self.store.revision(), batch).unwrap();
        }
        self.fleet.take_audit();
        for (host, desired) in messages {
            if self.away.contains(&host) {
                continue;
            }
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
    pub(crate) fn crash(&mut self) {
        let stored = self.store.load("").unwrap();
        self.fleet = Fleet::load(&stored, 1, None, self.now).unwrap();
        self.fleet.remember(&self.log);
        self.publish();
        self.connect_all();
    }

    pub(crate) fn connect_all(&mut self) {
        let names: Vec<HostName> = self.servers.keys().cloned().collect();
        for name in names {
            self.connect(&name);
        }
    }

    fn connect(&mut self, name: &HostName) {
        self.sessions += 1;
        self.away.remove(name);
        let report = self.report(name);
        let server = self.servers.get_mut(name).unwrap();
        server.sessions += 1;
        server.session = self.sessions;
        let session = session(self.sessions);
        if let Some(desired) = self
            .fleet
            .connected(name, session, report, self.now)
            .unwrap()
        {
            assert!(
                desired.generation >= server.seen,
                "{name} was told something older after a restart"
            );
            server.seen = desired.generation;
            server.told = Some(desired);
        }
        self.turn();
    }

    /// A server is cut off: it goes on with what it was told, and nobody hears of it.
    pub(crate) fn cut_off(&mut self, n: usize) {
        let name = self.nth(n);
        let session = SessionId(self.servers[&name].session);
        self.away.insert(name.clone());
        self.fleet.lost(&name, session, self.now);
        self.turn();
    }

    /// The server that was told to migrate, and has not begun.
    pub(crate) fn leased(&self) -> Option<usize> {
        self.servers.values().position(|server| {
            let mut told = server.told.iter().flat_map(|told| &told.components);
            told.any(|component| {
                let part = server.components.get(component.slot.component.as_str());
                let known = part.and_then(|part| part.migration.as_ref());
                let order = component.migrate.as_ref();
                order.is_some_and(|order| {
                    order.task != Task::Read && known.is_none_or(|known| known.id < order.id)
                })
            })
        })
    }

    /// The grant in what a server was told last.
    pub(crate) fn holds_a_grant(&self, n: usize) -> Option<Generation> {
        let told = self.servers[&self.nth(n)].told.as_ref();
        let mut components = told.into_iter().flat_map(|told| &told.components);
        components.find_map(|component| Some(component.grant?.id))
    }

    /// The newest state that a server was told.
    pub(crate) fn seen(&self, n: usize) -> Generation {
        self.servers[&self.nth(n)].seen
    }

    /// The grant under which a server came to run what it should.
    pub(crate) fn done(&self, n: usize) -> Option<Generation> {
        let mut parts = self.servers[&self.nth(n)].components.values();
        parts.find_map(|part| {
            let last = part.activation.as_ref()?;
            (last.status == ActivationStatus::Done).then_some(last.grant)
        })
    }

    fn nth(&self, n: usize) -> HostName {
        let mut names = self.servers.keys();
        names.nth(n % self.servers.len()).unwrap().clone()
    }

    pub(crate) fn report(&self, name: &HostName) -> HostReport {
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
                    checks: Results::from([("home".parse().unwrap(), CheckResult::Passed)]),
                    ..part.report(&component.slot)
                }
            });
        HostReport {
            routes: vec![],
            inspection: None,
            generation: server.seen,
            components: components.collect(),
            checks: Results::new(),
        }
    }

    /// A server does what it was told, and says so; the controller is killed when it has written down what
    /// follows from that for databases, and before anything else is stored.
    pub(crate) fn work_and_crash(&mut self, n: usize) {
        self.do_work(n);
        self.fleet.advance(self.now);
        self.log.extend(self.fleet.take_records());
        self.crash();
    }

    /// A server does what it was told, and says so.
    pub(crate) fn work(&mut self, n: usize) {
        self.do_work(n);
        self.turn();
    }

    fn do_work(&mut self, n: usize) {
        let name = self.nth(n);
        let server = self.servers.get_mut(&name).unwrap();
        for component in server.told.iter().flat_map(|told| &told.components) {
            let part = server
                .components
                .entry(component.slot.component.to_string())
                .or_default();
            if let (Some(order), Some(database)) = (&component.migrate, &mut self.database)
                && part
                    .migration
                    .as_ref()
                    .is_none_or(|known| known.id < order.id)
            {
                part.migration = Some(MigrationReport {
                    id: order.id,
                    status: database.migrate(&name, order, self.now),
                });
            }
            let bad = |it: &ReleaseRef| self.bad.contains(&it.manifest);
            let bad = component.run.as_ref().is_some_and(bad);
            part.obey(component, bad, self.now + self.ahead);
        }
        if !self.away.contains(&name) {
            let report = self.report(&name);
            self.fleet.reported(&name, report, self.now);
        }
    }

    pub(crate) fn run(&mut self, n: u8) -> Option<tamer_core::rollout::deployment::DeploymentId> {
        let mut wanted = wanted(n);
        if self.database.is_some() {
            let all = wanted.releases.iter();
            wanted.declared = all
                .map(|(component, release)| (release.manifest, declared(component.as_str(), n)))
                .collect();
        }
        match self.fleet.deploy(&wanted, &anna(), self.now) {
            Ok(Asked::Started(id)) => {
                self.turn();
                Some(id)
            }
            _ => None,
        }
    }

    pub(crate) fn settle(&mut self) {
        for _ in 0..60 {
            for n in 0..self.servers.len() {
                self.work(n);
            }
            self.now = self.now + Span::secs(7);
            self.turn();
        }
    }

    /// What every server runs, by the versions of the database that it works with.
    pub(crate) fn works_with(&self, version: u64) -> bool {
        let parts = self
            .servers
            .values()
            .flat_map(|server| server.components.iter());
        let running = parts.filter_map(|(_, part)| part.running.as_ref());
        let mut numbers = running.map(|release| {
            let text = release.version.to_string();
            text.split('.').nth(1).unwrap().parse::<u64>().unwrap()
        });
        numbers.all(|n| (n..=n + 1).contains(&version))
    }

    pub(crate) fn running(&self, component: &str) -> BTreeSet<Option<ReleaseRef>> {
        let of = |server: &Server| {
            server
                .components
                .get(component)
                .and_then(|part| part.running.clone())
        };
        self.servers.values().map(of).collect()
    }
}
