//! Backup, restore, compact, check, and opening after damage, as an operator meets them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use tamer_controller::store::sled::SledStore;
use tamer_controller::store::{Batch, Key, Loaded, Store, StoreError, backup, epoch, maintain};
use tamer_core::moment::Moment;

fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tamer-controller"))
}

struct Place {
    _dir: tempfile::TempDir,
    store: PathBuf,
    state: PathBuf,
    backups: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    Place {
        store: at("store"),
        state: at("state"),
        backups: at("backups"),
        _dir: dir,
    }
}

/// Adds a batch of `n` objects of 2,000 bytes, and a large one.
fn fill(store: &dyn Store, n: u64, byte: u8) {
    let mut batch = Batch::default();
    for i in 0..n {
        let key = Key::numbered("event", i).unwrap();
        batch.put(key, vec![byte; 2000]).unwrap();
    }
    batch
        .put("big".parse().unwrap(), vec![byte; 60_000])
        .unwrap();
    store.commit(store.revision(), batch).unwrap();
}

#[test]
fn a_backup_comes_back_whole_held_and_under_a_new_epoch() {
    let place = place();
    let store = SledStore::create(&place.store).unwrap();
    fill(&store, 300, 1);
    let before = store.load("").unwrap();
    epoch::bump(&place.state, 6, Moment(0)).unwrap();
    let file = backup::backup(&store, &place.backups, 7, Moment(5)).unwrap();
    let said = backup::verify(&file).unwrap();
    assert_eq!((said.revision, said.epoch, said.objects), (1, 7, 301));
    fill(&store, 20, 2);
    let later = store.load("").unwrap();
    let in_use = maintain::restore(&file, &place.store, &place.state, Moment(0));
    assert!(matches!(in_use, Err(StoreError::InUse { .. })));
    drop(store);

    let restored = maintain::restore(&file, &place.store, &place.state, Moment(0)).unwrap();
    assert_eq!(restored.epoch, 8);
    assert_eq!(epoch::read(&place.state).unwrap(), 8);
    let of = epoch::restored_from(&place.state).unwrap();
    assert_eq!(of, Some(Moment(5)));
    assert!(epoch::held(&place.state).unwrap().is_some());
    let store = SledStore::open(&place.store, exe()).unwrap();
    assert_eq!(store.load("").unwrap(), before);
    // It goes on: the seal of the restored store is a good one.
    fill(&store, 2, 3);
    assert_eq!(store.revision(), 2);
    drop(store);

    // What was in place is still there, whole.
    let aside = restored.set_aside.unwrap();
    let old = SledStore::open_unprobed(&aside).unwrap();
    assert_eq!(old.load("").unwrap(), later);
}

#[test]
fn a_backup_goes_where_no_store_is() {
    let place = place();
    let store = SledStore::create(&place.store).unwrap();
    fill(&store, 3, 1);
    let before = store.load("").unwrap();
    let file = backup::backup(&store, &place.backups, 0, Moment(5)).unwrap();
    let other = place.state.join("new");
    let restored = maintain::restore(&file, &other, &place.state, Moment(0)).unwrap();
    assert_eq!((restored.set_aside, restored.epoch), (None, 1));
    let store = SledStore::open(&other, exe()).unwrap();
    assert_eq!(store.load("").unwrap(), before);
}

#[test]
fn a_damaged_backup_is_told_before_anything_changes() {
    let place = place();
    let store = SledStore::create(&place.store).unwrap();
    fill(&store, 3, 1);
    let file = backup::backup(&store, &place.backups, 0, Moment(5)).unwrap();
    drop(store);
    let whole = fs::read(&file).unwrap();
    for n in (0..whole.len())
        .step_by(97)
        .chain(whole.len() - 60..whole.len())
    {
        let mut damaged = whole.clone();
        damaged[n] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        assert!(backup::verify(&file).is_err(), "byte {n}");
        fs::write(&file, &whole[..n]).unwrap();
        assert!(backup::verify(&file).is_err(), "cut at {n}");
    }
    fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    let said = maintain::restore(&file, &place.store, &place.state, Moment(0)).unwrap_err();
    assert!(said.to_string().contains("something follows its end"));
    assert_eq!(epoch::held(&place.state).unwrap(), None);
    assert_eq!(epoch::read(&place.state).unwrap(), 0);
    SledStore::open_unprobed(&place.store).unwrap();
}

#[test]
fn backups_rotate_and_the_last_whole_one_stays() {
    let place = place();
    let store = SledStore::create(&place.store).unwrap();
    let mut made = Vec::new();
    for n in [9, 10, 11, 1000] {
        made.push(backup::backup(&store, &place.backups, 0, Moment(n)).unwrap());
    }
    let newest_first: Vec<_> = made.iter().rev().cloned().collect();
    assert_eq!(backup::list(&place.backups).unwrap(), newest_first);
    let is_due = |now| {
        let every = std::time::Duration::from_millis(50);
        backup::is_due(&place.backups, Moment(now), every).unwrap()
    };
    assert_eq!((is_due(1049), is_due(1050)), (false, true));
    assert!(backup::is_due(&place.state, Moment(0), std::time::Duration::MAX).unwrap());
    assert_eq!(
        backup::rotate(&place.backups, 3).unwrap(),
        [made[0].clone()]
    );
    fs::write(&made[3], "torn").unwrap();
    fs::write(&made[2], "torn").unwrap();
    assert_eq!(
        backup::rotate(&place.backups, 2).unwrap(),
        Vec::<PathBuf>::new()
    );
    let (newest, _) = backup::newest(&place.backups).unwrap().unwrap();
    assert_eq!(newest, made[1]);
}

#[test]
fn compacting_keeps_everything_and_frees_the_dead_space() {
    let place = place();
    let store = SledStore::create(&place.store).unwrap();
    for round in 0..40 {
        fill(&store, 300, round);
    }
    let before = store.load("").unwrap();
    drop(store);
    let (was, is) = maintain::compact(&place.store, exe()).unwrap();
    assert_eq!(was.live_bytes, is.live_bytes);
    // How much sled has left dead depends on when it collected, and now and then that is nothing: the
    // result does not.
    assert!(is.disk_bytes < 4 * is.live_bytes, "{was:?} {is:?}");
    // sled writes its snapshot anew at every opening, so the size on disk varies a little.
    let checked = maintain::check(&place.store, exe()).unwrap();
    let size = |report: &maintain::Report| (report.revision, report.objects, report.live_bytes);
    assert_eq!(size(&checked), size(&is));
    assert_eq!(checked.blobs, 0);
    let store = SledStore::open(&place.store, exe()).unwrap();
    assert_eq!(store.load("").unwrap(), before);
    fill(&store, 1, 9);
}

/// A store is written anew in many groups, all of one revision, and its head tells which was the last.
#[test]
fn a_store_of_any_size_is_compacted_and_restored() {
    for objects in [0, 100, 200, 300, 400, 500] {
        let place = place();
        let store = SledStore::create(&place.store).unwrap();
        fill(&store, objects, 1);
        let before = store.load("").unwrap();
        let file = backup::backup(&store, &place.backups, 7, Moment(5)).unwrap();
        drop(store);
        maintain::compact(&place.store, exe()).unwrap();
        let store = SledStore::open(&place.store, exe()).unwrap();
        assert_eq!(store.load("").unwrap(), before, "{objects} objects");
        drop(store);
        maintain::restore(&file, &place.store, &place.state, Moment(0)).unwrap();
        let store = SledStore::open(&place.store, exe()).unwrap();
        assert_eq!(store.load("").unwrap(), before, "{objects} objects");
    }
}

/// A store with something in it, closed, and what it holds.
fn closed(place: &Place) -> Loaded {
    let store = SledStore::create(&place.store).unwrap();
    fill(&store, 50, 1);
    let held = store.load("").unwrap();
    drop(store);
    // Opening writes the snapshot.
    drop(SledStore::open_unprobed(&place.store).unwrap());
    held
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_half_written_snapshot_is_set_aside_and_all_is_there() {
    let place = place();
    let held = closed(&place);
    let data = place.store.join("data");
    fs::write(data.join("snap.7FFFFFFFFFFFFFFF.generating"), "half").unwrap();
    let refused = SledStore::open_unprobed(&place.store).err().unwrap();
    assert!(matches!(refused, StoreError::Engine { .. }), "{refused:?}");
    let store = SledStore::open(&place.store, exe()).unwrap();
    assert_eq!(store.load("").unwrap(), held);
    assert_eq!(
        names(&place.store.join("set-aside-1")),
        ["snap.7FFFFFFFFFFFFFFF.generating"]
    );
}

#[test]
fn a_torn_snapshot_is_set_aside_and_the_log_is_read() {
    let place = place();
    let held = closed(&place);
    let data = place.store.join("data");
    let snap = names(&data)
        .into_iter()
        .find(|n| n.starts_with("snap."))
        .unwrap();
    let bytes = fs::read(data.join(&snap)).unwrap();
    fs::write(data.join(&snap), &bytes[..bytes.len() / 2]).unwrap();
    let store = SledStore::open(&place.store, exe()).unwrap();
    assert_eq!(store.load("").unwrap(), held);
    assert_eq!(names(&place.store.join("set-aside-1")), [snap]);
}

#[test]
fn what_can_not_be_opened_is_left_as_it_is_and_the_way_out_is_named() {
    let place = place();
    closed(&place);
    let db = place.store.join("data/db");
    let mut bytes = fs::read(&db).unwrap();
    bytes.truncate(bytes.len() / 3);
    fs::write(&db, &bytes).unwrap();
    let said = SledStore::open(&place.store, exe()).err().unwrap();
    assert!(matches!(said, StoreError::Unopenable { .. }), "{said:?}");
    assert!(
        said.to_string().contains("`tamer-controller restore`"),
        "{said}"
    );
    assert_eq!(fs::read(&db).unwrap(), bytes);
    assert!(maintain::check(&place.store, exe()).is_err());
    assert_eq!(names(&place.store), ["data", "lock", "set-aside-1"]);
}

#[test]
fn a_probe_that_is_no_probe_is_told() {
    let place = place();
    closed(&place);
    // Damage is not the reason, so nothing is set aside.
    let unstarted = SledStore::open(&place.store, Path::new("/nonexistent"));
    let said = unstarted.err().unwrap().to_string();
    assert!(said.contains("can't be started"), "{said}");
    assert_eq!(names(&place.store), ["data", "lock"]);
    for no_probe in ["/bin/true", "/bin/false"] {
        let said = SledStore::open(&place.store, Path::new(no_probe))
            .err()
            .unwrap();
        assert!(said.to_string().contains("the probe"), "{said}");
    }
    SledStore::open(&place.store, exe()).unwrap();
}
