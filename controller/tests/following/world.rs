//! Two environments around one controller, of which one follows the other: servers that do what they are told, virtual
//! time, and a store that survives.

pub(crate) use super::common::anna;
use super::common::{Part, joins, session};
use std::collections::{BTreeMap, BTreeSet};
use tamer_controller::audit::Entry;
use tamer_controller::fleet::Fleet;
use tamer_controller::fleet::auto::{Due, Following};
use tamer_controller::fleet::back::How;
use tamer_controller::fleet::deploy::{Asked, Evidence, Wanted};
use tamer_controller::store::Store;
use tamer_controller::store::memory::MemoryStore;
use tamer_core::check::Results;
use tamer_core::desired::{ComponentReport, Desired, HostReport};
use tamer_core::digest::Digest;
use tamer_core::drift::Drift;
use tamer_core::environment::Environment;
use tamer_core::evidence::EvidenceKind;
use tamer_core::generation::Generation;
use tamer_core::id::{ApplicationName, EnvironmentName, HostName};
use tamer_core::moment::{Moment, Span};
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::deployment::{Deployment, DeploymentId};

const COMMON: &str = "[place]\n\"shop/web\" = {}\n[policy]\nmax_parallel = 1\n";

/// How long a version bakes in staging before it comes to production.
pub(crate) const BAKE: Span = Span::secs(7200);

pub(crate) fn name(environment: &str) -> EnvironmentName {
    environment.parse().unwrap()
}

pub(crate) fn shop() -> ApplicationName {
    "shop".parse().unwrap()
}

pub(crate) fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        version: format!("1.{n}.0").parse().unwrap(),
        manifest: Digest::new([n + 1; 32]),
    }
}

#[derive(Default)]
struct Server {
    environment: String,
    seen: Generation,
    told: Option<Desired>,
    part: Part,
    drifts: bool,
}

pub(crate) struct World {
    store: MemoryStore,
    pub(crate) fleet: Fleet,
    pub(crate) now: Moment,
    servers: BTreeMap<HostName, Server>,
    sessions: u64,
    /// What is published, by its number.
    pub(crate) published: u8,
    /// Releases that fail in production.
    pub(crate) bad: BTreeSet<u8>,
    /// Whether what is proven of releases is what production demands.
    pub(crate) proven: bool,
    production: String,
    pub(crate) audit: Vec<Entry>,
}

impl World {
    /// Production with these lines in front of its tables.
    pub(crate) fn new(auto: &str) -> Self {
        let mut world = Self {
            store: MemoryStore::new(),
            fleet: Fleet::new(1, None),
            now: Moment(1_790_000_000_000),
            servers: BTreeMap::new(),
            sessions: 0,
            published: 0,
            bad: BTreeSet::new(),
            proven: true,
            production: String::new(),
            audit: Vec::new(),
        };
        world.production(auto);
        for environment in ["staging", "production", "production"] {
            world.joins(environment);
        }
        world
    }

    /// A server joins this environment.
    pub(crate) fn joins(&mut self, environment: &str) {
        let n = self.servers.len();
        let (name, now) = (format!("web-{n}"), self.now);
        let host = joins(&mut self.fleet, (&name, n as u8), environment, &[], now);
        let server = Server {
            environment: environment.to_owned(),
            ..Server::default()
        };
        self.servers.insert(host, server);
        self.turn();
        self.connect(environment);
    }

    /// Production's file is applied anew.
    pub(crate) fn production(&mut self, auto: &str) {
        self.production = format!("{COMMON}{auto}\n");
        self.apply_files();
    }

    fn apply_files(&mut self) {
        for (environment, text) in [
            ("staging", COMMON),
            ("production", &self.production),
            ("elsewhere", COMMON),
        ] {
            let file = format!("environments/{environment}.toml");
            let parsed = Environment::parse(&file, text).unwrap();
            let text = text.to_owned();
            self.fleet
                .set_environment(&name(environment), 1, text, parsed, self.now);
        }
    }

    /// One round of the driver.
    pub(crate) fn turn(&mut self) {
        let turn = self.fleet.turn(self.now).unwrap();
        for batch in turn.batches {
            self.store.commit(self.store.revision(), batch).unwrap();
        }
        self.audit.extend(turn.audit);
        for (host, desired) in turn.messages {
            let server = self.servers.get_mut(&host).unwrap();
            server.seen = desired.generation;
            server.told = Some(desired);
        }
    }

    /// The controller is killed with everything that was not committed, and starts again.
    pub(crate) fn crash(&mut self) {
        self.starts_anew();
        self.connect("staging");
        self.connect("production");
    }

    /// The same, and nobody is back yet.
    pub(crate) fn starts_anew(&mut self) {
        let stored = self.store.load("").unwrap();
        self.fleet = Fleet::load(&stored, 1, None, self.now).unwrap();
        self.apply_files();
        self.take_in_published();
        self.turn();
    }

    pub(crate) fn publish(&mut self, until: u8) {
        self.published = self.published.max(until + 1);
        self.take_in_published();
        self.turn();
    }

    fn take_in_published(&mut self) {
        let versions = (0..self.published).map(|n| release(n).version).collect();
        self.fleet.set_published(shop(), versions);
    }

    /// The servers of an environment are back.
    pub(crate) fn connect(&mut self, environment: &str) {
        let here = self.servers.iter();
        let here = here.filter(|(_, server)| server.environment == environment);
        for name in here.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.sessions += 1;
            let session = session(self.sessions);
            let report = self.report(&name);
            let told = self
                .fleet
                .connected(&name, session, report, self.now)
                .unwrap();
            if let Some(desired) = told {
                let server = self.servers.get_mut(&name).unwrap();
                server.seen = desired.generation;
                server.told = Some(desired);
            }
            self.turn();
        }
    }

    fn report(&self, name: &HostName) -> HostReport {
        let server = &self.servers[name];
        let told = server.told.iter().flat_map(|told| &told.components);
        let components = told.map(|component| ComponentReport {
            drift: server.drifts.then(|| Drift {
                digest: Digest::new([9; 32]),
                total: 1,
                differences: Vec::new(),
            }),
            ..server.part.report(&component.slot)
        });
        HostReport {
            generation: server.seen,
            components: components.collect(),
            routes: vec![],
            inspection: None,
            checks: Results::new(),
        }
    }

    /// Every server does what it was told, and says so; until nothing moves any more. Time stands still, but for what
    /// a rollout takes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..8 {
            let names: Vec<HostName> = self.servers.keys().cloned().collect();
            for name in names {
                self.work(&name);
                let report = self.report(&name);
                self.fleet.reported(&name, report, self.now);
                self.turn();
            }
        }
    }

    fn work(&mut self, name: &HostName) {
        let server = self.servers.get_mut(name).unwrap();
        for component in server.told.iter().flat_map(|told| &told.components) {
            let fails = |n: &u8| component.run.as_ref() == Some(&release(*n));
            let bad = server.environment == "production" && self.bad.iter().any(fails);
            server.part.obey(component, bad, self.now);
        }
    }

    pub(crate) fn wanted(&self, environment: &str, n: u8) -> Wanted {
        let proven = BTreeSet::from([EvidenceKind::Build]);
        let evidence = Evidence {
            proven: if self.proven { proven } else { BTreeSet::new() },
            ..Evidence::default()
        };
        Wanted {
            environment: name(environment),
            application: shop(),
            version: release(n).version,
            component: None,
            releases: vec![("web".parse().unwrap(), release(n))],
            evidence: BTreeMap::from([(release(n).manifest, evidence)]),
            declared: BTreeMap::new(),
            no_way_back: false,
            override_freeze: false,
            confirmed: false,
            wait: false,
        }
    }

    /// A person deploys, to the end.
    pub(crate) fn deploys(&mut self, environment: &str, n: u8) {
        let wanted = self.wanted(environment, n);
        self.fleet.deploy(&wanted, &anna(), self.now).unwrap();
        self.turn();
        self.settle();
    }

    /// A person goes back to what ran before, to the end.
    pub(crate) fn goes_back(&mut self, environment: &str) {
        let (environment, shop) = (name(environment), shop());
        let how = How::default();
        self.fleet
            .go_back((&environment, &shop), None, None, &how, &anna(), self.now)
            .unwrap();
        self.turn();
        self.settle();
    }

    /// What follows by itself is begun, as the controller does it, and goes to its end.
    pub(crate) fn follow(&mut self) -> usize {
        let mut begun = 0;
        loop {
            let (due, _) = self.fleet.due(self.now);
            let mut went_on = false;
            for one in due {
                went_on |= self.begins(&one);
            }
            self.turn();
            if !went_on {
                return begun;
            }
            begun += 1;
            self.settle();
        }
    }

    pub(crate) fn begins(&mut self, due: &Due) -> bool {
        let n = (0..self.published).find(|n| release(*n).version == due.version);
        let wanted = self.wanted("production", n.unwrap());
        matches!(
            self.fleet.deploy_by_itself(&wanted, self.now),
            Ok(Some(Asked::Started(_)))
        )
    }

    pub(crate) fn later(&mut self, span: Span) {
        self.now = self.now + span;
        self.turn();
    }

    pub(crate) fn drifts(&mut self, n: usize, drifts: bool) {
        let name: HostName = format!("web-{n}").parse().unwrap();
        self.servers.get_mut(&name).unwrap().drifts = drifts;
        self.settle();
    }

    /// What every host of an environment runs.
    pub(crate) fn runs(&self, environment: &str) -> Option<u8> {
        let here = self
            .servers
            .values()
            .filter(|it| it.environment == environment);
        let all: BTreeSet<_> = here.map(|it| it.part.running.clone()).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        let running = all.into_iter().next().flatten()?;
        (0..self.published).find(|n| release(*n) == running)
    }

    /// What production waits for.
    pub(crate) fn waits(&self) -> String {
        let all = self.fleet.following(None, self.now);
        match &all[&(name("production"), shop())] {
            Following::Due(version) => format!("{version} is due"),
            Following::Waits { why, .. } => why.clone(),
        }
    }

    pub(crate) fn newest(&self) -> (DeploymentId, &Deployment) {
        let (id, deployment) = self.fleet.deployments.iter().next_back().unwrap();
        (*id, deployment)
    }

    pub(crate) fn by_itself(&self) -> usize {
        let all = self.fleet.deployments.values();
        all.filter(|it| it.by.starts_with("auto ")).count()
    }
}
