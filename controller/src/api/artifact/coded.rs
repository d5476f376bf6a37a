//! Small blobs and metadata in another coding, for whoever asks for it: as a difference from a blob that the
//! caller has (`Available-Dictionary` as in RFC 9842, and [`patch::CODING`]), or compressed (`zstd`).
//!
//! A fleet asks for the same difference at once: it is made once, one at a time, and kept for a while, in a file
//! without a name. Memory holds pieces of what it is made of, however large that is.

use crate::artifacts::{BlobError, Blobs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT_ENCODING, RANGE};
use http::{HeaderMap, Method};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::sync::Arc;
use tamer_core::digest::Digest;
use tamer_release::patch::{self, Made};
use tokio::sync::Mutex;

/// The header that names the dictionary.
pub(super) const AVAILABLE_DICTIONARY: &str = "available-dictionary";

/// What an answer that might have been coded depends on.
pub(super) const VARY: &str = "accept-encoding, available-dictionary";

/// So many bytes of codings are kept.
const KEPT: u64 = 64 << 20;

/// So many codings are kept: each has a file open.
const MOST: usize = 64;

/// How much of a file is read or written at once, in bytes.
const BUFFER: usize = 64 << 10;

/// A coding that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// A difference from the blob with this digest.
    From(Digest),
    /// By itself.
    Alone,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::From(_) => patch::CODING,
            Self::Alone => "zstd",
        }
    }
}

/// The codings that a request takes, the best first; a range is one of the bytes as they are.
pub(super) fn asked(method: &Method, headers: &HeaderMap) -> Vec<Coding> {
    if *method != Method::GET || headers.contains_key(RANGE) {
        return Vec::new();
    }
    let dictionary = headers
        .get(AVAILABLE_DICTIONARY)
        .and_then(|it| {
            it.to_str()
                .ok()?
                .trim()
                .strip_prefix(':')?
                .strip_suffix(':')
        })
        .and_then(|text| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok())
        .map(Digest::new);
    let from = dictionary
        .filter(|_| accepts(headers, patch::CODING))
        .map(Coding::From);
    let alone = accepts(headers, "zstd").then_some(Coding::Alone);
    from.into_iter().chain(alone).collect()
}

/// Whether `Accept-Encoding` names a coding, and does not do so to forbid it (RFC 9110, 12.5.3).
pub(super) fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    let all = headers.get_all(ACCEPT_ENCODING).iter();
    all.filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .any(|it| {
            let mut words = it.split(';').map(str::trim);
            let named = words
                .next()
                .is_some_and(|it| it.eq_ignore_ascii_case(coding));
            let forbidden = |it: &str| {
                let weight = it.strip_prefix("q=");
                weight.is_some_and(|it| it.parse::<f32>().is_ok_and(|it| it == 0.0))
            };
            named && !words.any(forbidden)
        })
}

/// A blob, and how it is coded.
type Key = (Digest, Coding);

/// A blob in a coding.
#[derive(Debug, Clone)]
pub(super) struct Coded {
    pub(super) coding: Coding,
    pub(super) file: Arc<File>,
    /// Its length in bytes.
    pub(super) length: u64,
}

/// Codings that were made, the newest last.
#[derive(Debug, Default)]
pub struct Codings(Mutex<VecDeque<(Key, Coded)>>);

impl Codings {
    /// A blob in the best of these codings; `None` if it goes as it is: it is not there or large, or so is what
    /// it is to differ from.
    pub(super) async fn get(
        &self,
        blobs: &Arc<Blobs>,
        digest: Digest,
        codings: &[Coding],
    ) -> Result<Option<Coded>, BlobError> {
        if codings.is_empty() {
            return Ok(None);
        }
        // Held while one is made: whoever wants the same finds it then, and only one takes memory.
        let mut kept = self.0.lock().await;
        for coding in codings {
            if let Some((_, coded)) = kept.iter().find(|(key, _)| *key == (digest, *coding)) {
                return Ok(Some(coded.clone()));
            }
        }
        for coding in codings {
            let Some(new) = Small::open(blobs, digest).await? else {
                return Ok(None);
            };
            let old = match coding {
                Coding::Alone => None,
                Coding::From(old) => match Small::open(blobs, *old).await? {
                    Some(old) => Some(old),
                    None => continue,
                },
            };
            let to = blobs.unnamed()?;
            let made = tokio::task::spawn_blocking(move || make(new, old, to));
            // One that cannot be made is no reason to give nothing.
            let (file, length) = match made.await {
                Ok(Ok(Some(made))) => made,
                Ok(Ok(None)) => {
                    let coding = coding.name();
                    tracing::warn!(%digest, coding, "a blob is damaged, or what it should differ from is");
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%digest, coding = coding.name(), %error, "a blob could not be coded");
                    continue;
                }
                Err(_) => continue,
            };
            let coded = Coded {
                coding: *coding,
                file: Arc::new(file),
                length,
            };
            kept.push_back(((digest, *coding), coded.clone()));
            while kept.len() > MOST || kept.iter().map(|(_, it)| it.length).sum::<u64>() > KEPT {
                kept.pop_front();
            }
            return Ok(Some(coded));
        }
        Ok(None)
    }
}

/// A blob that is there and not large, as a file.
struct Small {
    digest: Digest,
    file: File,
    length: u64,
}

impl Small {
    async fn open(blobs: &Blobs, digest: Digest) -> Result<Option<Self>, BlobError> {
        let length = match blobs.head(&digest).await? {
            Some(length) if length <= patch::MAX => length,
            _ => return Ok(None),
        };
        let file = blobs.file(&digest).await?;
        Ok(file.map(|file| Self {
            digest,
            file,
            length,
        }))
    }
}

/// Writes a coding, and gives it with its length; `None`: one of the blobs is damaged, and would be made into a
/// difference that outlives its repair.
fn make(new: Small, old: Option<Small>, to: File) -> io::Result<Option<(File, u64)>> {
    let from = BufReader::with_capacity(BUFFER, new.file);
    let mut to = BufWriter::with_capacity(BUFFER, to);
    let sound = match old {
        None => patch::write_compressed(from, new.length, &mut to)? == new.digest,
        Some(old) => {
            let found = patch::write(from, new.length, old.file, &mut to)?;
            let signed = Made {
                new: new.digest,
                old: old.digest,
            };
            found == signed
        }
    };
    to.flush()?;
    let file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
    let length = file.metadata()?.len();
    Ok(sound.then_some((file, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_asked_for_in_so_many_words() {
        let digest = Digest::new([7; 32]);
        let named = format!(":{}:", STANDARD.encode([7; 32]));
        let asks = |encoding: &str, dictionary: &str, range: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, encoding.parse().unwrap());
            headers.insert(AVAILABLE_DICTIONARY, dictionary.parse().unwrap());
            if range {
                headers.insert(RANGE, "bytes=0-1".parse().unwrap());
            }
            asked(&Method::GET, &headers)
        };
        let from = Coding::From(digest);
        assert_eq!(asks("gzip, tamer-pieces", &named, false), [from]);
        assert_eq!(
            asks("zstd, Tamer-Pieces;q=0.5", &named, false),
            [from, Coding::Alone]
        );
        assert_eq!(
            asks("tamer-pieces, zstd", "nonsense", false),
            [Coding::Alone]
        );
        assert_eq!(asks("tamer-pieces", ":AAAA:", false), []);
        assert_eq!(asks("tamer-pieces;q=0, zstd; q=0.0", &named, false), []);
        assert_eq!(asks("tamer-pieces, zstd", &named, true), []);
        assert_eq!(asks("*", &named, false), []);
        assert_eq!(asked(&Method::HEAD, &HeaderMap::new()), []);
    }
}
