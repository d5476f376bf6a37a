//! Whatever is edited is named and put back, and nothing else is.

use crate::model::*;
use crate::site::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tamer_core::drift::{Change, Drift};
use tamer_release::put_back::{PutBack, put_back};
use tamer_release::unpack::unpack;
use tamer_release::verify_tree::{Depth, Record};

#[derive(Debug, Clone)]
pub(crate) enum Edit {
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

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
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

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Does it, where it can be done; modes on the way are put back.
pub(crate) fn edit_by_hand(site: &Site, edit: &Edit) {
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
pub(crate) fn links_to_what_is_shared_and_the_agents_own_file_are_no_drift() {
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
