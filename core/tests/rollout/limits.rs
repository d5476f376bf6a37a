//! How many hosts may be out at once, and what a failure costs.

use crate::fleet::{Act, World, release};
use tamer_core::policy::{Policy, Quantity};
use tamer_core::rollout::{PartStatus, Stage, Waiting};

/// So many hosts that run release 0.
fn running(hosts: usize, policy: Policy) -> World {
    let mut world = World::new(hosts, policy);
    world.start(0);
    world.turn_friendly();
    world
}

fn granted(world: &World) -> Vec<String> {
    let hosts = world.target.hosts.iter();
    let open = hosts.filter(|(_, host)| host.grant.is_some());
    open.map(|(name, _)| name.to_string()).collect()
}

fn canary_and_the_rest(max_parallel: u32, max_failures: u32) -> Policy {
    Policy {
        canary: Some(Quantity::Hosts(1)),
        max_parallel: Quantity::Hosts(max_parallel),
        max_failures: Quantity::Hosts(max_failures),
        ..Policy::default()
    }
}

fn stage(world: &World) -> &Stage {
    &world.target.rollout.as_ref().unwrap().stage
}

/// All have staged the release, and the canary is through: the second wave starts.
fn second_wave(world: &mut World) {
    world.start(1);
    for n in 1..world.target.hosts.len() {
        world.obey(n, &Act::Work);
    }
    world.obey(0, &Act::Work);
    world.obey(0, &Act::Finish);
    assert_eq!(stage(world), &Stage::Rolling { wave: 1 });
}

#[test]
fn hosts_that_are_down_take_room_from_those_that_switch() {
    let mut world = running(6, canary_and_the_rest(3, 0));
    world.disconnect(5);
    second_wave(&mut world);
    assert_eq!(
        granted(&world),
        ["web-02", "web-03"],
        "the third one is down already"
    );
    let switching = Waiting::Switching(vec![world.name(1), world.name(2)]);
    assert!(world.decide().waiting_on.contains(&switching));
}

#[test]
fn after_the_canary_as_many_may_fail_as_the_policy_says() {
    let mut world = running(6, canary_and_the_rest(1, 1));
    second_wave(&mut world);
    world.obey(1, &Act::Refuse);
    assert_eq!(stage(&world), &Stage::Rolling { wave: 1 });
    assert_eq!(
        granted(&world),
        ["web-03"],
        "the one that refused is not asked again"
    );
    world.turn_friendly();
    assert_eq!(world.target.release, Some(release(1)));
    assert_eq!(
        world.target.hosts[&world.name(1)].running,
        Some(release(0)),
        "nor afterwards"
    );
}

#[test]
fn a_new_rollout_tries_again_where_the_last_one_failed() {
    let mut world = running(3, canary_and_the_rest(2, 0));
    world.spoil(1);
    world.start(1);
    world.turn_friendly();
    assert!(world.target.hosts[&world.name(0)].tried.is_some());
    world.mend(1);
    world.disconnect(0);
    world.start(1);
    world.run_friendly();
    assert_eq!(world.target.release, Some(release(1)));
    world.turn_friendly();
    assert_eq!(
        world.target.hosts[&world.name(0)].running,
        Some(release(1)),
        "it followed"
    );
}

#[test]
fn after_an_abort_the_next_rollout_brings_those_who_were_away() {
    let mut world = running(4, canary_and_the_rest(2, 0));
    world.start(1);
    world.abort();
    world.disconnect(0);
    world.start(2);
    world.run_friendly();
    assert_eq!(world.target.release, Some(release(2)));
    world.turn_friendly();
    assert_eq!(
        world.target.hosts[&world.name(0)].running,
        Some(release(2)),
        "it followed"
    );
}

/// Who is told to fetch the release and does not have it yet.
fn fetching(world: &World) -> Vec<String> {
    let hosts = world.target.hosts.iter();
    let told = hosts.filter(|(name, host)| {
        let told = world.target.desired(name).unwrap();
        let wants = told.run.iter().chain(&told.stage);
        wants
            .into_iter()
            .any(|it| !host.staged.contains(&it.manifest))
    });
    told.map(|(name, _)| name.to_string()).collect()
}

#[test]
fn so_many_hosts_fetch_a_release_at_once_and_those_who_are_away_take_no_place() {
    let policy = Policy {
        max_staging: Quantity::Hosts(2),
        ..canary_and_the_rest(2, 0)
    };
    let mut world = running(6, policy);
    world.disconnect(1);
    world.start(1);
    assert_eq!(fetching(&world), ["web-01", "web-03"], "the canary first");
    world.obey(2, &Act::Work);
    assert_eq!(
        fetching(&world),
        ["web-01", "web-04"],
        "one has it, the next begins"
    );
    world.obey(0, &Act::Work);
    assert_eq!(fetching(&world), ["web-04", "web-05"]);
    assert_eq!(
        granted(&world),
        ["web-01"],
        "to fetch is not to be out of service"
    );
    world.connect(1);
    assert_eq!(
        fetching(&world),
        ["web-04", "web-05"],
        "who comes back waits"
    );
    world.run_friendly();
    assert_eq!(world.target.release, Some(release(1)));
}

#[test]
fn those_who_wait_to_fetch_are_not_blamed_for_one_who_cannot() {
    let policy = Policy {
        max_staging: Quantity::Hosts(1),
        max_failures: Quantity::Hosts(1),
        steps: vec![Quantity::Percent(100)],
        max_parallel: Quantity::Hosts(2),
        ..Policy::default()
    };
    let mut world = running(3, policy);
    world.start(1);
    assert_eq!(fetching(&world), ["web-01"]);
    // It says nothing for as long as the policy waits.
    world.tick(601);
    assert_eq!(fetching(&world), ["web-02"], "the next one has its try");
    for n in [1, 2] {
        world.obey(n, &Act::Work);
        world.obey(n, &Act::Finish);
    }
    let part = |n| {
        world.target.hosts[&world.name(n)]
            .part
            .clone()
            .unwrap()
            .status
    };
    assert_eq!(
        [part(0), part(1), part(2)],
        [PartStatus::Silent, PartStatus::Done, PartStatus::Done]
    );
}

#[test]
fn while_more_are_away_than_may_be_nothing_starts_and_what_runs_moves_nobody() {
    let mut world = running(
        6,
        Policy {
            max_unreachable: Some(Quantity::Hosts(1)),
            ..canary_and_the_rest(5, 0)
        },
    );
    second_wave(&mut world);
    let before = granted(&world).len();
    world.disconnect(4);
    world.disconnect(5);
    world.obey(1, &Act::Finish);
    world.obey(2, &Act::Finish);
    assert!(granted(&world).len() < before, "nobody follows");
    let waits = world.decide().waiting_on;
    let named = Waiting::Unreachable {
        away: vec![world.name(4), world.name(5)],
        allowed: 1,
    };
    assert!(waits.contains(&named), "{waits:?}");
    world.connect(4);
    world.run_friendly();
    world.turn_friendly();
    world.disconnect(0);
    world.disconnect(1);
    world.start(2);
    assert!(world.target.active().is_none(), "it does not even start");
    world.connect(0);
    world.start(2);
    assert!(world.target.active().is_some());
}

#[test]
fn those_who_stay_away_do_not_keep_a_rollout_for_ever() {
    let mut world = running(
        4,
        Policy {
            max_unreachable: Some(Quantity::Hosts(0)),
            ..canary_and_the_rest(1, 0)
        },
    );
    second_wave(&mut world);
    world.disconnect(3);
    world.run_friendly();
    assert!(world.target.active().is_none(), "progress_deadline decides");
    assert_eq!(world.target.release, Some(release(0)));
}
