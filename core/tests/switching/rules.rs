//! The rules of a switch, one by one.

use super::world::{World, pool};
use tamer_core::rollout::switching::{SwitchEvent, SwitchStage};
use tamer_core::rollout::{Cause, Outcome, Target};

fn outcome(world: &World) -> Outcome {
    match &world.router.switch.as_ref().unwrap().stage {
        SwitchStage::Ended { outcome, .. } => outcome.clone(),
        other => panic!("it is {other:?}"),
    }
}

fn active(world: &World) -> &str {
    world.router.active.as_ref().unwrap().as_str()
}

fn all(world: &mut World) {
    for n in 0..world.agents.len() {
        world.round(n);
    }
}

#[test]
fn where_all_routers_send_is_the_active_pool_and_the_other_is_idle() {
    let world = World::new(3, 0, false);
    assert_eq!(active(&world), "blue");
    assert_eq!(world.router.idle().unwrap(), pool(1));
    assert_eq!(world.router.may_send_to(&pool(1)), None);
    assert!(
        world
            .router
            .may_send_to(&pool(0))
            .unwrap()
            .contains("sends to blue")
    );
}

#[test]
fn routers_that_do_not_agree_leave_no_pool_idle_and_are_named() {
    let mut world = World::new(1, 0, false);
    world.router.unsettled = true;
    world.add();
    world.by_hand(1, 1);
    world.connect(1);
    let said = world.router.idle().unwrap_err().to_string();
    assert!(
        said.ends_with("lb-0 sends to blue, lb-1 sends to green"),
        "{said}"
    );
    assert!(world.router.may_send_to(&pool(1)).is_some());
}

#[test]
fn a_switch_is_done_when_all_routers_say_so_and_the_bake_is_over() {
    let mut world = World::new(2, 300, true);
    world.deploy();
    assert!(world.router.told.is_none(), "not before it is accepted");
    world.round(0);
    assert!(
        world.router.told.is_none(),
        "not before everybody accepts it"
    );
    world.round(1);
    assert_eq!(world.router.told.as_ref().unwrap().0, pool(1));
    assert_eq!(active(&world), "blue");
    all(&mut world);
    world.tick(299);
    assert_eq!(active(&world), "blue", "it is still watched");
    world.tick(1);
    assert_eq!(outcome(&world), Outcome::Succeeded);
    assert_eq!(active(&world), "green");
}

#[test]
fn one_router_that_does_not_accept_it_is_enough_and_nothing_was_touched() {
    let mut world = World::new(2, 0, true);
    world.with(1, |it| it.refuses = true);
    world.deploy();
    all(&mut world);
    let Outcome::RolledBack(cause) = outcome(&world) else {
        panic!("{:?}", outcome(&world))
    };
    assert_eq!(
        cause.to_string(),
        "lb-1: green is not accepted: check `home` fails"
    );
    assert!(world.router.told.is_none());
}

#[test]
fn where_a_person_is_asked_nothing_is_touched_before_and_acceptance_is_tried_once_more() {
    let mut world = World::new(2, 0, true);
    world.ask(true);
    world.deploy();
    all(&mut world);
    let waits = world.router.decide(world.now, 1).waiting_on;
    assert_eq!(
        waits.unwrap().to_string(),
        "somebody to promote it: pool green is accepted"
    );
    // A night goes by, and a host with it, which is back in the morning.
    world.tick(40_000);
    world.weigh(1, false);
    world.weigh(1, true);
    assert!(world.router.told.is_none());
    world.promote();
    world.round(0);
    assert!(world.router.told.is_none(), "lb-1 has not tried it again");
    world.round(1);
    assert_eq!(world.router.told.as_ref().unwrap().0, pool(1));
    all(&mut world);
    assert_eq!(outcome(&world), Outcome::Succeeded);
    // Going back asks nobody.
    world.back(0);
    all(&mut world);
    assert_eq!(active(&world), "blue");
}

#[test]
fn what_a_person_let_happen_and_is_not_accepted_any_more_does_not_happen() {
    let mut world = World::new(2, 0, true);
    world.ask(true);
    world.deploy();
    all(&mut world);
    world.with(1, |it| it.refuses = true);
    world.promote();
    all(&mut world);
    assert!(matches!(outcome(&world), Outcome::RolledBack(_)));
    assert!(world.router.told.is_none());
}

#[test]
fn what_waits_for_a_person_is_given_up_without_a_trace() {
    for abort in [true, false] {
        let mut world = World::new(2, 0, false);
        world.ask(true);
        world.deploy();
        match abort {
            true => world.abort(),
            false => world.ask_back(),
        }
        assert!(world.router.running().is_none());
        assert!(world.router.told.is_none());
        assert_eq!(active(&world), "blue");
    }
}

#[test]
fn a_router_that_fails_half_way_takes_all_of_them_back_at_once() {
    let mut world = World::new(3, 0, false);
    world.with(2, |it| it.broken = true);
    world.deploy();
    world.round(0);
    assert_eq!(world.agents.values().next().unwrap().sends_to, pool(1));
    world.round(2);
    assert_eq!(world.router.told.as_ref().unwrap().0, pool(0));
    world.with(2, |it| it.broken = false);
    all(&mut world);
    assert!(
        matches!(outcome(&world), Outcome::RolledBack(Cause::Switch { router: Some(it), .. }) if it.as_str() == "lb-2")
    );
    assert!(world.agents.values().all(|it| it.sends_to == pool(0)));
    assert_eq!(active(&world), "blue");
}

#[test]
fn a_router_that_cannot_be_taken_back_is_said_and_leaves_no_pool_idle() {
    let mut world = World::new(2, 0, false);
    world.deploy();
    world.round(0);
    world.with(0, |it| it.broken = true);
    world.with(1, |it| it.broken = true);
    all(&mut world);
    all(&mut world);
    assert!(matches!(outcome(&world), Outcome::NotRolledBack(_)));
    assert!(
        world
            .router
            .may_send_to(&pool(1))
            .unwrap()
            .starts_with("the router lb-0 sends to green")
    );
    let astray: Vec<_> = world.router.astray();
    assert_eq!(astray.len(), 1, "lb-1 never left: {astray:?}");
}

#[test]
fn a_router_that_is_away_has_no_vote_and_follows_when_it_is_back() {
    let mut world = World::new(3, 0, false);
    world.disconnect(2);
    world.deploy();
    all(&mut world);
    assert_eq!(active(&world), "green");
    let said = world.router.may_send_to(&pool(0)).unwrap();
    assert_eq!(said, "the router lb-2 sends to blue, and is away");
    world.connect(2);
    world.round(2);
    assert_eq!(world.agents.values().last().unwrap().sends_to, pool(1));
    assert_eq!(world.router.may_send_to(&pool(0)), None);
}

#[test]
fn a_router_that_falls_silent_half_way_has_until_the_deadline() {
    let mut world = World::new(2, 0, false);
    world.deploy();
    world.round(0);
    world.disconnect(1);
    world.tick(59);
    assert_eq!(world.router.told.as_ref().unwrap().0, pool(1));
    world.tick(1);
    assert_eq!(world.router.told.as_ref().unwrap().0, pool(0), "taken back");
    world.round(0);
    world.tick(59);
    assert!(world.router.running().is_some());
    world.tick(1);
    assert!(
        matches!(outcome(&world), Outcome::NotRolledBack(_)),
        "nobody knows what lb-1 does"
    );
}

#[test]
fn a_pool_that_fails_while_it_is_watched_is_left_again() {
    let mut world = World::new(2, 300, false);
    world.deploy();
    all(&mut world);
    world.weigh(1, false);
    assert_eq!(world.router.told.as_ref().unwrap().0, pool(0));
    all(&mut world);
    assert!(matches!(outcome(&world), Outcome::RolledBack(_)));
}

#[test]
fn a_pool_that_cannot_serve_is_waited_for_and_then_given_up() {
    let mut world = World::new(1, 0, false);
    world.weigh(1, false);
    world.deploy();
    world.tick(299);
    assert!(world.router.told.is_none());
    let waits = world
        .router
        .decide(world.now, 1)
        .waiting_on
        .unwrap()
        .to_string();
    assert_eq!(waits, "pool green to be fit: web-1 is away");
    world.tick(1);
    assert!(matches!(outcome(&world), Outcome::RolledBack(_)));
    assert!(world.router.told.is_none());
}

#[test]
fn going_back_asks_nobody_and_no_failure_stops_it() {
    let mut world = World::new(2, 300, true);
    world.deploy();
    all(&mut world);
    all(&mut world);
    world.tick(300);
    assert_eq!(active(&world), "green");
    world.weigh(0, false);
    world.with(1, |it| it.broken = true);
    world.back(0);
    assert_eq!(world.router.told.as_ref().unwrap().0, pool(0));
    all(&mut world);
    assert_eq!(outcome(&world), Outcome::Succeeded);
    assert_eq!(active(&world), "blue");
    assert_eq!(world.router.astray().len(), 1, "lb-1 is named");
}

#[test]
fn a_switch_that_turns_cannot_be_left_half_way() {
    let mut world = World::new(2, 0, false);
    world.deploy();
    world.round(0);
    let aborted = SwitchEvent::Aborted {
        by: "anna".into(),
        reason: String::new(),
    };
    let said = world.router.clone().apply(&aborted, world.now).unwrap_err();
    assert!(said.to_string().contains("tamer rollback"), "{said}");
    world.ask_back();
    all(&mut world);
    assert!(matches!(
        outcome(&world),
        Outcome::RolledBack(Cause::Asked { .. })
    ));
}

#[test]
fn what_is_changed_by_hand_is_named_and_not_changed_back() {
    let mut world = World::new(2, 0, false);
    world.deploy();
    all(&mut world);
    world.by_hand(0, 0);
    all(&mut world);
    let astray = world.router.astray();
    assert_eq!(astray[0].1, "sends to blue: it was changed by hand");
    assert!(
        world.router.may_send_to(&pool(0)).is_some(),
        "nothing is deployed under it"
    );
    assert_eq!(world.agents.values().next().unwrap().sends_to, pool(0));
    // A person has all of them send there again.
    world.back(1);
    all(&mut world);
    assert!(world.router.astray().is_empty());
}

#[test]
fn the_idle_pool_may_change_all_at_once_and_the_active_one_as_the_policy_says() {
    let world = World::new(1, 0, false);
    let careful = tamer_core::policy::Policy {
        canary: Some(tamer_core::policy::Quantity::Hosts(1)),
        ..Default::default()
    };
    assert_eq!(world.router.policy_of(&pool(0), &careful), careful);
    let idle = world.router.policy_of(&pool(1), &careful);
    assert_eq!((idle.parallel_of(8), idle.wave_sizes(8)), (8, vec![8]));
    assert_eq!(idle.validate(), Ok(()));
    assert_eq!(idle.max_failures, careful.max_failures);
}

#[test]
fn a_pool_is_fit_while_all_its_hosts_run_its_release_and_are_well() {
    let mut target = Target::new(
        World::new(1, 0, false).router.key.target(&pool(0)),
        tamer_core::policy::Policy::default(),
    );
    let said = |target: &Target| target.is_fit().unwrap_err().to_string();
    assert_eq!(said(&target), "nothing was deployed there");
    let release = tamer_core::release::ReleaseRef {
        version: "1.0.0".parse().unwrap(),
        manifest: tamer_core::digest::Digest::new([1; 32]),
    };
    target.release = Some(release.clone());
    assert_eq!(said(&target), "it has no hosts");
    for n in 0..2 {
        let mut host = tamer_core::rollout::Host::new(tamer_core::moment::Moment(0));
        host.presence = tamer_core::rollout::Presence::Connected;
        (host.known, host.running) = (true, Some(release.clone()));
        target
            .hosts
            .insert(format!("web-{n}").parse().unwrap(), host);
    }
    assert_eq!(target.is_fit(), Ok(()));
    target.hosts.values_mut().next().unwrap().running = None;
    assert!(said(&target).starts_with("web-0 runs nothing (1 of 2 hosts serve"));
    target.policy.max_failures = tamer_core::policy::Quantity::Hosts(1);
    assert_eq!(target.is_fit(), Ok(()), "so many may be missing");
    target.hosts.values_mut().next_back().unwrap().running = None;
    assert_eq!(target.is_fit().unwrap_err().serving, 0);
}

#[test]
fn a_report_that_comes_late_says_nothing_any_more() {
    let mut world = World::new(2, 300, false);
    world.deploy();
    world.report(0);
    all(&mut world);
    world.arrive(0);
    let told = world.router.told.clone().map(|(pool, _)| pool);
    assert_eq!(told, Some(pool(1)), "not taken back for it");
}
