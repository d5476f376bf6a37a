//! A connection to the controller: gRPC and plain HTTP on one port, under one certificate.

use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::home::{Home, Login};
use crate::identity;
use crate::printer::Printer;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tamer_core::digest::Digest;
use tamer_kit::address::Address;
use tamer_kit::channel::ChannelError;
use tamer_kit::hash::sha256;
use tamer_kit::{channel, clock, tls};
use tamer_proto::v1::enrolment_client::EnrolmentClient;
use tamer_proto::v1::operators_client::OperatorsClient;
use tamer_proto::v1::{GetTrustRequest, GetTrustResponse, JoinRequest, JoinResponse, RenewRequest};
use tamer_proto::{AUTHORITIES_HEADER, MAX_MESSAGE};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;

/// What an engineer has at the controller.
#[derive(Debug)]
pub struct Session {
    /// Who, where, and what is pinned.
    pub login: Login,
    channel: Channel,
    http: reqwest::Client,
}

impl Session {
    /// Opens the current controller, or the one named, and renews the certificate when it is past
    /// half its life, or when the controller's CAs have changed.
    ///
    /// # Errors
    /// Not logged in, or the controller cannot be reached.
    pub async fn open(
        home: &Home,
        controller: Option<&Address>,
        printer: &Printer,
    ) -> Result<Self> {
        let mut login = home.login(controller)?;
        let mut session = Self::connect(login.clone())?;
        let due = identity::is_due(identity::validity(&login.identity)?, clock::now());
        if due || login.renewal_due().exists() {
            match session.renewed().await {
                Ok((identity, ca)) => {
                    login.renew(identity, ca)?;
                    session = Self::connect(login)?;
                }
                // A certificate that is still good is no reason to stop.
                Err(error) if !is_over(&login.identity)? => {
                    tracing::warn!(%error, "the certificate was not renewed");
                    printer.note("note: your certificate could not be renewed yet");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(session)
    }

    fn connect(login: Login) -> Result<Self> {
        let what = || "cannot use your certificate: log in again".to_owned();
        let identity = (&*login.identity, &*login.identity);
        let tls = tls::client_config(&login.ca, Some(identity)).doing(Exit::Usage, what)?;
        Ok(Self {
            channel: channel::connect_lazy(&login.address, tls.clone()).doing(Exit::Usage, what)?,
            http: tamer_kit::http::client(tls).doing(Exit::Internal, what)?,
            login,
        })
    }

    /// The requests of operators.
    pub fn operators(&self) -> OperatorsClient<Attentive> {
        let attentive = Attentive {
            channel: self.channel.clone(),
            known: sha256(self.login.ca.as_bytes()).to_string().into(),
            due: self.login.renewal_due().into(),
        };
        OperatorsClient::new(attentive)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// Plain HTTP with the same certificate.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The address of a path at the controller: `blobs/…`, `trust/…`.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.login.address)
    }

    /// What the controller has of the team's root and of repositories, by its own word.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn published(&self) -> Result<GetTrustResponse> {
        let answer = self.operators().get_trust(GetTrustRequest {}).await?;
        Ok(answer.into_inner())
    }

    /// The pinned team root. Pins what the controller names, where nothing was pinned at the login.
    ///
    /// # Errors
    /// There is none yet, or another one is pinned.
    pub async fn trust_root(&mut self, printer: &Printer) -> Result<Digest> {
        if let Some(pinned) = self.login.known.trust_root {
            return Ok(pinned);
        }
        let trust = self.published().await?;
        if trust.team_root.is_empty() {
            return Err(Error::usage("there is no team root yet").next("tamer trust init"));
        }
        let root: Digest = trust.team_root.parse().doing(Exit::Internal, || {
            "the controller names a damaged team root".to_owned()
        })?;
        printer.warn(format!(
            "the team root was not known here yet: pinned {root}, as the controller names it; compare it with `tamer trust status` where `tamer trust init` was run"
        ));
        self.login.pin(root)?;
        Ok(root)
    }

    /// A certificate, with its key, and the CAs to trust.
    async fn renewed(&self) -> Result<(String, String)> {
        let csr = identity::signing_request(&self.login.identity)?;
        let answer = EnrolmentClient::new(self.channel.clone())
            .renew(RenewRequest { csr })
            .await?
            .into_inner();
        let key = identity::key_of(&self.login.identity)?;
        let identity = identity::join(&key, &answer.certificate_pem);
        Ok((identity, answer.ca_pem))
    }
}

/// A channel that notes, beside the login, when an answer says that the controller's CAs have changed.
#[derive(Debug, Clone)]
pub struct Attentive {
    channel: Channel,
    known: Arc<str>,
    due: Arc<Path>,
}

impl Service<http::Request<Body>> for Attentive {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future =
        Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<std::result::Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.channel.call(request);
        let (known, due) = (Arc::clone(&self.known), Arc::clone(&self.due));
        Box::pin(async move {
            let answer = answer.await?;
            let told = answer.headers().get(AUTHORITIES_HEADER);
            if told.is_some_and(|told| told.as_bytes() != known.as_bytes())
                && let Err(error) = std::fs::write(&*due, b"")
            {
                tracing::debug!(%error, "cannot note that the certificate must be renewed");
            }
            Ok(answer)
        })
    }
}

fn is_over(identity: &str) -> Result<bool> {
    Ok(identity::validity(identity)?.1 <= clock::now())
}

/// The first contact: trusts the CA with this fingerprint, and nothing else.
///
/// # Errors
/// The controller cannot be reached, is another one, or refuses the token.
pub async fn join(address: &Address, ca: Digest, request: JoinRequest) -> Result<JoinResponse> {
    let what = || format!("cannot connect to {address}");
    let tls = tls::pinned_client_config(ca).doing(Exit::Internal, what)?;
    let channel = channel::connect(address, tls)
        .await
        .map_err(|error| match error {
            ChannelError::Connect { source, .. } => Error::away(source).at(address),
            ChannelError::OtherCa { .. } => Error::new(
                Exit::Refused,
                format!("{address} shows a certificate of another CA than the token pins"),
            )
            .next("if the controller's CA was rotated since: ask an admin for a new token, `tamer operator invite NAME`")
            .next("if it was not: find out who answers there"),
            error => Error::caused(Exit::Usage, what(), error),
        })?;
    let answer = EnrolmentClient::new(channel)
        .join(request)
        .await?
        .into_inner();
    // The CA comes along in full; it must be the one that the token pins.
    match tls::fingerprints(&answer.ca_pem) {
        Ok(all) if all.contains(&ca) => Ok(answer),
        _ => Err(Error::new(
            Exit::Refused,
            format!("{address} sent another CA than the token pins"),
        )),
    }
}
