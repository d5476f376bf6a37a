//! The generator that `benches/run scale` measures with, on a small scale: it must not rot.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use tamer_system::program;

#[test]
fn a_hundred_agents_come_back_to_a_killed_controller_and_the_rollout_ends() {
    let room = tempfile::tempdir().unwrap();
    let mut swarm = Command::new(program("tamer-swarm"));
    let said = swarm
        .args(["smoke", "1"])
        .arg(room.path())
        .arg("100")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}");
    assert!(text.contains("all are back, and all run 1.1.0"), "{text}");
}
