//! Which hosts are told anew after what.

use super::*;
use tamer_core::desired::Purpose;
use tamer_core::policy::Policy;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::{Host, Observation, RolloutId};

#[test]
fn a_host_that_may_fetch_makes_no_other_host_s_state_anew() {
    const NOW: Moment = Moment(1000);
    let key = TargetKey {
        environment: "production".parse().unwrap(),
        application: "shop".parse().unwrap(),
        component: "web".parse().unwrap(),
        pool: Default::default(),
    };
    let names: Vec<HostName> = (1..=3)
        .map(|n| format!("web-{n}").parse().unwrap())
        .collect();
    let mut fleet = Fleet::new(1, None);
    let mut target = Target::new(key.clone(), Policy::default());
    for name in &names {
        target.hosts.insert(name.clone(), Host::new(NOW));
    }
    fleet.targets.insert(key.clone(), target);
    for name in &names {
        fleet
            .apply(&key, &Event::Connected(name.clone()), NOW)
            .unwrap();
        let seen = Box::new(Observation::default());
        fleet
            .apply(&key, &Event::Reported(name.clone(), seen), NOW)
            .unwrap();
    }
    let release = ReleaseRef {
        version: "1.0.0".parse().unwrap(),
        manifest: Digest::new([1; 32]),
    };
    let new = fleet.targets[&key].plan(RolloutId(1), Some(release), Purpose::Forward, NOW);
    let started = Event::Started(Box::new(new.unwrap()));
    fleet.apply(&key, &started, NOW).unwrap();
    let told = |fleet: &Fleet| -> Vec<_> {
        names
            .iter()
            .map(|name| fleet.targets[&key].desired(name))
            .collect()
    };
    let before = told(&fleet);
    fleet.stale.clear();
    fleet
        .apply(&key, &Event::MayStage(names[1].clone()), NOW)
        .unwrap();
    let after = told(&fleet);
    let stale = BTreeSet::from([names[1].clone()]);
    assert_eq!(fleet.stale, stale, "nobody else has to be looked at");
    for (n, name) in names.iter().enumerate() {
        assert_eq!(before[n] != after[n], stale.contains(name), "{name}");
    }
}
