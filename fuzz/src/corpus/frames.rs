//! Frames that are cut off, damaged, or bombs: as they came, and signed again after the damage.

use super::Hostile;
use crate::made::{Made, file, large, small};
use std::io::{Read, Write};

const NOT_SIGNED: &str = "its bytes are not those that were signed";
const UNPACKS: &str = "it does not unpack to the";

pub(super) fn all() -> Vec<Hostile> {
    let mut all = damaged();
    all.extend(signed());
    all.extend(bombs());
    all
}

/// What was signed is not what came.
fn damaged() -> Vec<Hostile> {
    let good = small();
    let first = good.manifest.archive.frames[0].length as usize;
    let mut all = Vec::new();
    for (name, length) in [
        ("archive-empty", 0),
        ("archive-cut-in-its-first-frame", first - 1),
        ("archive-cut-after-its-first-frame", first),
        ("archive-cut-in-its-last-frame", good.archive.len() - 1),
    ] {
        let mut made = good.clone();
        made.archive.truncate(length);
        all.push(Hostile::new(name, &made, "the archive ends in its frame"));
    }
    for (name, at) in [
        ("bit-of-the-first-byte", 0),
        ("bit-inside", first / 2),
        ("bit-of-the-last-byte", good.archive.len() - 1),
    ] {
        let mut made = good.clone();
        made.archive[at] ^= 1;
        all.push(Hostile::new(name, &made, NOT_SIGNED));
    }
    let mut zeros = good.clone();
    zeros.archive[..first].fill(0);
    all.push(Hostile::new("frame-that-did-not-come", &zeros, NOT_SIGNED));
    all
}

/// What came was signed: zstd must not be led astray by it.
fn signed() -> Vec<Hostile> {
    let good = small();
    let whole = |stream: &[u8]| zstd::bulk::compress(stream, 3).unwrap();
    let mut all = Vec::new();
    let mut add = |name: &str, archive: Vec<u8>, says: &str| {
        let mut made = good.clone();
        made.sign_archive(archive);
        all.push(Hostile::new(name, &made, says));
    };
    let bytes = whole(&good.stream);
    add("frame-cut-off", bytes[..bytes.len() - 3].to_vec(), UNPACKS);
    let mut magic = bytes.clone();
    magic[0] ^= 1;
    add("frame-with-another-magic", magic, UNPACKS);
    let twice = [bytes.clone(), bytes.clone()].concat();
    add("frame-twice", twice, UNPACKS);
    let behind = [&bytes[..], b"more"].concat();
    add("frame-with-more-behind-it", behind, UNPACKS);
    // RFC 8878, 3.1.2: a frame that is to be skipped, of 4 bytes.
    let skipped = b"\x50\x2a\x4d\x18\x04\0\0\0skip".to_vec();
    add(
        "frame-that-is-skipped",
        skipped,
        "it unpacks to 0 bytes instead of",
    );
    let short = whole(&good.stream[..good.stream.len() - 512]);
    add("frame-too-short", short, "bytes instead of");
    let mut checked = zstd::Encoder::new(Vec::new(), 3).unwrap();
    checked.include_checksum(true).unwrap();
    checked.write_all(&good.stream).unwrap();
    let mut checked = checked.finish().unwrap();
    *checked.last_mut().unwrap() ^= 1;
    add("frame-with-another-checksum", checked, UNPACKS);
    let mut known = zstd::bulk::Compressor::with_dictionary(3, &good.stream).unwrap();
    let needs = known.compress(&good.stream).unwrap();
    add("frame-that-needs-a-dictionary", needs, UNPACKS);
    add(
        "frame-of-gzip",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(),
        UNPACKS,
    );
    // A block of the reserved type (RFC 8878, 3.1.1.2.2), behind a header without anything else in it.
    let reserved = b"\x28\xb5\x2f\xfd\x20\x00\x07\0\0".to_vec();
    add("frame-with-a-reserved-block", reserved, UNPACKS);
    all
}

/// Small ones that become large.
fn bombs() -> Vec<Hostile> {
    let bomb = |length: u64| zstd::encode_all(std::io::repeat(0).take(length), 3).unwrap();
    let mut all = Vec::new();
    let mut hidden = small();
    hidden.sign_archive(bomb(4 << 20));
    all.push(Hostile::new("bomb-hidden", &hidden, UNPACKS));
    let mut open = small();
    open.sign_archive(bomb(300 << 20));
    let archive = &mut open.manifest.archive;
    archive.unpacked = 300 << 20;
    archive.frames[0].unpacked = 300 << 20;
    all.push(Hostile::new("bomb-open", &open, "its entries need"));
    let mut long = small();
    long.sign_archive(bomb(300 << 20));
    all.push(Hostile::new(
        "bomb-longer-than-what-it-holds",
        &long,
        "larger than what it holds",
    ));
    // Many frames, each of which says truly that it is large, for one file.
    let mut pieces = large();
    let frames = &mut pieces.manifest.archive.frames;
    let more = frames[1].clone();
    frames.splice(1..1, vec![more; 100]);
    all.push(Hostile::new(
        "bomb-of-the-same-frame",
        &pieces,
        "is said to hold a piece of one file, and holds more",
    ));
    let mut whole = Made::of(vec![file("zeros", vec![0; 5 << 20])]);
    whole.one_frame();
    all.push(Hostile::new(
        "bomb-in-one-frame",
        &whole,
        "too large when unpacked",
    ));
    all
}
