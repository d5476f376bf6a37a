//! What becomes of releases that were changed by hand.

use super::deploying::by_whom;
use super::operator::{Answer, OperatorApi};
use super::{caller, operator, parse, refused, stopped};
use crate::identity::registry::Role;
use tamer_core::digest::Digest;
use tamer_core::drift::Way;
use tamer_core::id::{HostName, TargetKey};
use tamer_proto::v1;
use tonic::{Request, Response, Status};

impl OperatorApi {
    pub(super) async fn say_of_drift(
        &self,
        request: Request<v1::SettleDriftRequest>,
    ) -> Answer<v1::SettleDriftResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let host: HostName = parse(&request.host)?;
        let of = host.clone();
        let environment = self
            .driver
            .read(move |fleet| {
                let host = fleet.registry.hosts.get(&of).filter(|host| !host.revoked);
                host.map(|host| host.environment.clone())
            })
            .await
            .map_err(stopped)?
            .ok_or_else(|| {
                Status::not_found(format!("there is no host {host}: `tamer hosts` lists them"))
            })?;
        let asked = Some(environment.clone());
        let by = operator(&self.driver, &caller, asked, Role::Deployer).await?;
        let key = TargetKey {
            environment,
            application: parse(&request.application)?,
            component: parse(&request.component)?,
            pool: parse(&request.pool)?,
        };
        let drift: Digest = parse(&request.drift)?;
        let way = match request.way.as_str() {
            "adopt" if request.reason.trim().is_empty() => {
                return Err(Status::invalid_argument(
                    "whoever adopts a change says why: add --reason TEXT",
                ));
            }
            "adopt" => Way::Adopt,
            "repair" => Way::Repair,
            other => {
                let given: String = other.chars().take(80).collect();
                let said = format!("`{given}` is no way to settle a drift: adopt, or repair");
                return Err(Status::invalid_argument(said));
            }
        };
        let by = by_whom(&by, &request.reason)?;
        let change = self
            .driver
            .change(move |fleet, now| fleet.settle_drift(&host, &key, &drift, way, &by, now));
        change
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(v1::SettleDriftResponse {}))
    }
}
