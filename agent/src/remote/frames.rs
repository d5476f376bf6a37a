//! Fetching frames of an archive: by ranges, several at a time, each verified before it is written to its place.
//!
//! What is in the file is what was verified, or is found out when it is looked at again: so a cut line, a killed
//! agent and a damaged disk all go on with what is good. A server that does not know ranges is read through.

use super::http::Http;
use super::pace::{Pace, jitter};
use crate::allowed::failure;
use crate::host::{blocking, chain, file_failure};
use crate::metrics::Metrics;
use crate::transfer::Count;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::release::{Archive, Frame};
use tamer_kit::backoff::Backoff;
use tamer_kit::durable::FileError;
use tamer_kit::http::{GetError, refused};
use tamer_release::delta::{self, Fetch, Parts};
use tamer_release::frames::verify;
use tamer_release::unpack::Arrivals;

/// How many tries of one range in a row may bring nothing.
const TRIES: u32 = 6;

/// The longest wait before the second try, and the longest of all.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How many requests are under way at a time: enough to fill a line, and few for a server that many ask.
const AT_ONCE: usize = 4;

/// Frames are verified and written together when there are so many bytes of them.
const BATCH: usize = 512 << 10;

/// How many frames are looked for at once in what an earlier try left.
const LOOKED_AT: usize = 4096;

/// What a transfer works with.
pub(super) struct Way<'a> {
    pub(super) http: &'a Http,
    pub(super) metrics: &'a Metrics,
    pub(super) pace: &'a Pace,
    /// Who unpacks them is told here.
    pub(super) arrivals: &'a Arrivals,
    /// Bytes are counted here as they come.
    pub(super) count: &'a Count,
}

/// Where the frames go.
struct Download<'a> {
    way: &'a Way<'a>,
    archive: &'a Archive,
    parts: Parts<'a>,
    path: PathBuf,
    file: Arc<File>,
    /// How often it was cut.
    cuts: AtomicU32,
}

/// Why one try ended early.
enum Cut {
    /// Trying again may help.
    Again(GetError),
    /// A frame's bytes are not the signed ones.
    Wrong(usize),
    /// The server does not know ranges.
    Whole,
    /// It does not help.
    Final(Failure),
}

/// Why a range did not come.
enum Gone {
    Whole,
    Failed(Failure),
}

/// Fetches these frames, given in order, into the file `into`, each to its place in the archive.
pub(super) async fn fetch(
    way: &Way<'_>,
    archive: &Archive,
    wanted: &[usize],
    into: &Path,
) -> Result<(), Failure> {
    let mut download = Download::open(way, archive, into).await?;
    let missing = download.missing(wanted).await?;
    let there = |frame: &&usize| missing.binary_search(frame).is_err();
    way.arrivals.came(wanted.iter().filter(there));
    let bytes =
        |frames: &[usize]| -> u64 { frames.iter().map(|n| archive.frames[*n].length).sum() };
    let (all, bytes) = (bytes(wanted), bytes(&missing));
    let kept = all - bytes;
    way.count.begin(all, kept);
    if kept > 0 {
        way.metrics.resumed_bytes.inc_by(kept);
        tracing::info!(kept, left = bytes, "a transfer goes on where it was");
    }
    tokio::time::sleep(jitter(bytes, rand::random())).await;
    let ranges = delta::ranges(&missing, &download.parts, delta::MAX_GAP, delta::MAX_RANGE);
    let ranged = download.all(&missing, ranges, true).await;
    let Err(Gone::Whole) = ranged else {
        let cuts = download.cuts.load(Ordering::Relaxed);
        if cuts > 0 && ranged.is_ok() {
            tracing::info!(
                cuts,
                bytes,
                "a transfer was cut, went on where it was, and is whole"
            );
        }
        return ranged.map_err(Gone::into_failure);
    };
    tracing::debug!("the archive is read through: its server gives no ranges");
    let missing = download.missing(wanted).await?;
    let through = Fetch {
        bytes: 0..archive.length,
        wanted: 0..missing.len(),
    };
    let all = download.all(&missing, vec![through], false).await;
    all.map_err(Gone::into_failure)
}

impl Gone {
    fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Whole => failure(
                FailureKind::Fetch,
                "the archive was not fetched: its server gives neither ranges nor the whole",
            ),
        }
    }
}

impl<'a> Download<'a> {
    async fn open(way: &'a Way<'a>, archive: &'a Archive, path: &Path) -> Result<Self, Failure> {
        let (at, length) = (path.to_owned(), archive.length);
        let file = blocking(move || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&at)
                .and_then(|file| {
                    // A frame at the end of a sparse file is at its place at once.
                    if file.metadata()?.len() > length {
                        file.set_len(0)?;
                    }
                    Ok(file)
                })
                .map_err(|e| file_failure(&FileError::new("open", &at)(e)))
        });
        Ok(Self {
            way,
            archive,
            parts: Parts::of(&archive.frames),
            path: path.to_owned(),
            file: Arc::new(file.await?),
            cuts: AtomicU32::new(0),
        })
    }

    /// Which of these frames are not in the file.
    async fn missing(&mut self, wanted: &[usize]) -> Result<Vec<usize>, Failure> {
        let mut missing = Vec::new();
        // A release may have very many: a part of them is copied for the other thread at a time.
        for part in wanted.chunks(LOOKED_AT) {
            missing.extend(self.missing_of(part).await?);
        }
        Ok(missing)
    }

    async fn missing_of(&self, wanted: &[usize]) -> Result<Vec<usize>, Failure> {
        let frames: Vec<(usize, u64, Frame)> = wanted
            .iter()
            .map(|n| {
                (
                    *n,
                    self.parts.bytes(*n).start,
                    self.archive.frames[*n].clone(),
                )
            })
            .collect();
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        blocking(move || {
            let failed = |e| file_failure(&FileError::new("read", &path)(e));
            let length = file.metadata().map_err(failed)?.len();
            let mut bytes = Vec::new();
            let mut missing = Vec::new();
            for (n, at, frame) in frames {
                let mut there = at + frame.length <= length;
                if there {
                    bytes.resize(frame.length as usize, 0);
                    file.read_exact_at(&mut bytes, at).map_err(failed)?;
                    // A hole is told by its zeros, without hashing it.
                    let hole = bytes.iter().all(|byte| *byte == 0);
                    there = !hole && verify(&frame, &bytes).is_ok();
                }
                if !there {
                    missing.push(n);
                }
            }
            Ok(missing)
        })
        .await
    }

    /// Fetches ranges, several at a time.
    async fn all(&mut self, missing: &[usize], ranges: Vec<Fetch>, ask: bool) -> Result<(), Gone> {
        let this = &*self;
        let fetches = ranges.into_iter().map(|it| this.range(it, missing, ask));
        stream::iter(fetches)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Fetches one range, in as many tries as it takes.
    async fn range(&self, fetch: Fetch, missing: &[usize], ask: bool) -> Result<(), Gone> {
        let mut left = &missing[fetch.wanted.clone()];
        let mut backoff = Backoff::new(WAIT.0, WAIT.1);
        let mut failed = 0;
        let mut wrong = None;
        while let (Some(first), Some(last)) = (left.first(), left.last()) {
            let bytes = self.parts.bytes(*first).start..self.parts.bytes(*last).end;
            let (came, outcome) = self.part(left, bytes, ask).await;
            left = &left[came..];
            if came > 0 {
                failed = 0;
                backoff.reset();
            }
            let error = match outcome {
                Ok(()) => continue,
                Err(Cut::Whole) => return Err(Gone::Whole),
                Err(Cut::Final(failure)) => return Err(Gone::Failed(failure)),
                Err(Cut::Wrong(frame)) => {
                    // Once may be chance; twice the same is what it has.
                    if wrong.replace(frame) == Some(frame) {
                        let why = format!(
                            "the archive is not the signed one: its frame {frame} has another SHA-256"
                        );
                        return Err(Gone::Failed(failure(FailureKind::Trust, why)));
                    }
                    continue;
                }
                Err(Cut::Again(error)) => error,
            };
            failed += 1;
            if failed == TRIES {
                let why = format!(
                    "the archive was not fetched, {} of its frames are missing: {}",
                    left.len(),
                    chain(&error)
                );
                return Err(Gone::Failed(failure(FailureKind::Fetch, why)));
            }
            // Said once for all ranges, when it is known how that ended.
            self.cuts.fetch_add(1, Ordering::Relaxed);
            self.way.metrics.transfers_cut.inc();
            tracing::debug!(missing = left.len(), error = %chain(&error), "a transfer was cut");
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
        Ok(())
    }

    /// One request for frames, which stand in `bytes`; gives how many of them came and were written.
    async fn part(
        &self,
        wanted: &[usize],
        bytes: std::ops::Range<u64>,
        ask: bool,
    ) -> (usize, Result<(), Cut>) {
        let range = format!("bytes={}-{}", bytes.start, bytes.end - 1);
        let range = ask.then_some(range.as_str());
        let answer = self.way.http.blob(&self.archive.sha256, range).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return (0, Err(judged(error))),
        };
        let begins = match answer.status() {
            StatusCode::PARTIAL_CONTENT if ask && begins_at(&answer) == Some(bytes.start) => {
                bytes.start
            }
            // All of it is what was wanted, asked for or not.
            StatusCode::OK if !ask || bytes == (0..self.archive.length) => 0,
            StatusCode::OK => return (0, Err(Cut::Whole)),
            // Other bytes than those that were asked for: a broken cache.
            StatusCode::PARTIAL_CONTENT => {
                let error = GetError::Status {
                    status: answer.status(),
                    reason: ", with another range".to_owned(),
                };
                return (0, Err(Cut::Again(error)));
            }
            _ => return (0, Err(judged(refused(answer).await))),
        };
        let mut taken = Taken {
            download: self,
            wanted,
            at: begins,
            open: Vec::new(),
            full: Vec::new(),
            batch: 0,
            written: 0,
            counted: 0,
        };
        let outcome = taken.body(answer).await;
        // Whatever came whole is kept, however this ended.
        let kept = taken.write().await;
        (taken.written, kept.and(outcome))
    }
}

/// The frames of one answer.
struct Taken<'a> {
    download: &'a Download<'a>,
    wanted: &'a [usize],
    /// Where in the archive the next byte stands.
    at: u64,
    /// What came of the next wanted frame.
    open: Vec<u8>,
    /// Frames that came whole, and are not verified yet.
    full: Vec<Vec<u8>>,
    batch: usize,
    /// How many frames were verified and written.
    written: usize,
    /// How many bytes were counted as come that are not written.
    counted: u64,
}

/// What was not written comes again.
impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.download.way.count.lost(self.counted);
    }
}

impl Taken<'_> {
    async fn body(&mut self, mut answer: Response) -> Result<(), Cut> {
        let way = self.download.way;
        while self.next().is_some() {
            // The URL may be signed: it is nobody else's.
            let cut = |error: reqwest::Error| Cut::Again(error.without_url().into());
            let chunk = answer.chunk().await.map_err(cut)?;
            let Some(chunk) = chunk else {
                // HTTP says that this was all; it is a short archive, or a lying cache.
                return Err(Cut::Again(GetError::Status {
                    status: answer.status(),
                    reason: format!(": the transfer ended at byte {}", self.at),
                }));
            };
            way.metrics.fetched_bytes.inc_by(chunk.len() as u64);
            self.take(&chunk);
            if self.batch >= BATCH {
                self.write().await?;
            }
            way.pace.spent(chunk.len() as u64).await;
        }
        Ok(())
    }

    /// The next frame that is wanted; the body is read no further than to the last one.
    fn next(&self) -> Option<usize> {
        self.wanted.get(self.written + self.full.len()).copied()
    }

    fn take(&mut self, mut chunk: &[u8]) {
        while let Some(frame) = self.next()
            && !chunk.is_empty()
        {
            let place = self.download.parts.bytes(frame);
            if self.at < place.start {
                let skip = usize::try_from(place.start - self.at).unwrap_or(usize::MAX);
                let skip = skip.min(chunk.len());
                self.at += skip as u64;
                chunk = &chunk[skip..];
                continue;
            }
            let lacks = usize::try_from(place.end - self.at).unwrap_or(usize::MAX);
            let (here, rest) = chunk.split_at(lacks.min(chunk.len()));
            self.open.extend_from_slice(here);
            self.at += here.len() as u64;
            self.counted += here.len() as u64;
            self.download.way.count.came(here.len() as u64);
            chunk = rest;
            if self.at == place.end {
                self.batch += self.open.len();
                self.full.push(std::mem::take(&mut self.open));
            }
        }
    }

    /// Verifies what came whole and writes it to its place.
    async fn write(&mut self) -> Result<(), Cut> {
        self.batch = 0;
        let full = std::mem::take(&mut self.full);
        if full.is_empty() {
            return Ok(());
        }
        let download = self.download;
        let frames: Vec<(usize, u64, Frame, Vec<u8>)> = full
            .into_iter()
            .zip(&self.wanted[self.written..])
            .map(|(bytes, n)| {
                let at = download.parts.bytes(*n).start;
                (*n, at, download.archive.frames[*n].clone(), bytes)
            })
            .collect();
        let (file, path) = (Arc::clone(&download.file), download.path.clone());
        let done = blocking(move || {
            let failed = |e: io::Error| file_failure(&FileError::new("write", &path)(e));
            for (count, (n, at, frame, bytes)) in frames.iter().enumerate() {
                if verify(frame, bytes).is_err() {
                    return Ok((count, Some(*n)));
                }
                file.write_all_at(bytes, *at).map_err(failed)?;
            }
            Ok((frames.len(), None))
        });
        let (count, wrong) = done.await.map_err(Cut::Final)?;
        let written = &self.wanted[self.written..self.written + count];
        download.way.arrivals.came(written);
        let frames = &download.archive.frames;
        self.counted -= written.iter().map(|n| frames[*n].length).sum::<u64>();
        self.written += count;
        wrong.map_or(Ok(()), |frame| Err(Cut::Wrong(frame)))
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
