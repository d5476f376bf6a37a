//! `tamer plan`

use super::Context;
use crate::args::Plan;
use crate::error::Result;
use crate::exit::Exit;
use crate::views::plan::render;
use tamer_proto::v1::DeployRequest;

pub(super) async fn run(at: &Context<'_>, args: Plan) -> Result<Exit> {
    let session = at.session().await?;
    let environment = args.environment.to_string();
    let what = args.what.to_string();
    let request = DeployRequest {
        environment: environment.clone(),
        application: args.application.map(String::from).unwrap_or_default(),
        component: args.what.component.map(String::from).unwrap_or_default(),
        version: args.what.version.to_string(),
        ..DeployRequest::default()
    };
    let plan = session.operators().plan(request).await?.into_inner();
    at.printer.json(&plan);
    at.printer.lines(render(&plan, &environment));
    if !plan.obstacles.is_empty() {
        return Ok(Exit::Refused);
    }
    at.printer
        .next(format!("tamer deploy {environment} {what}"));
    Ok(Exit::Done)
}
