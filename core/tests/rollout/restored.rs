//! The controller's state is that of a backup, and hosts have moved on: nobody is taken down again unasked.

use crate::fleet::{Act, World, release};
use tamer_core::policy::{Policy, Quantity};
use tamer_core::rollout::{Outcome, Stage, Target};

/// Four hosts that run release 0.
fn running_0() -> World {
    let policy = Policy {
        max_parallel: Quantity::Hosts(4),
        ..Policy::default()
    };
    let mut world = World::new(4, policy);
    world.start(0);
    world.turn_friendly();
    world
}

fn deploy(world: &mut World, n: usize) {
    world.start(n);
    world.turn_friendly();
    assert_eq!(world.runs(), vec![Some(release(n)); 4]);
}

/// The backup is of release 0; release 1 runs everywhere.
fn moved_on() -> (World, Target) {
    let mut world = running_0();
    let backup = world.target.clone();
    deploy(&mut world, 1);
    (world, backup)
}

fn outcome(world: &World) -> Option<&Outcome> {
    match &world.target.rollout.as_ref()?.stage {
        Stage::Ended { outcome, .. } => Some(outcome),
        _ => None,
    }
}

#[test]
fn hosts_that_moved_on_stay_where_they_are() {
    let (mut world, backup) = moved_on();
    world.restore_from(backup);
    world.turn_friendly();
    assert_eq!(world.runs(), vec![Some(release(1)); 4]);
    for host in world.target.hosts.values() {
        assert_eq!(
            world.target.goal(host),
            Some(&release(1)),
            "it is told to stay"
        );
    }
    assert!(world.target.unsettled);
}

#[test]
fn deploying_what_runs_keeps_it_and_convergence_goes_on() {
    let (mut world, backup) = moved_on();
    world.restore_from(backup);
    world.all_speak();
    world.start(1);
    world.turn_friendly();
    assert_eq!(outcome(&world), Some(&Outcome::Succeeded));
    assert_eq!(world.target.release, Some(release(1)));
    assert_eq!(world.target.last_good(), Some(&release(0)));
    world.run_by_hand(2, 0);
    world.turn_friendly();
    assert_eq!(world.runs(), vec![Some(release(1)); 4]);
}

#[test]
fn a_deployment_that_fails_goes_back_to_what_ran_and_not_to_what_the_backup_says() {
    let (mut world, backup) = moved_on();
    world.restore_from(backup);
    world.all_speak();
    world.spoil(2);
    world.start(2);
    world.turn_friendly();
    assert!(matches!(outcome(&world), Some(Outcome::RolledBack(_))));
    assert_eq!(world.runs(), vec![Some(release(1)); 4]);
    assert_eq!(world.target.release, Some(release(1)));
}

#[test]
fn going_back_on_purpose_goes_back() {
    let (mut world, backup) = moved_on();
    world.restore_from(backup);
    world.all_speak();
    world.back_to(0);
    world.turn_friendly();
    assert_eq!(world.runs(), vec![Some(release(0)); 4]);
}

#[test]
fn a_backup_that_lost_nothing_settles_once_all_hosts_were_heard() {
    let mut world = running_0();
    let backup = world.target.clone();
    world.restore_from(backup);
    for n in 0..3 {
        world.connect(n);
        world.send(n);
        world.arrive(0, true);
    }
    assert!(world.target.unsettled, "one was not heard");
    // It was away, and comes back with something newer.
    world.run_by_hand(3, 1);
    world.all_speak();
    world.turn_friendly();
    assert!(world.target.unsettled);
    assert_eq!(world.runs()[3], Some(release(1)));
    world.run_by_hand(3, 0);
    world.all_speak();
    assert!(!world.target.unsettled);
}

#[test]
fn a_rollout_of_the_backup_is_paused_until_somebody_looks() {
    let mut world = running_0();
    world.start(1);
    let backup = world.target.clone();
    assert!(backup.active().is_some());
    world.turn_friendly();
    deploy(&mut world, 2);
    world.restore_from(backup);
    world.all_speak();
    world.tick(5_000);
    for n in 0..4 {
        world.obey(n, &Act::Finish);
    }
    assert_eq!(world.runs(), vec![Some(release(2)); 4]);
    let rollout = world.target.active().unwrap();
    assert_eq!(rollout.paused.as_ref().unwrap().by, "the restore");
    world.abort();
    world.turn_friendly();
    assert_eq!(world.runs(), vec![Some(release(2)); 4]);
    assert!(world.target.unsettled);
}

#[test]
fn a_grant_that_the_host_has_left_behind_is_open_no_more() {
    let mut world = running_0();
    world.start(1);
    for n in 0..4 {
        world.obey(n, &Act::Work);
    }
    let backup = world.target.clone();
    let open = |target: &Target| target.hosts.values().filter(|h| h.grant.is_some()).count();
    assert!(open(&backup) > 0);
    world.turn_friendly();
    deploy(&mut world, 2);
    let mut target = backup;
    target.unsettled = true;
    let name = world.name(0);
    let said = world.says(0);
    let event = tamer_core::rollout::Event::Reported(name.clone(), Box::new(said));
    target
        .apply(&event, tamer_core::moment::Moment(9_000_000))
        .unwrap();
    assert_eq!(target.hosts[&name].grant, None);
}
