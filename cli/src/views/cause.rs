//! Why a rollout did not go on, and what became of its hosts, in one sentence.

use super::human::{count, harmless, span};
use tamer_proto::v1::{RolloutHost, RolloutStatus};

/// `the canary allows no failure: rolled back 2 of 2 hosts to 1.4.1 in 0.1 s; 38 hosts were never touched`,
/// without the failure that its host tells already; `None` where there is no cause. `took` is how long
/// going back took, in milliseconds, where that was seen.
pub fn cause(rollout: &RolloutStatus, took: Option<u64>) -> Option<String> {
    if rollout.cause.is_empty() {
        return None;
    }
    let why = match failures(rollout) {
        Some((failed, allowed)) => too_many(rollout, failed, allowed),
        None => harmless(&rollout.cause),
    };
    let became = became(rollout, took).join("; ");
    Some(if became.is_empty() {
        why
    } else {
        format!("{why}: {became}")
    })
}

/// How many hosts failed and how many may, where that is the cause: it then is `HOST: FAILURE (1 failed,
/// 0 may)`, and the host tells its failure by itself.
fn failures(rollout: &RolloutStatus) -> Option<(u32, u32)> {
    let told = rollout.hosts.iter().any(|host| {
        let rest = rollout.cause.strip_prefix(&host.host);
        rest.is_some_and(|rest| rest.starts_with(": "))
    });
    let (_, numbers) = rollout.cause.rsplit_once(" (").filter(|_| told)?;
    let (failed, allowed) = numbers.strip_suffix(" may)")?.split_once(" failed, ")?;
    Some((failed.parse().ok()?, allowed.parse().ok()?))
}

fn too_many(rollout: &RolloutStatus, failed: u32, allowed: u32) -> String {
    let its_turn = |host: &&RolloutHost| !matches!(host.state.as_str(), "waiting" | "staged");
    let newest = rollout.hosts.iter().filter(its_turn);
    let newest = newest.map(|host| host.wave as usize).max();
    let newest = newest.and_then(|wave| rollout.waves.get(wave));
    let canary = newest.is_some_and(|wave| wave.name == "canary");
    match allowed {
        0 if canary => "the canary allows no failure".to_owned(),
        0 => "no failure is allowed".to_owned(),
        _ => format!("{failed} failed, {allowed} may"),
    }
}

/// Whether the host runs, or ran meanwhile, what the rollout brought, or tried to.
fn touched(host: &RolloutHost) -> bool {
    let state = host.state.as_str();
    matches!(state, "back" | "failed" | "done" | "granted") || state.starts_with("working")
}

/// What became of the hosts, as far as they are all listed.
fn became(rollout: &RolloutStatus, took: Option<u64>) -> Vec<String> {
    let all = rollout.total as usize;
    if all == 0 || rollout.hosts.len() < all {
        return Vec::new();
    }
    let has_left = |host: &&RolloutHost| host.running != rollout.to;
    let touched: Vec<_> = rollout.hosts.iter().filter(|host| touched(host)).collect();
    let back = touched.iter().copied().filter(has_left).count();
    let untouched = rollout
        .hosts
        .iter()
        .filter(|host| matches!(host.state.as_str(), "waiting" | "staged" | "refused"))
        .count();
    let mut became = Vec::new();
    let went_back = matches!(rollout.state.as_str(), "rolled back" | "failed");
    if went_back && !touched.is_empty() {
        let to = match rollout.from.as_str() {
            "" => "nothing",
            from => from,
        };
        let hosts = count(touched.len() as u64, "host");
        let took = took.map_or_else(String::new, |took| format!(" in {}", span(took)));
        became.push(format!("rolled back {back} of {hosts} to {to}{took}"));
    }
    became.push(match (untouched, untouched == all) {
        (_, true) => "nothing was changed".to_owned(),
        (0, _) => return became,
        (1, _) => "1 host was never touched".to_owned(),
        (n, _) => format!("{n} hosts were never touched"),
    });
    became
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{host, rolled_back};
    use tamer_core::desired::{Failure, FailureKind};
    use tamer_core::rollout::Cause;

    /// The cause as the controller words it.
    fn too_many(failed: u32, allowed: u32) -> String {
        let cause = Cause::TooManyFailures {
            failed,
            allowed,
            host: "web-07".parse().unwrap(),
            failure: Failure::seen(FailureKind::Check, "check `home` failed (500)"),
        };
        cause.to_string()
    }

    fn ended(cause: String) -> RolloutStatus {
        RolloutStatus {
            cause,
            ..rolled_back().rollouts.remove(0)
        }
    }

    #[test]
    fn a_canary_allows_no_failure() {
        let told = "the canary allows no failure: rolled back 2 of 2 hosts to 1.4.1";
        assert_eq!(
            cause(&ended(too_many(1, 0)), Some(140)).unwrap(),
            format!("{told} in 0.1 s; 38 hosts were never touched")
        );
        assert_eq!(
            cause(&ended(too_many(1, 0)), None).unwrap(),
            format!("{told}; 38 hosts were never touched")
        );
    }

    #[test]
    fn later_waves_have_a_budget_and_hosts_that_stay_are_counted() {
        let mut rollout = ended(too_many(3, 2));
        rollout.state = "failed".into();
        rollout.from.clear();
        for host in &mut rollout.hosts {
            (host.state, host.wave) = ("back".into(), 2);
        }
        rollout.hosts[3].state = "failed".into();
        rollout.hosts[3].running = "1.4.2".into();
        assert_eq!(
            cause(&rollout, None).unwrap(),
            "3 failed, 2 may: rolled back 39 of 40 hosts to nothing"
        );
        rollout.cause = too_many(1, 0);
        assert!(
            cause(&rollout, None)
                .unwrap()
                .starts_with("no failure is allowed: ")
        );
    }

    #[test]
    fn a_wish_is_told_as_it_is_and_nothing_is_made_up() {
        let mut rollout = ended("asked for by anna: slow (2 failed, 0 may)".into());
        assert_eq!(
            cause(&rollout, None).unwrap(),
            "asked for by anna: slow (2 failed, 0 may): rolled back 2 of 2 hosts to 1.4.1; 38 hosts were never touched"
        );
        // Not every host is listed: then nothing is counted.
        rollout.hosts.truncate(39);
        rollout.cause = "asked for by anna".into();
        assert_eq!(cause(&rollout, None).unwrap(), "asked for by anna");
        rollout.cause.clear();
        assert_eq!(cause(&rollout, None), None);
    }

    #[test]
    fn a_host_that_was_refused_was_not_touched() {
        let mut rollout = ended(too_many(1, 0));
        rollout.hosts = (1..=40)
            .map(|n| host(&format!("web-{n:02}"), 0, "waiting"))
            .collect();
        rollout.hosts[6].state = "refused".into();
        assert_eq!(
            cause(&rollout, None).unwrap(),
            "the canary allows no failure: nothing was changed"
        );
    }
}
