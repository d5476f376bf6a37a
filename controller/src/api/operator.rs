//! What operators ask. Deployments are in `deploying`, what is published in `publishing`, tokens in
//! `inviting`; the rest is short enough to stand here.

use super::auditing::Lines;
use super::deploying::by_whom;
use super::{caller, operator, parse, parse_option, stopped};
use crate::acting::Acting;
use crate::authority::Authority;
use crate::catalog::Catalog;
use crate::driver::Driver;
use crate::fleet::Fleet;
use crate::identity::registry::Role;
use crate::inspections::Inspections;
use crate::mirror::Mirror;
use crate::notes;
use crate::publications::Publications;
use crate::status::{self, Sight};
use crate::transfers::Transfers;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use tamer_core::id::{EnvironmentName, HostName};
use tamer_kit::address::Address;
use tamer_kit::clock;
use tamer_proto::v1;
use tamer_proto::v1::operators_server::Operators;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The service.
pub struct OperatorApi {
    /// The writer.
    pub driver: Driver,
    /// What is published, looked up.
    pub catalog: Catalog,
    /// What is published.
    pub publications: Publications,
    /// The controller's address, as tokens carry it.
    pub public: Address,
    /// The controller's CA, which tokens pin.
    pub authority: Authority,
    /// The public halves of the online keys, as TUF key JSON: snapshot, timestamp.
    pub online_keys: [String; 2],
    /// Where what is published is copied to before it is acknowledged.
    pub mirror: Mirror,
    /// Who waits to hear what differs.
    pub inspections: Arc<Inspections>,
    /// What hosts fetch now.
    pub transfers: Arc<Transfers>,
    /// Where the audit log lies.
    pub audit: PathBuf,
    /// Set when the controller goes down: watchers come back when it is up again.
    pub closing: CancellationToken,
}

pub(super) type Answer<T> = Result<Response<T>, Status>;

/// A deployment's status, again and again.
pub(super) type Statuses = Pin<Box<dyn Stream<Item = Result<v1::DeploymentStatus, Status>> + Send>>;

#[tonic::async_trait]
impl Operators for OperatorApi {
    type WatchStream = Statuses;
    type InspectDriftStream = super::inspecting::Hosts;
    type AuditStream = Lines;

    async fn who_am_i(&self, request: Request<v1::WhoAmIRequest>) -> Answer<v1::WhoAmIResponse> {
        let caller = caller(&request);
        let name = operator(&self.driver, &caller, None, Role::Viewer).await?;
        let (role, held) = self
            .driver
            .read({
                let name = name.clone();
                move |fleet| {
                    let role = fleet
                        .registry
                        .operators
                        .get(&name)
                        .map(|operator| operator.roles.shortly());
                    (role, fleet.held.is_some())
                }
            })
            .await
            .map_err(stopped)?;
        Ok(Response::new(v1::WhoAmIResponse {
            name: name.to_string(),
            role: role.unwrap_or_default(),
            controller_version: env!("CARGO_PKG_VERSION").to_owned(),
            held,
        }))
    }

    async fn get_trust(
        &self,
        request: Request<v1::GetTrustRequest>,
    ) -> Answer<v1::GetTrustResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        self.trust().await.map(Response::new)
    }

    async fn register_team_root(
        &self,
        request: Request<v1::RegisterTeamRootRequest>,
    ) -> Answer<v1::RegisterTeamRootResponse> {
        let acting = Acting::of(&request);
        let work = async {
            let name = operator(&self.driver, &caller(&request), None, Role::Admin).await?;
            self.register_team(name, request.into_inner())
                .await
                .map(Response::new)
        };
        acting.watch(&self.driver, false, work).await
    }

    async fn publish_root(
        &self,
        request: Request<v1::PublishRootRequest>,
    ) -> Answer<v1::PublishRootResponse> {
        let acting = Acting::of(&request);
        let work = async {
            let repository = &request.get_ref().repository;
            let name = self.publisher(&caller(&request), repository).await?;
            self.publish_new_root(name, request.into_inner())
                .await
                .map(Response::new)
        };
        acting.watch(&self.driver, false, work).await
    }

    async fn publish_targets(
        &self,
        request: Request<v1::PublishTargetsRequest>,
    ) -> Answer<v1::PublishTargetsResponse> {
        let acting = Acting::of(&request);
        let work = async {
            let repository = &request.get_ref().repository;
            let name = self.publisher(&caller(&request), repository).await?;
            self.publish_new_targets(name, request.into_inner())
                .await
                .map(Response::new)
        };
        acting.watch(&self.driver, false, work).await
    }

    async fn list_releases(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Answer<v1::ListReleasesResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let application = parse_option(&request.into_inner().application)?;
        self.releases(application).await.map(Response::new)
    }

    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Answer<v1::ListEnvironmentsResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let now = clock::now();
        let rows = move |fleet: &Fleet| {
            fleet
                .environments
                .keys()
                .filter_map(|name| status::environment(fleet, name, now))
                .collect()
        };
        let environments = self.driver.read(rows).await.map_err(stopped)?;
        Ok(Response::new(v1::ListEnvironmentsResponse { environments }))
    }

    async fn attach_evidence(
        &self,
        request: Request<v1::AttachEvidenceRequest>,
    ) -> Answer<v1::AttachEvidenceResponse> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.attach(request))
            .await
    }

    async fn list_evidence(
        &self,
        request: Request<v1::ListEvidenceRequest>,
    ) -> Answer<v1::ListEvidenceResponse> {
        self.evidence(request).await
    }

    async fn invite(&self, request: Request<v1::InviteRequest>) -> Answer<v1::InviteResponse> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.give_out(request))
            .await
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Answer<v1::ListHostsResponse> {
        let by = operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let name: Option<HostName> = parse_option(&request.name)?;
        let (hosts, notes) = self
            .driver
            .read(move |fleet| {
                let notes = notes::of_hosts(fleet, environment.as_ref(), name.as_ref());
                let chosen = fleet.registry.hosts.iter().filter(|(host, registered)| {
                    name.as_ref()
                        .map_or(!registered.revoked, |name| name == *host)
                        && environment
                            .as_ref()
                            .is_none_or(|environment| *environment == registered.environment)
                });
                let sight = Sight::of(fleet, &by);
                let hosts = chosen.filter_map(|(name, _)| sight.host(name));
                (hosts.collect(), notes)
            })
            .await
            .map_err(stopped)?;
        Ok(Response::new(v1::ListHostsResponse { hosts, notes }))
    }

    async fn take_back_host(
        &self,
        request: Request<v1::TakeBackHostRequest>,
    ) -> Answer<v1::TakeBackHostResponse> {
        let acting = Acting::of(&request);
        let work = async {
            // It raises the whole controller's epoch.
            let by = operator(&self.driver, &caller(&request), None, Role::Admin).await?;
            let request = request.into_inner();
            let name: HostName = parse(&request.name)?;
            let by = by_whom(&by, &request.reason)?;
            let change = self
                .driver
                .change(move |fleet, now| fleet.take_back(&name, &by, now));
            let epoch = change
                .await
                .map_err(stopped)?
                .map_err(|error| Status::failed_precondition(error.to_string()))?;
            Ok(Response::new(v1::TakeBackHostResponse { epoch }))
        };
        acting.watch(&self.driver, false, work).await
    }

    async fn remove_host(
        &self,
        request: Request<v1::RemoveHostRequest>,
    ) -> Answer<v1::RemoveHostResponse> {
        let acting = Acting::of(&request);
        let work = async {
            let by = operator(&self.driver, &caller(&request), None, Role::Admin).await?;
            let request = request.into_inner();
            let name: HostName = parse(&request.name)?;
            let reason = by_whom(&by, &request.reason)?.reason;
            let change = self
                .driver
                .change(move |fleet, now| fleet.remove_host(&name, &by, &reason, now));
            change
                .await
                .map_err(stopped)?
                .map_err(|error| Status::not_found(error.to_string()))?;
            Ok(Response::new(v1::RemoveHostResponse {}))
        };
        acting.watch(&self.driver, false, work).await
    }

    async fn get_ca(&self, request: Request<v1::GetCaRequest>) -> Answer<v1::CaStatus> {
        self.ca(request).await
    }

    async fn rotate_ca(&self, request: Request<v1::RotateCaRequest>) -> Answer<v1::CaStatus> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.rotate(request))
            .await
    }

    async fn finish_ca(&self, request: Request<v1::FinishCaRequest>) -> Answer<v1::CaStatus> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.finish(request))
            .await
    }

    async fn list_operators(
        &self,
        request: Request<v1::ListOperatorsRequest>,
    ) -> Answer<v1::ListOperatorsResponse> {
        self.operators(request).await
    }

    async fn remove_operator(
        &self,
        request: Request<v1::RemoveOperatorRequest>,
    ) -> Answer<v1::RemoveOperatorResponse> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.remove_person(request))
            .await
    }

    async fn inspect_drift(
        &self,
        request: Request<v1::InspectDriftRequest>,
    ) -> Answer<Self::InspectDriftStream> {
        self.inspect(request).await
    }

    async fn settle_drift(
        &self,
        request: Request<v1::SettleDriftRequest>,
    ) -> Answer<v1::SettleDriftResponse> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.say_of_drift(request))
            .await
    }

    async fn deploy(&self, request: Request<v1::DeployRequest>) -> Answer<v1::DeployResponse> {
        let acting = Acting::of(&request);
        acting.watch(&self.driver, false, self.start(request)).await
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Answer<v1::DeployResponse> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.take_back(request))
            .await
    }

    async fn control(&self, request: Request<v1::ControlRequest>) -> Answer<v1::ControlResponse> {
        let acting = Acting::of(&request);
        acting.watch(&self.driver, false, self.steer(request)).await
    }

    async fn get_approval(
        &self,
        request: Request<v1::GetApprovalRequest>,
    ) -> Answer<v1::GetApprovalResponse> {
        self.approval(request).await
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Answer<v1::ApproveResponse> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.take_approval(request))
            .await
    }

    async fn close(&self, request: Request<v1::CloseRequest>) -> Answer<v1::CloseResponse> {
        let acting = Acting::of(&request);
        acting.watch(&self.driver, false, self.shut(request)).await
    }

    async fn reopen(&self, request: Request<v1::ReopenRequest>) -> Answer<v1::ReopenResponse> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.open_again(request))
            .await
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        self.statuses(request).await
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        self.follow(request).await
    }

    async fn plan(&self, request: Request<v1::DeployRequest>) -> Answer<v1::PlanResponse> {
        self.outlook(request).await
    }

    async fn list_schemas(
        &self,
        request: Request<v1::ListSchemasRequest>,
    ) -> Answer<v1::ListSchemasResponse> {
        self.schemas(request).await
    }

    async fn settle_schema(
        &self,
        request: Request<v1::SettleSchemaRequest>,
    ) -> Answer<v1::SettleSchemaResponse> {
        let acting = Acting::of(&request);
        acting
            .watch(&self.driver, false, self.settle(request))
            .await
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Answer<v1::HistoryResponse> {
        self.past(request).await
    }

    async fn audit(&self, request: Request<v1::AuditRequest>) -> Answer<Self::AuditStream> {
        self.audit_lines(request).await
    }
}
