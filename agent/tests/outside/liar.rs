//! A controller that lies. It has what a controller has: the port, the online keys, whatever was ever published,
//! and every answer. The agent here is whole, from its line to its disk: whatever it is told, it refuses what the
//! team did not sign for this environment, says so in its report, and counts it.

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
use tamer_core::desired::{Desired, DesiredComponent, Slot};
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
    said: u64,
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
        let shown = watch::channel(port.ca.keys().client_config().unwrap()).0;
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
        let hands = Hands {
            source: Arc::new(source),
            probe: Arc::new(Real),
            services: Arc::new(Systemd),
            own: Arc::new(Own::command(&config.state)),
            clock: Arc::new(move || told.now()),
            config: Arc::new(config),
        };
        let (desired, incoming) = watch::channel(None);
        let (converge, reports, _) = Converge::open(hands, incoming).await.unwrap();
        let link = Link {
            welcomed: watch::channel(false).0,
            address: port.address.clone(),
            name: "web-1".parse().unwrap(),
            environment,
            trust_root: team.pin,
            shown: shown.subscribe(),
            desired,
            reports,
            clock,
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
            said: 0,
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
            generation: Generation { epoch: 1, counter },
            environment: environment.parse().unwrap(),
            environment_version,
            components: vec![DesiredComponent {
                slot,
                run: Some(release.clone()),
                stage: Vec::new(),
                keep: self.keep.clone(),
                grant: None,
                migrate: None,
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
async fn an_unsigned_release_is_refused() {
    let (liar, ..) = Liar::new().await;
    let (_, bytes) = liar.team.pack("2.0.0");
    liar.team.blob(&bytes);
    liar.refuses(&release("2.0.0", &bytes), "trust", "no signed release")
        .await;
}

#[tokio::test]
async fn a_release_that_the_controller_signed_itself_is_refused() {
    let (liar, ..) = Liar::new().await;
    let (_, bytes) = liar.team.pack("2.0.0");
    liar.team.blob(&bytes);
    let (shop, web) = ("shop".parse().unwrap(), "web".parse().unwrap());
    let target = NewTarget::release(&shop, &web, &"2.0.0".parse().unwrap(), &bytes);
    liar.team
        .publish_as("app/shop", target, 2, &liar.team.online);
    liar.refuses(
        &release("2.0.0", &bytes),
        "trust",
        "targets.json is refused",
    )
    .await;
}

#[tokio::test]
async fn a_release_below_the_signed_minimum_is_refused() {
    let text = format!("{PLAIN}[minimum]\n\"shop/web\" = \"2.0.0\"\n");
    let (liar, _, one) = Liar::in_environment(&text).await;
    liar.refuses(&one, "trust", "signed minimum 2.0.0").await;
}

#[tokio::test]
async fn a_revoked_release_is_refused_and_an_older_file_does_not_bring_it_back() {
    let (mut liar, _, one) = Liar::new().await;
    let before = liar.team.served.recorded();
    let revoked = format!("revoked = [\"{}\"]\n{PLAIN}", one.manifest);
    liar.team.environment(&revoked, 2);
    liar.run(slot("shop", "web"), &one, 2).await;
    liar.refused("trust", "signed revocation list").await;
    // What was signed before it was revoked is as well signed: but the revocation was seen.
    liar.team.served.replay(before);
    liar.run(slot("shop", "web"), &one, 3).await;
    liar.counted().await;
    let revoked = |it: &v1::Failure| it.message.contains("signed revocation list");
    liar.said(|it| it.staging_failure.as_ref().is_some_and(revoked))
        .await;
    liar.holds(&[]);
}

#[tokio::test]
async fn metadata_older_than_seen_are_refused() {
    let (mut liar, _, one) = Liar::new().await;
    let before = liar.team.served.recorded();
    let (_, bytes) = liar.team.pack("2.0.0");
    let two = liar.team.sign("web", "2.0.0", &bytes, 2);
    liar.staged(&two).await;
    liar.team.served.replay(before);
    let mut three = one.clone();
    three.version = "3.0.0".parse().unwrap();
    liar.run(slot("shop", "web"), &three, 1).await;
    liar.refused("trust", "timestamp.json is refused").await;
    liar.holds(&["2.0.0"]);
}

#[tokio::test]
async fn a_timestamp_frozen_past_its_end_is_refused() {
    let (liar, _, one) = Liar::new().await;
    liar.team.expired("app/shop", 1);
    liar.refuses(&one, "trust", "timestamp.json is refused")
        .await;
    let (liar, _, one) = Liar::new().await;
    liar.team.expired("env/staging", 1);
    liar.refuses(&one, "trust", "timestamp.json is refused")
        .await;
}

#[tokio::test]
async fn another_environments_file_is_refused() {
    let (liar, _, one) = Liar::new().await;
    liar.team.environment_of("production", PLAIN, 1);
    liar.team
        .served
        .copy("trust/env/production/", "trust/env/staging/");
    liar.refuses(&one, "trust", "env/staging: ").await;
}

#[tokio::test]
async fn a_desired_state_for_another_environment_or_of_an_older_generation_is_not_taken_in() {
    let (mut liar, _, one) = Liar::new().await;
    liar.staged(&one).await;
    let (_, bytes) = liar.team.pack("2.0.0");
    let two = liar.team.sign("web", "2.0.0", &bytes, 2);
    let other = liar.desired(7, "production", slot("shop", "web"), &two, 1);
    liar.line.say(Kind::Desired((&other).into())).await;
    let older = liar.desired(0, "staging", slot("shop", "web"), &two, 1);
    liar.line.say(Kind::Desired((&older).into())).await;
    // What comes then is believed again, so what came before it was heard.
    let (_, bytes) = liar.team.pack("3.0.0");
    let three = liar.team.sign("web", "3.0.0", &bytes, 3);
    liar.staged(&three).await;
    let text = liar.metrics.text();
    for reason in ["other_environment", "older"] {
        let series = format!("desired_states_refused_total{{result=\"{reason}\"}} 1");
        assert!(text.contains(&series), "{reason}: {text}");
    }
    liar.holds(&["1.0.0", "3.0.0"]);
}

#[tokio::test]
async fn a_check_that_nobody_signed_is_refused_and_never_runs() {
    let (mut liar, _, one) = Liar::new().await;
    let ran = liar.dir.path().join("ran");
    let check = format!(
        "{PLAIN}[checks.pwned]\ntype = \"command\"\ncommand = \"touch {}\"\n",
        ran.display()
    );
    // In place of the signed file, under its digest.
    let path = format!("blobs/{}", sha256(PLAIN.as_bytes()));
    liar.team.served.put(path, check.clone().into_bytes());
    liar.run(slot("shop", "web"), &one, 1).await;
    liar.refused("fetch", "more than the").await;
    // Signed by the controller itself.
    liar.team.blob(check.as_bytes());
    let target = NewTarget::environment(&"staging".parse().unwrap(), check.as_bytes());
    liar.team
        .publish_as("env/staging", target, 2, &liar.team.online);
    liar.run(slot("shop", "web"), &one, 2).await;
    liar.refused("trust", "targets.json is refused").await;
    liar.holds(&[]);
    assert!(!ran.exists());
}

#[tokio::test]
async fn a_policy_that_nobody_signed_is_refused() {
    let text = format!("{PLAIN}[minimum]\n\"shop/web\" = \"2.0.0\"\n");
    let (mut liar, _, one) = Liar::in_environment(&text).await;
    liar.team.blob(PLAIN.as_bytes());
    let target = NewTarget::environment(&"staging".parse().unwrap(), PLAIN.as_bytes());
    liar.team
        .publish_as("env/staging", target, 2, &SigningKey::generate().unwrap());
    liar.run(slot("shop", "web"), &one, 1).await;
    liar.refused("trust", "targets.json is refused").await;
    liar.holds(&[]);
}

#[tokio::test]
async fn another_applications_release_is_refused() {
    let (mut liar, _, one) = Liar::new().await;
    // The bank's, as the shop's: the bank's repository in the place of the shop's.
    let (_, bytes) = liar.team.pack("2.0.0");
    liar.team.blob(&bytes);
    let (bank, web) = ("bank".parse().unwrap(), "web".parse().unwrap());
    let target = NewTarget::release(&bank, &web, &"2.0.0".parse().unwrap(), &bytes);
    liar.team
        .publish_as("app/bank", target, 1, &liar.team.release);
    let honest = liar.team.served.recorded();
    liar.team.served.copy("trust/app/bank/", "trust/app/shop/");
    liar.run(slot("shop", "web"), &release("2.0.0", &bytes), 1)
        .await;
    liar.refused("trust", "app/shop: ").await;
    // The shop's, where the environment has no place for the bank.
    liar.team.served.replay(honest);
    liar.run(slot("bank", "web"), &one, 1).await;
    liar.refused("trust", "no place").await;
    liar.holds(&[]);
}

#[tokio::test]
async fn a_signed_release_under_another_version_is_refused() {
    let (liar, _, one) = Liar::new().await;
    let wrong = ReleaseRef {
        version: "2.0.0".parse().unwrap(),
        ..one
    };
    liar.refuses(&wrong, "trust", "no signed release").await;
}

#[tokio::test]
async fn a_flipped_bit_is_refused_wherever_it_is() {
    let (liar, _, one) = Liar::new().await;
    let path = format!("blobs/{}", one.manifest);
    liar.team.served.fault(path, Fault::Damaged(40));
    liar.refuses(&one, "trust", "not the one that was signed")
        .await;
    for back in [100, 150_000] {
        let (liar, manifest, one) = Liar::new().await;
        // The first frame is known from the manifest, and not fetched.
        let at = usize::try_from(manifest.archive.length).unwrap() - back;
        let (path, _) = liar.team.archive(&manifest);
        liar.team.served.fault(path, Fault::Damaged(at));
        liar.refuses(&one, "trust", "frame ").await;
    }
}

#[tokio::test]
async fn a_wrong_range_is_refused_whatever_it_is_called() {
    for (fault, kind) in [(Fault::WrongRange, "fetch"), (Fault::FalseRange, "trust")] {
        let (mut liar, _, one) = Liar::new().await;
        liar.staged(&one).await;
        // Most of it is there already: what is asked for begins in the middle.
        let (manifest, bytes) = liar.team.pack("2.0.0");
        let two = liar.team.sign("web", "2.0.0", &bytes, 2);
        let (path, _) = liar.team.archive(&manifest);
        liar.team.served.fault(path, fault);
        liar.run(slot("shop", "web"), &two, 1).await;
        liar.refused(kind, "").await;
        liar.holds(&["1.0.0"]);
    }
}

#[tokio::test]
async fn of_an_archive_longer_than_signed_nothing_more_is_kept() {
    let (mut liar, manifest, one) = Liar::new().await;
    let (path, archive) = liar.team.archive(&manifest);
    liar.team.served.fault(path, Fault::Longer);
    liar.staged(&one).await;
    assert!(liar.metrics.fetched_bytes.get() < archive.len() as u64 + 16_384);
    // A manifest that is longer is another one.
    let (liar, _, one) = Liar::new().await;
    let path = format!("blobs/{}", one.manifest);
    liar.team.served.fault(path, Fault::Longer);
    liar.refuses(&one, "fetch", "more than").await;
}

#[tokio::test]
async fn a_page_of_html_is_not_a_release() {
    let (liar, _, one) = Liar::new().await;
    let path = format!("blobs/{}", one.manifest);
    liar.team.served.fault(path, Fault::Html);
    liar.refuses(&one, "trust", "not the one that was signed")
        .await;
    let (liar, manifest, one) = Liar::new().await;
    let (path, _) = liar.team.archive(&manifest);
    liar.team.served.fault(path, Fault::Html);
    liar.refuses(&one, "fetch", "frames are missing").await;
    let (liar, _, one) = Liar::new().await;
    let path = "trust/app/shop/timestamp.json".to_owned();
    liar.team.served.fault(path, Fault::Html);
    liar.refuses(&one, "trust", "timestamp.json is refused")
        .await;
}

/// An environment that demands tests, and whose word counts there.
fn demanding(key: &SigningKey) -> String {
    let key = STANDARD.encode(verifying_key(key.public()).unwrap().der());
    format!(
        "{PLAIN}[evidence]\nrequire = [\"test\"]\n[evidence.keys.ci]\nkey = \"{key}\"\nstates = [\"test\"]\n"
    )
}

fn tested(manifest: Digest, key: &SigningKey, passed: bool) -> Vec<u8> {
    let at = Moment(tamer_kit::clock::now().0 - 1000);
    let statement = Statement {
        subjects: vec![Subject::Manifest {
            name: "shop/web 1.0.0".to_owned(),
            digest: manifest,
        }],
        claim: Claim::Run(Run {
            kind: EvidenceKind::Test,
            passed,
            command: None,
            counts: None,
            failed: Vec::new(),
            started: at,
            finished: at,
        }),
    };
    let mut bundle = seal(&statement, key).unwrap();
    bundle.push(b'\n');
    bundle
}

#[tokio::test]
async fn evidence_is_judged_here_and_kept_with_what_was_accepted() {
    let ci = SigningKey::generate().unwrap();
    let (mut liar, _, one) = Liar::in_environment(&demanding(&ci)).await;
    let other = Digest::new([9; 32]);
    let stranger = SigningKey::generate().unwrap();
    let path = proofs::path(&one.manifest);
    for (lie, words) in [
        (Vec::new(), "does not have: test"),
        (tested(other, &ci, true), "not about this release"),
        (tested(one.manifest, &stranger, true), "not listed here"),
        (
            tested(one.manifest, &liar.team.online, true),
            "not listed here",
        ),
        (tested(one.manifest, &ci, false), "it says FAILED"),
        (b"<html>\n".to_vec(), "cannot be read"),
    ] {
        liar.team.served.put(path.clone(), lie);
        liar.run(slot("shop", "web"), &one, 1).await;
        liar.refused("evidence", words).await;
        liar.holds(&[]);
    }
    // Among all the lies the truth is found, and it alone is kept.
    let truth = tested(one.manifest, &ci, true);
    let all = [
        tested(other, &ci, true),
        b"<html>\n".to_vec(),
        truth.clone(),
    ]
    .concat();
    liar.team.served.put(path.clone(), all);
    liar.staged(&one).await;
    let state = liar.dir.path().join("state");
    assert_eq!(std::fs::read(state.join(&path)).unwrap(), truth);
    let record = tamer_agent::journal::Acceptance::read(&state).unwrap();
    let proven = &record.releases[0].proven;
    assert_eq!(proven[&EvidenceKind::Test].as_str(), "ci");
}

#[tokio::test]
async fn no_evidence_comes_from_a_controller_that_keeps_it_back_with_an_error() {
    let ci = SigningKey::generate().unwrap();
    let (liar, _, one) = Liar::in_environment(&demanding(&ci)).await;
    let path = proofs::path(&one.manifest);
    liar.team
        .served
        .put(path.clone(), tested(one.manifest, &ci, true));
    liar.team.served.fault(path, Fault::Broken);
    liar.refuses(&one, "fetch", "evidence of").await;
}

#[tokio::test]
async fn a_controller_approves_for_nobody() {
    let anna = SigningKey::generate().unwrap();
    let key = STANDARD.encode(verifying_key(anna.public()).unwrap().der());
    let text = format!("{PLAIN}[approval]\nneeded = 1\n[approval.keys.anna]\nkey = \"{key}\"\n");
    let (mut liar, _, one) = Liar::in_environment(&text).await;
    let now = tamer_kit::clock::now().0;
    let approval = |key: &SigningKey, environment: &str, manifest, expires: u64| {
        let statement = Statement {
            subjects: vec![Subject::Manifest {
                name: "shop/web 1.0.0".to_owned(),
                digest: manifest,
            }],
            claim: Claim::Approval(Approved {
                environment: environment.parse().unwrap(),
                plan: Digest::new([4; 32]),
                at: Moment(now - 2000),
                expires: Moment(expires),
            }),
        };
        let mut bundle = seal(&statement, key).unwrap();
        bundle.push(b'\n');
        bundle
    };
    let (later, other) = (now + 3_600_000, Digest::new([9; 32]));
    let path = proofs::path(&one.manifest);
    for (lie, words) in [
        (Vec::new(), "wants 1 to approve"),
        (
            approval(&liar.team.online, "staging", one.manifest, later),
            "not listed here",
        ),
        (
            approval(&anna, "production", one.manifest, later),
            "and 0 did",
        ),
        (approval(&anna, "staging", other, later), "and 0 did"),
        (
            approval(&anna, "staging", one.manifest, now - 1000),
            "it expired on",
        ),
        (tested(one.manifest, &anna, true), "and 0 did"),
    ] {
        liar.team.served.put(path.clone(), lie);
        liar.run(slot("shop", "web"), &one, 1).await;
        liar.refused("evidence", words).await;
        liar.holds(&[]);
    }
    liar.team
        .served
        .put(path, approval(&anna, "staging", one.manifest, later));
    liar.staged(&one).await;
    let state = liar.dir.path().join("state");
    let record = tamer_agent::journal::Acceptance::read(&state).unwrap();
    assert_eq!(record.releases[0].approved.len(), 1);
}
