//! `tamer freeze`, `tamer unfreeze`, `tamer lock`, `tamer unlock`

use super::Context;
use crate::args::{Freeze, Lock, Unfreeze, Unlock};
use crate::error::{Error, Result};
use crate::exit::Exit;
use tamer_core::calendar::{Border, Zone};
use tamer_core::moment::{Moment, Span};
use tamer_kit::clock;
use tamer_proto::v1::{CloseRequest, ReopenRequest};

pub(super) async fn freeze(at: &Context<'_>, args: Freeze) -> Result<Exit> {
    let until = until(&args.until, &args.zone, clock::now())?;
    let request = CloseRequest {
        kind: "freeze".to_owned(),
        name: args.environment.to_string(),
        until_ms: until.0,
        reason: args.reason,
        ..CloseRequest::default()
    };
    let shown = args.zone.show(until);
    close(at, request, &format!("is frozen until {shown}"), "unfreeze").await
}

pub(super) async fn lock(at: &Context<'_>, args: Lock) -> Result<Exit> {
    let request = CloseRequest {
        kind: "lock".to_owned(),
        name: args.name,
        application: args.application,
        reason: args.reason,
        ..CloseRequest::default()
    };
    close(at, request, "is locked", "unlock").await
}

async fn close(at: &Context<'_>, request: CloseRequest, how: &str, opens: &str) -> Result<Exit> {
    let session = at.session().await?;
    let answer = session.operators().close(request).await?.into_inner();
    at.printer.json(&answer);
    let closed = &answer.closed;
    at.printer.line(format!(
        "{closed} {how}: no host is moved forward; going back is not stopped"
    ));
    at.printer.next(format!("tamer {opens} {closed}"));
    Ok(Exit::Done)
}

pub(super) async fn unfreeze(at: &Context<'_>, args: Unfreeze) -> Result<Exit> {
    let request = ReopenRequest {
        kind: "freeze".to_owned(),
        name: args.environment.to_string(),
        reason: args.why.reason,
        ..ReopenRequest::default()
    };
    reopen(at, request, "frozen").await
}

pub(super) async fn unlock(at: &Context<'_>, args: Unlock) -> Result<Exit> {
    let request = ReopenRequest {
        kind: "lock".to_owned(),
        name: args.name,
        application: args.application,
        reason: args.why.reason,
    };
    reopen(at, request, "locked").await
}

async fn reopen(at: &Context<'_>, request: ReopenRequest, how: &str) -> Result<Exit> {
    let session = at.session().await?;
    let answer = session.operators().reopen(request).await?.into_inner();
    at.printer.json(&answer);
    at.printer
        .line(format!("{} is {how} no more", answer.opened));
    at.printer.next("tamer status");
    Ok(Exit::Done)
}

/// A length of time, the last day, or a time of one.
fn until(given: &str, zone: &Zone, now: Moment) -> Result<Moment> {
    if let Ok(span) = given.parse::<Span>() {
        return Ok(now + span);
    }
    let border: Option<Border> = given.parse().ok();
    border.and_then(|border| border.ends(zone)).ok_or_else(|| {
        Error::usage(format!(
            "`{given}` is no end of a freeze: write a length of time like 4h, a last day like 2026-12-24, or \
             '2026-12-24 18:00'"
        ))
        .next("tamer freeze --help")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_ends_after_a_while_or_with_a_day_or_at_a_time() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let now = Moment(1_766_000_000_000);
        let shown = |given: &str| berlin.show(until(given, &berlin, now).unwrap());
        assert_eq!(
            until("4h", &berlin, now).unwrap(),
            now + Span::secs(4 * 3600)
        );
        assert_eq!(shown("2026-12-24"), "Fri 2026-12-25 00:00 Europe/Berlin");
        assert_eq!(
            shown("2026-12-24 18:00"),
            "Thu 2026-12-24 18:00 Europe/Berlin"
        );
        let said = until("noon", &berlin, now).unwrap_err();
        assert_eq!(said.exit, Exit::Usage);
    }
}
