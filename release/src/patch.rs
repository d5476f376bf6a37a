//! Small documents as differences from ones that the other side has: a manifest is mostly the one before it.
//!
//! The bytes are what HTTP calls `dcz` (RFC 9842, Compression Dictionary Transport): a header that names the
//! dictionary by its SHA-256, then one zstd frame that may point into it. What comes out is believed by nobody
//! before it is verified; how much comes out is bounded here.

use std::io::{self, Read, Write};
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;

/// The largest document that is sent or taken this way, and the largest dictionary, in bytes. It bounds what a
/// patch takes in memory, on both sides; larger ones go as they are.
pub const MAX: u64 = 16 << 20;

/// What a patch begins with (RFC 9842, 5): a skippable zstd frame of 32 bytes, which are the dictionary's digest.
const MAGIC: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0];

/// zstd's level. Higher ones save little of what are mostly digests.
const LEVEL: i32 = 6;

/// A document and its dictionary are in one window: of [`MAX`] bytes twice, as a logarithm.
const MAX_WINDOW: u32 = 25;

/// Why a patch was refused.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// It is for another dictionary, or no patch.
    #[error("it is not a patch for what is here")]
    Dictionary,
    /// It unpacks to more than may come.
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(u64),
    /// zstd refuses it.
    #[error("it cannot be unpacked")]
    Content(#[source] io::Error),
}

/// `new` as a patch to `old`.
///
/// # Errors
/// zstd has no memory for it.
pub fn make(new: &[u8], old: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(sha256(old).as_bytes());
    let mut encoder = zstd::Encoder::with_ref_prefix(out, LEVEL, old)?;
    let both = (new.len() + old.len()).max(1024) as u64;
    encoder.window_log((both.ilog2() + 1).min(MAX_WINDOW))?;
    // Without it only the nearest part of the dictionary is searched.
    encoder.long_distance_matching(true)?;
    encoder.set_pledged_src_size(Some(new.len() as u64))?;
    encoder.write_all(new)?;
    encoder.finish()
}

/// What a patch to `old`, whose digest is given, unpacks to: at most `max` bytes.
///
/// # Errors
/// [`PatchError`].
pub fn open(patch: &[u8], old: &[u8], digest: &Digest, max: u64) -> Result<Vec<u8>, PatchError> {
    let rest = patch
        .strip_prefix(&MAGIC)
        .and_then(|rest| rest.strip_prefix(digest.as_bytes()))
        .ok_or(PatchError::Dictionary)?;
    let decoder = zstd::Decoder::with_ref_prefix(rest, old).map_err(PatchError::Content)?;
    read(decoder, max)
}

/// A document by itself, compressed.
///
/// # Errors
/// zstd has no memory for it.
pub fn compress(document: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(document, LEVEL)
}

/// What [`compress`] made, unpacked to at most `max` bytes.
///
/// # Errors
/// [`PatchError`].
pub fn decompress(bytes: &[u8], max: u64) -> Result<Vec<u8>, PatchError> {
    read(
        zstd::Decoder::with_buffer(bytes).map_err(PatchError::Content)?,
        max,
    )
}

fn read(decoder: zstd::Decoder<'_, impl io::BufRead>, max: u64) -> Result<Vec<u8>, PatchError> {
    let mut decoder = decoder.single_frame();
    decoder
        .window_log_max(MAX_WINDOW)
        .map_err(PatchError::Content)?;
    let mut out = Vec::new();
    decoder
        .take(max + 1)
        .read_to_end(&mut out)
        .map_err(PatchError::Content)?;
    if out.len() as u64 > max {
        return Err(PatchError::TooLarge(max));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert!(bomb.len() < 10_000);
        for max in [0, 1000, (8 << 20) - 1] {
            let refused = open(&bomb, &old, &digest, max);
            assert!(matches!(refused, Err(PatchError::TooLarge(_))), "{max}");
            let refused = decompress(&bomb[40..], max);
            assert!(refused.is_err(), "{max}");
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
