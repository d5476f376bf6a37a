//! Artifacts: blobs under the SHA-256 of their bytes, in an `object_store`.
//!
//! A blob appears under its digest whole and verified, or not at all: its bytes are hashed on their
//! way into a multipart upload, which is published in one step, and only if the digest is right. A
//! web server has no such uploads: there the bytes wait in a file without a name until they are
//! verified. What is there never changes, so readers need no locks.

mod intake;
mod open;
pub mod place;
mod whole;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::signer::Signer;
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt as _, WriteMultipart,
};
pub use open::OpenError;
use place::{Direct, Place};
use std::error::Error;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_kit::durable::{self, FileError};
use tamer_release::trust::names::blob_path;

/// How much of an upload is written at once, in bytes. S3 wants at least 5 MiB, and takes 10,000 parts.
const PART: usize = 8 << 20;
/// The same for a directory, which takes as many parts as there are.
const LOCAL_PART: usize = 512 << 10;
/// How many parts of one upload may be under way beside the one that is coming: with their size, the memory that an
/// upload costs.
const PARTS: usize = 2;
/// How much of a file is read at once for a download, in bytes. A fleet that fetches has a piece in memory for each of
/// its ranges: 30 hosts some hundred of them.
const PIECE: u64 = 64 << 10;
/// An upload that stands still for so long is given up.
pub const IDLE: Duration = Duration::from_secs(60);

/// How long a URL that is signed for an agent is good. A request must begin by then; its answer may take longer.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);

/// For how long an agent may ask a store by the address that it was given, without asking here again: many ranges
/// of one archive, and never as long as the address is good.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(5 * 60);

/// The blobs of all releases.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// What stands before every key; may be empty.
    prefix: String,
    intake: Intake,
    direct: Straight,
    /// Where files without names lie for a while.
    room: PathBuf,
    idle: Duration,
}

/// How a blob gets into the store.
#[derive(Debug, Clone)]
enum Intake {
    /// In parts of so many bytes, which the store puts together.
    Parts(usize),
    /// As one request, from a file without a name.
    Whole {
        client: reqwest::Client,
        url: String,
    },
}

/// Where agents are sent.
#[derive(Debug, Clone)]
enum Straight {
    No,
    Signed(Arc<dyn Signer>),
    Below(String),
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
    #[error("cannot {operation} the blob {digest} in the artifact store")]
    Store {
        /// What was tried: `read`, `write` …
        operation: &'static str,
        /// Which blob.
        digest: Digest,
        /// Where it began: `object_store` tells the same in every layer, with whole URLs.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The web server did not take it.
    #[error("the artifact store did not take the blob {digest}{said}")]
    Refused {
        /// Which blob.
        digest: Digest,
        /// What it said, after a colon; or nothing.
        said: String,
        /// Why there was no answer.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The store's directory can't be used.
    #[error("cannot use the artifact store in a directory")]
    Directory(#[from] FileError),
    /// The store can't be opened.
    #[error("cannot open the artifact store")]
    Open(#[source] object_store::Error),
    /// Its settings are of no use.
    #[error(transparent)]
    Settings(#[from] OpenError),
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
        Ok(Self {
            intake: Intake::Parts(LOCAL_PART),
            ..Self::new(Arc::new(store.with_fsync(true)), "")
        })
    }

    /// The store at `place`. Remote ones are not asked anything yet: a controller starts without them.
    /// What is on its way there or from there, and too large for memory, lies in files without names in `room`.
    ///
    /// # Errors
    /// [`BlobError::Settings`], and for a directory what [`Self::local`] says.
    pub fn open(place: &Place, direct: &Direct, room: &Path) -> Result<Self, BlobError> {
        let mut signer: Option<Arc<dyn Signer>> = None;
        let mut blobs = match place {
            Place::Directory(dir) => Self::local(dir)?,
            Place::S3(s3) => {
                let store = Arc::new(open::s3(s3)?);
                signer = Some(store.clone());
                Self::new(store, &s3.prefix)
            }
            Place::Http(web) => {
                let client = open::client(web.ca.as_deref())?;
                let store = Arc::new(open::http(web, &client)?);
                Self {
                    intake: Intake::Whole {
                        client,
                        url: web.url.clone(),
                    },
                    ..Self::new(store, "")
                }
            }
        };
        blobs.direct = match (direct, signer) {
            (Direct::Presigned, Some(signer)) => Straight::Signed(signer),
            (Direct::Url(url), _) => Straight::Below(url.clone()),
            (Direct::No | Direct::Presigned, _) => Straight::No,
        };
        room.clone_into(&mut blobs.room);
        Ok(blobs)
    }

    /// Blobs in any store that takes uploads in parts; `prefix` stands before every key.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            store,
            prefix: prefix.to_owned(),
            intake: Intake::Parts(PART),
            direct: Straight::No,
            room: std::env::temp_dir(),
            idle: IDLE,
        }
    }

    fn path(&self, digest: &Digest) -> ObjectPath {
        let blob = blob_path(digest);
        match self.prefix.as_str() {
            "" => ObjectPath::from(blob),
            prefix => ObjectPath::from(format!("{prefix}/{blob}")),
        }
    }

    /// Where an agent gets the blob without the controller; `None` where the controller gives it
    /// itself. Whether the blob is there is not looked at.
    ///
    /// # Errors
    /// [`BlobError::Store`]: the URL cannot be signed, for want of credentials.
    pub async fn straight(&self, digest: &Digest) -> Result<Option<String>, BlobError> {
        match &self.direct {
            Straight::No => Ok(None),
            Straight::Below(url) => Ok(Some(format!("{url}/{}", blob_path(digest)))),
            Straight::Signed(signer) => {
                let path = self.path(digest);
                let url = signer.signed_url(http::Method::GET, &path, SIGNED_FOR);
                let url = url.await.map_err(store_failed("sign a URL for", *digest))?;
                Ok(Some(url.to_string()))
            }
        }
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
        let part = match &self.intake {
            Intake::Parts(part) => *part,
            Intake::Whole { client, url } => {
                let url = format!("{url}/{}", blob_path(&digest));
                let file = self.unnamed()?;
                let (file, length) = whole::wait(file, digest, bytes, max, self.idle).await?;
                whole::send(client, &url, digest, file, length).await?;
                return Ok(length);
            }
        };
        let failed = store_failed("write", digest);
        let path = self.path(&digest);
        let upload = self.store.put_multipart(&path).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
        match intake::fill(&mut upload, digest, bytes, max, self.idle).await {
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
        let found = self.store.head(&self.path(digest)).await;
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
        let found = self.store.get_opts(&self.path(digest), options).await;
        let found = absent(found, digest)?;
        Ok(found.map(|found| match found.payload {
            GetResultPayload::File(file, _) => pieces(Arc::new(file), found.range),
            GetResultPayload::Stream(stream) => stream,
        }))
    }

    /// All of a blob as a file, for whoever reads it here or there, or more than once: the store's own, or a copy
    /// without a name. Gives `None` if the blob is not there. Its bytes are not compared with its digest.
    ///
    /// # Errors
    /// [`BlobError::Store`], or [`BlobError::Directory`]: there is no room for a copy.
    pub async fn file(&self, digest: &Digest) -> Result<Option<File>, BlobError> {
        let options = GetOptions::default();
        let found = self.store.get_opts(&self.path(digest), options).await;
        let Some(found) = absent(found, digest)? else {
            return Ok(None);
        };
        match found.payload {
            GetResultPayload::File(file, _) => Ok(Some(file)),
            GetResultPayload::Stream(stream) => {
                let failed = store_failed("read", *digest);
                let stream = stream.map_err(failed);
                whole::keep(self.unnamed()?, stream).await.map(Some)
            }
        }
    }

    /// A file without a name: it is gone with the last that has it open.
    ///
    /// # Errors
    /// [`BlobError::Directory`].
    pub fn unnamed(&self) -> Result<File, BlobError> {
        durable::create_dir_all(&self.room, 0o700)?;
        let file = tempfile::tempfile_in(&self.room);
        Ok(file.map_err(FileError::new("create a file in", &self.room))?)
    }
}

/// Part of a file, in pieces of [`PIECE`]: `object_store` itself reads 8 KiB at a time, each with a
/// change of threads, which costs more than the reading.
pub(crate) fn pieces(file: Arc<File>, range: Range<u64>) -> Bytestream {
    let failed = |source: Box<dyn Error + Send + Sync>| object_store::Error::Generic {
        store: "LocalFileSystem",
        source,
    };
    let stream = stream::try_unfold((file, range), move |(file, range)| async move {
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

fn store_failed(
    operation: &'static str,
    digest: Digest,
) -> impl Fn(object_store::Error) -> BlobError + Copy {
    move |error| {
        let mut first: &dyn Error = &error;
        while let Some(source) = first.source() {
            first = source;
        }
        BlobError::Store {
            operation,
            digest,
            source: first.to_string().into(),
        }
    }
}

/// Tells "it is not there" from every other failure.
fn absent<T>(
    found: Result<T, object_store::Error>,
    digest: &Digest,
) -> Result<Option<T>, BlobError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(store_failed("read", *digest)(error)),
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
