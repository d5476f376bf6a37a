//! What was changed by hand, host by host.

use super::human::harmless;
use tamer_proto::v1::{Difference, DriftRow, DriftWord, HostComponent, HostRow};

/// One component of one host whose release was changed.
#[derive(Debug, Clone, Copy)]
pub struct Drifted<'a> {
    /// The host.
    pub host: &'a HostRow,
    /// The component.
    pub component: &'a HostComponent,
    /// How it differs.
    pub drift: &'a DriftRow,
}

/// Whatever of these hosts was changed by hand.
pub fn drifted(hosts: &[HostRow]) -> impl Iterator<Item = Drifted<'_>> {
    hosts.iter().flat_map(|host| {
        host.components.iter().filter_map(move |component| {
            Some(Drifted {
                host,
                component,
                drift: component.drift.as_ref()?,
            })
        })
    })
}

/// Everything of one, in full.
pub fn lines(it: &Drifted<'_>) -> Vec<String> {
    let Drifted {
        host, component, ..
    } = it;
    let mut lines = vec![format!(
        "{} · {}/{} {}",
        host.name,
        component.application,
        component.component,
        harmless(&component.running)
    )];
    lines.extend(
        of_component(component)
            .into_iter()
            .map(|line| format!("  {line}")),
    );
    lines
}

/// The differences of a component, and what was said of them; nothing where there are none.
pub fn of_component(component: &HostComponent) -> Vec<String> {
    let Some(drift) = &component.drift else {
        return Vec::new();
    };
    let mut lines: Vec<String> = drift.differences.iter().map(difference).collect();
    match drift.total.saturating_sub(drift.differences.len() as u64) {
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    if let Some(word) = &component.adopted {
        lines.push(said("adopted", word));
    }
    if let Some(word) = &component.repair {
        lines.push(said("to be put back, asked for", word));
    }
    if let Some(failure) = &component.not_repaired {
        lines.push(format!("✗ not put back: {}", harmless(&failure.message)));
    }
    lines
}

fn difference(it: &Difference) -> String {
    let change = match it.change.as_str() {
        "kind" => "of another kind",
        "content" => "changed",
        "mode" => "of another mode",
        "owner" => "of another owner",
        "target" => "points elsewhere",
        other => other,
    };
    format!("{}: {change}", harmless(&it.path))
}

fn said(what: &str, word: &DriftWord) -> String {
    let why = match word.reason.as_str() {
        "" => String::new(),
        reason => format!(": {}", harmless(reason)),
    };
    format!("{what} by {}{why}", harmless(&word.by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_proto::v1::Failure;

    #[test]
    fn what_was_changed_is_named_with_what_was_said_of_it() {
        let named = |path: &str, change: &str| Difference {
            path: path.into(),
            change: change.into(),
        };
        let component = HostComponent {
            application: "shop".into(),
            component: "web".into(),
            running: "1.4.1".into(),
            drift: Some(DriftRow {
                digest: "ab".into(),
                total: 23,
                differences: vec![
                    named("app/settings.py", "content"),
                    named("app/\u{1b}[2Jnew", "added"),
                    named("bin", "mode"),
                ],
            }),
            adopted: Some(DriftWord {
                by: "anna".into(),
                reason: "ticket 12".into(),
                ..Default::default()
            }),
            not_repaired: Some(Failure {
                message: "the store is away".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let hosts = [HostRow {
            name: "web-07".into(),
            components: vec![HostComponent::default(), component],
            ..Default::default()
        }];
        let found: Vec<_> = drifted(&hosts).collect();
        assert_eq!(found.len(), 1);
        insta::assert_snapshot!(lines(&found[0]).join("\n"), @r"
        web-07 · shop/web 1.4.1
          app/settings.py: changed
          app/new: added
          bin: of another mode
          and 20 more
          adopted by anna: ticket 12
          ✗ not put back: the store is away
        ");
    }
}
