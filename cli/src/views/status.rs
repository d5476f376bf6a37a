//! One deployment as a screen: waves, and a row for every host that needs attention.

use super::failures::needs_attention;
use super::human::{bytes, count, fit, harmless, span};
use tamer_proto::v1::{DeploymentStatus, RolloutStatus, WaveStatus};

/// How many hosts are listed below the waves.
const HOST_ROWS: usize = 10;

/// `shop 1.4.2 → production · 40 hosts · deployment 318 · by ci`
pub fn header(status: &DeploymentStatus) -> String {
    let arrow = match status.purpose.as_str() {
        "rollback" => "⟲",
        _ => "→",
    };
    let mut parts = vec![
        format!(
            "{} {} {arrow} {}",
            status.application, status.version, status.environment
        ),
        size(status),
        format!("deployment {}", status.id),
        format!("by {}", status.by),
    ];
    if !status.reason.is_empty() {
        parts.push(format!("“{}”", harmless(&status.reason)));
    }
    if status.state != "running" {
        parts.push(status.state.clone());
    }
    parts.join(" · ")
}

/// How much it is about: hosts, or components where there are several, for they may share hosts.
fn size(status: &DeploymentStatus) -> String {
    match &status.rollouts[..] {
        [one] => count(one.total, "host"),
        several => count(several.len() as u64, "component"),
    }
}

/// The whole screen, no line wider than `width`. Times are told from the status's own `now_ms`.
pub fn render(status: &DeploymentStatus, width: usize) -> Vec<String> {
    let mut lines = vec![header(status)];
    let many = status.rollouts.len() > 1;
    for rollout in &status.rollouts {
        let indent = if many { "    " } else { "  " };
        if many {
            lines.push(format!("  {}", rollout_line(rollout)));
        }
        if rollout.state == "waiting" && many {
            lines.extend(
                rollout
                    .waiting_on
                    .iter()
                    .map(|what| format!("{indent}waits for {what}")),
            );
            continue;
        }
        lines.extend(
            waves(rollout, status.now_ms)
                .into_iter()
                .map(|line| format!("{indent}{line}")),
        );
        lines.extend(
            hosts(rollout)
                .into_iter()
                .map(|line| format!("{indent}{line}")),
        );
    }
    lines
        .into_iter()
        .map(|line| fit(line.trim_end(), width))
        .collect()
}

fn rollout_line(rollout: &RolloutStatus) -> String {
    let from = match rollout.from.as_str() {
        "" => "nothing",
        from => from,
    };
    let hosts = count(rollout.total, "host");
    let mut line = format!("{} {from} → {} · {hosts}", name(rollout), rollout.to);
    if rollout.state != "running" {
        line += &format!(" · {}", rollout.state);
    }
    line
}

/// `web`, or `web/blue` in a pool of its own.
pub(crate) fn name(rollout: &RolloutStatus) -> String {
    match rollout.pool.as_str() {
        "" | "main" => rollout.component.clone(),
        pool => format!("{}/{pool}", rollout.component),
    }
}

fn waves(rollout: &RolloutStatus, now_ms: u64) -> Vec<String> {
    let size = match rollout.archive_bytes {
        0 => String::new(),
        n => format!("{} each", bytes(n)),
    };
    let mut lines = vec![row("staged", rollout.staged, rollout.total, &size)];
    let going = matches!(rollout.state.as_str(), "running" | "waiting" | "paused");
    let mut told = false;
    for wave in &rollout.waves {
        let mut what = wave_state(wave, now_ms);
        if wave.state == "waiting" && going && !told && !rollout.waiting_on.is_empty() {
            what.push(format!(
                "waits for {}",
                harmless(&rollout.waiting_on.join(", "))
            ));
            told = true;
        }
        lines.push(row(&wave.name, wave.done, wave.total, &what.join("  ")));
    }
    if going && !told {
        let waits = rollout.waiting_on.iter();
        lines.extend(waits.map(|what| format!("waits for {}", harmless(what))));
    }
    lines
}

fn row(name: &str, done: u32, total: u32, what: &str) -> String {
    format!("{name:<10} {:<8} {what}", format!("{done}/{total}"))
}

fn wave_state(wave: &WaveStatus, now_ms: u64) -> Vec<String> {
    let mut what = Vec::new();
    if wave.failed > 0 {
        what.push(format!("{} failed", wave.failed));
    }
    if wave.working > 0 {
        what.push(format!("{} working", wave.working));
    }
    match wave.state.as_str() {
        "baking" => {
            what.push("healthy      ".to_owned());
            what.push(match wave.baked_at_ms.saturating_sub(now_ms) {
                0 => "baked".to_owned(),
                left => format!("baking {}", span(left)),
            });
        }
        "done" if wave.failed == 0 => what.push("healthy".to_owned()),
        _ => {}
    }
    what
}

/// Hosts that failed first, then those at work; the rest needs nobody.
fn hosts(rollout: &RolloutStatus) -> Vec<String> {
    let failed = rollout.hosts.iter().filter(|host| needs_attention(host));
    let working = rollout
        .hosts
        .iter()
        .filter(|host| !needs_attention(host) && host.state.starts_with("working"));
    let rows: Vec<String> = failed
        .map(|host| {
            let why = host.failure.as_ref().map_or("", |failure| &failure.message);
            format!("✗ {:<16} {:<10} {}", host.host, host.state, harmless(why))
        })
        .chain(working.map(|host| {
            let step = host
                .state
                .trim_start_matches("working")
                .trim_start_matches(':');
            format!("· {:<16} {}", host.host, step.trim())
        }))
        .collect();
    let more = rows.len().saturating_sub(HOST_ROWS);
    let mut lines: Vec<String> = rows.into_iter().take(HOST_ROWS).collect();
    if more > 0 {
        lines.push(format!("  and {more} more: tamer hosts"));
    }
    lines
}

/// The one line that ends a deployment.
pub fn summary(status: &DeploymentStatus) -> String {
    let took = span(status.ended_ms.saturating_sub(status.started_ms));
    let what = format!("{} {}", status.application, status.version);
    let hosts = size(status);
    match (status.state.as_str(), status.purpose.as_str()) {
        ("succeeded", "rollback") => {
            format!(
                "✓ {} is back at {what}: {hosts}, {took}",
                status.environment
            )
        }
        ("succeeded", _) => format!("✓ {what} runs in {}: {hosts}, {took}", status.environment),
        (state, _) => format!("✗ {what} → {}: {state} after {took}", status.environment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{baking, host, rolled_back};

    fn shown(status: &DeploymentStatus, width: usize) -> String {
        render(status, width).join("\n")
    }

    #[test]
    fn a_canary_bakes() {
        insta::assert_snapshot!(shown(&baking(), 100));
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        let status = rolled_back();
        for width in [40, 60, 100] {
            assert!(
                render(&status, width)
                    .iter()
                    .all(|line| line.chars().count() <= width)
            );
        }
        insta::assert_snapshot!(shown(&status, 100));
    }

    #[test]
    fn components_stand_below_one_another() {
        let mut status = baking();
        status.reason = "the\u{7} login".into();
        status.state = "paused".into();
        let mut worker = status.rollouts[0].clone();
        worker.component = "worker".into();
        worker.from = String::new();
        worker.state = "waiting".into();
        worker.waiting_on = vec!["web".into()];
        status.rollouts[0].waves[0].state = "rolling".into();
        status.rollouts[0].waves[0].working = 1;
        let hosts = (1..=12).map(|n| host(&format!("web-{n:02}"), 0, "working: start"));
        status.rollouts[0].hosts = hosts.collect();
        status.rollouts.push(worker);
        insta::assert_snapshot!(shown(&status, 100));
    }

    #[test]
    fn the_end_is_one_line() {
        let mut status = baking();
        status.state = "succeeded".into();
        status.ended_ms = status.started_ms + 38_000;
        assert_eq!(
            summary(&status),
            "✓ shop 1.4.2 runs in production: 40 hosts, 38 s"
        );
        status.purpose = "rollback".into();
        assert_eq!(
            summary(&status),
            "✓ production is back at shop 1.4.2: 40 hosts, 38 s"
        );
        assert_eq!(
            summary(&rolled_back()),
            "✗ shop 1.4.2 → production: rolled back after 1m 10s"
        );
    }
}
