//! No acknowledged batch is ever lost without a word.
//!
//! A child process commits under load and says which revisions were acknowledged; it is killed with
//! SIGKILL at a random time, also while it opens; then the store is opened through the probe and
//! must hold exactly what its revision says, at or after the last acknowledged one. The same store
//! lives through all rounds. Then copies of it are damaged at random: each opens with everything
//! there, or not at all.
//!
//! `TAMER_TORTURE_ROUNDS` (kills), `TAMER_TORTURE_COPIES` and `TAMER_TORTURE_SEED` change how much
//! is tried. The child is this same test program, started with `TAMER_TORTURE_DIR`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod revisions;

use revisions::{Random, assert_whole, batch, exe};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tamer_controller::store::sled::SledStore;
use tamer_controller::store::{Store, StoreError};

/// Batches that the child hands over before it waits for the first answer.
const AHEAD: u64 = 48;
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap())
}

// === The child ===

#[test]
fn child() {
    let Some(dir) = std::env::var_os("TAMER_TORTURE_DIR") else {
        return; // In an ordinary run there is no child's work to do.
    };
    let store = SledStore::open(Path::new(&dir), exe()).unwrap();
    println!("\nopen {}", store.revision());
    let mut waiting = VecDeque::new();
    for n in store.revision() + 1.. {
        waiting.push_back(store.submit(n - 1, batch(n)));
        if n % 5 == 0 || waiting.len() as u64 == AHEAD {
            let ticket = waiting.pop_front().unwrap();
            println!("\nack {}", ticket.wait().unwrap());
        }
    }
}

struct Writer {
    child: Child,
    said: Receiver<(String, u64)>,
}

impl Writer {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("TAMER_TORTURE_DIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((word @ ("open" | "ack"), n)) = line.split_once(' ') {
                    let n = n.parse().unwrap_or(0);
                    if sender.send((word.to_owned(), n)).is_err() {
                        return;
                    }
                }
            }
        });
        Self { child, said }
    }

    /// Waits until it has opened the store, and gives the revision that it found.
    fn opened(&self) -> u64 {
        self.said.recv_timeout(Duration::from_secs(60)).unwrap().1
    }

    /// SIGKILL; gives the last revision it said was acknowledged, 0 if none.
    fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said.iter().map(|(_, n)| n).max().unwrap_or(0)
    }
}

#[test]
fn torture_by_kills_loses_nothing_acknowledged() {
    let seed = setting("TAMER_TORTURE_SEED", u64::from(std::process::id()));
    let rounds = setting("TAMER_TORTURE_ROUNDS", 40);
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    drop(SledStore::create(dir.path()).unwrap());
    let (mut acknowledged, mut batches, mut while_opening) = (0, 0, 0);
    for round in 0..rounds {
        let writer = Writer::start(dir.path());
        // One in eight is killed at some time while it starts and opens, the others while they write.
        if random.below(8) > 0 {
            writer.opened();
        } else {
            while_opening += 1;
        }
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        acknowledged = acknowledged.max(writer.kill());
        let about = format!("seed {seed}, round {round}");
        let store = SledStore::open(dir.path(), exe()).unwrap_or_else(|e| panic!("{about}: {e}"));
        batches = assert_whole(&store, acknowledged, &about);
    }
    assert!(batches > rounds, "the children hardly wrote: {batches}");
    println!(
        "{rounds} kills ({while_opening} while starting), {batches} batches, {acknowledged} acknowledged last"
    );
}

// === Damaged copies ===

/// Damages a copy and says how. `harmless` damage is such as must be recovered from.
fn damage(data: &Path, random: &mut Random) -> (String, bool) {
    let snap = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("/snap."));
    let db = data.join("db");
    let kind = random.below(10);
    match (kind, snap) {
        (0 | 1, Some(snap)) => {
            let to = cut(&snap, random);
            (format!("snapshot cut to {to}"), true)
        }
        (2, Some(snap)) => {
            let named = data.join("snap.7FFFFFFFFFFFFFFF.generating");
            fs::copy(&snap, &named).unwrap();
            cut(&named, random);
            fs::remove_file(snap).unwrap();
            ("snapshot half written".to_owned(), true)
        }
        (3, Some(snap)) => {
            let at = overwrite(&snap, random, 64);
            (format!("snapshot overwritten at {at}"), true)
        }
        (4, _) => {
            let at = overwrite(&data.join("head"), random, 64);
            (format!("head overwritten at {at}"), false)
        }
        (5 | 6, _) => {
            let to = cut(&db, random);
            (format!("db cut to {to}"), false)
        }
        _ => {
            let at = overwrite(&db, random, 4096);
            (format!("db overwritten at {at}"), false)
        }
    }
}

fn cut(file: &Path, random: &mut Random) -> u64 {
    let length = fs::metadata(file).unwrap().len();
    let to = random.below(length);
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(to).unwrap();
    to
}

fn overwrite(file: &Path, random: &mut Random, most: u64) -> u64 {
    let mut content = fs::read(file).unwrap();
    let at = random.below(content.len() as u64);
    let end = (at + 1 + random.below(most)).min(content.len() as u64);
    let noise = random.below(2) == 0;
    for n in at..end {
        let byte = if noise {
            random.next().to_le_bytes()[0]
        } else {
            0
        };
        content[usize::try_from(n).unwrap()] = byte;
    }
    fs::write(file, content).unwrap();
    at
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

#[test]
fn torture_of_a_copy_ends_whole_or_loud() {
    let seed = setting("TAMER_TORTURE_SEED", u64::from(std::process::id()));
    let copies = setting("TAMER_TORTURE_COPIES", 40);
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    drop(SledStore::create(&origin).unwrap());
    let mut acknowledged = 0;
    for _ in 0..3 {
        let writer = Writer::start(&origin);
        writer.opened();
        std::thread::sleep(Duration::from_millis(400));
        acknowledged = writer.kill().max(acknowledged);
    }
    assert!(acknowledged > 100, "the children hardly wrote");
    let (mut whole, mut loud) = (0, BTreeMap::<&str, u64>::new());
    for n in 0..copies {
        let at: PathBuf = dir.path().join(format!("copy-{n}"));
        copy(&origin, &at);
        let (how, harmless) = damage(&at.join("data"), &mut random);
        let about = format!("seed {seed}, copy {n}, {how}");
        let before = fs::read(at.join("data/db")).unwrap();
        match SledStore::open(&at, exe()) {
            Ok(store) => {
                assert_whole(&store, acknowledged, &about);
                whole += 1;
            }
            Err(StoreError::Unopenable { why, .. }) => {
                assert!(!harmless, "{about}: {why}");
                let left = fs::read(at.join("data/db")).unwrap();
                assert!(left == before, "{about}: the refused database was changed");
                let kinds = ["lost data", "damaged", "panicked", "crashed", "cannot"];
                let kind = kinds.iter().find(|kind| why.contains(**kind));
                *loud.entry(kind.unwrap_or(&"other")).or_default() += 1;
            }
            Err(other) => panic!("{about}: {other:?}"),
        }
        fs::remove_dir_all(&at).unwrap();
    }
    println!("{copies} damaged copies: {whole} whole, loud: {loud:?}");
    assert!(
        whole > 0 && !loud.is_empty(),
        "{copies} copies showed one side only"
    );
}
