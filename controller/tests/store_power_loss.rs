//! The lights go out while the store commits: every state that a file system may legally leave then is
//! made, and opens with everything that was acknowledged, whole.
//!
//! The program that commits is this one, started again with `TAMER_POWER_DIR`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod revisions;

use revisions::{assert_whole, batch, exe};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tamer_controller::store::Store;
use tamer_controller::store::sled::SledStore;
use tamer_system::crash::{States, can_record, look_at, record};

/// How many states are tried; `TAMER_TEST_STATES` tries more.
const STATES: usize = 100;

/// How many revisions are committed.
const COMMITS: u64 = 14;

/// How many are under way at once.
const AHEAD: usize = 3;

#[test]
fn child() {
    let Some(dir) = std::env::var_os("TAMER_POWER_DIR") else {
        return; // In an ordinary run there is no child's work to do.
    };
    let dir = Path::new(&dir);
    let store = SledStore::open(&dir.join("store"), exe()).unwrap();
    let mut told = File::options().append(true).open(dir.join("told")).unwrap();
    let mut waiting = VecDeque::new();
    let first = store.revision() + 1;
    for n in first..first + COMMITS {
        waiting.push_back(store.submit(n - 1, batch(n)));
        if waiting.len() == AHEAD {
            let revision = waiting.pop_front().unwrap().wait().unwrap();
            writeln!(told, "{revision}").unwrap();
        }
    }
    for ticket in waiting {
        writeln!(told, "{}", ticket.wait().unwrap()).unwrap();
    }
}

#[test]
fn torture_by_power_loss_loses_nothing_acknowledged() {
    if !can_record() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let before = dir.path().join("before");
    fs::create_dir(&before).unwrap();
    File::create(before.join("told")).unwrap();
    let store = SledStore::create(&before.join("store")).unwrap();
    // In the middle of a life, with something big soon.
    for n in 1..80 {
        store.submit(n - 1, batch(n)).wait().unwrap();
    }
    drop(store);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child"])
        .env("TAMER_POWER_DIR", &before);
    // What somebody was told cannot be taken back.
    let recording = record(&command, &before, |path| path == Path::new("told"));
    let states = States::of(&recording, 20_261_126);
    let place = dir.path().join("after");
    look_at("the store", &states, &[], STATES, |disk, what| {
        disk.write(&place);
        let told = fs::read_to_string(place.join("told")).unwrap();
        let told = told.lines().last().map_or(79, |n| n.parse().unwrap());
        let store = SledStore::open(&place.join("store"), exe()).unwrap();
        let revision = assert_whole(&store, told, what);
        store.submit(revision, batch(revision + 1)).wait().unwrap();
        assert_whole(&store, revision + 1, what);
        drop(store);
        fs::remove_dir_all(&place).unwrap();
    });
}
