//! Hosts: a line each, or one in full.

use super::failures::output_tail;
use super::human::{harmless, span};
use super::table::Table;
use tamer_proto::v1::{CheckState, HostComponent, HostRow};

/// A line a host.
pub fn list(hosts: &[HostRow], now_ms: u64) -> Vec<String> {
    let mut table = Table::new(&[
        "HOST",
        "ENVIRONMENT",
        "STATE",
        "LABELS",
        "RUNS",
        "ATTENTION",
    ]);
    for host in hosts {
        let runs = host.components.iter().map(|component| {
            let running = if component.running.is_empty() {
                "nothing"
            } else {
                &component.running
            };
            format!("{} {running}", component.component)
        });
        table.row([
            host.name.clone(),
            host.environment.clone(),
            state(host, now_ms),
            labels(host),
            runs.collect::<Vec<_>>().join(", "),
            attention(host),
        ]);
    }
    table.lines()
}

fn state(host: &HostRow, now_ms: u64) -> String {
    match host.state.as_str() {
        "connected" => "connected".to_owned(),
        state if host.since_ms == 0 => state.to_owned(),
        state => format!("{state} {}", span(now_ms.saturating_sub(host.since_ms))),
    }
}

fn labels(host: &HostRow) -> String {
    let labels = host
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

/// In a few words, what is wrong with a host; empty when nothing is.
fn attention(host: &HostRow) -> String {
    let mut words = Vec::new();
    for component in &host.components {
        let name = &component.component;
        if !matches!(component.state.as_str(), "" | "settled") {
            words.push(format!("{name} {}", component.state));
        }
        match (&component.drift, &component.adopted) {
            (Some(_), Some(_)) => words.push(format!("{name} drifted, adopted")),
            (Some(_), None) => words.push(format!("{name} drifted")),
            (None, _) => {}
        }
        words
            .extend(failing(&component.checks).map(|check| format!("{name} check {}", check.name)));
    }
    words.extend(failing(&host.checks).map(|check| format!("check {}", check.name)));
    harmless(&words.join(", "))
}

fn failing(checks: &[CheckState]) -> impl Iterator<Item = &CheckState> {
    checks.iter().filter(|check| !check.failure.is_empty())
}

/// Everything about one host.
pub fn detail(host: &HostRow, now_ms: u64) -> Vec<String> {
    let labels = labels(host);
    let mut lines = vec![format!(
        "{} · {} · {}",
        host.name,
        host.environment,
        state(host, now_ms)
    )];
    if !labels.is_empty() {
        lines.push(format!("  labels     {labels}"));
    }
    if !host.agent_version.is_empty() {
        lines.push(format!("  agent      {}", harmless(&host.agent_version)));
    }
    for component in &host.components {
        lines.extend(of_component(component));
    }
    lines.extend(checks(&host.checks, "  "));
    lines
}

fn of_component(component: &HostComponent) -> Vec<String> {
    let running = match component.running.as_str() {
        "" => "nothing",
        running => running,
    };
    let mut line = format!(
        "  {}/{} runs {running}",
        component.application, component.component
    );
    if component.wanted != component.running && !component.wanted.is_empty() {
        line += &format!(", should run {}", component.wanted);
    }
    if !matches!(component.state.as_str(), "" | "settled") {
        line += &format!(" · {}", harmless(&component.state));
    }
    let mut lines = vec![line];
    if let Some(failure) = &component.failure {
        lines.push(format!("    ✗ {}", harmless(&failure.message)));
        lines.extend(
            output_tail(&failure.output)
                .into_iter()
                .map(|line| format!("  {line}")),
        );
    }
    lines.extend(checks(&component.checks, "    "));
    let drift = super::drift::of_component(component);
    if !drift.is_empty() {
        lines.push("    changed by hand:".to_owned());
        lines.extend(drift.into_iter().map(|line| format!("      {line}")));
    }
    lines
}

fn checks(checks: &[CheckState], indent: &str) -> Vec<String> {
    let line = |check: &CheckState| match check.failure.as_str() {
        "" => format!("{indent}✓ check {}", check.name),
        why => format!("{indent}✗ check {}: {}", check.name, harmless(why)),
    };
    checks.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_proto::v1::{Difference, DriftRow, Failure};

    fn hosts() -> Vec<HostRow> {
        let check = |name: &str, failure: &str| CheckState {
            name: name.into(),
            failure: failure.into(),
        };
        let component = |running: &str, state: &str| HostComponent {
            application: "shop".into(),
            component: "web".into(),
            pool: "main".into(),
            running: running.into(),
            wanted: "1.4.2".into(),
            state: state.into(),
            checks: vec![check("home", "")],
            ..Default::default()
        };
        let host = |name: &str, state: &str, component| HostRow {
            name: name.into(),
            environment: "production".into(),
            labels: [("role".to_owned(), "web".to_owned())].into(),
            state: state.into(),
            since_ms: 1_000,
            agent_version: "0.1.0".into(),
            components: vec![component],
            checks: vec![check("mail", "")],
        };
        let mut failed = host("web-07", "connected", component("1.4.1", "failed"));
        failed.components[0].failure = Some(Failure {
            kind: "check".into(),
            message: "check `home` failed after the switch: 500".into(),
            check: "home".into(),
            output: "KeyError: 'PAYMENT_URL'".into(),
        });
        failed.components[0].drift = Some(DriftRow {
            digest: "ab".into(),
            total: 1,
            differences: vec![Difference {
                path: "app/settings.py".into(),
                change: "content".into(),
            }],
        });
        failed.checks = vec![check("mail", "the server refused the sender: 550 go away")];
        vec![
            host("web-01", "connected", component("1.4.2", "settled")),
            failed,
            host("web-08", "away", component("", "waiting")),
        ]
    }

    #[test]
    fn hosts_are_listed_with_what_is_wrong() {
        insta::assert_snapshot!(list(&hosts(), 3_601_000).join("\n"));
    }

    #[test]
    fn one_host_in_full() {
        insta::assert_snapshot!(detail(&hosts()[1], 0).join("\n"));
    }
}
