//! Single rules, each with its expected values written out.

use crate::fleet::{Act, World, release};
use tamer_core::desired::{ActivationReport, ActivationStatus, Purpose};
use tamer_core::moment::{Moment, Span};
use tamer_core::policy::{OnFailure, Policy, Quantity};
use tamer_core::rollout::state::HISTORY;
use tamer_core::rollout::{
    Event, NoPlan, Observation, Outcome, PartStatus, Rollout, RolloutId, Stage, Waiting,
};

const NOW: Moment = Moment(5_000_000);

fn careful() -> Policy {
    Policy {
        canary: Some(Quantity::Hosts(1)),
        steps: vec![Quantity::Percent(50), Quantity::Percent(100)],
        max_parallel: Quantity::Hosts(2),
        ..Policy::default()
    }
}

/// So many hosts that run release 0.
fn running(hosts: usize, policy: Policy) -> World {
    let mut world = World::new(hosts, policy);
    world.start(0);
    world.turn_friendly();
    world
}

fn rollout(world: &World) -> &Rollout {
    world.target.rollout.as_ref().unwrap()
}

fn outcome(world: &World) -> &Outcome {
    match &rollout(world).stage {
        Stage::Ended { outcome, .. } => outcome,
        stage => panic!("it has not ended: {stage:?}"),
    }
}

/// The versions before the present one, oldest first, and the one that going back goes to.
fn history(world: &World) -> (Vec<String>, Option<String>) {
    let text = |release: &tamer_core::release::ReleaseRef| release.version.to_string();
    let history = world.target.history.iter().map(text).collect();
    (history, world.target.last_good().map(text))
}

fn remembered(history: &[&str], last_good: Option<&str>) -> (Vec<String>, Option<String>) {
    let history = history
        .iter()
        .map(|version| (*version).to_owned())
        .collect();
    (history, last_good.map(str::to_owned))
}

// === what came before ===

#[test]
fn history_grows_forward_and_shrinks_back() {
    let mut world = running(2, careful());
    assert_eq!(history(&world), remembered(&[], None));
    for n in [1, 2, 3] {
        world.start(n);
        world.turn_friendly();
    }
    assert_eq!(
        history(&world),
        remembered(&["1.0.0", "1.1.0", "1.2.0"], Some("1.2.0"))
    );
    world.back_to(1);
    world.turn_friendly();
    assert_eq!(
        history(&world),
        remembered(&["1.0.0"], Some("1.0.0")),
        "not forth again"
    );
    world.start(1);
    world.turn_friendly();
    assert_eq!(
        history(&world),
        remembered(&["1.0.0"], Some("1.0.0")),
        "it ran already"
    );
    world.start(2);
    world.turn_friendly();
    world.start(0);
    world.turn_friendly();
    assert_eq!(
        history(&world),
        remembered(&["1.1.0", "1.2.0"], Some("1.2.0")),
        "no release twice"
    );
    world.back_to(5);
    world.turn_friendly();
    assert_eq!(
        history(&world),
        remembered(&["1.1.0", "1.2.0"], Some("1.2.0")),
        "what was left is not gone back to, wherever it went"
    );
}

#[test]
fn history_is_bounded_and_forgets_the_oldest() {
    let mut world = running(1, careful());
    for n in 1..HISTORY + 3 {
        world.start_release(n);
        world.turn_friendly();
    }
    assert_eq!(world.target.history.len(), HISTORY);
    assert_eq!(world.target.history.first(), Some(&release(2)));
    assert_eq!(world.target.history.last(), Some(&release(HISTORY + 1)));
}

#[test]
fn a_release_found_bad_is_not_gone_back_to_until_it_succeeds() {
    let mut world = running(3, careful());
    for n in [1, 2] {
        world.start(n);
        world.turn_friendly();
    }
    world.spoil(1);
    world.start(1);
    world.turn_friendly();
    assert_eq!(history(&world), remembered(&["1.0.0"], Some("1.0.0")));
    assert!(world.target.bad.contains(&release(1).manifest));
    world.mend(1);
    world.start(1);
    world.turn_friendly();
    assert!(world.target.bad.is_empty(), "it has proven itself");
    assert_eq!(
        history(&world),
        remembered(&["1.0.0", "1.2.0"], Some("1.2.0"))
    );
}

#[test]
fn the_release_that_runs_is_never_called_bad() {
    let mut world = running(3, careful());
    world.add();
    world.spoil(0);
    world.connect(3);
    world.send(3);
    world.disconnect(3);
    world.arrive(0, true);
    world.connect(3);
    world.start(0);
    world.turn_friendly();
    assert!(
        matches!(outcome(&world), Outcome::RolledBack(_)),
        "{:?}",
        outcome(&world)
    );
    assert!(world.target.bad.is_empty());
    assert_eq!(world.target.release, Some(release(0)));
}

#[test]
fn only_what_ran_and_failed_is_bad() {
    let mut world = running(3, careful());
    world.start(1);
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Refuse);
    world.turn_friendly();
    assert!(matches!(outcome(&world), Outcome::RolledBack(_)));
    assert!(
        world.target.bad.is_empty(),
        "a host that refused says nothing of the release"
    );

    world.start(1);
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Undo);
    world.turn_friendly();
    assert!(world.target.bad.contains(&release(1).manifest));
}

#[test]
fn a_rollback_that_was_asked_for_is_no_verdict() {
    let policy = Policy {
        max_failures: Quantity::Hosts(2),
        canary: None,
        ..careful()
    };
    let mut world = running(4, policy);
    world.start(1);
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Undo);
    world.ask_rollback();
    world.turn_friendly();
    assert!(world.target.bad.is_empty());
}

// === plans ===

#[test]
fn a_plan_has_the_healthy_first_and_leaves_out_who_cannot_move() {
    let mut world = running(7, careful());
    world.sicken(0, true);
    world.hold(1, true);
    for n in [0, 1] {
        world.obey(n, &Act::Work);
    }
    world.disconnect(2);
    world.add();
    let target = &world.target;
    let plan = target
        .plan(RolloutId(9), Some(release(1)), Purpose::Forward, NOW)
        .unwrap();
    let waves: Vec<(String, u32)> = plan
        .waves
        .iter()
        .map(|(n, w)| (n.to_string(), *w))
        .collect();
    let expected = [
        ("web-01", 2),
        ("web-04", 0),
        ("web-05", 1),
        ("web-06", 1),
        ("web-07", 2),
    ];
    assert_eq!(waves, expected.map(|(name, wave)| (name.to_owned(), wave)));
    assert_eq!((plan.rollout.total, plan.rollout.left_out), (5, 3));
    let names: Vec<_> = plan
        .rollout
        .waves
        .iter()
        .map(|w| (w.name.as_str(), w.canary))
        .collect();
    assert_eq!(names, [("canary", true), ("60 %", false), ("100 %", false)]);
    assert_eq!(plan.rollout.policy, careful());

    let back = target
        .plan(RolloutId(9), Some(release(1)), Purpose::Back, NOW)
        .unwrap();
    assert_eq!(back.rollout.waves.len(), 1);
    assert!(!back.rollout.waves[0].canary);
}

#[test]
fn a_plan_for_nobody_is_refused() {
    let mut world = World::new(2, careful());
    world.disconnect(0);
    world.hold(1, true);
    world.obey(1, &Act::Work);
    let plan = |world: &World| world.target.plan(RolloutId(9), None, Purpose::Forward, NOW);
    assert_eq!(plan(&world).unwrap_err(), NoPlan::NoneReachable(2));
    world.target.hosts.clear();
    assert_eq!(plan(&world).unwrap_err(), NoPlan::NoHosts);
}

// === failures ===

/// Ten hosts in two waves, none of them a canary, of which one may fail.
fn one_may_fail() -> Policy {
    Policy {
        steps: vec![Quantity::Percent(50), Quantity::Percent(100)],
        max_parallel: Quantity::Hosts(5),
        max_failures: Quantity::Percent(15),
        bake: Span::secs(60),
        ..Policy::default()
    }
}

#[test]
fn as_many_may_fail_as_the_policy_says_and_no_more() {
    let mut world = running(10, one_may_fail());
    world.start(1);
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Undo);
    assert_eq!(
        rollout(&world).stage,
        Stage::Rolling { wave: 0 },
        "one of ten may fail"
    );
    world.obey(1, &Act::Work);
    world.obey(1, &Act::Refuse);
    assert!(matches!(
        rollout(&world).stage,
        Stage::RollingBack { .. } | Stage::Ended { .. }
    ));
}

#[test]
fn a_host_that_fell_silent_is_counted_before_another_is_granted() {
    let policy = Policy {
        canary: None,
        ..careful()
    };
    let mut world = running(4, policy);
    world.start(1);
    world.obey(0, &Act::Work);
    world.deliver(0);
    // Nobody looks at the clock until the next host speaks, long after the first one's time was over.
    world.oversleep(700);
    world.obey(1, &Act::Work);
    assert_eq!(world.target.hosts[&world.name(1)].grant, None);
    assert_eq!(outcome_or_back(&world), Some(true));
}

#[test]
fn a_host_that_gets_worse_while_it_is_watched_fails() {
    for moved_away in [false, true] {
        let mut world = running(4, careful());
        world.start(1);
        world.obey(0, &Act::Work);
        world.obey(0, &Act::Finish);
        if moved_away {
            world.run_by_hand(0, 0);
        } else {
            world.sicken(0, true);
        }
        world.obey(0, &Act::Work);
        assert!(
            matches!(outcome_or_back(&world), Some(true)),
            "{:?}",
            rollout(&world).stage
        );
    }
}

/// Whether it goes or went back; `None` while it goes forward.
fn outcome_or_back(world: &World) -> Option<bool> {
    match &rollout(world).stage {
        Stage::RollingBack { .. } => Some(true),
        Stage::Ended { outcome, .. } => Some(matches!(
            outcome,
            Outcome::RolledBack(_) | Outcome::NotRolledBack(_)
        )),
        Stage::Rolling { .. } | Stage::Baking { .. } => None,
    }
}

#[test]
fn a_release_that_cannot_be_staged_is_refused_without_a_switch() {
    let mut world = running(4, careful());
    world.start(1);
    world.unstageable(0, true);
    world.obey(0, &Act::Work);
    let host = &world.target.hosts[&world.name(0)];
    assert!(matches!(
        host.part.as_ref().unwrap().status,
        PartStatus::Refused(_)
    ));
    assert_eq!(host.running, Some(release(0)));
    assert_eq!(outcome_or_back(&world), Some(true));
}

#[test]
fn what_a_person_has_seen_is_forgiven_and_nothing_more() {
    let policy = Policy {
        on_failure: OnFailure::Pause,
        max_failures: Quantity::Hosts(0),
        ..one_may_fail()
    };
    let mut world = running(10, policy);
    world.start(1);
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Undo);
    assert!(rollout(&world).paused.is_some(), "the policy pauses");
    world.resume();
    assert_eq!(rollout(&world).paused, None, "that failure is accepted");
    world.obey(1, &Act::Work);
    world.obey(1, &Act::Undo);
    assert!(rollout(&world).paused.is_some(), "another one is not");
    assert_eq!(outcome_or_back(&world), None);
}

#[test]
fn going_back_is_not_stopped_by_failures() {
    let mut world = running(4, careful());
    world.start(1);
    world.turn_friendly();
    world.go_back();
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Stick);
    world.turn_friendly();
    assert_eq!(outcome(&world), &Outcome::Succeeded);
    let running = |n| world.target.hosts[&world.name(n)].running.clone();
    assert!((1..4).all(|n| running(n) == Some(release(0))));
}

#[test]
fn a_host_that_cannot_go_back_is_asked_once_and_said() {
    let mut world = running(4, careful());
    world.start(1);
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Finish);
    world.ask_rollback();
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Refuse);
    let name = world.name(0);
    let host = &world.target.hosts[&name];
    assert!(matches!(
        host.part.as_ref().unwrap().status,
        PartStatus::NotBack(_)
    ));
    assert!(matches!(outcome(&world), Outcome::NotRolledBack(_)));
    let asked = host.last_grant;
    world.turn_friendly();
    assert_eq!(
        world.target.hosts[&name].last_grant, asked,
        "it is not asked again"
    );
}

#[test]
fn a_host_that_may_still_switch_is_waited_for_and_then_said() {
    let mut world = running(4, careful());
    world.start(1);
    world.obey(0, &Act::Work);
    world.deliver(0);
    world.disconnect(0);
    world.ask_rollback();
    assert!(
        matches!(rollout(&world).stage, Stage::RollingBack { .. }),
        "it may have moved"
    );
    world.tick(700);
    assert!(matches!(outcome(&world), Outcome::NotRolledBack(_)));
    // It comes back late, with what was taken back: then it goes back like the others.
    world.act(0, &Act::Finish);
    world.turn_friendly();
    assert_eq!(world.target.hosts[&world.name(0)].running, Some(release(0)));
}

#[test]
fn a_host_that_is_down_may_be_moved_without_room() {
    let policy = Policy {
        max_parallel: Quantity::Hosts(1),
        ..Policy::default()
    };
    let mut world = running(3, policy);
    world.sicken(0, true);
    world.obey(0, &Act::Work);
    world.start(1);
    world.obey(1, &Act::Work);
    assert_eq!(
        world.target.hosts[&world.name(1)].grant,
        None,
        "one host is out already"
    );
    let decision = world.decide();
    assert!(
        decision
            .waiting_on
            .contains(&Waiting::Budget { out: 1, limit: 1 })
    );
    world.obey(0, &Act::Work);
    assert!(
        world.target.hosts[&world.name(0)].grant.is_some(),
        "it serves nobody"
    );
}

// === reports ===

#[test]
fn an_older_word_of_a_host_changes_nothing() {
    let mut world = running(2, careful());
    world.start(1);
    world.obey(0, &Act::Work);
    world.deliver(0);
    world.send(0); // it works on the grant
    world.act(0, &Act::Finish);
    let name = world.name(0);
    world.obey(0, &Act::Work);
    let after = world.target.hosts[&name].clone();
    assert_eq!(after.running, Some(release(1)));
    world.arrive(0, true);
    assert_eq!(world.target.hosts[&name], after, "it was done already");
}

#[test]
fn a_grant_that_only_the_host_knows_of_is_not_given_again() {
    let mut world = World::new(1, careful());
    let lost = tamer_core::generation::Generation {
        epoch: 1,
        counter: 40,
    };
    let seen = Observation {
        activation: Some(ActivationReport {
            grant: lost,
            release: None,
            status: ActivationStatus::Done,
        }),
        ..Observation::default()
    };
    let event = Event::Reported(world.name(0), Box::new(seen));
    world.target.apply(&event, NOW).unwrap();
    assert_eq!(world.target.hosts[&world.name(0)].last_grant, lost);
}

// === approval ===

#[test]
fn until_it_is_approved_all_is_staged_and_nothing_is_granted() {
    let mut world = running(4, careful());
    world.start(1);
    world.await_approval(true);
    let grants = |world: &World| {
        let hosts = world.target.hosts.values();
        hosts.filter(|host| host.grant.is_some()).count()
    };
    // It is longer than any deadline, and is nobody's failure.
    for n in 0..4 {
        world.obey(n, &Act::Work);
    }
    world.oversleep(1_000_000);
    assert_eq!(grants(&world), 0);
    assert!((world.target.parts()).all(|(_, host, part)| {
        host.has(Some(&release(1))) && part.status == PartStatus::Waiting
    }));
    let said = Waiting::Approval("0 of 1 approved".to_owned());
    assert_eq!(world.decide().waiting_on, [said]);
    assert!(
        world
            .target
            .desired(&world.name(0))
            .unwrap()
            .waits_for_approval
    );
    world.await_approval(false);
    assert_eq!(grants(&world), 1, "the canary");
    assert!(
        !world
            .target
            .desired(&world.name(0))
            .unwrap()
            .waits_for_approval
    );
    // Approval that is waited for again holds up what has not been granted yet.
    world.turn_friendly();
    assert_eq!(outcome(&world), &Outcome::Succeeded);
}
