//! Approvals: of one plan, for one environment, until a moment, by people whose keys are listed.

use super::made::{HOUR, NOW, OTHER, RELEASE, Team, ago, public, run};
use std::collections::BTreeSet;
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::evidence::{Approval, EvidenceKind};
use tamer_core::moment::Moment;
use tamer_release::attest::approval::{Approvals, Asked, approvals};
use tamer_release::attest::statement::Approved;
use tamer_release::attest::{Claim, Statement, Subject, seal};

const PLAN: Digest = Digest::new([3; 32]);

fn approved(environment: &str, plan: Digest, manifests: &[Digest], at: Moment) -> Statement {
    let subject = |digest: &Digest| Subject::Manifest {
        name: "shop".to_owned(),
        digest: *digest,
    };
    Statement {
        subjects: manifests.iter().map(subject).collect(),
        claim: Claim::Approval(Approved {
            environment: environment.parse().unwrap(),
            plan,
            at,
            expires: Moment(at.0 + 4 * HOUR),
        }),
    }
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
    let asked = Asked {
        environment: &"production".parse().unwrap(),
        manifests: &BTreeSet::from([RELEASE, OTHER]),
        plan: &PLAN,
    };
    approvals(&demands(team, needed), asked, bundles, now)
}

#[test]
fn two_people_approve_and_two_keys_of_one_person_do_not() {
    let team = Team::new();
    let good = approved("production", PLAN, &[RELEASE, OTHER], ago(1));
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
    for (statement, reason) in [
        (
            approved("staging", PLAN, &both, ago(1)),
            "another environment",
        ),
        (approved("production", OTHER, &both, ago(1)), "another plan"),
        (
            approved("production", PLAN, &both[..1], ago(1)),
            "another set of releases",
        ),
        (
            approved("production", PLAN, &[RELEASE, OTHER, PLAN], ago(1)),
            "another set",
        ),
        (approved("production", PLAN, &both, ago(4)), "expired"),
        (
            approved("production", PLAN, &both, Moment(NOW.0 + HOUR)),
            "still to come",
        ),
        (run(EvidenceKind::Test, true, ago(1)), "not an approval"),
    ] {
        let found = judged(&team, 1, &[seal(&statement, &team.anna).unwrap()], NOW);
        assert!(!found.is_enough(), "{reason}");
        let said = found.set_aside[0].1.to_string();
        assert!(said.contains(reason), "{said}");
    }
    let good = approved("production", PLAN, &both, ago(1));
    let bundles = [seal(&good, &team.ci).unwrap()];
    let year = Moment(NOW.0 + 60 * 24 * HOUR);
    let said = judged(&team, 1, &bundles, year).set_aside[0].1.to_string();
    assert!(
        said.contains("nothing counts that key `anna-at-home` signed"),
        "{said}"
    );
}
