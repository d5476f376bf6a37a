//! HTTP clients with time limits and Tamer's own TLS, and what the controller's HTTP paths give:
//! releases, evidence, signed metadata. Whatever comes is capped here, and believed by nobody
//! before it is verified.

use crate::channel::{PING_INTERVAL, PING_TIMEOUT};
use reqwest::header::{CACHE_CONTROL, LOCATION, RANGE};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url, redirect};
use rustls::ClientConfig;
use std::time::Duration;

/// How long a connection may take to come about, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a response may stand still before it counts as dead. There is no limit on its whole
/// length: a large release over a slow line is no error.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may lie unused. Then it is closed from here, sooner than by a controller that hears nothing
/// on it ([`crate::channel::SILENCE`]): no request is sent on a line that is just being closed.
const UNUSED: Duration = Duration::from_secs(30);

/// The most of a refusal's text that is read, in bytes.
const MAX_REASON: usize = 1 << 10;

/// Why the controller did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The controller was not reached, or the line broke.
    #[error("the controller cannot be reached")]
    Line(#[from] reqwest::Error),
    /// The controller answered, and did not give it.
    #[error("the controller answered {status}{reason}")]
    Status {
        /// The status.
        status: StatusCode,
        /// What it said, after a colon; or nothing.
        reason: String,
    },
    /// More came than was asked for.
    #[error("more than the {0} bytes that were asked for came")]
    TooMuch(u64),
    /// TLS with another place than the controller cannot be set up.
    #[error("cannot speak TLS with an artifact store")]
    Tls(#[source] crate::tls::TlsError),
    /// The controller named another place, and that one did not give it.
    #[error("the artifact store at {at} {said}")]
    Store {
        /// Its scheme, host and port: what follows in the URL may be as good as a password.
        at: String,
        /// Its answer, if there was one.
        status: Option<StatusCode>,
        /// What became of it, as the rest of a sentence.
        said: String,
        /// Why there was no answer.
        #[source]
        source: Option<reqwest::Error>,
    },
}

/// A client that speaks only https, follows no redirect, and heeds no proxy variables, so that
/// nothing but `tls` decides whom it trusts. While a request is under way it asks whether the controller is there, as a
/// [channel](crate::channel) does.
///
/// # Errors
/// The client cannot be set up; with a configuration from [`crate::tls`] that does not happen.
pub fn client(tls: ClientConfig) -> Result<Client, reqwest::Error> {
    builder(tls)
        .https_only(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .pool_idle_timeout(UNUSED)
        .build()
}

/// What [`client`] builds from, for callers with other wishes, as checks that ask plain http.
pub fn builder(mut tls: ClientConfig) -> ClientBuilder {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .user_agent(concat!("tamer/", env!("CARGO_PKG_VERSION")))
}

/// The whole answer to a request, of at most `max` bytes; `None` only for a definite "there is no
/// such thing" (404).
///
/// # Errors
/// [`GetError`] for everything else.
pub async fn whole(request: RequestBuilder, max: u64) -> Result<Option<Vec<u8>>, GetError> {
    read(request.send().await?, max).await
}

/// An answer that brings what was asked for.
///
/// # Errors
/// [`GetError`] for every other one, 404 too.
pub async fn found(answer: Response) -> Result<Response, GetError> {
    match answer.status() {
        StatusCode::OK => Ok(answer),
        _ => Err(refused(answer).await),
    }
}

/// The whole of an answer, as [`whole`] gives it.
///
/// # Errors
/// [`GetError`].
pub async fn read(mut answer: Response, max: u64) -> Result<Option<Vec<u8>>, GetError> {
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(refused(answer).await),
    }
    if answer.content_length().is_some_and(|length| length > max) {
        return Err(GetError::TooMuch(max));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > max {
            return Err(GetError::TooMuch(max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// Another place that the controller names, and for how long it may be asked without the controller.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Where. What follows the host may be as good as a password.
    pub at: Url,
    /// Zero: for one request.
    pub good_for: Duration,
}

/// The place that an answer of the controller names (307). It may be remembered for as long as the answer may be
/// kept (`max-age`, RFC 9111, 5.2.2.1).
///
/// # Errors
/// [`GetError::Status`] where it names no place that can be asked.
pub fn elsewhere(answer: &Response) -> Result<Elsewhere, GetError> {
    let at = answer.headers().get(LOCATION);
    let at = at.and_then(|it| Url::parse(it.to_str().ok()?).ok());
    let Some(at) = at.filter(|it| matches!(it.scheme(), "http" | "https")) else {
        return Err(GetError::Status {
            status: answer.status(),
            reason: ", and named no place that can be asked".to_owned(),
        });
    };
    let kept = answer.headers().get(CACHE_CONTROL);
    let kept = kept.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let mut words = kept.split(',').map(str::trim);
    let seconds = words.find_map(|it| it.strip_prefix("max-age=")?.parse().ok());
    Ok(Elsewhere {
        at,
        good_for: Duration::from_secs(seconds.unwrap_or(0)),
    })
}

/// Asks a place that the controller named, through `outside`, which shows no certificate, for `range` (as RFC 9110,
/// 14.1.2 writes it). No redirect is followed. Only what brings bytes is given back.
///
/// # Errors
/// [`GetError::Store`].
pub async fn ask(there: Url, outside: &Client, range: Option<&str>) -> Result<Response, GetError> {
    let at = there.origin().ascii_serialization();
    let mut request = outside.get(there);
    if let Some(range) = range {
        request = request.header(RANGE, range);
    }
    match request.send().await {
        Err(error) => Err(GetError::Store {
            at,
            status: None,
            said: "cannot be reached".to_owned(),
            source: Some(error.without_url()),
        }),
        Ok(answer)
            if matches!(
                answer.status(),
                StatusCode::OK | StatusCode::PARTIAL_CONTENT
            ) =>
        {
            Ok(answer)
        }
        Ok(answer) => {
            let status = answer.status();
            let reason = said(answer).await;
            Err(GetError::Store {
                at,
                status: Some(status),
                said: format!("answered {status}{reason}"),
                source: None,
            })
        }
    }
}

impl GetError {
    /// Whether asking once more may help: nobody answered, or somebody who was busy.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let status = match self {
            Self::Line(_) => None,
            Self::Status { status, .. } => Some(*status),
            Self::Store { status, .. } => *status,
            Self::TooMuch(_) | Self::Tls(_) => return false,
        };
        status.is_none_or(|it| it.is_server_error() || it == StatusCode::TOO_MANY_REQUESTS)
    }
}

/// An answer that is none, with at most a line of what it says, without control characters.
pub async fn refused(answer: Response) -> GetError {
    let status = answer.status();
    let reason = said(answer).await;
    GetError::Status { status, reason }
}

/// The first line of what an answer says, after a colon; or nothing.
async fn said(mut answer: Response) -> String {
    let mut said = Vec::new();
    while said.len() < MAX_REASON
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        said.extend_from_slice(&chunk[..chunk.len().min(MAX_REASON - said.len())]);
    }
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    match line.trim() {
        "" => String::new(),
        line => format!(": {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What [`whole`] makes of a server that answers with these bytes and hangs up.
    async fn answered(answer: &str, max: u64) -> Result<Option<Vec<u8>>, GetError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serve = async {
            let (mut line, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert!(line.read_buf(&mut asked).await.unwrap() > 0);
            }
            // A client that has seen enough may have gone.
            let _ = line.write_all(answer.as_bytes()).await;
            let _ = line.shutdown().await;
        };
        let tls = crate::tls::pinned_client_config(tamer_core::digest::Digest::new([0; 32]));
        let client = builder(tls.unwrap()).build().unwrap();
        tokio::join!(serve, whole(client.get(url), max)).1
    }

    #[tokio::test]
    async fn an_answer_is_capped_whether_or_not_it_tells_its_length() {
        let told = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let untold = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello";
        for answer in [told, untold] {
            let whole = answered(answer, 5).await.unwrap();
            assert_eq!(whole.as_deref(), Some(&b"hello"[..]), "{answer}");
            let more = answered(answer, 4).await;
            assert!(matches!(more, Err(GetError::TooMuch(4))), "{more:?}");
        }
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello";
        let cut = answered(cut, 9).await;
        assert!(matches!(cut, Err(GetError::Line(_))), "{cut:?}");
    }

    #[tokio::test]
    async fn only_a_definite_no_means_that_it_is_not_there() {
        let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(answered(missing, 9).await.unwrap(), None);
        let empty = "HTTP/1.1 204 No Content\r\n\r\n";
        assert!(answered(empty, 9).await.is_err());
        let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 14\r\n\r\nno\x07t you\nmore";
        assert_eq!(
            answered(refused, 99).await.unwrap_err().to_string(),
            "the controller answered 403 Forbidden: not you"
        );
    }
}
