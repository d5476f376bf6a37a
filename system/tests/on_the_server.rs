//! What a person does on a server, with and without a controller.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tamer_system::{App, Fleet};

#[test]
fn goes_back_on_the_server_while_the_controller_is_gone() {
    let mut fleet = Fleet::that_runs(2);
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(0);
    fleet.controller.daemon.kill();
    // With the agent running, it is the agent's to do.
    fleet
        .host(1)
        .types(&["rollback", "--reason", "pages are blank"])
        .ends(0)
        .says(&["1.0.0", "release-hold"]);
    assert_eq!(fleet.host(1).runs().as_deref(), Some("1.0.0"));
    fleet
        .host(1)
        .types(&["status"])
        .ends(0)
        .says(&["1.0.0", "pages are blank"]);
    // Without one, the command does it itself.
    fleet.host_mut(2).daemon.kill();
    fleet.host(2).types(&["rollback", "shop/web"]).ends(0);
    assert_eq!(fleet.host(2).runs().as_deref(), Some("1.0.0"));
    fleet.host(2).types(&["release-hold"]).ends(0);
    fleet.host_mut(2).start();

    // The controller sees the hold, respects it, and says why.
    fleet.controller.start();
    fleet.component_says(1, "/state", "held");
    fleet
        .tamer(&["hosts", "web-1"])
        .ends(0)
        .says(&["pages are blank"]);
    // Nobody holds the other one: it follows its environment again.
    fleet.host(2).will_run("1.1.0");
    fleet.publish(&App::version("1.2.0"));
    fleet.deploy("1.2.0").ends(9);
    assert_eq!(fleet.host(1).runs().as_deref(), Some("1.0.0"));
    assert_eq!(fleet.host(2).runs().as_deref(), Some("1.2.0"));
    // Released, it follows.
    fleet.host(1).types(&["release-hold", "shop/web"]).ends(0);
    fleet.host(1).will_run("1.2.0");
    fleet.component_says(1, "/state", "settled");
}
