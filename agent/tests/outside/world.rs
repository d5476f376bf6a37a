//! A port with TLS: enrolment, the agents' stream, and files, all as the test wants them.

use axum::Router;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tamer_agent::identity::Keys;
use tamer_core::digest::Digest;
use tamer_kit::address::Address;
use tamer_kit::hash::sha256;
use tamer_kit::tls::{self, ServerTls};
use tamer_kit::token::{JoinToken, Secret, TokenKind};
use tamer_proto::v1::agent_message::Kind as Said;
use tamer_proto::v1::agents_server::{Agents, AgentsServer};
use tamer_proto::v1::enrolment_server::{Enrolment, EnrolmentServer};
use tamer_proto::v1::{
    AgentMessage, ControllerMessage, Greeting, JoinRequest, JoinResponse, RenewRequest,
    RenewResponse, Welcome, controller_message,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Far longer than anything here takes; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const TEAM_ROOT: &[u8] = b"{\"the team's\": \"root\"}";

/// A certificate authority.
pub(crate) struct Ca {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Test CA");
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Arc::new(Self { pem, issuer })
    }

    pub(crate) fn fingerprint(&self) -> Digest {
        tls::fingerprint(&self.pem).unwrap()
    }

    fn sign_request(&self, csr: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// A host's key and certificate.
    pub(crate) fn keys(&self) -> Keys {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Keys {
            identity: format!("{}{certificate}", key.serialize_pem()),
            ca: self.pem.clone(),
        }
    }

    fn server(&self) -> ServerTls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        ServerTls::new(&self.pem, &certificate, &key.serialize_pem()).unwrap()
    }
}

/// An agent that has greeted.
pub(crate) struct Line {
    pub(crate) greeting: Greeting,
    incoming: Streaming<AgentMessage>,
    outgoing: mpsc::Sender<Result<ControllerMessage, Status>>,
}

impl Line {
    pub(crate) async fn say(&self, kind: controller_message::Kind) {
        let message = ControllerMessage { kind: Some(kind) };
        self.outgoing.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn welcome(&self, now_ms: u64) {
        let welcome = Welcome {
            protocol: 1,
            now_ms,
            controller_version: "9.9.9".to_owned(),
        };
        self.say(controller_message::Kind::Welcome(welcome)).await;
    }

    /// The next report; `None` once the agent has gone.
    pub(crate) async fn report(&mut self) -> Option<tamer_proto::v1::HostReport> {
        let next = tokio::time::timeout(PATIENCE, self.incoming.message()).await;
        match next.expect("a report comes").ok()??.kind {
            Some(Said::Report(report)) => Some(report),
            other => panic!("not a report: {other:?}"),
        }
    }
}

/// What the port answers.
pub(crate) struct Answers {
    ca: Arc<Ca>,
    pub(crate) trust_root: Mutex<Vec<u8>>,
    pub(crate) other_ca: Mutex<Option<String>>,
    /// The next answer is lost on its way.
    pub(crate) lose: AtomicBool,
    /// The signing requests that came, by the public key's digest.
    pub(crate) requests: Mutex<Vec<Digest>>,
    /// The next streams are refused.
    pub(crate) refuse: AtomicBool,
    lines: mpsc::UnboundedSender<Line>,
}

impl Answers {
    fn certify(&self, csr: &str) -> Result<(String, String), Status> {
        let request = CertificateSigningRequestParams::from_pem(csr)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        use rcgen::PublicKeyData as _;
        let key = sha256(request.public_key.der_bytes());
        self.requests.lock().unwrap().push(key);
        if self.lose.swap(false, Ordering::SeqCst) {
            return Err(Status::unavailable("the answer is lost"));
        }
        let ca = self.other_ca.lock().unwrap().clone();
        Ok((
            self.ca.sign_request(csr),
            ca.unwrap_or_else(|| self.ca.pem.clone()),
        ))
    }
}

struct Service(Arc<Answers>);

#[tonic::async_trait]
impl Enrolment for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        if request.secret != [7; 32] {
            return Err(Status::permission_denied("the token is not known"));
        }
        let (certificate_pem, ca_pem) = self.0.certify(&request.csr)?;
        Ok(Response::new(JoinResponse {
            certificate_pem,
            ca_pem,
            name: request.name,
            environment: "staging".to_owned(),
            trust_root: self.0.trust_root.lock().unwrap().clone(),
        }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let (certificate_pem, ca_pem) = self.0.certify(&request.into_inner().csr)?;
        Ok(Response::new(RenewResponse {
            certificate_pem,
            ca_pem,
        }))
    }
}

#[tonic::async_trait]
impl Agents for Service {
    type ConnectStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(AgentMessage {
            kind: Some(Said::Greeting(greeting)),
        }) = incoming.message().await?
        else {
            return Err(Status::invalid_argument("no greeting"));
        };
        if self.0.refuse.swap(false, Ordering::SeqCst) {
            return Err(Status::permission_denied("this host is not known"));
        }
        let (outgoing, stream) = mpsc::channel(8);
        let line = Line {
            greeting,
            incoming,
            outgoing,
        };
        self.0.lines.send(line).ok();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The port.
pub(crate) struct Port {
    pub(crate) ca: Arc<Ca>,
    pub(crate) address: Address,
    pub(crate) answers: Arc<Answers>,
    /// The certificates that clients showed, in DER.
    pub(crate) peers: Arc<Mutex<Vec<Option<Vec<u8>>>>>,
    lines: tokio::sync::Mutex<mpsc::UnboundedReceiver<Line>>,
    _task: AbortOnDropHandle<()>,
}

struct TlsPort {
    listener: TcpListener,
    tls: TlsAcceptor,
    peers: Arc<Mutex<Vec<Option<Vec<u8>>>>>,
}

impl axum::serve::Listener for TlsPort {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.tls.accept(stream).await {
                let certificate = stream.get_ref().1.peer_certificates();
                let shown = certificate.map(|it| it[0].to_vec());
                self.peers.lock().unwrap().push(shown);
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Port {
    /// Opens a port that also serves these paths.
    pub(crate) async fn open(more: Router) -> Self {
        let ca = Ca::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        let answers = Arc::new(Answers {
            ca: Arc::clone(&ca),
            trust_root: Mutex::new(TEAM_ROOT.to_vec()),
            other_ca: Mutex::new(None),
            lose: AtomicBool::new(false),
            requests: Mutex::new(Vec::new()),
            refuse: AtomicBool::new(false),
            lines: sender,
        });
        let routes = Routes::new(EnrolmentServer::new(Service(Arc::clone(&answers))))
            .add_service(AgentsServer::new(Service(Arc::clone(&answers))));
        let router = more.merge(routes.into_axum_router());
        let peers = Arc::default();
        let port = TlsPort {
            listener,
            tls: TlsAcceptor::from(ca.server().config()),
            peers: Arc::clone(&peers),
        };
        let task = tokio::spawn(async move {
            let _ = axum::serve(port, router).await;
        });
        Self {
            ca,
            address,
            answers,
            peers,
            lines: tokio::sync::Mutex::new(lines),
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The next agent that greets.
    pub(crate) async fn line(&self) -> Line {
        let mut lines = self.lines.lock().await;
        let line = tokio::time::timeout(PATIENCE, lines.recv()).await;
        line.expect("an agent connects").unwrap()
    }

    pub(crate) fn token(&self) -> JoinToken {
        JoinToken {
            kind: TokenKind::Host,
            controller: self.address.clone(),
            ca: self.ca.fingerprint(),
            trust_root: Some(sha256(TEAM_ROOT)),
            secret: Secret::new([7; 32]),
        }
    }
}
