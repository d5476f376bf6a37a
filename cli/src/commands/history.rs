//! `tamer history`

use super::Context;
use crate::args::History;
use crate::error::Result;
use crate::exit::Exit;
use crate::views;
use tamer_proto::v1::HistoryRequest;

pub(super) async fn run(at: &Context<'_>, args: &History) -> Result<Exit> {
    let session = at.session().await?;
    let environment = args.environment.as_ref();
    let request = HistoryRequest {
        environment: environment.map(ToString::to_string).unwrap_or_default(),
        limit: args.limit,
    };
    let answer = session.operators().history(request).await?.into_inner();
    at.printer.json(&answer);
    if answer.deployments.is_empty() {
        at.printer.line("Nothing was deployed yet.");
        at.printer.next("tamer releases");
    } else {
        at.printer
            .lines(views::releases::history(&answer.deployments));
    }
    if !answer.migrations.is_empty() {
        at.printer.line("");
        let lines = views::releases::migrations(&answer.migrations);
        at.printer.lines(lines);
    }
    if !answer.words.is_empty() {
        at.printer.line("");
        at.printer.lines(views::releases::words(&answer.words));
    }
    Ok(Exit::Done)
}
