//! The fleet over its store, with a controller that is killed at any moment: what was committed is
//! all that survives, and every deployment goes on to its end.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

#[path = "../common/mod.rs"]
mod common;
mod databases;
mod world;

use proptest::prelude::*;
use std::collections::BTreeSet;
use tamer_controller::fleet::back::How;
use tamer_controller::fleet::deploy::{Asked, Control};
use tamer_controller::fleet::hosts::Session;
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{ActivationReport, ActivationStatus, Failure, FailureKind, HostReport};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::id::HostName;
use tamer_core::moment::Span;
use tamer_core::rollout::deployment::Ending;

use world::{World, anna, release, wanted};

#[derive(Debug, Clone)]
enum Op {
    Work(usize),
    Tick(u64),
    Crash,
    Deploy(u8),
    Back,
    Control(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..16usize).prop_map(Op::Work),
        3 => (1..90u64).prop_map(Op::Tick),
        3 => Just(Op::Crash),
        2 => (0..3u8).prop_map(Op::Deploy),
        1 => Just(Op::Back),
        1 => (0..4u8).prop_map(Op::Control),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_killed_controller_goes_on_where_it_was(ops in proptest::collection::vec(op(), 1..80)) {
        let mut world = World::new(4);
        let (environment, application) = ("production".parse().unwrap(), "shop".parse().unwrap());
        for op in &ops {
            match op {
                Op::Work(n) => world.work(*n),
                Op::Tick(seconds) => {
                    world.now = world.now + Span::secs(*seconds);
                    world.turn();
                }
                Op::Crash => world.crash(),
                Op::Deploy(n) => drop(world.run(*n)),
                Op::Back => {
                    // Refused where there is nothing to go back to.
                    let _ = world.fleet.go_back((&environment, &application), None, None, &How::default(), &anna(), world.now);
                    world.turn();
                }
                Op::Control(what) => {
                    let what = [Control::Pause, Control::Resume, Control::Abort, Control::Rollback { with_down: false }][usize::from(*what)];
                    if let Some(id) = world.fleet.running_in(&environment, &application) {
                        let _ = world.fleet.control(id, what, &anna(), world.now);
                        world.turn();
                    }
                }
            }
        }
        if let Some(id) = world.fleet.running_in(&environment, &application) {
            let _ = world.fleet.control(id, Control::Resume, &anna(), world.now);
        }
        world.settle();
        prop_assert_eq!(world.fleet.running_in(&environment, &application), None);
        // Nothing is known that a restart would not know.
        let before = format!("{:?} {:?}", world.fleet.targets, world.fleet.deployments);
        world.crash();
        let after = format!("{:?} {:?}", world.fleet.targets, world.fleet.deployments);
        prop_assert_eq!(before, after);
    }
}

#[test]
fn a_version_goes_out_component_by_component_and_back() {
    let mut world = World::new(4);
    let first = world.run(0).unwrap();
    world.settle();
    assert_eq!(
        world.fleet.deployments[&first].ended.unwrap().1,
        Ending::Succeeded
    );
    let second = world.run(1).unwrap();
    world.crash();
    world.settle();
    assert_eq!(
        world.fleet.deployments[&second].ended.unwrap().1,
        Ending::Succeeded
    );
    assert_eq!(
        world.running("web"),
        BTreeSet::from([Some(release("web", 1))])
    );
    let (environment, application) = ("production".parse().unwrap(), "shop".parse().unwrap());
    let asked = world
        .fleet
        .go_back(
            (&environment, &application),
            None,
            None,
            &How::default(),
            &anna(),
            world.now,
        )
        .unwrap();
    assert!(matches!(asked, Asked::Started(_)));
    world.turn();
    world.settle();
    for component in ["web", "worker"] {
        assert_eq!(
            world.running(component),
            BTreeSet::from([Some(release(component, 0))])
        );
    }
}

/// A world in which the canary of the first rollout has a grant and has not begun: who, and which grant.
fn granted() -> (World, usize, Generation) {
    let mut world = World::new(4);
    world.run(0).unwrap();
    for _ in 0..9 {
        for n in 0..4 {
            if let Some(grant) = world.holds_a_grant(n) {
                return (world, n, grant);
            }
            world.work(n);
        }
    }
    panic!("nobody is granted anything")
}

/// To every host, after every switch, that would be one more message, and one more answer.
#[test]
fn a_grant_that_is_used_up_is_not_taken_back_by_a_message_of_its_own() {
    let (mut world, canary, grant) = granted();
    let told = world.seen(canary);
    world.work(canary);
    assert_eq!(world.done(canary), Some(grant));
    assert_eq!(world.seen(canary), told, "nothing is new for it");
    world.crash();
    let new = world.seen(canary) != told;
    assert!(!new, "nor for a controller that starts anew");
    world.settle();
    for n in 0..4 {
        let held = world.holds_a_grant(n);
        assert_eq!(held, None, "with the next news they are gone");
    }
}

/// The host's clock may be set back, and it would seem to be good again.
#[test]
fn a_grant_that_ran_out_is_taken_back_at_once() {
    let (mut world, canary, grant) = granted();
    let told = world.seen(canary);
    world.ahead = Span::secs(61);
    world.work(canary);
    assert_eq!(world.done(canary), None);
    assert!(world.seen(canary) > told);
    assert_eq!(world.holds_a_grant(canary), None, "{grant} is void");
}

#[test]
fn a_version_that_ran_is_known_without_its_document() {
    let mut world = World::new(4);
    let (environment, application) = ("production".parse().unwrap(), "shop".parse().unwrap());
    for n in [0, 1] {
        world.run(n).unwrap();
        world.settle();
    }
    world.crash();
    let known = |version: &str| {
        let version = version.parse().unwrap();
        world
            .fleet
            .deployed_before(&environment, &application, &version)
    };
    assert_eq!(known("1.0.0").unwrap().releases, wanted(0).releases);
    assert!(known("1.2.0").is_none());
    let other = "bank".parse().unwrap();
    let version = "1.0.0".parse().unwrap();
    assert!(
        world
            .fleet
            .deployed_before(&environment, &other, &version)
            .is_none()
    );
}

/// What was away was the controller: no host is given up in the moment of its return.
#[test]
fn a_controller_that_was_away_for_long_gives_nobody_up_at_once() {
    let mut world = World::new(4);
    world.run(0).unwrap();
    world.settle();
    let id = world.run(1).unwrap();
    world.now = world.now + Span::secs(24 * 3600);
    world.crash();
    world.settle();
    let deployment = &world.fleet.deployments[&id];
    assert_eq!(
        deployment.ended.unwrap().1,
        Ending::Succeeded,
        "{deployment:#?}"
    );
    assert_eq!(
        world.running("web"),
        BTreeSet::from([Some(release("web", 1))])
    );
}

#[test]
fn a_later_component_that_fails_takes_the_earlier_one_back() {
    let mut world = World::new(4);
    world.run(0).unwrap();
    world.settle();
    world.bad.insert(release("web", 1).manifest);
    let id = world.run(1).unwrap();
    world.settle();
    let deployment = &world.fleet.deployments[&id];
    assert_eq!(
        deployment.ended.unwrap().1,
        Ending::RolledBack,
        "{deployment:#?}"
    );
    assert_eq!(
        world.running("worker"),
        BTreeSet::from([Some(release("worker", 0))])
    );
    assert_eq!(
        world.running("web"),
        BTreeSet::from([Some(release("web", 0))])
    );
}

#[test]
fn a_host_that_speaks_of_what_nobody_told_it_is_shut_out() {
    let mut world = World::new(2);
    let name: HostName = "web-0".parse().unwrap();
    for generation in [
        Generation {
            epoch: 9,
            counter: 1,
        },
        Generation {
            epoch: 1,
            counter: u64::MAX,
        },
    ] {
        let report = HostReport {
            routes: vec![],
            inspection: None,
            generation,
            ..world.report(&name)
        };
        let session = common::session(99);
        let said = world
            .fleet
            .connected(&name, session, report, world.now)
            .unwrap_err();
        assert!(said.contains("take-back web-0"), "{said}");
        world.turn();
    }
    world.run(0).unwrap();
    world.work(1);
    assert!(
        !world
            .fleet
            .targets
            .values()
            .any(|target| target.hosts[&name].is_connected())
    );
}

#[test]
fn two_live_agents_with_one_identity_are_both_shut_out() {
    let mut world = World::new(1);
    let name: HostName = "web-0".parse().unwrap();
    let mut line = 50;
    let mut connect = |run_id: &str, after: u64| {
        line += 1;
        let report = world.report(&name);
        let session = Session {
            run_id: run_id.into(),
            ..common::session(line)
        };
        world.now = world.now + Span::secs(after);
        let told = world.fleet.connected(&name, session, report, world.now);
        told.map(drop)
    };
    // An agent that was started again while its line hung; what the first one had sent comes late.
    for run_id in ["two", "one", "two"] {
        assert_eq!(connect(run_id, 1), Ok(()), "{run_id}");
    }
    // The same again much later.
    for (run_id, after) in [("three", 3600), ("two", 1), ("three", 1), ("two", 1)] {
        assert_eq!(connect(run_id, after), Ok(()), "{run_id}");
    }
    // They live, both of them.
    let said = connect("three", 30).unwrap_err();
    assert!(said.contains("two agents claim"), "{said}");
    assert!(connect("two", 30).is_err());
}

#[test]
fn a_host_that_says_too_much_does_not_stop_the_controller() {
    let mut world = World::new(1);
    world.run(0).unwrap();
    let name: HostName = "web-0".parse().unwrap();
    let long = "ä\u{1}".repeat(40_000);
    let failure = Failure {
        kind: FailureKind::Hook,
        message: long.clone(),
        check: None,
        output: long.clone(),
    };
    for status in [
        ActivationStatus::Working(long.clone()),
        ActivationStatus::Stuck(failure.clone()),
        ActivationStatus::Refused(failure.clone()),
    ] {
        let mut report = world.report(&name);
        for component in &mut report.components {
            component.running = Some(release("web", 0));
            component.staged = (0..1000u32)
                .map(|n| Digest::new(std::array::from_fn(|i| (n >> (8 * (i % 4))) as u8)))
                .collect();
            component.staging_failure = Some(failure.clone());
            component.hold = Some(long.clone());
            component.checks =
                Results::from([("home".parse().unwrap(), CheckResult::Failed(long.clone()))]);
            let grant = Generation {
                epoch: 1,
                counter: 1,
            };
            component.activation = Some(ActivationReport {
                grant,
                release: None,
                status: status.clone(),
            });
        }
        world.fleet.reported(&name, report, world.now);
        world.turn();
    }
}
