//! Rollouts, forward and back: what the person is told, and what every host runs afterwards.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, until};

/// Waits in its `start` hook until somebody puts `go` on the host.
const WAITS: &str = "[ -e \"$TAMER_SHARED/run/go\" ] || exit 75";

/// Is not what it should be once it has started.
const BROKEN: &str = "[component.web.checks.home]\ntype = \"command\"\nrun = [\"/bin/false\"]\n";

/// Notes that it was started.
const NOTES: &str = "echo >> \"$TAMER_SHARED/run/starts\"";

#[test]
fn takes_a_bad_canary_back_and_touches_nobody_else() {
    let fleet = Fleet::that_runs(3);
    fleet.publish(&App::version("1.1.0").with(BROKEN).and_then(NOTES));
    fleet.deploy("1.1.0").ends(6).says(&[
        "web-1",
        "check `home` failed after the switch",
        "rolled back",
    ]);
    fleet.all_run("1.0.0");
    assert!(fleet.host(1).shared("starts").is_some());
    for number in [2, 3] {
        assert_eq!(fleet.host(number).shared("starts"), None, "never touched");
    }
    // What was found bad is remembered, and going back to it refused.
    let newest = fleet.json(&["releases"])["versions"][0].clone();
    assert_eq!(newest["version"], "1.1.0");
    assert_eq!(newest["bad_in"][0], "production", "{newest}");
    fleet
        .tamer(&["rollback", "production", "1.1.0"])
        .ends(3)
        .says(&["1.1.0", "bad"]);
}

#[test]
fn a_plan_says_how_long_it_takes_by_what_was_before_and_at_least() {
    let fleet = Fleet::with_hosts(2);
    let plan = |version: &str| fleet.tamer(&["plan", "production", version]).ends(0);
    // Two waves, each watched for a tenth of a second.
    let least = "at least 0.2 s by waves and bakes";
    plan("1.0.0").says(&[least, "nothing like it was deployed here yet"]);
    fleet.deploy("1.0.0").ends(0);
    fleet.publish(&App::version("1.1.0"));
    plan("1.1.0").says(&["takes about ", "as the last one like it here", least]);
    fleet.deploy("1.1.0").ends(0);
    fleet.publish(&App::version("1.2.0"));
    plan("1.2.0").says(&["takes about ", "the last 2 like it here: ", least]);
    let told = fleet.json(&["plan", "production", "1.2.0"]);
    let usual = &told["usual"];
    assert_eq!(usual["of"], 2, "{told}");
    // What did not go well says nothing of how long it takes.
    fleet.publish(&App::version("1.3.0").with(BROKEN));
    fleet.deploy("1.3.0").ends(6);
    fleet.publish(&App::version("1.4.0"));
    plan("1.4.0").says(&["the last 2 like it here: "]);
}

#[test]
fn refuses_a_host_that_fails_its_environment_s_checks_and_changes_nothing() {
    let fleet = Fleet::that_runs(2);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    fleet.environment(
        "production",
        &format!("{ENVIRONMENT}[checks.database]\ntype = \"tcp\"\naddress = \"{address}\"\n"),
    );
    fleet.publish(&App::version("1.1.0"));
    fleet
        .deploy("1.1.0")
        .ends(5)
        .says(&["check `database` failed before anything changed"]);
    fleet.all_run("1.0.0");
    // What was not the release's fault says nothing of the release.
    fleet.environment("production", ENVIRONMENT);
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}

#[test]
fn goes_back_by_hand_to_what_is_on_disk() {
    let fleet = Fleet::that_runs(2);
    fleet.publish(&App::version("1.1.0"));
    fleet.publish(&App::version("1.2.0"));
    fleet.deploy("1.1.0").ends(0);
    fleet.deploy("1.2.0").ends(0);
    // Going back downloads nothing: without a single blob it works all the same.
    let blobs = fleet.controller.data("artifacts");
    let releases = fleet.host(1).releases();
    for entry in fs::read_dir(&blobs).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.1.0");
    // Again goes further back, not forth.
    fleet
        .tamer(&["rollback", "production", "--reason", "orders are lost"])
        .ends(0);
    fleet.all_run("1.0.0");
    // What is going away meanwhile may still be there, under another name.
    assert!(
        fleet.host(1).releases().contains(&releases[0]),
        "the very same"
    );
    fleet.tamer(&["history"]).ends(0).says(&[
        "back to shop 1.1.0",
        "back to shop 1.0.0",
        "orders are lost",
    ]);
    fleet
        .tamer(&["rollback", "production"])
        .ends(3)
        .says(&["nothing to go back to"]);
}

#[test]
fn pauses_resumes_and_stops_where_it_is() {
    let fleet = Fleet::that_runs(2);
    fleet.publish(&App::version("1.1.0").and_then(WAITS));
    let watching = fleet.begins(&["deploy", "production", "1.1.0"]);
    fleet.component_says(1, "/state", "working: start");
    fleet
        .tamer(&["pause", "-e", "production", "--reason", "lunch"])
        .ends(0);
    fleet.host(1).share("go");
    fleet.host(1).will_run("1.1.0");
    let paused = fleet.component_says(1, "/state", "settled");
    assert_eq!(paused["running"], "1.1.0");
    let (_, status) = fleet.newest();
    assert_eq!(status["state"], "paused");
    assert!(
        status.to_string().contains("paused by anna: lunch"),
        "{status}"
    );
    assert_eq!(fleet.host(2).runs().as_deref(), Some("1.0.0"));
    fleet
        .tamer(&["pause", "-e", "production"])
        .ends(3)
        .says(&["paused"]);

    fleet.tamer(&["resume", "-e", "production"]).ends(0);
    fleet.component_says(2, "/state", "working: start");
    fleet
        .tamer(&["abort", "-e", "production", "--reason", "too late"])
        .ends(0);
    watching.end().ends(7).says(&["aborted", "too late"]);
    // A host under way ends what it has begun; what has moved stays.
    fleet.host(2).share("go");
    fleet.component_says(2, "/state", "settled");
    assert_eq!(fleet.host(1).runs().as_deref(), Some("1.1.0"));
    let (number, _) = fleet.newest();
    fleet.tamer(&["resume", &number]).ends(2).says(&["is over"]);
}

#[test]
fn turns_a_running_deployment_back() {
    let fleet = Fleet::that_runs(3);
    fleet.publish(&App::version("1.1.0").and_then(WAITS));
    fleet.host(1).share("go");
    let watching = fleet.begins(&["deploy", "production", "1.1.0"]);
    fleet.component_says(2, "/state", "working: start");
    fleet
        .tamer(&["rollback", "production", "--reason", "pages are blank"])
        .ends(6);
    watching.end().ends(6).says(&["pages are blank"]);
    fleet.all_run("1.0.0");
}

#[test]
fn lets_a_host_that_was_away_follow() {
    let mut fleet = Fleet::that_runs(3);
    // A host that is away is one that is out of service: beside it, one more may be.
    let two = ENVIRONMENT.replace("max_parallel = 1", "max_parallel = 2");
    fleet.environment("production", &two);
    fleet.host_mut(3).daemon.kill();
    fleet.host_is(3, "away");
    fleet.publish(&App::version("1.1.0"));
    fleet
        .deploy("1.1.0")
        .ends(9)
        .says(&["waits for web-3 to come back", "but not on every host"]);
    assert_eq!(fleet.host(3).runs().as_deref(), Some("1.0.0"));
    fleet.host_mut(3).start();
    fleet.host(3).will_run("1.1.0");
    fleet.component_says(3, "/state", "settled");
    fleet.all_run("1.1.0");
    // A new host takes the same way.
    fleet.add("web-4", &HostOptions::default());
    fleet.host(4).will_run("1.1.0");
}

#[test]
fn says_why_no_host_could_move() {
    let mut fleet = Fleet::that_runs(2);
    let short = ENVIRONMENT
        .replace("healthy_deadline = \"3s\"", "healthy_deadline = \"1s\"")
        .replace("progress_deadline = \"20s\"", "progress_deadline = \"1s\"");
    fleet.environment("production", &short);
    fleet.publish(&App::version("1.1.0"));
    fleet.host_mut(2).daemon.kill();
    fleet.host_is(2, "away");
    // One is out already, and no more than one may be.
    fleet.deploy("1.1.0").ends(6).says(&[
        "waits for a host to be in service again: 1 are out, 1 may be",
        "web-1: it got nowhere within the policy's `progress_deadline`",
    ]);
    // With nobody there at all nothing begins.
    fleet.host_mut(1).daemon.kill();
    fleet.host_is(1, "away");
    fleet
        .deploy("1.1.0")
        .ends(9)
        .says(&["none of its 2 hosts can be reached", "tamer hosts"]);
    fleet.all_run("1.0.0");
}

#[test]
fn goes_on_without_anybody_watching() {
    let fleet = Fleet::with_hosts(1);
    fleet.publish(&App::version("1.1.0").and_then(WAITS));
    let said = fleet
        .tamer(&["deploy", "production", "1.1.0", "--detach"])
        .ends(0);
    assert!(said.all().contains("next: tamer watch 1"), "{said:?}");
    fleet.component_says(1, "/state", "working: start");
    // Nor does the rollout need whoever stops watching.
    let watching = fleet.begins(&["watch"]);
    until("it to be watched", || {
        watching.so_far().contains("canary").then_some(())
    });
    watching.interrupt();
    watching
        .end()
        .ends(130)
        .says(&["Stopped watching", "tamer watch 1"]);
    let watching = fleet.begins(&["watch"]);
    fleet.host(1).share("go");
    watching.end().ends(0);
    fleet.all_run("1.1.0");
    fleet
        .deploy("1.1.0")
        .ends(0)
        .says(&["every host runs it already"]);
}

#[test]
fn leaves_nothing_running_where_the_first_deploy_fails() {
    let fleet = Fleet::with_hosts(2);
    fleet.publish(&App::version("1.1.0").with(BROKEN));
    fleet.deploy("1.1.0").ends(6).says(&["check `home` failed"]);
    for number in [1, 2] {
        let host = fleet.host(number);
        assert_eq!(host.runs(), None);
        assert!(
            fs::symlink_metadata(host.root().join("current")).is_err(),
            "no `current` is left"
        );
    }
    fleet.deploy("1.0.0").ends(0);
    fleet.all_run("1.0.0");
}
