//! What somebody should know or decide, each in one sentence that ends in the command for it: the last
//! lines of `tamer hosts` and `tamer status`.

use crate::fleet::Fleet;
use crate::fleet::auto::Following;
use std::collections::BTreeMap;
use tamer_core::calendar::{Opening, utc};
use tamer_core::id::{EnvironmentName, HostName};
use tamer_core::moment::{Moment, Span};
use tamer_core::policy::OnDrift;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::Target;
use tamer_core::rollout::switching::Router;

/// How many hosts are named before only their number is said.
const NAMED: usize = 5;

/// The notes for a list of hosts: of one environment, or of one host alone.
pub fn of_hosts(
    fleet: &Fleet,
    environment: Option<&EnvironmentName>,
    name: Option<&HostName>,
) -> Vec<String> {
    match name {
        None => of_environment(fleet, environment),
        Some(name) => stranger(fleet, name).into_iter().collect(),
    }
}

/// The notes for everything, or for one environment.
pub fn of_environment(fleet: &Fleet, environment: Option<&EnvironmentName>) -> Vec<String> {
    let here = |name: &EnvironmentName| environment.is_none_or(|only| only == name);
    let mut notes = Vec::new();
    if let Some(why) = &fleet.held {
        notes.push(format!(
            "The controller is held ({why}): it decides and sends nothing. When you have looked, on the \
             controller's machine: systemctl stop tamer-controller; tamer-controller unhold; \
             systemctl start tamer-controller"
        ));
    }
    let targets = fleet.targets.values();
    notes.extend(
        targets
            .filter(|target| target.unsettled && here(&target.key.environment))
            .filter_map(unsettled),
    );
    let targets = fleet.targets.values();
    notes.extend(
        targets
            .filter(|target| here(&target.key.environment))
            .filter_map(|target| drifted(fleet, target)),
    );
    let routers = fleet.routers.values();
    notes.extend(
        routers
            .filter(|router| here(&router.key.environment))
            .flat_map(|router| astray(fleet, router)),
    );
    notes.extend(clocks(fleet, environment));
    let strangers = fleet.strangers.iter();
    notes.extend(
        strangers
            .filter(|(_, stranger)| here(&stranger.environment))
            .filter_map(|(name, _)| stranger(fleet, name)),
    );
    notes.extend(beyond(fleet, environment));
    notes.extend(fleet.mirror_trouble.iter().map(|why| {
        format!(
            "The copy of the controller's keys, logs and releases is not whole: {why}. What is revoked or \
             published now would be lost with this machine. On it: tamer-controller check"
        )
    }));
    notes
}

/// What is closed now, and what a person closed.
pub fn closed(fleet: &Fleet, environment: Option<&EnvironmentName>, now: Moment) -> Vec<String> {
    let here = |name: &EnvironmentName| environment.is_none_or(|only| only == name);
    let mut notes = Vec::new();
    for (what, closure) in &fleet.closures {
        let shown = what.environment().is_none_or(here);
        if !shown || closure.until.is_some_and(|until| until <= now) {
            continue;
        }
        let (close, open) = what.commands();
        let until = closure
            .until
            .map_or_else(String::new, |it| format!(" until {}", utc(it)));
        let closed = if close == "freeze" {
            "frozen"
        } else {
            "locked"
        };
        notes.push(format!(
            "{what} is {closed}{until} by {}: {}: tamer {open} {what}",
            closure.by, closure.reason
        ));
    }
    let places = fleet.environments.iter().filter(|(name, _)| here(name));
    notes.extend(
        places.filter_map(|(name, place)| match place.file.calendar().at(now) {
            Opening::Open { .. } => None,
            Opening::Closed { why, .. } => Some(format!("{name} is closed: {why}")),
        }),
    );
    notes
}

/// What environments have coming by themselves, or wait for.
pub fn following(fleet: &Fleet, environment: Option<&EnvironmentName>, now: Moment) -> Vec<String> {
    let all = fleet.following(environment, now).into_iter();
    let said = all.map(|((name, application), following)| {
        let auto = fleet
            .environments
            .get(&name)
            .and_then(|it| it.file.auto.as_ref());
        let from = auto.and_then(|auto| auto.from.as_ref());
        let follows = from.map_or("every published version", EnvironmentName::as_str);
        let of = match fleet.application_option(&name, &application).is_empty() {
            true => String::new(),
            false => format!(" ({application})"),
        };
        let next = match following {
            Following::Due(version) => format!("{version} begins now"),
            Following::Waits { why, .. } => why,
        };
        format!("{name} follows {follows}{of}: {next}")
    });
    said.collect()
}

fn drifted(fleet: &Fleet, target: &Target) -> Option<String> {
    let hosts: Vec<&HostName> = fleet.drifted(target).collect();
    if hosts.is_empty() {
        return None;
    }
    let (key, on) = (&target.key, names(&hosts));
    let environment = &key.environment;
    let means = match target.policy.on_drift {
        OnDrift::Block => "there, it keeps the next release away until it is put back or adopted",
        OnDrift::Warn => "the next release overwrites it",
    };
    let next = match hosts[..] {
        [host] => format!("tamer drift --host {host}"),
        _ => format!("tamer drift {environment}"),
    };
    Some(format!(
        "{environment}: {}/{} was changed by hand on {on}: {means}: {next}",
        key.application, key.component
    ))
}

/// What is wrong with a component's routers and pools.
fn astray(fleet: &Fleet, router: &Router) -> Vec<String> {
    let key = &router.key;
    let (environment, path) = (&key.environment, key.path());
    let mut notes = Vec::new();
    let switches = format!(
        "tamer rollback {environment} --application {} --component {} --pool",
        key.application, key.component
    );
    if let Err(why) = router.idle() {
        notes.push(format!(
            "{environment}: {path}: {why}. Nothing is deployed there until all of its routers send to one pool: {switches} POOL"
        ));
    }
    if let Some(active) = &router.active {
        notes.extend(router.astray().into_iter().map(|(name, what)| {
            format!("{environment}: {path}: the router {name} {what}, and {active} is used: {switches} {active}")
        }));
    }
    let homeless: Vec<&HostName> = fleet.in_no_pool(key).collect();
    if !homeless.is_empty() {
        let pools: Vec<_> = router
            .settings
            .pools
            .iter()
            .map(|pool| pool.as_str())
            .collect();
        notes.push(format!(
            "{environment}: {path}: {} in neither of the pools {}, and nothing runs there: tamer host invite --replace HOST --label KEY=VALUE",
            match homeless[..] {
                [one] => format!("{one} is"),
                _ => format!("{} are", names(&homeless)),
            },
            pools.join(" and ")
        ));
    }
    notes
}

/// Clocks that differ so much are worth a note, in seconds; agents say it in their logs from there on.
const CLOCK_OFF: u64 = 300;

/// Hosts whose clocks differ from this controller's. Which of the two is wrong, nobody knows here.
fn clocks(fleet: &Fleet, environment: Option<&EnvironmentName>) -> Option<String> {
    let hosts = fleet.registry.hosts.iter();
    let here = hosts.filter(|(_, host)| environment.is_none_or(|it| *it == host.environment));
    let ahead = |name: &HostName| Some(fleet.seats.get(name)?.session.as_ref()?.clock_ahead);
    let off: Vec<(&HostName, i64)> = here
        .filter_map(|(name, _)| Some((name, ahead(name)?)))
        .filter(|(_, ahead)| ahead.unsigned_abs() >= CLOCK_OFF)
        .collect();
    let (_, most) = off.iter().max_by_key(|(_, ahead)| ahead.unsigned_abs())?;
    let by = Span::secs((most.unsigned_abs() + 30) / 60 * 60);
    let way = if *most > 0 { "ahead of" } else { "behind" };
    let hosts: Vec<&HostName> = off.iter().map(|(name, _)| *name).collect();
    let (clock, is, on) = match hosts[..] {
        [_] => ("The clock", "is", "it"),
        _ => ("The clocks", "are up to", "them"),
    };
    Some(format!(
        "{clock} of {} {is} {by} {way} this controller's: until they agree, news may count as expired there. \
         Set the wrong one right, on {on} or here: timedatectl",
        names(&hosts)
    ))
}

fn unsettled(target: &Target) -> Option<String> {
    if target.hosts.is_empty() {
        return None;
    }
    let key = &target.key;
    let (environment, component) = (&key.environment, &key.component);
    let what = format!("{environment}: {}/{component}", key.application);
    let wanted = version(target.release.as_ref());
    let mut runs: BTreeMap<Option<&ReleaseRef>, Vec<&HostName>> = BTreeMap::new();
    let mut silent = Vec::new();
    for (name, host) in &target.hosts {
        if !host.known {
            silent.push(name);
        } else if host.running != target.release {
            runs.entry(host.running.as_ref()).or_default().push(name);
        }
    }
    let mut said: Vec<String> = runs
        .iter()
        .map(|(release, hosts)| format!("{} {}", version(*release), on(hosts)))
        .collect();
    if !silent.is_empty() {
        said.push(format!("nothing heard yet of {}", names(&silent)));
    }
    let next = match (target.prevailing(), target.active()) {
        (_, Some(_)) => format!("tamer status {environment}, then tamer abort or tamer resume"),
        (Some(release), None) if target.release.as_ref() != Some(release) => format!(
            "tamer deploy {environment} {component}@{} --application {} keeps what runs",
            release.version, key.application
        ),
        (_, None) => format!("tamer deploy {environment} VERSION decides it"),
    };
    Some(format!(
        "{what} was restored from a backup that wants {wanted}: {}. Hosts stay as they are until \
         somebody decides: {next}",
        said.join(", ")
    ))
}

fn version(release: Option<&ReleaseRef>) -> String {
    release.map_or_else(
        || "nothing".to_owned(),
        |release| release.version.to_string(),
    )
}

fn on(hosts: &[&HostName]) -> String {
    match hosts {
        [_] => format!("runs on {}", names(hosts)),
        _ => format!("run on {}", names(hosts)),
    }
}

/// A few hosts by name, or how many there are.
pub(crate) fn names(hosts: &[&HostName]) -> String {
    if hosts.len() > NAMED {
        return format!("{} hosts", hosts.len());
    }
    let names: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Hosts that have heard of what this controller never said.
fn beyond(fleet: &Fleet, environment: Option<&EnvironmentName>) -> Vec<String> {
    let hosts = fleet.registry.hosts.iter();
    let here = hosts.filter(|(_, host)| environment.is_none_or(|it| *it == host.environment));
    let heard = here.filter_map(|(name, _)| Some((name, fleet.seats.get(name)?.beyond?)));
    heard
        .map(|(name, beyond)| {
            format!(
                "{name} has heard of generation {beyond}, and this controller is in epoch {}: another controller spoke \
                 to it with the keys of this one, or it lies. Nothing that it says is believed, and it takes in \
                 nothing. When you know what happened: tamer host take-back {name} --reason …",
                fleet.epoch
            )
        })
        .collect()
}

fn stranger(fleet: &Fleet, name: &HostName) -> Option<String> {
    let stranger = fleet.strangers.get(name)?;
    let environment = &stranger.environment;
    let again = if stranger.known {
        format!(
            "{name} has joined anew since the backup that the controller was restored from, and is not \
             let in: tamer host invite --environment {environment} --replace {name}"
        )
    } else {
        format!(
            "{name} joined {environment} after the backup that the controller was restored from, and is \
             not let in: tamer host invite --environment {environment} --label KEY=VALUE"
        )
    };
    Some(format!(
        "{again}, then on it tamer-agent enroll --force <<< TOKEN"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::deploy::By;
    use crate::fleet::drift::tests::drifting;
    use crate::fleet::restored::Stranger;
    use tamer_core::digest::Digest;
    use tamer_core::drift::Way;
    use tamer_core::id::{PoolName, TargetKey};
    use tamer_core::policy::Policy;
    use tamer_core::rollout::Host;

    fn release(version: &str) -> ReleaseRef {
        ReleaseRef {
            version: version.parse().unwrap(),
            manifest: Digest::new([version.as_bytes()[2]; 32]),
        }
    }

    /// Two hosts have moved on, one has not been heard.
    fn fleet() -> Fleet {
        let mut fleet = Fleet::new(9, None);
        let key = TargetKey {
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: PoolName::default(),
        };
        let mut target = Target::new(key.clone(), Policy::default());
        target.release = Some(release("1.0.0"));
        target.unsettled = true;
        for (name, running) in [
            ("web-1", Some("1.1.0")),
            ("web-2", Some("1.1.0")),
            ("web-3", None),
        ] {
            let mut host = Host::new(Moment(0));
            host.known = running.is_some();
            host.running = running.map(release);
            target.hosts.insert(name.parse().unwrap(), host);
        }
        fleet.targets.insert(key, target);
        fleet
    }

    #[test]
    fn an_unsettled_target_says_what_runs_and_what_to_type() {
        let notes = of_environment(&fleet(), None);
        assert_eq!(
            notes,
            [
                "production: shop/web was restored from a backup that wants 1.0.0: 1.1.0 run on web-1, \
                 web-2, nothing heard yet of web-3. Hosts stay as they are until somebody decides: \
                 tamer deploy production web@1.1.0 --application shop keeps what runs"
            ]
        );
        let other = "staging".parse().unwrap();
        assert_eq!(of_environment(&fleet(), Some(&other)), Vec::<String>::new());
    }

    #[test]
    fn what_was_changed_by_hand_is_noted_until_it_is_adopted() {
        let (mut fleet, key, web) = drifting();
        let notes = of_environment(&fleet, None);
        assert_eq!(
            notes,
            [
                "production: shop/web was changed by hand on web-1: there, it keeps the next release away \
                 until it is put back or adopted: tamer drift --host web-1"
            ]
        );
        let by = By {
            who: "anna".to_owned(),
            reason: "a hot fix".to_owned(),
        };
        let digest = Digest::new([1; 32]);
        let settled = fleet.settle_drift(&web, &key, &digest, Way::Adopt, &by, Moment(5));
        settled.unwrap();
        assert_eq!(of_environment(&fleet, None), Vec::<String>::new());
    }

    #[test]
    fn unknown_hosts_and_a_held_controller_are_named() {
        let mut fleet = fleet();
        fleet.targets.clear();
        fleet.held = Some("restored from x".to_owned());
        let stranger = |known| Stranger {
            environment: "production".parse().unwrap(),
            known,
            at: Moment(0),
        };
        let (old, new): (HostName, HostName) = ("web-1".parse().unwrap(), "web-9".parse().unwrap());
        fleet.strangers.insert(old.clone(), stranger(true));
        fleet.strangers.insert(new.clone(), stranger(false));
        fleet.mirror_trouble = Some("no space left".to_owned());
        let notes = of_environment(&fleet, None);
        for (note, word) in notes.iter().zip([
            "tamer-controller unhold",
            "--replace web-1",
            "--label KEY=VALUE",
            "no space left",
        ]) {
            assert!(note.contains(word), "{word}: {note}");
        }
        assert_eq!(notes.len(), 4);
        assert_eq!(of_hosts(&fleet, None, Some(&new)).len(), 1);
        assert_eq!(
            of_hosts(&fleet, None, Some(&"web-7".parse().unwrap())).len(),
            0
        );
    }
}
