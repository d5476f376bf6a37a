//! Fetching an archive: into a file, from where an earlier try was cut off, never more than was signed.

use super::http::Http;
use crate::allowed::failure;
use crate::host::{chain, file_failure};
use crate::metrics::Metrics;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use std::io;
use std::path::Path;
use std::time::Duration;
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::release::Archive;
use tamer_kit::backoff::Backoff;
use tamer_kit::durable::FileError;
use tamer_kit::hash::Hasher;
use tamer_kit::http::{GetError, refused};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};

/// How many tries in a row may bring nothing.
const TRIES: u32 = 6;

/// The longest wait before the second try, and the longest of all.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A download under way.
struct Download<'a> {
    path: &'a Path,
    file: File,
    wanted: &'a Archive,
    /// Of the bytes that are there.
    hasher: Hasher,
    there: u64,
}

/// Why one try ended early.
enum Cut {
    /// Trying again may help.
    Again(GetError),
    /// It does not.
    Final(Failure),
}

/// Fetches the archive into the file `into`, which then has exactly the signed bytes.
pub(super) async fn fetch(
    http: &Http,
    metrics: &Metrics,
    wanted: &Archive,
    into: &Path,
) -> Result<(), Failure> {
    let mut download = Download::open(wanted, into).await?;
    // What an earlier try left may be damaged: then it is done once more, from the beginning.
    let mut suspect = download.there > 0;
    let mut backoff = Backoff::new(WAIT.0, WAIT.1);
    let mut failed = 0;
    loop {
        if download.there == wanted.length {
            download.flush().await?;
            if std::mem::take(&mut download.hasher).finish() == wanted.sha256 {
                return Ok(());
            }
            download.start_over().await?;
            if !std::mem::take(&mut suspect) {
                let why = "the archive is not the signed one: its bytes have another SHA-256";
                return Err(failure(FailureKind::Trust, why));
            }
            tracing::warn!(path = %into.display(), "what an earlier try fetched is damaged: it is fetched anew");
            continue;
        }
        let before = download.there;
        let outcome = download.part(http, metrics).await;
        if download.there > before {
            failed = 0;
            backoff.reset();
        }
        match outcome {
            Ok(()) => {}
            Err(Cut::Final(failure)) => return Err(failure),
            Err(Cut::Again(error)) => {
                failed += 1;
                download.flush().await?;
                let (there, all) = (download.there, wanted.length);
                if failed == TRIES {
                    let why = format!(
                        "the archive was not fetched, {there} of {all} bytes are here: {}",
                        chain(&error)
                    );
                    return Err(failure(FailureKind::Fetch, why));
                }
                tracing::debug!(there, all, error = %chain(&error), "the archive's transfer was cut");
                tokio::time::sleep(backoff.next(rand::random())).await;
            }
        }
    }
}

impl<'a> Download<'a> {
    /// Opens the file and takes in what is there.
    async fn open(wanted: &'a Archive, path: &'a Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .await
            .map_err(|e| file_failure(&FileError::new("open", path)(e)))?;
        let mut download = Self {
            path,
            file,
            wanted,
            hasher: Hasher::default(),
            there: 0,
        };
        let mut reader = BufReader::with_capacity(256 << 10, &mut download.file);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = reader.read(&mut buffer).await;
            let n = n.map_err(|e| file_failure(&FileError::new("read", path)(e)))?;
            if n == 0 {
                break;
            }
            download.hasher.update(&buffer[..n]);
            download.there += n as u64;
        }
        if download.there > wanted.length {
            download.start_over().await?;
        }
        Ok(download)
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> Failure + use<> {
        let path = self.path.to_owned();
        move |e| file_failure(&FileError::new(operation, &path)(e))
    }

    /// Forgets what is there.
    async fn start_over(&mut self) -> Result<(), Failure> {
        let failed = self.failed("truncate");
        let done = async {
            self.file.flush().await?;
            self.file.set_len(0).await?;
            self.file.rewind().await
        };
        done.await.map_err(failed)?;
        self.hasher = Hasher::default();
        self.there = 0;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let failed = self.failed("write");
        self.file.flush().await.map_err(failed)
    }

    /// One request for all that is missing.
    async fn part(&mut self, http: &Http, metrics: &Metrics) -> Result<(), Cut> {
        let range = (self.there > 0).then(|| format!("bytes={}-", self.there));
        let answer = http.blob(&self.wanted.sha256, range.as_deref()).await;
        let mut answer = answer.map_err(judged)?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&answer) == Some(self.there) => {}
            // The whole of it, asked for or not.
            StatusCode::OK => {
                if self.there > 0 {
                    self.start_over().await.map_err(Cut::Final)?;
                }
            }
            _ => return Err(judged(refused(answer).await)),
        }
        // The URL may be signed: it is nobody else's.
        let cut = |error: reqwest::Error| Cut::Again(error.without_url().into());
        while let Some(chunk) = answer.chunk().await.map_err(cut)? {
            if chunk.len() as u64 > self.wanted.length - self.there {
                let why = format!(
                    "the archive is not the signed one: more than its {} bytes came",
                    self.wanted.length
                );
                self.start_over().await.map_err(Cut::Final)?;
                return Err(Cut::Final(failure(FailureKind::Trust, why)));
            }
            let written = self.file.write_all(&chunk).await;
            written.map_err(|e| Cut::Final(self.failed("write")(e)))?;
            self.hasher.update(&chunk);
            self.there += chunk.len() as u64;
            metrics.fetched_bytes.inc_by(chunk.len() as u64);
        }
        if self.there == self.wanted.length {
            return Ok(());
        }
        // HTTP says that this was all; it is a short archive, or a lying cache.
        Err(Cut::Again(GetError::Status {
            status: answer.status(),
            reason: format!(": the transfer ended after {} bytes", self.there),
        }))
    }
}

/// What an answer without bytes means for the next try.
fn judged(error: GetError) -> Cut {
    if error.is_passing() {
        return Cut::Again(error);
    }
    let why = format!("the archive was not fetched: {}", chain(&error));
    Cut::Final(failure(FailureKind::Fetch, why))
}

/// Where a partial answer begins (RFC 9110, 14.4).
fn begins_at(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}
