//! One deployment as a screen: waves, and a row for every host that needs attention.

use super::approval;
use super::databases;
use super::failures::{last_lines, needs_attention};
use super::human::{bytes, count, fit, harmless, span};
use super::{routers, transfers};
use tamer_proto::v1::{DeploymentStatus, RolloutStatus, WaveStatus};

/// How many hosts are listed below the waves.
const HOST_ROWS: usize = 10;

/// Below how many failed hosts the end of what they printed is shown, and how many lines of it: the screen is drawn again
/// and again, and must not be higher than a terminal.
const TOLD: usize = 2;
const TOLD_LINES: usize = 3;

/// `shop 1.4.2 → production · 40 hosts · deployment 318 · by ci`
pub fn header(status: &DeploymentStatus) -> String {
    let arrow = match status.purpose.as_str() {
        "rollback" => "⟲",
        _ => "→",
    };
    let mut parts = vec![format!("{} {arrow} {}", what(status), status.environment)];
    parts.extend(size(status));
    parts.push(format!("deployment {}", status.id));
    parts.push(format!("by {}", harmless(&status.by)));
    if !status.reason.is_empty() {
        parts.push(format!("“{}”", harmless(&status.reason)));
    }
    if status.state != "running" {
        parts.push(status.state.clone());
    }
    parts.join(" · ")
}

/// `shop 1.4.2`; where components go to versions of their own, `shop (web 1.4.2, worker 1.3.0)`.
pub(crate) fn what(status: &DeploymentStatus) -> String {
    let application = &status.application;
    if !status.version.is_empty() {
        return format!("{application} {}", status.version);
    }
    let release = |rollout: &RolloutStatus| format!("{} {}", name(rollout), rollout.to);
    // A switch follows a rollout of what it is about; alone it is the whole of a way back.
    let alone = status.rollouts.iter().all(routers::is_switch);
    let told = status
        .rollouts
        .iter()
        .filter(|it| alone || !routers::is_switch(it));
    let releases: Vec<_> = told.map(release).collect();
    format!("{application} ({})", releases.join(", "))
}

/// How much it is about: hosts, or components where there are several, for they may share hosts.
/// Of a rollout of the past the controller does not know the hosts any more.
fn size(status: &DeploymentStatus) -> Option<String> {
    let mut names: Vec<_> = status.rollouts.iter().map(|it| &it.component).collect();
    names.dedup();
    match (&names[..], &status.rollouts[..]) {
        ([_], [one, ..]) if one.total == 0 => None,
        ([_], [one, ..]) if routers::is_switch(one) => Some(count(one.total, "router")),
        ([_], [one, ..]) => Some(count(one.total, "host")),
        (several, _) => Some(count(several.len() as u64, "component")),
    }
}

/// The whole screen, no line wider than `width`. Times are told from the status's own `now_ms`.
pub fn render(status: &DeploymentStatus, width: usize) -> Vec<String> {
    let mut lines = vec![header(status)];
    let approval = status.approval.iter().map(approval::standing);
    lines.extend(approval.map(|how| format!("  approval   {how}")));
    let many = status.rollouts.len() > 1;
    // When it is over, what failed is told in full below the screen.
    let told = if status.ended_ms > 0 { 0 } else { TOLD };
    let databases = databases::lines(&status.databases);
    lines.extend(databases.into_iter().map(|line| format!("  {line}")));
    for rollout in &status.rollouts {
        let indent = if many { "    " } else { "  " };
        if many {
            lines.push(format!("  {}", rollout_line(rollout)));
        }
        if rollout.total == 0 || rollout.state == "waiting" && many {
            lines.extend(
                rollout
                    .waiting_on
                    .iter()
                    .map(|what| format!("{indent}waits for {what}")),
            );
            continue;
        }
        let progress = match routers::is_switch(rollout) {
            true => routers::progress(rollout),
            false => waves(rollout, status.now_ms),
        };
        lines.extend(progress.into_iter().map(|line| format!("{indent}{line}")));
        lines.extend(
            hosts(rollout, told)
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
    if routers::is_switch(rollout) {
        let state = Some(&rollout.state).filter(|it| *it != "running");
        let state = state.map_or_else(String::new, |state| format!(" · {state}"));
        return routers::head(rollout) + &state;
    }
    let from = match rollout.from.as_str() {
        "" => "nothing",
        from => from,
    };
    let mut line = format!("{} {from} → {}", name(rollout), rollout.to);
    if rollout.total > 0 {
        line += &format!(" · {}", count(rollout.total, "host"));
    }
    if rollout.state != "running" {
        line += &format!(" · {}", rollout.state);
    }
    line
}

/// `web`, or `web/blue` in a pool of its own, or `web routers`.
pub(crate) fn name(rollout: &RolloutStatus) -> String {
    if routers::is_switch(rollout) {
        return format!("{} routers", rollout.component);
    }
    match rollout.pool.as_str() {
        "" | "main" => rollout.component.clone(),
        pool => format!("{}/{pool}", rollout.component),
    }
}

fn waves(rollout: &RolloutStatus, now_ms: u64) -> Vec<String> {
    let size = match rollout.archive_bytes {
        0 => None,
        n => Some(format!("{} each", bytes(n))),
    };
    let fetched = rollout.transfers.as_ref().map(transfers::all);
    let what: Vec<_> = size.into_iter().chain(fetched).collect();
    let what = what.join("  ");
    let mut lines = vec![row("staged", rollout.staged, rollout.total, &what)];
    let going = matches!(
        rollout.state.as_str(),
        "running" | "waiting" | "paused" | "frozen" | "closed" | "waits for promotion"
    );
    let well = going || rollout.state == "succeeded";
    let mut told = false;
    for wave in &rollout.waves {
        let mut what = wave_state(wave, well, now_ms);
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

fn wave_state(wave: &WaveStatus, well: bool, now_ms: u64) -> Vec<String> {
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
        "done" if well && wave.failed == 0 => what.push("healthy".to_owned()),
        _ => {}
    }
    what
}

/// Hosts that failed first, then those at work and those that fetch; the rest needs nobody.
fn hosts(rollout: &RolloutStatus, told: usize) -> Vec<String> {
    let failed = rollout.hosts.iter().filter(|host| needs_attention(host));
    let working = rollout
        .hosts
        .iter()
        .filter(|host| !needs_attention(host) && host.state.starts_with("working"));
    let fetching = rollout.hosts.iter().filter(|host| {
        let told = needs_attention(host) || host.state.starts_with("working");
        host.transfer.is_some() && !told
    });
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
        .chain(fetching.map(|host| {
            let how = host
                .transfer
                .as_ref()
                .map_or_else(String::new, transfers::one);
            format!("↓ {:<16} {how}", host.host)
        }))
        .collect();
    let more = rows.len().saturating_sub(HOST_ROWS);
    let failed = rollout.hosts.iter().filter(|host| needs_attention(host));
    let mut outputs = failed
        .take(told)
        .map(|host| host.failure.as_ref().map_or("", |it| it.output.as_str()));
    let mut lines = Vec::new();
    for row in rows.into_iter().take(HOST_ROWS) {
        lines.push(row);
        lines.extend(last_lines(outputs.next().unwrap_or_default(), TOLD_LINES));
    }
    if more > 0 {
        lines.push(format!("  and {more} more: tamer hosts"));
    }
    lines
}

/// The one line that ends a deployment.
pub fn summary(status: &DeploymentStatus) -> String {
    let end = match status.ended_ms {
        0 => status.now_ms,
        end => end,
    };
    let took = span(end.saturating_sub(status.started_ms));
    let (what, environment) = (what(status), &status.environment);
    let size = size(status).map_or_else(String::new, |size| format!("{size}, "));
    let sign = if status.exit_code == 0 { '✓' } else { '!' };
    let but = match status.exit_code {
        0 => "",
        _ => ", but not on every host",
    };
    match (status.state.as_str(), status.purpose.as_str()) {
        ("succeeded", "rollback") => {
            format!("{sign} {environment} is back at {what}{but}: {size}{took}")
        }
        ("succeeded", _) => format!("{sign} {what} runs in {environment}{but}: {size}{took}"),
        ("waits for approval", _) => {
            let approval = status.approval.as_ref().map(approval::standing);
            let approval = approval.unwrap_or_default();
            format!("… {what} → {environment} waits for approval: {approval}")
        }
        ("closed" | "waits for promotion", _) => {
            let said = status.rollouts.iter().flat_map(|it| &it.waiting_on);
            let said: Vec<_> = said.map(|what| harmless(what)).collect();
            format!("… {what} → {environment} waits for {}", said.join(", "))
        }
        (state, _) => format!("✗ {what} → {environment}: {state} after {took}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{baking, fetching, host, rolled_back};

    fn shown(status: &DeploymentStatus, width: usize) -> String {
        render(status, width).join("\n")
    }

    #[test]
    fn a_canary_bakes() {
        insta::assert_snapshot!(shown(&baking(), 100));
    }

    #[test]
    fn hosts_fetch_the_release() {
        insta::assert_snapshot!(shown(&fetching(), 100));
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
    fn what_failing_hosts_printed_is_shown_and_the_screen_stays_low() {
        let mut status = rolled_back();
        status.ended_ms = 0;
        let failed = status.rollouts[0].hosts[1].clone();
        let failures = (1..=40).map(|n| {
            let mut host = failed.clone();
            host.host = format!("web-{n}");
            if let Some(failure) = &mut host.failure {
                failure.output = (1..=99).map(|line| format!("line {line}\n")).collect();
            }
            host
        });
        status.rollouts[0].hosts = failures.collect();
        let shown = render(&status, 100);
        let printed = |line: &&String| line.trim_start().starts_with("line ");
        let printed: Vec<_> = shown.iter().filter(printed).map(|it| it.trim()).collect();
        assert_eq!(printed, ["line 97", "line 98", "line 99"].repeat(2));
        assert!(shown.len() <= 24, "{shown:#?}");
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
        status.exit_code = 9;
        assert_eq!(
            summary(&status),
            "! shop 1.4.2 runs in production, but not on every host: 40 hosts, 38 s"
        );
        status.exit_code = 0;
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

    #[test]
    fn the_past_is_told_without_what_is_forgotten() {
        let mut status = rolled_back();
        status.version.clear();
        let rollout = &mut status.rollouts[0];
        (rollout.total, rollout.staged) = (0, 0);
        rollout.waves.clear();
        rollout.hosts.clear();
        assert_eq!(
            render(&status, 100),
            ["shop (web 1.4.2) → production · deployment 318 · by ci · rolled back"]
        );
    }
}
