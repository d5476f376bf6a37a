//! The two stores behave alike: whatever is done to both, every answer and every reading agrees.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use proptest::prelude::*;
use std::ops::ControlFlow;
use tamer_controller::store::memory::MemoryStore;
use tamer_controller::store::sled::SledStore;
use tamer_controller::store::{Batch, CommitError, Key, MAX_VALUE, Scan, Store};

#[derive(Debug, Clone)]
enum Act {
    /// Batches handed over together, each upon the revision that it should find, plus an error.
    Commit(Vec<(Vec<Change>, u64)>),
    Scan(Scan),
    Reopen,
}

#[derive(Debug, Clone)]
struct Change {
    key: Key,
    value: Option<(u8, usize)>,
}

fn key() -> impl Strategy<Value = Key> {
    // Few and alike, so that keys are overwritten, and prefixes of one another.
    prop::sample::select(vec![
        "a", "a/b", "a/b-c", "a/b/c", "a.b", "b/1", "b/10", "b/2", "z",
    ])
    .prop_map(|key| key.parse().unwrap())
}

fn change() -> impl Strategy<Value = Change> {
    let size = prop_oneof![4 => 0usize..50, 1 => 6_000usize..20_000, 1 => Just(MAX_VALUE)];
    (key(), prop::option::weighted(0.7, (any::<u8>(), size)))
        .prop_map(|(key, value)| Change { key, value })
}

fn act() -> impl Strategy<Value = Act> {
    let batch = (
        prop::collection::vec(change(), 0..5),
        prop_oneof![5 => Just(0u64), 1 => 1u64..3],
    );
    let scan = (
        prop::sample::select(vec!["", "a", "a/", "b/", "c", "z"]),
        prop::option::of(key()),
        0usize..6,
        any::<bool>(),
    );
    prop_oneof![
        5 => prop::collection::vec(batch, 1..6).prop_map(Act::Commit),
        4 => scan.prop_map(|(prefix, from, limit, reverse)| Act::Scan(Scan {
            prefix: prefix.to_owned(), from, limit, reverse,
        })),
        1 => Just(Act::Reopen),
    ]
}

fn batch(changes: &[Change]) -> Batch {
    let mut batch = Batch::default();
    for Change { key, value } in changes {
        match value {
            Some((byte, size)) => batch.put(key.clone(), vec![*byte; *size]).unwrap(),
            None => batch.delete(key.clone()).unwrap(),
        }
    }
    batch
}

/// The answers, in words that leave out what may differ.
fn commit(store: &dyn Store, batches: &[(Vec<Change>, u64)]) -> Vec<String> {
    let mut next = store.revision();
    let tickets: Vec<_> = batches
        .iter()
        .map(|(changes, error)| {
            let ticket = store.submit(next + error, batch(changes));
            next += u64::from(*error == 0);
            ticket
        })
        .collect();
    let said = |answer| match answer {
        Ok(revision) => format!("{revision}"),
        Err(CommitError::Conflict { expected, found }) => format!("{expected} is not {found}"),
        Err(failed) => panic!("{failed:?}"),
    };
    tickets.into_iter().map(|t| said(t.wait())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_answer_agrees(acts in prop::collection::vec(act(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new();
        let mut sled = SledStore::create(dir.path()).unwrap();
        for act in acts {
            match act {
                Act::Commit(batches) => {
                    prop_assert_eq!(commit(&memory, &batches), commit(&sled, &batches));
                }
                Act::Scan(scan) => {
                    prop_assert_eq!(memory.scan(&scan).unwrap(), sled.scan(&scan).unwrap());
                    let loaded = sled.load(&scan.prefix).unwrap();
                    prop_assert_eq!(memory.load(&scan.prefix).unwrap(), loaded);
                    if let Some(from) = &scan.from {
                        prop_assert_eq!(memory.get(from).unwrap(), sled.get(from).unwrap());
                    }
                }
                Act::Reopen => {
                    drop(sled);
                    sled = SledStore::open_unprobed(dir.path()).unwrap();
                }
            }
            prop_assert_eq!(memory.revision(), sled.revision());
        }
        drop(sled);
        let sled = SledStore::open_unprobed(dir.path()).unwrap();
        prop_assert_eq!(memory.load("").unwrap(), sled.load("").unwrap());
    }
}

/// The order of keys, stated without a store.
#[test]
fn a_scan_reads_in_the_order_of_bytes_from_either_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::create(dir.path()).unwrap();
    let mut batch = Batch::default();
    for n in [3, 1, 20, 100] {
        let value = vec![1; 10_000];
        batch
            .put(Key::numbered("event", n).unwrap(), value)
            .unwrap();
    }
    batch.put("evening".parse().unwrap(), Vec::new()).unwrap();
    store.commit(0, batch).unwrap();
    let numbers = |from: Option<u64>, limit, reverse| -> Vec<u64> {
        let from = from.map(|n| Key::numbered("event", n).unwrap());
        let prefix = "event/".to_owned();
        let found = store
            .scan(&Scan {
                prefix,
                from,
                limit,
                reverse,
            })
            .unwrap();
        found.iter().filter_map(|(key, _)| key.number()).collect()
    };
    assert_eq!(numbers(None, 9, false), [1, 3, 20, 100]);
    assert_eq!(numbers(None, 2, true), [100, 20]);
    assert_eq!(numbers(Some(20), 9, true), [20, 3, 1]);
    assert_eq!(numbers(Some(4), 9, false), [20, 100]);
    let mut first = None;
    store
        .visit("event/", &mut |key, _| {
            first = key.number();
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(first, Some(1));
}

#[tokio::test]
async fn a_ticket_can_be_awaited_and_a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::create(dir.path()).unwrap();
    assert_eq!(store.submit(0, Batch::default()).await.unwrap(), 1);
    let late = store.submit(1, Batch::default());
    // Closing serves what was handed over before.
    tokio::task::spawn_blocking(move || drop(store))
        .await
        .unwrap();
    assert_eq!(late.await.unwrap(), 2);
}

/// sled lets go of its file in the background: a store that is opened right after it was closed waits.
#[test]
fn a_store_that_was_closed_a_moment_ago_opens() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStore::create(dir.path()).unwrap());
    let file = std::fs::File::open(dir.path().join("data/db")).unwrap();
    let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let place = dir.path().to_owned();
    let opening = std::thread::spawn(move || SledStore::open_unprobed(&place).map(drop));
    // The store's own lock is taken first: once it is, the opening is at work on the file.
    let ours = dir.path().join("lock");
    loop {
        let file = std::fs::File::open(&ours).unwrap();
        if nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).is_err() {
            break;
        }
        std::thread::yield_now();
    }
    // Held for a while: who does not wait fails meanwhile, who waits cannot fail by it.
    std::thread::sleep(std::time::Duration::from_millis(100));
    drop(held);
    opening.join().unwrap().unwrap();
}
