//! `tamer releases`

use super::Context;
use crate::args::Releases;
use crate::error::Result;
use crate::exit::Exit;
use crate::views;
use tamer_proto::v1::ListReleasesRequest;

pub(super) async fn run(at: &Context<'_>, args: &Releases) -> Result<Exit> {
    let session = at.session().await?;
    let application = args.application.as_ref();
    let request = ListReleasesRequest {
        application: application.map(ToString::to_string).unwrap_or_default(),
    };
    let answer = session
        .operators()
        .list_releases(request)
        .await?
        .into_inner();
    at.printer.json(&answer);
    if answer.versions.is_empty() {
        at.printer.line("Nothing is published yet.");
        at.printer.next("tamer publish 1.0.0");
    } else {
        at.printer.lines(views::releases::list(&answer.versions));
    }
    Ok(Exit::Done)
}
