//! The controller's HTTP paths, under the host's certificate as it is renewed.

use async_trait::async_trait;
use reqwest::{Client, RequestBuilder};
use rustls::ClientConfig;
use std::sync::{Mutex, PoisonError};
use tamer_core::digest::Digest;
use tamer_kit::address::Address;
use tamer_kit::http;
use tamer_release::trust::names::{blob_path, metadata_path};
use tamer_release::trust::{RepositoryName, Transport, TransportError};
use tokio::sync::watch;

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
        http::whole(request, max).await.map_err(TransportError::new)
    }

    async fn blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, TransportError> {
        let found = http::whole(self.get(&blob_path(digest)), max).await;
        let found = found.map_err(TransportError::new)?;
        found.ok_or_else(|| TransportError::new("the controller does not have it"))
    }
}
