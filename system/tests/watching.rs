//! Whoever watches a deployment sees how far hosts have come that fetch it, and how fast it comes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, until};

/// How many batches the controller has written.
const COMMITS: &str = "tamer_controller_commits_total ";

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut random = 1_u32;
    let bytes = (0..length).map(|_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random.to_be_bytes()[0]
    });
    bytes.collect()
}

#[test]
fn a_slow_transfer_is_seen_on_a_terminal_and_in_json_and_makes_no_line_elsewhere() {
    let mut fleet = Fleet::new(ENVIRONMENT);
    let slow = HostOptions {
        more: "fetch_limit = \"1MiB\"".to_owned(),
        ..HostOptions::default()
    };
    for name in ["web-1", "web-2"] {
        fleet.add(name, &slow);
    }
    fleet.publish(&App::version("1.0.0").file("bulk", noise(8 << 20)));
    fleet.all_connected();
    fleet
        .tamer(&["deploy", "production", "1.0.0", "--detach"])
        .ends(0);
    let (id, _) = fleet.newest();
    let seen = fleet.begins_at_a_terminal(&["watch", &id]);
    let plain = fleet.begins(&["watch", &id]);
    let program = fleet.begins(&["watch", &id, "--output", "json"]);
    // While nothing else happens, nothing of it is written.
    let fetched = |status: &Value| status["rollouts"][0]["hosts"][0]["transfer"]["done"].as_u64();
    let far = |least: u64| {
        until("the first host to have fetched more", || {
            let done = fetched(&fleet.newest().1)?;
            (done > least).then_some(done)
        })
    };
    let first = far(0);
    let before = fleet.controller.counted(COMMITS);
    far(first);
    assert_eq!(fleet.controller.counted(COMMITS), before);

    let seen = seen.end().ends(0);
    for words in [
        " of 8.4 MB, ",
        "MB/s",
        "↓ web-1",
        "↓ web-2",
        "2 hosts fetch, ",
        " left",
    ] {
        assert!(seen.all().contains(words), "no `{words}` in {}", seen.all());
    }
    let plain = plain.end().ends(0);
    assert!(plain.all().contains("staged 2/2"), "{}", plain.all());
    assert!(!plain.all().contains("MB/s"), "{}", plain.all());
    let program = program.end().ends(0);
    let told = program.out.lines().map(|line| {
        let status: Value = serde_json::from_str(line).unwrap();
        fetched(&status)
    });
    let told: Vec<u64> = told.flatten().collect();
    assert!(told.len() >= 2 && told.is_sorted(), "{told:?}");
    fleet.all_run("1.0.0");
}
