//! `status`: what runs here, from the journal and from disk; where routers send, the running agent is asked. Nothing is
//! changed.

use super::Failure;
use super::hold::journal;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use tamer_agent::config::Config;
use tamer_agent::control::{self, ControlError};
use tamer_agent::converge::RouteStanding;
use tamer_agent::host::layout;
use tamer_agent::identity::Home;
use tamer_agent::journal::{Journal, SlotJournal};
use tamer_agent::plan::Current;
use tamer_core::calendar::utc;
use tamer_core::desired::{ActivationStatus, Desired};

/// Shows it.
pub(super) async fn status(config: &Config, out: &mut dyn Write) -> Result<(), Failure> {
    let journal = journal(config)?;
    writeln!(out, "{} in {}", config.name, config.environment)?;
    let agent = match control::runs(&config.state).await {
        true => "runs",
        false => "does not run: systemctl start tamer-agent, or tamer-agent run",
    };
    writeln!(out, "  agent       {agent}")?;
    writeln!(out, "  controller  {}", config.controller)?;
    writeln!(out, "  certificate {}", certificate(config))?;
    writeln!(out, "  desired     {}", desired(&journal))?;
    if journal.slots.is_empty() {
        writeln!(out, "\nnothing was ever deployed here")?;
    }
    for slot in &journal.slots {
        writeln!(out, "\n{}", slot.slot)?;
        component(slot, journal.desired.as_ref(), out)?;
    }
    routes(config, &journal, out).await
}

fn certificate(config: &Config) -> String {
    match Home::new(&config.state).load() {
        Err(error) => error.to_string(),
        Ok((_, keys)) => match keys.validity() {
            Err(error) => error.to_string(),
            Ok((_, to)) => {
                let now = tamer_kit::clock::now();
                let days = |it: std::time::Duration| it.as_secs() / 86_400;
                if to > now {
                    format!(
                        "good for {} more days, renewed by itself",
                        days(to.since(now))
                    )
                } else {
                    format!(
                        "expired {} days ago: it is renewed when the controller is reached",
                        days(now.since(to))
                    )
                }
            }
        },
    }
}

fn desired(journal: &Journal) -> String {
    match &journal.desired {
        None => "nothing was heard of the controller yet".to_owned(),
        Some(desired) => format!("generation {}", desired.generation),
    }
}

fn component(slot: &SlotJournal, desired: Option<&Desired>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "  runs        {}",
        slot.root
            .as_deref()
            .map_or_else(nothing, |root| running(root, slot))
    )?;
    let wanted = desired.and_then(|it| it.components.iter().find(|it| it.slot == slot.slot));
    if let Some(wanted) = wanted {
        let run = wanted
            .run
            .as_ref()
            .map_or_else(nothing, ToString::to_string);
        writeln!(out, "  wanted      {run}")?;
    }
    if let Some(root) = &slot.root {
        writeln!(out, "  lives in    {}", root.display())?;
        for name in on_disk(root, slot) {
            writeln!(out, "  on disk     {name}")?;
        }
    }
    if let Some(activation) = &slot.activation {
        let to = activation
            .to
            .as_ref()
            .map_or_else(nothing, ToString::to_string);
        let how = match activation.undoing {
            None => "under way",
            Some(_) => "being undone",
        };
        writeln!(out, "  switch      to {to}, {how}")?;
    }
    if let Some(last) = &slot.last {
        let (word, why) = match &last.status {
            ActivationStatus::Working(step) => (format!("at {step}"), None),
            ActivationStatus::Done => ("done".to_owned(), None),
            ActivationStatus::Expired => ("came too late".to_owned(), None),
            ActivationStatus::Refused(why) => ("refused".to_owned(), Some(why)),
            ActivationStatus::Undone(why) => ("undone".to_owned(), Some(why)),
            ActivationStatus::Stuck(why) => ("stuck: a person is needed".to_owned(), Some(why)),
        };
        writeln!(out, "  last grant  {}: {word}", last.grant)?;
        for line in why
            .iter()
            .flat_map(|it| it.message.lines().chain(it.output.lines()))
        {
            writeln!(out, "              {}", plain(line))?;
        }
    }
    if let Some(reason) = &slot.hold {
        writeln!(out, "  held        {}", plain(reason))?;
        writeln!(
            out,
            "              next: tamer-agent release-hold {}",
            slot.slot
        )?;
    }
    Ok(())
}

/// The components that this host routes for: the agent that runs knows where its routers send.
async fn routes(config: &Config, journal: &Journal, out: &mut dyn Write) -> Result<(), Failure> {
    let wanted = journal.desired.iter().flat_map(|it| &it.routes);
    let noted: Vec<_> = wanted.map(|it| RouteStanding::noted(it, journal)).collect();
    if noted.is_empty() {
        return Ok(());
    }
    let (standings, unknown) = match control::routes(&config.state).await {
        Ok(standings) => (
            standings,
            "not known yet: it was not asked, or does not say",
        ),
        Err(ControlError::NobodyThere) => (noted, "not known: no agent runs that could ask it"),
        Err(error) => {
            tracing::debug!(%error, "routes");
            (noted, "not known: the agent does not answer")
        }
    };
    for standing in &standings {
        route(standing, unknown, out)?;
    }
    Ok(())
}

fn route(standing: &RouteStanding, unknown: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nrouter of {}", standing.component)?;
    let wanted = (standing.wanted.as_ref()).map_or_else(
        || "nothing was ordered yet: it stays where it is".to_owned(),
        ToString::to_string,
    );
    writeln!(out, "  wanted      {wanted}")?;
    match &standing.sends_to {
        None => writeln!(out, "  sends to    {unknown}")?,
        Some(pool) => {
            let since = standing.since.map(|it| format!(", since {}", utc(it)));
            writeln!(out, "  sends to    {pool}{}", since.unwrap_or_default())?;
        }
    }
    if let Some((at, why)) = &standing.failed {
        writeln!(out, "  failed      {}", utc(*at))?;
        for line in why.message.lines().chain(why.output.lines()) {
            writeln!(out, "              {}", plain(line))?;
        }
    }
    Ok(())
}

fn nothing() -> String {
    "nothing".to_owned()
}

/// What `current` leads to.
fn running(root: &Path, slot: &SlotJournal) -> String {
    let found = match layout::scan(root, &slot.slot, &BTreeMap::new()) {
        Ok(found) => found,
        Err(why) => return format!("unknown: {why}"),
    };
    match layout::current(root, &found) {
        Current::Nothing => nothing(),
        Current::Release(release) => release.to_string(),
        Current::Foreign(what) => {
            format!("what Tamer did not put there: {}", plain(&what.to_string()))
        }
    }
}

fn on_disk(root: &Path, slot: &SlotJournal) -> Vec<String> {
    let found = layout::scan(root, &slot.slot, &BTreeMap::new()).unwrap_or_default();
    let mut all: Vec<_> = found.values().collect();
    all.sort_by_key(|it| it.seq);
    all.iter().map(|it| it.release.to_string()).collect()
}

/// Without anything that moves a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::desired::{Failure, FailureKind};
    use tamer_core::moment::Moment;

    fn shown(standing: &RouteStanding) -> String {
        let mut out = Vec::new();
        route(
            standing,
            "not known: no agent runs that could ask it",
            &mut out,
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_route_is_told_with_what_is_wanted_what_is_so_and_what_failed() {
        let mut standing = RouteStanding {
            component: "shop/web".parse().unwrap(),
            wanted: Some("green".parse().unwrap()),
            sends_to: Some("blue".parse().unwrap()),
            since: Some(Moment(1_795_489_260_000)),
            failed: Some((
                Moment(1_795_489_320_000),
                Failure {
                    kind: FailureKind::Host,
                    message: "the router's `switch` ended with exit code 3".to_owned(),
                    check: None,
                    output: "the socket \u{1b}[1mis gone\n".to_owned(),
                },
            )),
        };
        let told = "\nrouter of shop/web\n\
                    \x20 wanted      green\n\
                    \x20 sends to    blue, since Tue 2026-11-24 03:01 UTC\n\
                    \x20 failed      Tue 2026-11-24 03:02 UTC\n\
                    \x20             the router's `switch` ended with exit code 3\n\
                    \x20             the socket [1mis gone\n";
        assert_eq!(shown(&standing), told);
        standing.failed = None;
        standing.wanted = None;
        standing.sends_to = None;
        let told = "\nrouter of shop/web\n\
                    \x20 wanted      nothing was ordered yet: it stays where it is\n\
                    \x20 sends to    not known: no agent runs that could ask it\n";
        assert_eq!(shown(&standing), told);
    }
}
