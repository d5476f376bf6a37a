//! Evidence from the controller, judged here: by this host's own copy of the environment's signed file, and by
//! its own clock. A controller that keeps some of it back can only make a release be refused.

use super::http::Http;
use crate::allowed::failure;
use crate::host::chain;
use crate::source::Proven;
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::evidence::{Approval, Demanded, EvidenceKind};
use tamer_core::id::{ComponentPath, EnvironmentName};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::PlanRef;
use tamer_release::attest::approval::NotApproved;
use tamer_release::attest::approved::{Asked, approved as people_who_approved};
use tamer_release::attest::{Judged, judge};
use tamer_release::proofs;

/// How many bundles that do not count a message names: whoever made one wants to know why.
const NAMED: usize = 3;

/// What is judged, for whom.
#[derive(Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) environment: &'a EnvironmentName,
    pub(super) component: &'a ComponentPath,
    pub(super) slot: &'a Slot,
    pub(super) release: &'a ReleaseRef,
    /// The newest plan that has gone ahead for the component.
    pub(super) newest: Option<&'a PlanRef>,
}

/// Fetches the evidence of a release.
///
/// # Errors
/// [`Failure`] of the kind `Fetch`.
pub(super) async fn fetch(http: &Http, release: &ReleaseRef) -> Result<Vec<u8>, Failure> {
    let fetched = http.evidence(&release.manifest, proofs::MAX_FILE).await;
    fetched.map_err(|e| {
        let why = format!("the evidence of {release} was not fetched: {}", chain(&e));
        failure(FailureKind::Fetch, why)
    })
}

/// What is proven, if it is all that is demanded.
///
/// # Errors
/// [`Failure`] of the kind `Evidence`: it says what is missing, and why what is there does not count.
pub(super) fn enough(
    demanded: &Demanded,
    whose: Whose<'_>,
    file: &[u8],
    now: Moment,
) -> Result<Proven, Failure> {
    let bundles = proofs::bundles(file);
    let judged = judge(demanded, &whose.release.manifest, &bundles, now);
    if !judged.is_enough() {
        return Err(failure(FailureKind::Evidence, missing(&judged, whose)));
    }
    let mut proven = Proven::default();
    for (kind, proof) in &judged.proven {
        proven.by.insert(*kind, proof.key.clone());
        if let Some(bundle) = bundles.get(proof.index) {
            proven.bundles.extend_from_slice(bundle);
            proven.bundles.push(b'\n');
        }
    }
    Ok(proven)
}

/// Who approved a deployment that brings it here, if enough people did; the statements are then kept whole.
///
/// # Errors
/// [`Failure`] of the kind `Evidence`: it says how many did, and why what is there does not count.
pub(super) fn approved(
    demanded: &Approval,
    whose: Whose<'_>,
    file: Vec<u8>,
    now: Moment,
) -> Result<Proven, Failure> {
    let Whose {
        environment,
        component,
        slot,
        release,
        newest,
    } = whose;
    let bundles = proofs::bundles(&file);
    let asked = Asked {
        environment,
        slot,
        manifest: &release.manifest,
        newest,
    };
    let (plan, found) = people_who_approved(demanded, asked, &bundles, now);
    if !found.is_enough() {
        let mut said = format!(
            "{environment} wants {} to approve a deployment of {component} {}, and {} did",
            found.needed,
            release.version,
            found.by.len()
        );
        let of_approvals = |why: &&NotApproved| !matches!(why, NotApproved::OtherKind);
        let aside = found.set_aside.iter().map(|(_, why)| why);
        for why in aside.filter(of_approvals).take(NAMED) {
            said.push_str(&format!("; one does not count: {why}"));
        }
        return Err(failure(FailureKind::Evidence, said));
    }
    let approved = found.by.into_values().map(|it| it.key).collect();
    Ok(Proven {
        approved,
        plan,
        bundles: file,
        ..Proven::default()
    })
}

fn missing(judged: &Judged, whose: Whose<'_>) -> String {
    let Whose {
        environment,
        component,
        release,
        ..
    } = whose;
    let lacking: Vec<_> = judged.lacking.iter().map(ToString::to_string).collect();
    let mut said = format!(
        "{environment} demands evidence that {component} {} does not have: {}",
        release.version,
        lacking.join(", ")
    );
    for aside in judged.set_aside.iter().take(NAMED) {
        let kind = aside.claimed.map_or("a bundle", EvidenceKind::name);
        said.push_str(&format!("; {kind} does not count: {}", aside.why));
    }
    match judged.set_aside.len().saturating_sub(NAMED) {
        0 => {}
        more => said.push_str(&format!("; and {more} more do not count")),
    }
    said
}
