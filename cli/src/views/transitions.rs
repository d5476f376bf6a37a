//! What has happened between two statuses of a deployment: one line each, for logs and CI.

use super::cause::cause;
use super::databases;
use super::failures::{host_failure, needs_attention};
use super::human::{count, harmless, span};
use super::status::{header, name};
use tamer_proto::v1::{DeploymentStatus, RolloutHost, RolloutStatus, WaveStatus};

/// The lines to print when `after` follows `before`; none when nothing worth a line has changed. `took`
/// is how long going back took, in milliseconds, once it is over and where that was seen.
pub fn transitions(
    before: Option<&DeploymentStatus>,
    after: &DeploymentStatus,
    took: Option<u64>,
) -> Vec<String> {
    let mut lines = Vec::new();
    match before {
        None => lines.push(header(after)),
        Some(before) if before.state != after.state && after.ended_ms == 0 => {
            lines.push(format!("deployment {}: {}", after.id, after.state));
            if after.state == "paused" {
                lines.push(super::failures::next(after));
            }
        }
        Some(_) => {}
    }
    let said = |it: &DeploymentStatus| databases::lines(&it.databases);
    let told = before.map(said).unwrap_or_default();
    let new = said(after).into_iter().filter(|line| !told.contains(line));
    lines.extend(new.map(|line| format!("  {line}")));
    let failed_before = before.map(|it| databases::failures(&it.databases));
    let failed_now = databases::failures(&after.databases);
    if failed_before.unwrap_or_default() != failed_now {
        lines.extend(failed_now.into_iter().map(|line| format!("  {line}")));
    }
    let many = after.rollouts.len() > 1;
    for (n, rollout) in after.rollouts.iter().enumerate() {
        // By place: a rollout gets its number only when it begins, and one that takes another back has its name.
        let old = before.and_then(|before| before.rollouts.get(n));
        let prefix = if many {
            format!("{}: ", name(rollout))
        } else {
            String::new()
        };
        let indented = |line: String| format!("  {line}");
        lines.extend(failed(old, rollout).into_iter().map(indented));
        let said = of_rollout(old, rollout, after.now_ms, many);
        lines.extend(said.into_iter().map(|line| format!("  {prefix}{line}")));
        lines.extend(gone_back(old, rollout).into_iter().map(indented));
        let verdict = verdict(old, rollout, took);
        lines.extend(verdict.map(|line| format!("  {prefix}{line}")));
    }
    lines
}

fn of_rollout(
    old: Option<&RolloutStatus>,
    rollout: &RolloutStatus,
    now_ms: u64,
    many: bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    // With one component its state is the deployment's, and is told there.
    if many && old.map_or("waiting", |old| &old.state) != rollout.state {
        lines.push(rollout.state.clone());
    }
    if rollout.staged == rollout.total
        && rollout.total > 0
        && old.is_none_or(|old| old.staged < rollout.total)
    {
        lines.push(format!("staged {}/{}", rollout.staged, rollout.total));
    }
    for (n, wave) in rollout.waves.iter().enumerate() {
        lines.extend(of_wave(old.and_then(|old| old.waves.get(n)), wave, now_ms));
    }
    // While hosts switch or a wave bakes, the waves say it all.
    let at_work = |it: &RolloutStatus| {
        let mut waves = it.waves.iter();
        waves.any(|wave| wave.working > 0 || wave.state == "baking")
    };
    let told = old.filter(|old| !at_work(old));
    let waited = told.map_or(&[][..], |told| &told.waiting_on);
    if !at_work(rollout) && rollout.waiting_on != waited && !rollout.waiting_on.is_empty() {
        lines.push(format!(
            "waits for {}",
            harmless(&rollout.waiting_on.join(", "))
        ));
    }
    lines
}

/// Why a rollout ended without success, once everything has gone back.
fn verdict(
    old: Option<&RolloutStatus>,
    rollout: &RolloutStatus,
    took: Option<u64>,
) -> Option<String> {
    let over = |it: &RolloutStatus| {
        matches!(
            it.state.as_str(),
            "rolled back" | "failed" | "aborted" | "paused" | "frozen"
        )
    };
    let news = over(rollout) && !old.is_some_and(|old| over(old) && old.state == rollout.state);
    cause(rollout, took).filter(|_| news)
}

fn of_wave(old: Option<&WaveStatus>, wave: &WaveStatus, now_ms: u64) -> Option<String> {
    let state = old.map_or("waiting", |old| &old.state);
    let done = old.map_or(0, |old| old.done);
    // A wave that goes back is told by its hosts.
    if wave.state == "waiting"
        || state == wave.state && (wave.state != "rolling" || done == wave.done)
    {
        return None;
    }
    let reached = format!("{} {}/{}", wave.name, wave.done, wave.total);
    Some(match wave.state.as_str() {
        "baking" => {
            let left = wave.baked_at_ms.saturating_sub(now_ms);
            format!("{reached} healthy, baking {}", span(left))
        }
        "done" if wave.failed > 0 => format!("{reached} done, {} failed", wave.failed),
        "done" => format!("{reached} healthy"),
        state => format!("{reached} {state}"),
    })
}

/// Hosts that have come to need attention.
fn failed(old: Option<&RolloutStatus>, rollout: &RolloutStatus) -> Vec<String> {
    let mut lines = Vec::new();
    for host in &rollout.hosts {
        if needs_attention(host) && !earlier(old, host).is_some_and(needs_attention) {
            match &host.failure {
                Some(failure) => lines.extend(host_failure(&host.host, failure)),
                None => lines.push(format!("✗ {}: {}", host.host, host.state)),
            }
        }
    }
    lines
}

/// Hosts that have gone back; many at a time are counted.
fn gone_back(old: Option<&RolloutStatus>, rollout: &RolloutStatus) -> Vec<String> {
    const NAMED: usize = 3;
    let back = |host: &&RolloutHost| {
        host.state == "back" && earlier(old, host).is_none_or(|old| old.state != "back")
    };
    let told = |what: &str, to: &str| match to {
        "" => format!("{what} went back to nothing"),
        to => format!("{what} went back to {to}"),
    };
    let hosts: Vec<_> = rollout.hosts.iter().filter(back).collect();
    if hosts.len() > NAMED {
        return vec![told(&count(hosts.len() as u64, "host"), &rollout.from)];
    }
    hosts
        .iter()
        .map(|host| told(&host.host, &host.running))
        .collect()
}

fn earlier<'a>(old: Option<&'a RolloutStatus>, host: &RolloutHost) -> Option<&'a RolloutHost> {
    old?.hosts.iter().find(|other| other.host == host.host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{baking, fetching, rolled_back};

    /// The whole of a deployment, as CI prints it.
    fn story(states: &[DeploymentStatus]) -> String {
        let mut before: Option<&DeploymentStatus> = None;
        let mut lines = Vec::new();
        for state in states {
            lines.extend(transitions(before, state, Some(140)));
            before = Some(state);
        }
        lines.join("\n")
    }

    fn begun() -> DeploymentStatus {
        let mut status = baking();
        let rollout = &mut status.rollouts[0];
        rollout.staged = 3;
        rollout.waves[0].state = "rolling".into();
        rollout.waves[0].done = 0;
        rollout.waiting_on.clear();
        rollout.hosts.clear();
        status
    }

    #[test]
    fn a_canary_that_fails_and_goes_back() {
        let mut half = begun();
        half.rollouts[0].staged = 40;
        half.rollouts[0].waves[0].done = 1;
        let mut rolling_back = baking();
        rolling_back.state = "rolling back".into();
        insta::assert_snapshot!(story(&[
            begun(),
            half,
            baking(),
            rolling_back,
            rolled_back()
        ]));
    }

    #[test]
    fn what_has_not_changed_is_not_told_again() {
        for status in [begun(), baking(), rolled_back()] {
            let mut later = status.clone();
            later.now_ms += 5_000;
            assert_eq!(
                transitions(Some(&status), &later, None),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn how_far_hosts_have_come_that_fetch_is_no_transition() {
        let status = fetching();
        let mut later = status.clone();
        later.now_ms += 2_000;
        let rollout = &mut later.rollouts[0];
        rollout.hosts[2].transfer.as_mut().unwrap().done += 2_400_000;
        rollout.hosts[3].transfer = None;
        rollout.transfers.as_mut().unwrap().left -= 2_400_000;
        assert_eq!(
            transitions(Some(&status), &later, None),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_was_waited_for_while_hosts_switched_is_told_when_nothing_goes_on_any_more() {
        let mut switching = begun();
        switching.rollouts[0].waves[0].working = 1;
        switching.rollouts[0].waiting_on = vec!["web-2 to come back".into()];
        let mut still = switching.clone();
        still.rollouts[0].waves[0].working = 0;
        let told = transitions(Some(&switching), &still, None);
        assert_eq!(told, ["  waits for web-2 to come back"]);
        assert_eq!(
            transitions(Some(&still), &still.clone(), None),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_takes_a_rollout_back_is_told_once_although_it_has_the_same_name() {
        let mut taking_back = begun();
        let mut back = taking_back.rollouts[0].clone();
        taking_back.rollouts[0].state = "succeeded".into();
        back.id += 1;
        back.staged = back.total;
        taking_back.rollouts.push(back);
        let mut later = taking_back.clone();
        later.now_ms += 5_000;
        assert_eq!(
            transitions(Some(&taking_back), &later, None),
            Vec::<String>::new()
        );
    }

    #[test]
    fn components_are_named_when_there_are_several() {
        let mut two = baking();
        let mut worker = two.rollouts[0].clone();
        worker.id += 1;
        worker.component = "worker".into();
        worker.state = "waiting".into();
        worker
            .waves
            .iter_mut()
            .for_each(|wave| wave.state = "waiting".into());
        worker.waiting_on = vec!["web".into()];
        two.rollouts.push(worker);
        insta::assert_snapshot!(story(&[two]));
    }
}
