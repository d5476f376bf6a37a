//! A manifest as a difference from one that is known, and a document that comes compressed.

use crate::corpus::corpus;
use crate::made::small;
use std::sync::LazyLock;
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;
use tamer_release::{manifest, patch};

/// What may come out, in bytes.
const MOST: u64 = 64 << 10;

static KNOWN: LazyLock<(Vec<u8>, Digest)> = LazyLock::new(|| {
    let known = manifest::to_bytes(&small().manifest);
    let digest = sha256(&known);
    (known, digest)
});

/// How long the head of a patch is, in bytes (RFC 9842, 5): eight, and the digest of what is known.
const HEAD: usize = 40;

pub(super) fn run(bytes: &[u8]) {
    let (known, digest) = &*KNOWN;
    let bounded = |opened: Result<Vec<u8>, patch::PatchError>| match opened {
        Ok(bytes) => assert!(bytes.len() as u64 <= MOST),
        Err(error) => super::is_said(&error),
    };
    bounded(patch::open(bytes, known, digest, MOST));
    bounded(patch::decompress(bytes, MOST));
    let made = patch::make(bytes, known).unwrap();
    assert_eq!(patch::open(&made, known, digest, MOST).unwrap(), bytes);
    // The same bytes behind a head that is right.
    let patch = [&made[..HEAD], bytes].concat();
    bounded(patch::open(&patch, known, digest, MOST));
    let another = Digest::new([0; 32]);
    assert!(patch::open(&made, known, &another, MOST).is_err());
}

/// Patches without their heads, and whole ones.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (known, _) = &*KNOWN;
    let text = String::from_utf8_lossy(known).replace("1.2.3", "1.2.4");
    let patch = patch::make(text.as_bytes(), known).unwrap();
    let mut seeds = vec![patch[HEAD..].to_vec(), patch];
    seeds.push(patch::compress(text.as_bytes()).unwrap());
    let bomb = vec![0; MOST as usize + 1];
    seeds.push(patch::compress(&bomb).unwrap());
    let patches = corpus().into_iter().filter(|it| it.known.is_some());
    seeds.extend(patches.map(|it| it.manifest));
    seeds
}
