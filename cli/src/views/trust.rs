//! Keys, repositories, and what expires when.

use super::human::{parse_date, span};
use super::table::Table;
use serde::Serialize;
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
    let left = |at: u64| match at {
        0 => String::new(),
        at if at <= now_ms => "expired".to_owned(),
        at => format!("in {}", span(at - now_ms)),
    };
    let mut lines = vec![
        format!("team root  {}", trust.team_root),
        format!(
            "           version {}, ends {}",
            trust.team_root_version,
            left(parse_date(&trust.team_root_expires))
        ),
    ];
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
    let team = RepositoryStatus {
        name: "team".to_owned(),
        root_expires: trust.team_root_expires.clone(),
        ..RepositoryStatus::default()
    };
    let rows = std::iter::once(&team).chain(&trust.repositories);
    rows.flat_map(|row| warnings(row, now_ms)).collect()
}

/// Whose keys sign what, a line a repository and role.
pub fn keys(signing: &[Signing]) -> Vec<String> {
    let mut table = Table::new(&["REPOSITORY", "SIGNS", "MUST SIGN", "KEYS"]);
    for it in signing {
        let shown = it.keys.iter().map(|key| {
            let holder = key.holder.iter().map(|holder| format!(" {holder}"));
            format!("{}{}", &key.id[..16], holder.collect::<String>())
        });
        table.row([
            it.repository.clone(),
            it.signs.to_owned(),
            format!("{} of {}", it.threshold, it.keys.len()),
            shown.collect::<Vec<_>>().join(", "),
        ]);
    }
    std::iter::once(String::new())
        .chain(table.lines())
        .collect()
}

/// Everything, for programs.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    /// What the controller says.
    #[serde(flatten)]
    pub trust: &'a GetTrustResponse,
    /// Whose keys sign what, from roots that were verified here.
    pub signing: &'a [Signing],
}

/// Whose keys sign something.
#[derive(Debug, Clone, Serialize)]
pub struct Signing {
    /// In which repository; `team`: above them all.
    pub repository: String,
    /// What they sign: `roots`, `targets` or, by the controller's keys, `snapshots`.
    pub signs: &'static str,
    /// How many must sign.
    pub threshold: u64,
    /// The keys.
    pub keys: Vec<Holds>,
}

/// A key and who has it.
#[derive(Debug, Clone, Serialize)]
pub struct Holds {
    /// Its id, hexadecimal.
    pub id: String,
    /// Who has it, where the root says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
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
            team_root_version: 2,
            team_root_expires: at(now + 30 * DAY),
            repositories: vec![row("app/shop", 300 * DAY, 60 * DAY, DAY), expired],
            ..Default::default()
        };
        insta::assert_snapshot!(status(&trust, now).join("\n"));
        assert_eq!(status(&GetTrustResponse::default(), now).len(), 1);
    }
}
