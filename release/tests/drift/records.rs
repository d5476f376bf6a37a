//! What a record vouches for, and what it does not.

use crate::edits::*;
use crate::model::*;
use crate::site::*;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use tamer_core::drift::Change;
use tamer_core::moment::Moment;
use tamer_kit::hash::sha256;
use tamer_release::unpack::MANIFEST_PATH;
use tamer_release::verify_tree::{Depth, Look, LookError, Outcome, Owners, Record, look};

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
