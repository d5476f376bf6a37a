//! Approvals: who approved a deployment. A controller cannot mint one, as it holds none of the keys.

use super::MAX_BUNDLES;
use super::judge::{Refusal, Ring, SKEW};
use super::statement::{Approved, Claim, Statement, Subject};
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::digest::Digest;
use tamer_core::evidence::{Approval, ApprovalKey, Until};
use tamer_core::id::{EnvironmentName, KeyName};
use tamer_core::moment::Moment;

/// What is to be approved.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where.
    pub environment: &'a EnvironmentName,
    /// The manifests of all releases that are deployed.
    pub manifests: &'a BTreeSet<Digest>,
    /// SHA-256 of the plan.
    pub plan: &'a Digest,
}

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

impl Approvals {
    /// Whether enough people approved.
    pub fn is_enough(&self) -> bool {
        usize::try_from(self.needed).is_ok_and(|needed| self.by.len() >= needed)
    }
}

/// Judges bundles: who approved what is asked, at this time.
pub fn approvals<B: AsRef<[u8]>>(
    demanded: &Approval,
    asked: Asked<'_>,
    bundles: &[B],
    now: Moment,
) -> Approvals {
    let ring = Ring::new(demanded.keys.iter().map(|(name, it)| (name, &it.key, it)));
    let mut found = Approvals {
        needed: demanded.needed,
        ..Approvals::default()
    };
    for (index, bundle) in bundles.iter().enumerate() {
        let opened = match index < MAX_BUNDLES {
            true => ring.open(bundle.as_ref()).map_err(|(_, why)| why),
            false => Err(Refusal::TooMany),
        };
        let counted = opened.map_err(NotApproved::from).and_then(|it| {
            let (name, key, statement) = it;
            let (at, expires) = counts(name, key, &statement, asked, now)?;
            let approver = Approver {
                key: name.clone(),
                at,
                expires,
            };
            Ok((key.whose(name), approver))
        });
        match counted {
            Ok((who, approver)) => {
                let who = who.trim().to_lowercase();
                found.by.entry(who).or_insert(approver);
            }
            Err(why) => found.set_aside.push((index, why)),
        }
    }
    found
}

fn counts(
    name: &KeyName,
    key: &ApprovalKey,
    statement: &Statement,
    asked: Asked<'_>,
    now: Moment,
) -> Result<(Moment, Moment), NotApproved> {
    if let Some(until) = key.until.filter(|_| key.has_ended(now)) {
        let key = name.clone();
        return Err(Refusal::KeyEnded { key, until }.into());
    }
    let Claim::Approval(approved) = &statement.claim else {
        return Err(NotApproved::OtherKind);
    };
    let Approved {
        environment,
        plan,
        at,
        expires,
    } = approved;
    if environment != asked.environment {
        return Err(NotApproved::Other("environment"));
    }
    if plan != asked.plan {
        return Err(NotApproved::Other("plan"));
    }
    let manifests = statement.subjects.iter().map(|subject| match subject {
        Subject::Manifest { digest, .. } => Some(*digest),
        Subject::Commit(_) => None,
    });
    if manifests.collect::<Option<BTreeSet<_>>>().as_ref() != Some(asked.manifests) {
        return Err(NotApproved::Other("set of releases"));
    }
    if at.since(now) > SKEW {
        return Err(Refusal::Future(Until(*at)).into());
    }
    match *expires <= now {
        true => Err(NotApproved::Expired(Until(*expires))),
        false => Ok((*at, *expires)),
    }
}
