//! An environment that follows another one: what comes by itself, what does not, and what a killed controller knows of
//! it. Time is virtual.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

#[path = "../common/mod.rs"]
mod common;
mod world;

use proptest::prelude::*;
use tamer_controller::fleet::auto::AGAIN;
use tamer_controller::fleet::deploy::Control;
use tamer_controller::notes;
use tamer_core::moment::Span;
use tamer_core::rollout::deployment::Ending;
use world::{BAKE, World, anna, name};

const FOLLOWS: &str = "[auto]\nfrom = \"staging\"\nbake = \"2h\"";

/// 1.0.0 runs in both, and 1.1.0 has just succeeded in staging.
fn staged(auto: &str) -> World {
    let mut world = World::new(auto);
    world.publish(0);
    world.deploys("staging", 0);
    world.deploys("production", 0);
    world.publish(1);
    world.deploys("staging", 1);
    world
}

/// This one is published, stands in staging, and comes.
fn comes(world: &mut World, n: u8) {
    world.publish(n);
    world.deploys("staging", n);
    world.later(BAKE);
    assert_eq!(world.follow(), 1);
    assert_eq!(world.runs("production"), Some(n));
}

#[test]
fn what_has_stood_in_staging_comes_by_itself_when_its_bake_is_over() {
    let mut world = staged(FOLLOWS);
    let over = world.now + BAKE;
    assert!(
        world.waits().starts_with("1.1.0 bakes in staging until "),
        "{}",
        world.waits()
    );
    assert_eq!(world.fleet.due(world.now), (vec![], Some(over)));
    world.later(Span(BAKE.0 - Span::millis(1).0));
    assert_eq!(world.follow(), 0);
    world.later(Span::millis(1));
    assert_eq!(world.follow(), 1);
    assert_eq!(world.runs("production"), Some(1));
    assert_eq!(world.waits(), "there is nothing newer");
    let entry = world
        .audit
        .iter()
        .find(|it| it.who == "auto from staging")
        .unwrap();
    assert_eq!(
        (entry.action.as_str(), entry.object.as_str()),
        ("deploy", "production shop@1.1.0")
    );
    assert_eq!(
        entry.reason.as_deref(),
        Some("1.1.0 has stood in staging for 2h")
    );
    let notes = notes::following(&world.fleet, None, world.now);
    assert_eq!(
        notes,
        ["production follows staging: there is nothing newer"]
    );
}

#[test]
fn what_drifts_in_staging_bakes_anew_once_that_is_settled() {
    let mut world = staged(FOLLOWS);
    world.later(Span::secs(3600));
    world.drifts(0, true);
    world.later(BAKE);
    assert_eq!(world.follow(), 0);
    assert!(
        world.waits().contains("web was changed by hand on web-0"),
        "{}",
        world.waits()
    );
    world.drifts(0, false);
    world.later(Span::secs(3600));
    assert_eq!(world.follow(), 0);
    world.later(Span::secs(3600));
    assert_eq!(world.follow(), 1);
}

#[test]
fn a_controller_that_starts_anew_counts_nothing_as_well_before_it_has_heard() {
    let mut world = staged(FOLLOWS);
    world.drifts(0, true);
    let (drifting, waits) = (world.fleet.standings.clone(), world.waits());
    world.starts_anew();
    world.later(BAKE);
    assert_eq!(world.fleet.standings, drifting);
    assert_eq!(world.waits(), waits);
    assert_eq!(world.follow(), 0);
}

#[test]
fn a_controller_that_starts_anew_waits_for_the_hosts_that_matter_and_for_no_others() {
    let mut world = staged(FOLLOWS);
    world.joins("elsewhere");
    let waits = world.waits();
    world.starts_anew();
    world.connect("production");
    assert!(world.waits().starts_with("it waits for hosts"));
    world.connect("staging");
    assert_eq!(world.waits(), waits, "web-3 is away, and elsewhere");
}

#[test]
fn what_stands_stands_also_when_its_deployment_is_forgotten() {
    let mut world = staged(FOLLOWS);
    let staging = name("staging");
    world
        .fleet
        .deployments
        .retain(|_, it| it.environment != staging);
    world.drifts(0, true);
    world.drifts(0, false);
    world.later(BAKE);
    assert_eq!(world.follow(), 1);
    assert_eq!(world.runs("production"), Some(1));
}

#[test]
fn what_was_taken_back_in_staging_never_comes() {
    let mut world = staged(FOLLOWS);
    world.later(BAKE);
    world.goes_back("staging");
    world.later(BAKE);
    assert_eq!(world.follow(), 0);
    assert_eq!(world.waits(), "there is nothing newer");
    // What failed there and went back by itself leaves what stood there, and that bakes anew.
    comes(&mut world, 2);
}

#[test]
fn what_failed_here_is_not_tried_again_by_itself_and_what_is_newer_is() {
    let mut world = staged(FOLLOWS);
    world.bad.insert(1);
    world.later(BAKE);
    assert_eq!(world.follow(), 1);
    let (id, deployment) = world.newest();
    assert_eq!(deployment.ended.unwrap().1, Ending::RolledBack);
    world.crash();
    world.later(BAKE);
    assert_eq!(world.follow(), 0);
    let why = format!(
        "1.1.0 does not come by itself, a newer one will: deployment {id} of it was taken back here: \
         tamer deploy production 1.1.0"
    );
    assert_eq!(world.waits(), why);
    comes(&mut world, 2);
}

#[test]
fn a_person_who_goes_back_is_not_overruled_until_something_newer_comes() {
    let mut world = staged(FOLLOWS);
    world.later(BAKE);
    world.follow();
    world.goes_back("production");
    assert_eq!(world.runs("production"), Some(0));
    world.crash();
    world.later(BAKE);
    assert_eq!(world.follow(), 0);
    assert!(
        world.waits().contains("anna went back from it"),
        "{}",
        world.waits()
    );
    comes(&mut world, 2);
    // The same for one that is turned around while it runs, and for an older version that is deployed.
    world.deploys("production", 0);
    assert_eq!(world.follow(), 0);
    world.publish(3);
    world.deploys("staging", 3);
    world.later(BAKE);
    let (due, _) = world.fleet.due(world.now);
    assert!(world.begins(&due[0]));
    world.turn();
    let (id, _) = world.newest();
    let back = Control::Rollback { with_down: false };
    world.fleet.control(id, back, &anna(), world.now).unwrap();
    world.settle();
    world.later(BAKE);
    assert_eq!(world.follow(), 0);
    assert_eq!(world.runs("production"), Some(0));
}

#[test]
fn nothing_is_skipped_for_what_comes_by_itself() {
    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";
    let demanding = format!(
        "[evidence]\nrequire = [\"build\"]\n[evidence.keys.ci]\nkey = \"{KEY}\"\nstates = [\"build\"]\n\
         [approval]\nneeded = 1\n[approval.keys.ben]\nkey = \"{KEY}\"\n{FOLLOWS}\n"
    );
    let mut world = staged(FOLLOWS);
    world.production(&demanding);
    world.proven = false;
    world.later(BAKE);
    assert_eq!(world.follow(), 0);
    assert!(
        world
            .waits()
            .contains("1.1.0 cannot be deployed: production demands evidence"),
        "{}",
        world.waits()
    );
    // It is said once, however often it is tried, and it is tried for as long as it is due.
    for _ in 0..3 {
        assert_eq!(world.fleet.due(world.now).1, Some(world.now + AGAIN));
        world.later(AGAIN);
        assert_eq!(world.fleet.due(world.now).1, Some(world.now + AGAIN));
        assert_eq!(world.follow(), 0);
    }
    let refused = world
        .audit
        .iter()
        .filter(|it| it.who == "auto from staging");
    assert_eq!(refused.count(), 1);
    world.proven = true;
    world.later(AGAIN);
    assert_eq!(world.follow(), 1);
    // It has begun, and waits for its approval like any other.
    let (_, deployment) = world.newest();
    assert!(deployment.ended.is_none() && deployment.approval.is_some());
    assert_eq!(world.runs("production"), Some(0));
}

#[test]
fn a_closed_environment_is_waited_for_and_the_newest_comes_then() {
    let mut world = staged(FOLLOWS);
    let until = world.now + Span::secs(48 * 3600);
    let freeze = tamer_controller::fleet::closing::Closed::Freeze(name("production"));
    world
        .fleet
        .close(freeze, Some(until), &anna(), world.now)
        .unwrap();
    world.later(BAKE);
    assert_eq!(world.follow(), 0);
    assert!(
        world
            .waits()
            .starts_with("1.1.0 waits for production to open: "),
        "{}",
        world.waits()
    );
    assert_eq!(world.fleet.due(world.now).1, Some(until));
    world.publish(2);
    world.deploys("staging", 2);
    world.later(Span(until.since(world.now)));
    assert_eq!(world.follow(), 1);
    assert_eq!(world.runs("production"), Some(2));
}

#[test]
fn releases_stay_small_where_that_is_wanted() {
    let mut world = staged(&format!("{FOLLOWS}\nmax_releases_at_once = 1"));
    world.later(BAKE);
    for n in [2, 3] {
        world.publish(n);
        world.deploys("staging", n);
        world.later(BAKE);
    }
    assert_eq!(world.follow(), 3);
    let all = world.fleet.deployments.values();
    let by_itself = all.filter(|it| it.by.starts_with("auto "));
    let versions: Vec<_> = by_itself
        .filter_map(|it| Some(it.version.clone()?.to_string()))
        .collect();
    assert_eq!(versions, ["1.1.0", "1.2.0", "1.3.0"]);
    // 1.4.0 never stood in staging: a person decides.
    world.publish(5);
    world.deploys("staging", 5);
    world.later(BAKE);
    assert_eq!(world.follow(), 0);
    assert_eq!(
        world.waits(),
        "1.5.0 brings 2 releases, and 1 are the most at once: tamer deploy production 1.5.0"
    );
}

#[test]
fn every_published_version_comes_in_order() {
    let mut world = World::new("[auto]\nevery = \"published\"\nmax_releases_at_once = 1");
    world.publish(1);
    assert_eq!(world.follow(), 1);
    world.publish(3);
    assert_eq!(world.follow(), 2);
    assert_eq!(world.runs("production"), Some(3));
}

#[test]
fn one_component_alone_is_nothing_to_follow() {
    let mut world = staged(FOLLOWS);
    world.publish(2);
    let mut wanted = world.wanted("staging", 2);
    wanted.component = Some("web".parse().unwrap());
    world.fleet.deploy(&wanted, &anna(), world.now).unwrap();
    world.turn();
    world.settle();
    world.later(Span(BAKE.0 * 2));
    assert_eq!(world.follow(), 0);
}

#[test]
fn a_circle_is_seen_before_it_is_closed() {
    let world = World::new(FOLLOWS);
    assert!(
        world
            .fleet
            .circle(&name("staging"), &name("production"))
            .is_some()
    );
    assert!(world.fleet.circle(&name("staging"), &name("lab")).is_none());
}

#[derive(Debug, Clone)]
enum Op {
    Later(u64),
    Settle,
    Crash,
    Staging(u8),
    StagingBack,
    Drift(bool),
    Begin,
    ProductionBack,
    Bad(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..5000u64).prop_map(Op::Later),
        4 => Just(Op::Settle),
        3 => Just(Op::Crash),
        4 => (0..8u8).prop_map(Op::Staging),
        1 => Just(Op::StagingBack),
        1 => any::<bool>().prop_map(Op::Drift),
        6 => Just(Op::Begin),
        1 => Just(Op::ProductionBack),
        1 => (0..8u8).prop_map(Op::Bad),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_killed_controller_neither_forgets_nor_doubles(ops in proptest::collection::vec(op(), 1..60)) {
        let mut world = World::new(FOLLOWS);
        world.publish(7);
        let mut tried: Vec<String> = Vec::new();
        for op in &ops {
            match op {
                Op::Later(seconds) => world.later(Span::secs(*seconds)),
                Op::Settle => world.settle(),
                Op::Crash => {
                    let before = (world.fleet.standings.clone(), world.fleet.due(world.now));
                    world.crash();
                    // All is known that was.
                    prop_assert_eq!(&before.0, &world.fleet.standings);
                    prop_assert_eq!(before.1.0, world.fleet.due(world.now).0);
                }
                Op::Staging(n) => {
                    let wanted = world.wanted("staging", *n);
                    // Refused while another one runs.
                    let _ = world.fleet.deploy(&wanted, &anna(), world.now);
                    world.turn();
                }
                Op::StagingBack | Op::ProductionBack => {
                    let place = name(if matches!(op, Op::StagingBack) { "staging" } else { "production" });
                    let how = tamer_controller::fleet::back::How::default();
                    // Refused where there is nothing to go back to.
                    let _ = world.fleet.go_back((&place, &world::shop()), None, None, &how, &anna(), world.now);
                    world.turn();
                }
                Op::Drift(drifts) => world.drifts(0, *drifts),
                Op::Bad(n) => drop(world.bad.insert(*n)),
                Op::Begin => {
                    let (due, _) = world.fleet.due(world.now);
                    let before = world.by_itself();
                    for one in &due {
                        // Asked twice, for the first answer may have been lost.
                        if world.begins(one) {
                            tried.push(one.version.to_string());
                        }
                        prop_assert!(!world.begins(one));
                    }
                    world.turn();
                    prop_assert!(world.by_itself() <= before + 1);
                }
            }
        }
        // By itself each version is tried once.
        let mut once = tried.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), tried.len(), "{:?}", tried);
        // And in the end what has stood comes, unless it says why not.
        world.bad.clear();
        world.drifts(0, false);
        world.settle();
        world.publish(8);
        let wanted = world.wanted("staging", 8);
        let _ = world.fleet.deploy(&wanted, &anna(), world.now);
        world.turn();
        world.settle();
        world.later(BAKE);
        world.follow();
        prop_assert_eq!(world.runs("production"), Some(8), "{}", world.waits());
    }
}
