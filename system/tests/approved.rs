//! Deployments that people have to approve: staged ahead, held until enough did, and gone back from without asking.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use tamer_system::{App, ENVIRONMENT, Fleet, until};

/// A key for approvals at this desk: its file, and what an environment file says of it.
fn key(fleet: &Fleet, name: &str) -> (String, String) {
    let path = fleet.desk(&format!("{name}.pem"));
    let path = path.to_str().unwrap();
    let said = fleet.json(&["attest", "key", "--key", path]);
    (path.to_owned(), said["key"].as_str().unwrap().to_owned())
}

/// How many bundles the controller keeps, of all releases.
fn kept(fleet: &Fleet) -> usize {
    let files = fs::read_dir(fleet.controller.data("trust/evidence")).unwrap();
    let texts = files.map(|it| fs::read_to_string(it.unwrap().path()).unwrap());
    texts.map(|text| text.lines().count()).sum()
}

/// Two hosts that run 1.0.0 in an environment where that many of `keys` must approve.
fn demand(fleet: &Fleet, more: &str, keys: &[(&str, &str)]) {
    let keys = keys.iter();
    let keys = keys.map(|(name, key)| format!("[approval.keys.{name}]\nkey = \"{key}\"\n"));
    let text = format!(
        "{ENVIRONMENT}[approval]\n{more}\n{}",
        keys.collect::<String>()
    );
    fleet.environment("production", &text);
}

#[test]
fn what_nobody_approved_is_staged_and_does_not_run_and_then_it_goes_on_by_itself() {
    let fleet = Fleet::that_runs(2);
    let (ben, carla, dave) = (
        key(&fleet, "ben"),
        key(&fleet, "carla"),
        key(&fleet, "dave"),
    );
    demand(
        &fleet,
        "needed = 2",
        &[("ben", &ben.1), ("carla", &carla.1)],
    );
    fleet.publish(&App::version("1.1.0"));
    fleet
        .deploy("1.1.0")
        .ends(8)
        .says(&["waits for approval: 0 of 2 approved", "tamer approve 2"]);
    let mut follower = fleet.begins(&["watch", "2"]);
    until("all hosts to have staged it", || {
        let status = fleet.json(&["status", "2"]);
        let rollout = &status["deployments"][0]["rollouts"][0];
        (rollout["staged"] == 2 && rollout["total"] == 2).then_some(())
    });
    fleet.all_run("1.0.0");
    // It is somebody's turn, and nobody else's.
    fleet.deploy("1.1.0").ends(4).says(&["is running since"]);
    let approve = |key: &str, more: &[&str]| {
        let words = ["approve", "2", "--key", key];
        fleet.tamer(&[&words[..], more].concat())
    };
    let shown = approve(&ben.0, &["--check"]).ends(0);
    shown.says(&[
        "shop 1.1.0 → production",
        "asked for by anna",
        "manifest ",
        "plan ",
    ]);
    approve(&dave.0, &[])
        .ends(3)
        .says(&["not among those that approve in production"]);
    fleet
        .tamer(&["approve", "1"])
        .ends(3)
        .says(&["nobody has to approve"]);
    fleet
        .tamer(&["approve", "7"])
        .ends(2)
        .says(&["no deployment 7"]);
    approve(&ben.0, &["--expires", "0s"]).ends(2);
    approve(&ben.0, &["--reason", "seen on staging"])
        .ends(0)
        .says(&["approved with key `ben`: 1 of 2 approved: ben until"]);
    // Once more is not twice.
    approve(&ben.0, &[]).ends(0).says(&["1 of 2 approved"]);
    fleet.tamer(&["status", "2"]).ends(0).says(&[
        "1 of 2 approved: ben until",
        "waits for approval",
        "tamer approve 2",
    ]);
    assert!(follower.is_running());
    fleet.all_run("1.0.0");
    approve(&carla.0, &[]).ends(0).says(&["2 of 2 approved"]);
    follower.end().ends(0);
    fleet.all_run("1.1.0");
    // Nobody is asked to go back.
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.0.0");
}

#[test]
fn an_approval_that_ended_before_anything_began_counts_no_more_and_who_asks_does_not_approve() {
    let fleet = Fleet::that_runs(1);
    let (anna, ben) = (key(&fleet, "anna"), key(&fleet, "ben"));
    let both = [("anna", anna.1.as_str()), ("ben", ben.1.as_str())];
    demand(&fleet, "needed = 2", &both);
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(8);
    let approve = |number: &str, key: &str, lasts: &str| {
        fleet.tamer(&["approve", number, "--key", key, "--expires", lasts])
    };
    approve("2", &anna.0, "1ms");
    until("the first approval to have ended", || {
        let status = fleet.json(&["status", "2"]);
        let by = &status["deployments"][0]["approval"]["by"];
        by.as_array().unwrap().is_empty().then_some(())
    });
    approve("2", &ben.0, "1h")
        .ends(0)
        .says(&["1 of 2 approved: ben"]);
    fleet.all_run("1.0.0");
    fleet.tamer(&["abort", "2"]).ends(0);
    let kept = kept(&fleet);
    approve("2", &anna.0, "1h")
        .ends(3)
        .says(&["deployment 2 is over"]);
    // Another deployment of the same release is another plan.
    demand(&fleet, "needed = 1\nfour_eyes = true", &both);
    fleet
        .deploy("1.1.0")
        .ends(8)
        .says(&["waits for approval: 0 of 1 approved"]);
    approve("3", &anna.0, "1h")
        .ends(3)
        .says(&["anna asked for deployment 3", "four_eyes"]);
    assert_eq!(kept, self::kept(&fleet), "what is refused has no place");
    fleet.all_run("1.0.0");
    let waits = fleet.begins(&["watch", "3"]);
    approve("3", &ben.0, "1h").ends(0);
    waits.end().ends(0);
    fleet.all_run("1.1.0");
}
