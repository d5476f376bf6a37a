//! What reads in the background, as the system sees it. One test, for it looks at threads and descriptors of its
//! process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::edited::{answered, change_unseen, told};
use site::{Agent, a_site, granted, status};
use std::fs;
use std::process::Command;
use tamer_core::desired::ActivationStatus::Refused;
use tamer_core::desired::{Desired, Purpose};
use tamer_core::drift::Inspect;

/// The thread that reads in the background, once it has this file open.
fn reads(file: &str) -> String {
    let threads = || fs::read_dir("/proc/self/task").unwrap().flatten();
    tamer_system::until("the full pass to read", || {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut open = open.filter_map(|it| fs::read_link(it.path()).ok());
        let reads = open.any(|it| it.ends_with(file));
        let mut threads = threads().filter(|it| is_drift(&it.path()));
        let thread = threads.next()?.file_name().into_string().unwrap();
        reads.then_some(thread)
    })
}

fn is_drift(thread: &std::path::Path) -> bool {
    fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "drift\n")
}

#[tokio::test]
async fn a_full_pass_is_in_nobodys_way_and_goes_on_after_a_switch_where_it_was() {
    let (_dir, mut site) = a_site();
    // So that there is time to interrupt it: two seconds for one file.
    site.config.drift_limit = "512KiB".to_owned().try_into().unwrap();
    let middle = "m".repeat(1 << 20);
    let files = [
        ("a.html", "the first"),
        ("middle", &*middle),
        ("z.html", "the last"),
    ];
    let waits = "#!/bin/sh\nread go < $TAMER_SHARED/gate\nexit 1\n";
    let one = site.publish("1.0.0", &files);
    let two = site.publish("2.0.0", &[("bin/pre-activate", waits)]);
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    let gate = site.root().join("shared/gate");
    let made = Command::new("mkfifo").arg(&gate).status();
    assert!(made.unwrap().success());

    let asked = |desired: Desired| {
        let inspect = Some(Inspect { id: 1, full: true });
        Some(Desired { inspect, ..desired })
    };
    let desired = told(2, &one, |it| it.components[0].grant = None);
    agent.desired.send_replace(asked(desired));
    let thread = reads("middle");
    let class = Command::new("ionice").args(["-p", &thread]).output();
    assert_eq!(String::from_utf8(class.unwrap().stdout).unwrap(), "idle\n");

    // A switch begins, and is refused after a while.
    agent
        .desired
        .send_replace(asked(granted(3, Some(&two), Purpose::Forward)));
    tamer_system::until("the full pass to stand back", || {
        let mut threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        threads.all(|it| !is_drift(&it.path())).then_some(())
    });
    // Of these the first was read already, and nobody tells of either.
    change_unseen(&site, &["a.html", "z.html"]);
    fs::write(&gate, "go\n").unwrap();
    assert!(matches!(status(&agent.ended(3).await), Refused(_)));
    assert_eq!(answered(&mut agent, 1).await, ["z.html"]);
    agent.stop().await;
}
