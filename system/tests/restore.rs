//! The controller's disk is lost: a backup is put in place, and the fleet goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tamer_system::{App, Fleet, HostOptions};

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
    // The restored controller wants what it knows of, under grants that are newer than all before.
    fleet.host(1).will_run("1.0.0");
    fleet.host(2).will_run("1.0.0");
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
    stranger.enroll(&token).ends(1);
    stranger.enroll(&fleet.invite(&[])).ends(0);
    let log = std::fs::read_to_string(fleet.controller.data("audit.log")).unwrap();
    assert!(log.contains("the disk broke") && log.contains("looked at it"));
    fleet.controller.daemon.stop();
    fleet.controller.types(&["audit", "verify"]).ends(0);
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
