//! Archives that are cut off and damaged at every single byte, and names and leftovers that lead elsewhere: nothing
//! is written outside of the release's place, and nothing is left in it.
//!
//! What is made to do harm, each with its own refusal, is the corpus of `tamer-fuzz`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Node, Temp, make, names, packed, tempdir};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tamer_core::release::{Frame, Manifest};
use tamer_kit::hash::sha256;
use tamer_release::frames::FrameError;
use tamer_release::unpack::{UnpackError, unpack};

const SECRET: &[u8] = b"what lies outside";

/// A place to attack: `releases`, with something worth attacking beside it.
struct Place {
    dir: Temp,
    manifest: Manifest,
    archive: Vec<u8>,
    /// The tar stream inside.
    stream: Vec<u8>,
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

    fn unpack(&self, archive: &[u8]) -> Result<(), UnpackError> {
        let releases = self.dir.path().join("releases");
        unpack(&held(archive), &self.manifest, &releases, "r", None).map(drop)
    }

    fn untouched(&self) {
        let dir = self.dir.path();
        assert_eq!(names(&dir.join("releases")), [""; 0]);
        assert_eq!(names(dir), ["a.tar.zst", "releases", "secret", "tree"]);
        assert_eq!(fs::read(dir.join("secret")).unwrap(), SECRET);
    }
}

/// A file that holds these bytes, and has no name.
fn held(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn what_was_signed_for_the_tests_unpacks_when_it_is_not_changed() {
    let mut place = place();
    place.sign();
    place.unpack(&place.archive).unwrap();
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
