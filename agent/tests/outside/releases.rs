//! Releases and the environment's file, over TUF and HTTP.

use crate::published::{Fault, Served, Team};
use crate::world::{PATIENCE, Port};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tamer_agent::metrics::Metrics;
use tamer_agent::remote::Remote;
use tamer_agent::remote::http::Http;
use tamer_agent::source::{Known, Source};
use tamer_agent::transfer::Count;
use tamer_core::desired::{FailureKind, Slot};
use tamer_core::release::{Manifest, ReleaseRef};
use tamer_release::delta::Parts;
use tamer_release::manifest::to_bytes;
use tamer_release::unpack::Arrivals;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

const PLAIN: &str =
    "[place]\n\"shop/web\" = { role = \"web\" }\n\"shop/worker\" = { role = \"web\" }\n";

struct Site {
    team: Team,
    port: Port,
    dir: TempDir,
    remote: Remote,
    metrics: Metrics,
}

impl Site {
    async fn new() -> Self {
        let team = Team::new();
        let port = Port::open(team.served.router()).await;
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let remote = remote(&port, &team, dir.path(), &metrics);
        Self {
            team,
            port,
            dir,
            remote,
            metrics,
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
        let failure = self
            .remote
            .admit(slot, release, version, None, false, None)
            .await
            .unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(words), "`{words}`: {failure}");
    }
}

fn remote(port: &Port, team: &Team, state: &Path, metrics: &Metrics) -> Remote {
    let (_, shown) = watch::channel(port.ca.keys().shown().unwrap());
    let http = Arc::new(Http::new(port.address.clone(), shown).unwrap());
    let environment = "staging".parse().unwrap();
    Remote::new(state, environment, team.pin, http, metrics.clone())
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
    let admitted = site
        .remote
        .admit(&slot("web"), &release, 1, None, false, None)
        .await
        .unwrap();
    assert_eq!(admitted.manifest, manifest);
    assert!(!site.team.served.take_asked().is_empty());
    site.remote
        .admit(&slot("web"), &release, 1, None, false, None)
        .await
        .unwrap();
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
    let again = remote(&port, &team, dir.path(), &Metrics::new());
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
    site.remote
        .admit(&slot("web"), &release, 1, None, false, None)
        .await
        .unwrap();
    let fresh = Site::new().await;
    fresh
        .refused(&release, 1, FailureKind::Fetch, "timestamp.json")
        .await;
}

#[tokio::test]
async fn the_environment_decides_by_its_newest_file() {
    let (site, _, release) = Site::with_release().await;
    site.remote
        .admit(&slot("web"), &release, 1, None, false, None)
        .await
        .unwrap();
    let text = format!("{PLAIN}[minimum]\n\"shop/web\" = \"2.0.0\"\n");
    site.team.environment(&text, 2);
    // Until the desired state names it, nobody asks.
    site.remote
        .admit(&slot("web"), &release, 1, None, false, None)
        .await
        .unwrap();
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
    let text = format!(
        "{PLAIN}[evidence]\nrequire = [\"test\", \"review\"]\n[evidence.keys.all]\nkey = \"{KEY}\"\n\
         states = [\"build\", \"test\", \"review\"]\nperson = \"anna@shop.example\"\n"
    );
    site.team.environment(&text, 5);
    site.refused(&release, 5, FailureKind::Evidence, "test, review")
        .await;
    site.refused(&release, 6, FailureKind::Fetch, "version 6")
        .await;
    let failure = site.remote.environment(6).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Fetch);
}

/// A public key whose other half nobody has.
const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

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

/// All frames, where they stand, and what of the archive is fetched.
struct Frames {
    path: String,
    archive: Vec<u8>,
    all: Vec<usize>,
    into: std::path::PathBuf,
}

impl Frames {
    fn of(site: &Site, manifest: &Manifest) -> Self {
        let (path, archive) = site.team.archive(manifest);
        let frames = manifest.archive.frames.len();
        assert!(frames > 5, "{frames}");
        site.team.served.take_asked();
        Self {
            path,
            archive,
            all: (0..frames).collect(),
            into: site.dir.path().join("download"),
        }
    }

    fn whole(&self) {
        assert_eq!(std::fs::read(&self.into).unwrap(), self.archive);
    }
}

/// The ranges that were asked for, in order.
fn asked(site: &Site) -> Vec<(u64, u64)> {
    let parse = |(_, range): (String, Option<String>)| {
        let range = range.expect("a range");
        let (first, last) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        (first.parse().unwrap(), last.parse::<u64>().unwrap() + 1)
    };
    let mut asked: Vec<_> = site
        .team
        .served
        .take_asked()
        .into_iter()
        .map(parse)
        .collect();
    asked.sort_unstable();
    asked
}

#[tokio::test]
async fn only_frames_that_are_wanted_and_missing_are_fetched() {
    let (site, manifest, _) = Site::with_release().await;
    let frames = Frames::of(&site, &manifest);
    let parts = Parts::of(&manifest.archive.frames);
    let (last, span) = (frames.all.len() - 1, |n: usize| {
        (parts.bytes(n).start, parts.bytes(n).end)
    });
    let get = async |wanted: &[usize]| {
        let got = site
            .remote
            .frames(
                &manifest,
                wanted,
                &frames.into,
                &Arrivals::default(),
                &Count::default(),
            )
            .await;
        got.unwrap();
        asked(&site)
    };
    // Frame 1 is the first piece of a large file, and far from the last one.
    assert_eq!(get(&[]).await, []);
    assert_eq!(get(&[1, last]).await, [span(1), span(last)]);
    let bytes = (span(1).1 - span(1).0) + (span(last).1 - span(last).0);
    assert_eq!(
        site.metrics.fetched_bytes.get(),
        bytes,
        "and no other bytes"
    );
    // After a restart too, what is there is not fetched; what was damaged meanwhile is.
    assert_eq!(get(&[1, last]).await, []);
    let held = std::fs::File::options()
        .write(true)
        .open(&frames.into)
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&held, &[0; 3], span(1).0 + 100).unwrap();
    assert_eq!(get(&[1, last]).await, [span(1)]);
    get(&frames.all).await;
    frames.whole();
    assert_eq!(get(&frames.all).await, []);
}

#[tokio::test]
async fn a_transfer_that_is_cut_off_goes_on_with_the_first_frame_that_did_not_come() {
    let (site, manifest, _) = Site::with_release().await;
    let frames = Frames::of(&site, &manifest);
    site.team
        .served
        .fault(frames.path.clone(), Fault::Cut(150_000));
    let some_came = async {
        let deadline = Instant::now() + PATIENCE;
        while site.metrics.fetched_bytes.get() < 150_000 {
            assert!(Instant::now() < deadline, "nothing comes");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        site.team.served.cut.notify_one();
    };
    let (arrivals, count) = (Arrivals::default(), Count::default());
    let fetch = site
        .remote
        .frames(&manifest, &frames.all, &frames.into, &arrivals, &count);
    let (fetched, ()) = tokio::join!(fetch, some_came);
    fetched.unwrap();
    frames.whole();
    assert_eq!(site.metrics.transfers_cut.get(), 1);
    assert_eq!(count.bytes().done(), manifest.archive.length);
    assert_eq!(count.bytes().came, manifest.archive.length, "once");
    let parts = Parts::of(&manifest.archive.frames);
    let came = frames
        .all
        .iter()
        .filter(|n| parts.bytes(**n).end <= 150_000)
        .count();
    let (from, end) = (parts.bytes(came).start, manifest.archive.length);
    assert!(from > 0);
    assert_eq!(asked(&site), [(0, end), (from, end)]);
}

#[tokio::test]
async fn bytes_are_counted_as_they_come_and_in_the_end_they_are_the_whole() {
    let (site, manifest, _) = Site::with_release().await;
    let frames = Frames::of(&site, &manifest);
    let served = &site.team.served;
    let (length, all) = (manifest.archive.length, frames.archive.len());
    served.fault(frames.path.clone(), Fault::Slow);
    let (count, arrivals) = (Count::default(), Arrivals::default());
    let fetch = site
        .remote
        .frames(&manifest, &frames.all, &frames.into, &arrivals, &count);
    let seen = async {
        for given in [all / 4, all / 2, all - 1] {
            served.allowed.send_replace(given);
            let deadline = Instant::now() + PATIENCE;
            while count.bytes().done() < given as u64 {
                assert!(Instant::now() < deadline, "{:?}", count.bytes());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(
                (count.bytes().done(), count.bytes().total),
                (given as u64, length)
            );
        }
        served.allowed.send_replace(all);
    };
    let (fetched, ()) = tokio::join!(fetch, seen);
    fetched.unwrap();
    let whole = |count: &Count| (count.bytes().done(), count.bytes().total);
    assert_eq!(
        (whole(&count), count.bytes().came),
        ((length, length), length)
    );
    // What is there already did not come now.
    let again = Count::default();
    let fetch = site
        .remote
        .frames(&manifest, &frames.all, &frames.into, &arrivals, &again);
    fetch.await.unwrap();
    assert_eq!((whole(&again), again.bytes().came), ((length, length), 0));
    // What was of no use is counted once, whatever was wrong.
    let parts = Parts::of(&manifest.archive.frames);
    let damaged = parts.bytes(2).start as usize + 5;
    for fault in [Fault::DamagedOnce(damaged), Fault::NoRanges] {
        std::fs::remove_file(&frames.into).unwrap();
        served.fault(frames.path.clone(), fault);
        let (count, wanted) = (Count::default(), [1, 2, frames.all.len() - 1]);
        let fetch = site
            .remote
            .frames(&manifest, &wanted, &frames.into, &arrivals, &count);
        fetch.await.unwrap();
        let lengths = wanted.map(|n| manifest.archive.frames[n].length);
        let sum = lengths.iter().sum::<u64>();
        assert_eq!((whole(&count), count.bytes().came), ((sum, sum), sum));
    }
}

#[tokio::test]
async fn where_a_blob_lies_is_asked_once_until_the_store_refuses_it() {
    let (site, manifest, _) = Site::with_release().await;
    let frames = Frames::of(&site, &manifest);
    let store: Arc<Served> = Arc::default();
    let archive = site.team.served.file(&frames.path);
    store.put(frames.path.clone(), archive);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = axum::serve(listener, store.router());
    let _serving = AbortOnDropHandle::new(tokio::spawn(serving.into_future()));
    let redirects = |seconds| {
        *site.team.served.elsewhere.lock().unwrap() = Some((base.clone(), seconds));
    };
    // Twice the same frame, each time into another file.
    let mut files = 0;
    let mut fetched = async || {
        site.team.served.take_asked();
        store.take_asked();
        for _ in 0..2 {
            files += 1;
            let into = frames.into.with_extension(files.to_string());
            site.remote
                .frames(
                    &manifest,
                    &[1],
                    &into,
                    &Arrivals::default(),
                    &Count::default(),
                )
                .await
                .unwrap();
        }
        (
            site.team.served.take_asked().len(),
            store.take_asked().len(),
        )
    };
    redirects(0);
    assert_eq!(fetched().await, (2, 2), "it may not be remembered");
    redirects(300);
    assert_eq!(fetched().await, (1, 2));
    assert_eq!(fetched().await, (0, 2));
    // The address is not good any more: another one is asked for, and nothing has failed.
    store.fault(frames.path.clone(), Fault::RefusedOnce);
    assert_eq!(fetched().await, (1, 3));
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_read_through() {
    let (site, manifest, _) = Site::with_release().await;
    let frames = Frames::of(&site, &manifest);
    site.team.served.fault(frames.path.clone(), Fault::NoRanges);
    let last = frames.all.len() - 1;
    site.remote
        .frames(
            &manifest,
            &[1, last],
            &frames.into,
            &Arrivals::default(),
            &Count::default(),
        )
        .await
        .unwrap();
    let parts = Parts::of(&manifest.archive.frames);
    let held = std::fs::read(&frames.into).unwrap();
    for n in [1, last] {
        let bytes = parts.bytes(n).start as usize..parts.bytes(n).end as usize;
        assert_eq!(held[bytes.clone()], frames.archive[bytes]);
    }
    let between = parts.bytes(2).start as usize..parts.bytes(last).start as usize;
    assert!(
        held[between].iter().all(|byte| *byte == 0),
        "and no more is kept"
    );
}

#[tokio::test]
async fn frames_that_are_not_the_signed_ones_are_never_written() {
    let (site, manifest, _) = Site::with_release().await;
    let frames = Frames::of(&site, &manifest);
    let parts = Parts::of(&manifest.archive.frames);
    let at = parts.bytes(2).start as usize + 5;
    site.team
        .served
        .fault(frames.path.clone(), Fault::DamagedOnce(at));
    site.remote
        .frames(
            &manifest,
            &frames.all,
            &frames.into,
            &Arrivals::default(),
            &Count::default(),
        )
        .await
        .unwrap();
    frames.whole();
    std::fs::remove_file(&frames.into).unwrap();
    site.team
        .served
        .fault(frames.path.clone(), Fault::Damaged(at));
    let got = site
        .remote
        .frames(
            &manifest,
            &frames.all,
            &frames.into,
            &Arrivals::default(),
            &Count::default(),
        )
        .await;
    let failure = got.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Trust, "{failure}");
    assert!(failure.message.contains("frame 2"), "{failure}");
    let held = std::fs::read(&frames.into).unwrap();
    assert!(
        held.len() as u64 <= parts.bytes(2).start,
        "only what was good"
    );
    let mut wrong = manifest.clone();
    wrong.archive.sha256 = tamer_core::digest::Digest::new([3; 32]);
    let got = site
        .remote
        .frames(
            &wrong,
            &frames.all,
            &frames.into,
            &Arrivals::default(),
            &Count::default(),
        )
        .await;
    let failure = got.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Fetch, "{failure}");
    assert!(failure.message.contains("404"), "{failure}");
}

#[tokio::test]
async fn a_manifest_comes_as_a_difference_from_the_one_before_it() {
    let (site, _, one) = Site::with_release().await;
    let (manifest, bytes) = site.team.pack("1.0.1");
    let two = site.team.sign("web", "1.0.1", &bytes, 2);
    let disk = tempfile::tempdir().unwrap();
    let admit = async |release: &ReleaseRef, known: Option<&Known>| {
        let before = site.metrics.fetched_bytes.get();
        let admitted = site
            .remote
            .admit(&slot("web"), release, 1, known, false, None)
            .await;
        (admitted, site.metrics.fetched_bytes.get() - before)
    };
    let (first, whole) = admit(&one, None).await;
    let text = to_bytes(&first.unwrap().manifest);
    assert_eq!(whole, text.len() as u64);
    let place = disk.path().join(tamer_release::unpack::MANIFEST_PATH);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, &text).unwrap();
    let known = Known {
        release: disk.path().to_owned(),
        manifest: one.manifest,
    };
    let (second, few) = admit(&two, Some(&known)).await;
    assert_eq!(second.unwrap().manifest, manifest);
    assert!(few < whole / 2, "{few} of {whole}");
    // The controller lies, or has not got what this host has: then it comes whole.
    let path = format!("blobs/{}", two.manifest);
    site.team.served.fault(path, Fault::WrongDifference);
    let (again, all) = admit(&two, Some(&known)).await;
    assert_eq!(again.unwrap().manifest, manifest);
    assert!(all > bytes.len() as u64, "{all}");
    site.team.served.faults.lock().unwrap().clear();
    let other = Known {
        manifest: tamer_core::digest::Digest::new([3; 32]),
        ..known.clone()
    };
    let (again, all) = admit(&two, Some(&other)).await;
    assert_eq!(
        (again.unwrap().manifest, all),
        (manifest.clone(), bytes.len() as u64)
    );
    // Somebody has edited the manifest that is here.
    std::fs::write(&place, "{}").unwrap();
    let (again, _) = admit(&two, Some(&known)).await;
    assert_eq!(again.unwrap().manifest, manifest);
}
