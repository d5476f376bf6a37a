//! How a value lies on disk, and the seal: what a store must hold, in 40 bytes.
//!
//! A frame is `version (1), length (4), checksum (4), value`, in little-endian, cut into pieces of
//! at most [`PIECE`] bytes. The first piece lies under the key itself, the n-th one under
//! `key 00 n`, which sorts directly behind it. The pieces are so small that a page of sled (17
//! keys) never reaches the 128 KiB at which it becomes a blob file, which sled never syncs.
//!
//! sled can lose keys without a word after damage to its file, so every commit also writes a
//! [`Seal`]: revision, number of objects, and a sum over all keys and checksums.

use super::key::Key;
use super::{BadEntry, StoreError};
use tamer_kit::hash;

/// The version of the frame that is written.
const VERSION: u8 = 1;
/// The bytes before the value.
pub const HEADER: usize = 9;
/// The largest piece, in bytes.
pub const PIECE: usize = 6 << 10;
/// The key of the seal: no [`Key`] has a zero byte.
pub const SEAL_KEY: &[u8] = b"\0seal";

/// What a frame's head says about the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The length of the value, in bytes.
    pub length: u32,
    /// CRC-32 over key, version, length and value.
    pub checksum: u32,
}

impl Header {
    /// The header of this value under this key.
    pub fn of(key: &[u8], value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let mut crc = crc32fast::Hasher::new();
        crc.update(key);
        crc.update(&[0, VERSION]);
        crc.update(&length.to_le_bytes());
        crc.update(value);
        Self {
            length,
            checksum: crc.finalize(),
        }
    }

    /// Reads the header of a first piece.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn read(key: &[u8], first: &[u8]) -> Result<Self, StoreError> {
        let (Some(head), Some(VERSION)) = (first.get(1..HEADER), first.first().copied()) else {
            return Err(damaged(key, "its frame is of no known version"));
        };
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&head[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        Ok(Self {
            length: word(0),
            checksum: word(4),
        })
    }

    /// Into how many pieces the frame is cut.
    pub fn pieces(self) -> usize {
        (HEADER + self.length as usize).div_ceil(PIECE)
    }
}

/// A raw key and what lies under it.
pub type Piece = (Vec<u8>, Vec<u8>);

/// The pieces of a value, each with the key it lies under.
pub fn pieces(key: &Key, value: &[u8]) -> (Header, Vec<Piece>) {
    let raw = key.as_str().as_bytes();
    let header = Header::of(raw, value);
    let mut frame = Vec::with_capacity(HEADER + value.len());
    frame.push(VERSION);
    frame.extend_from_slice(&header.length.to_le_bytes());
    frame.extend_from_slice(&header.checksum.to_le_bytes());
    frame.extend_from_slice(value);
    if frame.len() <= PIECE {
        return (header, vec![(raw.to_vec(), frame)]);
    }
    let cut = frame.chunks(PIECE).enumerate();
    let pieces = cut.map(|(n, piece)| (piece_key(raw, n), piece.to_vec()));
    (header, pieces.collect())
}

/// The key of the n-th piece, counted from 0.
pub fn piece_key(key: &[u8], n: usize) -> Vec<u8> {
    let mut raw = key.to_vec();
    if n > 0 {
        raw.extend_from_slice(&[0, u8::try_from(n).unwrap_or(u8::MAX)]);
    }
    raw
}

/// Whether a raw key is that of a later piece, or of the seal.
pub fn is_inner(raw: &[u8]) -> bool {
    raw.contains(&0)
}

/// Puts a value together from its first piece and, if there are more, from `rest`.
///
/// # Errors
/// [`StoreError::Damaged`] unless every byte is as it was written, under this key.
pub fn join(
    key: &[u8],
    first: &[u8],
    mut rest: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<(Header, Vec<u8>), StoreError> {
    let header = Header::read(key, first)?;
    let mut value = first[HEADER..].to_vec();
    for n in 1..header.pieces().min(1 + super::MAX_BATCH / PIECE) {
        let piece = rest(&piece_key(key, n))?;
        value.extend(piece.ok_or_else(|| damaged(key, "a piece of it is missing"))?);
    }
    if Header::of(key, &value) != header {
        return Err(damaged(key, "its checksum does not agree"));
    }
    Ok((header, value))
}

/// Reads a raw key that must be a [`Key`].
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn parse_key(raw: &[u8]) -> Result<Key, StoreError> {
    let parsed = std::str::from_utf8(raw)
        .ok()
        .map(str::parse::<Key>)
        .and_then(|key: Result<Key, BadEntry>| key.ok());
    parsed.ok_or_else(|| damaged(raw, "its key is not one"))
}

fn damaged(key: &[u8], why: &'static str) -> StoreError {
    StoreError::Damaged {
        key: key.escape_ascii().to_string(),
        why,
    }
}

/// What a store must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seal {
    /// The number of batches since the store was made; a restored one goes on with its backup's.
    pub revision: u64,
    /// The number of objects.
    pub objects: u64,
    /// The sum, modulo 2^128, of the hashes of all (key, length, checksum): it does not depend on
    /// the order, and an object can be added and taken away.
    pub sum: u128,
}

/// The bytes of a written seal.
pub const SEAL: usize = 37;

impl Seal {
    /// Takes an object in.
    pub fn add(&mut self, key: &[u8], header: Header) {
        self.objects += 1;
        self.sum = self.sum.wrapping_add(term(key, header));
    }

    /// Takes an object out that was taken in before.
    pub fn remove(&mut self, key: &[u8], header: Header) {
        self.objects = self.objects.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(term(key, header));
    }

    /// The seal as bytes: version, revision, objects, sum, checksum.
    pub fn to_bytes(self) -> [u8; SEAL] {
        let mut bytes = [0; SEAL];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.revision.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.objects.to_le_bytes());
        bytes[17..33].copy_from_slice(&self.sum.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..33]);
        bytes[33..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a seal; `None` unless every byte is as it was written.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SEAL] = bytes.try_into().ok()?;
        let seal = Self {
            revision: u64::from_le_bytes(bytes[1..9].try_into().ok()?),
            objects: u64::from_le_bytes(bytes[9..17].try_into().ok()?),
            sum: u128::from_le_bytes(bytes[17..33].try_into().ok()?),
        };
        (seal.to_bytes() == *bytes).then_some(seal)
    }
}

fn term(key: &[u8], header: Header) -> u128 {
    let mut hasher = hash::Hasher::default();
    hasher.update(&header.length.to_le_bytes());
    hasher.update(&header.checksum.to_le_bytes());
    hasher.update(key);
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finish().as_bytes()[..16]);
    u128::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn read_back(key: &str, stored: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, StoreError> {
        let first = &stored[key.as_bytes()];
        join(key.as_bytes(), first, |k| Ok(stored.get(k).cloned())).map(|(_, value)| value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_changed_byte_is_told(size in 0usize..20_000, at: prop::sample::Index, flip in 1u8..) {
            let key: Key = "host/web-01".parse().unwrap();
            let value: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut stored: BTreeMap<_, _> = pieces(&key, &value).1.into_iter().collect();
            prop_assert!(stored.values().all(|piece| piece.len() <= PIECE));
            prop_assert_eq!(read_back("host/web-01", &stored).unwrap(), value);
            let n = at.index(stored.len());
            let piece = stored.values_mut().nth(n).unwrap();
            let byte = at.index(piece.len());
            piece[byte] ^= flip;
            prop_assert!(read_back("host/web-01", &stored).is_err());
        }
    }

    #[test]
    fn a_value_under_another_key_or_with_a_lost_piece_is_told() {
        let key: Key = "host/a".parse().unwrap();
        let mut stored: BTreeMap<_, _> = pieces(&key, &[7; 3 * PIECE]).1.into_iter().collect();
        assert_eq!(stored.len(), 4);
        let first = stored[&b"host/a"[..]].clone();
        let other = join(b"host/b", &first, |_| {
            Ok(stored.get(&piece_key(b"host/a", 1)).cloned())
        });
        assert!(other.is_err());
        stored.remove(&piece_key(b"host/a", 2));
        let said = read_back("host/a", &stored).unwrap_err().to_string();
        assert!(
            said.contains("`host/a`") && said.contains("missing"),
            "{said}"
        );
    }

    #[test]
    fn a_seal_forgets_order_and_remembers_content() {
        let (a, b) = (Header::of(b"a", b"1"), Header::of(b"b", b"2"));
        let (mut one, mut two) = (Seal::default(), Seal::default());
        one.add(b"a", a);
        one.add(b"b", b);
        two.add(b"b", b);
        two.add(b"a", a);
        assert_eq!(one, two);
        let swapped = {
            let mut seal = Seal::default();
            seal.add(b"a", b);
            seal.add(b"b", a);
            seal
        };
        assert_ne!(one.sum, swapped.sum);
        one.remove(b"a", a);
        one.remove(b"b", b);
        assert_eq!(one, Seal::default());
        let bytes = two.to_bytes();
        assert_eq!(Seal::from_bytes(&bytes), Some(two));
        for at in 0..SEAL {
            let mut torn = bytes;
            torn[at] ^= 1;
            assert_eq!(Seal::from_bytes(&torn), None, "byte {at}");
        }
    }
}
