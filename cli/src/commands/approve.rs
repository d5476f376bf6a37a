//! `tamer approve`: says, with a key of your own, that a deployment may happen.
//!
//! The controller is asked what is to be approved, and believed in nothing of it that can be seen otherwise: the
//! digest is made anew from what is shown here, and environment file and releases are those that the team signed.

use super::Context;
use crate::args::ApproveDeployment;
use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::keys::Keys;
use crate::repository::Repository;
use crate::views::approval::{Approved, Component, lines, standing};
use tamer_core::environment::{Environment, MAX_ENVIRONMENT};
use tamer_core::evidence::{Demanded, Until};
use tamer_core::id::KeyName;
use tamer_core::moment::{Moment, Span};
use tamer_core::rollout::approval::{ReleaseToApprove, ToApprove};
use tamer_kit::clock;
use tamer_kit::hash::sha256;
use tamer_proto::v1::{ApproveRequest, GetApprovalRequest, ListEvidenceRequest};
use tamer_release::attest::bundle::verifying_key;
use tamer_release::attest::judge::SKEW;
use tamer_release::attest::statement::Approved as Said;
use tamer_release::attest::{Claim, Statement, Subject, judge, seal};
use tamer_release::trust::names::{environment_target, release_target};
use tamer_release::trust::{RepositoryName, Signer};

/// The longest that an approval may last: longer than anybody remembers what they approved.
const LONGEST: Span = Span::secs(90 * 86_400);

pub(super) async fn run(at: &Context<'_>, args: &ApproveDeployment) -> Result<Exit> {
    if args.expires.0.is_zero() || args.expires > LONGEST {
        return Err(Error::usage(format!(
            "an approval ends after at most {LONGEST}, and not at once: --expires 8h"
        )));
    }
    let mut session = at.session().await?;
    let deployment = args.deployment;
    let request = GetApprovalRequest { deployment };
    let answer = session.operators().get_approval(request).await?;
    let plan = plan(deployment, &answer.into_inner().plan, clock::now())?;
    let environment = environment(at, &mut session, &plan).await?;
    let components = components(at, &mut session, &plan, &environment.evidence).await?;
    let mut shown = Approved::new(&plan, sha256(&plan.to_json()), components);
    at.printer.lines(lines(&shown));
    if let Some(lacks) = shown.components.iter().find(|it| !it.lacking.is_empty()) {
        let why = format!(
            "{} lacks evidence that {} demands, and no approval makes up for that",
            lacks.release, plan.environment
        );
        return Err(Error::new(Exit::Refused, why).next(format!("tamer status {deployment}")));
    }
    if args.check {
        at.printer.json(&shown);
        at.printer.next(format!("tamer approve {deployment}"));
        return Ok(Exit::Done);
    }
    let key = Keys::of(&at.home).evidence(args.key.key.as_deref())?;
    let name = listed(&environment, &*key, &plan)?;
    let bundle = sign(&plan, args.expires, &*key)?;
    let request = ApproveRequest {
        deployment,
        bundle,
        reason: args.why.reason.clone(),
    };
    let answer = session.operators().approve(request).await?.into_inner();
    let approval = answer.approval.unwrap_or_default();
    at.printer.line(format!(
        "✓ deployment {deployment} is approved with key `{name}`: {}",
        standing(&approval)
    ));
    shown.approval = Some(approval);
    at.printer.json(&shown);
    at.printer.next(format!("tamer watch {deployment}"));
    Ok(Exit::Done)
}

/// The plan that the controller showed, as it is read here.
fn plan(deployment: u64, bytes: &[u8], now: Moment) -> Result<ToApprove> {
    let plan: ToApprove = serde_json::from_slice(bytes).doing(Exit::Internal, || {
        "cannot read what is to be approved".to_owned()
    })?;
    if plan.deployment.0 != deployment {
        let why = format!(
            "the controller was asked for deployment {deployment} and showed {}: nothing was approved",
            plan.deployment
        );
        return Err(Error::new(Exit::Refused, why));
    }
    // On every server it would stand above all that is asked for until then.
    if plan.asked_at.since(now) > SKEW {
        let why = format!(
            "deployment {deployment} says that it was asked for on {}, which is still to come: nothing was approved. \
             See to the clocks of this machine and of the controller",
            Until(plan.asked_at)
        );
        return Err(Error::new(Exit::Refused, why));
    }
    Ok(plan)
}

/// The environment's file, as the team signed it.
async fn environment(
    at: &Context<'_>,
    session: &mut Session,
    plan: &ToApprove,
) -> Result<Environment> {
    let name = RepositoryName::Environment(plan.environment.clone());
    let repository = Repository::open(session, name, at.printer).await?;
    let target = environment_target(&plan.environment);
    let text = repository.fetch(&target, MAX_ENVIRONMENT).await?;
    let text = String::from_utf8(text).doing(Exit::Internal, || format!("cannot read {target}"))?;
    Environment::parse(&target, &text).map_err(|error| Error::usage(error.to_string()))
}

/// What changes: each release as the team signed it, with what is proven of it.
async fn components(
    at: &Context<'_>,
    session: &mut Session,
    plan: &ToApprove,
    demanded: &Demanded,
) -> Result<Vec<Component>> {
    let name = RepositoryName::Application(plan.application.clone());
    let repository = Repository::open(session, name, at.printer).await?;
    let mut all = Vec::new();
    for release in &plan.releases {
        let target = release_target(&plan.application, &release.component, &release.to.version);
        let signed = repository.verified().and_then(|it| it.target(&target));
        if signed.is_none_or(|it| it.digest != release.to.manifest) {
            return Err(Error::new(
                Exit::Refused,
                format!(
                    "{} is not the release that the team signed as {target}: nothing was approved",
                    release.to
                ),
            ));
        }
        let request = ListEvidenceRequest {
            manifest: release.to.manifest.to_string(),
        };
        let bundles = session.operators().list_evidence(request).await?;
        let bundles = bundles.into_inner().bundles;
        let judged = judge(demanded, &release.to.manifest, &bundles, clock::now());
        all.push(Component::new(
            called(plan, release),
            release,
            demanded,
            &judged,
        ));
    }
    Ok(all)
}

/// The name of the key in the environment's file.
fn listed(environment: &Environment, key: &dyn Signer, plan: &ToApprove) -> Result<KeyName> {
    let public = verifying_key(key.public())
        .ok_or_else(|| Error::usage("this key cannot approve: it is not one of ECDSA P-256"))?;
    let mut keys = environment.approval.keys.iter();
    let found = keys.find(|(_, listed)| listed.key == public);
    found.map(|(name, _)| name.clone()).ok_or_else(|| {
        Error::new(
            Exit::Refused,
            format!(
                "your key is not among those that approve in {}: list it under [approval.keys.NAME] of its file",
                plan.environment
            ),
        )
        .next("tamer attest key")
    })
}

fn sign(plan: &ToApprove, lasts: Span, key: &dyn Signer) -> Result<Vec<u8>> {
    let subject = |release: &ReleaseToApprove| Subject::Manifest {
        name: called(plan, release),
        digest: release.to.manifest,
    };
    let at = clock::now();
    let statement = Statement {
        subjects: plan.releases.iter().map(subject).collect(),
        claim: Claim::Approval(Said {
            plan: plan.clone(),
            at,
            expires: at + lasts,
        }),
    };
    seal(&statement, key).doing(Exit::Usage, || "cannot approve".to_owned())
}

fn called(plan: &ToApprove, release: &ReleaseToApprove) -> String {
    let (application, component) = (&plan.application, &release.component);
    format!("{application}/{component} {}", release.to.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_deployment_or_more_than_is_shown_is_not_approved() {
        let honest = br#"{"deployment":7,"environment":"production","application":"shop","version":"1.0.0","by":"ci","reason":"","asked_at":5,"releases":[]}"#;
        let now = Moment(5);
        let read = plan(7, honest, now).unwrap();
        assert_eq!(read.to_json(), honest, "what is shown is what is signed");
        let said = plan(8, honest, now).unwrap_err().report();
        assert!(
            said.contains("asked for deployment 8 and showed 7"),
            "{said}"
        );
        let more = String::from_utf8_lossy(honest).replace("\"by\"", "\"also\":\"bank\",\"by\"");
        assert!(plan(7, more.as_bytes(), now).is_err());
        let later =
            String::from_utf8_lossy(honest).replace("\"asked_at\":5", "\"asked_at\":700000");
        let said = plan(7, later.as_bytes(), now).unwrap_err().report();
        assert!(said.contains("still to come"), "{said}");
    }
}
