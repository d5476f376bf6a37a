//! Clocks that are a day off, of a host and of the controller, while all of it runs: whoever is concerned says so,
//! nothing goes wrong, and it ends with the clock.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what was not tried"
)]

use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, clocks_can_be_set, until};

/// Two hosts that run 1.0.0; the clock of `web-2` can be set. Nothing where clocks cannot be set.
fn fleet() -> Option<Fleet> {
    if !clocks_can_be_set() {
        eprintln!("SKIPPED: clocks that are off need libfaketime: apt-get install faketime");
        return None;
    }
    let mut fleet = Fleet::new(ENVIRONMENT);
    fleet.add("web-1", &HostOptions::default());
    let clock = HostOptions {
        clock: true,
        ..HostOptions::default()
    };
    fleet.add("web-2", &clock);
    fleet.publish(&App::version("1.0.0"));
    fleet.all_connected();
    fleet.deploy("1.0.0").ends(0);
    fleet.all_run("1.0.0");
    Some(fleet)
}

/// Waits until `tamer hosts` says this.
fn hosts_say(fleet: &Fleet, word: &str) {
    until(word, || {
        let said = fleet.tamer(&["hosts"]).all();
        said.contains(word).then_some(())
    });
}

#[test]
fn a_host_whose_clock_is_a_day_off_says_so_does_nothing_wrong_and_recovers() {
    let Some(mut fleet) = fleet() else { return };
    // Ahead: what the controller says is news counts as expired there, so nothing new is taken in.
    fleet.host(2).set_clock("+1d");
    fleet.publish(&App::version("1.1.0"));
    let said = fleet.deploy("1.1.0");
    assert_ne!(said.code, 0, "{}", said.all());
    said.says(&["web-2", "it expired on", "by the clock here"]);
    fleet
        .host_mut(2)
        .daemon
        .logs("this host's clock is 1day ahead of the controller's");
    hosts_say(&fleet, "The clock of web-2 is 1day ahead of");
    fleet.all_run("1.0.0");
    // Going back takes no news.
    fleet.host(2).set_clock("+0");
    fleet
        .host_mut(2)
        .daemon
        .logs("agrees with the controller's again");
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
    fleet.host(2).set_clock("+1d");
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.0.0");
    fleet.host(2).set_clock("+0");

    // Behind: the line that is up stays, and a new one is not made, since the controller's certificate is of tomorrow.
    fleet.host(2).set_clock("-1d");
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
    fleet.host_mut(2).daemon.kill();
    fleet.host_mut(2).start();
    for word in ["not valid yet", "by this host's clock it is", "timedatectl"] {
        fleet.host_mut(2).daemon.logs(word);
    }
    assert_eq!(fleet.host(2).runs().as_deref(), Some("1.1.0"));
    fleet.host(2).set_clock("+0");
    fleet.host_is(2, "connected");
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.0.0");
}

#[test]
fn a_controller_whose_clock_is_a_day_off_says_so_shuts_nobody_out_and_recovers() {
    let Some(mut fleet) = fleet() else { return };
    fleet.controller.restart_with_clock();
    fleet.all_connected();
    // Ahead: every host's certificate has expired there, and serves to be renewed.
    fleet.controller.set_clock("+1d");
    hosts_say(&fleet, "1day behind this controller's");
    fleet
        .controller
        .daemon
        .logs("the clock of this machine was set");
    fleet
        .host_mut(2)
        .daemon
        .logs("this host's clock is 1day behind");
    fleet.all_connected();
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
    // Right again: certificates of tomorrow serve to be renewed, too.
    fleet.controller.set_clock("+0");
    until("the clocks to agree", || {
        let said = fleet.tamer(&["hosts"]).ends(0).all();
        (!said.contains("this controller's")).then_some(())
    });
    fleet.all_connected();
    fleet.publish(&App::version("1.2.0"));
    fleet.deploy("1.2.0").ends(0);
    fleet.all_run("1.2.0");
    // Behind: nobody's certificate is valid yet, and a person is told why.
    fleet.controller.set_clock("-1d");
    let refused = fleet.tamer(&["status"]);
    assert_ne!(refused.code, 0);
    refused.says(&["not valid yet by this controller's clock", "here it is"]);
    fleet.all_run("1.2.0");
    fleet.controller.set_clock("+0");
    until("anna to be let in", || {
        (fleet.tamer(&["status"]).code == 0).then_some(())
    });
    fleet.all_connected();
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.1.0");
}
