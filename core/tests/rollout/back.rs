//! Going back, when hosts answer late, or never, or for something else.

use crate::fleet::{Act, World, release};
use tamer_core::policy::{Policy, Quantity};
use tamer_core::rollout::{Outcome, Stage};

/// Four hosts that run release 0, and a rollout of release 1 that has granted the first one its switch.
fn first_is_granted() -> World {
    let mut world = World::new(
        4,
        Policy {
            max_parallel: Quantity::Hosts(1),
            ..Policy::default()
        },
    );
    world.start(0);
    world.turn_friendly();
    world.start(1);
    world.obey(0, &Act::Work);
    world
}

fn outcome(world: &World) -> Option<&Outcome> {
    match &world.target.rollout.as_ref().unwrap().stage {
        Stage::Ended { outcome, .. } => Some(outcome),
        _ => None,
    }
}

#[test]
fn a_host_that_never_comes_back_does_not_keep_the_rollout_for_ever() {
    let mut world = first_is_granted();
    world.deliver(0);
    world.disconnect(0);
    world.tick(700);
    assert!(
        matches!(outcome(&world), Some(Outcome::NotRolledBack(_))),
        "{:?}",
        world.target.rollout
    );
}

#[test]
fn a_host_whose_way_back_expired_is_granted_it_anew() {
    let mut world = first_is_granted();
    world.obey(0, &Act::Finish);
    world.ask_rollback();
    world.oversleep(100);
    world.obey(0, &Act::Work);
    assert_eq!(outcome(&world), None, "it still runs the new release");
    world.turn_friendly();
    assert!(matches!(outcome(&world), Some(Outcome::RolledBack(_))));
    let running = &world.target.hosts[&world.name(0)].running;
    assert_eq!(running, &Some(release(0)));
}

#[test]
fn what_an_older_rollout_moved_is_not_taken_back_by_the_next_one() {
    let mut world = first_is_granted();
    world.deliver(0);
    world.abort();
    world.start(2);
    world.obey(0, &Act::Finish);
    let name = world.name(0);
    assert_eq!(world.target.hosts[&name].running, Some(release(1)));
    let part = world.target.hosts[&name].part.as_ref().unwrap();
    assert!(!part.moved, "that was the aborted one's doing");
}
