//! Carries SMTP conversations: lines in, responses out, STARTTLS in between.

use mailin::{Action, AuthMechanism, Handler, Session, SessionBuilder};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// The longest line taken from a client, in bytes; RFC 5321 (4.5.3.1.6) asks for 1000.
const MAX_LINE: u64 = 8 << 10;

/// How long a conversation may take.
const MAX_TIME: Duration = Duration::from_secs(300);

/// How many conversations are held at once; the next one waits.
const MAX_SESSIONS: usize = 64;

/// A mail server that offers STARTTLS if it has a certificate, and then AUTH.
#[derive(Clone)]
pub struct Server<H> {
    name: String,
    handler: H,
    tls: Option<TlsAcceptor>,
    login: bool,
}

impl<H: Handler + Clone + Send + 'static> Server<H> {
    /// A server that greets as `name`; every conversation gets its own clone of `handler`.
    pub fn new(name: impl Into<String>, handler: H) -> Self {
        Self {
            name: name.into(),
            handler,
            tls: None,
            login: false,
        }
    }

    /// Offers STARTTLS.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsAcceptor) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Offers AUTH PLAIN once the conversation is encrypted.
    #[must_use]
    pub fn with_login(mut self) -> Self {
        self.login = true;
        self
    }

    /// Serves until the future is dropped.
    ///
    /// # Errors
    /// The listener broke; a failed conversation is nobody else's.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let slots = Arc::new(Semaphore::new(MAX_SESSIONS));
        loop {
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            let server = self.clone();
            tokio::spawn(async move {
                let _ = timeout(MAX_TIME, server.converse(stream)).await;
                drop(slot);
            });
        }
    }

    async fn converse(self, stream: TcpStream) -> io::Result<()> {
        let mut builder = SessionBuilder::new(self.name);
        if self.tls.is_some() {
            builder.enable_start_tls();
        }
        if self.login {
            builder.enable_auth(AuthMechanism::Plain);
        }
        let mut session = builder.build(stream.peer_addr()?.ip(), self.handler);
        let mut plain = BufStream::new(stream);
        plain.write_all(&session.greeting().buffer()?).await?;
        plain.flush().await?;
        if let (End::StartTls, Some(tls)) = (talk(&mut session, &mut plain).await?, self.tls) {
            // What a client sent too early was read into the old buffer and is dropped with it.
            let mut secret = BufStream::new(tls.accept(plain.into_inner()).await?);
            session.tls_active();
            talk(&mut session, &mut secret).await?;
        }
        Ok(())
    }
}

/// Why [`talk`] came to an end.
enum End {
    Closed,
    StartTls,
}

async fn talk<H: Handler, S>(session: &mut Session<H>, stream: &mut BufStream<S>) -> io::Result<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut *stream)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok(End::Closed);
        }
        let response = session.process(&line);
        stream.write_all(&response.buffer()?).await?;
        stream.flush().await?;
        match response.action {
            Action::Close => return Ok(End::Closed),
            Action::UpgradeTls => return Ok(End::StartTls),
            Action::Reply | Action::NoReply => {}
        }
    }
}
