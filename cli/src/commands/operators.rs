//! `tamer operator list`, `tamer operator remove`

use super::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::views;
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

pub(super) async fn remove(at: &Context<'_>, request: RemoveOperatorRequest) -> Result<Exit> {
    let session = at.session().await?;
    let answer = session.operators().remove_operator(request.clone()).await?;
    at.printer.json(&answer.into_inner());
    let name = &request.name;
    at.printer
        .line(match (request.environment.as_str(), request.everywhere) {
            ("", false) => format!("{name} is shut out; deployments that {name} began go on."),
            ("", true) => format!("{name} has no role that holds everywhere any more."),
            (environment, _) => format!("{name} has no role of its own in {environment} any more."),
        });
    at.printer.next("tamer operator list");
    Ok(Exit::Done)
}
