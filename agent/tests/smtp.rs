//! The `smtp` check against real conversations: a server that refuses at any stage one likes, and
//! lines that fall silent or break off.

#![allow(clippy::unwrap_used, reason = "a test says best where it broke")]

mod common;

use common::{mail, pki};
use mailin::response::{AUTH_OK, INVALID_CREDENTIALS, OK};
use mailin::{Handler, Response};
use postbox::mailbox::Mailbox;
use postbox::server::Server;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const SEND: &str = "from = \"probe@shop.example\"\nto = \"sink@shop.example\"\n";

/// Refuses at one stage, and takes the password `secret`.
#[derive(Clone)]
struct Moody(&'static str);

impl Moody {
    fn at(&self, stage: &str, code: u16, said: &str) -> Response {
        if self.0 == stage {
            Response::custom(code, said.to_owned())
        } else {
            OK
        }
    }
}

impl Handler for Moody {
    fn helo(&mut self, _: IpAddr, domain: &str) -> Response {
        assert_eq!(domain, "web-01.shop.example");
        self.at("hello", 550, "5.7.1 not you")
    }
    fn mail(&mut self, _: IpAddr, _: &str, _: &str) -> Response {
        self.at("sender", 550, "5.7.1 no such sender")
    }
    fn rcpt(&mut self, _: &str) -> Response {
        self.at("recipient", 450, "4.2.1 greylisted, come back later")
    }
    fn data_start(&mut self, _: &str, _: &str, _: bool, _: &[String]) -> Response {
        self.at("data", 554, "no valid recipients")
    }
    fn data_end(&mut self) -> Response {
        self.at("message", 552, "5.3.4 too large")
    }
    fn auth_plain(&mut self, _: &str, name: &str, password: &str) -> Response {
        match (name, password) {
            ("probe", "secret") => AUTH_OK,
            _ => INVALID_CREDENTIALS,
        }
    }
}

async fn serve<H: Handler + Clone + Send + 'static>(server: Server<H>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.serve(listener));
    address
}

fn acceptor(pki: &common::Pki) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&pki.cert).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(tamer_kit::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(&pki.key).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_message_is_sent_and_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = Mailbox::new(dir.path()).unwrap();
    let address = serve(Server::new("box.example", mailbox)).await;
    assert_eq!(mail(&address.to_string(), SEND).await, "");
    let kept = std::fs::read_to_string(dir.path().join("000001.eml")).unwrap();
    assert!(
        kept.contains("X-Envelope-From: probe@shop.example\r\n"),
        "{kept}"
    );
    assert!(
        kept.contains("X-Envelope-To: sink@shop.example\r\n"),
        "{kept}"
    );
    assert!(
        kept.contains("\r\nSubject: Mail check of web-01.shop.example\r\n"),
        "{kept}"
    );
    assert!(
        kept.contains("\r\nAuto-Submitted: auto-generated\r\n"),
        "{kept}"
    );
    let elsewhere = SEND.replace("sink@shop.example", "sink@elsewhere.test");
    assert_eq!(
        mail(&address.to_string(), &elsewhere).await,
        format!(
            "the server refused the recipient sink@elsewhere.test: \
             550 no mailbox here for sink@elsewhere.test ({address})"
        )
    );
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);
}

#[tokio::test]
async fn every_stage_has_its_own_sentence() {
    for (stage, expected) in [
        ("nothing", ""),
        (
            "hello",
            "the server refused to talk to us: 550 5.7.1 not you",
        ),
        (
            "sender",
            "the server refused the sender probe@shop.example: 550 5.7.1 no such sender",
        ),
        (
            "recipient",
            "the server refused the recipient sink@shop.example: 450 4.2.1 greylisted, come back later",
        ),
        (
            "data",
            "the server refused the message: 554 no valid recipients",
        ),
        (
            "message",
            "the server refused the message: 552 5.3.4 too large",
        ),
    ] {
        let address = serve(Server::new("moody.example", Moody(stage))).await;
        let expected = match expected {
            "" => String::new(),
            expected => format!("{expected} ({address})"),
        };
        assert_eq!(mail(&address.to_string(), SEND).await, expected, "{stage}");
    }
}

#[tokio::test]
async fn encryption_is_used_where_offered_and_judged_where_demanded() {
    let dir = tempfile::tempdir().unwrap();
    let ours = pki(dir.path(), "ours");
    let other = pki(dir.path(), "other");
    let server = Server::new("moody.example", Moody("nothing"));
    let plain = serve(server.clone()).await.to_string();
    let secret = serve(server.with_tls(acceptor(&ours))).await;
    let ours = format!("ca_file = \"{}\"\n", ours.ca.display());
    let other = format!("ca_file = \"{}\"\n", other.ca.display());
    let required = "tls = \"required\"\n";

    assert_eq!(
        mail(&secret.to_string(), SEND).await,
        "",
        "offered: not judged"
    );
    let never = format!("{SEND}tls = \"never\"");
    assert_eq!(mail(&secret.to_string(), &never).await, "");
    assert_eq!(
        mail(&secret.to_string(), &format!("{SEND}{required}{ours}")).await,
        ""
    );
    assert_eq!(
        mail(&plain, &format!("{SEND}{required}{ours}")).await,
        format!("STARTTLS is required, but the server does not offer it ({plain})")
    );
    for lines in [
        format!("{required}{other}"),
        other.clone(),
        required.to_owned(),
    ] {
        assert_eq!(
            mail(&secret.to_string(), &format!("{SEND}{lines}")).await,
            format!(
                "the certificate does not hold for 127.0.0.1: it is signed by nobody who is \
                 trusted here ({secret})"
            ),
            "{lines}"
        );
    }
    // The same server by a name that its certificate does not have.
    let by_name = format!("[::ffff:127.0.0.1]:{}", secret.port());
    let why = mail(&by_name, &format!("{SEND}{ours}")).await;
    assert!(
        why.contains("does not hold for ::ffff:127.0.0.1: it is for other names"),
        "{why}"
    );
}

#[tokio::test]
async fn a_login_needs_the_right_password_and_a_trusted_server() {
    let dir = tempfile::tempdir().unwrap();
    let ours = pki(dir.path(), "ours");
    let password = dir.path().join("password");
    let server = Server::new("moody.example", Moody("nothing"));
    let plain = serve(server.clone()).await.to_string();
    let no_login = serve(server.clone().with_tls(acceptor(&ours)))
        .await
        .to_string();
    let address = serve(server.with_tls(acceptor(&ours)).with_login())
        .await
        .to_string();
    let login = format!(
        "{SEND}username = \"probe\"\npassword_file = \"{}\"\n",
        password.display()
    );
    let trusted = format!("{login}ca_file = \"{}\"\n", ours.ca.display());

    let why = mail(&address, &trusted).await;
    assert_eq!(
        why,
        format!("cannot read {}: there is no such file", password.display())
    );
    std::fs::write(&password, "\nsecret").unwrap();
    let why = mail(&address, &trusted).await;
    assert_eq!(
        why,
        format!("the first line of {} holds no password", password.display())
    );
    std::fs::write(&password, "secret\nand more").unwrap();
    assert_eq!(mail(&address, &trusted).await, "");
    assert_eq!(
        mail(&no_login, &trusted).await,
        format!("the server offers no login with a password ({no_login})")
    );
    assert_eq!(
        mail(&plain, &trusted).await,
        format!("the login needs TLS, but the server does not offer STARTTLS ({plain})")
    );
    let why = mail(&address, &format!("{trusted}tls = \"never\"")).await;
    assert_eq!(
        why,
        "a login needs TLS, but the check says `tls = \"never\"`"
    );
    let why = mail(&address, &login).await;
    assert!(
        why.starts_with("the certificate does not hold"),
        "no password for strangers: {why}"
    );
    std::fs::write(&password, "guess").unwrap();
    assert_eq!(
        mail(&address, &trusted).await,
        format!("the server refused the login: 535 Invalid credentials ({address})")
    );
}

/// A server that says this much and then waits for ever, or hangs up.
async fn says(text: &'static str, hangs_up: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(text.as_bytes()).await;
                if !hangs_up {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn silence_and_broken_lines_are_told_apart() {
    let quick = format!("{SEND}timeout = \"300ms\"");
    let silent = says("", false).await;
    assert_eq!(
        mail(&silent.to_string(), &quick).await,
        format!("no answer within 300 ms while waiting for its greeting at {silent}")
    );
    let later = says("220 x\r\n250 x\r\n", false).await;
    assert_eq!(
        mail(&later.to_string(), &quick).await,
        format!("no answer within 300 ms while naming the sender at {later}")
    );
    let full = says("421 4.3.2 too busy\r\n", true).await;
    let why = mail(&full.to_string(), SEND).await;
    assert!(
        why.starts_with("the server refused to talk to us: 421 4.3.2 too busy"),
        "{why}"
    );
    let gone = says("", true).await;
    let why = mail(&gone.to_string(), SEND).await;
    assert_eq!(
        why,
        format!("connection to {gone} closed by the other side")
    );
    let web = says("HTTP/1.1 400 Bad Request\r\n\r\n", true).await;
    let why = mail(&web.to_string(), SEND).await;
    assert!(
        why.starts_with(&format!("{web} does not speak SMTP as expected")),
        "{why}"
    );
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let why = mail(&nobody.to_string(), SEND).await;
    assert_eq!(why, format!("connection to {nobody} refused"));
    let why = mail("127.0.0.1:1", &SEND.replace("sink@", "")).await;
    assert!(
        why.starts_with("the recipient `shop.example` is not an e-mail address"),
        "{why}"
    );
}
