//! The controller's CA: how a rotation stands, how it begins and ends.

use super::deploying::by_whom;
use super::operator::{Answer, OperatorApi};
use super::{caller, operator, stopped};
use crate::fleet::Fleet;
use crate::identity::authorities::RotationError;
use crate::identity::peer::Identity;
use crate::identity::registry::{Behind, Role};
use tamer_core::digest::Digest;
use tamer_core::id::OperatorName;
use tamer_proto::v1;
use tonic::{Request, Response, Status};

/// How many are named before only their number is said.
const NAMED: usize = 10;

impl OperatorApi {
    pub(super) async fn ca(&self, request: Request<v1::GetCaRequest>) -> Answer<v1::CaStatus> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        self.ca_status().await.map(Response::new)
    }

    pub(super) async fn rotate(
        &self,
        request: Request<v1::RotateCaRequest>,
    ) -> Answer<v1::CaStatus> {
        let by = operator(&self.driver, &caller(&request), None, Role::Admin).await?;
        let reason = by_whom(&by, &request.into_inner().reason)?.reason;
        let turn = self.authority.turn().await;
        self.not_held().await?;
        let hosts = |fleet: &Fleet| fleet.registry.hosts.len();
        let hosts = self.driver.read(hosts).await.map_err(stopped)?;
        let may = self.authority.may_begin();
        may.map_err(|error| broken(error.into()))?;
        // Noted first: a CA that nobody knows of must not exist.
        let old = self.authority.pinned();
        self.note_ca("ca.rotate", format!("in place of {old}"), by, reason)
            .await?;
        let begun = self.authority.begin(turn, &self.driver, hosts);
        begun.await.map_err(broken)?;
        self.ca_status().await.map(Response::new)
    }

    pub(super) async fn finish(
        &self,
        request: Request<v1::FinishCaRequest>,
    ) -> Answer<v1::CaStatus> {
        let by = operator(&self.driver, &caller(&request), None, Role::Admin).await?;
        let request = request.into_inner();
        let reason = by_whom(&by, &request.reason)?.reason;
        let turn = self.authority.turn().await;
        self.not_held().await?;
        let may = self.authority.may_finish();
        may.map_err(|error| broken(error.into()))?;
        let behind = self.behind().await?;
        if !behind.is_empty() && !request.lock_out {
            return Err(Status::failed_precondition(format!(
                "{} would be locked out, without a certificate of the new CA: {}. They come over by themselves as soon \
                 as they are heard of. To end it without them, and invite them anew: `tamer ca finish --lock-out \
                 --reason TEXT`",
                behind.len(),
                named(&behind)
            )));
        }
        let own = Identity::Operator { name: by.clone() };
        if behind.iter().any(|it| it.identity == own) {
            return Err(Status::failed_precondition(
                "you would lock yourself out, without a certificate of the new CA: type `tamer whoami`, which gets \
                 one, and then this again",
            ));
        }
        if !behind.is_empty() && reason.trim().is_empty() {
            return Err(Status::invalid_argument(
                "whoever locks somebody out says why: add --reason TEXT",
            ));
        }
        let mut object = "the old CA ends".to_owned();
        if !behind.is_empty() {
            object = format!("{object}, and locks out {}", named(&behind));
        }
        self.note_ca("ca.finish", object, by, reason).await?;
        let keys: Vec<Digest> = behind.into_iter().flat_map(|it| it.keys).collect();
        let finished = self.authority.finish(turn, &self.driver, keys);
        finished.await.map_err(broken)?;
        self.ca_status().await.map(Response::new)
    }

    /// While it is held, a controller does not know who is there.
    async fn not_held(&self) -> Result<(), Status> {
        let held = |fleet: &Fleet| fleet.held.clone();
        match self.driver.read(held).await.map_err(stopped)? {
            None => Ok(()),
            Some(why) => Err(Status::failed_precondition(format!(
                "the controller is held ({why}): `tamer-controller unhold` first, on its machine; then its CA"
            ))),
        }
    }

    async fn note_ca(
        &self,
        action: &'static str,
        object: String,
        by: OperatorName,
        reason: String,
    ) -> Result<(), Status> {
        let note = move |fleet: &mut Fleet, now| fleet.note_ca(action, &object, &by, &reason, now);
        self.driver.change(note).await.map_err(stopped)
    }

    async fn behind(&self) -> Result<Vec<Behind>, Status> {
        let behind = |fleet: &Fleet| fleet.registry.behind().collect();
        self.driver.read(behind).await.map_err(stopped)
    }

    async fn ca_status(&self) -> Result<v1::CaStatus, Status> {
        let behind = |fleet: &Fleet| {
            let row = |it: Behind| match it.identity {
                Identity::Host {
                    name, environment, ..
                } => v1::BehindRow {
                    connected: fleet
                        .seats
                        .get(&name)
                        .is_some_and(|seat| seat.session.is_some()),
                    kind: "host".to_owned(),
                    name: name.to_string(),
                    environment: environment.to_string(),
                },
                Identity::Operator { name } => v1::BehindRow {
                    connected: false,
                    kind: "operator".to_owned(),
                    name: name.to_string(),
                    environment: String::new(),
                },
            };
            let all = fleet.registry.behind().map(row).collect();
            let hosts = fleet
                .registry
                .hosts
                .values()
                .filter(|it| !it.revoked)
                .count();
            let people = fleet
                .registry
                .operators
                .values()
                .filter(|it| !it.revoked)
                .count();
            (all, hosts + people)
        };
        let (behind, peers) = self.driver.read(behind).await.map_err(stopped)?;
        Ok(v1::CaStatus {
            phase: self.authority.phase().word().to_owned(),
            authorities: self
                .authority
                .outline()
                .into_iter()
                .map(|it| v1::AuthorityRow {
                    fingerprint: it.fingerprint.to_string(),
                    made_ms: it.valid.0.0,
                    ends_ms: it.valid.1.0,
                    issues: it.issues,
                    shown: it.shown,
                })
                .collect(),
            behind,
            peers: u64::try_from(peers).unwrap_or(u64::MAX),
        })
    }
}

/// `hosts web-01, web-02; operator ben`.
fn named(behind: &[Behind]) -> String {
    let names = behind.iter().take(NAMED).map(|it| match &it.identity {
        Identity::Host { name, .. } => format!("host {name}"),
        Identity::Operator { name } => format!("operator {name}"),
    });
    let mut said = names.collect::<Vec<_>>().join(", ");
    if behind.len() > NAMED {
        said += &format!(" and {} more", behind.len() - NAMED);
    }
    said
}

fn broken(error: anyhow::Error) -> Status {
    match error.downcast_ref::<RotationError>() {
        Some(RotationError::UnderWay(_) | RotationError::NoneUnderWay) => {
            Status::failed_precondition(error.to_string())
        }
        _ => Status::internal(format!("{error:#}")),
    }
}
