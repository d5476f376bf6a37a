//! A controller that lies. It has what a controller has: the port, the online keys, whatever was ever published,
//! and every answer. The agent here is whole, from its line to its disk: whatever it is told, it refuses what the
//! team did not sign for this environment, says so in its report, and counts it.

mod archives;
mod evidence;
mod signed;

use crate::published::{Fault, Team};
use crate::world::{Line, PATIENCE, Port};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tamer_agent::clock::ControllerClock;
use tamer_agent::config::Config;
use tamer_agent::converge::{Converge, Hands};
use tamer_agent::host::services::Systemd;
use tamer_agent::link::Link;
use tamer_agent::metrics::{KindLabel, Metrics};
use tamer_agent::own::Own;
use tamer_agent::remote::Remote;
use tamer_agent::remote::http::Http;
use tamer_agent::source::Real;
use tamer_core::desired::{Desired, DesiredComponent, Grant, Purpose, Slot};
use tamer_core::digest::Digest;
use tamer_core::evidence::EvidenceKind;
use tamer_core::generation::Generation;
use tamer_core::moment::Moment;
use tamer_core::release::{Manifest, ReleaseRef};
use tamer_kit::hash::sha256;
use tamer_proto::v1::controller_message::Kind;
use tamer_proto::v1::{self, ComponentReport};
use tamer_release::attest::bundle::verifying_key;
use tamer_release::attest::statement::{Approved, Run};
use tamer_release::attest::{Claim, Statement, Subject, seal};
use tamer_release::proofs;
use tamer_release::trust::{NewTarget, SigningKey};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const PLAIN: &str = "[place]\n\"shop/web\" = { role = \"web\" }\n";

/// A controller that lies, and the agent that listens to it.
struct Liar {
    team: Team,
    _port: Port,
    dir: TempDir,
    line: Line,
    metrics: Metrics,
    /// In which epoch it speaks.
    epoch: u64,
    said: u64,
    /// Whether it says that people have to approve it first.
    waits: bool,
    /// What it is to keep of what came.
    keep: Vec<Digest>,
    /// What it had refused before it was told that.
    before: u64,
    _stop: DropGuard,
}

impl Liar {
    /// So far everything is as it should be: web 1.0.0 is signed and has come, under version 1 of the
    /// environment's file.
    async fn new() -> (Self, Manifest, ReleaseRef) {
        Self::in_environment(PLAIN).await
    }

    async fn in_environment(text: &str) -> (Self, Manifest, ReleaseRef) {
        let team = Team::new();
        team.environment(text, 1);
        let (manifest, bytes) = team.pack("1.0.0");
        let release = team.sign("web", "1.0.0", &bytes, 1);
        let port = Port::open(team.served.router()).await;
        let dir = tempfile::tempdir().unwrap();
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let shown = watch::channel(port.ca.keys().shown().unwrap()).0;
        let http = Arc::new(Http::new(port.address.clone(), shown.subscribe()).unwrap());
        let config: Config = {
            let text = format!(
                "controller = \"{}\"\nname = \"web-1\"\nenvironment = \"staging\"\nrootless = true\n\
                 disk_reserve = \"0%\"\nstate = \"{1}/state\"\nroot_prefix = \"{1}\"\n",
                port.address,
                dir.path().display()
            );
            tamer_core::text::parse("agent.toml", &text).unwrap()
        };
        let environment: tamer_core::id::EnvironmentName = "staging".parse().unwrap();
        let source = Remote::new(
            &config.state,
            environment.clone(),
            team.pin,
            http,
            metrics.clone(),
        );
        let clock = Arc::new(ControllerClock::default());
        let told = Arc::clone(&clock);
        let (fetching, fetched) = watch::channel(None);
        let hands = Hands {
            source: Arc::new(source),
            probe: Arc::new(Real),
            services: Arc::new(Systemd),
            own: Arc::new(Own::command(&config.state)),
            clock: Arc::new(move || told.now()),
            fetching,
            config: Arc::new(config),
        };
        let (desired, incoming) = watch::channel(None);
        let (converge, reports, _) = Converge::open(hands, incoming).await.unwrap();
        let link = Link {
            welcomed: watch::channel(false).0,
            authorities: watch::channel(None).0,
            address: port.address.clone(),
            name: "web-1".parse().unwrap(),
            environment,
            trust_root: team.pin,
            shown: shown.subscribe(),
            desired,
            reports,
            fetching: fetched,
            clock,
            refused: Arc::default(),
            metrics: metrics.clone(),
        };
        let ending = stop.clone();
        tokio::spawn(async move {
            // As long as it is there, its certificate is good.
            let _shown = shown;
            link.run(ending).await;
        });
        tokio::spawn(converge.run(stop.clone()));
        let line = port.line().await;
        line.welcome(tamer_kit::clock::now().0).await;
        let this = Self {
            team,
            _port: port,
            dir,
            line,
            metrics,
            epoch: 1,
            said: 0,
            waits: false,
            keep: Vec::new(),
            before: 0,
            _stop: stop.drop_guard(),
        };
        (this, manifest, release)
    }

    /// Tells the agent to run a release, under this version of the environment's file.
    async fn run(&mut self, slot: Slot, release: &ReleaseRef, environment_version: u64) {
        self.said += 1;
        self.before = self.counts();
        let desired = self.desired(self.said, "staging", slot, release, environment_version);
        self.line.say(Kind::Desired((&desired).into())).await;
    }

    /// The same, with leave to switch to it.
    async fn grant(&mut self, release: &ReleaseRef, purpose: Purpose) {
        self.said += 1;
        self.before = self.counts();
        let mut desired = self.desired(self.said, "staging", slot("shop", "web"), release, 1);
        desired.components[0].grant = Some(Grant {
            id: desired.generation,
            start_by: Moment(tamer_kit::clock::now().0 + 600_000),
            purpose,
        });
        self.line.say(Kind::Desired((&desired).into())).await;
    }

    /// The grant that it was given last ends well, and the release runs.
    async fn runs(&mut self, release: &ReleaseRef) {
        let (wanted, said) = (release.manifest, self.said);
        let so = |it: &v1::ReleaseRef| it.manifest[..] == wanted.as_bytes()[..];
        // A switch that has not ended yet would be withdrawn by another wish.
        let done = |it: &v1::Activation| {
            it.grant.map(|id| id.counter) == Some(said)
                && matches!(it.status, Some(v1::activation::Status::Done(_)))
        };
        self.said(|it| {
            it.running.as_ref().is_some_and(so) && it.activation.as_ref().is_some_and(done)
        })
        .await;
    }

    /// The grant that it was given last ends refused, with this kind and in these words; nothing runs.
    async fn refused_grant(&mut self, kind: &str, words: &str) {
        let report = self.ended_refused(kind, words).await;
        assert!(report.running.is_none());
        self.counted().await;
    }

    async fn ended_refused(&mut self, kind: &str, words: &str) -> ComponentReport {
        let so = |it: &v1::Failure| it.kind == kind && it.message.contains(words);
        let said = self.said;
        self.said(|it| {
            let of_it = it.activation.as_ref();
            let of_it = of_it.filter(|it| it.grant.map(|id| id.counter) == Some(said));
            of_it.is_some_and(
                |it| matches!(&it.status, Some(v1::activation::Status::Refused(why)) if so(why)),
            )
        })
        .await
    }

    /// The same, where this release runs and goes on to.
    async fn refused_to_move(&mut self, kind: &str, words: &str, stays: &ReleaseRef) {
        let report = self.ended_refused(kind, words).await;
        let running = report.running.map(|it| it.manifest);
        assert_eq!(running, Some(stays.manifest.as_bytes().to_vec()));
        self.counted().await;
    }

    fn desired(
        &self,
        counter: u64,
        environment: &str,
        slot: Slot,
        release: &ReleaseRef,
        environment_version: u64,
    ) -> Desired {
        Desired {
            inspect: None,
            routes: vec![],
            generation: Generation {
                epoch: self.epoch,
                counter,
            },
            environment: environment.parse().unwrap(),
            environment_version,
            components: vec![DesiredComponent {
                slot,
                run: Some(release.clone()),
                stage: Vec::new(),
                keep: self.keep.clone(),
                grant: None,
                migrate: None,
                waits_for_approval: self.waits,
                adopted: None,
                repair: None,
            }],
        }
    }

    /// What the agent says of what it was told last, as soon as that is `what` is waited for.
    async fn said(&mut self, what: impl Fn(&ComponentReport) -> bool) -> ComponentReport {
        let last = std::cell::RefCell::new(Vec::new());
        let heard = async {
            loop {
                let report = self.line.report().await.expect("the agent is there");
                if report.generation.map(|it| it.counter) != Some(self.said) {
                    continue;
                }
                if let Some(found) = report.components.iter().find(|it| what(it)) {
                    return found.clone();
                }
                last.replace(report.components);
            }
        };
        let found = tokio::time::timeout(PATIENCE, heard).await;
        found.unwrap_or_else(|_| panic!("{:?}", last.borrow()))
    }

    async fn staged(&mut self, release: &ReleaseRef) {
        self.run(slot("shop", "web"), release, 1).await;
        let wanted = release.manifest;
        self.said(|it| it.staged.iter().any(|it| it[..] == wanted.as_bytes()[..]))
            .await;
        self.keep.push(wanted);
    }

    /// The agent refuses what it was told last: it says so with this kind and in these words, counts it, and
    /// runs nothing.
    async fn refused(&mut self, kind: &str, words: &str) {
        // What it said of an earlier lie may stand there until it has tried again: then it counts again.
        let so = |it: &v1::Failure| it.kind == kind && it.message.contains(words);
        let report = self
            .said(|it| it.staging_failure.as_ref().is_some_and(so))
            .await;
        assert!(report.running.is_none() && report.activation.is_none());
        self.counted().await;
        let series = format!("tamer_agent_refused_total{{kind=\"{kind}\"}}");
        let text = self.metrics.text();
        assert!(text.contains(&series), "{text}");
    }

    /// It has refused something since it was told.
    async fn counted(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.counts() <= self.before {
            assert!(
                Instant::now() < deadline,
                "not counted: {}",
                self.metrics.text()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn counts(&self) -> u64 {
        let of = |kind| {
            self.metrics
                .refusals
                .get(&KindLabel { kind })
                .map_or(0, |it| it.get())
        };
        ["trust", "evidence", "fetch"].map(of).iter().sum()
    }

    /// No release but these is on the disk.
    fn holds(&self, versions: &[&str]) {
        let releases = std::fs::read_dir(self.dir.path().join("srv/shop/web/releases"));
        let names = releases.into_iter().flatten().flatten();
        let mut names: Vec<_> = names
            .map(|it| it.file_name().into_string().unwrap())
            .collect();
        names.retain(|name| !name.starts_with('.'));
        assert_eq!(names.len(), versions.len(), "{names:?}");
        for version in versions {
            let part = format!("-{version}-");
            assert!(names.iter().any(|name| name.contains(&part)), "{names:?}");
        }
    }

    /// The only release there is refused, and nothing of it stays.
    async fn refuses(mut self, release: &ReleaseRef, kind: &'static str, words: &str) {
        self.run(slot("shop", "web"), release, 1).await;
        self.refused(kind, words).await;
        self.holds(&[]);
    }
}

fn slot(application: &str, component: &str) -> Slot {
    Slot {
        application: application.parse().unwrap(),
        component: component.parse().unwrap(),
        pool: Default::default(),
    }
}

fn release(version: &str, manifest: &[u8]) -> ReleaseRef {
    ReleaseRef {
        version: version.parse().unwrap(),
        manifest: sha256(manifest),
    }
}

#[tokio::test]
async fn what_an_honest_controller_gives_is_taken() {
    let (mut liar, _, one) = Liar::new().await;
    liar.staged(&one).await;
    liar.holds(&["1.0.0"]);
    assert!(!liar.metrics.text().contains("refused_total{"));
}

#[tokio::test]
async fn whoever_fetches_from_a_slow_server_says_how_far_it_has_come() {
    let (mut liar, manifest, one) = Liar::new().await;
    let (path, archive) = liar.team.archive(&manifest);
    let served = Arc::clone(&liar.team.served);
    served.fault(path, Fault::Slow);
    liar.run(slot("shop", "web"), &one, 1).await;
    let mut before = 0;
    for given in [archive.len() / 4, archive.len() / 2] {
        served.allowed.send_replace(given);
        let more = |it: &v1::Transfer| it.done > before;
        let report = liar.said(|it| it.transfer.as_ref().is_some_and(more)).await;
        let transfer = report.transfer.unwrap();
        assert!(transfer.done <= given as u64 && transfer.total <= archive.len() as u64);
        assert_eq!(transfer.release, one.manifest.as_bytes());
        assert_eq!(report.staged, Vec::<Vec<u8>>::new());
        before = transfer.done;
    }
    served.allowed.send_replace(archive.len());
    let staged = one.manifest.as_bytes();
    liar.said(|it| it.staged.iter().any(|it| it[..] == staged[..]) && it.transfer.is_none())
        .await;
}
