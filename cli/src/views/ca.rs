//! The controller's CA.

use super::human::{count, date};
use super::table::Table;
use tamer_proto::v1::CaStatus;

/// How a rotation stands, which CAs are good, and who has not come over.
pub fn status(status: &CaStatus) -> Vec<String> {
    let since = status.authorities.first().map_or(0, |it| it.made_ms);
    let mut lines = vec![match status.phase.as_str() {
        "steady" => "No rotation of the CA is under way.".to_owned(),
        "begun" => format!(
            "A rotation of the CA is under way since {}; the old one vouches for the controller.",
            date(since)
        ),
        "shown" => format!(
            "A rotation of the CA is under way since {}; the new one vouches for the controller.",
            date(since)
        ),
        other => format!("The rotation of the CA is {other}."),
    }];
    let mut table = Table::new(&["CA", "MADE", "ENDS", "GOOD FOR"]);
    for row in &status.authorities {
        let good = match (row.issues, row.shown) {
            (true, true) => "all",
            (true, false) => "new certificates",
            (false, true) => "old certificates, and the controller's",
            (false, false) => "old certificates",
        };
        let short: String = row.fingerprint.chars().take(16).collect();
        table.row([short, date(row.made_ms), date(row.ends_ms), good.to_owned()]);
    }
    lines.extend(table.lines());
    if status.behind.is_empty() {
        return lines;
    }
    let (behind, peers) = (status.behind.len() as u64, status.peers);
    lines.push(format!(
        "{behind} of {} {} no certificate of the new CA{}",
        count(peers, "peer"),
        if behind == 1 { "has" } else { "have" },
        if status.phase == "steady" {
            ", and joins again with an invitation:"
        } else {
            " yet:"
        }
    ));
    let mut table = Table::new(&["WHO", "ENVIRONMENT", ""]);
    for row in &status.behind {
        let is_host = row.kind == "host";
        let state = match (is_host, row.connected) {
            (false, _) => "comes over with the next command",
            (true, true) => "connected",
            (true, false) => "away",
        };
        table.row([
            format!("{} {}", row.kind, row.name),
            row.environment.clone(),
            state.to_owned(),
        ]);
    }
    lines.extend(table.lines());
    lines
}

/// What to type next.
pub fn next(status: &CaStatus) -> Option<String> {
    let first = status.behind.first();
    match (status.phase.as_str(), first) {
        ("steady", None) => None,
        ("steady", Some(row)) if row.kind == "host" => Some(format!(
            "tamer host invite --environment {} --replace {}",
            row.environment, row.name
        )),
        ("steady", Some(row)) => Some(format!("tamer operator invite {}", row.name)),
        (_, None) => Some("tamer ca finish".to_owned()),
        (_, Some(_)) => Some("tamer ca status".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_proto::v1::{AuthorityRow, BehindRow};

    #[test]
    fn a_rotation_says_who_is_waited_for_and_what_comes_next() {
        let ca = |letter: &str, issues, shown| AuthorityRow {
            fingerprint: letter.repeat(64),
            made_ms: 1_795_000_000_000,
            ends_ms: 2_110_000_000_000,
            issues,
            shown,
        };
        let row = |kind: &str, name: &str, connected| BehindRow {
            kind: kind.to_owned(),
            name: name.to_owned(),
            environment: if kind == "host" { "staging" } else { "" }.to_owned(),
            connected,
        };
        let behind = vec![
            row("host", "web-01", true),
            row("host", "web-02", false),
            row("operator", "ben", false),
        ];
        let all = [
            CaStatus {
                phase: "steady".to_owned(),
                authorities: vec![ca("a", true, true)],
                behind: Vec::new(),
                peers: 40,
            },
            CaStatus {
                phase: "begun".to_owned(),
                authorities: vec![ca("b", true, false), ca("a", false, true)],
                behind,
                peers: 40,
            },
            CaStatus {
                phase: "shown".to_owned(),
                authorities: vec![ca("b", true, true), ca("a", false, false)],
                behind: Vec::new(),
                peers: 40,
            },
            CaStatus {
                phase: "steady".to_owned(),
                authorities: vec![ca("b", true, true)],
                behind: vec![row("host", "web-02", false)],
                peers: 40,
            },
        ];
        let shown = all.iter().map(|it| {
            let mut lines = status(it);
            lines.extend(next(it).map(|next| format!("next: {next}")));
            lines.join("\n")
        });
        insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n\n"));
    }
}
