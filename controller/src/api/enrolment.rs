//! How hosts and operators get their certificates.

use super::{caller, denied, stopped};
use crate::acting::Acting;
use crate::authority::Authority;
use crate::driver::Driver;
use crate::identity::attempts::Attempts;
use crate::identity::csr::ProvenKey;
use crate::identity::join::JoinError;
use crate::identity::peer::Identity;
use crate::identity::registry::Denied;
use crate::publications::Publications;
use crate::server::doorway::one_address;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use tamer_core::id::HostName;
use tamer_kit::hash::sha256;
use tamer_proto::v1::enrolment_server::Enrolment;
use tamer_proto::v1::{JoinRequest, JoinResponse, RenewRequest, RenewResponse};
use tonic::{Request, Response, Status};

/// The service.
pub struct EnrolmentApi {
    /// The writer.
    pub driver: Driver,
    /// Signs certificates.
    pub authority: Authority,
    /// Where the team's root is.
    pub publications: Publications,
    /// What to count.
    pub metrics: crate::metrics::Metrics,
    /// Who has offered tokens of no use.
    pub attempts: Mutex<Attempts>,
}

#[tonic::async_trait]
impl Enrolment for EnrolmentApi {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let acting = Acting::of(&request);
        let work = self.let_in(acting.source, request.into_inner());
        acting.watch(&self.driver, true, work).await
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let caller = caller(&request);
        if caller.peer().is_none() {
            return Err(denied(Denied::Stranger));
        }
        let key = proven(&request.into_inner().csr)?;
        let fingerprint = key.fingerprint();
        let identity = self
            .driver
            .change(move |fleet, now| fleet.renew(&caller, fingerprint, now))
            .await
            .map_err(stopped)?
            .map_err(denied)?;
        let (certificate_pem, ca_pem) = self.sign(&identity, &key)?;
        Ok(Response::new(RenewResponse {
            certificate_pem,
            ca_pem,
        }))
    }
}

impl EnrolmentApi {
    /// A newcomer with a token.
    async fn let_in(
        &self,
        from: Option<IpAddr>,
        request: JoinRequest,
    ) -> Result<Response<JoinResponse>, Status> {
        let from = from.map(one_address);
        let attempts = || self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = from {
            let may = attempts().may(from, tamer_kit::clock::now());
            may.map_err(|wait| {
                Status::resource_exhausted(format!(
                    "too many tokens of no use came from {from}: try again in {wait}"
                ))
            })?;
        }
        let key = proven(&request.csr)?;
        let secret = sha256(&request.secret);
        let fingerprint = key.fingerprint();
        let name: Option<HostName> = super::parse_option(&request.name)?;
        let joined = self
            .driver
            .change(move |fleet, now| fleet.join(secret, name.as_ref(), fingerprint, now))
            .await
            .map_err(stopped)?
            .map_err(|error| match error {
                JoinError::Token(_) => {
                    if let Some(from) = from {
                        attempts().failed(from, tamer_kit::clock::now());
                    }
                    Status::permission_denied(error.to_string())
                }
                _ => Status::failed_precondition(error.to_string()),
            })?;
        self.metrics.joins.inc();
        let (name, environment) = match &joined.identity {
            Identity::Host {
                name, environment, ..
            } => (name.to_string(), environment.to_string()),
            Identity::Operator { name } => (name.to_string(), String::new()),
        };
        let trust_root = self
            .publications
            .first_team_root()
            .await
            .map_err(|e| super::internal(&e))?;
        let (certificate_pem, ca_pem) = self.sign(&joined.identity, &key)?;
        Ok(Response::new(JoinResponse {
            certificate_pem,
            ca_pem,
            name,
            environment,
            trust_root: trust_root.unwrap_or_default(),
        }))
    }

    /// The certificate, and the CAs to trust.
    fn sign(&self, identity: &Identity, key: &ProvenKey) -> Result<(String, String), Status> {
        self.authority
            .issue(identity, key, tamer_kit::clock::now())
            .map_err(|error| super::internal(&error))
    }
}

fn proven(csr: &str) -> Result<ProvenKey, Status> {
    ProvenKey::from_csr_pem(csr).map_err(|error| Status::invalid_argument(error.to_string()))
}
