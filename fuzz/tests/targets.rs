//! The fuzz targets as ordinary tests: over their seeds, over the seeds damaged, and over what was found before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use tamer_fuzz::targets::{TARGETS, target};

/// So many times every seed is damaged.
const TIMES: usize = 6;

fn tried(name: &str) {
    let target = target(name).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    (target.run)(&[]);
    for seed in (target.seeds)() {
        (target.run)(&seed);
        for _ in 0..TIMES {
            let mut bytes = seed.clone();
            for _ in 0..=next(3) {
                if bytes.is_empty() {
                    break;
                }
                let at = next(bytes.len());
                match next(4) {
                    0 => bytes[at] = u8::try_from(next(256)).unwrap(),
                    1 => bytes[at] ^= 1 << next(8),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at),
                }
            }
            (target.run)(&bytes);
        }
    }
    // What the fuzzer found, and was mended.
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("found")
        .join(name);
    for entry in fs::read_dir(found).into_iter().flatten() {
        (target.run)(&fs::read(entry.unwrap().path()).unwrap());
    }
}

#[test]
fn metadata() {
    tried("metadata");
}

#[test]
fn manifest() {
    tried("manifest");
}

#[test]
fn index() {
    tried("index");
}

#[test]
fn archive() {
    tried("archive");
}

#[test]
fn tree() {
    tried("tree");
}

#[test]
fn patch() {
    tried("patch");
}

#[test]
fn tamer_toml() {
    tried("tamer-toml");
}

#[test]
fn environment() {
    tried("environment");
}

#[test]
fn evidence() {
    tried("evidence");
}

#[test]
fn every_target_is_run_here_and_by_the_script() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let script = fs::read_to_string(root.join("deploy-scripts/fuzz")).unwrap();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert!(script.contains(&format!("all=({})\n", names.join(" "))));
    let here = fs::read_to_string(root.join("fuzz/tests/targets.rs")).unwrap();
    for name in names {
        assert!(here.contains(&format!("tried(\"{name}\")")), "{name}");
    }
}
