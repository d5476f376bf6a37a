//! `tamer hosts`, `tamer host remove`

use super::Context;
use crate::args::Hosts;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::views::{hosts, notes};
use tamer_core::id::HostName;
use tamer_kit::clock;
use tamer_proto::v1::{ListHostsRequest, RemoveHostRequest, TakeBackHostRequest};

pub(super) async fn run(at: &Context<'_>, args: &Hosts) -> Result<Exit> {
    let session = at.session().await?;
    let text =
        |name: Option<&dyn std::fmt::Display>| name.map(ToString::to_string).unwrap_or_default();
    let request = ListHostsRequest {
        environment: text(args.environment.as_ref().map(|name| name as _)),
        name: text(args.name.as_ref().map(|name| name as _)),
    };
    let answer = session.operators().list_hosts(request).await?.into_inner();
    if let (Some(name), []) = (&args.name, &answer.hosts[..]) {
        return Err(match answer.notes.first() {
            Some(note) => Error::usage(note.clone()),
            None => Error::usage(format!("there is no host {name}")).next("tamer hosts"),
        });
    }
    at.printer.json(&answer);
    let now = clock::now().0;
    match (&args.name, &answer.hosts[..]) {
        (Some(_), hosts) => at
            .printer
            .lines(hosts.iter().flat_map(|host| hosts::detail(host, now))),
        (None, []) => {
            at.printer.line("No host has joined yet.");
            at.printer
                .next("tamer host invite --environment NAME --label role=web");
        }
        (None, hosts) => at.printer.lines(hosts::list(hosts, now)),
    }
    at.printer.lines(notes::lines(&answer.notes));
    Ok(Exit::Done)
}

pub(super) async fn take_back(at: &Context<'_>, name: &HostName, reason: String) -> Result<Exit> {
    let session = at.session().await?;
    let request = TakeBackHostRequest {
        name: name.to_string(),
        reason,
    };
    let answer = session.operators().take_back_host(request).await?;
    let answer = answer.into_inner();
    at.printer.json(&answer);
    at.printer.line(format!(
        "{name} is believed again when it next connects; this controller is in epoch {} now, above all that it has heard.",
        answer.epoch
    ));
    at.printer.next(format!("tamer hosts {name}"));
    Ok(Exit::Done)
}

pub(super) async fn remove(at: &Context<'_>, name: &HostName, reason: String) -> Result<Exit> {
    let session = at.session().await?;
    let request = RemoveHostRequest {
        name: name.to_string(),
        reason,
    };
    let answer = session.operators().remove_host(request).await?.into_inner();
    at.printer.json(&answer);
    at.printer.line(format!(
        "{name} is out of the fleet; what runs there goes on running until you stop it."
    ));
    Ok(Exit::Done)
}
