//! What a team has published: signed metadata and blobs, and the paths that serve them.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{self, Stream, StreamExt};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tamer_core::application::Application;
use tamer_core::digest::Digest;
use tamer_core::moment::{Moment, Span};
use tamer_core::release::{Manifest, ReleaseRef};
use tamer_kit::hash::sha256;
use tamer_release::pack;
use tamer_release::trust::document::Document;
use tamer_release::trust::editor::{self, RepositoryRoles, RoleKeys};
use tamer_release::trust::{NewTarget, RepositoryName, SigningKey, targets_with};
use tokio::sync::{Notify, watch};

const DAY: u64 = 24 * 60 * 60;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It answers 500.
    Broken,
    /// The next answer breaks after so many bytes, once [`Served::cut`] is told.
    Cut(usize),
    /// The next answer has another byte at this place.
    DamagedOnce(usize),
    /// Every answer has.
    Damaged(usize),
    /// The next answer is a 403, as that to a signed address that is not good any more.
    RefusedOnce,
    /// Ranges are not known here.
    NoRanges,
    /// A difference from what the caller has leads elsewhere.
    WrongDifference,
    /// Bytes follow that nobody signed; ranges are not known here.
    Longer,
    /// It answers with as many bytes, from the beginning, and says so.
    WrongRange,
    /// It answers with as many bytes, from the beginning, and says that they are what was asked for.
    FalseRange,
    /// It answers 200 and a page of HTML.
    Html,
    /// No more of it is given than [`Served::allowed`] says.
    Slow,
}

/// What is served.
#[derive(Default)]
pub(crate) struct Served {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) faults: Mutex<BTreeMap<String, Fault>>,
    /// Blobs lie below this address, and that may be remembered for so many seconds.
    pub(crate) elsewhere: Mutex<Option<(String, u64)>>,
    /// Lets an answer break: what the client has not read by then is lost with it.
    pub(crate) cut: Notify,
    /// Up to which of its bytes a slow path is given.
    pub(crate) allowed: watch::Sender<usize>,
    /// Paths that were asked for, with the range.
    pub(crate) asked: Mutex<Vec<(String, Option<String>)>>,
}

impl Served {
    /// Whatever lies below one path lies below another one now, too.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let mut files = self.files.lock().unwrap();
        let found: Vec<_> = (files.iter())
            .filter_map(|(path, bytes)| {
                let rest = path.strip_prefix(from)?;
                Some((format!("{to}{rest}"), bytes.clone()))
            })
            .collect();
        files.extend(found);
    }

    /// All that is served, to be served again later.
    pub(crate) fn recorded(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.lock().unwrap().clone()
    }

    pub(crate) fn replay(&self, recorded: BTreeMap<String, Vec<u8>>) {
        *self.files.lock().unwrap() = recorded;
    }

    pub(crate) fn put(&self, path: String, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(path, bytes);
    }

    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        self.files.lock().unwrap()[path].clone()
    }

    pub(crate) fn fault(&self, path: String, fault: Fault) {
        self.faults.lock().unwrap().insert(path, fault);
    }

    /// What was asked for since the last time.
    pub(crate) fn take_asked(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// What is asked for as a difference from a blob that the caller has.
    fn difference(&self, headers: &HeaderMap, new: &[u8], fault: Option<Fault>) -> Option<Vec<u8>> {
        let known = headers.get("available-dictionary")?.to_str().unwrap();
        let known = known.strip_prefix(':').unwrap().strip_suffix(':').unwrap();
        let known = STANDARD.decode(known).unwrap();
        let known = Digest::new(known.try_into().unwrap());
        let old = self
            .files
            .lock()
            .unwrap()
            .get(&format!("blobs/{known}"))?
            .clone();
        let mut new = new.to_vec();
        if matches!(fault, Some(Fault::WrongDifference)) {
            new[10] ^= 1;
        }
        Some(tamer_release::patch::make(&new, &old).unwrap())
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/{*path}", get(serve))
            .with_state(Arc::clone(self))
    }
}

async fn serve(
    State(served): State<Arc<Served>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let range = headers
        .get(header::RANGE)
        .map(|it| it.to_str().unwrap().to_owned());
    served
        .asked
        .lock()
        .unwrap()
        .push((path.clone(), range.clone()));
    let elsewhere = served.elsewhere.lock().unwrap().clone();
    if let Some((base, seconds)) = elsewhere.filter(|_| path.starts_with("blobs/")) {
        let kept = format!("private, max-age={seconds}");
        let headers = [
            (header::LOCATION, format!("{base}/{path}")),
            (header::CACHE_CONTROL, kept),
        ];
        return (StatusCode::TEMPORARY_REDIRECT, headers).into_response();
    }
    let Some(mut bytes) = served.files.lock().unwrap().get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let fault = served.faults.lock().unwrap().get(&path).copied();
    if let Some(difference) = served.difference(&headers, &bytes, fault) {
        return (
            [(header::CONTENT_ENCODING, tamer_release::patch::CODING)],
            difference,
        )
            .into_response();
    }
    let mut cut = None;
    let mut asked_for = range;
    match fault {
        Some(Fault::Broken) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Fault::Damaged(at)) => bytes[at] ^= 1,
        Some(Fault::DamagedOnce(at)) => {
            served.faults.lock().unwrap().remove(&path);
            bytes[at] ^= 1;
        }
        Some(Fault::RefusedOnce) => {
            served.faults.lock().unwrap().remove(&path);
            return StatusCode::FORBIDDEN.into_response();
        }
        Some(Fault::NoRanges) => asked_for = None,
        Some(Fault::Longer) => {
            asked_for = None;
            bytes.extend_from_slice(&[7; 4096]);
        }
        Some(Fault::Html) => {
            let page = "<!doctype html><title>Sign in</title>";
            return ([(header::CONTENT_TYPE, "text/html")], page).into_response();
        }
        Some(Fault::WrongDifference | Fault::WrongRange | Fault::FalseRange | Fault::Slow) => {}
        Some(Fault::Cut(at)) => {
            served.faults.lock().unwrap().remove(&path);
            cut = Some(at);
        }
        None => {}
    }
    let all = bytes.len();
    let asked_for = asked_for.map(|range| {
        let (first, last) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        (
            first.parse::<usize>().unwrap(),
            last.parse::<usize>().unwrap(),
        )
    });
    let (mut from, mut to) = asked_for.map_or((0, all), |(first, last)| (first, last + 1));
    let said = from;
    if matches!(fault, Some(Fault::WrongRange | Fault::FalseRange)) {
        (from, to) = (0, to - from);
    }
    let said = match fault {
        Some(Fault::FalseRange) => said,
        _ => from,
    };
    let part = Bytes::from(bytes[from..to].to_vec());
    let mut answer = Response::builder().header(header::CONTENT_LENGTH, part.len());
    if asked_for.is_some() {
        let span = format!("bytes {said}-{}/{all}", said + (to - from) - 1);
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, span);
    }
    let body = match cut {
        None if matches!(fault, Some(Fault::Slow)) => {
            Body::from_stream(slowly(served.allowed.subscribe(), part, from))
        }
        None => Body::from(part),
        Some(at) => {
            let broken = async move {
                served.cut.notified().await;
                Err(io::Error::other("the line is cut"))
            };
            let whole = stream::iter([Ok(part.slice(..at))]);
            Body::from_stream(whole.chain(stream::once(broken)))
        }
    };
    answer.body(body).unwrap()
}

/// The part of a file that begins at `from`, as far as it is allowed.
fn slowly(
    allowed: watch::Receiver<usize>,
    part: Bytes,
    from: usize,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(
        (allowed, part, from),
        |(mut allowed, mut rest, at)| async move {
            if rest.is_empty() {
                return None;
            }
            let until = *allowed.wait_for(|until| *until > at).await.ok()?;
            let piece = rest.split_to(rest.len().min(until - at));
            let next = at + piece.len();
            Some((Ok(piece), (allowed, rest, next)))
        },
    )
}

/// A team, and what it has signed.
pub(crate) struct Team {
    team: SigningKey,
    pub(crate) release: SigningKey,
    /// What the controller has, whoever holds that.
    pub(crate) online: SigningKey,
    pub(crate) pin: Digest,
    pub(crate) served: Arc<Served>,
}

fn in_days(days: u64) -> Moment {
    tamer_kit::clock::now() + Span::secs(days * DAY)
}

impl Team {
    /// With the repositories of two applications and two environments, all without targets.
    pub(crate) fn new() -> Self {
        let key = || SigningKey::generate().unwrap();
        let (team, release, online) = (key(), key(), key());
        let root = RoleKeys::one(team.public());
        let first = editor::team_root(&root, 1, in_days(365), &[&team]).unwrap();
        let this = Self {
            pin: sha256(&first),
            team,
            release,
            online,
            served: Arc::default(),
        };
        this.served.put("trust/team/1.root.json".to_owned(), first);
        for name in ["app/shop", "app/bank", "env/staging", "env/production"] {
            let roles = RepositoryRoles {
                root: RoleKeys::one(this.team.public()),
                targets: RoleKeys::one(this.release.public()),
                online: RoleKeys::one(this.online.public()),
            };
            let repository = name.parse().unwrap();
            let root = editor::repository_root(&repository, &roles, 1, in_days(365), &[&this.team]);
            this.served
                .put(format!("trust/{name}/1.root.json"), root.unwrap());
        }
        this
    }

    /// Signs targets, snapshot and timestamp, each as version `n`.
    fn publish(&self, name: &str, addition: NewTarget, n: u64) {
        self.publish_as(name, addition, n, &self.release);
    }

    /// The same with targets that this key signs.
    pub(crate) fn publish_as(&self, name: &str, addition: NewTarget, n: u64, key: &SigningKey) {
        let repository: RepositoryName = name.parse().unwrap();
        let path = |file: &str| format!("trust/{name}/{file}");
        let previous = (n > 1).then(|| self.served.file(&path(&format!("{}.targets.json", n - 1))));
        let targets = targets_with(
            &repository,
            previous.as_deref(),
            vec![addition],
            &[],
            in_days(90),
            &[key],
        )
        .unwrap();
        self.served
            .put(path(&format!("{n}.targets.json")), targets.clone());
        let targets = Document::parse(targets, None).unwrap();
        let snapshot = editor::snapshot(name, &targets, n, in_days(7), &[&self.online]).unwrap();
        self.served
            .put(path(&format!("{n}.snapshot.json")), snapshot.clone());
        let snapshot = Document::parse(snapshot, None).unwrap();
        let timestamp = editor::timestamp(name, &snapshot, n, in_days(1), &[&self.online]).unwrap();
        self.served.put(path("timestamp.json"), timestamp);
    }

    /// Signs the timestamp of version `n` so that it is past its end.
    pub(crate) fn expired(&self, name: &str, n: u64) {
        let snapshot = self.served.file(&format!("trust/{name}/{n}.snapshot.json"));
        let snapshot = Document::parse(snapshot, None).unwrap();
        let end = Moment(tamer_kit::clock::now().0 - 1000);
        let timestamp = editor::timestamp(name, &snapshot, n, end, &[&self.online]).unwrap();
        let path = format!("trust/{name}/timestamp.json");
        self.served.put(path, timestamp);
    }

    pub(crate) fn blob(&self, bytes: &[u8]) {
        self.served
            .put(format!("blobs/{}", sha256(bytes)), bytes.to_vec());
    }

    /// Signs the environment's file as version `n`.
    pub(crate) fn environment(&self, text: &str, n: u64) {
        self.environment_of("staging", text, n);
    }

    pub(crate) fn environment_of(&self, name: &str, text: &str, n: u64) {
        self.blob(text.as_bytes());
        let target = NewTarget::environment(&name.parse().unwrap(), text.as_bytes());
        self.publish(&format!("env/{name}"), target, n);
    }

    /// Signs a manifest as a release of a component, in version `n` of the repository.
    pub(crate) fn sign(
        &self,
        component: &str,
        version: &str,
        manifest: &[u8],
        n: u64,
    ) -> ReleaseRef {
        self.blob(manifest);
        let (shop, component) = ("shop".parse().unwrap(), component.parse().unwrap());
        let version = version.parse().unwrap();
        let target = NewTarget::release(&shop, &component, &version, manifest);
        self.publish("app/shop", target, n);
        ReleaseRef {
            version,
            manifest: sha256(manifest),
        }
    }

    /// Packs a release of `shop/web`; its archive is served.
    pub(crate) fn pack(&self, version: &str) -> (Manifest, Vec<u8>) {
        let text =
            "application = \"shop\"\n[component.web]\nfiles = \"x\"\nroot = \"/srv/shop/web\"\n";
        let application = Application::parse("tamer.toml", text).unwrap();
        let component = "web".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        // Bytes that do not compress, so that there is something to cut.
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(400_000)
        .collect();
        std::fs::write(tree.join("noise"), noise).unwrap();
        std::fs::write(tree.join("version"), version).unwrap();
        let what = pack::PackSpec {
            application: application.application.clone(),
            spec: application.components[&component].clone(),
            component,
            version: version.parse().unwrap(),
            mtime: 1_700_000_000,
        };
        let archive = dir.path().join("archive");
        let packed = pack::pack(&tree, &what, &archive).unwrap();
        self.blob(&std::fs::read(&archive).unwrap());
        let bytes = packed.manifest_bytes();
        (packed.manifest, bytes)
    }

    pub(crate) fn archive(&self, manifest: &Manifest) -> (String, Vec<u8>) {
        let path = format!("blobs/{}", manifest.archive.sha256);
        let bytes = self.served.file(&path);
        (path, bytes)
    }
}
