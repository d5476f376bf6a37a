//! Environments: what they run, and what a new file changes.

use super::human::count;
use super::table::Table;
use tamer_proto::v1::EnvironmentRow;

/// More pairs of lines than this are not compared one by one: the whole file is then shown as changed.
const MAX_PAIRS: usize = 4_000_000;

/// A line a component in an environment.
pub fn list(environments: &[EnvironmentRow]) -> Vec<String> {
    let mut table = Table::new(&["ENVIRONMENT", "HOSTS", "COMPONENT", "SHOULD RUN", "THERE"]);
    for row in environments {
        let hosts = format!("{}/{}", row.connected, row.hosts);
        if row.targets.is_empty() {
            table.row([
                row.name.clone(),
                hosts.clone(),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
        for (n, target) in row.targets.iter().enumerate() {
            let first = |text: &str| {
                if n == 0 {
                    text.to_owned()
                } else {
                    " ".to_owned()
                }
            };
            let pool = match target.pool.as_str() {
                "" | "main" => String::new(),
                pool => format!("/{pool}"),
            };
            table.row([
                first(&row.name),
                first(&hosts),
                format!("{}/{}{pool}", target.application, target.component),
                target.version.clone(),
                format!("{}/{}", target.there, target.hosts),
            ]);
        }
    }
    table.lines()
}

/// One environment: what it runs, then its signed file.
pub fn show(row: &EnvironmentRow) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} · {}, {} connected · signed version {}",
            row.name,
            count(row.hosts, "host"),
            row.connected,
            row.version
        ),
        String::new(),
    ];
    for target in &row.targets {
        let version = if target.version.is_empty() {
            "nothing"
        } else {
            &target.version
        };
        lines.push(format!(
            "  {}/{} {version} on {}/{} hosts",
            target.application, target.component, target.there, target.hosts
        ));
    }
    lines.extend(
        row.follows
            .iter()
            .map(|it| format!("  {}", super::human::harmless(it))),
    );
    if !row.targets.is_empty() || !row.follows.is_empty() {
        lines.push(String::new());
    }
    lines.extend(
        row.text
            .lines()
            .map(|line| format!("  {}", super::human::harmless(line))),
    );
    lines
}

/// The lines that differ between the signed file and the new one, `-` before `+`, with the line
/// numbers of the new one; empty when nothing differs.
pub fn changes(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let both = old.len().min(new.len()) - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(both)
        .take_while(|(a, b)| a == b)
        .count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut lines = Vec::new();
    let mut told = |sign: char, line: &str| {
        let line = super::human::harmless(line);
        lines.push(format!("    {sign} {line}").trim_end().to_owned());
    };
    if a.len().saturating_mul(b.len()) > MAX_PAIRS {
        a.iter().for_each(|line| told('-', line));
        b.iter().for_each(|line| told('+', line));
        return lines;
    }
    let common = longest_common(a, b);
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            told('-', a[i]);
            i += 1;
        } else {
            told('+', b[j]);
            j += 1;
        }
    }
    lines
}

/// `table[i][j]`: the length of the longest common subsequence of `a[i..]` and `b[j..]`.
fn longest_common(a: &[&str], b: &[&str]) -> Vec<Vec<u32>> {
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            table[i][j] = if a[i] == b[j] {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_proto::v1::TargetRow;

    fn production() -> EnvironmentRow {
        let target = |component: &str, version: &str, there| TargetRow {
            application: "shop".into(),
            component: component.into(),
            pool: "main".into(),
            version: version.into(),
            manifest: String::new(),
            hosts: 40,
            there,
        };
        EnvironmentRow {
            name: "production".into(),
            version: 3,
            text: "[place]\n\"shop/web\" = { role = \"web\" }\n".into(),
            hosts: 42,
            connected: 41,
            targets: vec![target("web", "1.4.2", 38), target("worker", "", 0)],
            follows: vec![
                "production follows staging: 1.4.3 bakes in staging until 2026-11-30 14:05 UTC"
                    .into(),
            ],
        }
    }

    #[test]
    fn environments_say_what_they_should_run_and_do() {
        let empty = EnvironmentRow {
            name: "staging".into(),
            ..Default::default()
        };
        insta::assert_snapshot!(list(&[production(), empty]).join("\n"));
        insta::assert_snapshot!(show(&production()).join("\n"));
    }

    #[test]
    fn changes_are_the_lines_that_differ() {
        let old = "[policy]\ncanary = 1\nbake = \"10m\"\nsteps = [\"100%\"]\n";
        let new = "[policy]\ncanary = 2\nbake = \"10m\"\nmax_failures = 1\nsteps = [\"100%\"]\n";
        assert_eq!(
            changes(old, new),
            [
                "    - canary = 1",
                "    + canary = 2",
                "    + max_failures = 1"
            ]
        );
        assert!(changes(old, old).is_empty());
        assert_eq!(changes("", "a\n"), ["    + a"]);
        assert_eq!(changes("a\na\n", "a\n"), ["    - a"]);
    }
}
