//! Two pools and their routers through a whole controller: where releases go, when routers are switched, what going
//! back means, and that no pool that a router sends to is ever touched, whatever is killed or cut off meanwhile.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

#[path = "../common/mod.rs"]
mod common;
mod world;

use proptest::prelude::*;
use tamer_controller::fleet::back::How;
use tamer_controller::fleet::deploy::{Asked, By, Control, Refused};
use tamer_controller::metrics::Metrics;
use tamer_core::rollout::deployment::{DeploymentId, Ending};
use tamer_core::rollout::switching::SwitchEvent;
use world::{ENVIRONMENT, World, anna, release, wanted};

fn deployed(n: u8) -> World {
    let mut world = World::new();
    for n in 1..=n {
        let id = world.deploy(n);
        world.settle();
        assert_eq!(world.ending(id), Some(Ending::Succeeded), "{n}");
    }
    world
}

fn refused(asked: Result<Asked, Refused>) -> String {
    asked.unwrap_err().to_string()
}

#[test]
fn releases_go_to_the_idle_pool_and_routers_follow() {
    let mut world = World::new();
    assert_eq!(world.sends(), ["blue", "blue"]);
    let first = world.deploy(1);
    world.settle();
    assert_eq!(world.ending(first), Some(Ending::Succeeded));
    assert_eq!((world.runs("green"), world.runs("blue")), (Some(1), None));
    assert_eq!(world.sends(), ["green", "green"]);
    let second = world.deploy(2);
    let steps = &world.fleet.deployments[&second].steps;
    let said: Vec<_> = steps
        .iter()
        .map(|it| (it.target.pool.as_str(), it.is_switch()))
        .collect();
    assert_eq!(said, [("blue", false), ("blue", true)]);
    world.settle();
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(1), Some(2))
    );
    assert_eq!(world.sends(), ["blue", "blue"]);
    // What is used already needs nothing.
    let again = world.fleet.deploy(&wanted(2), &anna(), world.now).unwrap();
    assert_eq!(again, Asked::NothingToDo);
}

#[test]
fn the_idle_pool_changes_all_at_once_and_the_used_one_not_at_all() {
    let mut world = deployed(1);
    world.deploy(2);
    world.round();
    world.turn();
    let granted = world.granted();
    assert_eq!(
        granted,
        ["blue-0", "blue-1", "blue-2"],
        "one at a time, says the policy of what is used"
    );
}

#[test]
fn going_back_is_one_switch_to_a_pool_that_is_warm() {
    let mut world = deployed(2);
    let id = world.go_back(&How::default()).unwrap();
    assert_eq!(world.fleet.deployments[&id].steps.len(), 1);
    world.round();
    world.turn();
    assert_eq!(world.granted(), [""; 0], "no host is touched");
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
    assert_eq!(world.sends(), ["green", "green"]);
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(1), Some(2))
    );
    // The next release goes where nobody is sent now, and further back there is nothing.
    let said = world.go_back(&How::default()).unwrap_err().to_string();
    assert!(said.contains("the first release runs there"), "{said}");
    let third = world.deploy(3);
    world.settle();
    assert_eq!(world.ending(third), Some(Ending::Succeeded));
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(1), Some(3))
    );
}

#[test]
fn a_switch_waits_for_somebody_else_than_who_deployed_and_a_crash_changes_nothing() {
    let mut world = deployed(1);
    let asks = ENVIRONMENT.replace("switch =", "approval = true\nswitch =");
    world.publish(&format!("{asks}[approval]\nfour_eyes = true\n"));
    let id = world.deploy(2);
    world.settle();
    world.crash();
    world.settle();
    assert_eq!(world.ending(id), None);
    assert_eq!(world.sends(), ["green", "green"]);
    assert_eq!(world.runs("blue"), Some(2), "it can be looked at");
    let metrics = Metrics::new();
    metrics.observe_fleet(&world.fleet);
    let told = metrics.text();
    let said = |state| format!("tamer_controller_switches{{state=\"{state}\"}}");
    assert!(
        told.contains(&format!("{} 1\n", said("accepted"))),
        "{told}"
    );
    assert!(told.contains(&format!("{} 0\n", said("turning"))), "{told}");

    // Whoever wants to deploy meanwhile hears who is in the way.
    let said = refused(world.fleet.deploy(&wanted(2), &anna(), world.now));
    assert!(said.contains("shop 1.2.0 to production"), "{said}");

    let herself = world
        .fleet
        .control(id, Control::Promote, &anna(), world.now);
    let said = herself.unwrap_err().to_string();
    assert!(said.contains("anna asked for deployment 2"), "{said}");
    let ben = By {
        who: "ben".into(),
        reason: "looks right".into(),
    };
    let promote = |world: &mut World| world.fleet.control(id, Control::Promote, &ben, world.now);
    promote(&mut world).unwrap();
    assert!(promote(&mut world).is_err(), "it goes on already");
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
    assert_eq!(world.sends(), ["blue", "blue"]);
    // Going back asks nobody.
    let back = world.go_back(&How::default()).unwrap();
    world.settle();
    assert_eq!(world.ending(back), Some(Ending::Succeeded));
    assert_eq!(world.sends(), ["green", "green"]);
}

#[test]
fn a_version_that_is_named_comes_by_the_idle_pool_too() {
    let mut world = deployed(2);
    let site = ("production".parse().unwrap(), "shop".parse().unwrap());
    let site = (&site.0, &site.1);
    let back = |world: &mut World, n| {
        let to = wanted(n);
        let asked = world
            .fleet
            .go_back(site, None, Some(&to), &How::default(), &anna(), world.now);
        world.turn();
        asked.unwrap()
    };
    assert_eq!(back(&mut world, 2), Asked::NothingToDo);
    let Asked::Started(id) = back(&mut world, 1) else {
        panic!("it has to move")
    };
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
    assert_eq!(world.sends(), ["green", "green"], "it was there already");
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(1), Some(2))
    );
}

#[test]
fn a_pool_that_is_not_whole_any_more_is_said_before_and_gone_back_to_only_by_name() {
    let mut world = deployed(2);
    world.cut_off("green-1");
    let said = world.go_back(&How::default()).unwrap_err().to_string();
    assert!(
        said.starts_with("shop/web pool green is not whole any more: green-1 is away (2 of 3"),
        "{said}"
    );
    assert!(said.ends_with("with --incomplete routers are switched to it all the same"));
    let incomplete = How {
        incomplete: true,
        ..How::default()
    };
    let id = world.go_back(&incomplete).unwrap();
    world.settle();
    assert_eq!(
        (world.ending(id), world.sends()),
        (
            Some(Ending::Succeeded),
            vec!["green".into(), "green".into()]
        )
    );
    for host in ["blue-0", "blue-1", "blue-2"] {
        world.cut_off(host);
    }
    let blue = How {
        incomplete: true,
        pool: Some("blue".parse().unwrap()),
        ..How::default()
    };
    let said = world.send_all(&blue).unwrap_err().to_string();
    assert!(
        said.starts_with("shop/web pool blue cannot serve: blue-0 is away"),
        "{said}"
    );
}

#[test]
fn what_is_not_accepted_is_taken_back_and_no_router_was_touched() {
    let mut world = deployed(2);
    world.refuses.insert(release(3).manifest);
    let id = world.deploy(3);
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::RolledBack));
    assert_eq!(world.sends(), ["blue", "blue"]);
    assert_eq!(world.switched["lb-0"], 2, "the first two");
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(1), Some(2))
    );
}

#[test]
fn a_router_that_fails_takes_all_back_and_the_idle_pool_follows() {
    let mut world = deployed(2);
    world.broken.insert("lb-1".parse().unwrap());
    let id = world.deploy(3);
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::RolledBack));
    assert_eq!(world.sends(), ["blue", "blue"]);
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(1), Some(2))
    );
    let cause = format!("{:?}", world.fleet.deployments[&id].steps[1].status);
    assert!(
        cause.contains("lb-1") && cause.contains("the socket is gone"),
        "{cause}"
    );
}

#[test]
fn a_router_that_stays_behind_keeps_its_pool_from_being_touched() {
    let mut world = deployed(2);
    world.slow.insert("lb-1".parse().unwrap());
    let id = world.deploy(3);
    world.until("told", |world| world.sends()[0] == "green");
    // The first is switched; it is cut off, and the second gets nowhere.
    world.cut_off("lb-0");
    world.pass(60);
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::NotRolledBack));
    assert_eq!(world.sends(), ["green", "blue"]);
    assert_eq!(world.runs("green"), Some(3), "lb-0 sends there");
    world.slow.clear();
    let said = refused(world.fleet.deploy(&wanted(4), &anna(), world.now));
    assert!(
        said.contains("pool green is not idle: the router lb-0 sends to green, and is away"),
        "{said}"
    );
    world.connect("lb-0");
    world.settle();
    assert_eq!(world.sends(), ["blue", "blue"], "who comes back follows");
    let id = world.deploy(4);
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
}

#[test]
fn turning_a_deployment_back_while_it_is_watched_turns_routers_back() {
    let mut world = deployed(2);
    let id = world.deploy(3);
    world.until("switched", |world| world.sends() == ["green", "green"]);
    let said = |what: Control, world: &mut World| {
        let asked = world.fleet.control(id, what, &anna(), world.now);
        asked.map_err(|why| why.to_string())
    };
    assert!(
        said(Control::Pause, &mut world)
            .unwrap_err()
            .contains("is not held up")
    );
    assert!(
        said(Control::Abort, &mut world)
            .unwrap_err()
            .contains("must not stay half-way")
    );
    said(Control::Rollback { with_down: false }, &mut world).unwrap();
    world.turn();
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::RolledBack));
    assert_eq!(world.sends(), ["blue", "blue"]);
    assert_eq!(world.runs("green"), Some(1));
}

#[test]
fn what_routers_do_by_hand_is_noted_and_one_command_ends_it() {
    let mut world = deployed(2);
    world.by_hand("lb-1", "green");
    world.round();
    world.turn();
    let notes = tamer_controller::notes::of_environment(&world.fleet, None);
    assert_eq!(
        notes,
        [
            "production: shop/web: the router lb-1 sends to green: it was changed by hand, and blue is used: tamer rollback production --application shop --component web --pool blue"
        ]
    );
    let said = refused(world.fleet.deploy(&wanted(3), &anna(), world.now));
    assert!(
        said.contains("pool green is not idle: the router lb-1 sends to green"),
        "{said}"
    );
    let blue = How {
        pool: Some("blue".parse().unwrap()),
        ..How::default()
    };
    let id = world.send_all(&blue).unwrap();
    world.settle();
    assert_eq!(
        (world.ending(id), world.sends()),
        (Some(Ending::Succeeded), vec!["blue".into(), "blue".into()])
    );
    assert!(tamer_controller::notes::of_environment(&world.fleet, None).is_empty());
}

#[test]
fn a_restored_controller_tells_routers_nothing_until_they_agree() {
    let mut world = deployed(1);
    let kept = world.store.load_all();
    world.deploy(2);
    world.settle();
    assert_eq!(world.sends(), ["blue", "blue"]);
    world.restore(&kept);
    world.connect("lb-0");
    let said = refused(world.fleet.deploy(&wanted(3), &anna(), world.now));
    assert!(
        said.contains("the router lb-1 has not said what it does"),
        "{said}"
    );
    world.connect_all();
    world.settle();
    // It wanted green, and they send to blue: that is what counts.
    assert_eq!(world.sends(), ["blue", "blue"]);
    assert_eq!(world.router().active.as_ref().unwrap().as_str(), "blue");
    let id = world.deploy(3);
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(3), Some(2))
    );
}

#[test]
fn a_controller_that_was_away_lets_routers_say_what_they_did() {
    let mut world = deployed(1);
    let id = world.deploy(2);
    world.until("told", |world| world.sends()[0] == "blue");
    // They do what they were told meanwhile, and nobody hears it.
    world.down_for(600);
    world.round();
    world.pass(5);
    world.connect_all();
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
    assert_eq!(world.sends(), ["blue", "blue"]);
}

#[test]
fn pools_that_come_later_know_what_ran_and_what_ran_last_stays_without_them() {
    let mut world = World::new();
    let without = &world::ENVIRONMENT[..world::ENVIRONMENT.find("[pools").unwrap()];
    world.publish(without);
    world.turn();
    world.settle();
    let id = world.deploy(1);
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
    world.publish(world::ENVIRONMENT);
    world.turn();
    world.settle();
    assert_eq!(world.router().active.as_ref().unwrap().as_str(), "blue");
    world.strict = true;
    let id = world.deploy(2);
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(2), Some(1))
    );
    world.go_back(&How::default()).unwrap();
    world.settle();
    assert_eq!(world.sends(), ["blue", "blue"]);
    let id = world.deploy(3);
    world.settle();
    assert_eq!(world.ending(id), Some(Ending::Succeeded));
    // Without pools all hosts run what users met last.
    world.strict = false;
    world.publish(without);
    world.turn();
    world.settle();
    assert_eq!(
        (world.runs("green"), world.runs("blue")),
        (Some(3), Some(3))
    );
}

#[test]
fn an_environment_that_leaves_its_routers_out_ends_what_waits_for_them() {
    let mut world = deployed(1);
    let id = world.deploy(2);
    world.until("prepared", |world| world.router().running().is_some());
    world.publish(&world::ENVIRONMENT[..world::ENVIRONMENT.find("[pools").unwrap()]);
    world.turn();
    world.settle();
    assert!(world.ending(id).is_some());
    assert!(world.fleet.routers.is_empty());
}

/// One thing that happens while releases go back and forth.
#[derive(Debug, Clone)]
enum Op {
    Deploy(u8),
    Back,
    TurnBack,
    Abort,
    Work(usize),
    Pass(u64),
    Crash,
    CutOff(usize),
    Connect(usize),
    Break(usize, bool),
    Slow(usize, bool),
    Spoil(u8),
    Refuse(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let (n, release) = (0..8usize, 1..6u8);
    prop_oneof![
        6 => release.clone().prop_map(Op::Deploy),
        3 => Just(Op::Back),
        1 => Just(Op::TurnBack),
        1 => Just(Op::Abort),
        40 => n.clone().prop_map(Op::Work),
        6 => (1..40u64).prop_map(Op::Pass),
        2 => Just(Op::Crash),
        1 => n.clone().prop_map(Op::CutOff),
        3 => n.clone().prop_map(Op::Connect),
        1 => (n.clone(), any::<bool>()).prop_map(|(n, it)| Op::Break(n, it)),
        1 => (n, any::<bool>()).prop_map(|(n, it)| Op::Slow(n, it)),
        1 => release.clone().prop_map(Op::Spoil),
        1 => release.prop_map(Op::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The world refuses every change of a host that a router sends to.
    #[test]
    fn no_host_that_a_router_sends_to_is_ever_touched(ops in prop::collection::vec(op(), 0..150)) {
        let mut world = deployed(1);
        world.strict = true;
        for op in &ops {
            let id = world.fleet.deployments.keys().next_back().copied().unwrap_or(DeploymentId(0));
            match op {
                Op::Deploy(n) => {
                    let _ = world.fleet.deploy(&wanted(*n), &anna(), world.now);
                    world.turn();
                }
                Op::Back => drop(world.go_back(&How::default())),
                Op::TurnBack => {
                    let _ = world.fleet.control(id, Control::Rollback { with_down: false }, &anna(), world.now);
                    world.turn();
                }
                Op::Abort => {
                    let _ = world.fleet.control(id, Control::Abort, &anna(), world.now);
                    world.turn();
                }
                Op::Work(n) => world.work(&world.nth(*n)),
                Op::Pass(seconds) => world.pass(*seconds),
                Op::Crash => world.crash(),
                Op::CutOff(n) => world.cut_off(world.nth(*n).as_str()),
                Op::Connect(n) => world.connect(world.nth(*n).as_str()),
                Op::Break(n, it) => world.set(*n, *it, |world| &mut world.broken),
                Op::Slow(n, it) => world.set(*n, *it, |world| &mut world.slow),
                Op::Spoil(n) => drop(world.bad.insert(release(*n).manifest)),
                Op::Refuse(n) => drop(world.refuses.insert(release(*n).manifest)),
            }
        }
        world.broken.clear();
        world.slow.clear();
        world.connect_all();
        world.settle();
        let running = world.fleet.deployments.values().filter(|it| it.ended.is_none()).count();
        prop_assert_eq!(running, 0, "everything ends");
        let router = world.router();
        prop_assert!(router.running().is_none());
        let active = router.active.clone().unwrap();
        prop_assert!(world.sends().iter().all(|it| it == active.as_str()), "all do what is wanted");
        let _ = SwitchEvent::Arrived;
    }
}
