//! The controller's answers: trust and releases for real, deployments as the test says.

use super::{Controller, Inside};
use tamer_kit::clock;
use tamer_kit::hash::sha256;
use tamer_proto::v1::enrolment_server::Enrolment;
use tamer_proto::v1::operators_server::Operators;
use tamer_proto::v1::*;
use tamer_release::trust::RepositoryName;
use tamer_release::trust::document::Document;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_stream::Iter;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

fn refused(error: impl std::fmt::Display) -> Status {
    Status::failed_precondition(error.to_string())
}

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("this controller has no fleet"))
}

#[tonic::async_trait]
impl Enrolment for Controller {
    async fn join(&self, request: Request<JoinRequest>) -> Answer<JoinResponse> {
        let request = request.into_inner();
        if request.secret != [7; 32] {
            return Err(Status::permission_denied("the token was used already"));
        }
        let inside = self.inside();
        let root = inside.team.read("1.root.json").map_err(refused)?;
        Ok(Response::new(JoinResponse {
            certificate_pem: inside.certificate(&request.csr),
            ca_pem: inside.ca_pem.clone(),
            name: "anna".to_owned(),
            environment: String::new(),
            trust_root: root.unwrap_or_default(),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Answer<RenewResponse> {
        let mut inside = self.inside();
        inside.renewed += 1;
        inside.age = std::time::Duration::ZERO;
        Ok(Response::new(RenewResponse {
            certificate_pem: inside.certificate(&request.into_inner().csr),
            ca_pem: inside.ca_pem.clone(),
        }))
    }
}

impl Inside {
    fn row(&mut self, name: &RepositoryName) -> RepositoryStatus {
        let repository = self.repository(name);
        let root = (1..).take_while(|n| {
            repository
                .read(&format!("{n}.root.json"))
                .unwrap()
                .is_some()
        });
        let root_version = root.last().unwrap_or(0);
        let targets = repository.targets().unwrap();
        let targets: Option<Document<tough::schema::Targets>> =
            targets.map(|bytes| Document::parse(bytes, None).unwrap());
        RepositoryStatus {
            name: name.to_string(),
            root_version,
            targets_version: targets.as_ref().map_or(0, Document::version),
            targets_expires: targets.as_ref().map_or_else(String::new, |targets| {
                let secs = i64::try_from(targets.expires().0 / 1000).unwrap();
                let at = OffsetDateTime::from_unix_timestamp(secs).unwrap();
                at.format(&Rfc3339).unwrap()
            }),
            ..RepositoryStatus::default()
        }
    }
}

#[tonic::async_trait]
impl Operators for Controller {
    async fn who_am_i(&self, _: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        Ok(Response::new(WhoAmIResponse {
            name: "anna".to_owned(),
            role: "admin".to_owned(),
            controller_version: "0.1.0".to_owned(),
            held: false,
        }))
    }

    async fn get_trust(&self, _: Request<GetTrustRequest>) -> Answer<GetTrustResponse> {
        let mut inside = self.inside();
        let root = inside.team.read("1.root.json").map_err(refused)?;
        let key = serde_json::to_string(inside.online.public()).map_err(refused)?;
        let names: Vec<_> = inside.repositories.keys().cloned().collect();
        Ok(Response::new(GetTrustResponse {
            team_root: root.map_or_else(String::new, |root| sha256(&root).to_string()),
            snapshot_key: key.clone(),
            timestamp_key: key,
            repositories: names.iter().map(|name| inside.row(name)).collect(),
            team_root_version: (1..)
                .take_while(|n| {
                    inside
                        .team
                        .read(&format!("{n}.root.json"))
                        .is_ok_and(|it| it.is_some())
                })
                .last()
                .unwrap_or(0),
            team_root_expires: String::new(),
        }))
    }

    async fn register_team_root(
        &self,
        request: Request<RegisterTeamRootRequest>,
    ) -> Answer<RegisterTeamRootResponse> {
        let root = request.into_inner().root;
        let now = clock::now();
        let mut inside = self.inside();
        if let Some(next) = inside.team.check_root(&root, now).map_err(refused)? {
            for repository in inside.repositories.values() {
                repository.anchored(&next).map_err(refused)?;
            }
        }
        inside.team.accept_root(&root, now).map_err(refused)?;
        let digest = sha256(&root).to_string();
        Ok(Response::new(RegisterTeamRootResponse { digest }))
    }

    async fn publish_root(
        &self,
        request: Request<PublishRootRequest>,
    ) -> Answer<PublishRootResponse> {
        let request = request.into_inner();
        let name = request.repository.parse().map_err(refused)?;
        let mut inside = self.inside();
        let team = inside.team.current().map_err(refused)?;
        let team = team.ok_or_else(|| refused("there is no team root"))?;
        let targets = (!request.targets.is_empty()).then_some(&request.targets[..]);
        let targets = targets.map(|bytes| (bytes, request.expected));
        let repository = inside.repository(&name);
        let accepted = repository.accept_root_with(&request.root, targets, &team, clock::now());
        let version = accepted.map_err(refused)?;
        Ok(Response::new(PublishRootResponse { version }))
    }

    async fn publish_targets(
        &self,
        request: Request<PublishTargetsRequest>,
    ) -> Answer<PublishTargetsResponse> {
        let PublishTargetsRequest {
            repository,
            targets,
            expected,
        } = request.into_inner();
        let name = repository.parse().map_err(refused)?;
        let mut inside = self.inside();
        if let Some(meanwhile) = inside.meanwhile.take() {
            meanwhile(&mut inside);
        }
        let now = clock::now();
        let named = inside
            .repository(&name)
            .check_targets(&targets, expected, now)
            .map_err(refused)?;
        if let Some((name, _)) = named
            .iter()
            .find(|(_, target)| !inside.blobs.contains_key(&target.digest))
        {
            return Err(refused(format!("{name} was not uploaded")));
        }
        let version = inside
            .repository(&name)
            .accept_targets(&targets, expected, now)
            .map_err(refused)?;
        Ok(Response::new(PublishTargetsResponse { version }))
    }

    async fn list_releases(&self, _: Request<ListReleasesRequest>) -> Answer<ListReleasesResponse> {
        Ok(Response::new(ListReleasesResponse::default()))
    }

    async fn list_environments(
        &self,
        _: Request<ListEnvironmentsRequest>,
    ) -> Answer<ListEnvironmentsResponse> {
        let row = EnvironmentRow {
            name: "staging".to_owned(),
            text: "[place]\n\"shop/web\" = {}\n".to_owned(),
            ..EnvironmentRow::default()
        };
        Ok(Response::new(ListEnvironmentsResponse {
            environments: vec![row],
        }))
    }

    async fn invite(&self, request: Request<InviteRequest>) -> Answer<InviteResponse> {
        let request = request.into_inner();
        Ok(Response::new(InviteResponse {
            token: format!(
                "{}-{}-{:?}",
                request.kind,
                request.environments.join("+"),
                request.labels
            ),
            expires_ms: request.valid_ms,
        }))
    }

    async fn list_hosts(&self, _: Request<ListHostsRequest>) -> Answer<ListHostsResponse> {
        Ok(Response::new(ListHostsResponse::default()))
    }

    async fn inspect_drift(
        &self,
        _: Request<InspectDriftRequest>,
    ) -> Answer<Self::InspectDriftStream> {
        not_here()
    }

    async fn settle_drift(&self, _: Request<SettleDriftRequest>) -> Answer<SettleDriftResponse> {
        not_here()
    }

    async fn take_back_host(
        &self,
        _: Request<TakeBackHostRequest>,
    ) -> Answer<TakeBackHostResponse> {
        not_here()
    }

    async fn remove_host(&self, _: Request<RemoveHostRequest>) -> Answer<RemoveHostResponse> {
        not_here()
    }

    async fn get_ca(&self, _: Request<GetCaRequest>) -> Answer<CaStatus> {
        not_here()
    }

    async fn rotate_ca(&self, _: Request<RotateCaRequest>) -> Answer<CaStatus> {
        not_here()
    }

    async fn finish_ca(&self, _: Request<FinishCaRequest>) -> Answer<CaStatus> {
        not_here()
    }

    async fn list_operators(
        &self,
        _: Request<ListOperatorsRequest>,
    ) -> Answer<ListOperatorsResponse> {
        not_here()
    }

    async fn remove_operator(
        &self,
        _: Request<RemoveOperatorRequest>,
    ) -> Answer<RemoveOperatorResponse> {
        not_here()
    }

    async fn deploy(&self, request: Request<DeployRequest>) -> Answer<DeployResponse> {
        let request = request.into_inner();
        if request.version == "9.9.9" {
            return Err(Status::aborted(
                "web rolls out in staging since 12:00, by ci",
            ));
        }
        self.inside().deployed.push(request);
        Ok(Response::new(DeployResponse {
            deployment: 318,
            ..DeployResponse::default()
        }))
    }

    async fn rollback(&self, _: Request<RollbackRequest>) -> Answer<DeployResponse> {
        Ok(Response::new(DeployResponse {
            note: "staging is there already".to_owned(),
            ..DeployResponse::default()
        }))
    }

    async fn control(&self, _: Request<ControlRequest>) -> Answer<ControlResponse> {
        not_here()
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<GetStatusResponse> {
        Ok(Response::new(GetStatusResponse::default()))
    }

    type WatchStream = Iter<std::vec::IntoIter<Result<DeploymentStatus, Status>>>;
    type AuditStream = Iter<std::vec::IntoIter<Result<AuditLines, Status>>>;
    type InspectDriftStream = Iter<std::vec::IntoIter<Result<InspectedHost, Status>>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        if request.into_inner().deployment != 318 {
            return Err(Status::not_found("there is no such deployment"));
        }
        let answers = self.inside().watches.remove(0);
        Ok(Response::new(tokio_stream::iter(answers)))
    }

    async fn plan(&self, _: Request<DeployRequest>) -> Answer<PlanResponse> {
        not_here()
    }

    async fn attach_evidence(
        &self,
        _: Request<AttachEvidenceRequest>,
    ) -> Answer<AttachEvidenceResponse> {
        not_here()
    }

    async fn list_evidence(&self, _: Request<ListEvidenceRequest>) -> Answer<ListEvidenceResponse> {
        not_here()
    }

    async fn get_approval(&self, _: Request<GetApprovalRequest>) -> Answer<GetApprovalResponse> {
        not_here()
    }

    async fn approve(&self, _: Request<ApproveRequest>) -> Answer<ApproveResponse> {
        not_here()
    }

    async fn close(&self, _: Request<CloseRequest>) -> Answer<CloseResponse> {
        not_here()
    }

    async fn reopen(&self, _: Request<ReopenRequest>) -> Answer<ReopenResponse> {
        not_here()
    }

    async fn list_schemas(&self, _: Request<ListSchemasRequest>) -> Answer<ListSchemasResponse> {
        not_here()
    }

    async fn settle_schema(&self, _: Request<SettleSchemaRequest>) -> Answer<SettleSchemaResponse> {
        not_here()
    }

    async fn history(&self, _: Request<HistoryRequest>) -> Answer<HistoryResponse> {
        Ok(Response::new(HistoryResponse::default()))
    }

    async fn audit(&self, _: Request<AuditRequest>) -> Answer<Self::AuditStream> {
        not_here()
    }
}
