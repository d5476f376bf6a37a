//! The recorder of what a power cut may leave, tried on writers that are known to be careless or careful.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use tamer_system::crash::{States, can_record, record};

/// What may stand in the file `x` after a power cut, if a shell does this to it; it holds `old` before.
fn may_read(script: &str) -> Option<BTreeSet<Option<String>>> {
    if !can_record() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let before = dir.path().join("before");
    fs::create_dir(&before).unwrap();
    fs::write(before.join("x"), "old").unwrap();
    let mut command = Command::new("sh");
    command.args(["-euc", &format!("cd {}\n{script}", before.display())]);
    let recording = record(&command, &before, |_| false);
    assert_eq!(fs::read_to_string(before.join("x")).unwrap(), "new!");
    let states = States::of(&recording, 1);
    let mut found = BTreeSet::new();
    for (n, state) in states.sample(usize::MAX).enumerate() {
        let after = dir.path().join(n.to_string());
        states.disk(state).write(&after);
        found.insert(fs::read_to_string(after.join("x")).ok());
    }
    Some(found)
}

fn texts(texts: &[&str]) -> BTreeSet<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

#[test]
fn a_file_that_is_overwritten_may_be_anything_between() {
    let Some(found) = may_read("printf 'new!' > x") else {
        return;
    };
    // Cut to nothing; not cut, and written over; half of either.
    assert_eq!(found, texts(&["old", "", "new!", "ne", "ned"]));
}

#[test]
fn a_rename_without_a_sync_may_lead_to_an_empty_file() {
    let absolute = |script: &str| script.replace("@", "$PWD/");
    let script = absolute("printf 'new!' > x.new\nmv @x.new @x");
    let Some(found) = may_read(&script) else {
        return;
    };
    assert_eq!(found, texts(&["old", "", "new!", "ne"]));
}

#[test]
fn a_rename_of_what_was_synced_leads_to_the_old_or_the_new() {
    let Some(found) = may_read("printf 'new!' > x.new\nsync $PWD/x.new\nmv $PWD/x.new $PWD/x")
    else {
        return;
    };
    assert_eq!(found, texts(&["old", "new!"]));
}
