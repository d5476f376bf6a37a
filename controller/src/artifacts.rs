//! Artifacts: blobs under the SHA-256 of their bytes, in an `object_store`.
//!
//! A blob appears under its digest whole and verified, or not at all: its bytes are hashed on their
//! way into a multipart upload, which every kind of store publishes in one step, and which is
//! published only if the digest is right. What is there never changes, so readers need no locks.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt as _, WriteMultipart,
};
use std::error::Error;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_kit::durable::{self, FileError};
use tamer_kit::hash::Hasher;
use tamer_release::trust::names::blob_path;

/// How much of an upload is written at once, in bytes. S3 wants at least 5 MiB.
const PART: usize = 8 << 20;
/// How many parts of one upload may be under way: with [`PART`], the memory that an upload costs.
const PARTS: usize = 2;
/// How much of a file is read at once for a download, in bytes.
const PIECE: u64 = 128 << 10;
/// An upload that stands still for so long is given up.
pub const IDLE: Duration = Duration::from_secs(60);

/// The blobs of all releases.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    idle: Duration,
}

/// Why a blob can't be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The bytes are others than announced.
    #[error("the bytes have the SHA-256 {found}, not {expected}: nothing was stored")]
    WrongDigest {
        /// The digest that was announced.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// More bytes came than are allowed.
    #[error("more than the {max} bytes that are allowed: nothing was stored")]
    TooLarge {
        /// The most that is allowed, in bytes.
        max: u64,
    },
    /// The sender stopped before the end.
    #[error("the upload of {digest} broke off: nothing was stored")]
    Cut {
        /// The digest that was announced.
        digest: Digest,
        /// How it ended.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store does not do what it should.
    #[error("cannot {operation} the blob {digest}")]
    Store {
        /// What was tried: `read`, `write` …
        operation: &'static str,
        /// Which blob.
        digest: Digest,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// The store's directory can't be used.
    #[error("cannot use the artifact store in a directory")]
    Directory(#[from] FileError),
    /// The store can't be opened.
    #[error("cannot open the artifact store")]
    Open(#[source] object_store::Error),
}

/// The bytes of a blob, or of a part of it, as they come from the store.
pub type Bytestream = BoxStream<'static, Result<Bytes, object_store::Error>>;

// === impl Blobs ===

impl Blobs {
    /// The store in the local directory `dir`, which is made if need be. Whatever a crash left
    /// behind half-way is removed: nobody else may be writing there.
    ///
    /// # Errors
    /// [`BlobError::Directory`] or [`BlobError::Open`].
    pub fn local(dir: &Path) -> Result<Self, BlobError> {
        let blobs = dir.join("blobs");
        durable::create_dir_all(&blobs, 0o700)?;
        sweep(&blobs)?;
        let store = LocalFileSystem::new_with_prefix(dir).map_err(BlobError::Open)?;
        Ok(Self::new(Arc::new(store.with_fsync(true))))
    }

    /// Blobs in any store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, idle: IDLE }
    }

    /// Stores the bytes under their digest, durably; gives their number. A blob that is there
    /// already is verified and stored again, which repairs it if its file was damaged.
    ///
    /// # Errors
    /// [`BlobError`]; the store is then as it was.
    pub async fn put<E>(
        &self,
        digest: Digest,
        bytes: impl Stream<Item = Result<Bytes, E>>,
        max: u64,
    ) -> Result<u64, BlobError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let failed = |source| BlobError::Store {
            operation: "write",
            digest,
            source,
        };
        let path = path(&digest);
        let upload = self.store.put_multipart(&path).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        match fill(&mut upload, digest, bytes, max, self.idle).await {
            Ok(length) => {
                upload.finish().await.map_err(failed)?;
                Ok(length)
            }
            Err(error) => {
                // A local file goes by itself even if this fails; other stores expire such uploads.
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%digest, %error, "an upload was not cleaned up");
                }
                Err(error)
            }
        }
    }

    /// The length of a blob in bytes; `None` if it is not there.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn head(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let found = self.store.head(&path(digest)).await;
        Ok(absent(found, digest)?.map(|meta| meta.size))
    }

    /// The bytes of a blob in this range, which must lie within it and not be empty; all of them
    /// for `None`. Gives `None` if the blob is not there.
    ///
    /// # Errors
    /// [`BlobError::Store`], also for a range that is not within the blob.
    pub async fn get(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<Bytestream>, BlobError> {
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&path(digest), options).await;
        let found = absent(found, digest)?;
        Ok(found.map(|found| match found.payload {
            GetResultPayload::File(file, _) => pieces(file, found.range),
            GetResultPayload::Stream(stream) => stream,
        }))
    }
}

/// Part of a file, in pieces of [`PIECE`]: `object_store` itself reads 8 KiB at a time, each with a
/// change of threads, which costs more than the reading.
fn pieces(file: File, range: Range<u64>) -> Bytestream {
    let failed = |source: Box<dyn Error + Send + Sync>| object_store::Error::Generic {
        store: "LocalFileSystem",
        source,
    };
    let stream = stream::try_unfold((Arc::new(file), range), move |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let (at, length) = (range.start, PIECE.min(range.end - range.start));
        let source = Arc::clone(&file);
        let read = move || {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            source.read_exact_at(&mut bytes, at).map(|()| bytes)
        };
        let read = tokio::task::spawn_blocking(read).await;
        let bytes = read
            .map_err(|error| failed(error.into()))?
            .map_err(|error| failed(error.into()))?;
        Ok(Some((Bytes::from(bytes), (file, at + length..range.end))))
    });
    stream.boxed()
}

/// Feeds the upload, and is content only if every byte came and the digest is right.
async fn fill<E>(
    upload: &mut WriteMultipart,
    digest: Digest,
    bytes: impl Stream<Item = Result<Bytes, E>>,
    max: u64,
    idle: Duration,
) -> Result<u64, BlobError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let cut = |source| BlobError::Cut { digest, source };
    let mut bytes = std::pin::pin!(bytes);
    let mut hasher = Hasher::default();
    let mut length = 0u64;
    while let Some(chunk) = tokio::time::timeout(idle, bytes.next())
        .await
        .map_err(|_| cut(format!("nothing came for {idle:?}").into()))?
    {
        let chunk = chunk.map_err(|e| cut(e.into()))?;
        length += chunk.len() as u64;
        if length > max {
            return Err(BlobError::TooLarge { max });
        }
        hasher.update(&chunk);
        let ready = upload.wait_for_capacity(PARTS).await;
        ready.map_err(|source| BlobError::Store {
            operation: "write",
            digest,
            source,
        })?;
        // Copied into the part: a chunk kept as it is would keep its whole network buffer.
        upload.write(&chunk);
    }
    match hasher.finish() {
        found if found == digest => Ok(length),
        found => Err(BlobError::WrongDigest {
            expected: digest,
            found,
        }),
    }
}

fn path(digest: &Digest) -> ObjectPath {
    ObjectPath::from(blob_path(digest))
}

/// Tells "it is not there" from every other failure.
fn absent<T>(
    found: Result<T, object_store::Error>,
    digest: &Digest,
) -> Result<Option<T>, BlobError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(source) => Err(BlobError::Store {
            operation: "read",
            digest: *digest,
            source,
        }),
    }
}

/// Removes what uploads left behind when the controller was killed: `object_store` writes them as
/// `NAME#N` beside the name that they shall get.
fn sweep(blobs: &Path) -> Result<(), FileError> {
    let read = |e| FileError::new("list", blobs)(e);
    for entry in std::fs::read_dir(blobs).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let left = name
            .split_once('#')
            .is_some_and(|(blob, _)| blob.parse::<Digest>().is_ok());
        if left {
            std::fs::remove_file(&path).map_err(FileError::new("remove", &path))?;
            tracing::info!(file = %path.display(), "removed an upload that a crash cut off");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
