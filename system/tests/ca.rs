//! The controller's CA is rotated: nothing stops for it, and after its end the old one is good for nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;
use tamer_system::{App, Fleet, HostOptions, until};

/// Waits in the `start` hook until somebody puts `go` on the host.
const WAITS: &str = "[ -e \"$TAMER_SHARED/run/go\" ] || exit 75";

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Who has not come over, as `host web-1, operator anna`.
fn behind(fleet: &Fleet) -> String {
    let status = fleet.json(&["ca", "status"]);
    let rows = status["behind"].as_array().unwrap().iter();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = rows.map(|row| format!("{} {}", text(row, "kind"), text(row, "name")));
    rows.collect::<Vec<_>>().join(", ")
}

fn phase(fleet: &Fleet) -> String {
    let status = fleet.json(&["ca", "status"]);
    status["phase"].as_str().unwrap().to_owned()
}

/// The certificates of CAs that this file holds.
fn authorities(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let all = text.split(CERTIFICATE).skip(1);
    all.map(|it| it.trim().to_owned()).collect()
}

fn trusted_by(fleet: &Fleet, host: usize) -> Vec<String> {
    authorities(&fleet.host(host).dir().join("state/identity/ca.pem"))
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

fn at(fleet: &Fleet, home: &str, words: &[&str]) -> tamer_system::Said {
    fleet.tamer(&[&["--home", home], words].concat())
}

#[test]
fn the_ca_is_rotated_while_a_rollout_runs_and_both_sides_start_anew() {
    let mut fleet = Fleet::that_runs(2);
    fleet.add_labelled("db-1", &["role=db"], &HostOptions::default());
    fleet.host_is(3, "connected");
    let ben = fleet.operator("ben", "viewer");
    // Away for most of it; and whoever has a copy of its disk has a good key of the old CA.
    fleet.host_mut(3).daemon.stop();
    let identity = fleet.host(3).dir().join("state/identity");
    let stolen = fleet.desk("stolen");
    copy(&identity, &stolen);
    let early = fleet.invite(&[]);
    let first = authorities(&fleet.controller.data("ca/ca.pem"));

    fleet.publish(&App::version("1.1.0").and_then(WAITS));
    let watching = fleet.begins(&["deploy", "production", "1.1.0"]);
    fleet.component_says(1, "/state", "working: start");
    fleet
        .tamer(&["ca", "finish"])
        .ends(3)
        .says(&["`tamer ca rotate`"]);
    fleet
        .tamer(&["ca", "rotate", "--reason", "the yearly one"])
        .ends(0)
        .says(&["the old one vouches for the controller", "host db-1"]);
    fleet
        .tamer(&["ca", "rotate"])
        .ends(3)
        .says(&["under way since"]);
    // Both sides die in the middle of it.
    fleet.controller.daemon.kill();
    fleet.host_mut(2).daemon.kill();
    fleet.controller.start();
    fleet.host_mut(2).start();
    until("the hosts that are there to come over", || {
        (behind(&fleet) == "host db-1, operator ben").then_some(())
    });
    assert_eq!(phase(&fleet), "begun");
    let both = authorities(&fleet.controller.data("ca/next.pem"));
    let both = [both, first.clone()].concat();
    assert_eq!(trusted_by(&fleet, 1), both);
    assert_eq!(trusted_by(&fleet, 2), both);
    fleet
        .tamer(&["ca", "finish"])
        .ends(3)
        .says(&["host db-1", "operator ben", "--lock-out"]);
    // The rollout has lost nothing by it.
    fleet.host(1).share("go");
    fleet.host(2).share("go");
    watching.end().ends(0);
    assert_eq!(fleet.host(1).runs().as_deref(), Some("1.1.0"));
    assert_eq!(fleet.host(2).runs().as_deref(), Some("1.1.0"));

    // A token from before is good for as long as the old CA vouches for the controller.
    let late = fleet.stranger("web-8", &HostOptions::default());
    late.enroll(&early).ends(0);
    assert_eq!(authorities(&late.dir().join("state/identity/ca.pem")), both);
    let early = fleet.invite(&[]);
    at(&fleet, &ben, &["whoami"]).ends(0);
    assert_eq!(behind(&fleet), "host db-1");
    fleet.host_mut(3).start();
    until("the new CA to vouch for the controller", || {
        (phase(&fleet) == "shown").then_some(())
    });
    assert!(!fleet.controller.data("ca/next-key.pem").exists());
    // Whoever is connected stays so, and whoever starts anew finds it.
    fleet.host_mut(1).daemon.kill();
    fleet.host_mut(1).start();
    fleet.all_connected_but(&["web-8"]);
    let other = fleet.stranger("web-9", &HostOptions::default());
    other
        .enroll(&early)
        .ends(1)
        .says(&["another CA than the token pins", "tamer host invite"]);
    other.enroll(&fleet.invite(&[])).ends(0);

    fleet
        .tamer(&["ca", "finish", "--reason", "all are over"])
        .ends(0)
        .says(&["No rotation of the CA is under way"]);
    let second = authorities(&fleet.controller.data("ca/ca.pem"));
    assert!(second.len() == 1 && second != first);
    for host in [1, 2, 3] {
        until("the old CA to be forgotten", || {
            (trusted_by(&fleet, host) == second).then_some(())
        });
    }
    at(&fleet, &ben, &["whoami"]).ends(0);
    // With the disk of before the rotation nobody comes in, and its owner is told the way.
    fleet.host_mut(3).daemon.stop();
    fs::remove_dir_all(&identity).unwrap();
    copy(&stolen, &identity);
    fleet.host_mut(3).start();
    fleet
        .host_mut(3)
        .daemon
        .logs("tamer host invite --replace db-1");
    fleet.host_is(3, "away");
    fleet
        .tamer(&["audit"])
        .ends(0)
        .says(&["ca.rotate", "ca.show", "ca.finish", "the yearly one"]);
    fleet.controller.daemon.stop();
    fleet
        .controller
        .types(&["check"])
        .ends(0)
        .says(&["fingerprint"]);
}

#[test]
fn who_does_not_come_over_is_locked_out_and_comes_back_with_an_invitation() {
    let mut fleet = Fleet::with_hosts(2);
    let ben = fleet.operator("ben", "viewer");
    let ruth = fleet.operator("ruth", "admin");
    fleet.host_mut(2).daemon.stop();
    fleet.tamer(&["ca", "rotate"]).ends(0);
    // Not even herself: nobody would be left to let her in again.
    let ends = ["ca", "finish", "--lock-out", "--reason", "at once"];
    at(&fleet, &ruth, &ends)
        .ends(3)
        .says(&["lock yourself out"]);
    at(&fleet, &ruth, &["whoami"]).ends(0);
    until("web-1 and anna to come over", || {
        (behind(&fleet) == "host web-2, operator ben").then_some(())
    });
    fleet
        .tamer(&["ca", "finish", "--lock-out"])
        .ends(2)
        .says(&["--reason"]);
    fleet
        .tamer(&[
            "ca",
            "finish",
            "--lock-out",
            "--reason",
            "the key was stolen",
        ])
        .ends(0)
        .says(&["host web-2", "tamer host invite"]);
    fleet
        .tamer(&["audit"])
        .ends(0)
        .says(&["locks out host web-2, operator ben"]);
    at(&fleet, &ben, &["whoami"]).ends(3).says(&["another CA"]);
    fleet.host_mut(2).start();
    fleet
        .host_mut(2)
        .daemon
        .logs("tamer host invite --replace web-2");
    fleet.host_mut(2).daemon.stop();
    let token = fleet.invite(&["--replace", "web-2"]);
    fleet.host(2).enroll_with(&token, &["--force"]).ends(0);
    fleet.host_mut(2).start();
    fleet.all_connected();
    assert_eq!(behind(&fleet), "operator ben");
}

#[test]
fn a_controller_that_is_lost_in_the_middle_of_a_rotation_comes_back_with_both_cas() {
    let mut fleet = Fleet::with_hosts(1);
    // The backup of the store knows nothing of a rotation, the mirror all.
    fleet.controller.daemon.stop();
    fleet.controller.types(&["backup"]).ends(0);
    fleet.controller.start();
    fleet.all_connected();
    // Certificates are dated to the second, and of one that is not younger than its host nobody knows that it is newer.
    let second = || UNIX_EPOCH.elapsed().unwrap().as_secs();
    let joined = second();
    until("the next second", || (second() > joined).then_some(()));
    fleet.tamer(&["ca", "rotate"]).ends(0);
    until("everybody to come over", || {
        (phase(&fleet) == "shown").then_some(())
    });
    let copy = fleet.controller.lose();
    let copy = copy.to_str().unwrap();
    fleet.controller.types(&["restore", "--from", copy]).ends(0);
    fleet.controller.start();
    fleet.all_connected();
    assert_eq!(phase(&fleet), "shown");
    fleet.controller.daemon.stop();
    fleet.controller.types(&["unhold"]).ends(0);
    fleet.controller.start();
    fleet.all_connected();
    until("everybody to be seen", || {
        behind(&fleet).is_empty().then_some(())
    });
    fleet.tamer(&["ca", "finish"]).ends(0);
    // Another rotation, for good measure: the mirror is still this controller's.
    fleet.tamer(&["ca", "rotate"]).ends(0);
    fleet.controller.daemon.stop();
    fleet
        .controller
        .types(&["check"])
        .ends(0)
        .says(&["a rotation is under way"]);
}
