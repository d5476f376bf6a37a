//! Who asks for what, and from where: what the audit log notes beside the deed itself.
//!
//! A request that may change something is wrapped in [`Acting::watch`], a line in `api/operator.rs`. What the
//! request then does in the driver is noted with its caller's address, role and request by itself, and if it is
//! refused, that is noted too. So a new action needs no more than [`Action`] for its message, and that line.

use crate::audit::{Request as Asked, cut};
use crate::driver::{Driver, Stopped};
use crate::identity::peer::{Caller, Identity};
use crate::identity::registry::Role;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use tamer_core::moment::{Moment, Span};
use tamer_kit::hash::sha256;
use tamer_proto::v1;
use tonic::{Code, Request, Status};

tokio::task_local! {
    static ACTING: Acting;
}

/// How many refusals of one caller are written down within [`WINDOW`]. Of those beyond, their number stands in the
/// next one.
pub const REFUSALS: u64 = 20;

/// See [`REFUSALS`].
pub const WINDOW: Span = Span::secs(600);

/// The name of everybody who has no certificate: they share one bound.
const STRANGER: &str = "a stranger";

/// Where a request comes from; the server puts it beside every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(pub IpAddr);

/// A request that may change something: what the audit log calls it.
pub trait Action: prost::Message {
    /// The name of the call.
    const CALL: &'static str;
    /// What is done, in the audit log's words: `deploy`.
    fn action(&self) -> String;
    /// To what. What stands in it is as it came, and trusted with nothing.
    fn object(&self) -> String;
}

/// A request under way.
#[derive(Debug, Clone)]
pub struct Acting {
    caller: Caller,
    /// Its address.
    pub source: Option<IpAddr>,
    /// What was asked.
    pub request: Asked,
    action: String,
    object: String,
    role: Arc<OnceLock<Role>>,
}

/// How many refusals of a caller were written down lately.
#[derive(Debug, Clone, Default)]
pub struct Refusals {
    since: Moment,
    written: u64,
    unwritten: u64,
}

// === impl Acting ===

impl Acting {
    /// What this request is about to do.
    pub fn of<Q: Action>(request: &Request<Q>) -> Self {
        let asked = request.get_ref();
        let caller = request.extensions().get::<Caller>().cloned();
        Self {
            caller: caller.unwrap_or(Caller::Stranger),
            source: request.extensions().get::<Source>().map(|it| it.0),
            request: Asked {
                call: Q::CALL.to_owned(),
                digest: sha256(&asked.encode_to_vec()),
            },
            action: cut(asked.action(), 64),
            object: asked.object(),
            role: Arc::default(),
        }
    }

    /// The role in which it is done, once that is known.
    pub fn role(&self) -> Option<String> {
        self.role.get().map(Role::to_string)
    }

    /// Does the work. A refusal is written down before it is answered; that of a stranger only where `strangers`.
    ///
    /// # Errors
    /// What the work ends with, or the controller is stopping.
    pub async fn watch<T>(
        self,
        driver: &Driver,
        strangers: bool,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        // What the work waits for is large, and lies in one place only.
        let result = Box::pin(ACTING.scope(self.clone(), work)).await;
        let Err(status) = &result else { return result };
        let who = match &self.caller {
            Caller::Stranger if !strangers => return result,
            Caller::Stranger => STRANGER.to_owned(),
            Caller::Peer(peer) => match &peer.identity {
                Identity::Operator { name } => name.to_string(),
                host @ Identity::Host { .. } => host.to_string(),
            },
        };
        // Whether something that the controller broke off has done anything is not known.
        let failed = matches!(status.code(), Code::Internal | Code::Unknown);
        if status.code() == Code::Unavailable {
            return result;
        }
        let (why, action, object) = (
            status.message().to_owned(),
            self.action.clone(),
            self.object.clone(),
        );
        let noted = ACTING
            .scope(
                self,
                driver.change(move |fleet, now| {
                    fleet.note_refused(now, &who, &action, object, (why, failed));
                }),
            )
            .await;
        noted.map_err(|error: Stopped| Status::unavailable(error.to_string()))?;
        result
    }
}

/// The request under way, where there is one: the driver takes it along.
pub(crate) fn current() -> Option<Acting> {
    ACTING.try_with(Clone::clone).ok()
}

/// Notes in which role the request under way is done.
pub(crate) fn in_role(role: Option<Role>) {
    if let Some(role) = role {
        // Nothing is under way for what only looks; the first role that was asked for counts.
        let _ = ACTING.try_with(|acting| acting.role.set(role));
    }
}

// === impl Refusals ===

impl Refusals {
    /// Whether one more is written down, and how many before it were not.
    pub fn take(&mut self, now: Moment) -> Option<u64> {
        if now.since(self.since) >= WINDOW.0 {
            (self.since, self.written) = (now, 0);
        }
        if self.written >= REFUSALS {
            self.unwritten += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.unwritten))
    }
}

// === impl Action ===

/// `action!(message, call, |it| action, object)`
macro_rules! action {
    ($message:ident, $call:literal, |$it:ident| $action:expr, $object:expr) => {
        impl Action for v1::$message {
            const CALL: &'static str = $call;
            fn action(&self) -> String {
                let $it = self;
                let _ = $it;
                $action.to_string()
            }
            fn object(&self) -> String {
                let $it = self;
                let _ = $it;
                $object
            }
        }
    };
}

/// `production shop/web@1.4.2`, of that what was said.
fn placed(environment: &str, application: &str, component: &str, version: &str) -> String {
    let mut object = environment.to_owned();
    for (before, part) in [(" ", application), ("/", component), ("@", version)] {
        if !part.is_empty() {
            object += before;
            object += part;
        }
    }
    object
}

action!(DeployRequest, "Deploy", |it| "deploy", {
    placed(&it.environment, &it.application, &it.component, &it.version)
});
action!(RollbackRequest, "Rollback", |it| "rollback", {
    placed(&it.environment, &it.application, &it.component, &it.version)
});
action!(
    ControlRequest,
    "Control",
    |it| it.action,
    match it.deployment {
        0 => it.environment.clone(),
        number => format!("deployment {number}"),
    }
);
action!(
    ApproveRequest,
    "Approve",
    |it| "approve",
    format!("deployment {}", it.deployment)
);
action!(CloseRequest, "Close", |it| it.kind, it.name.clone());
action!(
    ReopenRequest,
    "Reopen",
    |it| format!("un{}", it.kind),
    it.name.clone()
);
action!(InviteRequest, "Invite", |it| "invite", {
    match it.kind.as_str() {
        "host" => format!("a host of {}", it.environments.join(", ")),
        _ => format!("operator {}", it.name),
    }
});
action!(
    RemoveHostRequest,
    "RemoveHost",
    |it| "host.remove",
    it.name.clone()
);
action!(
    TakeBackHostRequest,
    "TakeBackHost",
    |it| "host.take-back",
    it.name.clone()
);
action!(
    RemoveOperatorRequest,
    "RemoveOperator",
    |it| match (it.environment.as_str(), it.everywhere) {
        ("", false) => "operator.remove",
        _ => "operator.role.remove",
    },
    match (it.environment.as_str(), it.everywhere) {
        ("", false) => it.name.clone(),
        ("", true) => format!("{} everywhere", it.name),
        (environment, _) => format!("{} in {environment}", it.name),
    }
);
action!(RotateCaRequest, "RotateCa", |it| "ca.rotate", String::new());
action!(FinishCaRequest, "FinishCa", |it| "ca.finish", String::new());
action!(
    SettleDriftRequest,
    "SettleDrift",
    |it| format!("drift.{}", it.way),
    format!("{} {}/{}", it.host, it.application, it.component)
);
action!(
    SettleSchemaRequest,
    "SettleSchema",
    |it| "schema.settle",
    format!(
        "{} {} {} at {}",
        it.environment, it.application, it.schema, it.version
    )
);
action!(
    RegisterTeamRootRequest,
    "RegisterTeamRoot",
    |it| "trust.root",
    "team".to_owned()
);
action!(
    PublishRootRequest,
    "PublishRoot",
    |it| "trust.root",
    it.repository.clone()
);
action!(
    PublishTargetsRequest,
    "PublishTargets",
    |it| "publish",
    format!("{} after version {}", it.repository, it.expected)
);
action!(
    AttachEvidenceRequest,
    "AttachEvidence",
    |it| "evidence",
    it.manifest.clone()
);
action!(
    JoinRequest,
    "Join",
    |it| "join",
    if it.name.is_empty() {
        "an operator".to_owned()
    } else {
        format!("host {}", it.name)
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_beyond_the_bound_are_counted_and_not_written() {
        let mut refusals = Refusals::default();
        let start = Moment(1 << 40);
        let written = (0..REFUSALS + 7).filter(|_| refusals.take(start).is_some());
        assert_eq!(written.count() as u64, REFUSALS);
        // The next one that is written says how many were not.
        assert_eq!(refusals.take(start + WINDOW), Some(7));
        assert_eq!(refusals.take(start + WINDOW), Some(0));
    }

    #[test]
    fn an_object_says_what_was_said() {
        assert_eq!(placed("staging", "", "", "1.0.0"), "staging@1.0.0");
        let whole = placed("staging", "shop", "web", "1.0.0");
        assert_eq!(whole, "staging shop/web@1.0.0");
    }
}
