//! What a host is told, in the moments that matter.

use crate::fleet::{Act, World, release};
use tamer_core::desired::Purpose;
use tamer_core::moment::Span;
use tamer_core::policy::{Policy, Quantity};

/// Three hosts that run release 0, and a rollout of release 1 whose canary has been granted its switch.
fn canary_granted() -> World {
    let mut world = World::new(
        3,
        Policy {
            canary: Some(Quantity::Hosts(1)),
            max_parallel: Quantity::Hosts(1),
            bake: Span::secs(60),
            ..Policy::default()
        },
    );
    world.start(0);
    world.turn_friendly();
    world.start(1);
    // It takes in what it should be, and says that it has staged it.
    world.deliver(0);
    world.send(0);
    world.arrive(0, true);
    world
}

fn told(world: &World, n: usize) -> tamer_core::desired::DesiredComponent {
    world.target.desired(&world.name(n)).unwrap()
}

#[test]
fn a_host_of_a_later_wave_stays_with_what_it_runs_and_stages_the_new_one() {
    let world = canary_granted();
    for later in [1, 2] {
        let told = told(&world, later);
        assert_eq!(told.run, Some(release(0)));
        assert_eq!(told.stage, [release(1)]);
        assert_eq!(told.grant, None);
        assert_eq!(told.keep, [release(0).manifest], "it may have to go back");
    }
}

#[test]
fn a_granted_host_is_told_exactly_its_grant_until_it_has_answered() {
    let mut world = canary_granted();
    let given = told(&world, 0);
    assert_eq!(given.run, Some(release(1)));
    assert_eq!(given.grant.unwrap().purpose, Purpose::Forward);
    world.deliver(0);
    // However long that takes, whatever happens meanwhile: its grant is the same.
    world.disconnect(0);
    world.tick(10_000);
    assert_eq!(told(&world, 0).grant, given.grant);
    assert_eq!(told(&world, 0).run, given.run);
    world.connect(0);
    world.obey(0, &Act::Work);
    assert_eq!(told(&world, 0).grant, given.grant);
    world.obey(0, &Act::Finish);
    assert_ne!(told(&world, 0).grant, given.grant);
}

#[test]
fn after_an_abort_hosts_stay_as_they_are() {
    let mut world = canary_granted();
    world.obey(0, &Act::Finish);
    world.abort();
    for (host, runs) in [(0, 1), (1, 0), (2, 0)] {
        let told = told(&world, host);
        assert_eq!(told.run, Some(release(runs)), "host {host}");
        assert_eq!(told.stage, []);
        assert_eq!(told.grant, None);
    }
    world.turn_friendly();
    let running = |n| world.target.hosts[&world.name(n)].running.clone();
    assert_eq!(
        running(0),
        Some(release(1)),
        "nobody is moved after an abort"
    );
    assert_eq!(running(1), Some(release(0)));
}

#[test]
fn an_aborted_grant_is_still_answered_for() {
    let mut world = canary_granted();
    world.abort();
    let told = told(&world, 0);
    assert!(told.grant.is_some(), "it may be switching at this moment");
    assert_eq!(told.run, Some(release(1)));
}

#[test]
fn going_back_stages_nothing_and_leads_to_what_ran_before() {
    let mut world = canary_granted();
    world.obey(0, &Act::Finish);
    world.ask_rollback();
    let back = told(&world, 0);
    assert_eq!(back.run, Some(release(0)));
    assert_eq!(back.stage, []);
    assert_eq!(back.grant.unwrap().purpose, Purpose::Back);
    assert_eq!(told(&world, 1).grant, None, "it had never moved");
}

#[test]
fn a_host_that_refused_is_told_to_stay() {
    let mut world = canary_granted();
    world.pause();
    world.obey(0, &Act::Refuse);
    let told = told(&world, 0);
    assert_eq!(told.run, Some(release(0)));
    assert_eq!(told.grant, None);
}

#[test]
fn a_host_of_another_target_is_told_nothing() {
    let world = canary_granted();
    assert_eq!(world.target.desired(&"mail-01".parse().unwrap()), None);
}
