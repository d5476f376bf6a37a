//! Looking again with a record: whatever is edited, in whatever way, is named, and nothing else is; and what
//! was not edited is not read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Node, Temp, make, pack_spec, spec, tempdir};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tamer_core::drift::{Change, Drift};
use tamer_core::moment::Moment;
use tamer_kit::hash::sha256;
use tamer_release::delta::Delta;
use tamer_release::manifest;
use tamer_release::pack::{PackSpec, pack};
use tamer_release::put_back::{PutBack, put_back};
use tamer_release::unpack::{MANIFEST_PATH, Material, make_and_record, unpack};
use tamer_release::verify_tree::{Depth, Look, LookError, Outcome, Owners, Record, look};

/// A release on disk, and how it is looked at.
struct Site {
    dir: Temp,
    at: PathBuf,
    manifest: tamer_core::digest::Digest,
    parsed: tamer_core::release::Manifest,
    /// What was noted while it was unpacked.
    noted: Record,
    /// Files, directories and links of it.
    paths: Vec<String>,
}

fn small() -> BTreeMap<String, Node> {
    let mut tree = BTreeMap::new();
    for dir in ["a", "a/b", "a.b", "empty"] {
        tree.insert(dir.to_owned(), Node::Directory);
    }
    for (n, path) in ["a/one", "a/b/two", "a/b/three", "a.b/four", "five", "a-six"]
        .into_iter()
        .enumerate()
    {
        let content = format!("{path} {n}\n").repeat(n + 1).into_bytes();
        tree.insert(path.to_owned(), Node::File(content, n % 2 == 0));
    }
    tree.insert("a/link".to_owned(), Node::Link("one".to_owned()));
    tree.insert("other".to_owned(), Node::Link("a/b".to_owned()));
    tree
}

impl Site {
    fn new() -> Self {
        let dir = tempdir();
        let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
        make(&tree, &small());
        let what = PackSpec {
            spec: spec("shared = [\"media/\", \"var/log/\"]"),
            ..pack_spec()
        };
        let packed = pack(&tree, &what, &archive).unwrap();
        let file = fs::File::open(archive).unwrap();
        let layout = manifest::validate(&packed.manifest).unwrap();
        let from = Material {
            manifest: &packed.manifest,
            digest: &packed.digest,
            layout: &layout,
            delta: &Delta::whole(&packed.manifest, &layout),
            older: &[],
            archive: &file,
        };
        let (at, noted) = make_and_record(&from, dir.path(), "r", None).unwrap();
        Self {
            at,
            noted,
            manifest: packed.digest,
            parsed: packed.manifest,
            paths: small().into_keys().collect(),
            dir,
        }
    }

    /// Looks; gives the record and how many bytes were to be read.
    fn look(&self, depth: Depth, before: Option<&Record>, now: Moment) -> (Record, u64) {
        let before = before.or((depth == Depth::Unpacked).then_some(&self.noted));
        self.look_after(before, depth, now)
    }

    fn look_after(&self, before: Option<&Record>, depth: Depth, now: Moment) -> (Record, u64) {
        let mut read = 0;
        let mut pace = |bytes| {
            read += bytes;
            ControlFlow::Continue(())
        };
        let me = fs::metadata(self.dir.path()).unwrap();
        let what = Look {
            release: &self.at,
            manifest: self.manifest,
            owners: Some(Owners {
                user: me.uid(),
                group: None,
                groups: [me.gid(); 2],
            }),
            depth,
            now,
        };
        match look(&what, before, None, &mut pace).unwrap() {
            Outcome::Whole(record) => (record, read),
            Outcome::GivenUp { .. } => panic!("nobody gave it up"),
        }
    }

    /// A record that vouches for everything that is not changed after this returns.
    fn vouching(&self, before: Option<&Record>, depth: Depth) -> Record {
        let (record, _) = self.look(depth, before, later());
        self.tick();
        record
    }

    /// Goes on until a change would have another change time than all that was changed before.
    fn tick(&self) {
        let probe = self.dir.path().join("probe");
        let time = || {
            fs::write(&probe, "").unwrap();
            let about = fs::metadata(&probe).unwrap();
            (about.ctime(), about.ctime_nsec())
        };
        let first = time();
        while time() == first {}
    }
}

/// So late that no change is too recent to be vouched for.
fn later() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Moment((since.unwrap() + Duration::from_secs(3600)).as_millis() as u64)
}

fn fast() -> Depth {
    Depth::Fast
}

fn full() -> Depth {
    Depth::Full { after: None }
}

// === the model: two looks by other means, compared path by path ===

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: u32,
    mode: Option<u32>,
    owner: (u32, u32),
    inside: Vec<u8>,
}

fn snapshot(at: &Path) -> BTreeMap<String, Seen> {
    fn walk(root: &Path, at: &Path, into: &mut BTreeMap<String, Seen>) {
        let about = fs::symlink_metadata(at).unwrap();
        let inside = if about.is_file() {
            fs::read(at).unwrap()
        } else if about.is_symlink() {
            fs::read_link(at)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else {
            Vec::new()
        };
        let path = at.strip_prefix(root).unwrap().to_str().unwrap();
        let path = if path.is_empty() { "." } else { path };
        let seen = Seen {
            kind: about.mode() & 0o170_000,
            mode: (!about.is_symlink()).then_some(about.mode() & 0o7777),
            owner: (about.uid(), about.gid()),
            inside,
        };
        into.insert(path.to_owned(), seen);
        if about.is_dir() {
            for entry in fs::read_dir(at).unwrap() {
                walk(root, &entry.unwrap().path(), into);
            }
        }
    }
    let mut seen = BTreeMap::new();
    walk(at, at, &mut seen);
    seen
}

fn difference(
    before: &BTreeMap<String, Seen>,
    after: &BTreeMap<String, Seen>,
) -> BTreeSet<(String, Change)> {
    let mut all = BTreeSet::new();
    for path in before.keys().chain(after.keys()) {
        let mut differs = |change| all.insert((path.clone(), change));
        match (before.get(path), after.get(path)) {
            (Some(_), None) => {
                differs(Change::Removed);
            }
            (None, Some(_)) => {
                differs(Change::Added);
            }
            (Some(was), Some(is)) if was.kind != is.kind => {
                differs(Change::Kind);
            }
            (Some(was), Some(is)) => {
                if was.inside != is.inside {
                    differs(match was.mode {
                        Some(_) => Change::Content,
                        None => Change::Target,
                    });
                }
                if was.mode != is.mode {
                    differs(Change::Mode);
                }
                if was.owner != is.owner {
                    differs(Change::Owner);
                }
            }
            (None, None) => {}
        }
    }
    all
}

fn named(drift: Option<Drift>) -> BTreeSet<(String, Change)> {
    let Some(drift) = drift else {
        return BTreeSet::new();
    };
    assert_eq!(drift.total, drift.differences.len() as u64);
    let all = drift.differences.into_iter();
    all.map(|it| (it.path, it.change)).collect()
}

// === edits ===

#[derive(Debug, Clone)]
enum Edit {
    /// A new file, directory or link beside the n-th path.
    Add(usize, u8),
    /// Other content of the same size, the times put back.
    Forge(usize, u8),
    Append(usize),
    Remove(usize),
    Chmod(usize, u32),
    Chown(usize, u32),
    Retarget(usize, u8),
    FileToDirectory(usize),
    DirectoryToFile(usize),
    /// No change: another time, another inode, a mode and back.
    Touch(usize),
    Copy(usize),
    OpenAndClose(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let n = 0..12_usize;
    prop_oneof![
        (n.clone(), 0..3_u8).prop_map(|(n, kind)| Edit::Add(n, kind)),
        (n.clone(), any::<u8>()).prop_map(|(n, with)| Edit::Forge(n, with)),
        n.clone().prop_map(Edit::Append),
        n.clone().prop_map(Edit::Remove),
        (
            n.clone(),
            prop::sample::select(vec![0o444, 0o555, 0o644, 0o700, 0o4555, 0o1555])
        )
            .prop_map(|(n, mode)| Edit::Chmod(n, mode)),
        (n.clone(), 0..3_u32).prop_map(|(n, to)| Edit::Chown(n, to)),
        (n.clone(), 0..3_u8).prop_map(|(n, to)| Edit::Retarget(n, to)),
        n.clone().prop_map(Edit::FileToDirectory),
        n.clone().prop_map(Edit::DirectoryToFile),
        n.clone().prop_map(Edit::Touch),
        n.clone().prop_map(Edit::Copy),
        n.prop_map(Edit::OpenAndClose),
    ]
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Does it, where it can be done; modes on the way are put back.
fn edit_by_hand(site: &Site, edit: &Edit) {
    let root = nix::unistd::geteuid().is_root();
    let path = |n: usize| site.at.join(&site.paths[n % site.paths.len()]);
    let kind = |path: &Path| {
        let about = fs::symlink_metadata(path).ok()?;
        Some(about.mode() & 0o170_000)
    };
    const FILE: Option<u32> = Some(0o100_000);
    const DIRECTORY: Option<u32> = Some(0o040_000);
    const LINK: Option<u32> = Some(0o120_000);
    let within = |at: &Path, change: &dyn Fn()| {
        let parent = at.parent().unwrap();
        let was = fs::metadata(parent).unwrap().mode() & 0o7777;
        mode(parent, 0o755);
        change();
        mode(parent, was);
    };
    let rewrite = |at: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let was = fs::metadata(at).unwrap().mode() & 0o7777;
        mode(at, 0o644);
        let mut content = fs::read(at).unwrap();
        change(&mut content);
        fs::write(at, content).unwrap();
        mode(at, was);
    };
    match edit {
        Edit::Add(n, what) => {
            let mut at = path(*n).into_os_string();
            at.push("-new");
            let at = PathBuf::from(at);
            if kind(&at).is_some() || at.parent().is_none_or(|it| kind(it) != DIRECTORY) {
                return;
            }
            within(&at, &|| match what {
                0 => fs::write(&at, "new").unwrap(),
                1 => fs::create_dir(&at).unwrap(),
                _ => symlink("nowhere", &at).unwrap(),
            });
        }
        Edit::Forge(n, with) if kind(&path(*n)) == FILE => {
            let at = path(*n);
            let about = fs::metadata(&at).unwrap();
            rewrite(&at, &|content| {
                if let Some(last) = content.last_mut() {
                    *last ^= with;
                }
            });
            let times = fs::FileTimes::new()
                .set_accessed(about.accessed().unwrap())
                .set_modified(about.modified().unwrap());
            fs::File::open(&at).unwrap().set_times(times).unwrap();
        }
        Edit::Append(n) if kind(&path(*n)) == FILE => {
            rewrite(&path(*n), &|content| content.extend(b"more"));
        }
        Edit::Remove(n) => {
            let at = path(*n);
            if kind(&at).is_none() {
                return;
            }
            within(&at, &|| {
                if kind(&at) == DIRECTORY {
                    let _ = fs::remove_dir(&at);
                } else {
                    fs::remove_file(&at).unwrap();
                }
            });
        }
        Edit::Chmod(n, to) if matches!(kind(&path(*n)), FILE | DIRECTORY) => {
            // A directory that its owner could not enter would stop the model.
            let least = if kind(&path(*n)) == DIRECTORY {
                0o500
            } else {
                0o400
            };
            mode(&path(*n), to | least);
        }
        Edit::Chown(n, to) if root && kind(&path(*n)).is_some() => {
            lchown(path(*n), Some(*to), Some(to / 2)).unwrap();
        }
        Edit::Retarget(n, to) if kind(&path(*n)) == LINK => {
            let at = path(*n);
            within(&at, &|| {
                fs::remove_file(&at).unwrap();
                symlink(["one", "a/b", "elsewhere"][usize::from(*to)], &at).unwrap();
            });
        }
        Edit::FileToDirectory(n) if matches!(kind(&path(*n)), FILE | LINK) => {
            let at = path(*n);
            within(&at, &|| {
                fs::remove_file(&at).unwrap();
                fs::create_dir(&at).unwrap();
                fs::write(at.join("below"), "x").unwrap();
            });
        }
        Edit::DirectoryToFile(n) if kind(&path(*n)) == DIRECTORY => {
            let at = path(*n);
            within(&at, &|| {
                tamer_release::tree::remove_release(&at).unwrap();
                fs::write(&at, "no directory").unwrap();
            });
        }
        Edit::Touch(n) if kind(&path(*n)) == FILE => {
            let now = fs::FileTimes::new().set_modified(SystemTime::now());
            fs::File::open(path(*n)).unwrap().set_times(now).unwrap();
        }
        Edit::Copy(n) if kind(&path(*n)) == FILE => {
            let at = path(*n);
            let owner = fs::metadata(&at).unwrap();
            within(&at, &|| {
                let content = fs::read(&at).unwrap();
                fs::remove_file(&at).unwrap();
                fs::write(&at, content).unwrap();
                if root {
                    lchown(&at, Some(owner.uid()), Some(owner.gid())).unwrap();
                }
                mode(&at, owner.mode() & 0o7777);
            });
        }
        Edit::OpenAndClose(n) if matches!(kind(&path(*n)), FILE | DIRECTORY) => {
            let was = fs::metadata(path(*n)).unwrap().mode() & 0o7777;
            mode(&path(*n), 0o755);
            mode(&path(*n), was);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_edited_is_named_and_nothing_else(
        edits in prop::collection::vec(prop::collection::vec(edit(), 1..5), 1..4)
    ) {
        let site = Site::new();
        let deployed = snapshot(&site.at);
        let mut record = site.vouching(None, Depth::Unpacked);
        prop_assert_eq!(record.drift(1000), None);
        let mut known: Vec<(BTreeMap<String, Seen>, Option<Drift>)> = Vec::new();
        for batch in &edits {
            for edit in batch {
                edit_by_hand(&site, edit);
            }
            let now = snapshot(&site.at);
            let expected = difference(&deployed, &now);
            let bytes = record.to_bytes();
            prop_assert_eq!(Record::from_bytes(&bytes), Ok(record.clone()));
            record = site.vouching(Some(&record), fast());
            prop_assert_eq!(named(record.drift(1000)), expected.clone(), "fast");
            let (read, _) = site.look(full(), Some(&record), later());
            prop_assert_eq!(named(read.drift(1000)), expected, "full");
            // The digest tells one state of affairs from another, however it was found.
            let drift = record.drift(20);
            prop_assert_eq!(&drift, &read.drift(20));
            for (before, had) in &known {
                let same = *before == now;
                prop_assert_eq!(same, *had == drift, "{:?} and {:?}", had, drift);
            }
            known.push((now, drift));
        }
    }
}

/// What the agent adds to a release is no drift; what stands in its place is.
#[test]
fn links_to_what_is_shared_and_the_agents_own_file_are_no_drift() {
    let site = Site::new();
    let record = site.vouching(None, Depth::Unpacked);
    let own = site.at.join(".tamer/environment");
    let within = |path: &str, change: &dyn Fn()| {
        mode(&site.at.join(path), 0o755);
        change();
        mode(&site.at.join(path), 0o555);
    };
    within("", &|| {
        symlink("../../shared/media", site.at.join("media")).unwrap();
        fs::create_dir(site.at.join("var")).unwrap();
    });
    within("var", &|| {
        symlink("../../../shared/var/log", site.at.join("var/log")).unwrap();
    });
    within(".tamer", &|| {
        fs::write(&own, "TAMER_HOST=\"web-1\"\n").unwrap();
    });
    mode(&own, 0o640);
    if nix::unistd::geteuid().is_root() {
        // It is for the group of the component's user.
        lchown(&own, None, Some(4242)).unwrap();
    }
    let linked = site.vouching(Some(&record), fast());
    assert_eq!(linked.drift(20), None);
    mode(&own, 0o644);
    within(".tamer", &|| {
        fs::write(site.at.join(".tamer/more"), "x").unwrap();
    });
    within("", &|| {
        fs::remove_file(site.at.join("media")).unwrap();
        symlink("/elsewhere", site.at.join("media")).unwrap();
    });
    let expected = [
        (".tamer/environment", Change::Mode),
        (".tamer/more", Change::Added),
        ("media", Change::Target),
    ];
    let (found, _) = site.look(fast(), Some(&linked), later());
    let expected = expected.map(|(path, change)| (path.to_owned(), change));
    assert_eq!(named(found.drift(20)), expected.into());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Also when it is done in two goes.
    #[test]
    fn whatever_is_edited_is_put_back(
        edits in prop::collection::vec(edit(), 1..6), first in 0..20_usize
    ) {
        let site = Site::new();
        let deployed = snapshot(&site.at);
        for edit in &edits {
            edit_by_hand(&site, edit);
        }
        for most in [first, usize::MAX] {
            let (found, _) = site.look(fast(), None, later());
            let Some(drift) = found.drift(most) else { break };
            let room = tamer_release::put_back::room(site.dir.path()).unwrap();
            let file = fs::File::open(site.dir.path().join("a.tar.zst")).unwrap();
            let fresh = unpack(&file, &site.parsed, &room, "r", None).unwrap();
            let what = PutBack {
                release: &site.at,
                fresh: &fresh,
                aside: &room.join("aside"),
            };
            assert!(put_back(what, &drift, &mut || ControlFlow::Continue(())).unwrap().is_continue());
            tamer_release::put_back::clear(&room).unwrap();
        }
        prop_assert_eq!(snapshot(&site.at), deployed);
    }
}

#[test]
fn what_was_noted_while_it_was_unpacked_is_what_a_walk_finds() {
    let site = Site::new();
    let now = later();
    let (walked, _) = site.look_after(None, Depth::Unpacked, now);
    let (noted, _) = site.look_after(Some(&site.noted), Depth::Unpacked, now);
    assert_eq!(noted, walked);
    assert_eq!(noted.drift(20), None);
    // Whoever is quick enough to edit a file in between is found by the next look.
    site.tick();
    edit_by_hand(&site, &Edit::Touch(1));
    mode(&site.at.join("a/one"), 0o777);
    let (between, _) = site.look_after(Some(&site.noted), Depth::Unpacked, now);
    let (found, _) = site.look(fast(), Some(&between), now);
    assert_eq!(found.drift(20).map(|drift| drift.total), Some(1));
}

#[test]
fn what_the_record_vouches_for_is_not_read() {
    let site = Site::new();
    let (record, read) = site.look(Depth::Unpacked, None, later());
    assert_eq!(read, 0, "unpacking has read it");
    assert_eq!(record.read, Some(record.read.unwrap()));
    let (again, read) = site.look(fast(), Some(&record), later());
    assert_eq!((read, again.drift(20)), (0, None));
    assert_eq!(again, record);
    site.tick();
    edit_by_hand(&site, &Edit::Touch(1));
    let (touched, read) = site.look(fast(), Some(&record), later());
    assert_eq!(touched.drift(20), None);
    let size = fs::metadata(site.at.join(&site.paths[1])).unwrap().len();
    assert!(
        read > 0 && read <= 2 * size,
        "{read} bytes of one file of {size}"
    );
    let (_, read) = site.look(full(), Some(&record), later());
    assert!(read > 3 * size, "all is read: {read}");
}

/// What was changed within the same tick of the clock may be changed once more unseen: it is read again.
#[test]
fn what_was_changed_a_moment_ago_is_not_vouched_for() {
    let site = Site::new();
    let now = |ahead: i64| {
        let about = fs::metadata(site.at.join("five")).unwrap();
        Moment((about.ctime() * 1000 + about.ctime_nsec() / 1_000_000 + ahead) as u64)
    };
    let (record, _) = site.look(fast(), None, now(10));
    let (_, read) = site.look(fast(), Some(&record), later());
    assert!(read > 0);
    let (record, _) = site.look(fast(), None, now(3_000));
    let (_, read) = site.look(fast(), Some(&record), later());
    assert_eq!(read, 0);
    // But nobody else has had what was unpacked just now.
    let (record, _) = site.look(Depth::Unpacked, None, now(0));
    let (_, read) = site.look(fast(), Some(&record), later());
    assert_eq!(read, 0);
}

#[test]
fn a_look_that_is_given_up_goes_on_where_it_was() {
    let site = Site::new();
    let record = site.vouching(None, Depth::Unpacked);
    // Damage that leaves no trace: only reading finds it.
    let forged = {
        edit_by_hand(
            &site,
            &Edit::Append(site.paths.iter().position(|it| it == "a/one").unwrap()),
        );
        let (after, _) = site.look(fast(), Some(&record), later());
        let bytes = after.to_bytes();
        let (clean, _) = site.look(full(), None, later());
        assert_eq!(clean.drift(20), after.drift(20));
        Record::from_bytes(&bytes).unwrap()
    };
    // Something is gone, and a fast look has said so.
    let gone = site.paths.iter().position(|it| it == "a/b/two").unwrap();
    edit_by_hand(&site, &Edit::Remove(gone));
    let (forged, _) = site.look(fast(), Some(&forged), later());
    let removed = (site.paths[gone].clone(), Change::Removed);
    let changed = ("a/one".to_owned(), Change::Content);
    let both = |drift| {
        let named = named(drift);
        named.contains(&changed) && named.contains(&removed)
    };
    assert!(both(forged.drift(20)));
    let mut files = 0;
    let mut steps = 0;
    let mut state = (forged, None);
    loop {
        steps += 1;
        let me = fs::metadata(site.dir.path()).unwrap();
        let what = Look {
            release: &site.at,
            manifest: site.manifest,
            owners: Some(Owners {
                user: me.uid(),
                group: None,
                groups: [me.gid(); 2],
            }),
            depth: Depth::Full {
                after: state.1.clone(),
            },
            now: later(),
        };
        // One file is read, then a switch begins.
        let mut left = 2;
        let mut pace = |bytes| {
            if bytes > 0 {
                files += 1;
                left -= 1;
            }
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        match look(&what, Some(&state.0), None, &mut pace).unwrap() {
            Outcome::Whole(record) => {
                assert!(both(record.drift(20)));
                break;
            }
            Outcome::GivenUp { record, after } => {
                assert!(both(record.drift(20)));
                let (soon, _) = site.look(fast(), Some(&record), later());
                assert!(both(soon.drift(20)), "forgotten after {after}");
                state = (record, Some(after));
            }
        }
    }
    assert!(steps > 3 && files < 40, "{steps} steps read {files} times");
}

#[test]
fn a_manifest_that_is_not_the_signed_one_is_named() {
    let site = Site::new();
    let record = site.vouching(None, Depth::Unpacked);
    let path = site.at.join(MANIFEST_PATH);
    mode(&path, 0o644);
    fs::write(&path, "{}").unwrap();
    let what = Look {
        release: &site.at,
        manifest: site.manifest,
        owners: None,
        depth: fast(),
        now: later(),
    };
    let mut pace = |_| ControlFlow::Continue(());
    let Err(LookError::Manifest { drift }) = look(&what, Some(&record), None, &mut pace) else {
        panic!("it was taken for the manifest");
    };
    assert_eq!(
        named(Some(*drift)),
        [(MANIFEST_PATH.to_owned(), Change::Content)].into()
    );
    let parent = path.parent().unwrap();
    mode(parent, 0o755);
    fs::remove_file(&path).unwrap();
    let Err(LookError::Manifest { drift }) = look(&what, Some(&record), None, &mut pace) else {
        panic!("it was not missed");
    };
    assert_eq!(
        named(Some(*drift)),
        [(MANIFEST_PATH.to_owned(), Change::Removed)].into()
    );
}

#[test]
fn a_damaged_record_is_no_record() {
    let site = Site::new();
    edit_by_hand(&site, &Edit::Append(1));
    let (record, _) = site.look(fast(), None, later());
    assert_eq!(record.drift(20).unwrap().total, 1);
    let bytes = record.to_bytes();
    assert!(
        bytes.len() < 120 * record.len(),
        "{} bytes, {} paths",
        bytes.len(),
        record.len()
    );
    for cut in 0..bytes.len() {
        assert!(Record::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(Record::from_bytes(&flipped).is_err(), "flipped at {at}");
    }
    // Whoever makes the checksum fit must not make the reader panic.
    let end = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
    for at in end..bytes.len() {
        for with in [0, 0x7f, 0xff] {
            let mut body = bytes[end..].to_vec();
            body[at - end] = with;
            let mut forged = format!("tamer-record 1 {}\n", sha256(&body)).into_bytes();
            forged.extend(&body);
            let _ = Record::from_bytes(&forged);
        }
    }
    // That of another release says nothing of this one.
    let mut other = bytes[end..].to_vec();
    other[0] ^= 1;
    let mut forged = format!("tamer-record 1 {}\n", sha256(&other)).into_bytes();
    forged.extend(&other);
    let other = Record::from_bytes(&forged).unwrap();
    let (_, read) = site.look(fast(), Some(&other), later());
    assert!(read > 0);
}

#[test]
fn names_that_are_no_text_are_named_all_the_same() {
    use std::os::unix::ffi::OsStrExt;
    let site = Site::new();
    mode(&site.at, 0o755);
    for name in [&b"odd\xff"[..], b"odd\\xff"] {
        fs::write(site.at.join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    mode(&site.at, 0o555);
    let (record, _) = site.look(fast(), None, later());
    let names: Vec<String> = named(record.drift(20)).into_iter().map(|it| it.0).collect();
    assert_eq!(names, ["odd\\\\xff", "odd\\xff"]);
    assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record));
}
