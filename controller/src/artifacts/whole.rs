//! Blobs in files without names: for a store that takes one as one request it waits there until it is known to be
//! whole; one from a store that is not a directory is kept there by whoever needs all of it.

use super::intake::Coming;
use super::{BlobError, pieces};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Client};
use std::error::Error;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_kit::durable::FileError;
use tamer_kit::http::{GetError, refused};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

/// Takes the bytes in; gives the file and its length.
pub(super) async fn wait<E>(
    file: File,
    digest: Digest,
    bytes: impl Stream<Item = Result<Bytes, E>>,
    max: u64,
    idle: Duration,
) -> Result<(File, u64), BlobError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut file = tokio::fs::File::from_std(file);
    let mut bytes = std::pin::pin!(bytes);
    let mut coming = Coming::new(digest, max, idle);
    while let Some(chunk) = coming.next(&mut bytes).await? {
        file.write_all(&chunk).await.map_err(no_room)?;
    }
    let length = coming.end()?;
    file.flush().await.map_err(no_room)?;
    Ok((file.into_std().await, length))
}

/// Writes what comes, as it is.
pub(super) async fn keep(
    file: File,
    bytes: impl Stream<Item = Result<Bytes, BlobError>>,
) -> Result<File, BlobError> {
    let mut file = tokio::fs::File::from_std(file);
    let mut bytes = std::pin::pin!(bytes);
    while let Some(chunk) = bytes.try_next().await? {
        file.write_all(&chunk).await.map_err(no_room)?;
    }
    file.flush().await.map_err(no_room)?;
    file.rewind().await.map_err(no_room)?;
    Ok(file.into_std().await)
}

fn no_room(error: io::Error) -> BlobError {
    FileError::new("write", Path::new("a file without a name"))(error).into()
}

/// Hands the file over.
pub(super) async fn send(
    client: &Client,
    url: &str,
    digest: Digest,
    file: File,
    length: u64,
) -> Result<(), BlobError> {
    let body = Body::wrap_stream(pieces(Arc::new(file), 0..length));
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
