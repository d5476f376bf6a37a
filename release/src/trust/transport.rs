//! Where metadata and blobs come from: two questions, and no belief in the answers.

use super::names::RepositoryName;
use async_trait::async_trait;
use tamer_core::digest::Digest;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("the transport failed")]
pub struct TransportError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl TransportError {
    /// Wraps a reason, which may be text.
    pub fn new(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

/// Where metadata and blobs come from; nothing that it gives is believed unverified.
#[async_trait]
pub trait Transport: Send + Sync {
    /// A metadata file of a repository, or of the team's root for `None`, of at most `max` bytes.
    ///
    /// `Ok(None)` only for a definite "there is no such file": a root that could not be asked for is
    /// not a root that is not there.
    ///
    /// # Errors
    /// [`TransportError`] for everything else, also for more than `max` bytes.
    async fn metadata(
        &self,
        repository: Option<&RepositoryName>,
        file: &str,
        max: u64,
    ) -> Result<Option<Vec<u8>>, TransportError>;

    /// The bytes with this digest, at most `max` of them, from `blobs/<sha256>`.
    ///
    /// # Errors
    /// [`TransportError`], also where there is none.
    async fn blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, TransportError>;
}
