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
    fleet.publish(&App::version("1.1.0"));
    let said = fleet.deploy("1.1.0");
    assert_ne!(said.code, 0, "{said:?}");
    said.says(&["web-1", "bin/stop"]);
    fleet.all_run("1.0.0");
}
