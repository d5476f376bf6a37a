//! Versions that can be deployed, and deployments of the past.

use super::human::{date, span};
use super::status::what;
use super::table::Table;
use tamer_proto::v1::{DeploymentStatus, VersionRow};

/// A line a version, in the controller's order.
pub fn list(versions: &[VersionRow]) -> Vec<String> {
    let mut table = Table::new(&["APPLICATION", "VERSION", "COMPONENTS", "RUNS IN", "BAD IN"]);
    for row in versions {
        let components = row.components.iter().map(|component| {
            // A component that kept an older release is what makes a version cheap: show it.
            if component.version == row.version {
                component.component.clone()
            } else {
                format!("{} {}", component.component, component.version)
            }
        });
        table.row([
            row.application.clone(),
            row.version.clone(),
            components.collect::<Vec<_>>().join(", "),
            row.running_in.join(", "),
            row.bad_in.join(", "),
        ]);
    }
    table.lines()
}

/// A line a deployment, in the controller's order.
pub fn history(deployments: &[DeploymentStatus]) -> Vec<String> {
    let mut table = Table::new(&[
        "N",
        "STARTED",
        "ENVIRONMENT",
        "WHAT",
        "STATE",
        "TOOK",
        "BY",
        "REASON",
    ]);
    for status in deployments {
        let purpose = match status.purpose.as_str() {
            "rollback" => format!("back to {}", what(status)),
            _ => what(status),
        };
        let took = match status.ended_ms {
            0 => String::new(),
            ended => span(ended.saturating_sub(status.started_ms)),
        };
        table.row([
            status.id.to_string(),
            date(status.started_ms),
            status.environment.clone(),
            purpose,
            status.state.clone(),
            took,
            status.by.clone(),
            super::human::harmless(&status.reason),
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{baking, rolled_back};
    use tamer_proto::v1::ComponentRow;

    #[test]
    fn versions_say_what_they_share_and_where_they_run() {
        let component = |name: &str, version: &str| ComponentRow {
            component: name.into(),
            version: version.into(),
            manifest: "ab".repeat(32),
        };
        let row = |version: &str, running: &[&str], bad: &[&str]| VersionRow {
            application: "shop".into(),
            version: version.into(),
            components: vec![component("web", version), component("worker", "1.4.0")],
            running_in: running.iter().map(ToString::to_string).collect(),
            bad_in: bad.iter().map(ToString::to_string).collect(),
        };
        let rows = [
            row("1.4.2", &["staging"], &["production"]),
            row("1.4.1", &["production"], &[]),
        ];
        insta::assert_snapshot!(list(&rows).join("\n"));
    }

    #[test]
    fn the_past_is_a_table() {
        let mut back = rolled_back();
        back.id = 319;
        back.purpose = "rollback".into();
        back.version = "1.4.1".into();
        back.reason = "orders are lost".into();
        insta::assert_snapshot!(history(&[back, baking()]).join("\n"));
    }
}
