//! A controller in the test's own process: real TLS, real signatures, real HTTP, and no fleet.

mod rpcs;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Part, State};
use axum::http::{Method, StatusCode};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;
use tamer_kit::tls::{self, ServerTls};
use tamer_kit::token::{JoinToken, Secret, TokenKind};
use tamer_proto::v1::enrolment_server::EnrolmentServer;
use tamer_proto::v1::operators_server::OperatorsServer;
use tamer_proto::v1::{DeployRequest, DeploymentStatus};
use tamer_release::trust::{PublishedRepository, PublishedTeam, RepositoryName, SigningKey};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::service::Routes;

/// What the controller knows, and what it was asked.
pub(crate) struct Inside {
    ca: Issuer<'static, KeyPair>,
    ca_pem: String,
    /// How old a certificate is when it is handed out.
    pub(crate) age: Duration,
    pub(crate) renewed: u32,
    _dir: tempfile::TempDir,
    online: Arc<SigningKey>,
    pub(crate) team: PublishedTeam,
    repositories: BTreeMap<RepositoryName, PublishedRepository>,
    /// Where the repositories are.
    base: PathBuf,
    pub(crate) blobs: HashMap<Digest, Vec<u8>>,
    /// Answers to `Watch`, one a call.
    pub(crate) watches: Vec<Vec<Result<DeploymentStatus, Status>>>,
    pub(crate) deployed: Vec<DeployRequest>,
    /// What else happens just before the next targets come in.
    pub(crate) meanwhile: Option<Meanwhile>,
}

/// What else happens.
type Meanwhile = Box<dyn FnOnce(&mut Inside) + Send>;

/// The controller; clones are the same one.
#[derive(Clone)]
pub(crate) struct Controller {
    inside: Arc<Mutex<Inside>>,
    pub(crate) token: String,
}

impl Controller {
    /// Starts one on a port of the kernel's choice; it ends with the test's runtime.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        let ca = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let server = server.signed_by(&own, &ca).unwrap().pem();
        let tls = ServerTls::new(&ca_pem, &server, &own.serialize_pem()).unwrap();
        let token = JoinToken {
            kind: TokenKind::Operator,
            controller: format!("127.0.0.1:{port}").parse().unwrap(),
            ca: tls::fingerprint(&ca_pem).unwrap(),
            trust_root: None,
            secret: Secret::new([7; 32]),
        };
        let dir = tempfile::tempdir().unwrap();
        let controller = Self {
            inside: Arc::new(Mutex::new(Inside {
                ca,
                ca_pem,
                age: Duration::ZERO,
                renewed: 0,
                online: Arc::new(SigningKey::generate().unwrap()),
                team: PublishedTeam::new(dir.path()),
                base: dir.path().join("first"),
                _dir: dir,
                repositories: BTreeMap::new(),
                blobs: HashMap::new(),
                watches: Vec::new(),
                deployed: Vec::new(),
                meanwhile: None,
            })),
            token: token.to_string(),
        };
        tokio::spawn(serve(
            listener,
            TlsAcceptor::from(tls.config()),
            controller.router(),
        ));
        controller
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    fn router(&self) -> Router {
        let rpcs = Routes::new(EnrolmentServer::new(self.clone()))
            .add_service(OperatorsServer::new(self.clone()))
            .into_axum_router();
        Router::new()
            .route("/blobs/{digest}", get(blob).put(put_blob))
            .route("/trust/team/{file}", get(team_file))
            .route("/trust/{kind}/{name}/{file}", get(repository_file))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(self.clone())
            .merge(rpcs)
    }
}

impl Inside {
    /// A certificate for the key that the request proves, `age` old, for two hours in all.
    fn certificate(&self, csr: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let begun = OffsetDateTime::now_utc() - self.age;
        request.params.not_before = begun;
        request.params.not_after = begun + Duration::from_secs(7200);
        request.signed_by(&self.ca).unwrap().pem()
    }

    /// Forgets all that was published, as a controller in the wrong hands might.
    pub(crate) fn forget(&mut self) {
        self.repositories.clear();
        self.base.push("second");
    }

    pub(crate) fn repository(&mut self, name: &RepositoryName) -> &mut PublishedRepository {
        let (dir, online) = (&self.base, &self.online);
        self.repositories.entry(name.clone()).or_insert_with(|| {
            PublishedRepository::new(dir, name.clone(), vec![Arc::clone(online)])
        })
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            }
        });
    }
}

async fn blob(
    State(at): State<Controller>,
    method: Method,
    Part(digest): Part<String>,
) -> (StatusCode, Vec<u8>) {
    let digest: Digest = digest.parse().unwrap();
    match at.inside().blobs.get(&digest) {
        Some(_) if method == Method::HEAD => (StatusCode::OK, Vec::new()),
        Some(bytes) => (StatusCode::OK, bytes.clone()),
        None => (StatusCode::NOT_FOUND, Vec::new()),
    }
}

async fn put_blob(
    State(at): State<Controller>,
    Part(digest): Part<String>,
    body: Bytes,
) -> StatusCode {
    let digest: Digest = digest.parse().unwrap();
    if sha256(&body) != digest {
        return StatusCode::BAD_REQUEST;
    }
    at.inside().blobs.insert(digest, body.to_vec());
    StatusCode::CREATED
}

async fn team_file(
    State(at): State<Controller>,
    Part(file): Part<String>,
) -> (StatusCode, Vec<u8>) {
    answer(at.inside().team.read(&file).unwrap())
}

async fn repository_file(
    State(at): State<Controller>,
    Part((kind, name, file)): Part<(String, String, String)>,
) -> (StatusCode, Vec<u8>) {
    let name = format!("{kind}/{name}").parse().unwrap();
    answer(at.inside().repository(&name).read(&file).unwrap())
}

fn answer(found: Option<Vec<u8>>) -> (StatusCode, Vec<u8>) {
    match found {
        Some(bytes) => (StatusCode::OK, bytes),
        None => (StatusCode::NOT_FOUND, Vec::new()),
    }
}
