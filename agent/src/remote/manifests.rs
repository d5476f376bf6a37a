//! Manifests on their way: kept in a file without a name while they come, and read from there. A manifest's text
//! is several times as long as what it says, so a long one is never held in memory.

use super::http::Http;
use crate::allowed::failure;
use crate::host::{blocking, chain, file_failure};
use crate::source::Known;
use reqwest::Response;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::digest::Digest;
use tamer_core::release::Manifest;
use tamer_kit::durable::{self, FileError};
use tamer_kit::hash::Hasher;
use tamer_kit::http::GetError;
use tamer_release::manifest::{self, ManifestError};
use tamer_release::patch;
use tamer_release::unpack;
use tokio::io::AsyncWriteExt;

/// How a manifest came.
#[derive(Debug, Clone)]
pub(super) enum Coding {
    /// As it is.
    Plain,
    /// Compressed.
    Zstd,
    /// As a difference from the manifest of this release.
    From(Known),
}

/// A manifest that came.
#[derive(Debug)]
pub(super) struct Got {
    file: File,
    coding: Coding,
    /// How many bytes came.
    pub(super) came: u64,
}

/// Why a manifest that came is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Useless {
    /// Its bytes are others.
    #[error("the manifest is not the one that was signed: its SHA-256 is another one")]
    Another,
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] ManifestError),
    /// What came cannot be read any more.
    #[error("the manifest that came cannot be read")]
    File(#[source] io::Error),
}

/// Fetches a manifest of at most `max` bytes, coded or as it is; `dir` is made where it is not there.
///
/// # Errors
/// [`Failure`] of the kind `Fetch` or `Disk`.
pub(super) async fn fetch(
    http: &Http,
    dir: &Path,
    digest: &Digest,
    known: Option<&Known>,
    coded: bool,
    max: u64,
) -> Result<Got, Failure> {
    let place = dir.to_owned();
    let file = blocking(move || {
        durable::create_dir_all(&place, 0o700).map_err(|e| file_failure(&e))?;
        tempfile::tempfile_in(&place)
            .map_err(|e| file_failure(&FileError::new("create a file in", &place)(e)))
    });
    let mut file = tokio::fs::File::from_std(file.await?);
    let answer = match coded {
        true => http.coded(digest, known).await,
        false => http.blob(digest, None).await.map(|it| (it, Coding::Plain)),
    };
    let told = |e: GetError| {
        let why = format!("the manifest was not fetched: {}", chain(&e));
        failure(FailureKind::Fetch, why)
    };
    let (answer, coding) = answer.map_err(told)?;
    let came = keep(answer, &mut file, max, dir).await?.map_err(told)?;
    Ok(Got {
        file: file.into_std().await,
        coding,
        came,
    })
}

/// Writes what comes to the file.
async fn keep(
    answer: Response,
    file: &mut tokio::fs::File,
    max: u64,
    dir: &Path,
) -> Result<Result<u64, GetError>, Failure> {
    let mut answer = match tamer_kit::http::found(answer).await {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(error)),
    };
    let failed = |e| file_failure(&FileError::new("write to a file in", dir)(e));
    let mut came = 0;
    loop {
        match answer.chunk().await {
            Err(error) => return Ok(Err(error.without_url().into())),
            Ok(None) => break,
            Ok(Some(chunk)) => {
                came += chunk.len() as u64;
                // Nothing that is worth it is larger than what it stands for.
                if came > max {
                    return Ok(Err(GetError::TooMuch(max)));
                }
                file.write_all(&chunk).await.map_err(failed)?;
            }
        }
    }
    file.flush().await.map_err(failed)?;
    Ok(Ok(came))
}

// === impl Got ===

impl Got {
    /// Reads it: it must have this digest. Blocks.
    ///
    /// # Errors
    /// [`Useless`].
    pub(super) fn read(&self, wanted: &Digest) -> Result<Manifest, Useless> {
        if matches!(self.coding, Coding::Plain) {
            // What was not signed is not even looked at.
            let mut hasher = Hasher::default();
            let copied = self
                .start()
                .and_then(|mut from| io::copy(&mut from, &mut hasher));
            copied.map_err(Useless::File)?;
            if hasher.finish() != *wanted {
                return Err(Useless::Another);
            }
        }
        let (manifest, found) = manifest::read(|| self.open())?;
        match found == *wanted {
            true => Ok(manifest),
            false => Err(Useless::Another),
        }
    }

    /// Whether it came in a coding, which may be of no use although the manifest is good.
    pub(super) fn is_coded(&self) -> bool {
        !matches!(self.coding, Coding::Plain)
    }

    fn start(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// Its text, from the first byte on.
    fn open(&self) -> io::Result<Box<dyn Read>> {
        let file = self.start()?;
        Ok(match &self.coding {
            Coding::Plain => Box::new(file),
            Coding::Zstd => Box::new(patch::decompressed(file)?),
            Coding::From(known) => {
                let old = unpack::open_manifest(&known.release).map_err(io::Error::other)?;
                let read = move |at, into: &mut [u8]| old.read_exact_at(into, at);
                let patch = io::BufReader::with_capacity(64 << 10, file);
                let opened = patch::Opened::new(patch, read, &known.manifest);
                Box::new(opened.map_err(io::Error::other)?)
            }
        })
    }
}
