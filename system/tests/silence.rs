//! Lines that end without a word, and who notices it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use tamer_system::{App, Cable, Fleet};

/// What an agent says when its line has ended, however it ended.
const ENDED: [&str; 2] = ["no line to the controller", "closed the line"];

#[test]
fn both_sides_notice_a_line_that_is_cut_in_silence_and_no_other_line_ends() {
    let mut fleet = Fleet::that_runs(2);
    let cable = Cable::to(fleet.controller.address());
    let host = fleet.host_mut(1);
    host.daemon.stop();
    let file = host.dir().join("agent.toml");
    let direct = fleet.controller.address().to_string();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&direct, &cable.address().to_string())).unwrap();
    fleet.host_is(1, "away");
    fleet.host_mut(1).start();
    fleet.host_is(1, "connected");

    cable.cut();
    fleet.host_mut(1).daemon.logs(ENDED[0]);
    fleet.host_is(1, "away");
    // On the whole line as little is said, and for longer than on the other one.
    let log = fleet.host(2).daemon.log();
    assert!(!ENDED.iter().any(|it| log.contains(it)), "{log}");
    fleet.host_is(2, "connected");

    cable.mend();
    fleet.host_is(1, "connected");
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}
