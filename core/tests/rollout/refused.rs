//! Events that cannot happen: refused, with nothing changed. `decide` makes none of them; the store of
//! a restored controller, or a mistake in whoever drives the engine, might.

use crate::fleet::{World, release};
use tamer_core::desired::Purpose;
use tamer_core::generation::Generation;
use tamer_core::moment::{Moment, Span};
use tamer_core::policy::{Policy, Quantity};
use tamer_core::rollout::{Cause, Event, Illegal, Outcome, RolloutId, Stage, Target};

const NOW: Moment = Moment(5_000_000);

/// Four hosts that run release 0, in two waves.
fn fleet() -> World {
    let mut world = World::new(
        4,
        Policy {
            canary: Some(Quantity::Hosts(1)),
            steps: vec![Quantity::Percent(50), Quantity::Percent(100)],
            ..Policy::default()
        },
    );
    world.start(0);
    world.turn_friendly();
    world
}

fn refused(target: &Target, event: &Event) -> Illegal {
    let mut after = target.clone();
    let illegal = after.apply(event, NOW).unwrap_err();
    assert_eq!(&after, target, "a refused event changed the state");
    illegal
}

fn granted(world: &World, host: usize, counter: u64) -> Event {
    Event::Granted {
        host: world.name(host),
        id: Generation { epoch: 1, counter },
        release: Some(release(1)),
        purpose: Purpose::Forward,
        start_by: NOW + Span::secs(60),
        give_up_at: NOW + Span::secs(660),
    }
}

#[test]
fn one_rollout_at_a_time() {
    let mut world = fleet();
    let second = world.target.plan(RolloutId(9), None, Purpose::Forward, NOW);
    world.start(1);
    let event = Event::Started(Box::new(second.unwrap()));
    let running = world.target.active().unwrap().id;
    assert_eq!(
        refused(&world.target, &event),
        Illegal::AlreadyRunning(running)
    );
}

#[test]
fn nothing_goes_back_to_a_release_known_bad() {
    let mut world = fleet();
    world.spoil(1);
    world.start(1);
    world.turn_friendly();
    let back = world
        .target
        .plan(RolloutId(9), Some(release(1)), Purpose::Back, NOW);
    let event = Event::Started(Box::new(back.unwrap()));
    assert_eq!(
        refused(&world.target, &event),
        Illegal::KnownBad(release(1))
    );
    // A new try forward is somebody's decision.
    let forward = world
        .target
        .plan(RolloutId(9), Some(release(1)), Purpose::Forward, NOW);
    let event = Event::Started(Box::new(forward.unwrap()));
    assert!(world.target.clone().apply(&event, NOW).is_ok());
}

#[test]
fn a_plan_names_hosts_that_exist() {
    let mut world = fleet();
    let plan = world
        .target
        .plan(RolloutId(9), Some(release(1)), Purpose::Forward, NOW);
    let gone = world.name(0);
    world.remove(0);
    let event = Event::Started(Box::new(plan.unwrap()));
    assert_eq!(refused(&world.target, &event), Illegal::NoSuchHost(gone));
}

#[test]
fn a_host_has_one_grant_and_each_is_newer() {
    let mut world = fleet();
    let newest = world.target.hosts[&world.name(0)].last_grant.counter;
    let old = refused(&world.target, &granted(&world, 0, newest));
    assert_eq!(old, Illegal::BadGrant(world.name(0)));
    let first = granted(&world, 0, newest + 1);
    world.target.apply(&first, NOW).unwrap();
    let second = refused(&world.target, &granted(&world, 0, newest + 2));
    assert_eq!(
        second,
        Illegal::BadGrant(world.name(0)),
        "the first is open"
    );
}

#[test]
fn waves_follow_one_another_and_only_after_their_bake() {
    let mut world = fleet();
    world.start(1);
    let mut target = world.target;
    let out = Illegal::OutOfOrder;
    assert_eq!(
        refused(&target, &Event::WaveStarted(1)),
        out,
        "it does not bake yet"
    );
    assert_eq!(
        refused(&target, &Event::WaveBaking(1)),
        out,
        "that wave has not started"
    );
    assert_eq!(refused(&target, &Event::Ended(Outcome::Succeeded)), out);
    target.apply(&Event::WaveBaking(0), NOW).unwrap();
    assert_eq!(
        refused(&target, &Event::WaveBaking(0)),
        out,
        "it bakes already"
    );
    for wave in [0, 2, 3, 4] {
        assert_eq!(
            refused(&target, &Event::WaveStarted(wave)),
            out,
            "wave {wave}"
        );
    }
    target.apply(&Event::WaveStarted(1), NOW).unwrap();
    assert_eq!(target.rollout.unwrap().stage, Stage::Rolling { wave: 1 });
}

#[test]
fn a_rollout_ends_once_and_as_it_went() {
    let mut world = fleet();
    let cause = || Cause::Asked {
        by: "anna".into(),
        reason: String::new(),
    };
    assert_eq!(refused(&world.target, &Event::Resumed), Illegal::NoRollout);
    assert_eq!(
        refused(&world.target, &Event::TurnedBack(cause())),
        Illegal::NoRollout
    );
    world.start(1);
    let back = Event::Ended(Outcome::RolledBack(cause()));
    assert_eq!(refused(&world.target, &back), Illegal::OutOfOrder);
    assert_eq!(refused(&world.target, &Event::Resumed), Illegal::NotPaused);
    let pause = Event::Paused {
        by: "anna".into(),
        reason: "lunch".into(),
    };
    let mut target = world.target;
    target.apply(&pause, NOW).unwrap();
    assert_eq!(
        refused(&target, &pause),
        Illegal::AlreadyPaused("anna".into())
    );
    target.apply(&Event::TurnedBack(cause()), NOW).unwrap();
    assert_eq!(
        target.active().unwrap().paused,
        None,
        "going back is not paused"
    );
    let asked = Event::RollbackAsked {
        by: "anna".into(),
        reason: String::new(),
    };
    assert_eq!(refused(&target, &asked), Illegal::AlreadyGoingBack);
    assert_eq!(
        refused(&target, &Event::TurnedBack(cause())),
        Illegal::AlreadyGoingBack
    );
    assert_eq!(
        refused(&target, &Event::Ended(Outcome::Succeeded)),
        Illegal::OutOfOrder
    );
    target.apply(&back, NOW).unwrap();
    assert_eq!(refused(&target, &back), Illegal::NoRollout);
}

#[test]
fn what_goes_back_is_not_turned_around() {
    let mut world = fleet();
    world.start(1);
    world.turn_friendly();
    world.go_back();
    let asked = Event::RollbackAsked {
        by: "anna".into(),
        reason: String::new(),
    };
    assert_eq!(refused(&world.target, &asked), Illegal::AlreadyGoingBack);
}
