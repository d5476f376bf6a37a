//! Windows, freezes and locks, as the engine sees them: it is told whether it is open, and until when.

use crate::fleet::{Act, World, release};
use tamer_core::policy::{Policy, Quantity};
use tamer_core::rollout::{Stage, Waiting};

/// Four hosts that run release 0, one at a time.
fn running() -> World {
    let mut world = World::new(
        4,
        Policy {
            max_parallel: Quantity::Hosts(1),
            ..Policy::default()
        },
    );
    world.start(0);
    world.turn_friendly();
    world
}

fn run(world: &World, n: usize) -> usize {
    let on = world.target.hosts.values();
    on.filter(|host| host.running == Some(release(n))).count()
}

fn closed(world: &World) -> bool {
    let waits = world.decide().waiting_on;
    waits.iter().any(|it| matches!(it, Waiting::Closed { .. }))
}

/// All have staged release 1, and the first host runs it.
fn in_the_middle(world: &mut World) {
    world.start(1);
    for n in 0..4 {
        world.obey(n, &Act::Work);
    }
    world.obey(0, &Act::Finish);
    assert_eq!(run(world, 1), 1);
}

#[test]
fn a_freeze_in_the_middle_stops_it_where_it_is_and_no_deadline_runs() {
    let mut world = running();
    in_the_middle(&mut world);
    // The second one is at it already, and ends what it began.
    world.opens(false, Some(100_000));
    world.obey(1, &Act::Work);
    world.obey(1, &Act::Finish);
    assert_eq!(run(&world, 1), 2);
    assert!(world.target.hosts.values().all(|host| host.grant.is_none()));
    assert!(closed(&world));
    let wakes = world.decide().wake_at;
    assert_eq!(
        wakes,
        world.target.opening.until(),
        "it looks again when it opens"
    );
    world.tick(99_000);
    world.run_friendly();
    assert_eq!(run(&world, 1), 2, "long after every deadline");
    assert!(matches!(
        world.target.rollout.as_ref().unwrap().stage,
        Stage::Rolling { .. }
    ));
    world.tick(1_000);
    world.opens(true, None);
    world.run_friendly();
    assert_eq!(run(&world, 1), 4);
    assert_eq!(world.target.release, Some(release(1)));
}

#[test]
fn going_back_is_stopped_by_nothing() {
    let mut world = running();
    in_the_middle(&mut world);
    world.opens(false, None);
    world.ask_rollback();
    world.run_friendly();
    assert_eq!(run(&world, 0), 4);
    // Nor is a rollback that is a rollout of its own.
    let mut world = running();
    world.start(1);
    world.turn_friendly();
    world.opens(false, None);
    world.go_back();
    world.run_friendly();
    assert_eq!(run(&world, 0), 4);
}

#[test]
fn staging_goes_on_while_it_is_closed() {
    let mut world = running();
    world.opens(false, None);
    world.start(1);
    for n in 0..4 {
        world.obey(n, &Act::Work);
    }
    let staged = |world: &World| {
        let hosts = world.target.hosts.values();
        hosts.filter(|host| host.has(Some(&release(1)))).count()
    };
    assert_eq!((staged(&world), run(&world, 1)), (4, 0));
    assert!(closed(&world));
}

#[test]
fn whoever_was_away_follows_when_it_opens() {
    // A host that is away is one that is out of service: beside it, one more may be.
    let mut world = World::new(
        4,
        Policy {
            max_parallel: Quantity::Hosts(2),
            ..Policy::default()
        },
    );
    world.start(0);
    world.turn_friendly();
    world.disconnect(3);
    world.start(1);
    world.run_friendly();
    world.opens(false, None);
    world.connect(3);
    world.run_friendly();
    assert_eq!(run(&world, 1), 3);
    world.opens(true, None);
    world.run_friendly();
    assert_eq!(run(&world, 1), 4);
}

#[test]
fn nobody_starts_after_it_has_closed_although_nobody_said_that_it_has() {
    let mut world = running();
    world.opens(true, Some(10));
    world.start(1);
    world.obey(0, &Act::Work);
    let until = world.target.opening.until().unwrap();
    let grant = world
        .target
        .hosts
        .values()
        .find_map(|host| host.grant.clone());
    assert_eq!(grant.unwrap().start_by, until);
    world.obey(0, &Act::Finish);
    world.tick(10);
    world.run_friendly();
    assert!(closed(&world), "what it was told is over");
}

#[test]
fn hosts_have_their_time_from_when_it_opens_also_where_the_controller_slept() {
    let mut world = running();
    world.opens(true, Some(100));
    world.start(1);
    world.oversleep(5_000);
    // It slept through a whole night, and is only told of the next one.
    world.opens(true, Some(100_000));
    assert!(
        world
            .target
            .parts()
            .all(|(_, _, part)| !part.status.is_failure())
    );
    world.tick(Policy::default().progress_deadline.0.as_secs() - 1);
    assert!(
        world
            .target
            .parts()
            .all(|(_, _, part)| !part.status.is_failure())
    );
}
