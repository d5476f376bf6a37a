//! Points of approval: a wave that nobody has let come does not come.

use crate::fleet::{World, release};
use tamer_core::moment::Span;
use tamer_core::policy::{Point, Policy, Quantity};
use tamer_core::rollout::{Stage, Waiting};

fn running(hosts: usize, approval: Vec<Point>) -> World {
    let mut world = World::new(
        hosts,
        Policy {
            canary: Some(Quantity::Hosts(1)),
            steps: vec![Quantity::Percent(50), Quantity::Percent(100)],
            bake: Span::secs(30),
            approval,
            ..Policy::default()
        },
    );
    world.start(0);
    world.turn_friendly();
    world.promotes = false;
    world
}

fn run(world: &World) -> usize {
    let on = world.target.hosts.values();
    on.filter(|host| host.running == Some(release(1))).count()
}

#[test]
fn after_each_point_and_its_bake_it_waits_for_a_person_however_long() {
    let half = Point::Reached(Quantity::Percent(50));
    let mut world = running(8, vec![Point::Canary, half]);
    world.start(1);
    for reached in [1, 4] {
        world.run_friendly();
        world.tick(100_000);
        world.run_friendly();
        assert_eq!(run(&world), reached);
        let waits = world.decide().waiting_on;
        assert!(matches!(waits[..], [Waiting::Point(_)]), "{waits:?}");
        world.promote();
        // Nobody has seen yet how the next one does.
        world.promote();
    }
    world.run_friendly();
    assert_eq!(run(&world), 8);
}

#[test]
fn a_step_that_the_canary_reaches_is_a_point_after_the_canary_and_the_last_wave_is_none() {
    let half = Point::Reached(Quantity::Percent(50));
    let mut world = running(2, vec![half]);
    world.start(1);
    world.run_friendly();
    assert_eq!(run(&world), 1);
    world.promote();
    world.run_friendly();
    assert_eq!(run(&world), 2);
    // With one host nothing is left to be approved.
    let mut world = running(1, vec![Point::Canary]);
    world.start(1);
    world.run_friendly();
    assert_eq!(world.target.release, Some(release(1)));
}

#[test]
fn whoever_waits_at_a_point_is_watched_on_and_goes_back_without_being_asked() {
    let mut world = running(4, vec![Point::Canary]);
    world.start(1);
    world.run_friendly();
    world.sicken(0, true);
    world.run_friendly();
    let stage = &world.target.rollout.as_ref().unwrap().stage;
    assert!(
        matches!(stage, Stage::RollingBack { .. } | Stage::Ended { .. }),
        "{stage:?}"
    );
}
