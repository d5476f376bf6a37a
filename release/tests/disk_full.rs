//! A full disk: told as such, and nothing is left. Needs root, for a file system of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Node, make, names, packed, tempdir};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_core::release::Manifest;
use tamer_release::unpack::{UnpackError, unpack};

/// A small file system in memory, gone when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tamer-test"])
            .arg(at)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        // Not by `eprintln!`, which a test that passes keeps to itself.
        let said = b"SKIPPED: a full disk needs root, to mount a small tmpfs\n";
        io::stderr().write_all(said).unwrap();
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Packs files of these sizes.
fn release(dir: &Path, files: usize, size: usize) -> (PathBuf, Manifest) {
    let (tree, archive) = (dir.join("tree"), dir.join("a.tar.zst"));
    let all: Vec<(String, Node)> = (0..files)
        .map(|n| (format!("f{n}"), Node::File(vec![1; size], false)))
        .collect();
    make(&tree, all.iter().map(|(path, node)| (path, node)));
    let manifest = packed(&tree, &archive).manifest;
    (archive, manifest)
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let dir = tempdir();
    let disk = dir.path().join("disk");
    let Some(_small) = Small::mount(&disk, "size=1m,nr_inodes=20") else {
        return;
    };
    for (files, size, unit) in [(4, 300_000, "bytes"), (30, 10, "inodes")] {
        let from = tempdir();
        let (archive, manifest) = release(from.path(), files, size);
        let file = File::open(archive).unwrap();
        let error = unpack(&file, &manifest, &disk, "r", None).unwrap_err();
        assert!(error.is_disk_full());
        assert!(
            matches!(error, UnpackError::Room { unit: u, .. } if u == unit),
            "{error}"
        );
        assert_eq!(names(&disk), [""; 0]);
    }
}

/// Long targets of links take room that nobody counts beforehand: a page each, on this file system.
#[test]
fn a_disk_that_is_full_meanwhile_leaves_nothing_behind() {
    let dir = tempdir();
    let disk = dir.path().join("disk");
    let Some(_small) = Small::mount(&disk, "size=1m") else {
        return;
    };
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
    let links = (0..300).map(|n| (format!("l{n}"), Node::Link(format!("{n:0200}"))));
    let file = ("f".to_owned(), Node::File(vec![1; 600_000], false));
    let all: Vec<(String, Node)> = links.chain([file]).collect();
    make(&tree, all.iter().map(|(path, node)| (path, node)));
    let manifest = packed(&tree, &archive).manifest;
    let archive = File::open(archive).unwrap();
    let error = unpack(&archive, &manifest, &disk, "r", None).unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert!(matches!(error, UnpackError::File(_)), "{error:?}");
    assert_eq!(names(&disk), [""; 0]);
}
