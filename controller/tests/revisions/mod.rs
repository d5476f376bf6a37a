//! What a store holds at each revision, as a function of its number alone.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each test uses what it needs of it")]

use std::collections::BTreeMap;
use std::path::Path;
use tamer_controller::store::{Batch, Key, Store};

const HOSTS: u64 = 37;
const EVENTS: u64 = 300;

pub(crate) fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tamer-controller"))
}

fn bytes(seed: u64, size: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let words = 0..size.div_ceil(8);
    let mut bytes: Vec<u8> = words.flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(usize::try_from(size).unwrap());
    bytes
}

fn event(n: u64) -> (Key, Vec<u8>) {
    (Key::numbered("event", n).unwrap(), bytes(n, 100 + n % 400))
}

fn host(n: u64) -> (Key, Vec<u8>) {
    let key = format!("host/web-{:02}", n % HOSTS).parse().unwrap();
    (key, bytes(n ^ 0xabcd, n % 3000))
}

/// Now and then a value of many pieces, of a size that changes.
fn big(n: u64) -> Option<(Key, Vec<u8>)> {
    let key = || format!("big/{}", n / 97 % 5).parse().unwrap();
    n.is_multiple_of(97)
        .then(|| (key(), bytes(n, n * 7919 % 65_000)))
}

pub(crate) fn batch(n: u64) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in [Some(event(n)), Some(host(n)), big(n)]
        .into_iter()
        .flatten()
    {
        batch.put(key, value).unwrap();
    }
    if n > EVENTS {
        batch.delete(event(n - EVENTS).0).unwrap();
    }
    batch
}

/// Everything that a store at `revision` holds, said without replaying batches.
fn content(revision: u64) -> BTreeMap<Key, Vec<u8>> {
    let first = |window: u64| revision.saturating_sub(window - 1).max(1);
    let events = (first(EVENTS)..=revision).map(event);
    let hosts = (first(HOSTS)..=revision).map(host);
    let bigs = (first(97 * 5)..=revision).filter_map(big);
    events.chain(hosts).chain(bigs).collect()
}

pub(crate) fn assert_whole(store: &dyn Store, acknowledged: u64, about: &str) -> u64 {
    let loaded = store.load("").unwrap();
    let revision = loaded.revision;
    assert!(
        revision >= acknowledged,
        "{about}: revision {acknowledged} was acknowledged, {revision} is there"
    );
    let found: BTreeMap<_, _> = loaded.objects.into_iter().collect();
    assert!(
        found == content(revision),
        "{about}: the content is not that of revision {revision}"
    );
    revision
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}
