//! Waves by a label: every host once, one value after the other.

use crate::fleet::{World, release};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tamer_core::desired::Purpose;
use tamer_core::id::HostName;
use tamer_core::moment::Moment;
use tamer_core::policy::{Policy, Quantity};
use tamer_core::rollout::{NewRollout, RolloutId};

fn planned(
    hosts: usize,
    policy: Policy,
    zones: &[Option<u8>],
) -> (NewRollout, BTreeMap<HostName, String>) {
    let world = World::new(hosts, policy);
    let zones = world.target.hosts.keys().zip(zones);
    let zones: BTreeMap<HostName, String> = zones
        .filter_map(|(name, zone)| Some((name.clone(), format!("z{}", (*zone)?))))
        .collect();
    let new = world.target.plan_by(
        &zones,
        RolloutId(1),
        Some(release(0)),
        Purpose::Forward,
        Moment(0),
    );
    (new.unwrap(), zones)
}

#[test]
fn one_zone_comes_after_the_other_and_who_has_none_comes_last() {
    let policy = Policy {
        canary: Some(Quantity::Hosts(1)),
        steps: vec![Quantity::Percent(50), Quantity::Percent(100)],
        by: Some("zone".to_owned()),
        ..Policy::default()
    };
    let zones = [Some(2), Some(1), None, Some(1), Some(2), Some(1)];
    let (new, _) = planned(6, policy, &zones);
    let waves = new.rollout.waves.iter().enumerate().map(|(n, wave)| {
        let hosts = new.waves.iter().filter(|(_, of)| **of as usize == n);
        let hosts: Vec<_> = hosts.map(|(name, _)| name.to_string()).collect();
        format!("{}: {}", wave.name, hosts.join(" "))
    });
    assert_eq!(
        waves.collect::<Vec<_>>(),
        [
            "canary: web-02",
            "50 % zone=z1: web-04 web-06",
            "100 % zone=z2: web-01 web-05",
            "100 % without zone: web-03",
        ]
    );
}

proptest! {
    #[test]
    fn every_host_is_in_one_wave_and_no_wave_but_the_canary_has_two_zones(
        zones in proptest::collection::vec(proptest::option::of(0..4u8), 1..30),
        canary in proptest::option::of(1..5u32),
        half in 1..99u8,
    ) {
        let policy = Policy {
            canary: canary.map(Quantity::Hosts),
            steps: vec![Quantity::Percent(half), Quantity::Percent(100)],
            by: Some("zone".to_owned()),
            ..Policy::default()
        };
        let (new, of) = planned(zones.len(), policy, &zones);
        prop_assert_eq!(new.waves.len(), zones.len());
        let mut last: BTreeMap<Option<&String>, u32> = BTreeMap::new();
        let mut first = last.clone();
        for (number, wave) in new.rollout.waves.iter().enumerate() {
            let number = number as u32;
            let hosts = new.waves.iter().filter(|(_, it)| **it == number);
            let here: Vec<_> = hosts.map(|(name, _)| of.get(name)).collect();
            prop_assert!(!here.is_empty(), "{} is empty", wave.name);
            let same = here.iter().all(|zone| *zone == here[0]);
            prop_assert!(wave.canary || same, "{} has {:?}", wave.name, here);
            for zone in here {
                first.entry(zone).or_insert(number);
                last.insert(zone, number);
            }
        }
        // A zone is through before the next begins; only the canary may have begun it.
        for (zone, end) in &last {
            for (other, begin) in &first {
                let canary = new.rollout.waves[*begin as usize].canary;
                prop_assert!(zone == other || canary || begin > end || last[other] < first[zone]
                    || new.rollout.waves[first[zone] as usize].canary);
            }
        }
        // How far each step reaches is what the policy says, wherever zones end.
        let total = zones.len();
        let reach = (total * usize::from(half)).div_ceil(100);
        let within = new.waves.values().filter(|wave| {
            !new.rollout.waves[**wave as usize].name.starts_with("100 %")
        });
        let canary = canary.map_or(0, |it| total.min(it as usize));
        let expected = reach.max(canary);
        prop_assert!(expected == total || within.count() == expected);
    }
}
