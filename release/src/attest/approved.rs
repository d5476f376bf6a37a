//! Whether a release is approved: enough people said, each with a key of their own that the environment's file
//! lists, that one deployment may happen which the release is part of.
//!
//! Approvals lie with the evidence of every release that they are about ([`crate::proofs`]), so whoever has a
//! release's file can tell. Which deployments somebody approved is read from statements that nobody has
//! verified yet; [`approvals`] then believes none of that by itself.

use super::approval::{Approvals, Asked, approvals};
use super::bundle::Bundle;
use super::{Claim, Statement, Subject};
use std::collections::BTreeSet;
use tamer_core::digest::Digest;
use tamer_core::evidence::Approval;
use tamer_core::id::EnvironmentName;
use tamer_core::moment::Moment;

/// The most deployments that are looked at for one release.
const MAX_DEPLOYMENTS: usize = 16;

/// The approvals of the deployment that most people approved, of those that the release with this manifest is part
/// of. Pure: time is an argument.
pub fn approved<B: AsRef<[u8]>>(
    demanded: &Approval,
    environment: &EnvironmentName,
    manifest: &Digest,
    bundles: &[B],
    now: Moment,
) -> Approvals {
    let said = bundles.iter().filter_map(|bundle| {
        let bundle = Bundle::parse(bundle.as_ref()).ok()?;
        let statement = Statement::parse(bundle.envelope.unverified()).ok()?;
        let Claim::Approval(approved) = statement.claim else {
            return None;
        };
        let manifests: BTreeSet<Digest> = (statement.subjects.iter())
            .filter_map(|subject| match subject {
                Subject::Manifest { digest, .. } => Some(*digest),
                Subject::Commit(_) => None,
            })
            .collect();
        let here = approved.environment == *environment && manifests.contains(manifest);
        here.then_some((approved.plan, manifests))
    });
    // The newest lie at the end, and are what somebody waits for.
    let mut deployments: Vec<_> = Vec::new();
    for one in said.collect::<Vec<_>>().into_iter().rev() {
        if !deployments.contains(&one) && deployments.len() < MAX_DEPLOYMENTS {
            deployments.push(one);
        }
    }
    let judged = deployments.iter().map(|(plan, manifests)| {
        let asked = Asked {
            environment,
            manifests,
            plan,
        };
        approvals(demanded, asked, bundles, now)
    });
    let none = Approvals {
        needed: demanded.needed,
        ..Approvals::default()
    };
    judged.max_by_key(|it| it.by.len()).unwrap_or(none)
}

#[cfg(test)]
mod tests {
    use super::super::bundle::{seal, verifying_key};
    use super::super::statement::Approved;
    use super::*;
    use crate::trust::SigningKey;
    use tamer_core::evidence::ApprovalKey;

    const NOW: Moment = Moment(1_800_000_000_000);

    fn digest(n: u8) -> Digest {
        Digest::new([n; 32])
    }

    fn approval(key: &SigningKey, environment: &str, manifests: &[u8], plan: u8) -> Vec<u8> {
        let subjects = manifests.iter().map(|n| Subject::Manifest {
            name: format!("shop/{n}"),
            digest: digest(*n),
        });
        let statement = Statement {
            subjects: subjects.collect(),
            claim: Claim::Approval(Approved {
                environment: environment.parse().unwrap(),
                plan: digest(plan),
                at: Moment(NOW.0 - 1000),
                expires: Moment(NOW.0 + 1000),
            }),
        };
        seal(&statement, key).unwrap()
    }

    #[test]
    fn so_many_people_must_approve_the_same_deployment() {
        let key = || SigningKey::generate().unwrap();
        let (anna, ben, controller) = (key(), key(), key());
        let listed = |key: &SigningKey| ApprovalKey {
            key: verifying_key(key.public()).unwrap(),
            person: None,
            until: None,
        };
        let demanded = Approval {
            needed: 2,
            four_eyes: false,
            keys: [("anna", &anna), ("ben", &ben)]
                .map(|(name, key)| (name.parse().unwrap(), listed(key)))
                .into(),
        };
        let here = "production";
        let enough = |bundles: &[Vec<u8>], manifest: u8, later: u64| {
            let (here, now) = (here.parse().unwrap(), Moment(NOW.0 + later));
            approved(&demanded, &here, &digest(manifest), bundles, now).is_enough()
        };
        let of = |key: &SigningKey| approval(key, here, &[1, 2], 9);
        let both = [of(&anna), of(&ben)];
        assert!(enough(&both, 1, 0) && enough(&both, 2, 0));
        assert!(!enough(&both, 3, 0), "it is not part of it");
        assert!(!enough(&both, 1, 1000), "past its end");
        assert!(!enough(&[], 1, 0));
        assert!(!enough(&[of(&anna), of(&anna)], 1, 0), "one person");
        assert!(
            !enough(&[of(&anna), of(&controller)], 1, 0),
            "no key of ours"
        );
        for other in [
            approval(&ben, here, &[1, 2], 8),
            approval(&ben, here, &[1], 9),
            approval(&ben, "staging", &[1, 2], 9),
        ] {
            assert!(
                !enough(&[of(&anna), other.clone()], 1, 0),
                "another deployment"
            );
            // Nor does it stand in the way.
            assert!(enough(&[of(&anna), of(&ben), other], 1, 0));
        }
    }
}
