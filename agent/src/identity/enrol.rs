//! Joining: a token is traded for a certificate, and what the host trusts from then on is fixed.

use super::{Enrolled, Home, IdentityError, Keys, signing_request, usable};
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_core::id::HostName;
use tamer_kit::address::Address;
use tamer_kit::channel::ChannelError;
use tamer_kit::hash::sha256;
use tamer_kit::token::{JoinToken, TokenKind};
use tamer_kit::{channel, durable, tls};
use tamer_proto::v1::enrolment_client::EnrolmentClient;
use tamer_proto::v1::{JoinRequest, JoinResponse};

/// How long the controller may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to join with.
#[derive(Debug)]
pub struct Join<'a> {
    /// The token, which names the controller and pins its CA and the team's root.
    pub token: &'a JoinToken,
    /// Another address for the controller than the token's.
    pub controller: Option<&'a Address>,
    /// The host's name.
    pub name: &'a HostName,
    /// Join again although the host has joined before.
    pub force: bool,
}

/// Joins, and keeps what came of it.
///
/// # Errors
/// [`IdentityError`]. Trying again with the same token is always right: the key is the same.
pub async fn enrol(home: &Home, join: &Join<'_>) -> Result<(Enrolled, Keys), IdentityError> {
    let pin = may_join(home, join)?;
    let key = home.next_key()?;
    let address = join.controller.unwrap_or(&join.token.controller);
    let request = JoinRequest {
        secret: join.token.secret.expose().to_vec(),
        name: join.name.to_string(),
        csr: signing_request(&key)?,
    };
    let answer = ask(address, join.token.ca, request).await?;
    let enrolled = believe(join, pin, address, &answer)?;
    usable(&key, &answer.certificate_pem, &answer.ca_pem)?;
    let facts = serde_json::to_vec_pretty(&enrolled)
        .map_err(|error| IdentityError::Untrusted(error.to_string()))?;
    // The identity comes last: where it is, all else is.
    home.trust(&answer.ca_pem)?;
    durable::replace(&home.facts(), &facts, 0o644)?;
    let identity = home.take(&key, &answer.certificate_pem)?;
    let ca = answer.ca_pem;
    Ok((enrolled, Keys { identity, ca }))
}

/// Whether joining makes sense at all, before the token is used; gives the root to pin.
fn may_join(home: &Home, join: &Join<'_>) -> Result<Digest, IdentityError> {
    let usage = |said: String| Err(IdentityError::Usage(said));
    if join.token.kind == TokenKind::Operator {
        return usage(
            "this token is for a person, not for a server: on your own machine, type `tamer login`"
                .to_owned(),
        );
    }
    let Some(pin) = join.token.trust_root else {
        return usage(
            "this token pins no team root, so the host could trust no release: run `tamer trust init` first, \
             then `tamer host invite` again"
                .to_owned(),
        );
    };
    match home.enrolled()? {
        None => Ok(pin),
        Some(known) if !join.force => usage(format!(
            "this host has joined {} as {} in {} already: `--force` joins again, with a token of \
             `tamer host invite --replace {}`",
            known.controller, known.name, known.environment, known.name
        )),
        Some(known) if known.trust_root != pin => usage(format!(
            "this host trusts another team's root ({}) than the token pins ({}): a server that changes hands \
             starts with an empty state directory, so move the old one aside first",
            known.trust_root.short(),
            pin.short()
        )),
        Some(_) => Ok(pin),
    }
}

async fn ask(
    address: &Address,
    ca: Digest,
    request: JoinRequest,
) -> Result<JoinResponse, IdentityError> {
    let channel = channel::connect(address, tls::pinned_client_config(ca)?).await;
    let channel = channel.map_err(|source| match source {
        ChannelError::OtherCa { .. } => IdentityError::OtherCa {
            address: address.to_string(),
            source,
        },
        source => source.into(),
    })?;
    let mut client = EnrolmentClient::new(channel);
    let answer = tokio::time::timeout(PATIENCE, client.join(request)).await;
    match answer {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(IdentityError::Refused(Box::new(status))),
        Err(_) => Err(IdentityError::Refused(Box::new(
            tonic::Status::deadline_exceeded(format!("no answer within {} s", PATIENCE.as_secs())),
        ))),
    }
}

/// Holds the answer against what the token pins.
fn believe(
    join: &Join<'_>,
    pin: Digest,
    address: &Address,
    answer: &JoinResponse,
) -> Result<Enrolled, IdentityError> {
    let untrusted = |said: String| Err(IdentityError::Untrusted(said));
    let authorities = tls::fingerprints(&answer.ca_pem).unwrap_or_default();
    if !authorities.contains(&join.token.ca) {
        return untrusted(format!("{address} sent another CA than the token pins"));
    }
    if sha256(&answer.trust_root) != pin {
        return untrusted(format!(
            "{address} has another team root than the token pins: do not go on before you know why"
        ));
    }
    let name = answer.name.parse();
    let environment = answer.environment.parse();
    let (Ok(name), Ok(environment)) = (name, environment) else {
        return untrusted(format!("{address} sent names that are none"));
    };
    if name != *join.name {
        return untrusted(format!(
            "{address} named this host {name}, not {}",
            join.name
        ));
    }
    Ok(Enrolled {
        name,
        environment,
        controller: address.to_string(),
        trust_root: pin,
    })
}
