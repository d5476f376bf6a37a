//! A blob for a store that takes it as one request: it waits in a file without a name until it is known to
//! be whole.

use super::intake::Coming;
use super::{BlobError, pieces};
use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Client};
use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_kit::durable::{self, FileError};
use tamer_kit::http::{GetError, refused};
use tokio::io::AsyncWriteExt;

/// Takes the bytes in; gives the file and its length.
pub(super) async fn wait<E>(
    dir: &Path,
    digest: Digest,
    bytes: impl Stream<Item = Result<Bytes, E>>,
    max: u64,
    idle: Duration,
) -> Result<(File, u64), BlobError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    durable::create_dir_all(dir, 0o700)?;
    let file = tempfile::tempfile_in(dir).map_err(FileError::new("create a file in", dir))?;
    let mut file = tokio::fs::File::from_std(file);
    let mut bytes = std::pin::pin!(bytes);
    let mut coming = Coming::new(digest, max, idle);
    while let Some(chunk) = coming.next(&mut bytes).await? {
        let written = file.write_all(&chunk).await;
        written.map_err(FileError::new("write a file in", dir))?;
    }
    let length = coming.end()?;
    let flushed = file.flush().await;
    flushed.map_err(FileError::new("write a file in", dir))?;
    Ok((file.into_std().await, length))
}

/// Hands the file over.
pub(super) async fn send(
    client: &Client,
    url: &str,
    digest: Digest,
    file: File,
    length: u64,
) -> Result<(), BlobError> {
    let body = Body::wrap_stream(pieces(file, 0..length));
    let request = client.put(url).header(CONTENT_LENGTH, length).body(body);
    let answer = request.send().await.map_err(|e| BlobError::Refused {
        digest,
        said: String::new(),
        source: Some(e.without_url()),
    })?;
    if answer.status().is_success() {
        return Ok(());
    }
    let said = match refused(answer).await {
        GetError::Status { status, reason } => format!(": it answered {status}{reason}"),
        other => format!(": {other}"),
    };
    Err(BlobError::Refused {
        digest,
        said,
        source: None,
    })
}
