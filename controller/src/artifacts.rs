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
mod tests {
    use super::*;
    use tamer_kit::hash::sha256;

    type Chunks = Vec<Result<Bytes, std::io::Error>>;

    fn chunks(bytes: &[u8], size: usize) -> Chunks {
        let chunks = bytes.chunks(size).map(Bytes::copy_from_slice);
        chunks.map(Ok).collect()
    }

    async fn read(blobs: &Blobs, digest: &Digest, range: Option<Range<u64>>) -> Option<Vec<u8>> {
        let stream = blobs.get(digest, range).await.unwrap()?;
        let parts: Vec<_> = stream.map(Result::unwrap).collect().await;
        Some(parts.concat())
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir.join("blobs")).unwrap().count()
    }

    /// Dropping an upload removes its file on another thread.
    async fn until_files(dir: &Path, wanted: usize) {
        let wait = async {
            while files(dir) != wanted {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{} files, not {wanted}", files(dir));
    }

    #[tokio::test]
    async fn what_was_put_is_there_in_whole_and_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::local(dir.path()).unwrap();
        // More than two parts, cut at odd places.
        let bytes: Vec<u8> = (0..2 * PART + 4711)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let digest = sha256(&bytes);
        assert_eq!(blobs.head(&digest).await.unwrap(), None);
        assert_eq!(read(&blobs, &digest, None).await, None);
        for _ in 0..2 {
            let stored = blobs.put(digest, stream::iter(chunks(&bytes, 100_003)), u64::MAX);
            assert_eq!(stored.await.unwrap(), bytes.len() as u64);
        }
        assert_eq!(blobs.head(&digest).await.unwrap(), Some(bytes.len() as u64));
        assert!(read(&blobs, &digest, None).await.unwrap() == bytes);
        let part = PART as u64 - 5..PART as u64 + 5;
        assert_eq!(
            read(&blobs, &digest, Some(part)).await.unwrap(),
            bytes[PART - 5..PART + 5]
        );
        assert_eq!(files(dir.path()), 1);
        let empty = sha256(b"");
        assert_eq!(
            blobs
                .put(empty, stream::iter(chunks(b"", 1)), 0)
                .await
                .unwrap(),
            0
        );
        assert_eq!(read(&blobs, &empty, None).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_damaged_blob_is_repaired_by_storing_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::local(dir.path()).unwrap();
        let digest = sha256(b"whole");
        let file = dir.path().join(blob_path(&digest));
        std::fs::write(&file, b"torn").unwrap();
        blobs
            .put(digest, stream::iter(chunks(b"whole", 2)), 5)
            .await
            .unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"whole");
    }

    #[tokio::test]
    async fn a_file_that_was_cut_short_is_an_error_and_no_endless_read() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::local(dir.path()).unwrap();
        let bytes = vec![7; 3 * 128 * 1024];
        let digest = sha256(&bytes);
        let put = blobs.put(digest, stream::iter(chunks(&bytes, 9999)), u64::MAX);
        put.await.unwrap();
        let mut stream = blobs.get(&digest, None).await.unwrap().unwrap();
        let file = File::options()
            .write(true)
            .open(dir.path().join(blob_path(&digest)));
        file.unwrap().set_len(200 * 1024).unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        assert!(stream.next().await.unwrap().is_err());
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_wrong_too_large_or_cut_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::local(dir.path()).unwrap();
        let digest = sha256(b"right");
        let wrong = blobs
            .put(digest, stream::iter(chunks(b"wrong", 2)), 100)
            .await;
        assert!(matches!(wrong, Err(BlobError::WrongDigest { .. })));
        let large = blobs
            .put(digest, stream::iter(chunks(b"right", 2)), 4)
            .await;
        assert!(matches!(large, Err(BlobError::TooLarge { max: 4 })));
        let mut cut = chunks(b"right", 2);
        cut[2] = Err(std::io::ErrorKind::ConnectionReset.into());
        let cut = blobs.put(digest, stream::iter(cut), 100).await;
        assert!(matches!(cut, Err(BlobError::Cut { .. })));
        assert_eq!(blobs.head(&digest).await.unwrap(), None);
        until_files(dir.path(), 0).await;
    }

    #[tokio::test]
    async fn an_upload_that_is_abandoned_or_killed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::local(dir.path()).unwrap();
        let digest = sha256(b"never");
        let endless = stream::iter(chunks(b"nev", 1)).chain(stream::pending());
        let upload = Box::pin(blobs.put(digest, endless, 100));
        let mut upload = upload;
        let polled = futures_util::poll!(&mut upload);
        assert!(polled.is_pending());
        until_files(dir.path(), 1).await;
        drop(upload);
        until_files(dir.path(), 0).await;

        let left = dir.path().join(format!("{}#1", blob_path(&digest)));
        std::fs::write(&left, b"ne").unwrap();
        std::fs::write(dir.path().join("blobs/mine#1"), b"not ours").unwrap();
        Blobs::local(dir.path()).unwrap();
        assert!(!left.exists(), "removed at the next start");
        assert_eq!(files(dir.path()), 1, "but nothing else");
    }

    #[tokio::test]
    async fn an_upload_that_stands_still_is_given_up() {
        let store = object_store::memory::InMemory::new();
        let blobs = Blobs {
            idle: Duration::from_millis(1),
            ..Blobs::new(Arc::new(store))
        };
        let silent = stream::pending::<Result<Bytes, std::io::Error>>();
        let given_up = blobs.put(sha256(b""), silent, 100).await.unwrap_err();
        let BlobError::Cut { source, .. } = given_up else {
            panic!("{given_up}");
        };
        assert_eq!(source.to_string(), "nothing came for 1ms");
    }
}
