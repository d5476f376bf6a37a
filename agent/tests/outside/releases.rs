//! Releases and the environment's file, over TUF and HTTP.

use crate::published::{Fault, Team};
use crate::world::{PATIENCE, Port};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tamer_agent::metrics::Metrics;
use tamer_agent::remote::Remote;
use tamer_agent::remote::http::Http;
use tamer_agent::source::Source;
use tamer_core::desired::{FailureKind, Slot};
use tamer_core::release::{Manifest, ReleaseRef};
use tempfile::TempDir;
use tokio::sync::watch;

const PLAIN: &str =
    "[place]\n\"shop/web\" = { role = \"web\" }\n\"shop/worker\" = { role = \"web\" }\n";

struct Site {
    team: Team,
    port: Port,
    dir: TempDir,
    remote: Remote,
}

impl Site {
    async fn new() -> Self {
        let team = Team::new();
        let port = Port::open(team.served.router()).await;
        let dir = tempfile::tempdir().unwrap();
        let remote = remote(&port, &team, dir.path());
        Self {
            team,
            port,
            dir,
            remote,
        }
    }

    /// With the plain environment, and web 1.0.0.
    async fn with_release() -> (Self, Manifest, ReleaseRef) {
        let site = Self::new().await;
        site.team.environment(PLAIN, 1);
        let (manifest, bytes) = site.team.pack("1.0.0");
        let release = site.team.sign("web", "1.0.0", &bytes, 1);
        (site, manifest, release)
    }

    /// Why a release is not admitted.
    async fn refused(&self, release: &ReleaseRef, version: u64, kind: FailureKind, words: &str) {
        self.refused_as(&slot("web"), release, version, kind, words)
            .await;
    }

    async fn refused_as(
        &self,
        slot: &Slot,
        release: &ReleaseRef,
        version: u64,
        kind: FailureKind,
        words: &str,
    ) {
        let failure = self.remote.admit(slot, release, version).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(words), "`{words}`: {failure}");
    }
}

fn remote(port: &Port, team: &Team, state: &Path) -> Remote {
    let (_, shown) = watch::channel(port.ca.keys().client_config().unwrap());
    let http = Arc::new(Http::new(port.address.clone(), shown).unwrap());
    let environment = "staging".parse().unwrap();
    Remote::new(state, environment, team.pin, http, Metrics::new())
}

fn slot(component: &str) -> Slot {
    Slot {
        application: "shop".parse().unwrap(),
        component: component.parse().unwrap(),
        pool: Default::default(),
    }
}

#[tokio::test]
async fn a_signed_release_is_admitted_and_nothing_is_asked_for_twice() {
    let (site, manifest, release) = Site::with_release().await;
    assert!(
        site.remote.environment(0).await.is_err(),
        "nothing was verified yet"
    );
    assert!(
        site.team.served.take_asked().is_empty(),
        "0 is for no network"
    );
    let admitted = site.remote.admit(&slot("web"), &release, 1).await.unwrap();
    assert_eq!(admitted.manifest, manifest);
    assert!(!site.team.served.take_asked().is_empty());
    site.remote.admit(&slot("web"), &release, 1).await.unwrap();
    let view = site.remote.environment(1).await.unwrap();
    assert_eq!(view.version, 1);
    let asked = site.team.served.take_asked();
    assert!(
        asked.iter().all(|(path, _)| !path.starts_with("trust/")),
        "{asked:?}"
    );
    // A new start, and the controller is gone.
    let Site {
        team, port, dir, ..
    } = site;
    let again = remote(&port, &team, dir.path());
    drop(port);
    assert_eq!(again.environment(0).await.unwrap(), view);
}

#[tokio::test]
async fn only_a_definite_no_ends_the_chain_of_roots() {
    let (site, _, release) = Site::with_release().await;
    let next = "trust/team/2.root.json".to_owned();
    // There is none, and that is well; one that cannot be had is another matter.
    site.team
        .served
        .fault("trust/app/shop/timestamp.json".to_owned(), Fault::Broken);
    site.refused(&release, 1, FailureKind::Fetch, "500").await;
    assert!(
        site.team
            .served
            .take_asked()
            .iter()
            .any(|(path, _)| *path == next)
    );
    site.team.served.faults.lock().unwrap().clear();
    site.remote.admit(&slot("web"), &release, 1).await.unwrap();
    let fresh = Site::new().await;
    fresh
        .refused(&release, 1, FailureKind::Fetch, "timestamp.json")
        .await;
}

#[tokio::test]
async fn the_environment_decides_by_its_newest_file() {
    let (site, _, release) = Site::with_release().await;
    site.remote.admit(&slot("web"), &release, 1).await.unwrap();
    let text = format!("{PLAIN}[minimum]\n\"shop/web\" = \"2.0.0\"\n");
    site.team.environment(&text, 2);
    // Until the desired state names it, nobody asks.
    site.remote.admit(&slot("web"), &release, 1).await.unwrap();
    site.refused(&release, 2, FailureKind::Trust, "minimum 2.0.0")
        .await;
    site.team
        .environment(&format!("revoked = [\"{}\"]\n{PLAIN}", release.manifest), 3);
    site.refused(&release, 3, FailureKind::Trust, "revocation list")
        .await;
    let view = site.remote.environment(3).await.unwrap();
    assert!(view.revoked.contains(&release.manifest) && view.version == 3);
    site.team
        .environment("[place]\n\"shop/db\" = { role = \"web\" }\n", 4);
    site.refused(&release, 4, FailureKind::Trust, "no place")
        .await;
    let text = format!("{PLAIN}[evidence]\nrequire = [\"test\", \"review\"]\n");
    site.team.environment(&text, 5);
    site.refused(&release, 5, FailureKind::Evidence, "test, review")
        .await;
    site.refused(&release, 6, FailureKind::Fetch, "version 6")
        .await;
    let failure = site.remote.environment(6).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Fetch);
}

#[tokio::test]
async fn what_is_not_signed_as_what_was_asked_for_is_refused() {
    let (site, _, release) = Site::with_release().await;
    let mut other = release.clone();
    other.manifest = tamer_core::digest::Digest::new([9; 32]);
    site.refused(&other, 1, FailureKind::Trust, "was asked for")
        .await;
    other.version = "1.0.1".parse().unwrap();
    site.refused(&other, 1, FailureKind::Trust, "no signed release")
        .await;
    // A manifest of web, signed as one of worker, and one of another version.
    let (_, bytes) = site.team.pack("2.0.0");
    let worker = site.team.sign("worker", "2.0.0", &bytes, 2);
    site.refused_as(&slot("worker"), &worker, 1, FailureKind::Trust, "shop/web")
        .await;
    let wrong = site.team.sign("web", "3.0.0", &bytes, 3);
    site.refused(&wrong, 1, FailureKind::Trust, "version 2.0.0")
        .await;
    // A feature of a later time.
    let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    manifest["requires"] = serde_json::json!(["time-travel"]);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let newer = site.team.sign("web", "4.0.0", &bytes, 4);
    site.refused(&newer, 1, FailureKind::Unsupported, "time-travel")
        .await;
}

#[tokio::test]
async fn an_archive_that_is_cut_off_goes_on_where_it_was() {
    let (site, manifest, _) = Site::with_release().await;
    let (path, archive) = site.team.archive(&manifest);
    let into = site.dir.path().join("download");
    site.team.served.fault(path.clone(), Fault::Cut(150_000));
    let some_came = async {
        let deadline = Instant::now() + PATIENCE;
        while into.metadata().map_or(0, |it| it.len()) == 0 {
            assert!(Instant::now() < deadline, "nothing is written");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        site.team.served.cut.notify_one();
    };
    let (fetched, ()) = tokio::join!(site.remote.archive(&manifest, &into), some_came);
    fetched.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), archive);
    let asked = site.team.served.take_asked();
    let ranges: Vec<_> = asked.iter().map(|(_, range)| range.clone()).collect();
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges[0], None);
    let from = ranges[1].as_deref().unwrap().trim_start_matches("bytes=");
    let from: usize = from.trim_end_matches('-').parse().unwrap();
    assert!(from > 0 && from <= 150_000, "{from}");
    // What is whole is not fetched again; what a killed agent left is used.
    site.remote.archive(&manifest, &into).await.unwrap();
    assert!(site.team.served.take_asked().is_empty());
    std::fs::write(&into, &archive[..1000]).unwrap();
    site.remote.archive(&manifest, &into).await.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), archive);
    let asked = site.team.served.take_asked();
    assert_eq!(asked, [(path.clone(), Some("bytes=1000-".to_owned()))]);
    // What it left is damaged: once more from the beginning.
    let mut damaged = archive[..1000].to_vec();
    damaged[500] ^= 1;
    std::fs::write(&into, damaged).unwrap();
    site.remote.archive(&manifest, &into).await.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), archive);
    let asked = site.team.served.take_asked();
    assert_eq!(asked.last(), Some(&(path, None)));
}

#[tokio::test]
async fn an_archive_that_is_not_the_signed_one_is_refused() {
    let (site, manifest, _) = Site::with_release().await;
    let (path, _) = site.team.archive(&manifest);
    let into = site.dir.path().join("download");
    site.team.served.fault(path, Fault::Longer);
    let failure = site.remote.archive(&manifest, &into).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Trust, "{failure}");
    assert_eq!(into.metadata().unwrap().len(), 0, "nothing of it stays");
    site.team.served.faults.lock().unwrap().clear();
    let mut wrong = manifest.clone();
    wrong.archive.sha256 = tamer_core::digest::Digest::new([3; 32]);
    let failure = site.remote.archive(&wrong, &into).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Fetch, "{failure}");
    assert!(failure.message.contains("404"), "{failure}");
}
