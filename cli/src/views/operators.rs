//! People and CI jobs.

use super::human::date;
use super::table::Table;
use tamer_proto::v1::OperatorRow;

/// A line for each, those who are shut out too.
pub fn list(rows: &[OperatorRow]) -> Vec<String> {
    let mut table = Table::new(&["NAME", "LOGGED IN", "NEWEST KEY", "MAY"]);
    for row in rows {
        let key = match row.key_since_ms {
            0 => String::new(),
            at => date(at),
        };
        let may = match row.removed {
            true => "nothing: removed".to_owned(),
            false => row.roles.clone(),
        };
        table.row([row.name.clone(), date(row.joined_ms), key, may]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_listed_with_what_they_may() {
        let row = |name: &str, roles: &str, removed| OperatorRow {
            name: name.to_owned(),
            roles: roles.to_owned(),
            joined_ms: 1_795_000_000_000,
            key_since_ms: if removed { 0 } else { 1_795_100_000_000 },
            removed,
        };
        let rows = [
            row("anna", "admin", false),
            row("ben", "viewer everywhere, deployer in staging", false),
            row("carl", "deployer", true),
        ];
        insta::assert_snapshot!(list(&rows).join("\n"));
    }
}
