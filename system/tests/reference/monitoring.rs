//! What is shipped for Prometheus and Grafana, held against what the programs count.

use crate::docs;
use crate::pages::{METRICS, Metric, metrics_of};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Labels that a scraper adds, or a histogram has.
const OTHERS: [&str; 3] = ["job", "instance", "le"];

fn read(file: &str) -> String {
    fs::read_to_string(docs().join(file)).unwrap()
}

fn metrics() -> Vec<Metric> {
    METRICS.iter().flat_map(|it| metrics_of(it.1)).collect()
}

/// The names of series in a text, each with the labels that are asked for right behind it.
fn asked_for(text: &str) -> BTreeSet<(String, Vec<String>)> {
    let part = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find("tamer_") {
        let from = &rest[at..];
        let end = from.find(|c| !part(c)).unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        let labels = after.strip_prefix('{').and_then(|it| it.split_once('}'));
        let labels = labels.map_or_else(Vec::new, |(labels, _)| {
            let names = labels
                .split(',')
                .filter_map(|it| it.split(['=', '!']).next());
            names.map(|it| it.trim().to_owned()).collect()
        });
        found.insert((name.to_owned(), labels));
        rest = after;
    }
    found
}

/// What an expression asks for that no program has.
fn unknown(text: &str, metrics: &[Metric]) -> Vec<String> {
    let mut unknown = Vec::new();
    for (name, labels) in asked_for(text) {
        let metric = metrics.iter().find(|metric| match metric.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name == format!("{}{end}", metric.name)),
            _ => metric.name == name,
        });
        let Some(metric) = metric else {
            unknown.push(name);
            continue;
        };
        for label in labels {
            if !metric.labels.contains(&label) && !OTHERS.contains(&label.as_str()) {
                unknown.push(format!("{name}{{{label}}}"));
            }
        }
    }
    unknown
}

#[test]
fn alerts_ask_for_metrics_that_are_there() {
    let (text, page) = (read("monitoring/alerts.yml"), read("operations/metrics.md"));
    assert!(asked_for(&text).len() > 10);
    assert_eq!(unknown(&text, &metrics()), Vec::<String>::new());
    let blocks: Vec<&str> = text.split("- alert: ").skip(1).collect();
    for block in &blocks {
        let name = block.lines().next().unwrap_or_default();
        for key in ["expr:", "severity:", "summary:"] {
            assert!(block.contains(key), "{name} has no {key}");
        }
        assert!(
            page.contains(&format!("| {name} |")),
            "what to do at {name}?"
        );
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_are_there() {
    let text = read("monitoring/dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 5);
    for panel in panels {
        assert!(panel["title"].is_string() && panel["gridPos"]["w"].is_u64());
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            assert!(!asked_for(expr).is_empty(), "{expr}");
            assert_eq!(unknown(expr, &metrics()), Vec::<String>::new());
        }
    }
}

#[test]
fn what_is_not_there_is_found() {
    let metrics = metrics();
    for (expr, strange) in [
        ("tamer_agent_connected == 0", None),
        (
            "rate(tamer_controller_commit_seconds_bucket{le=\"1\"}[5m])",
            None,
        ),
        ("tamer_controller_rollouts{state=\"paused\"}", None),
        (
            "tamer_controller_commits > 1",
            Some("tamer_controller_commits"),
        ),
        (
            "tamer_controller_commit_seconds",
            Some("tamer_controller_commit_seconds"),
        ),
        (
            "tamer_agent_connected{host=\"a\"}",
            Some("tamer_agent_connected{host}"),
        ),
    ] {
        let strange: Vec<String> = strange.map(str::to_owned).into_iter().collect();
        assert_eq!(unknown(expr, &metrics), strange, "{expr}");
    }
}

/// Prometheus's own judgement, on machines that have its tool (Debian: prometheus).
#[test]
fn promtool_takes_the_alerts() {
    let rules = docs().join("monitoring/alerts.yml");
    match Command::new("promtool")
        .args(["check", "rules"])
        .arg(rules)
        .output()
    {
        Ok(said) => assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        ),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}
