//! `tamer pause`, `tamer resume`, `tamer promote`, `tamer abort`

use super::Context;
use crate::args::Control;
use crate::error::Result;
use crate::exit::Exit;
use tamer_proto::v1::ControlRequest;

/// What is done to a deployment that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Pause,
    Resume,
    Promote,
    Abort,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Abort => "abort",
        }
    }

    /// What is then true, and what to type next.
    fn outcome(self, deployment: u64) -> (String, String) {
        match self {
            Self::Pause => (
                format!("deployment {deployment} pauses: hosts under way finish, no other begins"),
                format!("tamer resume {deployment} · tamer rollback --deployment {deployment}"),
            ),
            Self::Resume => (
                format!("deployment {deployment} goes on"),
                format!("tamer watch {deployment}"),
            ),
            Self::Promote => (
                format!("deployment {deployment} goes on after this wave"),
                format!("tamer watch {deployment}"),
            ),
            Self::Abort => (
                format!("deployment {deployment} ends where it is: hosts that have moved stay"),
                format!("tamer status {deployment}"),
            ),
        }
    }
}

pub(super) async fn run(at: &Context<'_>, args: Control, action: Action) -> Result<Exit> {
    let session = at.session().await?;
    let request = ControlRequest {
        deployment: args.deployment.unwrap_or_default(),
        environment: args.environment.map(String::from).unwrap_or_default(),
        action: action.word().to_owned(),
        reason: args.why.reason,
        with_down: false,
    };
    let answer = session.operators().control(request).await?.into_inner();
    at.printer.json(&answer);
    let (outcome, next) = action.outcome(answer.deployment);
    at.printer.line(outcome);
    at.printer.next(next);
    Ok(Exit::Done)
}
