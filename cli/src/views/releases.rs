//! Versions that can be deployed, and deployments of the past.

use super::human::{date, fit, harmless, span};
use super::status::what;
use super::table::Table;
use tamer_proto::v1::{DeploymentStatus, PastMigration, PastWord, VersionRow};

/// How much is shown of what was changed by hand, in columns.
const NAMED: usize = 60;

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
            harmless(&status.reason),
        ]);
    }
    table.lines()
}

/// What was done to databases: a line a migration, in the controller's order.
pub fn migrations(migrations: &[PastMigration]) -> Vec<String> {
    let mut table = Table::new(&[
        "BEGUN",
        "ENVIRONMENT",
        "DATABASE",
        "VERSION",
        "STATE",
        "DEPLOYMENT",
        "HOST",
        "BY",
        "REASON",
    ]);
    for it in migrations {
        let version = match (it.task.as_str(), it.version) {
            ("", Some(version)) => version.to_string(),
            (_, Some(version)) if version != it.to => {
                format!("{} → {}, has {version}", it.from, it.to)
            }
            _ => format!("{} → {}", it.from, it.to),
        };
        table.row([
            date(it.at_ms),
            it.environment.clone(),
            format!("{}/{}", it.application, it.schema),
            version,
            it.state.clone(),
            match it.deployment {
                0 => String::new(),
                deployment => deployment.to_string(),
            },
            it.host.clone(),
            it.by.clone(),
            harmless(&it.reason),
        ]);
    }
    table.lines()
}

/// What people said of changes by hand: a line a word, in the controller's order.
pub fn words(words: &[PastWord]) -> Vec<String> {
    let mut table = Table::new(&[
        "AT",
        "ENVIRONMENT",
        "HOST",
        "CHANGED BY HAND",
        "SAID",
        "BY",
        "REASON",
        "BECAME",
    ]);
    for it in words {
        table.row([
            date(it.at_ms),
            it.environment.clone(),
            it.host.clone(),
            fit(
                &format!(
                    "{}/{}: {}",
                    it.application,
                    it.component,
                    harmless(&it.named)
                ),
                NAMED,
            ),
            match it.way.as_str() {
                "adopt" => "adopted".to_owned(),
                _ => "to be put back".to_owned(),
            },
            harmless(&it.by),
            harmless(&it.reason),
            harmless(&it.became),
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

    #[test]
    fn databases_and_changes_by_hand_have_a_past_too() {
        let migration = |state: &str, deployment, version| PastMigration {
            at_ms: 1_700_000_000_000,
            environment: "production".into(),
            application: "shop".into(),
            schema: "main".into(),
            task: if deployment == 0 { "" } else { "up" }.into(),
            from: 41,
            to: 42,
            deployment,
            host: if deployment == 0 { "" } else { "web-1" }.into(),
            state: state.into(),
            version,
            ..Default::default()
        };
        let mut settled = migration("settled", 7, Some(41));
        (settled.by, settled.reason) = ("anna".into(), "psql says so".into());
        let rows = [
            migration("done", 8, Some(42)),
            settled,
            migration("settled", 0, Some(40)),
        ];
        let mut shown = migrations(&rows);
        shown.push(String::new());
        let word = |way: &str, became: &str| PastWord {
            at_ms: 1_700_000_000_000,
            environment: "production".into(),
            host: "web-1".into(),
            application: "shop".into(),
            component: "web".into(),
            way: way.into(),
            by: "anna".into(),
            reason: "ticket 12".into(),
            total: 1,
            named: "index.html: changed".into(),
            became: became.into(),
            ..Default::default()
        };
        shown.extend(words(&[word("repair", "put back"), word("adopt", "")]));
        insta::assert_snapshot!(shown.join("\n"));
    }
}
