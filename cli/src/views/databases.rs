//! Databases of a deployment: `database 41 → 42, safe back to 1.4.0`.

use super::failures::output_tail;
use super::human::{date, harmless};
use super::table::Table;
use tamer_proto::v1::{DatabaseLine, SchemaRow};

/// A line a database. Where there are several each has its name.
pub fn lines(databases: &[DatabaseLine]) -> Vec<String> {
    let many = databases.len() > 1;
    databases.iter().map(|it| line(it, many)).collect()
}

fn line(it: &DatabaseLine, named: bool) -> String {
    let mut text = if named {
        format!("database {} ", it.schema)
    } else {
        "database ".to_owned()
    };
    text += &match it.from {
        None => format!("? → {}", it.to),
        Some(from) if from == it.to => it.to.to_string(),
        Some(from) => format!("{from} → {}", it.to),
    };
    if !it.no_way_back.is_empty() {
        text += &format!(", no way back: {}", harmless(&it.no_way_back));
    } else if !it.safe_back.is_empty() {
        text += &format!(", safe back to {}", it.safe_back);
    }
    if let Some(state) = state(it) {
        text += &format!(" · {state}");
    }
    text
}

fn state(it: &DatabaseLine) -> Option<String> {
    let on = match it.host.as_str() {
        "" => String::new(),
        host => format!(" on {host}"),
    };
    Some(match it.state.as_str() {
        "planned" | "done" if it.from == Some(it.to) => return None,
        "planned" if !it.before.is_empty() => format!("before {}", it.before),
        "planned" => return None,
        "waiting" if !it.host.is_empty() => format!("waits for the release{on}"),
        "waiting" if it.from.is_none() => "waits for a host that can read it".to_owned(),
        "waiting" if !it.before.is_empty() => format!("before {}", it.before),
        "waiting" => return None,
        "unknown" => format!("how it ended{on} is not known"),
        state => format!("{state}{on}"),
    })
}

/// What failed at databases, each with the end of its output.
pub fn failures(databases: &[DatabaseLine]) -> Vec<String> {
    let mut lines = Vec::new();
    for it in databases {
        if let Some(failure) = &it.failure {
            let what = harmless(&failure.message);
            lines.push(format!("✗ database {}: {what}", it.schema));
            lines.extend(output_tail(&failure.output));
        }
    }
    lines
}

/// What is known of databases, and under each what happened to it.
pub fn list(rows: &[SchemaRow]) -> Vec<String> {
    let mut table = Table::new(&["ENVIRONMENT", "DATABASE", "VERSION", "SINCE"]);
    for row in rows {
        table.row([
            row.environment.clone(),
            format!("{}/{}", row.application, row.schema),
            row.version
                .map_or_else(String::new, |version| version.to_string()),
            date(row.known_ms),
        ]);
    }
    let mut lines = table.lines();
    for row in rows {
        let name = format!("{} {}/{}", row.environment, row.application, row.schema);
        if !row.past.is_empty() || !row.open.is_empty() {
            lines.push(String::new());
            lines.push(name);
        }
        for event in &row.past {
            lines.push(format!(
                "  {}  {}",
                date(event.at_ms),
                harmless(&event.what)
            ));
        }
        if !row.open.is_empty() {
            lines.push(format!("  ! {}", harmless(&row.open)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_proto::v1::Failure;

    fn row(from: Option<u64>, to: u64, state: &str) -> DatabaseLine {
        DatabaseLine {
            schema: "main".into(),
            from,
            to,
            state: state.into(),
            before: "web".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_database_is_one_line() {
        let safe = |mut it: DatabaseLine| {
            it.safe_back = "1.4.0".into();
            it
        };
        let mut up = safe(row(Some(41), 42, "up"));
        up.host = "web-1".into();
        let mut lost = row(Some(41), 42, "unknown");
        lost.host = "web-1".into();
        let mut no_way = row(Some(41), 42, "done");
        no_way.no_way_back = "web 1.4.1 works with main 41".into();
        let said: Vec<_> = [
            row(None, 42, "waiting"),
            safe(row(Some(41), 42, "planned")),
            up,
            safe(row(Some(42), 42, "done")),
            no_way,
            lost,
        ]
        .iter()
        .map(|it| line(it, false))
        .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        database ? → 42 · waits for a host that can read it
        database 41 → 42, safe back to 1.4.0 · before web
        database 41 → 42, safe back to 1.4.0 · up on web-1
        database 42, safe back to 1.4.0
        database 41 → 42, no way back: web 1.4.1 works with main 41 · done
        database 41 → 42 · how it ended on web-1 is not known
        ");
        assert!(
            lines(&[row(None, 2, "waiting"), row(None, 3, "waiting")])[1]
                .starts_with("database main ? → 3")
        );
    }

    #[test]
    fn what_failed_is_told_with_its_output() {
        let mut it = row(Some(41), 42, "failed");
        it.failure = Some(Failure {
            message: "`up` ended with exit code 3".into(),
            output: "boom\n".into(),
            ..Default::default()
        });
        assert_eq!(
            failures(&[it]),
            ["✗ database main: `up` ended with exit code 3", "    boom"]
        );
    }
}
