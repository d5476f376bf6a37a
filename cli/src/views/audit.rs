//! An entry of the audit log, on one line.

use super::human::{date, harmless};
use tamer_kit::audit::{Entry, Outcome};

/// `2026-11-24 03:01 UTC  anna (admin) from 192.0.2.7  deploy production shop@1.4.2`
pub fn line(entry: &Entry) -> String {
    let role = entry.role.as_ref().map(|role| format!(" ({role})"));
    let source = entry.source.map(|source| format!(" from {source}"));
    let mut line = format!(
        "{}  {}{}{}  {} {}",
        date(entry.at.0),
        entry.who,
        role.unwrap_or_default(),
        source.unwrap_or_default(),
        entry.action,
        entry.object
    );
    match &entry.result {
        Outcome::Done => {}
        Outcome::Refused(why) => line += &format!("  REFUSED: {why}"),
        Outcome::Failed(why) => line += &format!("  FAILED: {why}"),
    }
    if let Some(reason) = &entry.reason {
        line += &format!("  because: {reason}");
    }
    let proven = entry.evidence.iter().map(|it| it.proven.as_str());
    let proven: Vec<&str> = proven.collect();
    if !proven.is_empty() {
        line += &format!("  proven: {}", proven.join("; "));
    }
    if let Some(plan) = &entry.plan {
        line += &format!("  plan {}", plan.short());
    }
    if entry.unwritten > 0 {
        line += &format!(
            "  (and {} more before it, not written down)",
            entry.unwritten
        );
    }
    // Whoever is refused chose some of these words.
    harmless(&line.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::digest::Digest;
    use tamer_core::moment::Moment;
    use tamer_kit::audit::Proven;

    #[test]
    fn an_entry_is_one_line_that_harms_no_terminal() {
        let at = Moment(1_764_000_000_000);
        let done = Entry {
            role: Some("admin".to_owned()),
            source: Some("192.0.2.7".parse().unwrap()),
            reason: Some("the \"old\" one\nis slow".to_owned()),
            plan: Some(Digest::new([0xab; 32])),
            evidence: vec![Proven {
                manifest: Digest::new([1; 32]),
                proven: "build by ci, review by anna".to_owned(),
            }],
            ..Entry::done(
                at,
                "anna".to_owned(),
                "deploy".to_owned(),
                "production shop@1.4.2".to_owned(),
            )
        };
        let refused = Entry {
            source: Some("2001:db8::7".parse().unwrap()),
            result: Outcome::Refused("this token has been used by web-1".to_owned()),
            unwritten: 12,
            ..Entry::done(
                at,
                "a stranger".to_owned(),
                "join".to_owned(),
                "host \u{1b}[2Jweb".to_owned(),
            )
        };
        let lines = [line(&done), line(&refused)].join("\n");
        assert_eq!(lines.lines().count(), 2);
        assert!(!lines.contains('\u{1b}'));
        for said in [
            "anna (admin) from 192.0.2.7  deploy production shop@1.4.2",
            "because: the \"old\" one is slow",
            "proven: build by ci, review by anna",
            "plan abababab",
            "a stranger from 2001:db8::7  join host ",
            "REFUSED: this token has been used by web-1",
            "(and 12 more before it, not written down)",
        ] {
            assert!(lines.contains(said), "no `{said}` in {lines}");
        }
    }
}
