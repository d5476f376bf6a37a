//! Every hostile release is refused for its own reason; nothing is written outside, and nothing is left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use tamer_fuzz::corpus::{Hostile, corpus, held};
use tamer_fuzz::made::{large, small};
use tamer_fuzz::site::Site;
use tamer_release::unpack::unpack;
use tamer_release::verify_tree;

#[test]
fn every_hostile_release_is_refused_for_its_own_reason_and_leaves_nothing() {
    // As the script writes them, and read from there again.
    let dir = tempfile::tempdir().unwrap();
    for hostile in corpus() {
        hostile.write(dir.path()).unwrap();
    }
    let site = Site::new();
    let mut wrong = Vec::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let hostile = Hostile::read(&entry.unwrap().path()).unwrap();
        let (name, says) = (&hostile.name, &hostile.says);
        match hostile.refusal(&site.releases()).unwrap() {
            Some(said) if said.contains(says.as_str()) => {}
            Some(said) => wrong.push(format!("{name}: `{says}` is not in `{said}`")),
            None => {
                wrong.push(format!("{name}: was taken"));
                site.remove("r");
            }
        }
        site.check(&[]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_has_a_name_of_its_own_and_is_the_same_every_time() {
    let (one, two) = (corpus(), corpus());
    let names: BTreeSet<&str> = one.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names.len(), one.len());
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one.manifest, two.manifest, "{}", one.name);
        assert_eq!(one.archive, two.archive, "{}", one.name);
    }
}

/// Otherwise all would be refused for what they have in common.
#[test]
fn what_they_are_made_from_is_taken() {
    let site = Site::new();
    for mut made in [small(), large()] {
        for _ in 0..2 {
            let archive = held(&made.archive).unwrap();
            let at = unpack(&archive, &made.manifest, &site.releases(), "r", None).unwrap();
            assert_eq!(verify_tree::verify(&at, &made.manifest).unwrap(), []);
            site.check(&["r"]);
            site.remove("r");
            made.one_frame();
        }
    }
}
