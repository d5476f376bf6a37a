//! `tamer host invite`, `tamer operator invite`

use super::Context;
use crate::args::{InviteHost, InviteOperator, Role};
use crate::error::Result;
use crate::exit::Exit;
use crate::views::human::date;
use tamer_core::moment::Span;
use tamer_proto::v1::{InviteRequest, InviteResponse};

/// How the two files that a server needs get there.
const BRING: &str = "\
Bring the package of the agent and what installs it to the server:
  scp deploy-scripts/install-agent target/packages/tamer-agent_*.deb root@SERVER:
(deploy-scripts/package makes the package; where `tamer` is a package itself, install-agent is in
/usr/share/tamer/deploy-scripts)";

pub(super) async fn host(at: &Context<'_>, args: &InviteHost) -> Result<Exit> {
    let request = InviteRequest {
        kind: "host".to_owned(),
        environments: vec![args.environment.to_string()],
        labels: args.labels.iter().cloned().collect(),
        valid_ms: millis(args.valid),
        name: args
            .replace
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        role: String::new(),
        replace: args.replace.is_some(),
    };
    let answer = invite(at, request).await?;
    at.printer.note(format!(
        "{BRING}\nThen paste this there, as root, before {}; the token is good for one server:",
        date(answer.expires_ms)
    ));
    at.printer
        .line(format!("./install-agent <<< {}", answer.token));
    at.printer.next("tamer hosts");
    Ok(Exit::Done)
}

pub(super) async fn operator(at: &Context<'_>, args: &InviteOperator) -> Result<Exit> {
    let request = InviteRequest {
        kind: "operator".to_owned(),
        valid_ms: millis(args.valid),
        name: args.name.to_string(),
        role: args.role.map(Role::word).unwrap_or_default().to_owned(),
        environments: args.environments.iter().map(ToString::to_string).collect(),
        ..InviteRequest::default()
    };
    let answer = invite(at, request).await?;
    at.printer.note(format!(
        "For {}, once, before {}:",
        args.name,
        date(answer.expires_ms)
    ));
    at.printer.line(format!("tamer login <<< {}", answer.token));
    Ok(Exit::Done)
}

async fn invite(at: &Context<'_>, request: InviteRequest) -> Result<InviteResponse> {
    let session = at.session().await?;
    let answer = session.operators().invite(request).await?.into_inner();
    at.printer.json(&answer);
    Ok(answer)
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}
