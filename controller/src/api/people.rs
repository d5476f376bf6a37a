//! Operators: who they are, and how they are shut out.

use super::deploying::by_whom;
use super::operator::{Answer, OperatorApi};
use super::{caller, operator, parse, parse_option, stopped};
use crate::fleet::Fleet;
use crate::identity::registry::{Denied, NotTaken, Role};
use tamer_core::id::{EnvironmentName, OperatorName};
use tamer_proto::v1;
use tonic::{Request, Response, Status};

impl OperatorApi {
    pub(super) async fn operators(
        &self,
        request: Request<v1::ListOperatorsRequest>,
    ) -> Answer<v1::ListOperatorsResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let list = |fleet: &Fleet| {
            let all = fleet.registry.operators.iter();
            let row = all.map(|(name, it)| v1::OperatorRow {
                name: name.to_string(),
                roles: it.roles.shortly(),
                joined_ms: it.joined_at.0,
                key_since_ms: it.keys.since.0,
                removed: it.revoked,
            });
            row.collect()
        };
        let operators = self.driver.read(list).await.map_err(stopped)?;
        Ok(Response::new(v1::ListOperatorsResponse { operators }))
    }

    pub(super) async fn remove_person(
        &self,
        request: Request<v1::RemoveOperatorRequest>,
    ) -> Answer<v1::RemoveOperatorResponse> {
        let asked = request.get_ref();
        let place: Option<EnvironmentName> = parse_option(&asked.environment)?;
        if place.is_some() && asked.everywhere {
            let said = "one role at a time: --environment NAME or --everywhere";
            return Err(Status::invalid_argument(said));
        }
        let by = operator(&self.driver, &caller(&request), place.clone(), Role::Admin).await?;
        let request = request.into_inner();
        let name: OperatorName = parse(&request.name)?;
        let reason = by_whom(&by, &request.reason)?.reason;
        if place.is_some() || request.everywhere {
            let take = move |fleet: &mut Fleet, now| {
                fleet.take_role(&name, place.as_ref(), &by, &reason, now)
            };
            let change = self.driver.change(take);
            change
                .await
                .map_err(stopped)?
                .map_err(|error| match error {
                    NotTaken::Unknown(_) => Status::not_found(error.to_string()),
                    _ => Status::failed_precondition(error.to_string()),
                })?;
            return Ok(Response::new(v1::RemoveOperatorResponse {}));
        }
        let change = self
            .driver
            .change(move |fleet, now| fleet.remove_operator(&name, &by, &reason, now));
        change
            .await
            .map_err(stopped)?
            .map_err(|error| match error {
                Denied::LastAdmin(_) => Status::failed_precondition(error.to_string()),
                _ => Status::not_found(error.to_string()),
            })?;
        Ok(Response::new(v1::RemoveOperatorResponse {}))
    }
}
