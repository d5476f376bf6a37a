//! `tamer drift`

use super::Context;
use crate::args::Drift;
use crate::client::Session;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::views::drift::{self, Drifted};
use std::collections::BTreeSet;
use std::time::Duration;
use tamer_proto::v1::{HostRow, ListHostsRequest, ListHostsResponse, SettleDriftRequest};
use tokio::time::Instant;

/// How long a repair is waited for; it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(250);

/// What to type next: for what was asked about, and nothing beyond it; of everything, for the `first` host.
fn settling(args: &Drift, first: &str) -> String {
    let mut about = "tamer drift".to_owned();
    if let Some(environment) = &args.environment {
        about += &format!(" {environment}");
    }
    match &args.host {
        Some(host) => about += &format!(" --host {host}"),
        None if args.environment.is_none() => about += &format!(" --host {first}"),
        None => {}
    }
    format!("{about} --repair, or {about} --adopt --reason TEXT")
}

pub(super) async fn run(at: &Context<'_>, args: &Drift) -> Result<Exit> {
    let session = at.session().await?;
    let answer = ask(&session, args).await?;
    let found: Vec<Drifted<'_>> = drift::drifted(&answer.hosts).collect();
    if found.is_empty() {
        at.printer.json(&answer);
        at.printer.lines(unknown(&answer.hosts));
        at.printer.line("Nothing is known to be changed by hand.");
        return Ok(Exit::Done);
    }
    let way = match (args.adopt, args.repair) {
        (true, _) => "adopt",
        (_, true) => "repair",
        _ => {
            show(at, &answer);
            at.printer.next(settling(args, &found[0].host.name));
            return Ok(Exit::Drift);
        }
    };
    for it in &found {
        let request = SettleDriftRequest {
            host: it.host.name.clone(),
            application: it.component.application.clone(),
            component: it.component.component.clone(),
            pool: it.component.pool.clone(),
            drift: it.drift.digest.clone(),
            way: way.to_owned(),
            reason: args.reason.clone().unwrap_or_default(),
        };
        session.operators().settle_drift(request).await?;
        at.printer.note(format!(
            "{} {}/{}: {}",
            it.host.name,
            it.component.application,
            it.component.component,
            if args.adopt {
                "adopted"
            } else {
                "is being put back"
            }
        ));
    }
    if args.adopt {
        let answer = ask(&session, args).await?;
        show(at, &answer);
        at.printer.line(
            "This keeps the next release away no more. It is lost with the next release; one more change is one more drift.",
        );
        return Ok(Exit::Done);
    }
    let asked = found.iter().map(key).collect();
    let answer = repaired(&session, args, &asked).await?;
    if drift::drifted(&answer.hosts).next().is_none() {
        at.printer.json(&answer);
        at.printer.line("What was deployed is there again. Programs that have read the change go on with it until they are started again.");
        return Ok(Exit::Done);
    }
    show(at, &answer);
    at.printer.next("tamer hosts");
    Ok(Exit::Drift)
}

type Key = (String, String, String, String, String);

fn key(it: &Drifted<'_>) -> Key {
    (
        it.host.name.clone(),
        it.component.application.clone(),
        it.component.component.clone(),
        it.component.pool.clone(),
        it.drift.digest.clone(),
    )
}

async fn ask(session: &Session, args: &Drift) -> Result<ListHostsResponse> {
    let text =
        |name: Option<&dyn std::fmt::Display>| name.map(ToString::to_string).unwrap_or_default();
    let request = ListHostsRequest {
        environment: text(args.environment.as_ref().map(|it| it as _)),
        name: text(args.host.as_ref().map(|it| it as _)),
    };
    let answer = session.operators().list_hosts(request).await?.into_inner();
    match (&args.host, answer.hosts.is_empty()) {
        (Some(host), true) => {
            Err(Error::usage(format!("there is no host {host}")).next("tamer hosts"))
        }
        _ => Ok(answer),
    }
}

/// Waits until nothing of this is being put back any more.
async fn repaired(
    session: &Session,
    args: &Drift,
    asked: &BTreeSet<Key>,
) -> Result<ListHostsResponse> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask(session, args).await?;
        let waits = drift::drifted(&answer.hosts)
            .any(|it| asked.contains(&key(&it)) && it.component.repair.is_some());
        if !waits || Instant::now() >= end {
            return Ok(answer);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn show(at: &Context<'_>, answer: &ListHostsResponse) {
    at.printer.json(answer);
    at.printer.lines(unknown(&answer.hosts));
    for it in drift::drifted(&answer.hosts) {
        at.printer.lines(drift::lines(&it));
    }
}

/// Hosts of which nothing is known yet.
fn unknown(hosts: &[HostRow]) -> Vec<String> {
    let silent = hosts.iter().filter(|host| {
        let unseen = |it: &tamer_proto::v1::HostComponent| !it.running.is_empty() && !it.compared;
        host.state != "connected" || host.components.iter().any(unseen)
    });
    silent
        .map(|host| {
            format!(
                "{} · {} · has not looked yet, or cannot say",
                host.name, host.state
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advised_reaches_no_further_than_what_was_asked() {
        let mut args = Drift {
            environment: None,
            host: None,
            repair: false,
            adopt: false,
            reason: None,
        };
        let advised = |args: &Drift, about: &str| {
            let said = settling(args, "web-7");
            assert_eq!(
                said,
                format!("{about} --repair, or {about} --adopt --reason TEXT")
            );
        };
        advised(&args, "tamer drift --host web-7");
        args.environment = Some("staging".parse().unwrap());
        advised(&args, "tamer drift staging");
        args.host = Some("web-1".parse().unwrap());
        advised(&args, "tamer drift staging --host web-1");
    }
}
