//! `tamer drift`

use super::Context;
use crate::args::Drift;
use crate::client::Session;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::views::drift::{self, Drifted, Seen};
use crate::views::human::count;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;
use tamer_proto::v1::{
    InspectDriftRequest, ListHostsRequest, ListHostsResponse, SettleDriftRequest,
};
use tokio::time::Instant;

/// How long a repair is waited for; it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long hosts have to answer, and where they read every byte.
const ANSWERED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(250);

/// What programs get.
#[derive(Serialize)]
struct Looked<'a> {
    hosts: &'a [Seen],
}

pub(super) async fn run(at: &Context<'_>, args: &Drift) -> Result<Exit> {
    let session = at.session().await?;
    let hosts = look(at, &session, args).await?;
    let found: Vec<Drifted<'_>> = drift::drifted(hosts.iter().map(|it| &it.host)).collect();
    let way = match (args.adopt, args.repair) {
        _ if found.is_empty() => {
            show(at, &hosts);
            let whole = hosts.iter().all(Seen::is_whole);
            at.printer.line(match whole {
                true => "Nothing was changed by hand.",
                false => "Nothing else is known to be changed by hand.",
            });
            return Ok(if whole { Exit::Done } else { Exit::Unreachable });
        }
        (true, _) => "adopt",
        (_, true) => "repair",
        _ => {
            show(at, &hosts);
            let (environment, host) = (args.environment.as_ref(), args.host.as_ref());
            at.printer.next(drift::ways(
                environment.map(|it| it.as_str()),
                host.map(|it| it.as_str()),
                &found[0].host.name,
            ));
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
        show(at, &look(at, &session, args).await?);
        at.printer.line(
            "This keeps the next release away no more. It is lost with the next release; one more change is one more drift.",
        );
        return Ok(Exit::Done);
    }
    let asked = found.iter().map(key).collect();
    let answer = repaired(&session, args, &asked).await?;
    let hosts: Vec<Seen> = answer.hosts.into_iter().map(Seen::from).collect();
    if drift::drifted(hosts.iter().map(|it| &it.host))
        .next()
        .is_none()
    {
        at.printer.json(&Looked { hosts: &hosts });
        at.printer.line("What was deployed is there again. Programs that have read the change go on with it until they are started again.");
        return Ok(Exit::Done);
    }
    show(at, &hosts);
    at.printer.next("tamer hosts");
    Ok(Exit::Drift)
}

/// Every host as it is now, by name; where one cannot be asked, what is known of it.
async fn look(at: &Context<'_>, session: &Session, args: &Drift) -> Result<Vec<Seen>> {
    let name = |name: Option<String>| name.unwrap_or_default();
    let patience = if args.full { ANSWERED.1 } else { ANSWERED.0 };
    let request = InspectDriftRequest {
        environment: name(args.environment.as_ref().map(ToString::to_string)),
        host: name(args.host.as_ref().map(ToString::to_string)),
        full: args.full,
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
    };
    let mut answers = session
        .operators()
        .inspect_drift(request)
        .await?
        .into_inner();
    let progress = Progress::new(at.printer);
    let mut hosts = Vec::new();
    let mut left = 0;
    while let Some(answer) = answers.message().await? {
        left = answer.left;
        progress.left(left);
        if let Some(host) = answer.host {
            hosts.push(Seen {
                host,
                unseen: answer.unseen,
            });
        }
    }
    progress.0.finish_and_clear();
    if left > 0 {
        let unheard = count(left, "host");
        return Err(Error::new(
            Exit::Internal,
            format!("the controller stopped before {unheard} had answered"),
        )
        .next("tamer drift"));
    }
    if let (Some(host), true) = (&args.host, hosts.is_empty()) {
        return Err(Error::usage(format!("there is no host {host}")).next("tamer hosts"));
    }
    hosts.sort_by(|a, b| a.host.name.cmp(&b.host.name));
    Ok(hosts)
}

/// Says how many hosts have still to answer, on a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn new(printer: &Printer) -> Self {
        let target = if printer.shows_progress() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(PAUSE);
        Self(bar)
    }

    fn left(&self, left: u32) {
        self.0
            .set_message(format!("{} to answer", count(left, "host")));
    }
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

async fn known(session: &Session, args: &Drift) -> Result<ListHostsResponse> {
    let name = |name: Option<String>| name.unwrap_or_default();
    let request = ListHostsRequest {
        environment: name(args.environment.as_ref().map(ToString::to_string)),
        name: name(args.host.as_ref().map(ToString::to_string)),
    };
    Ok(session.operators().list_hosts(request).await?.into_inner())
}

/// Waits until nothing of this is being put back any more.
async fn repaired(
    session: &Session,
    args: &Drift,
    asked: &BTreeSet<Key>,
) -> Result<ListHostsResponse> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = known(session, args).await?;
        let waits = drift::drifted(&answer.hosts)
            .any(|it| asked.contains(&key(&it)) && it.component.repair.is_some());
        if !waits || Instant::now() >= end {
            return Ok(answer);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn show(at: &Context<'_>, hosts: &[Seen]) {
    at.printer.json(&Looked { hosts });
    for host in hosts {
        at.printer.lines(drift::seen(host));
    }
}
