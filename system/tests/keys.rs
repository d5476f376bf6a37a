//! The team's keys change hands while servers run; and two people publish at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use tamer_system::{App, Fleet};

/// The versions that can be deployed.
fn published(fleet: &Fleet) -> Vec<String> {
    let releases = fleet.json(&["releases"]);
    let rows = releases["versions"].as_array().unwrap().iter();
    let mut all: Vec<_> = rows
        .map(|row| row["version"].as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all
}

#[test]
fn two_who_publish_at_once_lose_nothing() {
    let fleet = Fleet::that_runs(1);
    // Another person's machine.
    let (here, there) = (fleet.desk("home"), fleet.desk("there"));
    let copied = Command::new("cp").arg("-a").args([&here, &there]).status();
    assert!(copied.unwrap().success());
    let there = there.to_str().unwrap();
    let mut expected = published(&fleet);
    for round in 1..=6 {
        let (mine, yours) = (format!("2.{round}.0"), format!("2.{round}.1"));
        let one = fleet.begins(&["publish", &mine]);
        let two = fleet.begins(&["publish", &yours, "--home", there]);
        one.end().ends(0);
        two.end().ends(0);
        expected.extend([mine, yours]);
    }
    expected.sort();
    assert_eq!(published(&fleet), expected);
    fleet.deploy("2.6.1").ends(0);
}

#[test]
fn the_key_of_one_application_publishes_no_other() {
    let fleet = Fleet::that_runs(1);
    let bank = App::version("1.0.0").of("bank");
    fleet.publish(&bank);
    // CI of the shop has a login and one key, which the team lets publish the shop.
    let ci = fleet.desk("ci");
    fs::create_dir_all(&ci).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(fleet.desk("home/."))
        .arg(&ci)
        .status();
    assert!(copied.unwrap().success());
    fs::remove_dir_all(ci.join("keys")).unwrap();
    let ci = ci.to_str().unwrap();
    fleet
        .tamer(&["trust", "key", "release", "--home", ci])
        .ends(0);
    let public = format!("{ci}/keys/release.pub");
    let adds = [
        "trust",
        "add-key",
        "release",
        &public,
        "--repository",
        "app/shop",
    ];
    fleet.tamer(&adds).ends(0);

    App::version("1.1.0").write(&fleet.desk("shop"));
    fleet.tamer(&["publish", "1.1.0", "--home", ci]).ends(0);
    App::version("1.1.0").of("bank").write(&fleet.desk("shop"));
    let refused = fleet.tamer(&["publish", "1.1.0", "--home", ci]);
    refused.ends(8).says(&["app/bank targets: 1 more"]);
    let releases = fleet.json(&["releases", "bank"]);
    assert_eq!(
        releases["versions"].as_array().unwrap().len(),
        1,
        "{releases}"
    );
    fleet
        .tamer(&["deploy", "production", "1.1.0", "--application", "shop"])
        .ends(0);
    fleet.all_run("1.1.0");
}

#[test]
fn servers_follow_when_every_key_changes() {
    let mut fleet = Fleet::that_runs(2);
    // One server is away for all of it.
    fleet.host_mut(2).daemon.kill();
    fleet.tamer(&["trust", "rotate", "release"]).ends(0);
    fleet.publish(&App::version("1.1.0"));
    fleet
        .tamer(&["trust", "rotate", "root"])
        .ends(0)
        .says(&["✓ team: version 2"]);
    fleet.tamer(&["trust", "rotate", "environment"]).ends(0);

    let key = fleet.controller.data("online/snapshot.pem");
    let before = std::fs::read(&key).unwrap();
    let running = fleet.controller.types(&["rotate-online-keys"]).ends(1);
    running.says(&["must be stopped"]);
    assert_eq!(std::fs::read(&key).unwrap(), before);
    fleet.controller.daemon.kill();
    fleet.controller.types(&["rotate-online-keys"]).ends(0);
    fleet.controller.start();
    fleet.tamer(&["trust", "rotate", "online"]).ends(0);
    // Nothing names the keys that went out any more, so they can change again; but not twice in a row.
    fleet.controller.daemon.kill();
    fleet.controller.types(&["rotate-online-keys"]).ends(0);
    let refused = fleet.controller.types(&["rotate-online-keys"]).ends(2);
    refused.says(&["app/shop", "tamer trust rotate online"]);
    fleet.controller.start();
    fleet.tamer(&["trust", "rotate", "online"]).ends(0);

    let status = fleet.tamer(&["trust", "status"]).ends(0);
    status.says(&["app/shop", "version 2", "1 of 1"]);
    let text = fleet.tamer(&["releases"]).ends(0).all();
    assert!(text.contains("1.1.0"), "{text}");
    fleet.host_mut(2).start();
    fleet.all_connected();
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}
