//! Hosts that are not where the target thinks: late, with a clock of their own, or back with what was taken back.

use crate::fleet::{Act, World, release};
use tamer_core::moment::Span;
use tamer_core::policy::{Policy, Quantity};
use tamer_core::rollout::{Outcome, PartStatus, Stage, Waiting};

fn all_at_once() -> Policy {
    Policy {
        max_parallel: Quantity::Percent(100),
        all_at_once: true,
        ..Policy::default()
    }
}

fn ended(world: &World) -> Option<&Outcome> {
    match &world.target.rollout.as_ref()?.stage {
        Stage::Ended { outcome, .. } => Some(outcome),
        _ => None,
    }
}

/// Every host that is connected does what it is told, and so often.
fn work(world: &mut World, hosts: &[usize], times: usize) {
    for _ in 0..times {
        for &n in hosts {
            world.obey(n, &Act::Finish);
        }
        world.tick(5);
    }
}

#[test]
fn a_host_with_another_clock_is_granted_seldom_and_given_up() {
    let mut world = World::new(1, all_at_once());
    world.set_clock_ahead(0, Span::secs(600));
    world.start(0);
    let name = world.name(0);
    let (mut looks, mut waited) = (0, false);
    while ended(&world).is_none() {
        // Twelve looks a minute.
        work(&mut world, &[0], 1);
        looks += 1;
        let late = Waiting::Late(vec![name.clone()]);
        waited |= world.decide().waiting_on.contains(&late);
        assert!(looks < 15 * 12, "it goes on for ever");
    }
    assert!(waited, "it never said why nothing happens");
    assert!(world.target.hosts[&name].last_grant.counter <= looks / 12 + 1);
    let silent = PartStatus::Silent;
    let part = world.target.hosts[&name].part.as_ref().unwrap();
    assert_eq!(part.status, silent);
    assert!(matches!(ended(&world), Some(Outcome::RolledBack(_))));
}

#[test]
fn a_host_that_is_still_switching_is_not_there_yet() {
    let mut world = World::new(2, all_at_once());
    world.start(0);
    world.turn_friendly();
    world.disconnect(0);
    world.start(1);
    work(&mut world, &[1], 6);
    assert_eq!(ended(&world), Some(&Outcome::Succeeded));
    // It is back, follows, and is in the middle of it when everything goes back.
    world.connect(0);
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Work);
    world.back_to(0);
    assert_eq!(world.runs()[0], Some(release(0)), "not yet");
    work(&mut world, &[1], 6);
    assert_eq!(ended(&world), None, "it may still come out on the other");
    work(&mut world, &[0, 1], 6);
    assert_eq!(ended(&world), Some(&Outcome::Succeeded));
    assert_eq!(world.runs(), [Some(release(0)), Some(release(0))]);
}

#[test]
fn who_comes_back_late_with_what_was_taken_back_goes_back_too() {
    // After a person had everything go back.
    let mut world = World::new(2, all_at_once());
    for n in [0, 1] {
        world.start(n);
        world.turn_friendly();
    }
    world.disconnect(0);
    world.back_to(0);
    work(&mut world, &[1], 6);
    assert_eq!(ended(&world), Some(&Outcome::Succeeded));
    world.connect(0);
    world.obey(0, &Act::Work);
    let grant = world.target.hosts[&world.name(0)].grant.clone().unwrap();
    assert_eq!(grant.purpose, tamer_core::desired::Purpose::Back);
    work(&mut world, &[0, 1], 6);
    assert_eq!(world.runs(), [Some(release(0)), Some(release(0))]);

    // After the very first release was taken back, and another one failed since.
    let mut world = World::new(2, all_at_once());
    world.start(0);
    work(&mut world, &[0], 2);
    world.disconnect(0);
    assert_eq!(world.runs(), [Some(release(0)), None]);
    world.ask_rollback();
    world.tick(3600);
    assert!(matches!(ended(&world), Some(Outcome::NotRolledBack(_))));
    world.spoil(1);
    world.start(1);
    work(&mut world, &[1], 6);
    assert!(matches!(ended(&world), Some(Outcome::RolledBack(_))));
    world.connect(0);
    work(&mut world, &[0, 1], 6);
    assert_eq!(world.runs(), [None, None]);
}
