//! Evidence of releases, as this controller keeps it: one file a release, by the digest of its manifest, beside the
//! signed metadata and copied with it. Bundles are added; only what decides nothing any more makes room for others.
//!
//! Whose bundles have a place is decided in [`proofs`]; what they prove, every agent judges for itself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tamer_core::digest::Digest;
use tamer_kit::clock;
use tamer_kit::durable::{self, FileError};
use tamer_release::proofs::{self, Kept, Listed, NotAdded};

/// Why evidence was not kept.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It is refused.
    #[error(transparent)]
    NotAdded(#[from] NotAdded),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What came of adding bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// How many were not there before.
    pub added: usize,
    /// How many there are now.
    pub kept: usize,
}

/// All evidence; clones are the same.
#[derive(Debug, Clone)]
pub struct EvidenceFiles {
    /// The directory of the signed metadata.
    base: PathBuf,
    /// Held by whoever writes.
    writing: Arc<Mutex<()>>,
}

impl EvidenceFiles {
    /// The files in `evidence/` below the directory of the signed metadata.
    pub fn new(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
            writing: Arc::default(),
        }
    }

    fn path(&self, manifest: &Digest) -> PathBuf {
        self.base.join(proofs::path(manifest))
    }

    /// The evidence of a release, a bundle a line; empty where there is none. Blocks.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(&self, manifest: &Digest) -> Result<Vec<u8>, FileError> {
        let found = durable::read_capped(&self.path(manifest), proofs::MAX_FILE)?;
        Ok(found.unwrap_or_default())
    }

    /// The same, on a thread for that.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn of(&self, manifest: Digest) -> Result<Vec<u8>, FileError> {
        let this = self.clone();
        work(move || this.read(&manifest)).await
    }

    /// Adds bundles to a release, of which environments list these keys: all of them, or none where one is refused. They
    /// are durable when it returns.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub async fn add(
        &self,
        manifest: Digest,
        bundles: Vec<Vec<u8>>,
        listed: Listed,
    ) -> Result<Added, EvidenceError> {
        let this = self.clone();
        work(move || this.add_now(&manifest, &bundles, &listed)).await
    }

    fn add_now(
        &self,
        manifest: &Digest,
        bundles: &[Vec<u8>],
        listed: &Listed,
    ) -> Result<Added, EvidenceError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Kept::read(&self.read(manifest)?, manifest, listed, clock::now());
        let mut added = 0;
        for bundle in bundles {
            added += usize::from(kept.add(bundle)?);
        }
        if added > 0 {
            let path = self.path(manifest);
            if let Some(dir) = path.parent() {
                durable::create_dir_all(dir, 0o700)?;
            }
            durable::replace(&path, &kept.to_file(), 0o600)?;
        }
        Ok(Added {
            added,
            kept: kept.len(),
        })
    }
}

async fn work<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The work panicked, which is a mistake of ours that must not look like an answer.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_release::attest::bundle::Bundle;
    use tamer_release::attest::dsse::Envelope;

    fn bundle(n: u8) -> Vec<u8> {
        let bundle = Bundle {
            hint: "ci".to_owned(),
            envelope: Envelope::new(vec![b'{', n, b'}'], vec![7; 70], "ci"),
        };
        bundle.to_json()
    }

    #[tokio::test]
    async fn bundles_are_added_once_and_all_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let files = EvidenceFiles::new(dir.path());
        let manifest = Digest::new([1; 32]);
        let add = |bundles| files.add(manifest, bundles, Listed::default());
        let both = add(vec![bundle(b'1'), bundle(b'2')]).await;
        assert_eq!(both.unwrap(), Added { added: 2, kept: 2 });
        let again = add(vec![bundle(b'2')]).await;
        assert_eq!(again.unwrap(), Added { added: 0, kept: 2 });
        let half = add(vec![bundle(b'3'), b"<html>".to_vec()]);
        assert!(half.await.is_err());
        // It is a file, also for another controller.
        let files = EvidenceFiles::new(dir.path());
        let kept = files.of(manifest).await.unwrap();
        assert_eq!(proofs::bundles(&kept), [bundle(b'1'), bundle(b'2')]);
        assert!(files.of(Digest::new([2; 32])).await.unwrap().is_empty());
    }
}
