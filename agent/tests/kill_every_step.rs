//! The agent is killed before and after every step of a first deploy, a deploy, a deploy that fails and
//! a rollback: with real processes, real files and real hooks. At each such moment `current` leads to
//! one whole release, the old or the new one, and the next start ends where it should and says so.
//!
//! The killed agent is this test's own program, run again as the test [`child`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::granted;
use site::scenario::Scenario;
use std::os::unix::process::ExitStatusExt;
use tamer_core::desired::{ActivationStatus, Desired, FailureKind, Purpose};
use tamer_core::moment::Moment;
use tamer_core::schema::{MigrationOrder, MigrationStatus, Task};

#[tokio::test]
async fn child() {
    site::scenario::child().await;
}

impl Scenario {
    /// Kills the agent before and after each of `steps`, looks, starts it again, and looks again.
    fn kill_everywhere(
        &self,
        desired: &Desired,
        steps: &[&str],
        between: &[Option<&str>],
        end: Option<&str>,
        ended: impl Fn(&ActivationStatus) -> bool,
    ) {
        for step in steps {
            for side in ["before", "after"] {
                let at = format!("{step}:{side}");
                self.reset();
                let status = self.run(desired, Some(&at));
                assert_eq!(status.signal(), Some(9), "{at} was never reached");
                let running = self.site.running();
                assert!(between.contains(&running.as_deref()), "{at}: {running:?}");
                assert!(self.run(desired, None).success());
                self.check(&at, end, &ended);
            }
        }
    }
}

const STAGE: [&str; 3] = ["verify", "unpack", "link-shared"];
const BEFORE: [&str; 2] = ["pre-checks", "pre-activate"];
const LEAVE: [&str; 2] = ["drain", "stop"];
const CHANGE: [&str; 5] = ["switch", "start", "validate", "admit", "commit"];

fn done(status: &ActivationStatus) -> bool {
    *status == ActivationStatus::Done
}

#[test]
fn kill_at_every_step_of_a_first_deploy() {
    let scenario = Scenario::new(0);
    let desired = granted(1, Some(&scenario.good[0]), Purpose::Forward);
    let steps = [&STAGE[..], &BEFORE, &CHANGE].concat();
    let between = [None, Some("1.0.0")];
    scenario.kill_everywhere(&desired, &steps, &between, Some("1.0.0"), done);
}

#[test]
fn kill_at_every_step_of_a_deploy() {
    let scenario = Scenario::new(1);
    let desired = granted(2, Some(&scenario.good[1]), Purpose::Forward);
    let steps = [&STAGE[..], &BEFORE, &LEAVE, &CHANGE].concat();
    let between = [Some("1.0.0"), Some("2.0.0")];
    scenario.kill_everywhere(&desired, &steps, &between, Some("2.0.0"), done);
}

#[test]
fn kill_at_every_step_of_a_rollback() {
    let scenario = Scenario::new(2);
    let desired = granted(3, Some(&scenario.good[0]), Purpose::Back);
    let steps = [&LEAVE[..], &CHANGE].concat();
    let between = [Some("1.0.0"), Some("2.0.0")];
    scenario.kill_everywhere(&desired, &steps, &between, Some("1.0.0"), done);
    // Going back has nothing better to go to: it is taken up however often it is interrupted.
    scenario.reset();
    for _ in 0..4 {
        assert_eq!(
            scenario.run(&desired, Some("start:before")).signal(),
            Some(9)
        );
    }
    assert!(scenario.run(&desired, None).success());
    scenario.check("start:before, four times", Some("1.0.0"), &done);
}

#[test]
fn kill_in_the_middle_of_a_migration_and_it_is_never_run_again() {
    let scenario = Scenario::with_database();
    let release = &scenario.good[0];
    let mut desired = granted(5, None, Purpose::Forward);
    let component = &mut desired.components[0];
    component.grant = None;
    component.stage = vec![release.clone()];
    component.migrate = Some(MigrationOrder {
        id: desired.generation,
        schema: "main".parse().unwrap(),
        task: Task::Up,
        release: release.clone(),
        from: 41,
        to: 42,
        start_by: Moment(site::now().0 + 600_000),
    });
    let status = || scenario.report().migration.unwrap().status;
    let ups = || scenario.site.shared("ups").unwrap_or_default();
    for (at, version, calls) in [
        ("migrate:before", 41, ""),
        ("migrate:after", 42, "now main 41 42\n"),
    ] {
        scenario.reset();
        assert_eq!(scenario.run(&desired, Some(at)).signal(), Some(9), "{at}");
        for _ in 0..2 {
            assert!(scenario.run(&desired, None).success());
            let said = status();
            assert!(
                matches!(&said, MigrationStatus::Unknown { version: Some(found), .. } if *found == version),
                "{at}: {said:?}"
            );
            assert_eq!(ups(), calls, "{at}");
        }
    }
    scenario.reset();
    for _ in 0..2 {
        assert!(scenario.run(&desired, None).success());
        assert_eq!(status(), MigrationStatus::Done(42));
        assert_eq!(ups(), "now main 41 42\n");
    }
}

#[test]
fn kill_at_every_step_of_a_deploy_that_fails_and_goes_back() {
    let scenario = Scenario::new(1);
    let desired = granted(2, Some(&scenario.bad), Purpose::Forward);
    let steps = [
        "validate",
        "undo-stop",
        "undo-switch",
        "undo-start",
        "undo-validate",
        "undo-admit",
        "undo-commit",
    ];
    let between = [Some("1.0.0"), Some("3.0.0")];
    let undone = |status: &ActivationStatus| matches!(status, ActivationStatus::Undone(why) if why.kind == FailureKind::Check);
    // `validate` fails, so there is no mark after it.
    let at = "validate:before";
    scenario.reset();
    assert_eq!(scenario.run(&desired, Some(at)).signal(), Some(9));
    assert!(scenario.run(&desired, None).success());
    scenario.check(at, Some("1.0.0"), &undone);
    scenario.kill_everywhere(&desired, &steps[1..], &between, Some("1.0.0"), undone);
}

#[test]
fn kill_twice_is_undone_and_never_tried_again() {
    for (deployed, end) in [(1, Some("1.0.0")), (0, None)] {
        let scenario = Scenario::new(deployed);
        let desired = granted(2, Some(&scenario.good[1]), Purpose::Forward);
        for at in ["switch:after", "start:after"] {
            assert_eq!(scenario.run(&desired, Some(at)).signal(), Some(9));
        }
        let undone = |status: &ActivationStatus| {
            matches!(status, ActivationStatus::Undone(why)
                if why.kind == FailureKind::Interrupted && why.message.contains("after step `start`"))
        };
        for _ in 0..2 {
            assert!(scenario.run(&desired, None).success());
            scenario.check("twice", end, &undone);
        }
    }
}
