//! A controller that serves, as a process, and whoever calls it with whatever certificate.

use rcgen::{CertificateParams, KeyPair};
use std::error::Error as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tamer_controller::config::Config;
use tamer_controller::identity::ca::{Ca, CaError};
use tamer_controller::identity::csr::ProvenKey;
use tamer_core::moment::Moment;
use tamer_kit::token::JoinToken;
use tamer_kit::{channel, clock, tls};
use tamer_proto::v1;
use tamer_proto::v1::enrolment_client::EnrolmentClient;
use tamer_proto::v1::operators_client::OperatorsClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate and its key, PEM.
pub(crate) type Pair = (String, String);

pub(crate) struct World {
    child: Child,
    address: SocketAddr,
    file: PathBuf,
    first: JoinToken,
    _dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl World {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("controller.toml");
        let command = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tamer-controller"));
            command.args(args).arg("--config").arg(&file);
            command.env("TAMER_LOG", "info");
            command
        };
        let data = dir.path().join("data");
        let init = command(&[
            "init",
            "--listen=127.0.0.1:0",
            "--public=localhost:7400",
            "--admin=anna",
        ])
        .args(["--data", data.to_str().unwrap()])
        .output()
        .unwrap();
        let said = String::from_utf8_lossy(&init.stdout);
        let token = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("tamer login <<< "));
        let first = token
            .unwrap_or_else(|| panic!("{said} {init:?}"))
            .parse()
            .unwrap();
        let mut child = command(&["serve"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it has ended");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "serving" {
                break line["address"].as_str().unwrap().parse().unwrap();
            }
        };
        // Read on, so that it never waits for somebody to read.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self {
            child,
            address,
            file,
            first,
            _dir: dir,
        }
    }

    /// The CA that vouches for the controller. In the middle of a rotation its key and its certificate are put in place
    /// one after the other: it is read until they belong together.
    pub(crate) fn ca(&self) -> Ca {
        let dir = Config::load(&self.file).unwrap().paths().ca;
        let until = Instant::now() + PATIENCE;
        loop {
            match Ca::load(&dir) {
                Err(CaError::WrongKey(_)) if Instant::now() < until => {}
                ca => return ca.unwrap(),
            }
        }
    }

    /// A certificate of this controller's CA for this name, from that moment: what nobody else can make.
    pub(crate) fn minted(&self, name: &str, issued: Moment) -> Pair {
        let key = KeyPair::generate().unwrap();
        let proven =
            ProvenKey::from_csr_pem(&request(&CertificateParams::default(), &key)).unwrap();
        let certificate = self
            .ca()
            .issue(&name.parse().unwrap(), &proven, issued)
            .unwrap();
        (certificate, key.serialize_pem())
    }

    pub(crate) async fn line(&self, identity: Option<&Pair>) -> Result<Channel, String> {
        let identity = identity.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        let tls = tls::client_config(self.ca().certificate_pem(), identity).unwrap();
        let address = format!("https://{}", self.address).parse().unwrap();
        channel::connect(&address, tls)
            .await
            .map_err(|e| format!("{e:?}"))
    }

    /// Offers a token with this signing request.
    pub(crate) async fn offer(
        &self,
        token: &JoinToken,
        name: &str,
        csr: String,
    ) -> Result<String, Status> {
        let request = v1::JoinRequest {
            secret: token.secret.expose().to_vec(),
            name: name.to_owned(),
            csr,
        };
        let answer = EnrolmentClient::new(self.line(None).await.unwrap())
            .join(request)
            .await?;
        Ok(answer.into_inner().certificate_pem)
    }

    /// Logs in with a token.
    pub(crate) async fn login(&self, token: &JoinToken) -> Result<Pair, Status> {
        let key = KeyPair::generate().unwrap();
        let csr = request(&CertificateParams::default(), &key);
        let certificate = self.offer(token, "", csr).await?;
        Ok((certificate, key.serialize_pem()))
    }

    /// The first admin, logged in.
    pub(crate) async fn admin(&self) -> Pair {
        self.login(&self.first).await.unwrap()
    }

    /// A new certificate for the same key, and the CAs that come with it.
    pub(crate) async fn renew(&self, identity: &Pair) -> Result<(Pair, String), Status> {
        let key = KeyPair::from_pem(&identity.1).unwrap();
        let csr = request(&CertificateParams::default(), &key);
        let line = self.line(Some(identity)).await.unwrap();
        let mut enrolment = EnrolmentClient::new(line);
        let answer = enrolment
            .renew(v1::RenewRequest { csr })
            .await?
            .into_inner();
        let renewed = (answer.certificate_pem, identity.1.clone());
        Ok((renewed, answer.ca_pem))
    }

    pub(crate) async fn operators(&self, identity: &Pair) -> OperatorsClient<Channel> {
        OperatorsClient::new(self.line(Some(identity)).await.unwrap())
    }

    /// A token for an operator in these environments, between blanks; none: everywhere.
    pub(crate) async fn invite(
        &self,
        by: &Pair,
        name: &str,
        role: &str,
        environment: &str,
    ) -> Result<JoinToken, Status> {
        let request = v1::InviteRequest {
            kind: "operator".to_owned(),
            name: name.to_owned(),
            role: role.to_owned(),
            environments: environment.split_whitespace().map(str::to_owned).collect(),
            ..v1::InviteRequest::default()
        };
        let answer = self.operators(by).await.invite(request).await?;
        Ok(answer.into_inner().token.parse().unwrap())
    }

    /// An operator, invited and logged in.
    pub(crate) async fn operator(
        &self,
        by: &Pair,
        name: &str,
        role: &str,
        environment: &str,
    ) -> Pair {
        let token = self.invite(by, name, role, environment).await.unwrap();
        self.login(&token).await.unwrap()
    }

    /// Waits until this is so.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, so: impl Fn() -> F) {
        let waits = async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waits).await.unwrap();
    }

    /// Whether a call does not even reach the controller: the handshake lets the caller in nowhere. TLS 1.3 tells a
    /// client only once it reads.
    pub(crate) async fn is_shut_out(&self, identity: &Pair, path: &str) -> bool {
        let Ok(line) = self.line(Some(identity)).await else {
            return true;
        };
        let mut client = tonic::client::Grpc::new(line);
        if client.ready().await.is_err() {
            return true;
        }
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = path.parse().unwrap();
        let answer = client
            .server_streaming(tonic::Request::new(()), path, codec)
            .await;
        // What the controller answers has no cause on this side.
        answer.is_err_and(|status| status.source().is_some())
    }

    /// One call, by its path, with an empty message.
    pub(crate) async fn call(&self, identity: Option<&Pair>, path: &str) -> (Code, String) {
        let mut client = tonic::client::Grpc::new(self.line(identity).await.unwrap());
        client.ready().await.unwrap();
        let path = path.parse().unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let answer = client
            .server_streaming(tonic::Request::new(()), path, codec)
            .await;
        match answer {
            Ok(_) => (Code::Ok, String::new()),
            Err(status) => (status.code(), status.message().to_owned()),
        }
    }
}

/// A signing request, PEM.
pub(crate) fn request(params: &CertificateParams, key: &KeyPair) -> String {
    params.serialize_request(key).unwrap().pem().unwrap()
}

pub(crate) fn now() -> Moment {
    clock::now()
}
