//! Approvals on screen: what is approved, and how it stands.

use super::human::{date, harmless};
use serde::Serialize;
use tamer_core::digest::Digest;
use tamer_core::evidence::{Demanded, EvidenceKind};
use tamer_core::rollout::approval::{ReleaseToApprove, ToApprove};
use tamer_proto::v1::ApprovalStatus;
use tamer_release::attest::Judged;

/// What is approved.
#[derive(Debug, Serialize)]
pub struct Approved {
    deployment: u64,
    environment: String,
    what: String,
    by: String,
    reason: String,
    /// SHA-256 of the plan.
    pub plan: Digest,
    /// What changes.
    pub components: Vec<Component>,
    /// How it stands afterwards.
    pub approval: Option<ApprovalStatus>,
}

/// A component whose release changes.
#[derive(Debug, Serialize)]
pub struct Component {
    /// What people call its release.
    pub release: String,
    from: Option<String>,
    manifest: Digest,
    proven: Vec<String>,
    /// What is demanded and not proven.
    pub lacking: Vec<EvidenceKind>,
}

impl Approved {
    /// The plan with this digest.
    pub fn new(plan: &ToApprove, digest: Digest, components: Vec<Component>) -> Self {
        let version = plan.version.as_ref();
        let version = version.map_or_else(String::new, |version| format!(" {version}"));
        Self {
            deployment: plan.deployment.0,
            environment: plan.environment.to_string(),
            what: format!("{}{version}", plan.application),
            by: plan.by.clone(),
            reason: plan.reason.clone(),
            plan: digest,
            components,
            approval: None,
        }
    }
}

impl Component {
    /// A release of the plan, and what is proven of it.
    pub fn new(
        name: String,
        release: &ReleaseToApprove,
        demanded: &Demanded,
        judged: &Judged,
    ) -> Self {
        let proven = judged.proven.iter();
        let proven = proven.filter(|(kind, _)| demanded.require.contains(kind));
        Self {
            release: name,
            from: release.from.as_ref().map(|from| from.version.to_string()),
            manifest: release.to.manifest,
            proven: proven
                .map(|(kind, proof)| format!("{kind}: {proof}"))
                .collect(),
            lacking: judged.lacking.iter().copied().collect(),
        }
    }
}

/// What is approved, whole: whoever signs it has seen it.
pub fn lines(shown: &Approved) -> Vec<String> {
    let mut lines = vec![format!(
        "{} → {} · deployment {} · asked for by {}",
        shown.what,
        shown.environment,
        shown.deployment,
        harmless(&shown.by)
    )];
    if !shown.reason.is_empty() {
        lines.push(format!("  reason     {}", harmless(&shown.reason)));
    }
    for component in &shown.components {
        let from = component.from.as_deref().unwrap_or("nothing");
        lines.push(format!("  {}, after {from}", component.release));
        lines.push(format!("    manifest {}", component.manifest));
        let proven = component.proven.iter();
        lines.extend(proven.map(|it| format!("    ✓ {}", harmless(it))));
        let lacking = component.lacking.iter();
        lines.extend(lacking.map(|kind| format!("    ✗ {kind}: nothing that counts states it")));
    }
    lines.push(format!("  plan       {}", shown.plan));
    lines
}

/// `1 of 2 approved: anna until 2026-11-24 03:01 UTC`
pub fn standing(approval: &ApprovalStatus) -> String {
    let mut said = format!("{} of {} approved", approval.by.len(), approval.needed);
    for (n, by) in approval.by.iter().enumerate() {
        let before = if n == 0 { ": " } else { ", " };
        said += &format!("{before}{} until {}", harmless(&by.who), date(by.until_ms));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_proto::v1::ApprovedBy;

    #[test]
    fn everything_that_is_signed_is_shown() {
        let plan: ToApprove = serde_json::from_value(serde_json::json!({
            "deployment": 318, "environment": "production", "application": "shop", "version": "1.4.2",
            "by": "ci\u{7}", "reason": "the login", "asked_at": 5,
            "releases": [{
                "component": "web", "pool": "main", "from": null,
                "to": {"version": "1.4.2", "manifest": Digest::new([7; 32])},
            }],
        }))
        .unwrap();
        let (demanded, judged) = (Demanded::default(), Judged::default());
        let web = "shop/web 1.4.2".to_owned();
        let web = Component::new(web, &plan.releases[0], &demanded, &judged);
        let shown = Approved::new(&plan, Digest::new([8; 32]), vec![web]);
        insta::assert_snapshot!(lines(&shown).join("\n"));
    }

    #[test]
    fn it_says_how_it_stands() {
        let by = |who: &str| ApprovedBy {
            who: who.to_owned(),
            until_ms: 1_800_000_000_000,
        };
        let mut approval = ApprovalStatus {
            needed: 2,
            ..Default::default()
        };
        assert_eq!(standing(&approval), "0 of 2 approved");
        approval.by = vec![by("anna"), by("ben")];
        assert_eq!(
            standing(&approval),
            "2 of 2 approved: anna until 2027-01-15 08:00 UTC, ben until 2027-01-15 08:00 UTC"
        );
    }
}
