//! What operators ask: deployments, hosts, status. What they publish is in [`super::publishing`].

use super::{caller, operator, parse, parse_option, refused, stopped};
use crate::catalog::Catalog;
use crate::driver::Driver;
use crate::fleet::Fleet;
use crate::fleet::deploy::{Asked, By, Control, Refused, Wanted};
use crate::identity::registry::{Role, Roles};
use crate::identity::tokens::Grant;
use crate::publications::Publications;
use crate::status;
use std::pin::Pin;
use tamer_core::digest::Digest;
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName, HostName, OperatorName};
use tamer_core::moment::Span;
use tamer_core::rollout::deployment::DeploymentId;
use tamer_core::version::Version;
use tamer_kit::address::Address;
use tamer_kit::clock;
use tamer_kit::token::{JoinToken, Secret, TokenKind};
use tamer_proto::v1;
use tamer_proto::v1::operators_server::Operators;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// How long a token may be used, unless it is said otherwise.
const TOKEN_LIFE: Span = Span::secs(3600);

/// How long a token may be used at most.
const TOKEN_LIFE_MAX: Span = Span::secs(30 * 24 * 3600);

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
    /// The CA that tokens pin.
    pub ca: Digest,
    /// The public halves of the online keys, as TUF key JSON: snapshot, timestamp.
    pub online_keys: [String; 2],
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Operators for OperatorApi {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::DeploymentStatus, Status>> + Send>>;

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
                        .and_then(|operator| operator.roles.everywhere);
                    (role, fleet.held.is_some())
                }
            })
            .await
            .map_err(stopped)?;
        Ok(Response::new(v1::WhoAmIResponse {
            name: name.to_string(),
            role: role.map_or_else(String::new, |role| format!("{role:?}").to_lowercase()),
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
        let name = operator(&self.driver, &caller(&request), None, Role::Admin).await?;
        self.register_team(name, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn publish_root(
        &self,
        request: Request<v1::PublishRootRequest>,
    ) -> Answer<v1::PublishRootResponse> {
        let name = operator(&self.driver, &caller(&request), None, Role::Deployer).await?;
        self.publish_new_root(name, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn publish_targets(
        &self,
        request: Request<v1::PublishTargetsRequest>,
    ) -> Answer<v1::PublishTargetsResponse> {
        let name = operator(&self.driver, &caller(&request), None, Role::Deployer).await?;
        self.publish_new_targets(name, request.into_inner())
            .await
            .map(Response::new)
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
        let rows = |fleet: &Fleet| {
            fleet
                .environments
                .keys()
                .filter_map(|name| status::environment(fleet, name))
                .collect()
        };
        let environments = self.driver.read(rows).await.map_err(stopped)?;
        Ok(Response::new(v1::ListEnvironmentsResponse { environments }))
    }

    async fn invite(&self, request: Request<v1::InviteRequest>) -> Answer<v1::InviteResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let by = operator(
            &self.driver,
            &caller,
            environment.as_ref().cloned(),
            Role::Admin,
        )
        .await?;
        let (kind, grant) = grant(&request, environment)?;
        if let Grant::Host { environment, .. } = &grant {
            let environment = environment.clone();
            let known = self.driver.read({
                let environment = environment.clone();
                move |fleet| fleet.environments.contains_key(&environment)
            });
            if !known.await.map_err(stopped)? {
                return Err(refused(&Refused::NoEnvironment(environment)));
            }
        }
        let root = self
            .publications
            .first_team_root()
            .await
            .map_err(|error| super::internal(&error))?;
        if root.is_none() && kind == TokenKind::Host {
            return Err(Status::failed_precondition(
                "there is no trust root that the host could pin: run `tamer trust init` first",
            ));
        }
        let valid = if request.valid_ms == 0 {
            TOKEN_LIFE
        } else {
            Span::millis(request.valid_ms).min(TOKEN_LIFE_MAX)
        };
        let secret = Secret::random().map_err(|error| super::internal(&error))?;
        let digest = secret.digest();
        let change = self
            .driver
            .change(move |fleet, now| fleet.invite(digest, grant, valid, &by, now));
        let expires = change.await.map_err(stopped)?;
        let token = JoinToken {
            kind,
            controller: self.public.clone(),
            ca: self.ca,
            trust_root: root.map(|root| tamer_kit::hash::sha256(&root)),
            secret,
        };
        Ok(Response::new(v1::InviteResponse {
            token: token.to_string(),
            expires_ms: expires.0,
        }))
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Answer<v1::ListHostsResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let name: Option<HostName> = parse_option(&request.name)?;
        let hosts = self
            .driver
            .read(move |fleet| {
                let chosen = fleet.registry.hosts.iter().filter(|(host, registered)| {
                    name.as_ref()
                        .map_or(!registered.revoked, |name| name == *host)
                        && environment
                            .as_ref()
                            .is_none_or(|environment| *environment == registered.environment)
                });
                chosen
                    .filter_map(|(name, _)| status::host(fleet, name))
                    .collect()
            })
            .await
            .map_err(stopped)?;
        Ok(Response::new(v1::ListHostsResponse { hosts }))
    }

    async fn remove_host(
        &self,
        request: Request<v1::RemoveHostRequest>,
    ) -> Answer<v1::RemoveHostResponse> {
        let by = operator(&self.driver, &caller(&request), None, Role::Admin).await?;
        let request = request.into_inner();
        let name: HostName = parse(&request.name)?;
        let change = self
            .driver
            .change(move |fleet, now| fleet.remove_host(&name, &by, &request.reason, now));
        change
            .await
            .map_err(stopped)?
            .map_err(|error| Status::not_found(error.to_string()))?;
        Ok(Response::new(v1::RemoveHostResponse {}))
    }

    async fn deploy(&self, request: Request<v1::DeployRequest>) -> Answer<v1::DeployResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let environment: EnvironmentName = parse(&request.environment)?;
        let by = operator(
            &self.driver,
            &caller,
            Some(environment.clone()),
            Role::Deployer,
        )
        .await?;
        let version: Version = parse(&request.version)?;
        let component: Option<ComponentName> = parse_option(&request.component)?;
        let application = self.application(&environment, &request.application).await?;
        let wanted = self
            .wanted(environment, application, component.as_ref(), version)
            .await?;
        loop {
            let mut changes = self.driver.changes();
            changes.mark_unchanged();
            let (wanted, by) = (wanted.clone(), by_whom(&by, &request.reason));
            let change = self
                .driver
                .change(move |fleet, now| fleet.deploy(&wanted, &by, now));
            match change.await.map_err(stopped)? {
                Err(Refused::Locked { .. }) if request.wait => {
                    changes
                        .changed()
                        .await
                        .map_err(|_| stopped(crate::driver::Stopped))?;
                }
                Err(error) => return Err(refused(&error)),
                Ok(asked) => return Ok(Response::new(answer(asked, "every host runs it already"))),
            }
        }
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Answer<v1::DeployResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let environment: EnvironmentName = parse(&request.environment)?;
        let by = operator(
            &self.driver,
            &caller,
            Some(environment.clone()),
            Role::Deployer,
        )
        .await?;
        let component: Option<ComponentName> = parse_option(&request.component)?;
        let application = self.application(&environment, &request.application).await?;
        let to = match parse_option::<Version>(&request.version)? {
            None => None,
            Some(version) => Some(
                self.wanted(
                    environment.clone(),
                    application.clone(),
                    component.as_ref(),
                    version,
                )
                .await?,
            ),
        };
        let by = by_whom(&by, &request.reason);
        let change = self.driver.change(move |fleet, now| {
            fleet.go_back(
                &environment,
                &application,
                component.as_ref(),
                to.as_ref(),
                &by,
                now,
            )
        });
        let asked = change
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(answer(asked, "every host runs it already")))
    }

    async fn control(&self, request: Request<v1::ControlRequest>) -> Answer<v1::ControlResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let what = match request.action.as_str() {
            "pause" => Control::Pause,
            "resume" => Control::Resume,
            "abort" => Control::Abort,
            "rollback" => Control::Rollback,
            other => {
                return Err(Status::invalid_argument(format!(
                    "`{other}` cannot be done to a deployment"
                )));
            }
        };
        let (id, environment) = self.running(&request).await?;
        let by = operator(&self.driver, &caller, Some(environment), Role::Deployer).await?;
        let by = by_whom(&by, &request.reason);
        let change = self
            .driver
            .change(move |fleet, now| fleet.control(id, what, &by, now));
        change
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(v1::ControlResponse { deployment: id.0 }))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let now = clock::now();
        let deployments: Vec<_> = self
            .driver
            .read(move |fleet| {
                let mut last = std::collections::BTreeSet::new();
                let chosen = fleet.deployments.values().rev().filter(|deployment| {
                    let here = environment
                        .as_ref()
                        .is_none_or(|environment| *environment == deployment.environment);
                    if request.deployment != 0 {
                        return deployment.id.0 == request.deployment;
                    }
                    here && (last.insert(deployment.environment.clone())
                        || deployment.ended.is_none())
                });
                chosen
                    .map(|deployment| status::deployment(fleet, deployment, now))
                    .collect()
            })
            .await
            .map_err(stopped)?;
        if deployments.is_empty() && request.deployment != 0 {
            return Err(no_deployment(request.deployment));
        }
        Ok(Response::new(v1::GetStatusResponse { deployments }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let id = DeploymentId(request.into_inner().deployment);
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let driver = self.driver.clone();
        let look = async move |driver: &Driver| {
            let now = clock::now();
            let read = driver.read(move |fleet| {
                fleet
                    .deployments
                    .get(&id)
                    .map(|d| status::deployment(fleet, d, now))
            });
            read.await
                .map_err(stopped)?
                .ok_or_else(|| no_deployment(id.0))
        };
        let mut changes = driver.changes();
        changes.mark_unchanged();
        let mut newest = look(&driver).await?;
        tokio::spawn(async move {
            loop {
                let over = newest.ended_ms != 0;
                if sender.send(Ok(newest.clone())).await.is_err() || over {
                    return;
                }
                newest = loop {
                    tokio::select! {
                        changed = changes.changed() => if changed.is_err() { return },
                        () = sender.closed() => return,
                    }
                    match look(&driver).await {
                        Ok(now) if same(&now, &newest) => {}
                        Ok(now) => break now,
                        Err(error) => {
                            // The watcher is told, if it still listens.
                            let _ = sender.send(Err(error)).await;
                            return;
                        }
                    }
                };
            }
        });
        Ok(Response::new(Box::pin(
            tokio_stream::wrappers::ReceiverStream::new(receiver),
        )))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Answer<v1::HistoryResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let limit = if request.limit == 0 {
            20
        } else {
            request.limit as usize
        };
        let now = clock::now();
        let read = move |fleet: &Fleet| {
            let here = |environment_of: &EnvironmentName| {
                environment
                    .as_ref()
                    .is_none_or(|name| name == environment_of)
            };
            let chosen = fleet
                .deployments
                .values()
                .rev()
                .filter(|deployment| here(&deployment.environment));
            chosen
                .take(limit)
                .map(|deployment| status::deployment(fleet, deployment, now))
                .collect()
        };
        let deployments = self.driver.read(read).await.map_err(stopped)?;
        Ok(Response::new(v1::HistoryResponse { deployments }))
    }
}

impl OperatorApi {
    async fn application(
        &self,
        environment: &EnvironmentName,
        given: &str,
    ) -> Result<ApplicationName, Status> {
        if let Some(application) = parse_option(given)? {
            return Ok(application);
        }
        let wanted = environment.clone();
        let found = self
            .driver
            .read(move |fleet| {
                if !fleet.environments.contains_key(&wanted) {
                    return Err(Refused::NoEnvironment(wanted));
                }
                Ok(fleet.only_application(&wanted))
            })
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        found.ok_or_else(|| {
            Status::invalid_argument(format!(
                "`{environment}` places several applications: say which with --application"
            ))
        })
    }

    async fn wanted(
        &self,
        environment: EnvironmentName,
        application: ApplicationName,
        component: Option<&ComponentName>,
        version: Version,
    ) -> Result<Wanted, Status> {
        self.catalog
            .wanted(environment, application, component, version)
            .await
            .map_err(|error| super::not_found(&error))
    }

    async fn running(
        &self,
        request: &v1::ControlRequest,
    ) -> Result<(DeploymentId, EnvironmentName), Status> {
        let number = request.deployment;
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let read = move |fleet: &Fleet| {
            let chosen = fleet.deployments.values().rev().find(|deployment| {
                if number != 0 {
                    return deployment.id.0 == number;
                }
                deployment.ended.is_none()
                    && environment
                        .as_ref()
                        .is_none_or(|name| *name == deployment.environment)
            });
            chosen.map(|deployment| (deployment.id, deployment.environment.clone()))
        };
        let found = self.driver.read(read).await.map_err(stopped)?;
        found.ok_or_else(|| match number {
            0 => Status::not_found(
                "no deployment is running: `tamer history` lists those that ended",
            ),
            number => no_deployment(number),
        })
    }
}

fn by_whom(name: &OperatorName, reason: &str) -> By {
    By {
        who: name.to_string(),
        reason: reason.to_owned(),
    }
}

fn no_deployment(number: u64) -> Status {
    Status::not_found(format!(
        "there is no deployment {number}: `tamer history` lists them"
    ))
}

fn answer(asked: Asked, nothing: &str) -> v1::DeployResponse {
    match asked {
        Asked::Started(id) => v1::DeployResponse {
            deployment: id.0,
            note: String::new(),
        },
        Asked::NothingToDo => v1::DeployResponse {
            deployment: 0,
            note: nothing.to_owned(),
        },
    }
}

/// Whether a watcher would see no difference.
fn same(a: &v1::DeploymentStatus, b: &v1::DeploymentStatus) -> bool {
    v1::DeploymentStatus {
        now_ms: 0,
        ..a.clone()
    } == v1::DeploymentStatus {
        now_ms: 0,
        ..b.clone()
    }
}

fn grant(
    request: &v1::InviteRequest,
    environment: Option<EnvironmentName>,
) -> Result<(TokenKind, Grant), Status> {
    match request.kind.as_str() {
        "host" => {
            let environment = environment
                .ok_or_else(|| Status::invalid_argument("which environment? say --environment"))?;
            let replaces = if request.replace {
                Some(parse::<HostName>(&request.name)?)
            } else {
                None
            };
            Ok((
                TokenKind::Host,
                Grant::Host {
                    environment,
                    labels: request.labels.clone(),
                    replaces,
                },
            ))
        }
        "operator" => {
            let name: OperatorName = parse(&request.name)?;
            let role = match request.role.as_str() {
                "viewer" => Role::Viewer,
                "deployer" => Role::Deployer,
                "admin" => Role::Admin,
                other => {
                    return Err(Status::invalid_argument(format!(
                        "`{other}` is not a role: viewer, deployer or admin"
                    )));
                }
            };
            let roles = match environment {
                None => Roles::everywhere(role),
                Some(environment) => Roles {
                    everywhere: None,
                    environments: [(environment, role)].into(),
                },
            };
            Ok((TokenKind::Operator, Grant::Operator { name, roles }))
        }
        other => Err(Status::invalid_argument(format!(
            "`{other}` cannot be invited: host or operator"
        ))),
    }
}
