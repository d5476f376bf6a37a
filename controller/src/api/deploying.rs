//! Deployments: asked for, steered, followed.

use super::operator::{Answer, OperatorApi, Statuses};
use super::{caller, operator, parse, parse_option, refused, stopped};
use crate::audit::MAX_TEXT;
use crate::driver::{Driver, Stopped};
use crate::fleet::Fleet;
use crate::fleet::back::How;
use crate::fleet::deploy::{Asked, By, Control, Refused, Wanted};
use crate::identity::registry::Role;
use crate::notes;
use crate::status::{Sight, history, routers};
use std::sync::Arc;
use std::time::Duration;
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName, OperatorName};
use tamer_core::rollout::deployment::DeploymentId;
use tamer_core::version::Version;
use tamer_kit::clock;
use tamer_proto::v1;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// After a look a watcher rests so many times as long as the look took: so each takes no more than its part of the
/// driver, however many hosts there are and however much happens.
const REST: u32 = 10;
/// How often a watcher is told of nothing but how far hosts have come that fetch a release.
const PROGRESS: Duration = Duration::from_secs(1);

impl OperatorApi {
    pub(super) async fn start(
        &self,
        request: Request<v1::DeployRequest>,
    ) -> Answer<v1::DeployResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let environment: EnvironmentName = parse(&request.environment)?;
        // Who passes over what others agreed on says why.
        let needed = match request.override_freeze {
            true => Role::Admin,
            false => Role::Deployer,
        };
        let by = operator(&self.driver, &caller, Some(environment.clone()), needed).await?;
        if request.override_freeze && request.reason.trim().is_empty() {
            return Err(Status::invalid_argument(
                "whoever overrides a freeze says why: add --reason TEXT",
            ));
        }
        let version: Version = parse(&request.version)?;
        let component: Option<ComponentName> = parse_option(&request.component)?;
        let application = self.application(&environment, &request.application).await?;
        let mut wanted = self
            .wanted(environment, application, component.as_ref(), version)
            .await?;
        wanted.no_way_back = request.no_way_back;
        wanted.override_freeze = request.override_freeze;
        wanted.wait = request.wait;
        wanted.confirmed = request.confirmed;
        let by = by_whom(&by, &request.reason)?;
        loop {
            let mut changes = self.driver.changes();
            changes.mark_unchanged();
            let (wanted, by) = (wanted.clone(), by.clone());
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
                // Nothing was refused: the plan is shown, and it is asked again.
                Err(Refused::Confirm(_)) => {
                    return Ok(Response::new(v1::DeployResponse {
                        confirm: true,
                        ..v1::DeployResponse::default()
                    }));
                }
                Err(error) => return Err(refused(&error)),
                Ok(asked) => return Ok(Response::new(answer(asked, "every host runs it already"))),
            }
        }
    }

    pub(super) async fn take_back(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Answer<v1::DeployResponse> {
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
                self.wanted_back(&environment, &application, component.as_ref(), version)
                    .await?,
            ),
        };
        let by = by_whom(&by, &request.reason)?;
        let how = How {
            with_down: request.with_down,
            incomplete: request.incomplete,
            pool: parse_option(&request.pool)?,
        };
        let change = self.driver.change(move |fleet, now| {
            fleet.go_back(
                (&environment, &application),
                component.as_ref(),
                to.as_ref(),
                &how,
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

    pub(super) async fn steer(
        &self,
        request: Request<v1::ControlRequest>,
    ) -> Answer<v1::ControlResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let what = match request.action.as_str() {
            "pause" => Control::Pause,
            "resume" => Control::Resume,
            "promote" => Control::Promote,
            "abort" => Control::Abort,
            "rollback" => Control::Rollback {
                with_down: request.with_down,
            },
            other => {
                return Err(Status::invalid_argument(format!(
                    "`{other}` cannot be done to a deployment"
                )));
            }
        };
        let (id, environment) = self.running(&request).await?;
        let by = operator(&self.driver, &caller, Some(environment), Role::Deployer).await?;
        let by = by_whom(&by, &request.reason)?;
        let change = self
            .driver
            .change(move |fleet, now| fleet.control(id, what, &by, now));
        change
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(v1::ControlResponse { deployment: id.0 }))
    }

    pub(super) async fn statuses(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        let by = operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let (now, transfers) = (clock::now(), Arc::clone(&self.transfers));
        let (deployments, notes, routers): (Vec<_>, _, _) = self
            .driver
            .read(move |fleet| {
                let only = environment.as_ref();
                let (notes, routers) = match request.deployment {
                    0 => {
                        let mut notes = notes::of_environment(fleet, only);
                        notes.extend(notes::closed(fleet, only, now));
                        notes.extend(notes::following(fleet, only, now));
                        (notes, routers(fleet, only))
                    }
                    _ => (Vec::new(), Vec::new()),
                };
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
                let sight = Sight::of(fleet, &by);
                let deployments = chosen.map(|it| sight.under_way(it, &transfers, now));
                (deployments.collect(), notes, routers)
            })
            .await
            .map_err(stopped)?;
        if deployments.is_empty() && request.deployment != 0 {
            return Err(no_deployment(request.deployment));
        }
        Ok(Response::new(v1::GetStatusResponse {
            deployments,
            notes,
            routers,
        }))
    }

    pub(super) async fn follow(&self, request: Request<v1::WatchRequest>) -> Answer<Statuses> {
        let by = operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let id = DeploymentId(request.into_inner().deployment);
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let driver = self.driver.clone();
        let transfers = Arc::clone(&self.transfers);
        let mut moved = transfers.changes();
        let look = async move |driver: &Driver| {
            let now = clock::now();
            let (by, transfers) = (by.clone(), Arc::clone(&transfers));
            let read = driver.read(move |fleet| {
                let begun = std::time::Instant::now();
                let sight = Sight::of(fleet, &by);
                let deployment = fleet.deployments.get(&id);
                let seen = deployment.map(|it| sight.under_way(it, &transfers, now));
                seen.map(|seen| (seen, begun.elapsed() * REST))
            });
            read.await
                .map_err(stopped)?
                .ok_or_else(|| no_deployment(id.0))
        };
        let mut changes = driver.changes();
        changes.mark_unchanged();
        let (mut newest, mut rest): (_, Duration) = look(&driver).await?;
        let closing = self.closing.clone();
        let mut looked = Instant::now();
        tokio::spawn(async move {
            loop {
                let over = newest.ended_ms != 0;
                if sender.send(Ok(newest.clone())).await.is_err() || over {
                    return;
                }
                (newest, rest) = loop {
                    let changed = news(&driver, &mut changes, id, looked + rest);
                    let progress = async {
                        tokio::time::sleep_until(looked + PROGRESS.max(rest)).await;
                        moved.changed().await
                    };
                    tokio::select! {
                        changed = changed => if changed.is_err() { return },
                        changed = progress => if changed.is_err() { return },
                        () = sender.closed() => return,
                        () = closing.cancelled() => return,
                    }
                    looked = Instant::now();
                    match look(&driver).await {
                        Ok((now, took)) if same(&now, &mut newest) => rest = took,
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

    pub(super) async fn past(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Answer<v1::HistoryResponse> {
        let by = operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let limit = if request.limit == 0 {
            20
        } else {
            request.limit as usize
        };
        let now = clock::now();
        let read = move |fleet: &Fleet| {
            let only = environment.as_ref();
            let chosen = fleet
                .deployments
                .values()
                .rev()
                .filter(|deployment| only.is_none_or(|name| *name == deployment.environment));
            let sight = Sight::of(fleet, &by);
            let newest = chosen.take(limit);
            v1::HistoryResponse {
                deployments: newest.map(|it| sight.deployment(it, now)).collect(),
                migrations: history::migrations(fleet, only, limit),
                words: history::words(fleet, only, limit),
            }
        };
        let answer = self.driver.read(read).await.map_err(stopped)?;
        Ok(Response::new(answer))
    }

    pub(super) async fn application(
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

    pub(super) async fn wanted(
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

    /// A version to go back to: as it was published, or else as it was deployed here before, for going back
    /// needs no artifact store.
    async fn wanted_back(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        component: Option<&ComponentName>,
        version: Version,
    ) -> Result<Wanted, Status> {
        let (place, what) = (environment.clone(), application.clone());
        let published = self.wanted(place.clone(), what.clone(), component, version.clone());
        let status = match published.await {
            Ok(wanted) => return Ok(wanted),
            Err(status) => status,
        };
        let read = move |fleet: &Fleet| fleet.deployed_before(&place, &what, &version);
        let known = self.driver.read(read).await.map_err(stopped)?;
        known.ok_or(status)
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

/// Who asks, and why.
///
/// # Errors
/// The reason is longer than what the audit log holds.
pub(super) fn by_whom(name: &OperatorName, reason: &str) -> Result<By, Status> {
    if reason.len() > MAX_TEXT {
        return Err(Status::invalid_argument(format!(
            "the reason has {} bytes, and {MAX_TEXT} are the most: say it shorter, and where more is written",
            reason.len()
        )));
    }
    Ok(By {
        who: name.to_string(),
        reason: reason.to_owned(),
    })
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
            ..v1::DeployResponse::default()
        },
        Asked::NothingToDo => v1::DeployResponse {
            note: nothing.to_owned(),
            ..v1::DeployResponse::default()
        },
    }
}

/// Whether a watcher would see no difference. What was seen becomes as old as what is seen now.
fn same(now: &v1::DeploymentStatus, seen: &mut v1::DeploymentStatus) -> bool {
    seen.now_ms = now.now_ms;
    now == seen
}

/// Waits until something has changed that a watcher of this deployment is to see: not before it has rested, unless the
/// deployment is over. That is told at once, and to find it out takes no look at the hosts.
async fn news(
    driver: &Driver,
    changes: &mut watch::Receiver<u64>,
    id: DeploymentId,
    rested: Instant,
) -> Result<(), Stopped> {
    let mut changed = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(rested), if changed => return Ok(()),
            more = changes.changed() => more.map_err(|_| Stopped)?,
        }
        changed = true;
        let over = move |fleet: &Fleet| {
            let deployment = fleet.deployments.get(&id);
            deployment.is_none_or(|it| it.ended.is_some())
        };
        if Instant::now() >= rested || driver.read(over).await? {
            return Ok(());
        }
    }
}
