//! The audit log: who did what, who was kept from it, and that nobody takes a line out of it unseen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::fs;
use tamer_system::{ENVIRONMENT, Fleet, HostOptions, Said, until};

/// All entries, in order, as a person's machine gets and verifies them.
fn entries(fleet: &Fleet) -> Vec<Value> {
    let said = fleet
        .tamer(&["audit", "--limit", "0", "--output", "json"])
        .ends(0);
    let lines = said.out.lines();
    lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["entry"].clone())
        .collect()
}

fn refused(entry: &Value) -> &str {
    entry["result"]["refused"].as_str().unwrap_or_default()
}

#[test]
fn the_log_says_who_did_what_from_where_and_who_was_kept_from_it() {
    let mut fleet = Fleet::new(ENVIRONMENT);
    fleet.publish(&tamer_system::App::version("1.0.0"));
    let token = fleet.invite(&[]);
    let first = fleet.stranger("web-9", &HostOptions::default());
    first.enroll(&token).ends(0);
    let second = fleet.stranger("web-8", &HostOptions::default());
    second.enroll(&token).ends(1);
    fleet.add("web-1", &HostOptions::default());
    fleet.host_is(1, "connected");
    let vera = fleet.operator("vera", "viewer");
    let deploy = |version: &str, more: &[&str]| -> Said {
        let words = ["deploy", "production", version, "--reason", "it is due"];
        fleet.tamer(&[&words[..], more].concat())
    };
    deploy("1.0.0", &["--home", &vera]).ends(3);
    deploy("9.9.9", &[]).ends(2);
    fleet
        .tamer(&["host", "remove", "web-9", "--reason", "a test"])
        .ends(0);
    deploy("1.0.0", &[]).ends(0);
    // Whoever may not deploy reads none of it.
    fleet.tamer(&["audit", "--home", &vera]).ends(3);

    let all = entries(&fleet);
    let find = |what: &dyn Fn(&&Value) -> bool| all.iter().find(what).cloned().unwrap();
    let ip = fleet.controller.address().ip();
    assert!(ip.is_loopback());
    let begun = find(&|it| it["action"] == "deploy" && it["result"] == "done");
    assert_eq!(begun["who"], "anna");
    assert_eq!(begun["role"], "admin");
    assert!(begun["source"].as_str().unwrap().starts_with("127."));
    assert_eq!(begun["object"], "production shop@1.0.0");
    assert_eq!(begun["reason"], "it is due");
    assert_eq!(begun["request"]["call"], "Deploy");
    assert_eq!(begun["request"]["digest"].as_str().unwrap().len(), 64);
    assert_eq!(begun["plan"].as_str().unwrap().len(), 64);
    let viewer = find(&|it| it["who"] == "vera" && it["action"] == "deploy");
    assert_eq!(viewer["role"], "viewer");
    assert!(
        refused(&viewer).contains("takes the role deployer"),
        "{viewer}"
    );
    let unknown = find(&|it| it["who"] == "anna" && refused(it).contains("9.9.9"));
    assert_eq!(unknown["object"], "production@9.9.9");
    let used = find(&|it| it["who"] == "a stranger" && it["action"] == "join");
    assert!(refused(&used).contains("has been used"), "{used}");
    assert_eq!(used["object"], "host web-8");
    assert!(used["source"].as_str().unwrap().starts_with("127."));
    let removed = find(&|it| it["action"] == "host.remove");
    assert_eq!(removed["request"]["call"], "RemoveHost");
    // The token itself stands nowhere. It may have a `-` anywhere.
    let secret = token.strip_prefix("tamer-join-").unwrap();
    assert!(!format!("{all:?}").contains(secret));

    // For people it is a line each; and each new one at once.
    fleet
        .tamer(&["audit"])
        .ends(0)
        .says(&["vera (viewer) from 127.", "REFUSED", "anna (admin)"]);
    let follows = fleet.begins(&["audit", "--follow", "--limit", "1"]);
    until("the last entry", || {
        follows.so_far().contains("deploy").then_some(())
    });
    fleet.operator("otto", "deployer");
    until("the invitation", || {
        follows.so_far().contains("operator otto").then_some(())
    });
    follows.interrupt();
    follows.end().ends(0);
}

#[test]
fn whoever_is_refused_again_and_again_does_not_fill_the_log() {
    let fleet = Fleet::new(ENVIRONMENT);
    let vera = fleet.operator("vera", "viewer");
    for _ in 0..25 {
        fleet
            .tamer(&["deploy", "production", "1.0.0", "--home", &vera])
            .ends(3);
    }
    let strange = fleet.stranger("web-1", &HostOptions::default());
    let token = fleet.invite(&[]);
    fleet
        .stranger("web-2", &HostOptions::default())
        .enroll(&token)
        .ends(0);
    for _ in 0..25 {
        strange.enroll(&token).ends(1);
    }
    let all = entries(&fleet);
    let of = |who: &str| all.iter().filter(|it| it["who"] == who).count();
    assert_eq!(of("a stranger"), 20);
    let kept_out = all
        .iter()
        .filter(|it| it["who"] == "vera" && !refused(it).is_empty());
    assert_eq!(kept_out.count(), 20);
}

#[test]
fn a_controller_that_cuts_or_rewrites_its_log_is_found_out_by_who_looked_before() {
    let mut fleet = Fleet::new(ENVIRONMENT);
    fleet.tamer(&["operator", "invite", "otto"]).ends(0);
    let said = fleet.tamer(&["audit", "head"]).ends(0);
    let head = said.out.trim().to_owned();
    fleet
        .tamer(&["audit", "verify", "--head", &head])
        .ends(0)
        .says(&["every link holds", &head]);
    let copy = fleet.desk("copy");
    let raw = fleet
        .tamer(&["audit", "--limit", "0", "--output", "json"])
        .ends(0);
    fs::write(&copy, &raw.out).unwrap();
    let copy = copy.to_str().unwrap();
    fleet
        .tamer(&["audit", "verify", copy, "--head", &head])
        .ends(0);

    // The last line is gone, and another one stands in its place: the chain is whole in itself.
    let log = fleet.controller.data("audit.log");
    let honest = fs::read_to_string(&log).unwrap();
    assert_eq!(honest, raw.out, "the copy is the log as it stands");
    let kept: Vec<&str> = honest.lines().collect();
    let cut = kept[..kept.len() - 1].join("\n") + "\n";
    fleet.controller.daemon.kill();
    fs::write(&log, &cut).unwrap();
    fleet.controller.start();
    for words in [&["audit", "verify"][..], &["audit", "head"], &["audit"]] {
        fleet
            .tamer(words)
            .ends(3)
            .says(&["audit log", &format!("line {}", kept.len())]);
    }
    fleet.tamer(&["operator", "invite", "ida"]).ends(0);
    fleet.controller.types(&["audit", "verify"]).ends(0);
    fleet
        .tamer(&["audit", "verify"])
        .ends(3)
        .says(&["rewritten", &format!("line {}", kept.len())]);
    // Nor does a changed line get past anybody, whether they have looked before or not.
    fleet.controller.daemon.kill();
    fs::write(&log, honest.replacen("anna", "mary", 1)).unwrap();
    fleet.controller.start();
    let line = honest.lines().position(|line| line.contains("anna"));
    let line = format!("line {}:", line.unwrap() + 1);
    fleet.tamer(&["audit", "verify"]).ends(3).says(&[&line]);
    fleet.controller.types(&["audit", "verify"]).says(&[&line]);
}
