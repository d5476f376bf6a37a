//! A small fleet for tests: a CA, identities of it, and a server on loopback that says who asked.

use axum::body::{Body, Bytes};
use axum::routing::get;
use axum::{Extension, Router};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};
use rustls::ClientConfig;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tamer_controller::identity::ca::Ca;
use tamer_controller::identity::csr::ProvenKey;
use tamer_controller::identity::peer::{Caller, Peer};
use tamer_controller::server::{Connections, Limits, serve};
use tamer_core::moment::Moment;
use tamer_kit::tls::{self, ServerTls};
use tamer_kit::{channel, clock, http as client};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status};

/// Milliseconds of a day.
pub(crate) const DAY: u64 = 24 * 3600 * 1000;
pub(crate) const HOST: &str = "tamer://host/production/web-01?incarnation=1";
pub(crate) const OTHER_HOST: &str = "tamer://host/production/web-02?incarnation=1";

/// A certificate and its key, PEM.
pub(crate) type Pair = (String, String);

pub(crate) fn now() -> Moment {
    clock::now()
}

pub(crate) fn leaf(pair: &Pair) -> Peer {
    Peer::from_der(&tls::first_certificate(&pair.0).unwrap()).unwrap()
}

pub(crate) struct Fleet {
    pub(crate) ca: Ca,
    dir: tempfile::TempDir,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // As if made a year ago, so that certificates may have expired since.
        let ca = Ca::create(dir.path(), Moment(now().0 - 365 * DAY)).unwrap();
        Self { ca, dir }
    }

    /// A certificate that was issued at that moment.
    pub(crate) fn identity(&self, name: &str, issued: Moment) -> Pair {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let proven = ProvenKey::from_csr_pem(&csr.pem().unwrap()).unwrap();
        let certificate = self.ca.issue(&name.parse().unwrap(), &proven, issued);
        (certificate.unwrap(), key.serialize_pem())
    }

    /// A certificate of another CA that this one has signed and that may have any name, and the way up to it: what a
    /// thief of the CA's key can make.
    pub(crate) fn through_another_ca(&self, name: &str) -> Pair {
        let key = std::fs::read_to_string(self.dir.path().join("ca-key.pem")).unwrap();
        let key = KeyPair::from_pem(&key).unwrap();
        let ours = Issuer::from_ca_cert_pem(self.ca.certificate_pem(), key).unwrap();
        let mut below = CertificateParams::default();
        let called = "Tamer controller CA 0123456789ab";
        below.distinguished_name.push(DnType::CommonName, called);
        below.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let below = CertifiedIssuer::signed_by(below, KeyPair::generate().unwrap(), &ours).unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &below).unwrap();
        (leaf.pem() + &below.pem(), key.serialize_pem())
    }

    pub(crate) fn server_identity(&self, name: &str) -> Pair {
        let issued = self.ca.issue_server(&[name.to_owned()], now()).unwrap();
        (issued.certificate_pem, issued.key_pem)
    }

    pub(crate) fn client(&self, identity: Option<&Pair>) -> ClientConfig {
        let identity = identity.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        tls::client_config(self.ca.certificate_pem(), identity).unwrap()
    }
}

pub(crate) struct Server {
    pub(crate) socket: SocketAddr,
    pub(crate) connections: Connections,
    pub(crate) tls: ServerTls,
    ca: String,
    hold: Arc<Hold>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Hold {
    arrived: Notify,
    release: Notify,
}

impl Server {
    pub(crate) async fn start(fleet: &Fleet) -> Self {
        Self::start_with(
            fleet,
            &fleet.server_identity("127.0.0.1"),
            Limits::default(),
        )
        .await
    }

    pub(crate) async fn start_with(fleet: &Fleet, identity: &Pair, limits: Limits) -> Self {
        let ca = fleet.ca.certificate_pem();
        let tls = ServerTls::new(ca, &identity.0, &identity.1).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = listener.local_addr().unwrap();
        let connections = Connections::default();
        let (stop, stopped) = oneshot::channel();
        let hold = Arc::new(Hold::default());
        let task = {
            let (tls, connections) = (tls.clone(), connections.clone());
            let router = router(Arc::clone(&hold));
            tokio::spawn(async move {
                let shutdown = async {
                    let _ = stopped.await;
                };
                serve(listener, &tls, router, connections, limits, shutdown).await
            })
        };
        Self {
            socket,
            connections,
            tls,
            ca: ca.to_owned(),
            hold,
            stop: Some(stop),
            task: Some(task),
        }
    }

    fn config(&self, identity: Option<&Pair>) -> ClientConfig {
        let identity = identity.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        tls::client_config(&self.ca, identity).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.socket)
    }

    /// As whom the server sees a caller, or the whole chain of errors.
    pub(crate) async fn who(&self, identity: Option<&Pair>) -> Result<String, String> {
        self.who_with(self.config(identity)).await
    }

    pub(crate) async fn who_with(&self, config: ClientConfig) -> Result<String, String> {
        let client = client::client(config).unwrap();
        let answer = client.get(self.url("/who")).send().await;
        let answer = answer.map_err(|error| chain(&error))?;
        answer.text().await.map_err(|error| chain(&error))
    }

    /// A response that never ends, of which something has arrived.
    pub(crate) async fn endless(&self, identity: Option<&Pair>) -> reqwest::Response {
        let client = client::client(self.config(identity)).unwrap();
        let answer = client.get(self.url("/endless")).send().await;
        let mut answer = answer.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        answer
    }

    /// A request that has arrived and is answered after [`Self::release`].
    pub(crate) async fn held(&self, identity: Option<&Pair>) -> JoinHandle<String> {
        let client = client::client(self.config(identity)).unwrap();
        let url = self.url("/held");
        let arrived = self.hold.arrived.notified();
        let request = tokio::spawn(async move {
            let answer = client.get(url).send().await.unwrap();
            answer.text().await.unwrap()
        });
        arrived.await;
        request
    }

    pub(crate) fn release(&self) {
        self.hold.release.notify_one();
    }

    pub(crate) async fn raw(
        &self,
        config: ClientConfig,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.socket).await?;
        let name = self.socket.ip().into();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    pub(crate) async fn grpc_echo(
        &self,
        config: ClientConfig,
        word: &str,
    ) -> Result<String, String> {
        let address = self.url("").parse().unwrap();
        let channel = channel::connect(&address, config).await;
        let channel = channel.map_err(|error| chain(&error))?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| chain(&error))?;
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Say");
        let request = Request::new(word.to_owned());
        let answer = grpc.unary(request, path, Text).await;
        answer.map(Response::into_inner).map_err(|e| chain(&e))
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        self.task.take().unwrap().await.unwrap()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn said(caller: &Caller) -> String {
    match caller {
        Caller::Stranger => "stranger".to_owned(),
        Caller::Peer(peer) if peer.expired(now()) => format!("{} expired", peer.identity),
        Caller::Peer(peer) => peer.identity.to_string(),
    }
}

fn router(hold: Arc<Hold>) -> Router {
    let who = |Extension(caller): Extension<Caller>, request: http::Request<Body>| async move {
        let version = match request.version() {
            http::Version::HTTP_2 => "h2",
            _ => "h1",
        };
        format!("{} {version}", said(&caller))
    };
    let endless = || async {
        let ticks = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"tick")), ()))
        });
        Body::from_stream(ticks)
    };
    let held = move || async move {
        hold.arrived.notify_waiters();
        hold.release.notified().await;
        "released"
    };
    tonic::service::Routes::new(Echo)
        .into_axum_router()
        .route("/who", get(who))
        .route("/endless", get(endless))
        .route("/held", get(held))
}

/// A gRPC service as tonic's generated code would be, with plain text for messages.
#[derive(Clone)]
struct Echo;

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl tower::Service<http::Request<tonic::body::Body>> for Echo {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let say = tower::service_fn(|request: Request<String>| async move {
            let caller = request.extensions().get::<Caller>();
            let caller = caller.ok_or_else(|| Status::internal("nobody called"))?;
            let answer = format!("{}, {}", request.get_ref(), said(caller));
            Ok::<_, Status>(Response::new(answer))
        });
        Box::pin(async move { Ok(tonic::server::Grpc::new(Text).unary(say, request).await) })
    }
}

#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;
    fn encode(&mut self, item: String, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(into, item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        use bytes::Buf;
        let bytes = from.copy_to_bytes(from.remaining());
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}
