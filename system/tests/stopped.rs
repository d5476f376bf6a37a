//! A controller that is stopped in order, as for an upgrade: what it knew of its hosts it knows when it is back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tamer_system::{App, Fleet, Host};

fn send(host: &Host, signal: Signal) {
    let pid = i32::try_from(host.daemon.pid().unwrap()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn who_was_connected_when_the_controller_stopped_is_waited_for() {
    let mut fleet = Fleet::that_runs(2);
    fleet.publish(&App::version("1.1.0"));
    // It cannot come back before the deployment has been asked for.
    send(fleet.host(2), Signal::SIGSTOP);
    fleet.controller.daemon.stop();
    fleet.controller.start();
    fleet.host_is(1, "connected");
    let deploying = fleet.begins(&["deploy", "production", "1.1.0"]);
    fleet.newest_is("running");
    send(fleet.host(2), Signal::SIGCONT);
    deploying.end().ends(0);
    fleet.all_run("1.1.0");
    let (_, status) = fleet.newest();
    let rollout = &status["rollouts"][0];
    assert_eq!(rollout["total"], 2, "{status}");
}
