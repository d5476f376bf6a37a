//! Approvals: of one plan, for one environment, until a moment, by people whose keys are listed.

use super::made::{HOUR, NOW, OTHER, RELEASE, Team, ago, public, run};
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::evidence::{Approval, EvidenceKind};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::{ReleaseToApprove, ToApprove};
use tamer_core::rollout::deployment::DeploymentId;
use tamer_release::attest::approval::{Approvals, approvals};
use tamer_release::attest::statement::Approved;
use tamer_release::attest::{Claim, Statement, Subject, seal};

fn plan(environment: &str, manifests: &[Digest]) -> ToApprove {
    let release = |digest: &Digest| ReleaseToApprove {
        component: "web".parse().unwrap(),
        pool: Default::default(),
        from: None,
        to: ReleaseRef {
            version: "1.0.0".parse().unwrap(),
            manifest: *digest,
        },
    };
    ToApprove {
        deployment: DeploymentId(7),
        environment: environment.parse().unwrap(),
        application: "shop".parse().unwrap(),
        version: None,
        by: "ci".to_owned(),
        reason: "the login".to_owned(),
        asked_at: ago(5),
        releases: manifests.iter().map(release).collect(),
    }
}

fn approved(plan: ToApprove, manifests: &[Digest], at: Moment) -> Statement {
    let subject = |digest: &Digest| Subject::Manifest {
        name: "shop".to_owned(),
        digest: *digest,
    };
    Statement {
        subjects: manifests.iter().map(subject).collect(),
        claim: Claim::Approval(Approved {
            plan,
            at,
            expires: Moment(at.0 + 4 * HOUR),
        }),
    }
}

/// The plan that is judged.
fn here() -> ToApprove {
    plan("production", &[RELEASE, OTHER])
}

fn demands(team: &Team, needed: u32) -> Approval {
    let text = format!(
        "[approval]\nneeded = {needed}\n[approval.keys.anna]\nkey = \"{}\"\nperson = \"anna\"\n\
         [approval.keys.anna-at-home]\nkey = \"{}\"\nperson = \"Anna\"\nuntil = \"2027-01-01\"\n\
         [approval.keys.ben]\nkey = \"{}\"\n",
        public(&team.anna),
        public(&team.ci),
        public(&team.ben),
    );
    Environment::parse("production.toml", &text)
        .unwrap()
        .approval
}

fn judged(team: &Team, needed: u32, bundles: &[Vec<u8>], now: Moment) -> Approvals {
    approvals(&demands(team, needed), &here(), bundles, now)
}

#[test]
fn two_people_approve_and_two_keys_of_one_person_do_not() {
    let team = Team::new();
    let good = approved(here(), &[RELEASE, OTHER], ago(1));
    let by = |key| seal(&good, key).unwrap();
    let found = judged(
        &team,
        2,
        &[by(&team.anna), by(&team.ci), by(&team.anna)],
        NOW,
    );
    assert!(!found.is_enough() && found.by.len() == 1 && found.set_aside.is_empty());
    let found = judged(&team, 2, &[by(&team.anna), by(&team.ben)], NOW);
    assert!(found.is_enough());
    let found = judged(&team, 1, &[by(&team.stranger)], NOW);
    assert!(!found.is_enough() && found.set_aside[0].1.to_string().contains("not listed"));
}

#[test]
fn an_approval_of_something_else_is_none() {
    let team = Team::new();
    let both = [RELEASE, OTHER];
    let mut again = here();
    again.deployment = DeploymentId(8);
    let mut other_reason = here();
    other_reason.reason = "nothing of note".to_owned();
    let mut later = here();
    later.asked_at = Moment(later.asked_at.0 + 1);
    let more = [RELEASE, OTHER, Digest::new([3; 32])];
    for (statement, reason) in [
        (
            approved(plan("staging", &both), &both, ago(1)),
            "another environment",
        ),
        (approved(again, &both, ago(1)), "another plan"),
        (approved(other_reason, &both, ago(1)), "another plan"),
        (approved(later, &both, ago(1)), "another plan"),
        (
            approved(plan("production", &both[..1]), &both, ago(1)),
            "another plan",
        ),
        (
            approved(here(), &both[..1], ago(1)),
            "another set of releases",
        ),
        (approved(here(), &more, ago(1)), "another set"),
        (approved(here(), &both, ago(4)), "expired"),
        (
            approved(here(), &both, Moment(NOW.0 + HOUR)),
            "still to come",
        ),
        (run(EvidenceKind::Test, true, ago(1)), "not an approval"),
    ] {
        let found = judged(&team, 1, &[seal(&statement, &team.anna).unwrap()], NOW);
        assert!(!found.is_enough(), "{reason}");
        let said = found.set_aside[0].1.to_string();
        assert!(said.contains(reason), "{said}");
    }
    let good = approved(here(), &both, ago(1));
    let bundles = [seal(&good, &team.ci).unwrap()];
    let year = Moment(NOW.0 + 60 * 24 * HOUR);
    let said = judged(&team, 1, &bundles, year).set_aside[0].1.to_string();
    assert!(
        said.contains("nothing counts that key `anna-at-home` signed"),
        "{said}"
    );
}
