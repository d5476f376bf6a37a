//! `tamer operator list`, `tamer operator remove`

use super::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::views;
use tamer_core::id::OperatorName;
use tamer_proto::v1::{ListOperatorsRequest, RemoveOperatorRequest};

pub(super) async fn list(at: &Context<'_>) -> Result<Exit> {
    let session = at.session().await?;
    let mut operators = session.operators();
    let answer = operators.list_operators(ListOperatorsRequest {}).await?;
    let answer = answer.into_inner();
    at.printer.json(&answer);
    at.printer.lines(views::operators::list(&answer.operators));
    Ok(Exit::Done)
}

pub(super) async fn remove(at: &Context<'_>, name: &OperatorName, reason: String) -> Result<Exit> {
    let session = at.session().await?;
    let request = RemoveOperatorRequest {
        name: name.to_string(),
        reason,
    };
    let answer = session.operators().remove_operator(request).await?;
    at.printer.json(&answer.into_inner());
    at.printer.line(format!(
        "{name} is shut out; deployments that {name} began go on."
    ));
    at.printer.next("tamer operator list");
    Ok(Exit::Done)
}
