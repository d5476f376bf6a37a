//! The controller's disk is lost: a backup is put in place, and the fleet goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, until};

#[test]
fn starts_held_after_a_restore_and_goes_on_when_it_is_let() {
    let mut fleet = Fleet::that_runs(2);
    let token = fleet.invite(&[]);
    fleet.controller.daemon.stop();
    let log = fleet.controller.daemon.log();
    assert!(
        !log.contains("closing what is still open"),
        "agents leave by themselves"
    );
    let said = fleet.controller.types(&["backup"]).ends(0);
    let backup = said.out.trim().to_owned();
    fleet.controller.start();
    fleet.all_connected();
    // What happens from here on is lost with the disk.
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(0);
    fleet.controller.daemon.kill();
    fleet
        .controller
        .types(&["restore", &backup, "--reason", "the disk broke"])
        .ends(0)
        .says(&["held"]);
    fleet.controller.start();
    fleet.all_connected();
    // It knows what really runs, for the hosts have said so, and sends nothing to change it.
    fleet.component_says(1, "/running", "1.1.0");
    fleet
        .tamer(&["whoami"])
        .ends(0)
        .says(&["until an operator lets it go on"]);
    for words in [
        &["deploy", "production", "1.0.0"][..],
        &["rollback", "production"],
    ] {
        fleet
            .tamer(words)
            .ends(4)
            .says(&["restored from a backup", "held"]);
    }
    // It may have been used after the backup: nobody knows.
    let stranger = fleet.stranger("web-9", &HostOptions::default());
    stranger.enroll(&token).ends(1).says(&["not known here"]);
    fleet.all_run("1.1.0");

    fleet.controller.daemon.stop();
    fleet
        .controller
        .types(&["unhold", "--reason", "looked at it"])
        .ends(0);
    fleet.controller.start();
    fleet.all_connected();
    // It wants what it knows of no more than anybody asks for, and says so.
    fleet
        .tamer(&["hosts"])
        .ends(0)
        .says(&["wants 1.0.0: 1.1.0 run on web-1, web-2", "keeps what runs"]);
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
    stranger.enroll(&token).ends(1);
    stranger.enroll(&fleet.invite(&[])).ends(0);
    let log = std::fs::read_to_string(fleet.controller.data("audit.log")).unwrap();
    assert!(log.contains("the disk broke") && log.contains("looked at it"));
    fleet.controller.daemon.stop();
    fleet.controller.types(&["audit", "verify"]).ends(0);
}

/// Every start of a host's component, in order.
fn starts(fleet: &Fleet, host: usize) -> String {
    fleet.host(host).shared("starts").unwrap_or_default()
}

fn version(version: &str) -> App {
    App::version(version).and_then("echo \"$TAMER_VERSION\" >> \"$TAMER_SHARED/run/starts\"")
}

fn epoch(said: &str) -> u64 {
    let at = said.split("in epoch ").nth(1).unwrap();
    at.lines().next().unwrap().parse().unwrap()
}

#[test]
fn a_lost_controller_comes_back_from_a_copy_and_downgrades_nobody() {
    let mut fleet = Fleet::new(ENVIRONMENT);
    for name in ["web-1", "web-2", "web-3"] {
        fleet.add(name, &HostOptions::default());
    }
    fleet.publish(&version("1.0.0"));
    fleet.all_connected();
    fleet.deploy("1.0.0").ends(0);
    let token = fleet.invite(&[]);
    fleet.controller.daemon.stop();
    fleet.controller.types(&["backup"]).ends(0);
    fleet.controller.start();
    fleet.all_connected();

    // What the backup of the store does not know: a version, a deployment, a host that is out, one that is new.
    fleet.publish(&version("1.1.0"));
    fleet.deploy("1.1.0").ends(0);
    fleet.tamer(&["host", "remove", "web-3"]).ends(0);
    fleet.add("web-4", &HostOptions::default());
    fleet.host_is(4, "connected");
    fleet.host(4).will_run("1.1.0");
    let copy = fleet.controller.lose();
    let copy = copy.to_str().unwrap();

    let said = fleet.controller.types(&["restore", "--from", copy]).ends(0);
    let first = epoch(&said.out);
    fleet
        .controller
        .types(&["restore", "--from", copy])
        .ends(2)
        .says(&["there is a controller", "--force"]);
    fleet.controller.start();
    for host in [1, 2] {
        fleet.host_is(host, "connected");
        fleet.component_says(host, "/running", "1.1.0");
    }
    until("web-4 to be named", || {
        let notes = fleet.tamer(&["hosts"]).ends(0).all();
        let named = notes.contains("web-4 joined production after the backup");
        (named && notes.contains("tamer-controller unhold")).then_some(())
    });
    fleet.host_is(3, "removed");
    let stranger = fleet.stranger("web-5", &HostOptions::default());
    stranger.enroll(&token).ends(1).says(&["not known here"]);

    fleet.controller.daemon.stop();
    fleet.controller.types(&["unhold"]).ends(0);
    fleet.controller.start();
    for host in [1, 2] {
        fleet.host_is(host, "connected");
        fleet.component_says(host, "/state", "settled");
    }
    fleet
        .tamer(&["status", "production"])
        .ends(0)
        .says(&["tamer deploy production web@1.1.0 --application shop keeps what runs"]);
    fleet
        .tamer(&["rollback", "production"])
        .ends(3)
        .says(&["does not know what ran before"]);
    fleet.host_is(3, "removed");
    fleet.host_mut(3).daemon.logs("has been revoked");
    stranger.enroll(&token).ends(1);
    // The version is one that the restored store has never heard of; its releases are from the mirror.
    fleet.tamer(&["deploy", "production", "web@1.1.0"]).ends(0);
    fleet.add("web-6", &HostOptions::default());
    fleet.host(5).will_run("1.1.0");
    for host in [1, 2] {
        assert_eq!(
            starts(&fleet, host),
            "1.0.0\n1.1.0\n",
            "nobody was downgraded"
        );
    }
    let again = fleet.invite(&[]);
    fleet.host_mut(4).daemon.stop();
    let again = fleet.host(4).enroll_with(&again, &["--force"]);
    again.ends(0);
    fleet.host_mut(4).start();
    fleet.host_is(4, "connected");

    // The same copy once more: it knows nothing of the first restore, and is above it all the same.
    fleet.controller.daemon.kill();
    let said = fleet
        .controller
        .types(&["restore", "--from", copy, "--force"])
        .ends(0)
        .says(&["set the controller that was there aside"]);
    assert!(epoch(&said.out) > first, "{said:?}");
    fleet.controller.start();
    for host in [1, 2] {
        fleet.host_is(host, "connected");
    }
    fleet.host_is(3, "removed");
    fleet.controller.daemon.stop();
    fleet.controller.types(&["audit", "verify"]).ends(0);
    fleet.controller.types(&["check"]).ends(0).says(&["mirror"]);
}

#[test]
fn restores_the_newest_automatic_backup() {
    let mut fleet = Fleet::that_runs(1);
    // One was made when the controller started for the first time: nothing was there but the admin.
    fleet.controller.daemon.kill();
    let checked = fleet.controller.types(&["check"]).ends(0);
    assert!(checked.out.contains("newest whole one"), "{checked:?}");
    fleet.controller.types(&["restore"]).ends(0).says(&["held"]);
    fleet.controller.start();
    // The store of before is set aside, never deleted; and the host goes on running what it runs.
    fleet.all_run("1.0.0");
}
