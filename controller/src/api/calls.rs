//! Which calls there are, and whose certificate each of them takes.
//!
//! What does not stand here is refused, so that a new call is open to nobody until somebody has thought of who may
//! make it. What a *role* may do is asked by each call itself, of the registry.

use crate::authority::Told;
use crate::identity::peer::{Caller, Identity};
use crate::identity::registry::Denied;
use crate::metrics::Metrics;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tamer_proto::AUTHORITIES_HEADER;
use tokio::sync::watch;

/// Where all calls lie; other paths are files, and have a gate of their own.
const CALLS: &str = "/tamer.v1.";

/// Whose certificate a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Nobody's: the caller brings a token.
    Nobodys,
    /// A host's or an operator's, also one that has expired.
    Anybodys,
    /// A host's.
    Hosts,
    /// An operator's.
    Operators,
}

/// Whose certificate the call at this path takes; nothing for one that is open to nobody.
pub fn whose(path: &str) -> Option<Whose> {
    let (service, call) = path.strip_prefix(CALLS)?.split_once('/')?;
    Some(match (service, call) {
        ("Enrolment", "Join") => Whose::Nobodys,
        ("Enrolment", "Renew") => Whose::Anybodys,
        ("Agents", "Connect") => Whose::Hosts,
        (
            "Operators",
            "WhoAmI" | "GetTrust" | "RegisterTeamRoot" | "PublishRoot" | "PublishTargets"
            | "ListReleases" | "ListEnvironments" | "AttachEvidence" | "ListEvidence" | "Invite"
            | "Audit" | "ListHosts" | "ListOperators" | "RemoveHost" | "RemoveOperator"
            | "InspectDrift" | "SettleDrift" | "Deploy" | "Plan" | "Approve" | "GetApproval"
            | "Rollback" | "Control" | "GetStatus" | "Watch" | "History" | "ListSchemas"
            | "SettleSchema" | "Close" | "Reopen" | "GetCa" | "RotateCa" | "FinishCa"
            | "TakeBackHost",
        ) => Whose::Operators,
        _ => return None,
    })
}

/// Refuses calls that are not the caller's to make. Operators hear with every answer whether they know all CAs.
pub async fn gate(
    State((metrics, told)): State<(Metrics, watch::Receiver<Told>)>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if !path.starts_with(CALLS) {
        return next.run(request).await;
    }
    let caller = request.extensions().get::<Caller>();
    let operators = whose(path) == Some(Whose::Operators);
    match admit(path, caller.unwrap_or(&Caller::Stranger)) {
        Ok(()) => {
            let mut answer = next.run(request).await;
            let mark = HeaderValue::from_str(&told.borrow().mark);
            if let Some(mark) = mark.ok().filter(|_| operators) {
                answer.headers_mut().insert(AUTHORITIES_HEADER, mark);
            }
            answer
        }
        Err(denied) => {
            metrics.denied(&denied);
            super::denied(denied).into_http()
        }
    }
}

fn admit(path: &str, caller: &Caller) -> Result<(), Denied> {
    let identity = caller.peer().map(|peer| &peer.identity);
    match (whose(path), identity) {
        (Some(Whose::Nobodys), _) | (Some(Whose::Anybodys), Some(_)) => Ok(()),
        (_, None) => Err(Denied::Stranger),
        (Some(Whose::Hosts), Some(Identity::Host { .. }))
        | (Some(Whose::Operators), Some(Identity::Operator { .. })) => Ok(()),
        (Some(Whose::Hosts), Some(_)) => Err(Denied::NotAHost),
        (Some(_), Some(_)) => Err(Denied::NotAnOperator),
        (None, Some(_)) => Err(Denied::NoSuchCall),
    }
}
