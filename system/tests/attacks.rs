//! The table of attacks in docs/security.md names tests: each of them is there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const CRATES: [&str; 9] = [
    "agent",
    "cli",
    "controller",
    "core",
    "fuzz",
    "kit",
    "proto",
    "release",
    "system",
];

/// All that Rust files below a folder hold.
fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|it| it == "rs") {
            *all += &fs::read_to_string(&path).unwrap();
        }
    }
}

/// The names of tests in the last column of each row: words in backticks with an underscore, without their modules.
fn named(page: &str) -> BTreeSet<&str> {
    let (_, tables) = page.split_once("\n## Attacks, and the test").unwrap();
    let rows = tables.lines().filter(|line| line.starts_with("| "));
    let last = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    let quoted = last.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted
        .filter_map(|name| name.rsplit("::").next())
        .filter(|name| {
            name.contains('_')
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect()
}

#[test]
fn every_test_that_holds_an_attack_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named = named(&page);
    assert!(named.len() >= 40, "the tables were not found: {named:?}");
    let mut all = String::new();
    for name in CRATES {
        for part in ["src", "tests"] {
            let folder = root.join(name).join(part);
            if folder.is_dir() {
                sources(&folder, &mut all);
            }
        }
    }
    let missing: Vec<_> = named
        .into_iter()
        .filter(|name| !all.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
