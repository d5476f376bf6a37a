//! Documents as differences from ones that the other side has: a manifest is mostly the one before it.
//!
//! ```text
//! MAGIC (8) · SHA-256 of the old document (32), then piece by piece, until the end:
//!     where in the old one (8) · how much of it (4) · how much this unpacks to (4) · length (4) · a zstd frame
//! ```
//! Numbers are little-endian. Each frame may point into that part of the old document, and into nothing else. So
//! whoever opens a patch holds one piece and one part, however large the documents are; HTTP's own `dcz` (RFC
//! 9842) would take both of them whole. What comes out is believed by nobody before it is verified.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use tamer_core::digest::Digest;
use tamer_core::release::MAX_MANIFEST;
use tamer_kit::hash::HashingReader;

/// The name of this coding in `Content-Encoding` and `Accept-Encoding`.
pub const CODING: &str = "tamer-pieces";

/// The largest document that patches are made for, in bytes.
pub const MAX: u64 = MAX_MANIFEST;

/// What a patch begins with.
const MAGIC: [u8; 8] = *b"tamer-p1";

/// The length of what stands before a piece's frame, in bytes.
const HEAD: usize = 20;

/// The most that one piece unpacks to, in bytes.
const PIECE: usize = 512 << 10;

/// Before and behind the place where a piece was in the old document, so many bytes more may be pointed to: what
/// was changed around it has moved it.
const MARGIN: usize = 512 << 10;

/// The largest part of an old document that a piece points into, in bytes.
const PART: usize = PIECE + 2 * MARGIN;

/// How much of an old document is read at once, in bytes.
const BUFFER: usize = 64 << 10;

/// zstd's level for what differs. Higher ones save little of what are mostly digests.
const LEVEL: i32 = 6;

/// … and for a whole blob: a manifest of 1.9 MB has 520 KB at level 1, and 548 KB at level 6, which takes five times
/// as long (`zstd -b1 -e6`): a long match is rarer among digests than what looks for it costs.
const LEVEL_ALONE: i32 = 1;

/// The largest window, as a logarithm: a piece and its part fit. It bounds what is allocated to unpack.
const MAX_WINDOW: u32 = 21;

/// Why a patch was refused.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// It is for another document, or no patch.
    #[error("it is not a patch for what is here")]
    Dictionary,
    /// One of its pieces is larger than pieces are.
    #[error("one of its pieces is too large")]
    Piece,
    /// It points to what the old document does not have.
    #[error("it points beyond what is here")]
    Beyond(#[source] io::Error),
    /// It unpacks to more than may come.
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(u64),
    /// zstd refuses it, or it ends too early.
    #[error("it cannot be unpacked")]
    Content(#[source] io::Error),
}

/// `new` as a patch to `old`, both in memory.
///
/// # Errors
/// zstd has no memory for it.
pub fn make(new: &[u8], old: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(4096);
    write(new, new.len() as u64, io::Cursor::new(old), &mut out)?;
    Ok(out)
}

/// The digests of what a patch was made of, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// That of the new document.
    pub new: Digest,
    /// That of the old one.
    pub old: Digest,
}

/// Writes `new`, which should have `length` bytes, as a patch to `old`. Of both it holds no more than a piece and
/// its part: `old` is read from its beginning to its end, then part by part.
///
/// # Errors
/// One of them cannot be read, the patch cannot be written, or zstd has no memory for it.
pub fn write(
    new: impl Read,
    length: u64,
    mut old: impl Read + Seek,
    mut to: impl Write,
) -> io::Result<Made> {
    old.rewind()?;
    let mut whole = HashingReader::new(&mut old);
    let known = Anchors::of(&mut whole)?;
    let before = whole.finish().0;
    to.write_all(&MAGIC)?;
    to.write_all(before.as_bytes())?;
    let mut new = HashingReader::new(new);
    let (mut piece, mut part) = (Vec::with_capacity(PIECE), Vec::new());
    let mut done = 0;
    loop {
        piece.clear();
        new.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        let at = known.place(&piece, done, length);
        let start = at.saturating_sub(MARGIN as u64);
        let end = (at + (PIECE + MARGIN) as u64).min(known.length);
        // At most `PART`.
        part.resize((end - start) as usize, 0);
        old.seek(SeekFrom::Start(start))?;
        old.read_exact(&mut part)?;
        let frame = frame(&piece, &part)?;
        to.write_all(&start.to_le_bytes())?;
        for length in [part.len(), piece.len(), frame.len()] {
            // All of them are bounded by constants.
            to.write_all(&(length as u32).to_le_bytes())?;
        }
        to.write_all(&frame)?;
        done += piece.len() as u64;
    }
    Ok(Made {
        new: new.finish().0,
        old: before,
    })
}

/// A piece as a frame that points into its part.
fn frame(piece: &[u8], part: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::with_ref_prefix(Vec::new(), LEVEL, part)?;
    encoder.window_log(MAX_WINDOW)?;
    // Without it only the nearest part is searched.
    encoder.long_distance_matching(true)?;
    encoder.set_pledged_src_size(Some(piece.len() as u64))?;
    encoder.write_all(piece)?;
    encoder.finish()
}

/// What a patch to `old`, whose digest is given, unpacks to: at most `max` bytes.
///
/// # Errors
/// [`PatchError`].
pub fn open(patch: &[u8], old: &[u8], digest: &Digest, max: u64) -> Result<Vec<u8>, PatchError> {
    let read = |at: u64, into: &mut [u8]| {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(into.len());
        let there = old.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(there);
        Ok(())
    };
    let mut opened = Opened::new(patch, read, digest)?;
    let mut out = Vec::new();
    while opened.next()? {
        if (out.len() + opened.piece.len()) as u64 > max {
            return Err(PatchError::TooLarge(max));
        }
        out.append(&mut opened.piece);
    }
    Ok(out)
}

/// A patch that is opened while it is read. `O` reads from the old document: so many bytes, from there.
pub struct Opened<R, O> {
    patch: R,
    old: O,
    part: Vec<u8>,
    frame: Vec<u8>,
    piece: Vec<u8>,
    /// How much of the piece was given.
    given: usize,
}

impl<R: Read, O: Fn(u64, &mut [u8]) -> io::Result<()>> Opened<R, O> {
    /// Begins to open a patch to `old`, whose digest is given.
    ///
    /// # Errors
    /// [`PatchError::Dictionary`], or the patch does not come.
    pub fn new(mut patch: R, old: O, digest: &Digest) -> Result<Self, PatchError> {
        let mut head = [0; 40];
        let read = patch.read_exact(&mut head);
        if read.is_err() || head[..8] != MAGIC || head[8..] != *digest.as_bytes() {
            return Err(PatchError::Dictionary);
        }
        Ok(Self {
            patch,
            old,
            part: Vec::new(),
            frame: Vec::new(),
            piece: Vec::new(),
            given: 0,
        })
    }

    /// Opens the next piece; `false`: there is none.
    fn next(&mut self) -> Result<bool, PatchError> {
        let mut head = [0; HEAD];
        let first = loop {
            match self.patch.read(&mut head) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(PatchError::Content)?,
            }
        };
        if first == 0 {
            return Ok(false);
        }
        let rest = self.patch.read_exact(&mut head[first..]);
        rest.map_err(PatchError::Content)?;
        let mut at = [0; 8];
        at.copy_from_slice(&head[..8]);
        let number = |from: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&head[from..from + 4]);
            u32::from_le_bytes(bytes) as usize
        };
        let (part, piece, frame) = (number(8), number(12), number(16));
        if part > PART || piece == 0 || piece > PIECE || frame > PIECE + (PIECE >> 7) + 1024 {
            return Err(PatchError::Piece);
        }
        self.part.resize(part, 0);
        (self.old)(u64::from_le_bytes(at), &mut self.part).map_err(PatchError::Beyond)?;
        self.frame.resize(frame, 0);
        let read = self.patch.read_exact(&mut self.frame);
        read.map_err(PatchError::Content)?;
        self.given = 0;
        self.piece.clear();
        let decoder = zstd::Decoder::with_ref_prefix(&self.frame[..], &self.part);
        let mut decoder = decoder.map_err(PatchError::Content)?.single_frame();
        let window = decoder.window_log_max(MAX_WINDOW);
        window.map_err(PatchError::Content)?;
        let more = decoder.take(piece as u64 + 1).read_to_end(&mut self.piece);
        match more.map_err(PatchError::Content)? {
            all if all == piece => Ok(true),
            all if all > piece => Err(PatchError::Piece),
            _ => Err(PatchError::Content(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl<R: Read, O: Fn(u64, &mut [u8]) -> io::Result<()>> Read for Opened<R, O> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.piece.len() {
            if !self.next().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        let n = into.len().min(self.piece.len() - self.given);
        into[..n].copy_from_slice(&self.piece[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}

// === where things were ===

/// Places that are told by what stands before them, whatever stands elsewhere: about one every 2 KiB.
struct Anchors {
    places: HashMap<u64, u64>,
    length: u64,
}

impl Anchors {
    fn of(mut old: impl Read) -> io::Result<Self> {
        let (mut places, mut gear) = (HashMap::new(), Gear::default());
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = match old.read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if n == 0 {
                let length = gear.at;
                return Ok(Self { places, length });
            }
            gear.over(&buffer[..n], |mark, at| {
                places.entry(mark).or_insert(at);
            });
        }
    }

    /// Where the piece that begins at `at` of `of` bytes was, as near as can be told.
    fn place(&self, piece: &[u8], at: u64, of: u64) -> u64 {
        let mut moved: Vec<i64> = Vec::new();
        Gear::default().over(piece, |mark, within| {
            if let Some(there) = self.places.get(&mark) {
                moved.push(*there as i64 - (at + within) as i64);
            }
        });
        moved.sort_unstable();
        let place = match moved.get(moved.len() / 2) {
            Some(by) => u64::try_from(at as i64 + by).unwrap_or(0),
            None => (u128::from(at) * u128::from(self.length) / u128::from(of.max(1))) as u64,
        };
        place.min(self.length)
    }
}

/// A gear hash on its way: what is 64 bytes back was shifted out.
#[derive(Default)]
struct Gear {
    mark: u64,
    at: u64,
}

impl Gear {
    /// Tells of each anchor in what comes next: a mark made of the 64 bytes before it, and where it is.
    fn over(&mut self, bytes: &[u8], mut tell: impl FnMut(u64, u64)) {
        for byte in bytes {
            self.mark = (self.mark << 1).wrapping_add(mixed(*byte));
            if self.mark >> 53 == 0 {
                tell(self.mark, self.at);
            }
            self.at += 1;
        }
    }
}

/// A byte as a number of which every bit depends on all of it (the finalizer of splitmix64).
const fn mixed(byte: u8) -> u64 {
    let mut it = (byte as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

// === documents by themselves ===

/// A document by itself, compressed, both in memory.
///
/// # Errors
/// zstd has no memory for it.
pub fn compress(document: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    write_compressed(document, document.len() as u64, &mut out)?;
    Ok(out)
}

/// Writes a document of `length` bytes by itself, compressed, and gives its digest.
///
/// # Errors
/// It cannot be read, or has another length; it cannot be written; zstd has no memory for it.
pub fn write_compressed(document: impl Read, length: u64, to: impl Write) -> io::Result<Digest> {
    let mut document = HashingReader::new(document);
    let mut encoder = zstd::Encoder::new(to, LEVEL_ALONE)?;
    encoder.window_log(MAX_WINDOW)?;
    encoder.set_pledged_src_size(Some(length))?;
    io::copy(&mut document, &mut encoder)?;
    encoder.finish()?.flush()?;
    Ok(document.finish().0)
}

/// What [`compress`] made, unpacked to at most `max` bytes.
///
/// # Errors
/// [`PatchError`].
pub fn decompress(bytes: &[u8], max: u64) -> Result<Vec<u8>, PatchError> {
    let mut out = Vec::new();
    let opened = decompressed(bytes).map_err(PatchError::Content)?;
    let read = opened.take(max + 1).read_to_end(&mut out);
    read.map_err(PatchError::Content)?;
    if out.len() as u64 > max {
        return Err(PatchError::TooLarge(max));
    }
    Ok(out)
}

/// What [`compress`] made, unpacked while it is read.
///
/// # Errors
/// zstd has no memory for it.
pub fn decompressed(from: impl Read) -> io::Result<impl Read> {
    let mut decoder = zstd::Decoder::new(from)?.single_frame();
    decoder.window_log_max(MAX_WINDOW)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tamer_kit::hash::sha256;

    /// Lines as a manifest has them: hardly any that repeats.
    fn lines(n: u32, changed: impl Fn(u32) -> bool) -> Vec<u8> {
        let line = |n| {
            let seed = if changed(n) { n + 1_000_000 } else { n };
            format!("{n} {}\n", sha256(&seed.to_le_bytes()))
        };
        (0..n).map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn a_patch_costs_what_changed() {
        let (old, new) = (lines(6_000, |_| false), lines(6_000, |n| n % 40 == 3));
        let patch = make(&new, &old).unwrap();
        assert_eq!(open(&patch, &old, &sha256(&old), 1 << 20).unwrap(), new);
        // 150 digests of 32 bytes, which no compression makes smaller.
        assert!(patch.len() < 150 * 32 * 2, "{}", patch.len());
        assert!(compress(&new).unwrap().len() > 6_000 * 32);
    }

    #[test]
    fn a_patch_is_bounded_and_only_for_its_dictionary() {
        let old = lines(100, |_| false);
        let bomb = make(&vec![0; 8 << 20], &old).unwrap();
        let digest = sha256(&old);
        assert!(bomb.len() < 10_000, "{}", bomb.len());
        for max in [0, 1000, (8 << 20) - 1] {
            let refused = open(&bomb, &old, &digest, max);
            assert!(matches!(refused, Err(PatchError::TooLarge(_))), "{max}");
        }
        assert_eq!(open(&bomb, &old, &digest, 8 << 20).unwrap().len(), 8 << 20);
        let other = Digest::new([7; 32]);
        assert!(matches!(
            open(&bomb, &old, &other, 8 << 20),
            Err(PatchError::Dictionary)
        ));
        // A frame with a huge window is refused before anything is allocated for it.
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&old).unwrap();
        let wide = encoder.finish().unwrap();
        assert!(matches!(
            decompress(&wide, 1 << 20),
            Err(PatchError::Content(_))
        ));
    }

    #[test]
    fn a_piece_finds_what_was_moved_far_away() {
        // Two megabytes come in front: whoever looks at the same place finds nothing.
        let old = lines(60_000, |_| false);
        let new = [&lines(30_000, |_| true)[..], &old].concat();
        let patch = make(&new, &old).unwrap();
        assert_eq!(open(&patch, &old, &sha256(&old), 1 << 24).unwrap(), new);
        assert!(patch.len() < 30_000 * 40, "{}", patch.len());
    }

    #[test]
    fn pieces_are_bounded_and_point_to_what_is_there() {
        let old = lines(100, |_| false);
        let digest = sha256(&old);
        let good = make(&lines(100, |n| n == 7), &old).unwrap();
        let number = |at: usize, bytes: &[u8]| {
            let mut patch = good.clone();
            patch[at..at + bytes.len()].copy_from_slice(bytes);
            open(&patch, &old, &digest, 1 << 20).unwrap_err()
        };
        let beyond = number(40, &1_u64.to_le_bytes());
        assert!(matches!(beyond, PatchError::Beyond(_)), "{beyond}");
        assert!(matches!(number(40, &[0xff; 8]), PatchError::Beyond(_)));
        for at in [48, 52, 56] {
            let huge = number(at, &u32::MAX.to_le_bytes());
            assert!(matches!(huge, PatchError::Piece), "{at}: {huge}");
        }
        assert!(matches!(number(52, &[0; 4]), PatchError::Piece));
        assert!(matches!(number(52, &[9, 0, 0, 0]), PatchError::Piece));
        let cut = open(&good[..good.len() - 1], &old, &digest, 1 << 20);
        assert!(matches!(cut, Err(PatchError::Content(_))));
    }

    proptest! {
        #[test]
        fn what_was_made_is_opened_and_what_was_damaged_is_bounded(
            new in prop::collection::vec(any::<u8>(), 0..5_000),
            old in prop::collection::vec(any::<u8>(), 0..5_000),
            at in any::<prop::sample::Index>(),
            byte in 1_u8..,
        ) {
            let mut patch = make(&new, &old).unwrap();
            let digest = sha256(&old);
            prop_assert_eq!(&open(&patch, &old, &digest, 5_000).unwrap(), &new);
            prop_assert_eq!(&decompress(&compress(&new).unwrap(), 5_000).unwrap(), &new);
            let at = at.index(patch.len());
            patch[at] ^= byte;
            if let Ok(bytes) = open(&patch, &old, &digest, 5_000) {
                prop_assert!(bytes.len() <= 5_000);
            }
        }
    }
}
