//! Whether a release is approved for a component: enough people said, each with a key of their own that the
//! environment's file lists, that one deployment may happen which brings it there.
//!
//! Approvals lie with the evidence of every release that they are about ([`crate::proofs`]), so whoever has a
//! release's file can tell. Each carries its plan; no plan is looked at that no listed key has signed.

use super::approval::{Approvals, NotApproved, count, plan_ref, signed};
use tamer_core::desired::Slot;
use tamer_core::digest::Digest;
use tamer_core::evidence::{Approval, Until};
use tamer_core::id::EnvironmentName;
use tamer_core::moment::Moment;
use tamer_core::rollout::approval::{PlanRef, ToApprove};

/// What is to be activated.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where.
    pub environment: &'a EnvironmentName,
    /// For which component.
    pub slot: &'a Slot,
    /// The manifest of the release.
    pub manifest: &'a Digest,
    /// The newest plan that has gone ahead for this component: those before it count no more.
    pub newest: Option<&'a PlanRef>,
}

/// The plan that most people approved, and the newest of these, with those who did; `None` where nobody approved one
/// that is of any use for what is asked. Pure: time is an argument.
pub fn approved<B: AsRef<[u8]>>(
    demanded: &Approval,
    asked: Asked<'_>,
    bundles: &[B],
    now: Moment,
) -> (Option<PlanRef>, Approvals) {
    let (signed, mut set_aside) = signed(demanded, bundles);
    let mut useful = Vec::new();
    for it in signed {
        match of_use(&it.approved.plan, asked) {
            Ok(()) => useful.push(it),
            Err(why) => set_aside.push((it.index, why)),
        }
    }
    let mut plans: Vec<&ToApprove> = Vec::new();
    for it in &useful {
        if !plans.contains(&&it.approved.plan) {
            plans.push(&it.approved.plan);
        }
    }
    let judged = plans.into_iter().map(|plan| {
        let found = count(demanded, plan, &useful, now);
        (plan, found)
    });
    let enough = usize::try_from(demanded.needed).unwrap_or(usize::MAX);
    let best = judged.max_by_key(|(plan, it)| (it.by.len().min(enough), plan.asked_at));
    let (plan, mut found) = best.map_or_else(
        || {
            let none = Approvals {
                needed: demanded.needed,
                ..Approvals::default()
            };
            (None, none)
        },
        |(plan, found)| (Some(plan_ref(plan)), found),
    );
    found.set_aside.extend(set_aside);
    found.set_aside.sort_by_key(|(index, _)| *index);
    (plan, found)
}

/// Whether a plan may bring what is asked.
fn of_use(plan: &ToApprove, asked: Asked<'_>) -> Result<(), NotApproved> {
    if plan.environment != *asked.environment {
        return Err(NotApproved::Other("environment"));
    }
    if !plan.covers(asked.slot, asked.manifest) {
        return Err(NotApproved::NotOfIt(plan.deployment));
    }
    match asked.newest {
        Some(newest) if plan_ref(plan).is_superseded_by(asked.newest) => {
            Err(NotApproved::Superseded {
                deployment: plan.deployment,
                asked: Until(plan.asked_at),
                newest: Until(newest.asked_at),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::{seal, verifying_key};
    use super::super::statement::Approved;
    use super::super::{Claim, Statement, Subject};
    use super::*;
    use crate::trust::SigningKey;
    use tamer_core::evidence::ApprovalKey;
    use tamer_core::rollout::approval::ReleaseToApprove;
    use tamer_core::rollout::deployment::DeploymentId;

    const NOW: Moment = Moment(1_800_000_000_000);

    fn digest(n: u8) -> Digest {
        Digest::new([n; 32])
    }

    fn slot(component: &str) -> Slot {
        Slot {
            application: "shop".parse().unwrap(),
            component: component.parse().unwrap(),
            pool: Default::default(),
        }
    }

    /// A plan of these releases: number n is of component `c<n>`.
    fn plan(environment: &str, manifests: &[u8], asked: u64) -> ToApprove {
        let release = |n: &u8| ReleaseToApprove {
            component: format!("c{n}").parse().unwrap(),
            pool: Default::default(),
            from: None,
            to: tamer_core::release::ReleaseRef {
                version: "1.0.0".parse().unwrap(),
                manifest: digest(*n),
            },
        };
        ToApprove {
            deployment: DeploymentId(7),
            environment: environment.parse().unwrap(),
            application: "shop".parse().unwrap(),
            version: None,
            by: "ci".to_owned(),
            reason: String::new(),
            asked_at: Moment(NOW.0 - 5000 + asked),
            releases: manifests.iter().map(release).collect(),
        }
    }

    fn of(key: &SigningKey, plan: &ToApprove) -> Vec<u8> {
        let subjects = plan.manifests().into_iter();
        let statement = Statement {
            subjects: subjects
                .map(|digest| Subject::Manifest {
                    name: "shop".to_owned(),
                    digest,
                })
                .collect(),
            claim: Claim::Approval(Approved {
                plan: plan.clone(),
                at: Moment(NOW.0 - 1000),
                expires: Moment(NOW.0 + 1000),
            }),
        };
        seal(&statement, key).unwrap()
    }

    fn demanded(keys: &[(&str, &SigningKey)], needed: u32) -> Approval {
        let listed = |key: &SigningKey| ApprovalKey {
            key: verifying_key(key.public()).unwrap(),
            person: None,
            until: None,
        };
        Approval {
            needed,
            four_eyes: false,
            keys: (keys.iter())
                .map(|(name, key)| (name.parse().unwrap(), listed(key)))
                .collect(),
        }
    }

    fn judged(
        demanded: &Approval,
        newest: Option<&PlanRef>,
        bundles: &[Vec<u8>],
        n: u8,
        later: u64,
    ) -> (Option<PlanRef>, Approvals) {
        let asked = Asked {
            environment: &"production".parse().unwrap(),
            slot: &slot(&format!("c{n}")),
            manifest: &digest(n),
            newest,
        };
        approved(demanded, asked, bundles, Moment(NOW.0 + later))
    }

    fn key() -> SigningKey {
        SigningKey::generate().unwrap()
    }

    #[test]
    fn so_many_people_must_approve_the_same_deployment() {
        let (anna, ben, controller) = (key(), key(), key());
        let demanded = demanded(&[("anna", &anna), ("ben", &ben)], 2);
        let enough = |bundles: &[Vec<u8>], manifest, later| {
            judged(&demanded, None, bundles, manifest, later)
                .1
                .is_enough()
        };
        let good = plan("production", &[1, 2], 9);
        let both = [of(&anna, &good), of(&ben, &good)];
        assert!(enough(&both, 1, 0) && enough(&both, 2, 0));
        assert!(!enough(&both, 3, 0), "it is not part of it");
        assert!(!enough(&both, 1, 1000), "past its end");
        assert!(!enough(&[], 1, 0));
        let twice = [of(&anna, &good), of(&anna, &good)];
        assert!(!enough(&twice, 1, 0), "one person");
        let forged = [of(&anna, &good), of(&controller, &good)];
        assert!(!enough(&forged, 1, 0), "no key of ours");
        for other in [
            plan("production", &[1, 2], 8),
            plan("production", &[1], 9),
            plan("staging", &[1, 2], 9),
        ] {
            let other = of(&ben, &other);
            assert!(
                !enough(&[of(&anna, &good), other.clone()], 1, 0),
                "another deployment"
            );
            // Nor does it stand in the way.
            assert!(enough(&[of(&anna, &good), of(&ben, &good), other], 1, 0));
        }
    }

    #[test]
    fn a_plan_counts_for_what_it_brings_and_not_after_a_later_one() {
        let anna = key();
        let demanded = demanded(&[("anna", &anna)], 1);
        let (old, new) = (
            plan("production", &[1], 1000),
            plan("production", &[1], 2000),
        );
        let bundles = [of(&anna, &new), of(&anna, &old)];
        let (found, _) = judged(&demanded, None, &bundles, 1, 0);
        assert_eq!(found, Some(plan_ref(&new)), "of two the newest");
        // Itself once more, and not what came before it.
        let newest = plan_ref(&new);
        let after = |bundles: &[Vec<u8>]| judged(&demanded, Some(&newest), bundles, 1, 0);
        assert!(after(&bundles).1.is_enough());
        let (found, aside) = after(&bundles[1..]);
        assert!(found.is_none() && !aside.is_enough());
        let said = aside.set_aside[0].1.to_string();
        assert!(said.contains("has gone ahead here since"), "{said}");
        // Number 1 is not brought to another component, and nothing else to this one.
        let elsewhere = Asked {
            environment: &"production".parse().unwrap(),
            slot: &slot("c2"),
            manifest: &digest(1),
            newest: None,
        };
        let (found, aside) = approved(&demanded, elsewhere, &bundles, NOW);
        assert!(found.is_none());
        let said = aside.set_aside[0].1.to_string();
        assert!(said.contains("does not bring this release"), "{said}");
    }

    #[test]
    fn who_asked_does_not_approve_and_no_plan_comes_from_the_future() {
        let anna = key();
        let mut demanded = demanded(&[("anna", &anna)], 1);
        demanded.four_eyes = true;
        let mut own = plan("production", &[1], 0);
        own.by = "Anna".to_owned();
        for (plan, words) in [
            (own, "Anna asked for deployment 7"),
            (plan("production", &[1], 3_600_000), "after it was approved"),
        ] {
            let (_, found) = judged(&demanded, None, &[of(&anna, &plan)], 1, 0);
            assert!(!found.is_enough());
            let said = found.set_aside[0].1.to_string();
            assert!(said.contains(words), "{said}");
        }
        let of_ci = of(&anna, &plan("production", &[1], 0));
        assert!(judged(&demanded, None, &[of_ci], 1, 0).1.is_enough());
    }
}
