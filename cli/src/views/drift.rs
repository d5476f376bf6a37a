//! What was changed by hand, host by host.

use super::human::harmless;
use serde::Serialize;
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

/// A host that was asked what differs there.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// The host.
    pub host: HostRow,
    /// Why it was not looked at now; empty: it was.
    pub unseen: String,
}

impl Seen {
    /// Whether all of it was looked at now.
    pub fn is_whole(&self) -> bool {
        let mut components = self.host.components.iter();
        self.unseen.is_empty() && components.all(|it| it.not_compared.is_none())
    }
}

impl From<HostRow> for Seen {
    fn from(host: HostRow) -> Self {
        Self {
            host,
            unseen: String::new(),
        }
    }
}

/// Whatever of these hosts was changed by hand.
pub fn drifted<'a>(
    hosts: impl IntoIterator<Item = &'a HostRow>,
) -> impl Iterator<Item = Drifted<'a>> {
    hosts.into_iter().flat_map(|host| {
        host.components.iter().filter_map(move |component| {
            Some(Drifted {
                host,
                component,
                drift: component.drift.as_ref()?,
            })
        })
    })
}

/// Everything of one host that was asked: what differs, and what could not be seen.
pub fn seen(it: &Seen) -> Vec<String> {
    let mut lines = Vec::new();
    let name = &it.host.name;
    if !it.unseen.is_empty() {
        let known = it.host.components.iter().any(|it| it.drift.is_some());
        let known = match known {
            true => "what was last known of it",
            false => "nothing was known to be changed there",
        };
        lines.push(format!("! {name}: {}; {known}", harmless(&it.unseen)));
    }
    for component in &it.host.components {
        if let Some(failure) = &component.not_compared {
            lines.push(format!(
                "✗ {name} · {}/{}: {}",
                component.application,
                component.component,
                harmless(&failure.message)
            ));
        }
    }
    lines.extend(drifted([&it.host]).flat_map(|it| self::lines(&it)));
    lines
}

/// What to type next about changes that were found: for what was asked about, and nothing beyond it; of
/// everything, for the `first` host.
pub fn ways(environment: Option<&str>, host: Option<&str>, first: &str) -> String {
    let host = host.or(environment.is_none().then_some(first));
    let mut what = "tamer drift".to_owned();
    what.extend(environment.map(|it| format!(" {it}")));
    what.extend(host.map(|it| format!(" --host {it}")));
    format!("{what} --repair · {what} --adopt --reason TEXT")
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

    #[test]
    fn what_is_advised_reaches_no_further_than_what_was_asked() {
        let advised = |environment, host, about: &str| {
            assert_eq!(
                ways(environment, host, "web-7"),
                format!("{about} --repair · {about} --adopt --reason TEXT")
            );
        };
        advised(None, None, "tamer drift --host web-7");
        advised(Some("staging"), None, "tamer drift staging");
        advised(None, Some("web-1"), "tamer drift --host web-1");
        let both = "tamer drift staging --host web-1";
        advised(Some("staging"), Some("web-1"), both);
    }

    #[test]
    fn what_could_not_be_seen_is_said() {
        let host = |component| HostRow {
            name: "web-07".into(),
            components: vec![component],
            ..Default::default()
        };
        let away = Seen {
            host: host(HostComponent::default()),
            unseen: "it is away".into(),
        };
        assert!(!away.is_whole());
        let said = "! web-07: it is away; nothing was known to be changed there";
        assert_eq!(seen(&away), [said]);
        let broken = Seen::from(host(HostComponent {
            application: "shop".into(),
            component: "web".into(),
            not_compared: Some(Failure {
                message: "cannot read it".into(),
                ..Default::default()
            }),
            ..Default::default()
        }));
        assert!(!broken.is_whole());
        assert_eq!(seen(&broken), ["✗ web-07 · shop/web: cannot read it"]);
    }
}
