//! A release made from older ones on disk and from the frames that are missing: right to the last byte, and
//! few bytes; whatever the older ones turn out to be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Node, Temp, make, names, pack_spec, read, sample, tempdir};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tamer_core::release::{EntryKind, Manifest};
use tamer_release::delta::{Delta, Parts, Source, plan};
use tamer_release::layout::Layout;
use tamer_release::manifest;
use tamer_release::pack::{Packed, pack};
use tamer_release::unpack::{self, Arrivals, Material, UnpackError, unpack};

type Tree = BTreeMap<String, Node>;

/// Two versions: the first one on disk, the second one packed.
struct World {
    dir: Temp,
    old: (PathBuf, Manifest),
    new: Packed,
    archive: Vec<u8>,
    layout: Layout,
    wanted: Tree,
}

fn packed(dir: &Path, name: &str, tree: &Tree) -> (Packed, PathBuf) {
    let (at, archive) = (dir.join(name), dir.join(format!("{name}.tar.zst")));
    make(&at, tree);
    let packed = pack(&at, &pack_spec(), &archive).unwrap();
    (packed, archive)
}

impl World {
    fn new(before: Tree, after: Tree) -> Self {
        let dir = tempdir();
        let (old, archive) = packed(dir.path(), "tree-old", &before);
        let archive = File::open(archive).unwrap();
        let releases = dir.path().join("releases");
        fs::create_dir(&releases).unwrap();
        let place = unpack(&archive, &old.manifest, &releases, "old", None).unwrap();
        let (new, archive) = packed(dir.path(), "tree-new", &after);
        Self {
            dir,
            old: (place, old.manifest),
            archive: fs::read(archive).unwrap(),
            layout: manifest::validate(&new.manifest).unwrap(),
            new,
            wanted: after,
        }
    }

    fn plan(&self) -> Delta {
        plan(&self.new.manifest, &self.layout, &[&self.old.1])
    }

    /// Makes the release from a file that holds these frames and nothing else.
    fn make_with(&self, delta: &Delta, frames: &[usize]) -> Result<PathBuf, UnpackError> {
        let archive = tempfile::tempfile().unwrap();
        for frame in frames {
            self.put(&archive, *frame);
        }
        self.make_of(delta, &archive, &Arrivals::default())
    }

    /// Puts a frame to its place in the file.
    fn put(&self, archive: &File, frame: usize) {
        let bytes = Parts::of(&self.new.manifest.archive.frames).bytes(frame);
        let part = &self.archive[bytes.start as usize..bytes.end as usize];
        archive.write_all_at(part, bytes.start).unwrap();
    }

    fn make_of(
        &self,
        delta: &Delta,
        archive: &File,
        arrivals: &Arrivals,
    ) -> Result<PathBuf, UnpackError> {
        let material = Material {
            manifest: &self.new.manifest,
            digest: &self.new.digest,
            layout: &self.layout,
            delta,
            older: std::slice::from_ref(&self.old.0),
            archive,
            arrivals,
        };
        unpack::make(&material, &self.releases(), "new", None)
    }

    fn make(&self, delta: &Delta) -> Result<PathBuf, UnpackError> {
        let frames: Vec<usize> = delta.frames.iter().copied().collect();
        self.make_with(delta, &frames)
    }

    fn releases(&self) -> PathBuf {
        self.dir.path().join("releases")
    }

    /// The compressed bytes that a delta fetches.
    fn fetched(&self, delta: &Delta) -> u64 {
        let frames = &self.new.manifest.archive.frames;
        delta.frames.iter().map(|n| frames[*n].length).sum()
    }

    fn right(&self, at: &Path) {
        assert_eq!(read(at), self.wanted);
        assert_eq!(names(&self.releases()), ["new", "old"]);
        let found = tamer_release::verify_tree::verify(at, &self.new.manifest).unwrap();
        assert_eq!(found, []);
    }

    /// Does something to a file of the old release, read-only or not.
    fn tamper(&self, path: &str, how: impl FnOnce(&Path)) {
        let path = self.old.0.join(path);
        let open = |mode| fs::Permissions::from_mode(mode);
        fs::set_permissions(path.parent().unwrap(), open(0o755)).unwrap();
        fs::set_permissions(&path, open(0o644)).unwrap();
        how(&path);
    }

    /// Makes the release in two tries: after the first one, what was spoilt comes from frames.
    fn make_instead(&self) -> (Delta, Vec<usize>, PathBuf) {
        let mut delta = self.plan();
        let spoilt = match self.make(&delta).unwrap_err() {
            UnpackError::Spoilt(spoilt) => spoilt,
            other => panic!("{other:?}"),
        };
        assert_eq!(names(&self.releases()), ["old"], "nothing is left");
        let more = delta.instead(&self.new.manifest, &self.layout, &spoilt);
        let at = self.make(&delta).unwrap();
        (delta, more, at)
    }
}

/// Begins to make the release before any frame is there, and lets them come meanwhile.
fn make_while(
    world: &World,
    come: impl FnOnce(&[usize], &File, &Arrivals),
) -> Result<PathBuf, UnpackError> {
    let delta = Delta::whole(&world.new.manifest, &world.layout);
    let frames: Vec<usize> = delta.frames.iter().copied().collect();
    let archive = tempfile::tempfile().unwrap();
    let arrivals = Arrivals::of(&frames);
    std::thread::scope(|scope| {
        let making = scope.spawn(|| world.make_of(&delta, &archive, &arrivals));
        // It has begun, and can do nothing more than wait.
        let begun = world.releases().join(".new.tmp/.tamer");
        while !begun.exists() && !making.is_finished() {
            std::thread::yield_now();
        }
        come(&frames, &archive, &arrivals);
        making.join().unwrap()
    })
}

#[test]
fn frames_are_unpacked_as_they_come_in_any_order() {
    let mut after = sample();
    after.insert("large".to_owned(), file(noise(600_000, 7)));
    let world = World::new(sample(), after);
    let at = make_while(&world, |frames, archive, arrivals| {
        for frame in frames.iter().rev() {
            world.put(archive, *frame);
            arrivals.came([frame]);
        }
    });
    world.right(&at.unwrap());
}

#[test]
fn what_does_not_come_or_is_another_ends_the_waiting_and_leaves_nothing() {
    let world = World::new(sample(), sample());
    let cut = make_while(&world, |frames, archive, arrivals| {
        world.put(archive, frames[0]);
        arrivals.came([&frames[0]]);
        arrivals.cut();
    });
    assert!(matches!(cut, Err(UnpackError::Cut(_))), "{cut:?}");
    assert_eq!(names(&world.releases()), ["old"], "nothing is left");

    // Whoever waits for another frame learns of it, although nobody says that the others do not come.
    let wrong = make_while(&world, |frames, archive, arrivals| {
        archive.write_all_at(&[0; 1 << 16], 0).unwrap();
        arrivals.came([&frames[0]]);
    });
    assert!(
        matches!(wrong, Err(UnpackError::Frame { frame: 0, .. })),
        "{wrong:?}"
    );
    assert_eq!(names(&world.releases()), ["old"], "nothing is left");
}

fn noise(length: u32, seed: u32) -> Vec<u8> {
    let word = |n: u32| (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(n % 31);
    (0..length / 4)
        .flat_map(|n| word(n).to_le_bytes())
        .collect()
}

fn file(bytes: impl Into<Vec<u8>>) -> Node {
    Node::File(bytes.into(), false)
}

#[test]
fn what_did_not_change_is_not_fetched_and_nothing_is_a_hard_link() {
    let world = World::new(sample(), sample());
    let delta = world.plan();
    assert!(delta.frames.is_empty());
    let at = world.make(&delta).unwrap();
    world.right(&at);
    let inode = |place: &Path| {
        let meta = place.join("bin/run").metadata().unwrap();
        (meta.ino(), meta.nlink(), meta.mode() & 0o777)
    };
    assert_ne!(inode(&at).0, inode(&world.old.0).0);
    assert_eq!((inode(&at).1, inode(&at).2), (1, 0o555));
}

#[test]
fn one_changed_file_costs_one_small_frame() {
    let mut after = sample();
    after.insert("lib/deep/mod-150.py".to_owned(), file("changed\n"));
    let world = World::new(sample(), after);
    let delta = world.plan();
    assert_eq!(delta.frames.len(), 1);
    assert!(world.fetched(&delta) < 700, "{}", world.fetched(&delta));
    world.right(&world.make(&delta).unwrap());
}

/// Names that sort otherwise as text than as a walk meets them are among them: `m`, `m-1`, `m.d`, `m/…`.
#[test]
fn of_twenty_thousand_files_only_those_are_fetched_that_changed() {
    let tree = |changed: &str| {
        let mut tree = Tree::new();
        for dir in 0..200 {
            for name in ["m", "m-1", "m.d", "m/deep"] {
                tree.insert(format!("p{dir}/{name}"), Node::Directory);
                for n in 0..25 {
                    let more = if n == 7 && name == "m" { changed } else { "" };
                    let path = format!("p{dir}/{name}/f{n}");
                    tree.insert(path.clone(), file(format!("{path}\n{more}")));
                }
            }
            tree.insert(format!("p{dir}"), Node::Directory);
        }
        tree
    };
    let world = World::new(tree(""), tree("changed\n"));
    let delta = world.plan();
    assert_eq!(delta.frames.len(), 200);
    world.right(&world.make(&delta).unwrap());
}

/// rsync was seen to leave such a file stale.
#[test]
fn another_content_of_equal_size_and_time_is_deployed() {
    let at =
        |text: &str| BTreeMap::from([("a".to_owned(), file(text)), ("b".to_owned(), file("b"))]);
    let world = World::new(at("one"), at("two"));
    let sizes = |manifest: &Manifest| match manifest.files[0].kind {
        EntryKind::File { size, .. } => (size, manifest.mtime),
        _ => panic!("a file"),
    };
    assert_eq!(sizes(&world.old.1), sizes(&world.new.manifest));
    let new = world.make(&world.plan()).unwrap();
    world.right(&new);
    assert_eq!(fs::read(new.join("a")).unwrap(), b"two");
}

#[test]
fn a_file_that_was_only_touched_is_not_fetched() {
    let world = World::new(sample(), sample());
    let path = world.dir.path().join("tree-new/lib/large.bin");
    let time = std::time::SystemTime::UNIX_EPOCH;
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let archive = world.dir.path().join("again");
    let again = pack(&world.dir.path().join("tree-new"), &pack_spec(), &archive).unwrap();
    assert_eq!(again.digest, world.new.digest);
    assert!(world.plan().frames.is_empty());
}

#[test]
fn files_that_moved_and_files_that_are_twice_there_are_found() {
    let before = BTreeMap::from([("a".to_owned(), file(noise(9_000, 1)))]);
    let after = BTreeMap::from([
        ("b".to_owned(), file(noise(9_000, 1))),
        ("c".to_owned(), file(noise(8_000, 2))),
        ("d".to_owned(), file(noise(8_000, 2))),
        ("e".to_owned(), file("")),
    ]);
    let world = World::new(before, after);
    let delta = world.plan();
    assert_eq!(delta.frames.len(), 1);
    world.right(&world.make(&delta).unwrap());
}

#[test]
fn an_insertion_into_a_large_file_costs_a_piece_or_two() {
    let content = noise(6_000_000, 3);
    let mut longer = content.clone();
    longer.splice(3_000_000..3_000_000, *b"some bytes more");
    let tree = |bytes: Vec<u8>| BTreeMap::from([("large".to_owned(), file(bytes))]);
    let world = World::new(tree(content), tree(longer));
    let delta = world.plan();
    assert!(delta.frames.len() <= 3, "{}", delta.frames.len());
    assert!(world.fetched(&delta) < 600_000, "{}", world.fetched(&delta));
    world.right(&world.make(&delta).unwrap());
}

#[test]
fn a_large_file_with_holes_takes_their_room_not() {
    let mut content = vec![0; 40 << 20];
    content.extend(noise(1_000_000, 4));
    let tree = BTreeMap::from([("sparse".to_owned(), file(content))]);
    let world = World::new(tree.clone(), tree);
    let at = world.make(&world.plan()).unwrap();
    world.right(&at);
    for place in [&at, &world.old.0] {
        let meta = place.join("sparse").metadata().unwrap();
        assert!(meta.blocks() * 512 < 3 << 20, "{}", meta.blocks());
    }
}

/// A block of zeros is a hole wherever it stands, also where pieces meet, and also taken from an older release.
#[test]
fn blocks_of_zeros_take_no_room() {
    let block = 4096;
    let mut tree = BTreeMap::new();
    let mut filled = BTreeMap::new();
    for (name, blocks) in [
        ("all", vec![0; 20]),
        ("one", vec![0]),
        ("between", vec![1, 0, 0, 1]),
        ("around", vec![0, 1, 0]),
        // Cut into pieces, and zeros in all of them.
        ("large", (0..200).map(|n| u8::from(n % 7 == 0)).collect()),
        ("mostly", (0..600).map(|n| u8::from(n == 300)).collect()),
    ] {
        let bytes = blocks.iter().enumerate().flat_map(|(n, it)| match it {
            0 => vec![0; block],
            _ => noise(block as u32, n as u32),
        });
        let mut bytes: Vec<u8> = bytes.collect();
        // A part of a block at the end.
        bytes.extend([0; 99]);
        tree.insert(name.to_owned(), file(bytes));
        filled.insert(name, blocks.iter().filter(|it| **it != 0).count() as u64);
    }
    let world = World::new(tree.clone(), tree);
    let at = world.make(&world.plan()).unwrap();
    world.right(&at);
    for (name, blocks) in filled {
        for place in [&at, &world.old.0] {
            let meta = place.join(name).metadata().unwrap();
            // Where the parts of a file lie takes a block too, on some file systems.
            let (room, filled) = (meta.blocks() * 512, blocks * 4096);
            assert!((filled..=filled + 8192).contains(&room), "{name}: {room}");
        }
    }
}

#[test]
fn an_older_release_that_was_edited_is_found_out_and_its_frames_are_asked_for() {
    let mut after = sample();
    after.insert("new".to_owned(), file("new"));
    let world = World::new(sample(), after);
    world.tamper("lib/deep/mod-100.py", |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[5] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    world.tamper("lib/deep/mod-101.py", |path| fs::remove_file(path).unwrap());
    world.tamper("lib/deep/mod-102.py", |path| {
        fs::write(path, "short").unwrap();
    });
    let secret = world.dir.path().join("secret");
    fs::write(&secret, "x").unwrap();
    world.tamper("lib/deep/mod-103.py", |path| {
        fs::remove_file(path).unwrap();
        symlink(&secret, path).unwrap();
    });
    world.tamper("lib/deep/mod-104.py", |path| {
        fs::remove_file(path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    });
    let (delta, more, at) = world.make_instead();
    world.right(&at);
    assert_eq!(more.len(), 5, "one frame for each");
    let copied = delta
        .sources
        .iter()
        .filter(|it| matches!(it, Source::Copy(_)));
    assert_eq!(copied.count(), 299 + 3 - 5, "the others are still copied");
}

#[test]
fn a_piece_of_a_large_file_that_was_edited_is_fetched_and_the_others_are_not() {
    let content = noise(6_000_000, 5);
    let mut other = content.clone();
    other.truncate(5_000_000);
    let tree = |bytes: Vec<u8>| BTreeMap::from([("large".to_owned(), file(bytes))]);
    let world = World::new(tree(content), tree(other));
    let before = world.plan().frames.len();
    world.tamper("large", |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"edited", 2_500_000).unwrap();
    });
    let (delta, more, at) = world.make_instead();
    world.right(&at);
    assert_eq!(more.len(), 1);
    assert_eq!(delta.frames.len(), before + 1);
}

#[test]
fn an_older_release_that_is_gone_is_no_error() {
    let world = World::new(sample(), sample());
    tamer_release::tree::remove_release(&world.old.0).unwrap();
    let mut delta = world.plan();
    let UnpackError::Spoilt(spoilt) = world.make(&delta).unwrap_err() else {
        panic!("all is missing");
    };
    delta.instead(&world.new.manifest, &world.layout, &spoilt);
    let at = world.make(&delta).unwrap();
    assert_eq!(read(&at), world.wanted);
}

/// The manifest in an older release is not signed for what its files are: it may say anything.
#[test]
fn an_older_manifest_that_lies_leads_to_right_bytes_all_the_same() {
    let mut after = sample();
    after.insert("bin/run".to_owned(), file("another"));
    let large = noise(2_800_000, 9);
    after.insert("lib/large.bin".to_owned(), file(large));
    let mut world = World::new(sample(), after);
    // It claims to have every file and every piece of the new release, under the names of its own.
    let new = &world.new.manifest;
    let digest = |path: &str, manifest: &Manifest| {
        let entry = manifest.files.iter().find(|it| it.path == *path).unwrap();
        let EntryKind::File { sha256, size, .. } = entry.kind else {
            panic!("a file");
        };
        (sha256, size)
    };
    let lie = |old: &mut Manifest, path: &str, new: &Manifest| {
        let (digest, _) = digest(path, new);
        let entry = old.files.iter_mut().find(|it| it.path == *path).unwrap();
        if let EntryKind::File { sha256, .. } = &mut entry.kind {
            *sha256 = digest;
        }
    };
    let mut old = world.old.1.clone();
    lie(&mut old, "bin/run", new);
    let pieces: Vec<_> = new
        .archive
        .frames
        .iter()
        .filter_map(|it| it.content)
        .collect();
    let mut pieces = pieces.into_iter().cycle();
    for frame in &mut old.archive.frames {
        if frame.content.is_some() {
            frame.content = pieces.next();
        }
    }
    world.old.1 = old;
    let (_, more, at) = world.make_instead();
    assert!(!more.is_empty());
    world.right(&at);
}

#[test]
fn a_frame_that_did_not_come_is_refused_and_nothing_is_left() {
    let mut after = sample();
    after.insert("lib/large.bin".to_owned(), file(noise(2_800_000, 9)));
    after.insert("new".to_owned(), file("new"));
    let world = World::new(sample(), after);
    let delta = world.plan();
    let frames: Vec<usize> = delta.frames.iter().copied().collect();
    for missing in 0..frames.len().min(5) {
        let mut some = frames.clone();
        some.remove(missing);
        let error = world.make_with(&delta, &some).unwrap_err();
        let (UnpackError::Frame { .. } | UnpackError::Truncated { .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(names(&world.releases()), ["old"]);
    }
}
