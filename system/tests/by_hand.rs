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
    assert_ne!(said.code, 0, "{said:?}");
    said.says(&["web-1", "bin/stop"]);
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
