//! Freezes and locks.

use super::deploying::by_whom;
use super::operator::{Answer, OperatorApi};
use super::{caller, operator, parse, refused, stopped};
use crate::fleet::Fleet;
use crate::fleet::closing::Closed;
use crate::identity::registry::Role;
use tamer_core::id::{ApplicationName, EnvironmentName};
use tamer_core::moment::Moment;
use tamer_proto::v1;
use tonic::{Request, Response, Status};

impl OperatorApi {
    pub(super) async fn shut(
        &self,
        request: Request<v1::CloseRequest>,
    ) -> Answer<v1::CloseResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let what = self
            .closable(&request.kind, &request.name, request.application)
            .await?;
        let environment = what.environment().cloned();
        let by = operator(&self.driver, &caller, environment, Role::Deployer).await?;
        if request.reason.trim().is_empty() {
            return Err(Status::invalid_argument(
                "whoever closes something says why: add --reason TEXT",
            ));
        }
        let until = match (&what, request.until_ms) {
            (Closed::Freeze(_), 0) => {
                return Err(Status::invalid_argument(
                    "a freeze has an end: add --until TIME, or `tamer lock`",
                ));
            }
            (Closed::Freeze(_), until) => Some(Moment(until)),
            (Closed::Environment(_) | Closed::Application(_), _) => None,
        };
        let by = by_whom(&by, &request.reason)?;
        let said = what.to_string();
        let change = self
            .driver
            .change(move |fleet, now| fleet.close(what, until, &by, now));
        change
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(v1::CloseResponse { closed: said }))
    }

    pub(super) async fn open_again(
        &self,
        request: Request<v1::ReopenRequest>,
    ) -> Answer<v1::ReopenResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let what = self
            .closable(&request.kind, &request.name, request.application)
            .await?;
        let environment = what.environment().cloned();
        let by = operator(&self.driver, &caller, environment, Role::Deployer).await?;
        let by = by_whom(&by, &request.reason)?;
        let said = what.to_string();
        let change = self
            .driver
            .change(move |fleet, now| fleet.reopen(what, &by, now));
        change
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(v1::ReopenResponse { opened: said }))
    }

    /// What is meant: an environment of this name, or else an application.
    async fn closable(&self, kind: &str, name: &str, application: bool) -> Result<Closed, Status> {
        let lock = match kind {
            "freeze" => false,
            "lock" => true,
            other => {
                let given: String = other.chars().take(80).collect();
                return Err(Status::invalid_argument(format!(
                    "`{given}` closes nothing: freeze, or lock"
                )));
            }
        };
        let environment: Option<EnvironmentName> = name.parse().ok().filter(|_| !application);
        let of: Option<ApplicationName> = name.parse().ok().filter(|_| lock);
        let known = move |fleet: &Fleet| {
            let environment = environment.filter(|it| fleet.environments.contains_key(it));
            let of = of.filter(|it| fleet.targets.keys().any(|key| key.application == *it));
            (environment, of)
        };
        match self.driver.read(known).await.map_err(stopped)? {
            (Some(environment), _) if lock => Ok(Closed::Environment(environment)),
            (Some(environment), _) => Ok(Closed::Freeze(environment)),
            (None, Some(application)) => Ok(Closed::Application(application)),
            (None, None) => {
                let name: String = match application {
                    true => parse::<ApplicationName>(name)?.to_string(),
                    false => parse::<EnvironmentName>(name)?.to_string(),
                };
                Err(Status::not_found(format!(
                    "there is no environment{} `{name}`: `tamer env list` shows what there is",
                    if lock { " and no application" } else { "" }
                )))
            }
        }
    }
}
