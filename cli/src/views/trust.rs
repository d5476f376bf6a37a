//! Keys, repositories, and what expires when.

use super::human::{parse_date, span};
use super::table::Table;
use tamer_proto::v1::{GetTrustResponse, RepositoryStatus};

/// Warned of this long before it expires: roots, whose keys lie offline and with several people.
const ROOT_SOON: u64 = 60 * DAY;
/// Warned of this long before it expires: what whoever publishes must sign.
const SIGN_SOON: u64 = 21 * DAY;
/// Warned of this long before it expires: what the controller signs by itself, so it should not come near.
const ONLINE_SOON: u64 = DAY / 4;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// One screen: the root, then a line a repository, then what is to be done.
pub fn status(trust: &GetTrustResponse, now_ms: u64) -> Vec<String> {
    if trust.team_root.is_empty() {
        return vec!["There is no team root yet: no server trusts anything.".to_owned()];
    }
    let mut lines = vec![format!("team root  {}", trust.team_root)];
    if trust.repositories.is_empty() {
        lines.push(
            "No repository yet: `tamer env apply` and `tamer publish` begin them.".to_owned(),
        );
        return lines;
    }
    lines.push(String::new());
    let mut table = Table::new(&[
        "REPOSITORY",
        "ROOT",
        "TARGETS",
        "ROOT ENDS",
        "TARGETS END",
        "ONLINE ENDS",
    ]);
    let left = |at: u64| match at {
        0 => String::new(),
        at if at <= now_ms => "expired".to_owned(),
        at => format!("in {}", span(at - now_ms)),
    };
    for row in &trust.repositories {
        table.row([
            row.name.clone(),
            row.root_version.to_string(),
            row.targets_version.to_string(),
            left(parse_date(&row.root_expires)),
            left(parse_date(&row.targets_expires)),
            left(online(row)),
        ]);
    }
    lines.extend(table.lines());
    let warnings = ending(trust, now_ms);
    if !warnings.is_empty() {
        lines.push(String::new());
        lines.extend(warnings);
    }
    lines
}

/// What ends soon, a line each.
pub fn ending(trust: &GetTrustResponse, now_ms: u64) -> Vec<String> {
    let rows = trust.repositories.iter();
    rows.flat_map(|row| warnings(row, now_ms)).collect()
}

/// Whose keys sign what: the team's root, then a line a repository and role.
pub fn keys(
    team: &Signing,
    repositories: &[(String, Vec<(&'static str, Signing)>)],
) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!(
            "the team's root: version {}, {} of {} keys must sign, valid until {}",
            team.version,
            team.threshold,
            team.keys.len(),
            team.expires
        ),
    ];
    lines.extend(team.keys.iter().map(|key| format!("  {key}")));
    if repositories.is_empty() {
        return lines;
    }
    lines.push(String::new());
    let mut table = Table::new(&["REPOSITORY", "SIGNS", "MUST SIGN", "KEYS"]);
    for (name, roles) in repositories {
        for (role, signing) in roles {
            table.row([
                name.clone(),
                (*role).to_owned(),
                format!("{} of {}", signing.threshold, signing.keys.len()),
                signing.keys.join(", "),
            ]);
        }
    }
    lines.extend(table.lines());
    lines
}

/// The keys of one role, ready to be shown: `3f2a9c0011223344 anna`.
#[derive(Debug, Clone)]
pub struct Signing {
    /// The version of the root that says so.
    pub version: u64,
    /// When that root ends, as it says.
    pub expires: String,
    /// How many must sign.
    pub threshold: u64,
    /// The keys.
    pub keys: Vec<String>,
}

fn online(row: &RepositoryStatus) -> u64 {
    parse_date(&row.snapshot_expires).min(parse_date(&row.timestamp_expires))
}

fn warnings(row: &RepositoryStatus, now_ms: u64) -> Vec<String> {
    let soon = |at: u64, limit: u64| at > 0 && at < now_ms.saturating_add(limit);
    let mut lines = Vec::new();
    if soon(parse_date(&row.root_expires), ROOT_SOON) {
        lines.push(format!(
            "! {}: its root must be signed anew: tamer trust renew root",
            row.name
        ));
    }
    if soon(parse_date(&row.targets_expires), SIGN_SOON) {
        let how = match row.name.strip_prefix("env/") {
            Some(name) => format!("tamer env apply {name}.toml"),
            None => format!("tamer trust renew release --repository {}", row.name),
        };
        lines.push(format!(
            "! {}: its targets must be signed anew: {how}",
            row.name
        ));
    }
    if soon(online(row), ONLINE_SOON) {
        lines.push(format!(
            "! {}: the controller should have signed anew: look at its log",
            row.name
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soon_is_warned_of() {
        let now = 100 * DAY;
        let at = |millis: u64| {
            let secs = i64::try_from(millis / 1000).unwrap();
            let at = time::OffsetDateTime::from_unix_timestamp(secs).unwrap();
            at.format(&time::format_description::well_known::Rfc3339)
                .unwrap()
        };
        let row = |name: &str, root: u64, targets: u64, timestamp: u64| RepositoryStatus {
            name: name.into(),
            root_version: 1,
            targets_version: 4,
            root_expires: at(now + root),
            targets_expires: at(now + targets),
            snapshot_expires: at(now + 7 * DAY),
            timestamp_expires: at(now + timestamp),
        };
        let mut expired = row("env/production", 20 * DAY, 0, DAY / 8);
        expired.targets_expires = at(now - 1000);
        let trust = GetTrustResponse {
            team_root: "ab".repeat(32),
            repositories: vec![row("app/shop", 300 * DAY, 60 * DAY, DAY), expired],
            ..Default::default()
        };
        insta::assert_snapshot!(status(&trust, now).join("\n"));
        assert_eq!(status(&GetTrustResponse::default(), now).len(), 1);
    }
}
