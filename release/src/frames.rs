//! The independent zstd frames of an archive: where to cut the tar stream, and how to open one frame.
//!
//! Cuts lie at the boundaries of entries, chosen by the paths, so that a changed file changes the frame that
//! it lies in and few others; a large file has frames of its own.

use crate::layout::Layout;
use std::ops::Range;
use tamer_core::digest::Digest;
use tamer_core::release::{Entry, Frame};
use tamer_kit::hash;

/// The largest frame that is accepted, unpacked, in bytes: it bounds what one frame takes in memory.
pub const MAX_UNPACKED: u64 = 16 << 20;

/// A frame is not cut by a path before it has so many bytes.
const MIN: u64 = 64 << 10;

/// On average, so many bytes follow until a path cuts: frames of 256 KiB are the aim.
const SPREAD: u64 = 192 << 10;

/// A frame of several entries has at most so many bytes.
const MAX: u64 = 1 << 20;

/// An entry of more bytes has frames of its own.
const LARGE: u64 = 512 << 10;

/// A large entry is cut after every so many bytes.
const PIECE: u64 = 1 << 20;

/// The zstd level that archives are made with. Unpacking costs the same at every level.
pub const LEVEL: i32 = 6;

/// Why a frame's bytes were refused.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Its bytes have another digest.
    #[error("its bytes are not those that were signed")]
    Digest,
    /// Its bytes are not zstd, or unpack to more than was signed.
    #[error("it does not unpack to the {0} bytes that were signed")]
    Content(u64, #[source] std::io::Error),
    /// It unpacks to less than was signed.
    #[error("it unpacks to {got} bytes instead of {signed}")]
    Short {
        /// The bytes that it has.
        got: u64,
        /// The bytes that it should have.
        signed: u64,
    },
}

/// Verifies one frame's compressed bytes against its digest and length.
///
/// # Errors
/// [`FrameError::Digest`].
pub fn verify(frame: &Frame, bytes: &[u8]) -> Result<(), FrameError> {
    if bytes.len() as u64 == frame.length && hash::sha256(bytes) == frame.sha256 {
        Ok(())
    } else {
        Err(FrameError::Digest)
    }
}

/// Opens frames, one after another, with one zstd context.
pub struct Opener(zstd::bulk::Decompressor<'static>);

impl Opener {
    /// An opener with a context of its own.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Decompressor::new()?))
    }

    /// Verifies a frame and gives its part of the tar stream.
    ///
    /// It can give no more than was signed, and takes no memory beyond that: zstd writes straight into a
    /// buffer of the signed length, so a frame's window, whatever it claims, is never allocated.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn open(&mut self, frame: &Frame, bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
        verify(frame, bytes)?;
        let signed = frame.unpacked;
        let mut out = Vec::new();
        usize::try_from(signed)
            .map_err(|_| std::io::ErrorKind::OutOfMemory.into())
            .and_then(|length| {
                out.try_reserve_exact(length)
                    .map_err(|_| std::io::ErrorKind::OutOfMemory.into())
            })
            .and_then(|()| self.0.decompress_to_buffer(bytes, &mut out))
            .map_err(|e| FrameError::Content(signed, e))?;
        let got = out.len() as u64;
        if got > signed {
            let e = std::io::Error::other("it holds more");
            return Err(FrameError::Content(signed, e));
        }
        if got < signed {
            return Err(FrameError::Short { got, signed });
        }
        Ok(out)
    }
}

/// Compresses parts of the tar stream, one after another, with one zstd context.
pub(crate) struct Closer(zstd::bulk::Compressor<'static>);

impl Closer {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Compressor::new(LEVEL)?))
    }

    /// The frame's bytes and their digest.
    pub(crate) fn close(&mut self, raw: &[u8]) -> std::io::Result<(Vec<u8>, Digest)> {
        let bytes = self.0.compress(raw)?;
        let digest = hash::sha256(&bytes);
        Ok((bytes, digest))
    }
}

/// Cuts the tar stream into parts, one for each frame: in order, without gaps, none empty.
pub fn cut(files: &[Entry], layout: &Layout) -> Vec<Range<u64>> {
    let mut cuts = Cuts {
        parts: Vec::new(),
        open: 0,
    };
    for (entry, span) in files.iter().zip(&layout.spans) {
        if span.len() > LARGE {
            cuts.at(span.start);
            while span.end - cuts.open > PIECE {
                cuts.at(cuts.open + PIECE);
            }
            cuts.at(span.end);
            continue;
        }
        if span.end - cuts.open > MAX {
            cuts.at(span.start);
        }
        if span.end - cuts.open >= MIN && lot(&entry.path) % SPREAD < span.len() {
            cuts.at(span.end);
        }
    }
    cuts.at(layout.total);
    cuts.parts
}

/// A number that depends on the path alone, and looks drawn by lot.
fn lot(path: &str) -> u64 {
    let digest = hash::sha256(path.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

struct Cuts {
    parts: Vec<Range<u64>>,
    open: u64,
}

impl Cuts {
    fn at(&mut self, here: u64) {
        if here > self.open {
            self.parts.push(self.open..here);
            self.open = here;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tamer_core::release::EntryKind;

    fn files(sizes: &[u64]) -> Vec<Entry> {
        let digest = Digest::new([0; 32]);
        let file = |(n, size): (usize, &u64)| Entry {
            path: format!("file-{n:06}"),
            kind: EntryKind::File {
                mode: 0o644,
                size: *size,
                sha256: digest,
            },
        };
        sizes.iter().enumerate().map(file).collect()
    }

    fn lengths(sizes: &[u64]) -> Vec<u64> {
        let files = files(sizes);
        let parts = cut(&files, &Layout::of(&files).unwrap());
        parts.iter().map(|part| part.end - part.start).collect()
    }

    proptest! {
        #[test]
        fn parts_are_contiguous_and_bounded(sizes in prop::collection::vec(0_u64..3_000_000, 0..60)) {
            let files = files(&sizes);
            let layout = Layout::of(&files).unwrap();
            let mut at = 0;
            for part in cut(&files, &layout) {
                prop_assert_eq!(part.start, at);
                prop_assert!(part.end > part.start);
                prop_assert!(part.end - part.start <= (1 << 20) + crate::layout::TRAILER);
                at = part.end;
            }
            prop_assert_eq!(at, layout.total);
        }
    }

    #[test]
    fn small_files_share_frames_of_about_256_kib() {
        let lengths = lengths(&vec![7_000; 6_000]);
        let mean = lengths.iter().sum::<u64>() / lengths.len() as u64;
        assert!((150_000..400_000).contains(&mean), "{mean}");
    }

    #[test]
    fn one_file_that_grows_changes_few_frames() {
        let mut sizes = vec![7_000; 3_000];
        let before = lengths(&sizes);
        sizes[1_500] += 5_000;
        let after = lengths(&sizes);
        let same_start = before.iter().zip(&after).take_while(|(a, b)| a == b);
        let same_end = before.iter().rev().zip(after.iter().rev());
        let same = same_start.count() + same_end.take_while(|(a, b)| a == b).count();
        assert!(before.len() - same <= 4, "{same} of {}", before.len());
    }

    #[test]
    fn a_frame_opens_to_exactly_what_was_signed() {
        let raw = vec![7_u8; 100_000];
        let (bytes, sha256) = Closer::new().unwrap().close(&raw).unwrap();
        let mut frame = Frame {
            offset: 0,
            length: bytes.len() as u64,
            unpacked: 100_000,
            sha256,
        };
        let mut opener = Opener::new().unwrap();
        assert_eq!(opener.open(&frame, &bytes).unwrap(), raw);
        frame.unpacked = 99_999;
        let bomb = opener.open(&frame, &bytes);
        assert!(matches!(bomb, Err(FrameError::Content(..))), "{bomb:?}");
        frame.unpacked = 100_001;
        let short = opener.open(&frame, &bytes);
        assert!(matches!(short, Err(FrameError::Short { .. })), "{short:?}");
        let mut other = bytes.clone();
        other[5] ^= 1;
        let other = opener.open(&frame, &other);
        assert!(matches!(other, Err(FrameError::Digest)), "{other:?}");
    }
}
