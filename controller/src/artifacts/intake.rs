//! What is to be stored, as it comes: counted, hashed, and given up if it stands still.

use super::{BlobError, PARTS, store_failed};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use object_store::WriteMultipart;
use std::error::Error;
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_kit::hash::Hasher;

/// Feeds the upload, and is content only if every byte came and the digest is right.
pub(super) async fn fill<E>(
    upload: &mut WriteMultipart,
    digest: Digest,
    bytes: impl Stream<Item = Result<Bytes, E>>,
    max: u64,
    idle: Duration,
) -> Result<u64, BlobError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut bytes = std::pin::pin!(bytes);
    let mut coming = Coming::new(digest, max, idle);
    while let Some(chunk) = coming.next(&mut bytes).await? {
        let ready = upload.wait_for_capacity(PARTS).await;
        ready.map_err(store_failed("write", digest))?;
        // Copied into the part: a chunk kept as it is would keep its whole network buffer.
        upload.write(&chunk);
    }
    coming.end()
}

/// What comes, counted and hashed.
pub(super) struct Coming {
    digest: Digest,
    max: u64,
    idle: Duration,
    hasher: Hasher,
    length: u64,
}

impl Coming {
    pub(super) fn new(digest: Digest, max: u64, idle: Duration) -> Self {
        Self {
            digest,
            max,
            idle,
            hasher: Hasher::default(),
            length: 0,
        }
    }

    pub(super) async fn next<E>(
        &mut self,
        bytes: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    ) -> Result<Option<Bytes>, BlobError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let (digest, idle) = (self.digest, self.idle);
        let cut = |source| BlobError::Cut { digest, source };
        let chunk = tokio::time::timeout(idle, bytes.next()).await;
        let chunk = chunk.map_err(|_| cut(format!("nothing came for {idle:?}").into()))?;
        let Some(chunk) = chunk else { return Ok(None) };
        let chunk = chunk.map_err(|e| cut(e.into()))?;
        self.length += chunk.len() as u64;
        if self.length > self.max {
            return Err(BlobError::TooLarge { max: self.max });
        }
        self.hasher.update(&chunk);
        Ok(Some(chunk))
    }

    /// The length of all, if it was what was announced.
    pub(super) fn end(self) -> Result<u64, BlobError> {
        match self.hasher.finish() {
            found if found == self.digest => Ok(self.length),
            found => Err(BlobError::WrongDigest {
                expected: self.digest,
                found,
            }),
        }
    }
}
