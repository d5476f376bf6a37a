//! The independent zstd frames of an archive: where to cut the tar stream, and how to open one frame.
//!
//! A file is never in two frames, unless it is large: then its content is cut where the content itself says
//! so (FastCDC), into frames that hold nothing else. Small files share a frame, but only very small ones:
//! whoever lacks one file has to fetch its whole frame.

use crate::layout::Layout;
use std::ops::Range;
use tamer_core::digest::Digest;
use tamer_core::release::{Entry, Frame};
use tamer_kit::hash;

/// The largest frame that is accepted, unpacked, in bytes: it bounds what one frame takes in memory.
pub const MAX_UNPACKED: u64 = 4 << 20;

/// Files share a frame until it has so many bytes of content. Measured with 3 % of the files of a source tree
/// changed: 4 KiB would add a third to what is fetched and save a twentieth of the archive; frames of one
/// file each would save nothing.
const SHARED: u64 = 512;

/// Directories, links and empty files bring no content; a frame takes at most so many bytes of them.
const MAX_SHARED: u64 = 32 << 10;

/// A file of more bytes is cut into pieces: two of them on average, so that one can stay.
const LARGE: u64 = 128 << 10;

/// zstd's level. Unpacking costs the same at every level; small frames gain 2 % from level 12, and take four times
/// as long to make.
const LEVEL: i32 = 6;

/// The sizes of a large file's pieces in bytes: the least, the average, the most.
///
/// Pieces grow with the file, so that a manifest stays small; a file that crosses a border is fetched anew, once.
pub(crate) const fn pieces(size: u64) -> (usize, usize, usize) {
    let average = match size {
        0..=0x0400_0000 => 64 << 10,
        0x0400_0001..=0x4000_0000 => 256 << 10,
        _ => 1 << 20,
    };
    (average / 4, average, average * 4)
}

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

/// What one frame or several hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// This part of the tar stream, in one frame.
    Shared(Range<u64>),
    /// The content of the entry with this number, in frames that are cut when it is read.
    Large(usize),
}

/// Divides the tar stream: in order, without gaps, no part empty.
pub fn cut(files: &[Entry], layout: &Layout) -> Vec<Part> {
    let mut cuts = Cuts::default();
    for (n, span) in layout.spans.iter().enumerate().take(files.len()) {
        if span.size > LARGE {
            cuts.at(span.content);
            cuts.parts.push(Part::Large(n));
            cuts.open = span.content().end;
            continue;
        }
        let full = span.end - cuts.open > MAX_SHARED || span.size >= SHARED;
        if full && (cuts.content > 0 || span.start - cuts.open > MAX_SHARED) {
            cuts.at(span.start);
        }
        cuts.content += span.size;
        if cuts.content >= SHARED {
            cuts.at(span.end);
        }
    }
    cuts.at(layout.total);
    cuts.parts
}

#[derive(Default)]
struct Cuts {
    parts: Vec<Part>,
    /// Where the open part starts.
    open: u64,
    /// How many bytes of files' contents it holds.
    content: u64,
}

impl Cuts {
    fn at(&mut self, here: u64) {
        if here > self.open {
            self.parts.push(Part::Shared(self.open..here));
            self.open = here;
        }
        self.content = 0;
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
            path: format!("file-{n:06}").parse().unwrap(),
            kind: EntryKind::File {
                mode: 0o644,
                size: *size,
                sha256: digest,
            },
        };
        sizes.iter().enumerate().map(file).collect()
    }

    fn parts(sizes: &[u64]) -> Vec<Part> {
        let files = files(sizes);
        cut(&files, &Layout::of(&files).unwrap())
    }

    proptest! {
        #[test]
        fn parts_are_contiguous_bounded_and_hold_whole_files(
            sizes in prop::collection::vec(prop_oneof![0_u64..3_000, 0_u64..400_000], 0..100),
        ) {
            let files = files(&sizes);
            let layout = Layout::of(&files).unwrap();
            let mut at = 0;
            for part in cut(&files, &layout) {
                match part {
                    Part::Shared(range) => {
                        prop_assert_eq!(range.start, at);
                        prop_assert!(range.end > range.start && range.end - range.start < 256 << 10);
                        for n in layout.within(&range) {
                            let content = layout.spans[n].content();
                            let (inside, outside) = (
                                range.start <= content.start && content.end <= range.end,
                                content.end <= range.start || range.end <= content.start,
                            );
                            prop_assert!(inside || outside, "{:?} {:?}", content, range);
                        }
                        at = range.end;
                    }
                    Part::Large(n) => {
                        prop_assert!(sizes[n] > 128 << 10);
                        prop_assert_eq!(at, layout.spans[n].content);
                        at = layout.spans[n].content().end;
                    }
                }
            }
            prop_assert_eq!(at, layout.total);
        }
    }

    #[test]
    fn files_are_alone_unless_they_are_very_small() {
        assert_eq!(parts(&[512, 5_000, 128 << 10]).len(), 4, "and the end");
        assert_eq!(parts(&[100; 12]).len(), 3);
        assert_eq!(
            parts(&[100, 5_000]).len(),
            3,
            "nobody fetches 100 bytes with 5,000"
        );
        // Without content a frame costs nothing but its own bytes.
        assert_eq!(parts(&[0, 0, 0, 5_000]).len(), 2);
        assert_eq!(parts(&[0; 1_000]).len(), 16);
    }

    #[test]
    fn a_large_file_stands_alone_between_its_header_and_its_padding() {
        let size = (128 << 10) + 1;
        let parts = parts(&[10, size, 10]);
        let padding = 1024 + 512 + size..;
        assert_eq!(parts[0], Part::Shared(0..1024 + 512));
        assert_eq!(parts[1], Part::Large(1));
        assert!(matches!(&parts[2], Part::Shared(range) if range.start == padding.start));
        assert_eq!(parts.len(), 3);
    }

    #[test]
    fn a_frame_opens_to_exactly_what_was_signed() {
        let raw = vec![7_u8; 100_000];
        let (bytes, sha256) = Closer::new().unwrap().close(&raw).unwrap();
        let mut frame = Frame {
            length: bytes.len() as u64,
            unpacked: 100_000,
            sha256,
            content: None,
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
