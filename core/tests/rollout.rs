//! Generated histories: hosts that report late, twice, in any order or never; people who pause, abort
//! and go back at any moment; a controller that restarts. A witness checks every promise after every
//! event; then the world turns friendly, and the rollout must end.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

#[path = "rollout/astray.rs"]
mod astray;
#[path = "rollout/back.rs"]
mod back;
#[path = "rollout/closed.rs"]
mod closed;
#[path = "rollout/desired.rs"]
mod desired;
mod fleet;
#[path = "rollout/limits.rs"]
mod limits;
#[path = "rollout/points.rs"]
mod points;
#[path = "rollout/refused.rs"]
mod refused;
#[path = "rollout/restored.rs"]
mod restored;
#[path = "rollout/rules.rs"]
mod rules;
#[path = "rollout/zones.rs"]
mod zones;

use fleet::World;
use proptest::prelude::*;
use tamer_core::desired::Purpose;
use tamer_core::policy::{OnFailure, Point, Policy, Quantity};
use tamer_core::rollout::Stage;

/// One thing that happens. Numbers choose a host, a message, a release, by their remainder.
#[derive(Debug, Clone)]
enum Op {
    Obey(usize, fleet::Act),
    Deliver(usize),
    Act(usize, fleet::Act),
    Send(usize),
    Arrive(usize),
    ArriveTwice(usize),
    Lose(usize),
    Disconnect(usize),
    Connect(usize),
    Sicken(usize, bool),
    Unstageable(usize, bool),
    Hold(usize, bool),
    Tick(u64),
    Oversleep(u64),
    Restart,
    Restore,
    NewPolicy(Policy),
    Start(usize),
    GoBack,
    Pause,
    Resume,
    Abort,
    AskRollback,
    Add,
    Remove(usize),
    Rebuild(usize),
    Line(bool),
    Approval(bool),
    Opening(bool, u64),
    Promote,
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..64usize;
    prop_oneof![
        24 => (n.clone(), fleet::act()).prop_map(|(h, a)| Op::Obey(h, a)),
        6 => n.clone().prop_map(Op::Deliver),
        6 => (n.clone(), fleet::act()).prop_map(|(h, a)| Op::Act(h, a)),
        6 => n.clone().prop_map(Op::Send),
        6 => n.clone().prop_map(Op::Arrive),
        2 => n.clone().prop_map(Op::ArriveTwice),
        1 => n.clone().prop_map(Op::Lose),
        1 => n.clone().prop_map(Op::Disconnect),
        2 => n.clone().prop_map(Op::Connect),
        1 => (n.clone(), any::<bool>()).prop_map(|(h, s)| Op::Sicken(h, s)),
        1 => (n.clone(), any::<bool>()).prop_map(|(h, s)| Op::Unstageable(h, s)),
        1 => (n.clone(), any::<bool>()).prop_map(|(h, s)| Op::Hold(h, s)),
        4 => (0..400u64).prop_map(Op::Tick),
        1 => (0..900u64).prop_map(Op::Oversleep),
        1 => Just(Op::Restart),
        1 => Just(Op::Restore),
        1 => policy().prop_map(Op::NewPolicy),
        3 => n.clone().prop_map(Op::Start),
        1 => Just(Op::GoBack),
        1 => Just(Op::Pause),
        1 => Just(Op::Resume),
        1 => Just(Op::Abort),
        1 => Just(Op::AskRollback),
        1 => Just(Op::Add),
        1 => n.clone().prop_map(Op::Remove),
        1 => n.prop_map(Op::Rebuild),
        2 => any::<bool>().prop_map(Op::Line),
        2 => any::<bool>().prop_map(Op::Approval),
        3 => Just(Op::Promote),
        3 => (any::<bool>(), 0..1500u64).prop_map(|(open, lasts)| Op::Opening(open, lasts)),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let quantity = prop_oneof![
        (1..4u32).prop_map(Quantity::Hosts),
        (5..60u8).prop_map(Quantity::Percent)
    ];
    let budget = prop_oneof![
        (0..3u32).prop_map(Quantity::Hosts),
        (0..40u8).prop_map(Quantity::Percent)
    ];
    let steps = prop_oneof![
        Just(vec![Quantity::Percent(100)]),
        Just(vec![Quantity::Percent(30), Quantity::Percent(100)]),
        Just(vec![
            Quantity::Percent(10),
            Quantity::Percent(50),
            Quantity::Percent(100)
        ]),
    ];
    (
        proptest::option::of(quantity.clone()),
        steps,
        quantity.clone(),
        quantity,
        budget,
        0..90u64,
        any::<bool>(),
        proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        proptest::option::weighted(0.3, (0..60u8).prop_map(Quantity::Percent)),
    )
        .prop_map(
            |(
                canary,
                steps,
                max_parallel,
                max_staging,
                max_failures,
                bake,
                pause,
                at,
                max_unreachable,
            )| Policy {
                max_unreachable,
                approval: points(canary, &steps, &at),
                canary,
                steps,
                max_parallel,
                max_staging,
                max_failures,
                bake: tamer_core::moment::Span::secs(bake),
                on_failure: if pause {
                    OnFailure::Pause
                } else {
                    OnFailure::Rollback
                },
                ..Policy::default()
            },
        )
}

/// Some of the points that there are.
fn points(canary: Option<Quantity>, steps: &[Quantity], at: &[prop::sample::Index]) -> Vec<Point> {
    let mut all: Vec<Point> = canary.map(|_| Point::Canary).into_iter().collect();
    let last = steps.len() - 1;
    all.extend(steps[..last].iter().copied().map(Point::Reached));
    let some = at.iter().filter(|_| !all.is_empty());
    some.map(|it| all[it.index(all.len())]).collect()
}

fn play(world: &mut World, op: &Op) {
    match op {
        Op::Obey(n, act) => world.obey(*n, act),
        Op::Deliver(n) => world.deliver(*n),
        Op::Act(n, act) => world.act(*n, act),
        Op::Send(n) => world.send(*n),
        Op::Arrive(n) => world.arrive(*n, true),
        Op::ArriveTwice(n) => world.arrive(*n, false),
        Op::Lose(n) => world.lose(*n),
        Op::Disconnect(n) => world.disconnect(*n),
        Op::Connect(n) => world.connect(*n),
        Op::Sicken(n, sick) => world.sicken(*n, *sick),
        Op::Unstageable(n, fails) => world.unstageable(*n, *fails),
        Op::Hold(n, held) => world.hold(*n, *held),
        Op::Tick(seconds) => world.tick(*seconds),
        Op::Oversleep(seconds) => world.oversleep(*seconds),
        Op::Restart => world.restart(),
        Op::Restore => world.restore(),
        Op::NewPolicy(policy) => world.new_policy(policy.clone()),
        Op::Start(n) => world.start(*n),
        Op::GoBack => world.go_back(),
        Op::Pause => world.pause(),
        Op::Resume => world.resume(),
        Op::Abort => world.abort(),
        Op::AskRollback => world.ask_rollback(),
        Op::Add => world.add(),
        Op::Remove(n) => world.remove(*n),
        Op::Rebuild(n) => world.rebuild(*n),
        Op::Line(drawn) => world.draw_line(*drawn),
        Op::Approval(awaited) => world.await_approval(*awaited),
        Op::Promote => world.promote(),
        Op::Opening(open, lasts) => world.opens(*open, Some(*lasts).filter(|it| *it > 0)),
    }
}

proptest! {
    // 256 cases, or as many as PROPTEST_CASES says.
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn promises_hold_and_every_rollout_ends(
        hosts in 1..12usize,
        policy in policy(),
        established in proptest::bool::weighted(0.7),
        spoilt in proptest::option::of(1..4usize),
        ops in proptest::collection::vec(op(), 1..250),
    ) {
        let mut world = World::new(hosts, policy);
        world.start(0);
        if established {
            // Most of what can go wrong needs something that already runs.
            world.turn_friendly();
            world.start(1);
        }
        if let Some(n) = spoilt {
            world.spoil(n);
        }
        for op in &ops {
            play(&mut world, op);
        }
        world.turn_friendly();
        prop_assert!(world.target.active().is_none(), "it still runs: {:?}", world.target.rollout.as_ref().map(|r| &r.stage));
        world.check_rest();
    }
}

/// Six hosts, all well: how a rollout goes when nothing happens to it.
fn calm(policy: Policy) -> World {
    let mut world = World::new(6, policy);
    world.turn_friendly();
    world
}

fn careful() -> Policy {
    Policy {
        canary: Some(Quantity::Hosts(1)),
        max_parallel: Quantity::Hosts(2),
        ..Policy::default()
    }
}

#[test]
fn a_good_release_reaches_every_host_canary_first() {
    let mut world = calm(careful());
    world.start(0);
    let granted = world
        .target
        .hosts
        .values()
        .filter(|host| host.grant.is_some())
        .count();
    assert_eq!(granted, 0, "nothing is granted before it is staged");
    world.turn_friendly();
    assert!(
        world
            .target
            .hosts
            .values()
            .all(|host| host.running == Some(fleet::release(0)))
    );
    assert_eq!(world.target.release, Some(fleet::release(0)));
}

#[test]
fn a_canary_that_fails_takes_back_only_itself() {
    let mut world = calm(careful());
    world.start(0);
    world.turn_friendly();
    world.spoil(1);
    world.start(1);
    world.turn_friendly();
    assert!(
        world
            .target
            .hosts
            .values()
            .all(|host| host.running == Some(fleet::release(0)))
    );
    assert!(world.target.bad.contains(&fleet::release(1).manifest));
    let tried = world
        .target
        .hosts
        .values()
        .filter(|host| host.tried.is_some())
        .count();
    assert_eq!(tried, 1, "only the canary tried it");
    assert_eq!(
        world.target.last_good(),
        None,
        "there is no third release to go to"
    );
}

/// What is closed is closed for going forward; a host that does not answer has no more time to go back for it.
#[test]
fn a_calendar_that_closes_gives_no_more_time_to_go_back() {
    for (open, lasts) in [(false, None), (false, Some(900)), (true, None)] {
        let mut world = calm(careful());
        world.start(0);
        world.turn_friendly();
        world.start(1);
        let canary = |world: &fleet::World| {
            let mut hosts = world.target.hosts.values();
            hosts.position(|host| host.running == Some(fleet::release(1)))
        };
        let mut turns = (0..6).cycle();
        while canary(&world).is_none() {
            world.obey(turns.next().unwrap(), &fleet::Act::Finish);
            world.tick(1);
        }
        world.disconnect(canary(&world).unwrap());
        world.ask_rollback();
        world.tick(500);
        world.opens(open, lasts);
        world.tick(200);
        assert!(world.target.active().is_none(), "{:?}", world.target);
    }
}

#[test]
fn going_back_is_one_wave_and_goes_further_back_each_time() {
    let mut world = calm(careful());
    for n in [0, 1, 2] {
        world.start(n);
        world.turn_friendly();
    }
    for expected in [1, 0] {
        world.go_back();
        assert_eq!(
            world
                .target
                .rollout
                .as_ref()
                .map(|r| (r.waves.len(), r.purpose)),
            Some((1, Purpose::Back))
        );
        world.turn_friendly();
        assert_eq!(world.target.release, Some(fleet::release(expected)));
        assert!(
            world
                .target
                .hosts
                .values()
                .all(|host| host.running == Some(fleet::release(expected)))
        );
    }
}

#[test]
fn a_host_that_was_away_follows_when_it_is_back() {
    let mut world = calm(careful());
    world.disconnect(3);
    world.start(0);
    world.run_friendly();
    let away = world.name(3);
    assert_eq!(world.target.hosts[&away].running, None);
    assert!(world.target.active().is_none());
    world.turn_friendly();
    assert_eq!(world.target.hosts[&away].running, Some(fleet::release(0)));
}

#[test]
fn a_first_deploy_that_fails_leaves_nothing_running() {
    let mut world = calm(careful());
    world.spoil(0);
    world.start(0);
    world.turn_friendly();
    assert!(
        world
            .target
            .hosts
            .values()
            .all(|host| host.running.is_none())
    );
    assert!(matches!(
        world.target.rollout.as_ref().map(|r| &r.stage),
        Some(Stage::Ended { .. })
    ));
}
