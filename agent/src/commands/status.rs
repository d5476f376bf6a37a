//! `status`: what runs here, from the journal and from disk. Nothing is changed and nobody is asked.

use super::Failure;
use super::hold::journal;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use tamer_agent::config::Config;
use tamer_agent::control;
use tamer_agent::host::layout;
use tamer_agent::identity::Home;
use tamer_agent::journal::{Journal, SlotJournal};
use tamer_agent::plan::Current;
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
    Ok(())
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
