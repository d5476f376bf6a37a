//! `tamer deploy`

use super::{Context, follow, plan};
use crate::args::{Deploy, Plan};
use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use std::io::IsTerminal as _;
use tamer_proto::v1::{DeployRequest, DeployResponse};

pub(super) async fn run(at: &Context<'_>, args: Deploy) -> Result<Exit> {
    if args.dry_run {
        let (environment, what) = (args.environment, args.what);
        let application = args.application;
        let plan = Plan {
            environment,
            what,
            application,
        };
        return plan::run(at, plan).await;
    }
    let session = at.session().await?;
    let mut request = DeployRequest {
        environment: args.environment.to_string(),
        application: args.application.map(String::from).unwrap_or_default(),
        component: args.what.component.map(String::from).unwrap_or_default(),
        version: args.what.version.to_string(),
        reason: args.why.reason,
        wait: args.wait,
        no_way_back: args.no_way_back,
        override_freeze: args.override_freeze,
        confirmed: args.yes,
    };
    if args.wait {
        at.printer
            .note("Waits for what is in the way, if anything is.");
    }
    let mut answer = session
        .operators()
        .deploy(request.clone())
        .await?
        .into_inner();
    if answer.confirm {
        confirm(at, &session, &request).await?;
        request.confirmed = true;
        answer = session.operators().deploy(request).await?.into_inner();
    }
    let then = Then {
        detach: args.detach,
        patient: args.wait,
    };
    started(at, &session, &answer, then).await
}

/// Shows what it would do, and asks.
///
/// # Errors
/// Nobody is there to be asked, or they do not want it.
async fn confirm(at: &Context<'_>, session: &Session, request: &DeployRequest) -> Result<()> {
    let environment = &request.environment;
    if !std::io::stdin().is_terminal() {
        let message =
            format!("{environment} wants a deployment confirmed, and nobody is here to be asked");
        return Err(Error::usage(message)
            .next(format!("tamer plan {environment} {}", request.version))
            .next("add --yes"));
    }
    let plan = session
        .operators()
        .plan(request.clone())
        .await?
        .into_inner();
    at.printer
        .lines(crate::views::plan::render(&plan, environment));
    let question = format!("Deploy this to {environment}? [y/N] ");
    let said =
        tamer_kit::terminal::read(&question).doing(Exit::Usage, || "cannot ask".to_owned())?;
    if matches!(said.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Error::new(Exit::Refused, "not confirmed: nothing was done"))
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
