//! Hand-made changes are seen, each by name; what Tamer itself adds to a release is none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{make, pack_spec, sample, spec, tempdir};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_core::release::Manifest;
use tamer_release::pack::{PackSpec, pack};
use tamer_release::tree::remove_release;
use tamer_release::unpack::unpack;
use tamer_release::verify_tree::{Change, MAX_DIFFERENCES, verify};

fn release(dir: &Path, what: &PackSpec) -> (PathBuf, Manifest) {
    let (tree, archive) = (dir.join("tree"), dir.join("a.tar.zst"));
    make(&tree, &sample());
    let manifest = pack(&tree, what, &archive).unwrap().manifest;
    let file = fs::File::open(archive).unwrap();
    let at = unpack(&file, &manifest, dir, "r", None).unwrap();
    // As root or not: what is changed by hand is made writable first.
    let mut waiting = vec![at.clone()];
    while let Some(path) = waiting.pop() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    (at, manifest)
}

#[test]
fn every_change_by_hand_is_named() {
    let dir = tempdir();
    let (at, manifest) = release(dir.path(), &pack_spec());
    assert_eq!(verify(&at, &manifest).unwrap(), vec![]);
    let mode = |path: &str, mode| {
        fs::set_permissions(at.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    // The same size and the same time: only the content tells.
    let path = at.join("lib/deep/mod-010.py");
    let (old, time) = (
        fs::read(&path).unwrap(),
        fs::metadata(&path).unwrap().modified().unwrap(),
    );
    mode("lib/deep/mod-010.py", 0o644);
    fs::write(&path, vec![b'x'; old.len()]).unwrap();
    fs::File::open(&path).unwrap().set_modified(time).unwrap();
    mode("lib/deep/mod-011.py", 0o644);
    fs::write(at.join("lib/deep/mod-011.py"), "longer or shorter").unwrap();
    mode("lib/deep/mod-012.py", 0o755);
    mode("lib/deep/mod-013.py", 0o4444);
    fs::remove_file(at.join("lib/deep/mod-014.py")).unwrap();
    fs::remove_file(at.join("lib/deep/mod-015.py")).unwrap();
    symlink("mod-016.py", at.join("lib/deep/mod-015.py")).unwrap();
    let fifo = at.join("lib/deep/mod-017.py");
    fs::remove_file(&fifo).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    fs::remove_file(at.join("bin/link")).unwrap();
    symlink("/bin/sh", at.join("bin/link")).unwrap();
    fs::remove_dir(at.join("lib/empty")).unwrap();
    fs::create_dir_all(at.join("new/below")).unwrap();
    fs::write(at.join("lib/extra"), "x").unwrap();
    let found: Vec<(String, Change)> = verify(&at, &manifest)
        .unwrap()
        .into_iter()
        .map(|difference| (difference.path, difference.change))
        .collect();
    let expected = [
        ("bin/link", Change::Target),
        ("lib/deep/mod-010.py", Change::Content),
        ("lib/deep/mod-011.py", Change::Content),
        ("lib/deep/mod-012.py", Change::Mode),
        ("lib/deep/mod-013.py", Change::Mode),
        ("lib/deep/mod-014.py", Change::Missing),
        ("lib/deep/mod-015.py", Change::Kind),
        ("lib/deep/mod-017.py", Change::Kind),
        ("lib/empty", Change::Missing),
        ("lib/extra", Change::Extra),
        ("new", Change::Extra),
    ];
    assert_eq!(
        found,
        expected.map(|(path, change)| (path.to_owned(), change))
    );
}

#[test]
fn a_directory_behind_a_link_is_not_taken_for_the_release() {
    let dir = tempdir();
    let (at, manifest) = release(dir.path(), &pack_spec());
    tamer_kit::durable::rename(&at.join("bin"), &dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), at.join("bin")).unwrap();
    let found = verify(&at, &manifest).unwrap();
    let paths: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
    assert_eq!(paths, ["bin", "bin/link", "bin/run"]);
    assert_eq!(found[0].change, Change::Kind);
}

#[test]
fn links_to_what_is_shared_are_no_difference_and_others_in_their_place_are() {
    let dir = tempdir();
    let what = PackSpec {
        spec: spec("shared = [\"media/\", \"var/log/\", \"lib/local.env\"]"),
        ..pack_spec()
    };
    let (at, manifest) = release(dir.path(), &what);
    assert_eq!(verify(&at, &manifest).unwrap(), vec![], "not linked yet");
    symlink("../../shared/media", at.join("media")).unwrap();
    fs::create_dir(at.join("var")).unwrap();
    symlink("../../../shared/var/log", at.join("var/log")).unwrap();
    symlink("../../../shared/lib/local.env", at.join("lib/local.env")).unwrap();
    assert_eq!(verify(&at, &manifest).unwrap(), vec![]);
    fs::write(at.join("var/extra"), "x").unwrap();
    fs::remove_file(at.join("media")).unwrap();
    fs::create_dir(at.join("media")).unwrap();
    fs::remove_file(at.join("lib/local.env")).unwrap();
    symlink("/evil/shared/lib/local.env", at.join("lib/local.env")).unwrap();
    let found: Vec<String> = verify(&at, &manifest)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "lib/local.env: points elsewhere",
            "media: of another kind",
            "var/extra: extra"
        ]
    );
}

#[test]
fn differences_are_bounded_and_a_release_that_is_gone_is_an_error() {
    let dir = tempdir();
    let (at, manifest) = release(dir.path(), &pack_spec());
    for n in 0..=MAX_DIFFERENCES {
        fs::write(at.join(format!("x{n}")), "").unwrap();
    }
    assert_eq!(verify(&at, &manifest).unwrap().len(), MAX_DIFFERENCES);
    remove_release(&at).unwrap();
    assert!(verify(&at, &manifest).unwrap_err().is_not_found());
}
