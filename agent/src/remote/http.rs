//! The controller's HTTP paths, under the host's certificate. Whatever comes is capped here, and
//! believed by nobody before it is verified.

use async_trait::async_trait;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use std::sync::{Mutex, PoisonError};
use tamer_core::digest::Digest;
use tamer_kit::address::Address;
use tamer_kit::http;
use tamer_release::trust::names::blob_path;
use tamer_release::trust::{RepositoryName, Transport, TransportError};
use tokio::sync::watch;

/// The most of a refusal's text that is shown, in bytes.
const MAX_REASON: usize = 1 << 10;

/// The controller's HTTP paths.
pub struct Http {
    base: Address,
    made: Mutex<Made>,
}

/// The client, and what it was made with.
struct Made {
    shown: watch::Receiver<ClientConfig>,
    client: Client,
}

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
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
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Http").field(&self.base).finish()
    }
}

impl Http {
    /// For the controller at `base`, with the newest certificate of `shown`.
    ///
    /// # Errors
    /// The client cannot be set up.
    pub fn new(
        base: Address,
        mut shown: watch::Receiver<ClientConfig>,
    ) -> Result<Self, reqwest::Error> {
        let client = http::client(shown.borrow_and_update().clone())?;
        let made = Mutex::new(Made { shown, client });
        Ok(Self { base, made })
    }

    /// A request for a path such as `blobs/…`.
    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.client().get(format!("{}/{path}", self.base))
    }

    fn client(&self) -> Client {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.shown.has_changed().unwrap_or(false) {
            let config = made.shown.borrow_and_update().clone();
            match http::client(config) {
                Ok(client) => made.client = client,
                Err(error) => {
                    tracing::error!(%error, "the new certificate cannot be used for HTTP");
                }
            }
        }
        made.client.clone()
    }

    /// The whole of what is at a path; `None` only where it is definitely not there.
    async fn whole(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, HttpError> {
        let mut answer = self.get(path).send().await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(refused(answer).await),
        }
        if answer.content_length().is_some_and(|length| length > max) {
            return Err(HttpError::TooMuch(max));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > max {
                return Err(HttpError::TooMuch(max));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }
}

/// What an answer that is none says, at most a line of it.
pub(super) async fn refused(mut answer: Response) -> HttpError {
    let status = answer.status();
    let mut said = Vec::new();
    while said.len() < MAX_REASON
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        said.extend_from_slice(&chunk[..chunk.len().min(MAX_REASON - said.len())]);
    }
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let reason = match line.trim() {
        "" => String::new(),
        line => format!(": {line}"),
    };
    HttpError::Status { status, reason }
}

#[async_trait]
impl Transport for Http {
    async fn metadata(
        &self,
        repository: Option<&RepositoryName>,
        file: &str,
        max: u64,
    ) -> Result<Option<Vec<u8>>, TransportError> {
        let folder = repository.map_or_else(|| "team".to_owned(), ToString::to_string);
        let path = format!("trust/{folder}/{file}");
        self.whole(&path, max).await.map_err(TransportError::new)
    }

    async fn blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, TransportError> {
        let found = self.whole(&blob_path(digest), max).await;
        let found = found.map_err(TransportError::new)?;
        found.ok_or_else(|| TransportError::new("the controller does not have it"))
    }
}
