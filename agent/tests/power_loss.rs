//! The agent is killed, or the lights go out, at any moment of a first deploy, a deploy, a rollback with what
//! it prunes, and a deploy that fails. Every state that a kill before or after a file operation leaves is
//! tried, and a sample of those that a file system may legally show after a power cut. In each, `current`
//! leads to one whole release, the old or the new one; and an agent that is started on it ends where it
//! should, and says so.
//!
//! What the hooks of an application write is the application's, and counts as durable at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::granted;
use site::scenario::{Scenario, carry_out, clear};
use std::path::Path;
use tamer_core::desired::{ActivationStatus, Desired, FailureKind, Purpose};
use tamer_system::crash::{States, can_record, look_at, record};

/// How many states of a scenario are tried; `TAMER_TEST_STATES=all`, or a number, tries more.
const STATES: usize = 80;

#[tokio::test]
async fn child() {
    site::scenario::child().await;
}

/// Loses power at every moment of this.
fn lose_power(
    name: &str,
    scenario: &Scenario,
    desired: &Desired,
    between: &[Option<&str>],
    end: Option<&str>,
    ended: impl Fn(&ActivationStatus) -> bool,
) {
    if !can_record() {
        return;
    }
    let host = scenario.site.dir.join("host");
    let hooks = [
        Path::new("srv/shop/web/shared/log"),
        Path::new("srv/shop/web/shared/running"),
    ];
    scenario.reset();
    let recording = record(&scenario.command(desired), &host, |path| {
        hooks.contains(&path)
    });
    scenario.check("undisturbed", end, &ended);

    let states = States::of(&recording, 20_261_126);
    let kills: Vec<_> = states.of_kills().collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    look_at(name, &states, &kills, STATES, |disk, what| {
        clear(&host);
        disk.write(&host);
        let running = scenario.site.running();
        assert!(between.contains(&running.as_deref()), "{running:?}");
        runtime.block_on(carry_out(&scenario.site, desired.clone()));
        scenario.check(what, end, &ended);
    });
}

fn done(status: &ActivationStatus) -> bool {
    *status == ActivationStatus::Done
}

#[test]
fn kill_or_power_loss_in_a_first_deploy() {
    let scenario = Scenario::new(0);
    let desired = granted(1, Some(&scenario.good[0]), Purpose::Forward);
    let between = [None, Some("1.0.0")];
    lose_power(
        "a first deploy",
        &scenario,
        &desired,
        &between,
        Some("1.0.0"),
        done,
    );
}

#[test]
fn kill_or_power_loss_in_a_deploy() {
    let scenario = Scenario::new(1);
    let desired = granted(2, Some(&scenario.good[1]), Purpose::Forward);
    let between = [Some("1.0.0"), Some("2.0.0")];
    lose_power(
        "a deploy",
        &scenario,
        &desired,
        &between,
        Some("2.0.0"),
        done,
    );
}

#[test]
fn kill_or_power_loss_in_a_rollback() {
    let scenario = Scenario::new(2);
    let desired = granted(3, Some(&scenario.good[0]), Purpose::Back);
    let between = [Some("1.0.0"), Some("2.0.0")];
    lose_power(
        "a rollback",
        &scenario,
        &desired,
        &between,
        Some("1.0.0"),
        done,
    );
}

#[test]
fn kill_or_power_loss_in_a_deploy_that_fails_and_goes_back() {
    let scenario = Scenario::new(1);
    let desired = granted(2, Some(&scenario.bad), Purpose::Forward);
    let between = [Some("1.0.0"), Some("3.0.0")];
    let undone = |status: &ActivationStatus| matches!(status, ActivationStatus::Undone(why) if why.kind == FailureKind::Check);
    lose_power(
        "a deploy that fails",
        &scenario,
        &desired,
        &between,
        Some("1.0.0"),
        undone,
    );
}
