//! `tamer deploy`

use super::{Context, follow};
use crate::args::Deploy;
use crate::client::Session;
use crate::error::Result;
use crate::exit::Exit;
use tamer_proto::v1::{DeployRequest, DeployResponse};

pub(super) async fn run(at: &Context<'_>, args: Deploy) -> Result<Exit> {
    let session = at.session().await?;
    let request = DeployRequest {
        environment: args.environment.to_string(),
        application: args.application.map(String::from).unwrap_or_default(),
        component: args.what.component.map(String::from).unwrap_or_default(),
        version: args.what.version.to_string(),
        reason: args.reason,
        wait: args.wait,
        no_way_back: args.no_way_back,
        override_freeze: args.override_freeze,
    };
    if args.wait {
        at.printer
            .note("Waits for what is in the way, if anything is.");
    }
    let answer = session.operators().deploy(request).await?.into_inner();
    let then = Then {
        detach: args.detach,
        patient: args.wait,
    };
    started(at, &session, &answer, then).await
}

/// What is done once it has started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Then {
    /// It is not watched.
    pub(super) detach: bool,
    /// It is watched also while it waits for approval, or for the environment to open.
    pub(super) patient: bool,
}

/// A deployment was started, or there was nothing to do: watches it, or says how to.
pub(super) async fn started(
    at: &Context<'_>,
    session: &Session,
    answer: &DeployResponse,
    then: Then,
) -> Result<Exit> {
    if answer.deployment == 0 {
        at.printer.json(answer);
        at.printer.line(match answer.note.as_str() {
            "" => "There is nothing to do.",
            note => note,
        });
        return Ok(Exit::Done);
    }
    if !answer.note.is_empty() {
        at.printer.note(&answer.note);
    }
    if then.detach {
        at.printer.json(answer);
        at.printer
            .line(format!("deployment {} is under way", answer.deployment));
        at.printer
            .next(format!("tamer watch {}", answer.deployment));
        return Ok(Exit::Done);
    }
    follow::run(session, answer.deployment, then.patient, at.printer).await
}
