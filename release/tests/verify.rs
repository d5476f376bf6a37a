//! Hand-made changes are seen, each by name; what Tamer itself adds to a release is none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{make, pack_spec, sample, spec, tempdir};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_core::drift::Change;
use tamer_core::release::Manifest;
use tamer_release::pack::{PackSpec, pack};
use tamer_release::tree::remove_release;
use tamer_release::unpack::unpack;
use tamer_release::verify_tree::{MAX_DIFFERENCES, verify};

fn release(dir: &Path, what: &PackSpec) -> (PathBuf, Manifest) {
    let (tree, archive) = (dir.join("tree"), dir.join("a.tar.zst"));
    make(&tree, &sample());
    let manifest = pack(&tree, what, &archive).unwrap().manifest;
    let file = fs::File::open(archive).unwrap();
    let at = unpack(&file, &manifest, dir, "r", None).unwrap();
    (at, manifest)
}

/// Changes something in a directory of a release, which is closed for writing, and closes it again.
fn within<T>(dir: &Path, change: impl FnOnce() -> T) -> T {
    let mode = |mode| fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    let done = change();
    mode(0o555);
    done
}

fn named(at: &Path, manifest: &Manifest) -> Vec<(String, Change)> {
    let found = verify(at, manifest).unwrap().into_iter();
    found.map(|it| (it.path, it.change)).collect()
}

fn these(expected: &[(&str, Change)]) -> Vec<(String, Change)> {
    let owned = expected
        .iter()
        .map(|(path, change)| ((*path).to_owned(), *change));
    owned.collect()
}

#[test]
fn every_change_by_hand_is_named() {
    let dir = tempdir();
    let (at, manifest) = release(dir.path(), &pack_spec());
    assert_eq!(verify(&at, &manifest).unwrap(), vec![]);
    let mode = |path: &str, mode| {
        fs::set_permissions(at.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let write = |path: &str, content: &[u8]| {
        mode(path, 0o644);
        fs::write(at.join(path), content).unwrap();
        mode(path, 0o444);
    };
    // The same size and the same time: only the content tells.
    let path = at.join("lib/deep/mod-010.py");
    let (old, time) = (
        fs::read(&path).unwrap(),
        fs::metadata(&path).unwrap().modified().unwrap(),
    );
    write("lib/deep/mod-010.py", &vec![b'x'; old.len()]);
    fs::File::open(&path).unwrap().set_modified(time).unwrap();
    write("lib/deep/mod-011.py", b"longer or shorter");
    mode("lib/deep/mod-012.py", 0o755);
    mode("lib/deep/mod-013.py", 0o4444);
    mode("lib/deep/mod-018.py", 0o644);
    write("lib/deep/mod-019.py", b"and its mode");
    mode("lib/deep/mod-019.py", 0o400);
    within(&at.join("lib/deep"), || {
        fs::remove_file(at.join("lib/deep/mod-014.py")).unwrap();
        fs::remove_file(at.join("lib/deep/mod-015.py")).unwrap();
        symlink("mod-016.py", at.join("lib/deep/mod-015.py")).unwrap();
        let fifo = at.join("lib/deep/mod-017.py");
        fs::remove_file(&fifo).unwrap();
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
    });
    within(&at.join("bin"), || {
        fs::remove_file(at.join("bin/link")).unwrap();
        symlink("/bin/sh", at.join("bin/link")).unwrap();
    });
    within(&at.join("lib"), || {
        fs::remove_dir(at.join("lib/empty")).unwrap();
        fs::write(at.join("lib/extra"), "x").unwrap();
    });
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(at.join("new/below")).unwrap();
    fs::write(at.join("new/below/file"), "x").unwrap();
    let expected = [
        (".", Change::Mode),
        ("bin/link", Change::Target),
        ("lib/deep/mod-010.py", Change::Content),
        ("lib/deep/mod-011.py", Change::Content),
        ("lib/deep/mod-012.py", Change::Mode),
        ("lib/deep/mod-013.py", Change::Mode),
        ("lib/deep/mod-014.py", Change::Removed),
        ("lib/deep/mod-015.py", Change::Kind),
        ("lib/deep/mod-017.py", Change::Kind),
        ("lib/deep/mod-018.py", Change::Mode),
        ("lib/deep/mod-019.py", Change::Content),
        ("lib/deep/mod-019.py", Change::Mode),
        ("lib/empty", Change::Removed),
        ("lib/extra", Change::Added),
        ("new", Change::Added),
        ("new/below", Change::Added),
        ("new/below/file", Change::Added),
    ];
    assert_eq!(named(&at, &manifest), these(&expected));
}

#[test]
fn a_directory_behind_a_link_is_not_taken_for_the_release() {
    let dir = tempdir();
    let (at, manifest) = release(dir.path(), &pack_spec());
    within(&at, || {
        tamer_kit::durable::rename(&at.join("bin"), &dir.path().join("elsewhere")).unwrap();
        symlink(dir.path().join("elsewhere"), at.join("bin")).unwrap();
    });
    let expected = [
        ("bin", Change::Kind),
        ("bin/link", Change::Removed),
        ("bin/run", Change::Removed),
    ];
    assert_eq!(named(&at, &manifest), these(&expected));
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
    within(&at, || {
        symlink("../../shared/media", at.join("media")).unwrap();
        fs::create_dir(at.join("var")).unwrap();
    });
    within(&at.join("var"), || {
        symlink("../../../shared/var/log", at.join("var/log")).unwrap();
    });
    let env = "lib/local.env";
    within(&at.join("lib"), || {
        symlink("../../../shared/lib/local.env", at.join(env)).unwrap();
    });
    assert_eq!(verify(&at, &manifest).unwrap(), vec![]);
    within(&at.join("var"), || {
        fs::write(at.join("var/extra"), "x").unwrap();
    });
    within(&at, || {
        fs::remove_file(at.join("media")).unwrap();
        fs::create_dir(at.join("media")).unwrap();
    });
    within(&at.join("lib"), || {
        fs::remove_file(at.join(env)).unwrap();
        symlink("/evil/shared/lib/local.env", at.join(env)).unwrap();
    });
    let expected = [
        (env, Change::Target),
        ("media", Change::Kind),
        ("var/extra", Change::Added),
    ];
    assert_eq!(named(&at, &manifest), these(&expected));
}

#[test]
fn differences_are_bounded_and_a_release_that_is_gone_is_an_error() {
    let dir = tempdir();
    let (at, manifest) = release(dir.path(), &pack_spec());
    within(&at, || {
        for n in 0..=MAX_DIFFERENCES {
            fs::write(at.join(format!("x{n}")), "").unwrap();
        }
    });
    assert_eq!(verify(&at, &manifest).unwrap().len(), MAX_DIFFERENCES);
    remove_release(&at).unwrap();
    assert!(verify(&at, &manifest).unwrap_err().is_not_found());
}
