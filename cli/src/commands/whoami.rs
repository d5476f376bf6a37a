//! `tamer whoami`

use super::Context;
use crate::error::Result;
use crate::exit::Exit;
use tamer_proto::v1::WhoAmIRequest;

pub(super) async fn run(at: &Context<'_>) -> Result<Exit> {
    let session = at.session().await?;
    let me = session
        .operators()
        .who_am_i(WhoAmIRequest {})
        .await?
        .into_inner();
    at.printer.json(&me);
    at.printer.line(format!(
        "{} ({}) at {}, controller {}",
        me.name, me.role, session.login.address, me.controller_version
    ));
    if me.held {
        at.printer.warn(
            "the controller was restored from a backup and waits until an operator lets it go on",
        );
    }
    Ok(Exit::Done)
}
