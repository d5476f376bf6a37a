//! Trees that make no release, each refused with a sentence that names the path.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{make, names, pack_spec, sample, spec};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use tamer_release::pack::{PackSpec, pack};

fn refusal(what: &PackSpec, change: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    make(&tree, &sample());
    change(&tree);
    let out = dir.path().join("a.tar.zst");
    fs::write(&out, "the archive before").unwrap();
    let error = pack(&tree, what, &out).unwrap_err();
    assert_eq!(fs::read(&out).unwrap(), b"the archive before");
    assert_eq!(names(dir.path()), ["a.tar.zst", "tree"], "nothing is left");
    let mut said = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said.replace(dir.path().to_str().unwrap(), "")
}

type Change = fn(&Path);

#[test]
fn what_cannot_be_part_of_a_release_is_named() {
    let cases: [(Change, &str); 11] = [
        (
            |tree| symlink("/etc/passwd", tree.join(OsStr::from_bytes(b"bad\n\xff"))).unwrap(),
            "cannot pack /tree/bad\\n\\xff: it points to an absolute path",
        ),
        (
            |tree| symlink(OsStr::from_bytes(b"/\xff"), tree.join("l")).unwrap(),
            "cannot pack /tree/l: it points to an absolute path",
        ),
        (
            |tree| symlink("/etc/passwd", tree.join("lib/l")).unwrap(),
            "cannot pack /tree/lib/l: it points to an absolute path",
        ),
        (
            |tree| symlink("../../x", tree.join("lib/l")).unwrap(),
            "cannot pack /tree/lib/l: it points out of the release",
        ),
        (
            |tree| symlink("up/../../x", tree.join("lib/l")).unwrap(),
            "cannot pack /tree/lib/l: its target has `..` after a name",
        ),
        (
            |tree| fs::create_dir(tree.join(".tamer")).unwrap(),
            "cannot pack /tree/.tamer: `.tamer` is Tamer's own",
        ),
        (
            |tree| {
                let fifo = tree.join("fifo");
                assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
            },
            "cannot pack /tree/fifo: it is a FIFO",
        ),
        (
            |tree| drop(UnixListener::bind(tree.join("sock")).unwrap()),
            "cannot pack /tree/sock: it is a socket",
        ),
        (|tree| mode(&tree.join("bin/run"), 0o4755), SETUID),
        (|tree| mode(&tree.join("bin/run"), 0o2755), SETUID),
        (
            |tree| fs::remove_dir_all(tree).unwrap(),
            "cannot read /tree: No such file or directory (os error 2)",
        ),
    ];
    for (change, expected) in cases {
        let said = refusal(&pack_spec(), |tree| {
            change(tree);
            // `refusal` lists the directory: what was removed is put back as an empty file.
            if !tree.exists() {
                symlink("nowhere", tree).unwrap();
            }
        });
        assert_eq!(said, expected);
    }
}

const SETUID: &str = "cannot pack /tree/bin/run: it has a setuid or setgid bit";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn devices_are_refused() {
    if !rustix::process::getuid().is_root() {
        let said = b"SKIPPED: making a device needs root\n";
        std::io::Write::write_all(&mut std::io::stderr(), said).unwrap();
        return;
    }
    let said = refusal(&pack_spec(), |tree| {
        let mut mknod = Command::new("mknod");
        mknod.arg(tree.join("null")).args(["c", "1", "3"]);
        assert!(mknod.status().unwrap().success());
    });
    assert_eq!(said, "cannot pack /tree/null: it is a device");
}

#[test]
fn hooks_and_shared_paths_must_fit_the_tree() {
    for (more, expected) in [
        (
            "hooks = { start = \"bin/strat\" }",
            "the hook start names `bin/strat`, which is not an executable file in the tree",
        ),
        (
            "hooks = { start = \"lib/nothing\" }",
            "the hook start names `lib/nothing`, which is not an executable file in the tree",
        ),
        (
            "shared = [\"lib/deep/\"]",
            "the tree makes no release: the manifest's entry `lib/deep` is refused: it is in the release and in `shared`",
        ),
    ] {
        let what = PackSpec {
            spec: spec(more),
            ..pack_spec()
        };
        assert_eq!(refusal(&what, |_| {}), expected);
    }
    let what = PackSpec {
        spec: spec("hooks = { start = \"bin/run\", stop = \"bin/link\" }"),
        ..pack_spec()
    };
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    make(&tree, &sample());
    pack(&tree, &what, &dir.path().join("a")).unwrap();
}
