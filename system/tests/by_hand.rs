//! Changes that people make by hand on a server are seen, and stand in the way of the next release.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use tamer_system::{App, Fleet};

#[test]
fn sees_what_was_edited_on_a_server() {
    let mut fleet = Fleet::that_runs(2);
    let file = fleet.host(1).root().join("current/bin/stop");
    let text = fs::read_to_string(&file).unwrap();
    // Releases are read-only: whoever edits them means it.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&file, format!("{text}# quick fix\n")).unwrap();
    // A start of the agent compares at once what it else compares from time to time.
    fleet.host_mut(1).daemon.stop();
    fleet.host_mut(1).start();
    fleet.component_says(1, "/drift", "bin/stop");
    fleet
        .tamer(&["hosts", "web-1"])
        .ends(0)
        .says(&["changed by hand", "bin/stop"]);
    fleet
        .tamer(&["status"])
        .ends(0)
        .says(&["changed by hand on web-1", "tamer drift --host web-1"]);
    fleet.publish(&App::version("1.1.0"));
    fleet
        .tamer(&["plan", "production", "1.1.0"])
        .says(&["web was changed by hand on web-1"]);
    let said = fleet.deploy("1.1.0");
    said.ends(10).says(&[
        "web-1",
        "bin/stop",
        "tamer drift --host web-1 --repair",
        "tamer drift --host web-1 --adopt --reason",
    ]);
    fleet.all_run("1.0.0");
    // One command names it, another accepts it.
    fleet
        .tamer(&["drift"])
        .ends(10)
        .says(&["web-1", "bin/stop: changed"])
        .says(&["tamer drift --host web-1 --repair"]);
    fleet.tamer(&["drift", "--host", "web-2"]).ends(0);
    fleet
        .tamer(&["drift", "--adopt"])
        .ends(2)
        .says(&["--reason", "--host"]);
    fleet
        .tamer(&[
            "drift",
            "--host",
            "web-1",
            "--adopt",
            "--reason",
            "a quick fix",
        ])
        .ends(0)
        .says(&["adopted by", "a quick fix"]);
    fleet
        .tamer(&["hosts", "web-1"])
        .ends(0)
        .says(&["a quick fix"]);
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
    fleet.tamer(&["drift"]).ends(0);
    fleet.tamer(&["history"]).ends(0).says(&[
        "shop/web: bin/stop: changed",
        "adopted",
        "a quick fix",
        "nothing differs any more",
    ]);
}

#[test]
fn puts_back_what_was_edited_on_a_server() {
    let mut fleet = Fleet::that_runs(2);
    let file = fleet.host(1).root().join("current/bin/stop");
    let deployed = fs::read_to_string(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&file, "#!/bin/sh\n").unwrap();
    fleet.host_mut(1).daemon.stop();
    fleet.host_mut(1).start();
    fleet.component_says(1, "/drift", "bin/stop");
    fleet
        .tamer(&["drift", "--repair"])
        .ends(2)
        .says(&["--host"]);
    fleet
        .tamer(&["drift", "production", "--repair"])
        .ends(0)
        .says(&["is there again"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), deployed);
    fleet.tamer(&["drift"]).ends(0);
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}

#[test]
fn names_everything_that_was_changed_and_whom_it_could_not_ask() {
    let mut fleet = Fleet::that_runs(2);
    let top = fleet.host(1).root().join("current");
    for n in 0..200 {
        fs::write(top.join(format!("added-{n:03}")), "x").unwrap();
    }
    // No agent was started anew, and no interval is over: they are asked.
    let said = fleet.tamer(&["drift"]).ends(10);
    let said = said.says(&["web-1", "added-000: added", "added-199: added"]);
    assert!(!said.all().contains("more"), "{said:?}");
    let found = fleet
        .tamer(&["drift", "--full", "--output", "json"])
        .ends(10);
    let found: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    let drift = &found["hosts"][0]["host"]["components"][0]["drift"];
    assert_eq!(drift["total"], 200);
    assert_eq!(drift["differences"].as_array().unwrap().len(), 200);
    assert_eq!(found["hosts"][1]["unseen"], "");

    fleet.host_mut(2).daemon.stop();
    fleet.host_is(2, "away");
    fleet
        .tamer(&["drift", "--host", "web-2"])
        .ends(9)
        .says(&["web-2: it is away"]);
    fleet
        .tamer(&["drift", "--host", "web-9"])
        .ends(2)
        .says(&["there is no host web-9"]);
    // With somebody away, what is here is put back all the same.
    fleet
        .tamer(&["drift", "--host", "web-1", "--repair"])
        .ends(0);
    assert!(!top.join("added-000").exists());
    fleet.tamer(&["drift"]).ends(9).says(&["web-2: it is away"]);
}
