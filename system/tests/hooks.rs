//! Hooks that are not to be trusted: each ends with the old release serving and a clear report.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use tamer_system::{App, Fleet, until};

/// Whether a process runs. One that has ended and was not reaped does not.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('Z'))
}

#[test]
fn ends_a_hook_that_hangs_with_all_its_children() {
    let fleet = Fleet::that_runs(2);
    let hangs = "sleep 1000 & echo $! > \"$TAMER_SHARED/run/child\"; wait";
    fleet.publish(&App::version("1.1.0").and_then(hangs).hook_timeout("500ms"));
    fleet
        .deploy("1.1.0")
        .ends(6)
        .says(&["web-1", "hook `start` of 1.1.0 did not end within"]);
    fleet.all_run("1.0.0");
    let child = fleet.host(1).shared("child").unwrap();
    until("the hook's child to be gone", || {
        (!alive(child.trim())).then_some(())
    });
}

#[test]
fn does_not_wait_for_what_a_hook_leaves_behind() {
    let fleet = Fleet::that_runs(1);
    // One child stays in the hook's group and dies with it; one leaves it as a service does, and
    // holds the hook's output open.
    let forks = "sleep 1000 & echo $! > \"$TAMER_SHARED/run/stray\"\n\
                 setsid sh -c 'echo $$ > \"$TAMER_SHARED/run/service\"; exec sleep 1000' &\n\
                 until [ -s \"$TAMER_SHARED/run/service\" ]; do sleep 0.01; done";
    let stop =
        "#!/bin/sh\nkill $(cat $TAMER_SHARED/run/service)\nrm -f \"$TAMER_SHARED/run/running\"\n";
    fleet.publish(&App::version("1.1.0").and_then(forks).hook("stop", stop));
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
    let stray = fleet.host(1).shared("stray").unwrap();
    let service = fleet.host(1).shared("service").unwrap();
    until("the stray to be gone", || {
        (!alive(stray.trim())).then_some(())
    });
    assert!(alive(service.trim()), "what left the group stays");
    fleet.tamer(&["rollback", "production"]).ends(0);
    until("the service to be gone", || {
        (!alive(service.trim())).then_some(())
    });
}

#[test]
fn shows_what_a_hook_printed_only_to_those_who_may_deploy() {
    let fleet = Fleet::that_runs(1);
    fleet.publish(&App::version("1.1.0").and_then("echo password=tulip; exit 3"));
    fleet.deploy("1.1.0").ends(6).says(&["password=tulip"]);
    let home = fleet.operator("bob", "viewer");
    let bob = |words: &[&str]| fleet.tamer(&[&["--home", &home[..]], words].concat());
    for words in [
        &["hosts", "web-1"][..],
        &["status"],
        &["status", "2"],
        &["watch", "2"],
        &["history"],
    ] {
        for more in [&[][..], &["--output", "json"]] {
            let words = [words, more].concat();
            let seen = bob(&words).all();
            assert!(!seen.contains("tulip"), "{words:?}: {seen}");
        }
    }
    let seen = bob(&["hosts", "web-1"]).all();
    assert!(seen.contains("hook `start` of 1.1.0"), "{seen}");
    let seen = fleet.tamer(&["hosts", "web-1"]).ends(0).all();
    assert!(seen.contains("password=tulip"), "{seen}");
}

#[test]
fn keeps_only_the_end_of_what_a_hook_prints() {
    let fleet = Fleet::that_runs(1);
    let prints = "head -c 1073741824 /dev/zero | tr '\\0' x; echo; echo the end of it; exit 3";
    fleet.publish(&App::version("1.1.0").and_then(prints).hook_timeout("40s"));
    let said = fleet.deploy("1.1.0").ends(6).says(&[
        "hook `start` of 1.1.0 ended with exit code 3",
        "the end of it",
    ]);
    assert!(said.all().len() < 64 << 10, "{} bytes", said.all().len());
    fleet.all_run("1.0.0");
    // The agent has read a gigabyte and kept none of it.
    let pid = fleet.host(1).daemon.pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 200 << 10, "{peak}");
}
