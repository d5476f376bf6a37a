//! Kills in the middle of a rollout: whatever dies, the rollout goes on to its end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tamer_system::{App, Fleet};

/// Notes each start, and waits in the `start` hook until somebody puts `go` on the host.
const WAITS: &str =
    "echo >> \"$TAMER_SHARED/run/starts\"\n[ -e \"$TAMER_SHARED/run/go\" ] || exit 75";

#[test]
fn kill_the_controller_and_the_rollout_goes_on() {
    let mut fleet = Fleet::that_runs(3);
    fleet.publish(&App::version("1.1.0").and_then(WAITS));
    let watching = fleet.begins(&["deploy", "production", "1.1.0"]);
    fleet.component_says(1, "/state", "working: start");
    fleet.controller.daemon.kill();
    // The host ends what it has begun, with nobody there to tell.
    fleet.host(1).share("go");
    fleet.host(1).will_run("1.1.0");
    fleet.controller.start();
    fleet.component_says(2, "/state", "working: start");
    assert_eq!(fleet.host(3).runs().as_deref(), Some("1.0.0"));
    fleet.controller.daemon.kill();
    fleet.controller.start();
    fleet.host(2).share("go");
    fleet.host(3).share("go");
    // Who was watching has seen all of it, over both gaps.
    watching.end().ends(0).says(&["the controller is away"]);
    fleet.all_run("1.1.0");
    let (_, status) = fleet.newest();
    assert_eq!(status["state"], "succeeded");
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.0.0");
}

#[test]
fn kill_an_agent_and_the_host_ends_on_one_whole_release() {
    let mut fleet = Fleet::that_runs(2);
    fleet.publish(&App::version("1.1.0").and_then(WAITS));
    let watching = fleet.begins(&["deploy", "production", "1.1.0"]);
    fleet.component_says(1, "/state", "working: start");
    fleet.host_mut(1).daemon.kill();
    fleet.host_is(1, "away");
    fleet.host_mut(1).start();
    // It was cut off after the switch: it goes back by itself and says so, and a failed canary takes
    // the deployment back.
    watching.end().ends(6).says(&["web-1"]);
    fleet.all_run("1.0.0");
    fleet.component_says(1, "/running", "1.0.0");
    // A new deployment is a new try.
    fleet.host(1).share("go");
    fleet.host(2).share("go");
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}
