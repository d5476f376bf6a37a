//! `tamer ca …`

use super::Context;
use crate::args::CaCommand;
use crate::error::Result;
use crate::exit::Exit;
use crate::views;
use tamer_proto::v1::{FinishCaRequest, GetCaRequest, RotateCaRequest};

pub(super) async fn run(at: &Context<'_>, command: CaCommand) -> Result<Exit> {
    let session = at.session().await?;
    let mut operators = session.operators();
    let answer = match command {
        CaCommand::Status => operators.get_ca(GetCaRequest {}).await?,
        CaCommand::Rotate { why } => {
            let request = RotateCaRequest { reason: why.reason };
            operators.rotate_ca(request).await?
        }
        CaCommand::Finish { lock_out, why } => {
            let request = FinishCaRequest {
                lock_out,
                reason: why.reason,
            };
            operators.finish_ca(request).await?
        }
    };
    let status = answer.into_inner();
    at.printer.json(&status);
    at.printer.lines(views::ca::status(&status));
    if let Some(next) = views::ca::next(&status) {
        at.printer.next(next);
    }
    Ok(Exit::Done)
}
