//! A database under generated histories: servers and controller are killed at any moment, also between
//! the record outside the store and the store; people deploy, go back, steer and settle as they like.

use super::world::{Database, World, anna};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tamer_controller::fleet::back::How;
use tamer_controller::fleet::deploy::Control;
use tamer_core::moment::Span;
use tamer_core::rollout::deployment::Ending;
use tamer_core::schema::{Task, What};

#[derive(Debug, Clone)]
enum Op {
    Work(usize),
    WorkAndCrash(usize),
    Death(bool),
    CutOff(usize),
    CutOffLeased,
    Connect,
    Tick(u64),
    Crash,
    Deploy(u8),
    Back { with_down: bool },
    Control(u8),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        16 => (0..16usize).prop_map(Op::Work),
        2 => (0..16usize).prop_map(Op::WorkAndCrash),
        2 => any::<bool>().prop_map(Op::Death),
        2 => (0..16usize).prop_map(Op::CutOff),
        6 => Just(Op::CutOffLeased),
        1 => Just(Op::Connect),
        2 => (1..200u64).prop_map(Op::Tick),
        1 => Just(Op::Crash),
        3 => (0..3u8).prop_map(Op::Deploy),
        1 => any::<bool>().prop_map(|with_down| Op::Back { with_down }),
        1 => (0..4u8).prop_map(Op::Control),
        1 => Just(Op::Settle),
    ]
}

/// What people may rely on at every moment.
fn check(world: &World) -> Result<(), TestCaseError> {
    let database = world.database.as_ref().unwrap();
    // Begun at most once for each deployment and task, and never without being written down before.
    let mut begun: BTreeMap<_, u32> = BTreeMap::new();
    for (host, order) in &database.begun {
        let started = world.log.iter().find_map(|record| match &record.what {
            What::Started(started) if started.id == order.id && started.host == *host => {
                Some(started)
            }
            _ => None,
        });
        let started = started.ok_or_else(|| TestCaseError::fail("begun and not written down"))?;
        *begun
            .entry((started.deployment, started.task.to_string()))
            .or_default() += 1;
    }
    prop_assert!(begun.values().all(|times| *times <= 1), "{begun:?}");
    // What runs works with what is there, unless somebody took the database down under it.
    let down = database
        .begun
        .iter()
        .any(|(_, order)| order.task == Task::Down);
    prop_assert!(
        down || world.works_with(database.version),
        "the database has {}, and runs {:?} and {:?}",
        database.version,
        world.running("web"),
        world.running("worker")
    );
    Ok(())
}

fn play(world: &mut World, op: &Op) {
    let (environment, application) = ("production".parse().unwrap(), "shop".parse().unwrap());
    match op {
        Op::Work(n) => world.work(*n),
        Op::WorkAndCrash(n) => world.work_and_crash(*n),
        Op::Death(moved) => world.database.as_mut().unwrap().death = Some(*moved),
        Op::CutOff(n) => world.cut_off(*n),
        Op::CutOffLeased => {
            if let Some(n) = world.leased() {
                world.cut_off(n);
            }
        }
        Op::Connect => world.connect_all(),
        Op::Tick(seconds) => {
            world.now = world.now + Span::secs(*seconds);
            world.turn();
        }
        Op::Crash => world.crash(),
        Op::Deploy(n) => drop(world.run(*n)),
        Op::Back { with_down } => {
            // Refused where there is nothing to go back to, or it is too far.
            let site = (&environment, &application);
            let (by, now) = (anna(), world.now);
            let _ = world.fleet.go_back(
                site,
                None,
                None,
                &How {
                    with_down: *with_down,
                    ..How::default()
                },
                &by,
                now,
            );
            world.turn();
        }
        Op::Control(what) => {
            let what = [
                Control::Pause,
                Control::Resume,
                Control::Abort,
                Control::Rollback { with_down: true },
            ][usize::from(*what)];
            if let Some(id) = world.fleet.running_in(&environment, &application) {
                let _ = world.fleet.control(id, what, &anna(), world.now);
                world.turn();
            }
        }
        Op::Settle => {
            // Somebody looks, and says what is there.
            let version = world.database.as_ref().unwrap().version;
            let site = (&environment, &application);
            let (by, now) = (anna(), world.now);
            let _ = world.fleet.settle_schema(site, None, version, &by, now);
            world.turn();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_database_is_migrated_once_whatever_dies(ops in proptest::collection::vec(op(), 1..120)) {
        let mut world = World::new(3);
        world.database = Some(Database::default());
        world.run(0);
        world.settle();
        for op in &ops {
            play(&mut world, op);
            check(&world)?;
        }
        // Whatever stands still until a person has decided is decided over; then everything ends.
        world.database.as_mut().unwrap().death = None;
        world.connect_all();
        for _ in 0..4 {
            world.settle();
            check(&world)?;
            play(&mut world, &Op::Settle);
            play(&mut world, &Op::Control(1));
        }
        world.settle();
        check(&world)?;
        let (environment, application) = ("production".parse().unwrap(), "shop".parse().unwrap());
        let running = world.fleet.running_in(&environment, &application);
        prop_assert_eq!(running, None, "{:#?}", running.map(|id| &world.fleet.deployments[&id]));
    }
}

/// The server with the lease is cut off before it begins, and begins all the same: nobody takes its place, and
/// a person says what became of it.
#[test]
fn a_lease_never_passes_on_by_itself() {
    let mut world = World::new(3);
    world.database = Some(Database::default());
    world.run(0);
    world.settle();
    let id = world.run(1).unwrap();
    world.database.as_mut().unwrap().death = Some(false);
    let leased = (0..30)
        .find_map(|n| {
            let leased = world.leased();
            if leased.is_none() {
                world.work(n);
            }
            leased
        })
        .unwrap();
    world.cut_off(leased);
    for n in 0..3 {
        world.work(n);
        world.work(n + 1);
    }
    world.settle();
    assert_eq!(world.database.as_ref().unwrap().begun.len(), 1);
    assert_eq!(world.fleet.deployments[&id].ended, None);
    world.connect_all();
    world.settle();
    assert_eq!(world.database.as_ref().unwrap().begun.len(), 1);
    assert_eq!(world.fleet.deployments[&id].ended, None);
    play(&mut world, &Op::Settle);
    world.settle();
    let (_, ending) = world.fleet.deployments[&id].ended.unwrap();
    assert_eq!(ending, Ending::PreChecksFailed);
}
