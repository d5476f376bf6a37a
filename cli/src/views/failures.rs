//! What failed, on which host, with the last lines of output, and what to type next.

use super::cause::cause;
use super::databases;
use super::drift::ways;
use super::human::{fit, harmless};
use std::collections::BTreeSet;
use tamer_core::environment::AGENTS;
use tamer_proto::v1::{DeploymentStatus, Failure, RolloutHost};

/// How many failed hosts are told in full.
const TOLD: usize = 5;

/// How many lines of a host's output are shown.
const OUTPUT_LINES: usize = 8;

/// Whether a host needs somebody's attention.
pub fn needs_attention(host: &RolloutHost) -> bool {
    host.failure.is_some() || matches!(host.state.as_str(), "failed" | "refused" | "silent")
}

/// Why one host's switch failed: a sentence, then the last lines of output, indented.
pub fn host_failure(host: &str, failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!("✗ {host}: {}", harmless(&failure.message))];
    lines.extend(output_tail(&failure.output));
    lines
}

/// The last lines of what was printed, indented.
pub fn output_tail(output: &str) -> Vec<String> {
    last_lines(output, OUTPUT_LINES)
}

/// So many of the last lines of what was printed, indented.
pub(super) fn last_lines(output: &str, most: usize) -> Vec<String> {
    let lines: Vec<&str> = output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(most);
    let tail = lines[from..].iter();
    tail.map(|line| format!("    {}", fit(&harmless(line), 160)))
        .collect()
}

/// The end of a deployment that did not succeed: hosts, causes, and what to type next. `took` is how
/// long going back took, in milliseconds, where that was seen.
pub fn explain(status: &DeploymentStatus, took: Option<u64>) -> Vec<String> {
    let mut lines = Vec::new();
    let failed: Vec<&RolloutHost> = status
        .rollouts
        .iter()
        .flat_map(|rollout| &rollout.hosts)
        .filter(|host| needs_attention(host))
        .collect();
    for host in failed.iter().take(TOLD) {
        match &host.failure {
            Some(failure) => lines.extend(host_failure(&host.host, failure)),
            None => lines.push(format!("✗ {}: {}", host.host, host.state)),
        }
    }
    if failed.len() > TOLD {
        lines.push(format!("  and {} more hosts", failed.len() - TOLD));
    }
    lines.extend(databases::failures(&status.databases));
    let causes = status.rollouts.iter().filter_map(|it| cause(it, took));
    lines.extend(causes.map(|cause| format!("  {cause}")));
    lines.push(next(status));
    lines
}

/// The commands to type next, in one line.
pub fn next(status: &DeploymentStatus) -> String {
    let mut next = vec![format!("tamer status {}", status.id)];
    let mut hosts = status.rollouts.iter().flat_map(|rollout| &rollout.hosts);
    let failed = hosts.find(|host| needs_attention(host));
    next.extend(failed.map(|host| format!("tamer hosts {}", host.host)));
    match status.next.as_str() {
        "" => next.extend(way_out(status)),
        said => next.push(harmless(said)),
    }
    format!("  next: {}", next.join(" · "))
}

/// The command that takes back what a deployment brought about.
pub fn rollback_command(status: &DeploymentStatus) -> String {
    // The agents are not what is meant where no application is named.
    let application = match status.application.as_str() {
        AGENTS => format!(" --application {AGENTS}"),
        _ => String::new(),
    };
    format!("tamer rollback {}{application}", status.environment)
}

/// The command that leads out of a state which will not change by itself.
fn way_out(status: &DeploymentStatus) -> Option<String> {
    let hosts = status.rollouts.iter().flat_map(|rollout| &rollout.hosts);
    let drifted = hosts.filter(|it| it.failure.as_ref().is_some_and(|it| it.kind == "drift"));
    let drifted: BTreeSet<&str> = drifted.map(|it| &*it.host).collect();
    match (drifted.first(), drifted.len(), status.state.as_str()) {
        (None, ..) | (_, _, "paused" | "failed" | "aborted") => {}
        (Some(one), 1, _) => return Some(ways(None, Some(one), one)),
        (Some(one), ..) => return Some(ways(Some(&status.environment), None, one)),
    }
    match status.state.as_str() {
        "paused" => Some(format!("tamer resume {}", status.id)),
        "failed" | "aborted" if status.purpose != "rollback" => Some(rollback_command(status)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{host, rolled_back};

    #[test]
    fn a_failure_says_where_why_and_what_next() {
        insta::assert_snapshot!(explain(&rolled_back(), Some(100)).join("\n"));
    }

    #[test]
    fn many_failures_are_counted_and_silent_hosts_named() {
        let mut status = rolled_back();
        status.state = "failed".into();
        let hosts = (1..=8).map(|n| host(&format!("web-{n:02}"), 0, "silent"));
        status.rollouts[0].hosts = hosts.collect();
        insta::assert_snapshot!(explain(&status, None).join("\n"));
    }

    #[test]
    fn what_was_changed_by_hand_is_put_back_or_adopted() {
        let mut status = rolled_back();
        (status.state, status.exit_code) = ("refused".into(), 10);
        let mut refused = |names: &[&str]| {
            let hosts = names.iter().map(|name| {
                let mut host = host(name, 0, "refused");
                host.failure = Some(Failure {
                    kind: "drift".into(),
                    message: "edited on the server: page.html: changed, in 1.4.1".into(),
                    ..Default::default()
                });
                host
            });
            status.rollouts[0].hosts = hosts.collect();
            next(&status)
        };
        assert_eq!(
            refused(&["web-07"]),
            "  next: tamer status 318 · tamer hosts web-07 · tamer drift --host web-07 --repair · \
             tamer drift --host web-07 --adopt --reason TEXT"
        );
        assert!(refused(&["web-07", "web-08"]).ends_with(
            " · tamer drift production --repair · tamer drift production --adopt --reason TEXT"
        ));
    }

    #[test]
    fn a_long_output_is_cut_to_its_end() {
        let output: String = (1..=100).map(|n| format!("line {n}\n\n")).collect();
        let tail = output_tail(&output);
        assert_eq!(tail.len(), OUTPUT_LINES);
        assert_eq!(tail.last().unwrap(), "    line 100");
    }
}
