//! Approvals: what is to be approved, and statements that it was. They are verified here with the keys of the
//! environment file, so that whoever hands one in hears early that it does not count; every agent judges for itself.

use super::deploying::by_whom;
use super::operator::{Answer, OperatorApi};
use super::{caller, internal, operator, refused, stopped};
use crate::evidence::EvidenceError;
use crate::fleet::Fleet;
use crate::identity::registry::Role;
use crate::status;
use tamer_core::evidence::Approval;
use tamer_core::id::KeyName;
use tamer_core::rollout::approval::{Given, ToApprove};
use tamer_core::rollout::deployment::DeploymentId;
use tamer_kit::clock;
use tamer_proto::v1;
use tamer_release::attest::approval::{Approver, approvals};
use tonic::{Request, Response, Status};

impl OperatorApi {
    pub(super) async fn approval(
        &self,
        request: Request<v1::GetApprovalRequest>,
    ) -> Answer<v1::GetApprovalResponse> {
        let caller = caller(&request);
        let id = DeploymentId(request.into_inner().deployment);
        let environment = self.approvable(id).await?.environment;
        operator(&self.driver, &caller, Some(environment), Role::Viewer).await?;
        let now = clock::now();
        let read = move |fleet: &Fleet| {
            let deployment = fleet.approvable(id)?;
            Ok(v1::GetApprovalResponse {
                plan: ToApprove::from(deployment).to_json(),
                approval: status::approval(fleet, deployment, now),
            })
        };
        let answer = self.driver.read(read).await.map_err(stopped)?;
        answer.map(Response::new).map_err(|error| refused(&error))
    }

    pub(super) async fn take_approval(
        &self,
        request: Request<v1::ApproveRequest>,
    ) -> Answer<v1::ApproveResponse> {
        let caller = caller(&request);
        let v1::ApproveRequest {
            deployment,
            bundle,
            reason,
        } = request.into_inner();
        let id = DeploymentId(deployment);
        let plan = self.approvable(id).await?;
        let here = plan.environment.clone();
        // The signature is what counts: whoever brings it needs no more than to be known here.
        let by = operator(&self.driver, &caller, Some(here.clone()), Role::Viewer).await?;
        let by = by_whom(&by, &reason)?;
        let read = move |fleet: &Fleet| {
            let place = fleet.environments.get(&here);
            place.map(|it| it.file.approval.clone())
        };
        let demanded = self.driver.read(read).await.map_err(stopped)?;
        let demanded = demanded.unwrap_or_default();
        let manifests = plan.manifests();
        let judged = bundle.clone();
        // Signatures take their time.
        let judging = move || verified(&demanded, &plan, &judged);
        let judged = tokio::task::spawn_blocking(judging).await;
        let (key, mut given) = judged.map_err(|error| internal(&error))??;
        given.reason.clone_from(&by.reason);
        let name = key.clone();
        let may = self.driver.read(move |fleet| fleet.may_approve(id, &name));
        may.await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        // Agents find it with the evidence of each release: it is there before anything is told to go on.
        let listed = self.listed().await?;
        for manifest in manifests {
            let bundles = vec![bundle.clone()];
            let added = self.catalog.evidence.add(manifest, bundles, listed.clone());
            added.await.map_err(|error| match error {
                EvidenceError::NotAdded(why) => Status::failed_precondition(why.to_string()),
                EvidenceError::File(error) => internal(&error),
            })?;
        }
        self.mirror.published().await;
        let change = move |fleet: &mut Fleet, now| {
            fleet.approve(id, &key, given, &by, now)?;
            let deployment = fleet.approvable(id)?;
            Ok(status::approval(fleet, deployment, now))
        };
        let answer = self.driver.change(change).await.map_err(stopped)?;
        let approval = answer.map_err(|error| refused(&error))?;
        Ok(Response::new(v1::ApproveResponse { approval }))
    }

    async fn approvable(&self, id: DeploymentId) -> Result<ToApprove, Status> {
        let read = move |fleet: &Fleet| fleet.approvable(id).map(ToApprove::from);
        let plan = self.driver.read(read).await.map_err(stopped)?;
        plan.map_err(|error| refused(&error))
    }
}

/// Whose approval a bundle is, if it is one of this plan that counts now.
fn verified(
    demanded: &Approval,
    plan: &ToApprove,
    bundle: &[u8],
) -> Result<(KeyName, Given), Status> {
    let found = approvals(demanded, plan, &[bundle], clock::now());
    match found.by.into_values().next() {
        Some(Approver { key, at, expires }) => Ok((
            key,
            Given {
                at,
                expires,
                reason: String::new(),
            },
        )),
        None => {
            let why = found.set_aside.first().map(|(_, why)| why.to_string());
            Err(Status::failed_precondition(format!(
                "this approval of deployment {} does not count in `{}`: {}",
                plan.deployment,
                plan.environment,
                why.unwrap_or_default()
            )))
        }
    }
}
