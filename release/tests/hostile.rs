//! A corpus of hostile and damaged archives: each is refused for its own reason, nothing is written outside
//! of the release's place, and nothing is left in it.
//!
//! The worst case is assumed: the signature is good, that is, frames and digests were made to fit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Node, Temp, make, names, packed, tempdir};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tamer_core::release::{EntryKind, Frame, Manifest};
use tamer_kit::hash::sha256;
use tamer_release::frames::FrameError;
use tamer_release::layout::{BLOCK, Layout, TRAILER};
use tamer_release::unpack::{UnpackError, unpack};
use tar::EntryType;

const SECRET: &[u8] = b"what lies outside";

/// A place to attack: `releases`, with something worth attacking beside it.
struct Place {
    dir: Temp,
    manifest: Manifest,
    archive: Vec<u8>,
    /// The tar stream inside.
    stream: Vec<u8>,
    layout: Layout,
}

fn place() -> Place {
    let dir = tempdir();
    let tree = dir.path().join("tree");
    let all = [
        ("bin".to_owned(), Node::Directory),
        (
            "bin/run".to_owned(),
            Node::File(b"#!/bin/sh\n".to_vec(), true),
        ),
        ("data".to_owned(), Node::File(vec![b'd'; 700], false)),
        ("link".to_owned(), Node::Link("bin/run".to_owned())),
    ];
    make(&tree, all.iter().map(|(path, node)| (path, node)));
    let archive = dir.path().join("a.tar.zst");
    let manifest = packed(&tree, &archive).manifest;
    let archive = fs::read(archive).unwrap();
    fs::create_dir(dir.path().join("releases")).unwrap();
    fs::write(dir.path().join("secret"), SECRET).unwrap();
    Place {
        stream: zstd::decode_all(&archive[..]).unwrap(),
        layout: Layout::of(&manifest.files).unwrap(),
        dir,
        manifest,
        archive,
    }
}

impl Place {
    /// Makes the archive of another stream, and the manifest's archive part fit it.
    fn sign(&mut self) {
        self.sign_archive(zstd::encode_all(&self.stream[..], 3).unwrap());
    }

    fn sign_archive(&mut self, bytes: Vec<u8>) {
        self.archive = bytes;
        let archive = &mut self.manifest.archive;
        archive.sha256 = sha256(&self.archive);
        archive.length = self.archive.len() as u64;
        archive.unpacked = self.stream.len() as u64;
        archive.frames = vec![Frame {
            length: archive.length,
            unpacked: archive.unpacked,
            sha256: archive.sha256,
            content: None,
        }];
    }

    /// The manifest claims another unpacked length than the archive has.
    fn lie(&mut self, unpacked: u64) {
        self.manifest.archive.unpacked = unpacked;
        self.manifest.archive.frames[0].unpacked = unpacked;
    }

    fn unpack(&self, archive: &[u8]) -> Result<(), UnpackError> {
        let releases = self.dir.path().join("releases");
        unpack(&held(archive), &self.manifest, &releases, "r", None).map(drop)
    }

    /// Unpacks, sees it refused, and sees that nothing happened.
    fn refused(&self) -> UnpackError {
        let error = self.unpack(&self.archive).unwrap_err();
        self.untouched();
        error
    }

    fn untouched(&self) {
        let dir = self.dir.path();
        assert_eq!(names(&dir.join("releases")), [""; 0]);
        assert_eq!(names(dir), ["a.tar.zst", "releases", "secret", "tree"]);
        assert_eq!(fs::read(dir.join("secret")).unwrap(), SECRET);
    }

    /// Replaces the header of `data`, which is the third entry, and a file of 700 bytes.
    fn header(&mut self, change: impl FnOnce(&mut tar::Header)) {
        let at = self.layout.spans[2].start as usize;
        let block = &mut self.stream[at..at + BLOCK as usize];
        let mut header = tar::Header::from_byte_slice(block).clone();
        change(&mut header);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        self.sign();
    }
}

/// A file that holds these bytes, and has no name.
fn held(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn name(header: &mut tar::Header, name: &str) {
    let field = &mut header.as_old_mut().name;
    field.fill(0);
    field[..name.len()].copy_from_slice(name.as_bytes());
}

fn kind(header: &mut tar::Header, kind: EntryType, target: &str) {
    header.set_entry_type(kind);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
}

type Change = fn(&mut tar::Header);

#[test]
fn what_was_signed_for_the_tests_unpacks_when_it_is_not_changed() {
    let mut place = place();
    place.sign();
    place.unpack(&place.archive).unwrap();
}

#[test]
fn headers_that_are_not_the_manifests_are_refused() {
    let cases: [(&str, Change, &str); 20] = [
        ("absolute", |h| name(h, "/tmp/evil"), "`/tmp/evil`"),
        ("dotdot", |h| name(h, "../secret"), "`../secret`"),
        (
            "dotdot inside",
            |h| name(h, "bin/../../secret"),
            "`bin/../../secret`",
        ),
        ("duplicate", |h| name(h, "bin/run"), "a file `bin/run`"),
        ("not listed", |h| name(h, "more"), "a file `more`"),
        ("other case", |h| name(h, "DATA"), "a file `DATA`"),
        ("reserved", |h| name(h, ".tamer/manifest.json"), ".tamer"),
        (
            "directory",
            |h| kind(h, EntryType::Directory, ""),
            "a directory",
        ),
        (
            "link out",
            |h| kind(h, EntryType::Symlink, "../../secret"),
            "a symbolic link",
        ),
        (
            "link",
            |h| kind(h, EntryType::Symlink, "bin/run"),
            "a symbolic link",
        ),
        (
            "hard link",
            |h| kind(h, EntryType::Link, "bin/run"),
            "a hard link",
        ),
        (
            "hard link out",
            |h| kind(h, EntryType::Link, "../secret"),
            "a hard link",
        ),
        (
            "character device",
            |h| kind(h, EntryType::Char, ""),
            "a device",
        ),
        (
            "block device",
            |h| kind(h, EntryType::Block, ""),
            "a device",
        ),
        ("FIFO", |h| kind(h, EntryType::Fifo, ""), "a FIFO"),
        (
            "sparse",
            |h| kind(h, EntryType::GNUSparse, ""),
            "a sparse file",
        ),
        (
            "extended",
            |h| kind(h, EntryType::XHeader, ""),
            "an extended header",
        ),
        (
            "global",
            |h| kind(h, EntryType::XGlobalHeader, ""),
            "an extended header",
        ),
        ("setuid", |h| h.set_mode(0o4755), "mode 4755"),
        ("size", |h| h.set_size(1 << 40), "1099511627776 bytes"),
    ];
    for (case, change, found) in cases {
        let mut place = place();
        place.header(change);
        match place.refused() {
            UnpackError::Entry { path, reason } => {
                assert_eq!(path, "data", "{case}");
                assert!(reason.contains(found), "{case}: {reason}");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn contents_padding_and_end_are_the_manifests_too() {
    let data = place().layout.spans[2];
    let end = place().layout.total - TRAILER;
    for (at, said) in [
        (data.content, "another digest"),
        (data.content().end - 1, "another digest"),
        (data.content().end, "padding"),
        (data.end - 1, "padding"),
    ] {
        let mut place = place();
        place.stream[at as usize] ^= 1;
        place.sign();
        let error = place.refused();
        assert!(error.to_string().contains(said), "{error}");
    }
    let mut place = place();
    let evil = place.stream[..BLOCK as usize].to_vec();
    place.stream[end as usize..][..BLOCK as usize].copy_from_slice(&evil);
    place.sign();
    let error = place.refused();
    assert!(matches!(error, UnpackError::More(_)), "{error:?}");
}

#[test]
fn more_or_fewer_entries_than_the_manifest_lists_are_refused() {
    for change in [-1_i64, 1] {
        let mut place = place();
        if change < 0 {
            let link = place.layout.spans[3];
            place.stream.drain(link.start as usize..link.end as usize);
        } else {
            let at = place.stream.len() - TRAILER as usize;
            let header = place.stream[..BLOCK as usize].to_vec();
            place.stream.splice(at..at, header);
        }
        place.sign();
        let error = place.refused();
        assert!(matches!(error, UnpackError::Manifest(_)), "{error:?}");
        // The manifest may lie about the length as well: then the frame gives it away.
        place.lie(place.layout.total);
        let error = place.refused();
        assert!(
            matches!(error, UnpackError::Frame { frame: 0, .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_bomb_unpacks_to_no_more_than_was_signed() {
    let mut place = place();
    let total = place.layout.total;
    place.stream.resize(300 << 20, 0);
    place.sign();
    let error = place.refused();
    assert!(matches!(error, UnpackError::Manifest(_)), "{error:?}");
    // Even compressed it is longer than so short a stream can be: the manifest gives it away again.
    place.lie(total);
    let error = place.refused();
    assert!(matches!(error, UnpackError::Manifest(_)), "{error:?}");
    // One that is short enough is stopped at the signed length.
    place.stream.truncate(4 << 20);
    place.sign();
    place.lie(total);
    let error = place.refused();
    assert!(matches!(error, UnpackError::Frame { .. }), "{error:?}");
}

#[test]
fn a_window_of_128_mib_costs_nothing() {
    let mut place = place();
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::Write::write_all(&mut encoder, &place.stream).unwrap();
    let archive = encoder.finish().unwrap();
    // RFC 8878, 3.1.1.1.2: the byte after magic and descriptor is the window's, 27 - 10 in its upper five bits.
    assert_eq!(archive[5] >> 3, 17);
    place.sign_archive(archive);
    place.unpack(&place.archive).unwrap();
}

#[test]
fn archives_that_are_cut_off_are_refused() {
    let mut place = place();
    for length in 0..place.archive.len() {
        let error = place.unpack(&place.archive[..length]).unwrap_err();
        assert!(matches!(error, UnpackError::Truncated { .. }), "{error:?}");
        assert!(!error.is_refusal());
    }
    place.untouched();
    // What comes after the signed frames is not even read.
    place.archive.push(0);
    place.unpack(&place.archive).unwrap();
}

#[test]
fn every_flipped_bit_is_found() {
    let mut place = place();
    for at in 0..place.archive.len() {
        place.archive[at] ^= 1 << (at % 8);
        let error = place.unpack(&place.archive).unwrap_err();
        // Found by the digest, before zstd looks at the bytes.
        let digest = FrameError::Digest;
        assert!(
            matches!(&error, UnpackError::Frame { source, .. } if source.to_string() == digest.to_string()),
            "byte {at}: {error:?}"
        );
        assert!(error.is_refusal());
        place.archive[at] ^= 1 << (at % 8);
    }
    place.untouched();
}

#[test]
fn a_file_in_many_frames_is_verified_as_a_whole() {
    let dir = tempdir();
    let tree = dir.path().join("tree");
    let large = [("large".to_owned(), Node::File(vec![7; 3_000_000], false))];
    make(&tree, large.iter().map(|(path, node)| (path, node)));
    let archive = dir.path().join("a");
    let mut manifest = packed(&tree, &archive).manifest;
    let EntryKind::File { sha256, .. } = &mut manifest.files[0].kind else {
        panic!("a file");
    };
    *sha256 = tamer_kit::hash::sha256(b"another");
    let releases = dir.path().join("releases");
    fs::create_dir(&releases).unwrap();
    let file = File::open(archive).unwrap();
    let error = unpack(&file, &manifest, &releases, "r", None).unwrap_err();
    assert!(matches!(error, UnpackError::Entry { .. }), "{error:?}");
    assert_eq!(names(&releases), [""; 0]);
}

#[test]
fn names_that_are_no_directory_of_their_own_are_refused() {
    let place = place();
    let releases = place.dir.path().join("releases");
    for name in ["", ".", "..", "a/b", "/a", ".hidden", "../x", "a\0b"] {
        let error = unpack(
            &held(&place.archive),
            &place.manifest,
            &releases,
            name,
            None,
        );
        assert!(
            matches!(error, Err(UnpackError::Name(_))),
            "{name}: {error:?}"
        );
    }
    place.untouched();
}

#[test]
fn a_leftover_is_replaced_and_a_link_in_its_place_is_not_followed() {
    let place = place();
    let releases = place.dir.path().join("releases");
    std::os::unix::fs::symlink(place.dir.path(), releases.join(".r.tmp")).unwrap();
    place.unpack(&place.archive).unwrap();
    assert_eq!(names(&releases), ["r"]);
    assert_eq!(fs::read(place.dir.path().join("secret")).unwrap(), SECRET);
    assert!(Path::new(&releases.join("r/bin/run")).exists());
}
