//! Packed, unpacked, and the same again; packed elsewhere, and the same bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{MTIME, Node, make, names, packed, read, sample, tempdir};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use tamer_core::drift::{Change, Difference, Drift};
use tamer_core::path::TreePath;
use tamer_kit::hash::sha256;
use tamer_release::manifest;
use tamer_release::put_back::{PutBack, put_back};
use tamer_release::unpack::{self, unpack};
use tamer_release::verify_tree::verify;

#[test]
fn what_was_packed_is_unpacked_read_only_with_its_manifest() {
    let dir = tempdir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
    make(&tree, &sample());
    let packed = packed(&tree, &archive);
    assert!(packed.manifest.archive.frames.len() > 3);
    assert_eq!(packed.digest, sha256(&packed.manifest_bytes()));
    assert_eq!(
        manifest::parse(&packed.manifest_bytes()).unwrap(),
        packed.manifest
    );
    let bytes = fs::read(&archive).unwrap();
    assert_eq!(sha256(&bytes), packed.manifest.archive.sha256);

    let releases = dir.path().join("releases");
    fs::create_dir(&releases).unwrap();
    let file = File::open(&archive).unwrap();
    let at = unpack(&file, &packed.manifest, &releases, "1-1.2.3-abc", None).unwrap();
    assert_eq!(at, releases.join("1-1.2.3-abc"));
    assert_eq!(names(&releases), ["1-1.2.3-abc"]);
    assert_eq!(read(&at), sample());
    assert_eq!(
        fs::read(at.join(unpack::MANIFEST_PATH)).unwrap(),
        packed.manifest_bytes()
    );
    assert!(at.join(unpack::MANIFEST_PATH).exists());
    let mut waiting = vec![at.clone()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_symlink() {
            continue;
        }
        assert_eq!(meta.permissions().mode() & 0o7222, 0, "{}", path.display());
        let own = path.starts_with(at.join(".tamer"));
        assert!(own || meta.mtime() as u64 == MTIME, "{}", path.display());
        if meta.is_dir() {
            assert_eq!(meta.permissions().mode() & 0o777, 0o555);
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    let again = unpack(&file, &packed.manifest, &releases, "1-1.2.3-abc", None);
    assert!(again.unwrap_err().to_string().ends_with("is there already"));
}

#[test]
fn an_owner_gets_all_but_the_manifest() {
    if !rustix::process::getuid().is_root() {
        let said = b"SKIPPED: giving files away needs root\n";
        std::io::Write::write_all(&mut std::io::stderr(), said).unwrap();
        return;
    }
    let dir = tempdir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
    make(&tree, &sample());
    let packed = packed(&tree, &archive);
    let file = File::open(&archive).unwrap();
    let owner = Some((54_321, 65_432));
    let at = unpack(&file, &packed.manifest, dir.path(), "r", owner).unwrap();
    let owner = |path: &str| {
        let meta = fs::symlink_metadata(at.join(path)).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o777)
    };
    assert_eq!(owner(""), (54_321, 65_432, 0o555));
    assert_eq!(owner("lib/empty"), (54_321, 65_432, 0o555));
    assert_eq!(owner("bin/run"), (54_321, 65_432, 0o555));
    assert_eq!(owner("lib/large.bin"), (54_321, 65_432, 0o444));
    for path in [".tamer", unpack::MANIFEST_PATH] {
        let (user, group, _) = owner(path);
        assert_eq!((user, group), (0, 0), "{path}");
    }
}

#[test]
fn what_others_may_not_read_stays_so_and_what_nobody_may_write_is_told_from_it() {
    let dir = tempdir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
    let dirs = [
        ("open", 0o777, 0o555),
        ("closed", 0o770, 0o550),
        ("closed/mine", 0o700, 0o550),
    ];
    let files = [
        ("open/text", 0o664, 0o444),
        ("open/secret", 0o640, 0o440),
        ("open/own", 0o600, 0o440),
        ("open/run", 0o775, 0o555),
        ("closed/run", 0o710, 0o550),
    ];
    for (path, ..) in dirs {
        fs::create_dir_all(tree.join(path)).unwrap();
    }
    for (path, ..) in files {
        fs::write(tree.join(path), path).unwrap();
    }
    for (path, mode, _) in files.into_iter().chain(dirs) {
        fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let packed = packed(&tree, &archive);
    let file = File::open(&archive).unwrap();
    let at = unpack(&file, &packed.manifest, dir.path(), "r", None).unwrap();
    for (path, _, expected) in files.into_iter().chain(dirs) {
        let mode = fs::metadata(at.join(path)).unwrap().mode() & 0o7777;
        assert_eq!(mode, expected, "{path}");
    }
    assert_eq!(verify(&at, &packed.manifest).unwrap(), vec![]);
    fs::set_permissions(at.join("open/secret"), fs::Permissions::from_mode(0o444)).unwrap();
    let found = verify(&at, &packed.manifest).unwrap();
    assert_eq!((found.len(), found[0].change), (1, Change::Mode));
    // tar gives them their modes, too.
    let listed = Command::new("tar")
        .arg("--zstd")
        .arg("-tvf")
        .arg(&archive)
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert!(listed.contains("-rw-r----- 0/0"), "{listed}");
    assert!(listed.contains("drwxr-x--- 0/0"), "{listed}");
}

#[test]
fn empty_directories_are_packed_unpacked_and_missed() {
    let dir = tempdir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
    fs::create_dir_all(tree.join("a/b/empty")).unwrap();
    fs::create_dir_all(tree.join("empty")).unwrap();
    let packed = packed(&tree, &archive);
    assert_eq!(packed.manifest.files.len(), 4);
    let file = File::open(&archive).unwrap();
    let at = unpack(&file, &packed.manifest, dir.path(), "r", None).unwrap();
    for path in ["a/b/empty", "empty"] {
        assert_eq!(fs::read_dir(at.join(path)).unwrap().count(), 0, "{path}");
    }
    assert_eq!(verify(&at, &packed.manifest).unwrap(), vec![]);
    // A difference of nothing but directories takes no frame of content.
    let layout = manifest::validate(&packed.manifest).unwrap();
    let plan = tamer_release::delta::plan(&packed.manifest, &layout, &[&packed.manifest]);
    assert!(plan.frames.is_empty());
    fs::set_permissions(at.join("a/b"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir(at.join("a/b/empty")).unwrap();
    fs::set_permissions(at.join("a/b"), fs::Permissions::from_mode(0o555)).unwrap();
    let found = verify(&at, &packed.manifest).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|it| (it.path.as_str(), it.change))
        .collect();
    assert_eq!(found, [("a/b/empty", Change::Removed)]);
}

#[test]
fn an_empty_tree_is_a_release_too() {
    let dir = tempdir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
    fs::create_dir(&tree).unwrap();
    let packed = packed(&tree, &archive);
    let at = unpack(
        &File::open(&archive).unwrap(),
        &packed.manifest,
        dir.path(),
        "r",
        None,
    )
    .unwrap();
    assert_eq!(names(&at), [".tamer"]);
}

#[test]
fn the_same_tree_made_otherwise_gives_the_same_bytes() {
    let dir = tempdir();
    let all = sample();
    let pack = |name: &str| {
        let tree = dir.path().join(name);
        let archive = dir.path().join(format!("{name}.tar.zst"));
        let packed = packed(&tree, &archive);
        (packed.manifest_bytes(), fs::read(archive).unwrap())
    };
    make(&dir.path().join("one"), &all);
    let one = pack("one");

    // Other order, so other inodes and another order on disk; other modes, times and links between files.
    let two = dir.path().join("two");
    make(&two, all.iter().rev());
    for (path, node) in &all {
        let path = two.join(path);
        if let Node::File(_, executable) = node {
            let mode = if *executable { 0o715 } else { 0o606 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let file = File::open(&path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
        } else if matches!(node, Node::Directory) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o705)).unwrap();
        }
    }
    assert_eq!(pack("two"), one);

    // Two names of one file are two files.
    let three = dir.path().join("three");
    make(&three, &all);
    fs::remove_file(three.join("lib/deep/mod-001.py")).unwrap();
    fs::copy(
        three.join("lib/deep/mod-002.py"),
        three.join("lib/deep/mod-001.py"),
    )
    .unwrap();
    let four = dir.path().join("four");
    make(&four, &all);
    fs::remove_file(four.join("lib/deep/mod-001.py")).unwrap();
    fs::hard_link(
        four.join("lib/deep/mod-002.py"),
        four.join("lib/deep/mod-001.py"),
    )
    .unwrap();
    let (three, four) = (pack("three"), pack("four"));
    assert_eq!(three, four);
    assert_ne!(three, one);
}

#[test]
fn most_frames_stay_when_one_file_and_the_time_change() {
    let dir = tempdir();
    let mut all = sample();
    let frames = |name: &str, all: &BTreeMap<String, Node>, mtime: u64| {
        let tree = dir.path().join(name);
        make(&tree, all);
        let what = tamer_release::pack::PackSpec {
            mtime,
            ..common::pack_spec()
        };
        let out = dir.path().join(format!("{name}.tar.zst"));
        let packed = tamer_release::pack::pack(&tree, &what, &out).unwrap();
        let frames = packed.manifest.archive.frames;
        frames
            .into_iter()
            .map(|frame| frame.sha256)
            .collect::<Vec<_>>()
    };
    let before = frames("one", &all, MTIME);
    all.insert(
        "lib/deep/mod-150.py".to_owned(),
        Node::File(b"new".to_vec(), false),
    );
    let after = frames("two", &all, MTIME + 60);
    let changed = after.iter().filter(|frame| !before.contains(frame)).count();
    assert!((1..=2).contains(&changed), "{changed} of {}", after.len());
}

/// The promise of a plain `.tar.zst`, kept to by the tools that everyone has.
#[test]
fn the_systems_tar_opens_it() {
    let dir = tempdir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
    make(&tree, &sample());
    packed(&tree, &archive);
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let tar = |args: &[&str], file: &Path| {
        let done = Command::new("tar")
            .args(args)
            .arg(file)
            .arg("-C")
            .arg(&out)
            .output()
            .expect("this test needs tar");
        assert!(done.status.success(), "{done:?}");
        assert!(done.stderr.is_empty(), "tar complains: {done:?}");
    };
    if Command::new("zstd").arg("--version").output().is_ok() {
        tar(&["--zstd", "-xf"], &archive);
    } else {
        eprintln!("zstd is not installed: tar gets the stream unpacked by the library");
        let plain = dir.path().join("a.tar");
        let bytes = zstd::decode_all(File::open(&archive).unwrap()).unwrap();
        fs::write(&plain, bytes).unwrap();
        tar(&["-xf"], &plain);
    }
    assert_eq!(read(&out), sample());
}

/// Generated trees: names with blanks, dots, newlines and letters of all kinds, up to three deep.
fn trees() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let name = prop_oneof![
        8 => "[a-c]{1,2}",
        1 => "[ -.0-~]{1,8}",
        1 => "\\PC{1,20}",
        1 => "[a-z]{90,110}",
        1 => Just("new\nline".to_owned()),
    ];
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let node = prop_oneof![
        1 => Just(Node::Directory),
        4 => (prop::collection::vec(any::<u8>(), 0..2000), any::<bool>())
            .prop_map(|(bytes, executable)| Node::File(bytes, executable)),
        1 => (500_000_usize..2_500_000, any::<u8>())
            .prop_map(|(size, byte)| Node::File(vec![byte; size], false)),
        1 => "[a-c]{1,110}".prop_map(Node::Link),
    ];
    prop::collection::vec((path, node), 0..12).prop_map(|given| {
        let mut tree = BTreeMap::new();
        for (path, node) in given {
            let fits = tamer_core::application::is_inside(&path)
                && !path.starts_with(".tamer")
                && path.split('/').all(|name| name.len() <= 255);
            let mut parents = path.match_indices('/').map(|(end, _)| &path[..end]);
            let blocked = parents.clone().any(|parent| {
                tree.get(parent)
                    .is_some_and(|node| *node != Node::Directory)
            });
            if !fits || blocked || tree.contains_key(&path) {
                continue;
            }
            for parent in parents.by_ref() {
                tree.insert(parent.to_owned(), Node::Directory);
            }
            tree.insert(path.clone(), node);
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn generated_trees_come_back_as_they_were(tree in trees()) {
        let dir = tempdir();
        let (from, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
        fs::create_dir(&from).unwrap();
        make(&from, &tree);
        let packed = packed(&from, &archive);
        prop_assert_eq!(&manifest::parse(&packed.manifest_bytes()).unwrap(), &packed.manifest);
        let at = unpack(&File::open(&archive).unwrap(), &packed.manifest, dir.path(), "r", None).unwrap();
        prop_assert_eq!(read(&at), tree);
        let differences = tamer_release::verify_tree::verify(&at, &packed.manifest).unwrap();
        prop_assert_eq!(differences, vec![]);
        tamer_release::tree::remove_release(&at).unwrap();
        prop_assert!(!at.exists());
    }
}

/// A name as Linux takes it: any bytes but a slash and a zero.
fn name_of_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..8),
        prop::collection::vec(prop_oneof![Just(0xff_u8), Just(b'a'), Just(b'\\')], 1..4),
    ]
    .prop_map(|mut name| {
        name.retain(|byte| *byte != 0 && *byte != b'/');
        if name.is_empty() || name.starts_with(b".") {
            name.insert(0, 0xfe);
        }
        name
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn names_that_are_not_utf_8_are_packed_unpacked_compared_and_put_back(
        names in prop::collection::btree_set(name_of_bytes(), 1..6),
        which in any::<prop::sample::Index>(),
    ) {
        let at = |dir: &Path, name: &[u8]| dir.join(OsStr::from_bytes(name));
        let dir = tempdir();
        let (from, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
        fs::create_dir(&from).unwrap();
        for (n, name) in names.iter().enumerate() {
            let place = at(&from, name);
            match n % 3 {
                0 => fs::write(&place, name).unwrap(),
                1 => {
                    fs::create_dir(&place).unwrap();
                    fs::write(at(&place, name), "below").unwrap();
                }
                _ => std::os::unix::fs::symlink(OsStr::from_bytes(name), &place).unwrap(),
            }
        }
        let packed = packed(&from, &archive);
        prop_assert_eq!(&manifest::parse(&packed.manifest_bytes()).unwrap(), &packed.manifest);
        let file = File::open(&archive).unwrap();
        let made = unpack(&file, &packed.manifest, dir.path(), "r", None).unwrap();
        let found: BTreeSet<Vec<u8>> = fs::read_dir(&made)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_vec())
            .filter(|name| name != b".tamer")
            .collect();
        prop_assert_eq!(&found, &names);
        prop_assert_eq!(verify(&made, &packed.manifest).unwrap(), vec![]);

        // One is gone, and another one that looks much like it is there.
        let names: Vec<&Vec<u8>> = names.iter().collect();
        let gone = names[which.index(names.len())];
        let place = at(&made, gone);
        let mut added = gone.clone();
        added.push(0xff);
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
        if place.is_dir() && !place.is_symlink() {
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
            fs::remove_dir_all(&place).unwrap();
        } else {
            fs::remove_file(&place).unwrap();
        }
        let there = at(&made, &added).symlink_metadata().is_ok();
        if !there {
            fs::write(at(&made, &added), "").unwrap();
        }
        fs::set_permissions(&made, fs::Permissions::from_mode(0o555)).unwrap();
        let drift = |differences: Vec<Difference>| Drift {
            digest: packed.digest,
            total: differences.len() as u64,
            differences,
        };
        let differences = verify(&made, &packed.manifest).unwrap();
        let named = |change, path: &[u8]| {
            let path = TreePath::new(path).unwrap().to_string();
            differences.contains(&Difference { path, change })
        };
        prop_assert!(named(Change::Removed, gone));
        prop_assert!(there || named(Change::Added, &added));

        let room = dir.path().join("room");
        let aside = room.join("aside");
        fs::create_dir_all(&aside).unwrap();
        let fresh = unpack(&file, &packed.manifest, &room, "fresh", None).unwrap();
        let what = PutBack { release: &made, fresh: &fresh, aside: &aside };
        let mut all = || ControlFlow::Continue(());
        assert!(put_back(what, &drift(differences.clone()), &mut all).unwrap().is_continue());
        prop_assert_eq!(verify(&made, &packed.manifest).unwrap(), vec![]);
        tamer_release::tree::remove_release(&fresh).unwrap();
    }
}

/// Past 8 GiB a size does not fit a tar header's octal digits. It is a hole: what is no byte on disk stays none.
// It reads 9 GiB of nothing a few times: about a minute.
#[test]
fn a_file_over_8_gib_is_packed_and_unpacked_and_a_hole_stays_one() {
    const SIZE: u64 = (9 << 30) + 7;
    let dir = tempdir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
    fs::create_dir(&tree).unwrap();
    let huge = File::create(tree.join("huge")).unwrap();
    huge.set_len(SIZE).unwrap();
    let ends = [(b"first", 0), (b"after", 8 << 30), (b"last.", SIZE - 5)];
    for (text, at) in ends {
        huge.write_all_at(text, at).unwrap();
    }
    let packed = packed(&tree, &archive);
    let file = File::open(&archive).unwrap();
    let at = unpack(&file, &packed.manifest, dir.path(), "1-1.2.3-abc", None).unwrap();
    assert!(file.metadata().unwrap().len() < 8 << 20);
    let out = File::open(at.join("huge")).unwrap();
    let about = out.metadata().unwrap();
    assert_eq!(about.len(), SIZE);
    assert!(about.blocks() * 512 < 1 << 20, "{} blocks", about.blocks());
    for (text, at) in ends {
        let mut read = [0; 5];
        out.read_exact_at(&mut read, at).unwrap();
        assert_eq!(&read, text);
    }
    assert_eq!(verify(&at, &packed.manifest).unwrap(), []);
}
