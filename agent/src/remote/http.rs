//! The controller's HTTP paths, under the host's certificate as it is renewed.

use super::manifests::Coding;
use crate::identity::Shown;
use crate::source::Known;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tamer_core::digest::Digest;
use tamer_kit::address::Address;
use tamer_kit::http::{self, GetError};
use tamer_kit::tls;
use tamer_release::patch;
use tamer_release::proofs;
use tamer_release::trust::names::{blob_path, metadata_path};
use tamer_release::trust::{RepositoryName, Transport, TransportError};
use tokio::sync::watch;

/// The controller's HTTP paths.
pub struct Http {
    base: Address,
    made: Mutex<Made>,
    /// For stores that the controller names: made when the first is, with the authorities that this host
    /// trusts, and anew after it could not reach one.
    outside: Mutex<Option<Client>>,
    /// Where blobs lie, as the controller said, and until when that is good.
    addresses: Mutex<HashMap<Digest, (Url, Instant)>>,
}

/// The client, and what it was made with.
struct Made {
    shown: watch::Receiver<Shown>,
    client: Client,
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
    pub fn new(base: Address, mut shown: watch::Receiver<Shown>) -> Result<Self, reqwest::Error> {
        let client = http::client(shown.borrow_and_update().tls.clone())?;
        let made = Mutex::new(Made { shown, client });
        Ok(Self {
            base,
            made,
            outside: Mutex::default(),
            addresses: Mutex::default(),
        })
    }

    /// A request for a path such as `trust/…`.
    fn get(&self, path: &str) -> RequestBuilder {
        self.client().get(format!("{}/{path}", self.base))
    }

    /// A blob, or the `range` of it (`bytes=0-9`), from the controller or from the store that it names.
    /// Any answer of the controller is given back; of a store, only what brings bytes. The store's address is
    /// remembered for as long as the controller says, and until the store refuses it.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        range: Option<&str>,
    ) -> Result<Response, GetError> {
        if let Some(known) = self.known(digest) {
            match self.ask(known, range).await {
                Err(error) if is_refused(&error) => {
                    tracing::debug!(%error, "the controller is asked anew where it lies");
                    self.addresses().remove(digest);
                }
                answer => return answer,
            }
        }
        let mut request = self.get(&blob_path(digest));
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let answer = request.send().await?;
        if answer.status() != StatusCode::TEMPORARY_REDIRECT {
            return Ok(answer);
        }
        let there = http::elsewhere(&answer)?;
        let came = self.ask(there.at.clone(), range).await?;
        if !there.good_for.is_zero() {
            let now = Instant::now();
            let mut addresses = self.addresses();
            addresses.retain(|_, (_, until)| now < *until);
            addresses.insert(*digest, (there.at, now + there.good_for));
        }
        Ok(came)
    }

    /// Where a blob lies, if that was said not long ago.
    fn known(&self, digest: &Digest) -> Option<Url> {
        let addresses = self.addresses();
        let (at, until) = addresses.get(digest)?;
        (Instant::now() < *until).then(|| at.clone())
    }

    async fn ask(&self, at: Url, range: Option<&str>) -> Result<Response, GetError> {
        let answer = http::ask(at, &self.outside()?, range).await;
        if matches!(&answer, Err(GetError::Store { status: None, .. })) {
            *self.outside.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<Digest, (Url, Instant)>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A manifest as a difference from that of a release that is `known`, or compressed, or as it is, whatever
    /// the controller gives; and which of these came.
    pub(super) async fn coded(
        &self,
        digest: &Digest,
        known: Option<&Known>,
    ) -> Result<(Response, Coding), GetError> {
        let mut request = self.get(&blob_path(digest));
        request = match known {
            None => request.header(ACCEPT_ENCODING, "zstd"),
            Some(known) => request
                .header(ACCEPT_ENCODING, format!("{}, zstd", patch::CODING))
                // A byte sequence of RFC 9651, 3.3.5, as RFC 9842, 2.2 wants it.
                .header(
                    "available-dictionary",
                    format!(":{}:", STANDARD.encode(known.manifest.as_bytes())),
                ),
        };
        let answer = request.send().await?;
        if answer.status() == StatusCode::TEMPORARY_REDIRECT {
            return Ok((self.blob(digest, None).await?, Coding::Plain));
        }
        let coding = answer.headers().get(CONTENT_ENCODING);
        let coding = match (coding.and_then(|it| it.to_str().ok()), known) {
            (Some(patch::CODING), Some(known)) => Coding::From(known.clone()),
            (Some("zstd"), _) => Coding::Zstd,
            _ => Coding::Plain,
        };
        Ok((answer, coding))
    }

    /// The evidence of a release, as the controller keeps it: of at most `max` bytes, none where it has none.
    pub(super) async fn evidence(&self, manifest: &Digest, max: u64) -> Result<Vec<u8>, GetError> {
        let answer = self.get(&proofs::path(manifest)).send().await?;
        Ok(http::read(answer, max).await?.unwrap_or_default())
    }

    fn outside(&self) -> Result<Client, GetError> {
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*outside {
            return Ok(client.clone());
        }
        // Without any authority plain http still goes.
        let config = tls::public_client_config(None).or_else(|error| {
            tracing::warn!(%error, "only stores without TLS can be asked");
            tls::nobody_client_config()
        });
        let client = http::builder(config.map_err(GetError::Tls)?).build()?;
        Ok(outside.insert(client).clone())
    }

    fn client(&self) -> Client {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.shown.has_changed().unwrap_or(false) {
            let config = made.shown.borrow_and_update().tls.clone();
            match http::client(config) {
                Ok(client) => made.client = client,
                Err(error) => {
                    tracing::error!(%error, "the new certificate cannot be used for HTTP");
                }
            }
        }
        made.client.clone()
    }
}

/// Whether the address is of no use any more: the store is busy otherwise, and answers it later.
fn is_refused(error: &GetError) -> bool {
    match error {
        GetError::Store { status: None, .. } => true,
        GetError::Store {
            status: Some(status),
            ..
        } => status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS,
        _ => false,
    }
}

#[async_trait]
impl Transport for Http {
    async fn metadata(
        &self,
        repository: Option<&RepositoryName>,
        file: &str,
        max: u64,
    ) -> Result<Option<Vec<u8>>, TransportError> {
        let request = self.get(&metadata_path(repository, file));
        let answer = request.header(ACCEPT_ENCODING, "zstd").send().await;
        let answer = answer.map_err(TransportError::new)?;
        let zstd = answer.headers().get(CONTENT_ENCODING);
        let zstd = zstd.is_some_and(|it| it == "zstd");
        let bytes = http::read(answer, max).await.map_err(TransportError::new)?;
        match bytes {
            Some(bytes) if zstd => {
                let opened = patch::decompress(&bytes, max);
                opened.map(Some).map_err(TransportError::new)
            }
            bytes => Ok(bytes),
        }
    }

    async fn blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, TransportError> {
        let answer = self.blob(digest, None).await;
        let found = http::read(answer.map_err(TransportError::new)?, max).await;
        let found = found.map_err(TransportError::new)?;
        found.ok_or_else(|| TransportError::new("the controller does not have it"))
    }
}
