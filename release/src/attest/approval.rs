//! Approvals: who approved a deployment. A controller cannot mint one, as it holds none of the keys.
//!
//! An approval carries the plan that it is of, so whoever reads it learns from the signature alone which releases go
//! where, who asked for that, and when.

use super::MAX_BUNDLES;
use super::judge::{Refusal, Ring, SKEW};
use super::statement::{Approved, Claim, Statement, Subject};
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::digest::Digest;
use tamer_core::evidence::{Approval, ApprovalKey, Until};
use tamer_core::id::KeyName;
use tamer_core::moment::Moment;
use tamer_core::rollout::approval::{PlanRef, ToApprove};
use tamer_core::rollout::deployment::DeploymentId;
use tamer_kit::hash::sha256;

/// Why an approval does not count.
#[derive(Debug, thiserror::Error)]
pub enum NotApproved {
    /// For a reason that holds for every statement.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is a statement of another kind.
    #[error("it is not an approval")]
    OtherKind,
    /// It approves something else.
    #[error("it approves another {0}")]
    Other(&'static str),
    /// It is past its end.
    #[error("it expired on {0}")]
    Expired(Until),
    /// Its plan does not bring this release here.
    #[error("deployment {0}, which it approves, does not bring this release to this component")]
    NotOfIt(DeploymentId),
    /// A later plan has gone ahead.
    #[error(
        "it is of deployment {deployment}, asked for on {asked}, and one asked for on {newest} has gone ahead here since"
    )]
    Superseded {
        /// The deployment that it approves.
        deployment: DeploymentId,
        /// When that was asked for.
        asked: Until,
        /// When the newest was that has gone ahead.
        newest: Until,
    },
    /// Who asked for it does not approve it.
    #[error(
        "{by} asked for deployment {deployment}, and somebody else must approve it (`four_eyes`)"
    )]
    Asker {
        /// Who.
        by: String,
        /// For what.
        deployment: DeploymentId,
    },
    /// Its plan was made after it.
    #[error("it says that the deployment was asked for on {0}, after it was approved")]
    AskedLater(Until),
}

/// Who approved.
#[derive(Debug, Default)]
pub struct Approvals {
    /// The people who approved.
    pub by: BTreeMap<String, Approver>,
    /// What does not count: the bundle's place among those given, and why.
    pub set_aside: Vec<(usize, NotApproved)>,
    /// How many people are needed.
    pub needed: u32,
}

/// The first approval of somebody that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// The key that they did it with.
    pub key: KeyName,
    /// When.
    pub at: Moment,
    /// When it is worth nothing any more.
    pub expires: Moment,
}

/// An approval that a listed key signed; whether it counts is another question.
pub(super) struct Signed<'a> {
    /// Its place among the bundles.
    pub(super) index: usize,
    name: &'a KeyName,
    key: &'a ApprovalKey,
    subjects: BTreeSet<Digest>,
    pub(super) approved: Approved,
}

impl Approvals {
    /// Whether enough people approved.
    pub fn is_enough(&self) -> bool {
        usize::try_from(self.needed).is_ok_and(|needed| self.by.len() >= needed)
    }
}

/// Judges bundles: who approved this plan, at this time.
pub fn approvals<B: AsRef<[u8]>>(
    demanded: &Approval,
    plan: &ToApprove,
    bundles: &[B],
    now: Moment,
) -> Approvals {
    let (signed, set_aside) = signed(demanded, bundles);
    let mut found = count(demanded, plan, &signed, now);
    found.set_aside.extend(set_aside);
    found.set_aside.sort_by_key(|(index, _)| *index);
    found
}

/// What a host remembers of a plan.
pub fn plan_ref(plan: &ToApprove) -> PlanRef {
    PlanRef {
        digest: sha256(&plan.to_json()),
        asked_at: plan.asked_at,
    }
}

/// The approvals that listed keys signed, each verified once; and what is none.
pub(super) fn signed<'a, B: AsRef<[u8]>>(
    demanded: &'a Approval,
    bundles: &[B],
) -> (Vec<Signed<'a>>, Vec<(usize, NotApproved)>) {
    let ring = Ring::new(demanded.keys.iter().map(|(name, it)| (name, &it.key, it)));
    let (mut signed, mut aside) = (Vec::new(), Vec::new());
    for (index, bundle) in bundles.iter().enumerate() {
        let opened = match index < MAX_BUNDLES {
            true => ring.open(bundle.as_ref()).map_err(|(_, why)| why),
            false => Err(Refusal::TooMany),
        };
        match opened {
            Ok((name, key, statement)) => {
                let Statement { subjects, claim } = statement;
                let Claim::Approval(approved) = claim else {
                    aside.push((index, NotApproved::OtherKind));
                    continue;
                };
                let manifests = subjects.into_iter().filter_map(|it| match it {
                    Subject::Manifest { digest, .. } => Some(digest),
                    Subject::Commit(_) => None,
                });
                signed.push(Signed {
                    index,
                    name,
                    key,
                    subjects: manifests.collect(),
                    approved,
                });
            }
            Err(why) => aside.push((index, why.into())),
        }
    }
    (signed, aside)
}

/// Who approved this plan, of those who signed something.
pub(super) fn count(
    demanded: &Approval,
    plan: &ToApprove,
    signed: &[Signed<'_>],
    now: Moment,
) -> Approvals {
    let mut found = Approvals {
        needed: demanded.needed,
        ..Approvals::default()
    };
    for it in signed {
        match counts(demanded, plan, it, now) {
            Ok(()) => {
                let who = it.key.whose(it.name).trim().to_lowercase();
                found.by.entry(who).or_insert_with(|| Approver {
                    key: it.name.clone(),
                    at: it.approved.at,
                    expires: it.approved.expires,
                });
            }
            Err(why) => found.set_aside.push((it.index, why)),
        }
    }
    found
}

fn counts(
    demanded: &Approval,
    plan: &ToApprove,
    signed: &Signed<'_>,
    now: Moment,
) -> Result<(), NotApproved> {
    let (name, key) = (signed.name, signed.key);
    if let Some(until) = key.until.filter(|_| key.has_ended(now)) {
        let key = name.clone();
        return Err(Refusal::KeyEnded { key, until }.into());
    }
    let Approved {
        plan: of,
        at,
        expires,
    } = &signed.approved;
    if of.environment != plan.environment {
        return Err(NotApproved::Other("environment"));
    }
    if of != plan {
        return Err(NotApproved::Other("plan"));
    }
    if signed.subjects != plan.manifests() {
        return Err(NotApproved::Other("set of releases"));
    }
    if demanded.is_asker(name, &plan.by) {
        return Err(NotApproved::Asker {
            by: plan.by.clone(),
            deployment: plan.deployment,
        });
    }
    if at.since(now) > SKEW {
        return Err(Refusal::Future(Until(*at)).into());
    }
    // A plan from the future would supersede all that come before that.
    if plan.asked_at.since(*at) > SKEW {
        return Err(NotApproved::AskedLater(Until(plan.asked_at)));
    }
    match *expires <= now {
        true => Err(NotApproved::Expired(Until(*expires))),
        false => Ok(()),
    }
}
