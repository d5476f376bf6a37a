//! `smtp`: a mail server accepts a message. The conversation is a real one, up to the server's word
//! that it has taken the message over; every stage has its own sentence for its failure.

use super::{Doing, Surroundings, Tried, reason, tcp, tls_reason};
use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;
use tamer_core::check::SmtpTls;
use tamer_kit::cause::cause;
use tokio::net::TcpStream;

/// The port of a server that names none: mail between servers (RFC 5321).
const PORT: u16 = 25;

/// How long the goodbye may take. By then the server has given its word, or its refusal.
const GOODBYE: Duration = Duration::from_millis(500);

/// What is sent, and how: the check's text with the host's variables put in.
pub(super) struct Probe {
    pub(super) server: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) tls: SmtpTls,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) ca_file: Option<String>,
}

impl Probe {
    /// Whether the certificate must hold: where encryption is demanded, where somebody has said
    /// whom to trust, and always before a password is shown.
    fn judges(&self) -> bool {
        self.tls == SmtpTls::Required || self.ca_file.is_some() || self.username.is_some()
    }
}

pub(super) async fn try_it(probe: &Probe, around: &Surroundings, doing: &Doing) -> Tried {
    let from = address(&probe.from, "sender")?;
    let to = address(&probe.to, "recipient")?;
    let message = message(&from, &to, &around.host)?;
    let login = login(probe, around).await?;
    let (server, name) = server(&probe.server);
    let tls = tls(probe, &name, around).await?;
    let stream = tcp::connect(&server, doing).await?;
    let hello = hello(&around.host, &stream);
    let mut talk = Talk {
        doing,
        server,
        name,
    };

    talk.wait("waiting for its greeting");
    let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello)
        .await
        .map_err(|e| talk.failed("the server refused to talk to us", &e))?;
    // A connection whose handshake failed is beyond a goodbye.
    secure(&mut connection, &mut talk, tls, &hello).await?;
    let ended = converse(&mut connection, &mut talk, login, &from, &to, &message).await;
    // Out of courtesy; what counts has been said.
    let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
    ended
}

/// Encrypts the conversation as far as the check demands it and the server offers it.
async fn secure(
    connection: &mut AsyncSmtpConnection,
    talk: &mut Talk<'_>,
    tls: Option<(SmtpTls, TlsParameters)>,
    hello: &ClientId,
) -> Tried {
    match tls {
        Some((_, parameters)) if connection.can_starttls() => {
            talk.wait("starting TLS");
            connection
                .starttls(parameters, hello)
                .await
                .map_err(|e| talk.failed("the server refused STARTTLS", &e))
        }
        Some((SmtpTls::Required, _)) => {
            Err(talk.because("STARTTLS is required, but the server does not offer it"))
        }
        _ => Ok(()),
    }
}

/// The login, where there is one, and the message.
async fn converse(
    connection: &mut AsyncSmtpConnection,
    talk: &mut Talk<'_>,
    login: Option<Credentials>,
    from: &Address,
    to: &Address,
    message: &[u8],
) -> Tried {
    if let Some(login) = login {
        if !connection.is_encrypted() {
            return Err(talk.because("the login needs TLS, but the server does not offer STARTTLS"));
        }
        let known = [Mechanism::Plain, Mechanism::Login];
        if connection
            .server_info()
            .get_auth_mechanism(&known)
            .is_none()
        {
            return Err(talk.because("the server offers no login with a password"));
        }
        talk.wait("logging in");
        connection
            .auth(&known, &login)
            .await
            .map_err(|e| talk.failed("the server refused the login", &e))?;
    }
    talk.wait("naming the sender");
    connection
        .command(Mail::new(Some(from.clone()), vec![]))
        .await
        .map_err(|e| talk.failed(&format!("the server refused the sender {from}"), &e))?;
    talk.wait("naming the recipient");
    connection
        .command(Rcpt::new(to.clone(), vec![]))
        .await
        .map_err(|e| talk.failed(&format!("the server refused the recipient {to}"), &e))?;
    talk.wait("asking to send the message");
    connection
        .command(Data)
        .await
        .map_err(|e| talk.failed("the server refused the message", &e))?;
    talk.wait("waiting for the message to be accepted");
    connection
        .message(message)
        .await
        .map_err(|e| talk.failed("the server refused the message", &e))?;
    Ok(())
}

/// Whom we talk to, and the words for what goes wrong.
struct Talk<'a> {
    doing: &'a Doing,
    /// `host:port`.
    server: String,
    /// The host alone, as certificates name it.
    name: String,
}

impl Talk<'_> {
    fn wait(&mut self, what: &str) {
        self.doing.now(format!("{what} at {}", self.server));
    }

    fn because(&self, what: &str) -> String {
        format!("{what} ({})", self.server)
    }

    /// The sentence for an error: what the server said, or else what became of the line.
    fn failed(&self, refused: &str, error: &Error) -> String {
        if let Some(code) = error.status() {
            let said = error.source().map(ToString::to_string).unwrap_or_default();
            return self.because(&format!("{refused}: {code} {}", said.trim()));
        }
        if let Some(error) = cause::<rustls::Error>(error) {
            return self.because(&tls_reason(error, &self.name));
        }
        if let Some(error) = cause::<std::io::Error>(error) {
            return format!("connection to {} {}", self.server, reason(error));
        }
        let said = error.to_string();
        if error.is_response() && said.ends_with("incomplete response") {
            return format!("connection to {} closed by the other side", self.server);
        }
        format!("{} does not speak SMTP as expected: {said}", self.server)
    }
}

/// `host:port`, and the host alone.
fn server(given: &str) -> (String, String) {
    let (host, port) = match given.rsplit_once(':') {
        // An IPv6 address without brackets has colons of its own.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.to_owned()),
        _ => (given, PORT.to_string()),
    };
    let name = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let host = match name.contains(':') {
        true => format!("[{name}]"),
        false => name.clone(),
    };
    (format!("{host}:{port}"), name)
}

fn address(given: &str, what: &str) -> Result<Address, String> {
    match given.parse::<Address>() {
        Ok(address) if given.is_ascii() => Ok(address),
        Ok(_) => Err(format!("the {what} `{given}` must be plain ASCII")),
        Err(error) => Err(format!(
            "the {what} `{given}` is not an e-mail address: {error}"
        )),
    }
}

/// How we introduce ourselves: by our full name, or by the address that the server sees.
fn hello(host: &str, stream: &TcpStream) -> ClientId {
    if host.contains('.') {
        return ClientId::Domain(host.to_owned());
    }
    match stream.local_addr() {
        Ok(SocketAddr::V4(own)) => ClientId::Ipv4(*own.ip()),
        Ok(SocketAddr::V6(own)) => ClientId::Ipv6(*own.ip()),
        Err(_) => ClientId::default(),
    }
}

async fn login(probe: &Probe, around: &Surroundings) -> Result<Option<Credentials>, String> {
    let Some(username) = &probe.username else {
        return Ok(None);
    };
    if probe.tls == SmtpTls::Never {
        return Err("a login needs TLS, but the check says `tls = \"never\"`".to_owned());
    }
    let file = probe.password_file.as_deref();
    let file = file.ok_or("a login needs `password_file` beside `username`")?;
    let text = around.read(file).await?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(format!("the first line of {file} holds no password"));
    }
    Ok(Some(Credentials::new(
        username.clone(),
        password.to_owned(),
    )))
}

async fn tls(
    probe: &Probe,
    name: &str,
    around: &Surroundings,
) -> Result<Option<(SmtpTls, TlsParameters)>, String> {
    if probe.tls == SmtpTls::Never {
        return Ok(None);
    }
    let mut builder = TlsParameters::builder(name.to_owned());
    if let Some(file) = &probe.ca_file {
        let pem = around.read(file).await?;
        let bad = |why: String| format!("{file} holds no certificates (PEM): {why}");
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            return Err(bad("none begins in it".to_owned()));
        }
        let trusted = Certificate::from_pem(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        builder = builder
            .certificate_store(CertificateStore::None)
            .add_root_certificate(trusted);
    }
    if !probe.judges() {
        // Against an eavesdropper any encryption is better than none (RFC 7435), and with no
        // roots there is nothing to load.
        builder = builder
            .certificate_store(CertificateStore::None)
            .dangerous_accept_invalid_certs(true)
            .dangerous_accept_invalid_hostnames(true);
    }
    let built = builder.build_rustls();
    built
        .map(|parameters| Some((probe.tls, parameters)))
        .map_err(|error| format!("cannot set up TLS: {error}"))
}

/// A message that says what it is, to people and to programs: nobody's holiday notice answers it.
fn message(from: &Address, to: &Address, host: &str) -> Result<Vec<u8>, String> {
    let host = match host {
        "" => "localhost",
        host => host,
    };
    let id = format!("<tamer-check.{:032x}@{host}>", rand::random::<u128>());
    let header = |name, value: &str| HeaderValue::new(name, value.to_owned());
    let auto = HeaderName::new_from_ascii_str("Auto-Submitted"); // RFC 3834
    let check = HeaderName::new_from_ascii_str("X-Tamer-Check");
    Message::builder()
        .from(Mailbox::new(Some("Tamer".to_owned()), from.clone()))
        .to(Mailbox::new(None, to.clone()))
        .subject(format!("Mail check of {host}"))
        .date_now()
        .message_id(Some(id))
        .raw_header(header(auto, "auto-generated"))
        .raw_header(header(check, host))
        .body(format!(
            "{host} sent this to see whether it can send e-mail. It can, and nobody needs to answer.\r\n"
        ))
        .map(|message| message.formatted())
        .map_err(|error| format!("cannot write the message: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_a_port_or_get_one() {
        for (given, whole, name) in [
            ("mail.internal", "mail.internal:25", "mail.internal"),
            ("mail.internal:587", "mail.internal:587", "mail.internal"),
            ("10.0.0.5:25", "10.0.0.5:25", "10.0.0.5"),
            ("[::1]:2525", "[::1]:2525", "::1"),
            ("[::1]", "[::1]:25", "::1"),
            ("::1", "[::1]:25", "::1"),
        ] {
            assert_eq!(
                server(given),
                (whole.to_owned(), name.to_owned()),
                "{given}"
            );
        }
    }

    #[test]
    fn the_message_says_what_it_is() {
        let (from, to) = (
            "a@x.example".parse().unwrap(),
            "b@x.example".parse().unwrap(),
        );
        let text = String::from_utf8(message(&from, &to, "web-01").unwrap()).unwrap();
        for header in [
            "From: Tamer <a@x.example>",
            "To: b@x.example",
            "Subject: Mail check of web-01",
            "Auto-Submitted: auto-generated",
            "X-Tamer-Check: web-01",
            "Date: ",
            "Message-ID: <tamer-check.",
        ] {
            assert!(
                text.contains(&format!("\r\n{header}")) || text.starts_with(header),
                "{header} in {text}"
            );
        }
        assert!(text.is_ascii());
        assert_ne!(
            message(&from, &to, "").unwrap(),
            message(&from, &to, "").unwrap()
        );
    }
}
