//! `rollback` and `release-hold`: what a person decides on the server itself, with or without a
//! controller, and whether or not the agent runs.

use super::run::hands;
use super::{Failure, run};
use clap::Args;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tamer_agent::config::Config;
use tamer_agent::control::{self, Ask, ControlError};
use tamer_agent::converge::rollback_locally;
use tamer_agent::journal::{Journal, JournalFile, StateLock};
use tamer_core::desired::Slot;

/// For `--help`.
pub(super) const ROLLBACK: &str = "\
Go back to the release that ran well before, and stay there; needs no controller.

The component is then held: the controller sees that and why, and leaves it alone until somebody types
`tamer-agent release-hold`. The release must still be whole on disk and not be revoked.";

/// How long to wait for an activation to show up before it is left to itself.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tamer-agent rollback                    the only component of this host
  tamer-agent rollback shop/web --reason 'orders fail'")]
pub(super) struct Rollback {
    /// The component: shop/web, or shop/web/POOL [default: the only one here]
    #[arg(value_name = "COMPONENT")]
    slot: Option<String>,
    /// Why, for whoever looks at the fleet
    #[arg(long, value_name = "TEXT", default_value = "rolled back on the server")]
    reason: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tamer-agent release-hold shop/web")]
pub(super) struct Release {
    /// The component: shop/web, or shop/web/POOL [default: the only one that is held]
    #[arg(value_name = "COMPONENT")]
    slot: Option<String>,
}

/// Goes back.
pub(super) async fn rollback(
    config: Config,
    args: &Rollback,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let journal = journal(&config)?;
    let slot = chosen(&journal, args.slot.as_deref(), |_| true)?;
    let reason: String = args.reason.chars().take(1000).collect();
    let question = Ask::Rollback {
        slot: slot.clone(),
        reason: reason.clone(),
    };
    let said = match control::ask(&config.state, &question).await {
        Ok(answer) => {
            let said = answer.map_err(Failure::internal)?;
            writeln!(out, "{said}")?;
            ended(&config, &journal, &slot).await?
        }
        Err(ControlError::NobodyThere) => {
            let (home, address) = (run::enrolled(&config)?, run::address(&config)?);
            let hands = hands(Arc::new(config), &home, &address, false)?;
            rollback_locally(hands.hands, &slot, reason)
                .await
                .map_err(Failure::internal)?
        }
        Err(error) => return Err(Failure::Internal(error.into())),
    };
    writeln!(
        out,
        "{said}\n{slot} is held there until: tamer-agent release-hold {slot}"
    )?;
    Ok(())
}

/// Waits until the agent has ended the rollback: the journal says so.
async fn ended(config: &Config, before: &Journal, slot: &Slot) -> Result<String, Failure> {
    let committed = |journal: &Journal| journal.slot(slot).and_then(|it| it.committed.clone());
    let begun = Instant::now();
    loop {
        let now = journal(config)?;
        let busy = now.slot(slot).is_some_and(|it| it.activation.is_some());
        if !busy && committed(&now) != committed(before) {
            return match committed(&now) {
                Some(release) => Ok(format!("done: {slot} runs {release}")),
                None => Err(Failure::internal(format!(
                    "{slot} did not come up: look at it with `tamer-agent status`, and in the agent's log"
                ))),
            };
        }
        if !busy && begun.elapsed() > PATIENCE {
            return Err(Failure::internal(format!(
                "{slot} has not moved: the agent's log says why"
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Takes a hold away.
pub(super) async fn release(
    config: &Config,
    args: &Release,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let journal = journal(config)?;
    let held = |slot: &Slot| journal.slot(slot).is_some_and(|it| it.hold.is_some());
    let slot = chosen(&journal, args.slot.as_deref(), held)?;
    let question = Ask::Release { slot: slot.clone() };
    let said = match control::ask(&config.state, &question).await {
        Ok(answer) => answer.map_err(Failure::internal)?,
        Err(ControlError::NobodyThere) => {
            let _lock = StateLock::take(&config.state)?;
            let file = JournalFile::open(&config.state)?;
            let held = held(&slot);
            file.update(|it| {
                if let Some(known) = it.slots.iter_mut().find(|it| it.slot == slot) {
                    known.hold = None;
                }
            })
            .await?;
            control::released(&slot.to_string(), held)
        }
        Err(error) => return Err(Failure::Internal(error.into())),
    };
    writeln!(out, "{said}")?;
    Ok(())
}

/// The journal, without making one.
pub(super) fn journal(config: &Config) -> Result<Journal, Failure> {
    if !config.state.join("journal").exists() {
        return Ok(Journal::default());
    }
    Ok(Journal::clone(&JournalFile::open(&config.state)?.get()))
}

/// The component that was named, or the only one that is meant.
fn chosen(
    journal: &Journal,
    given: Option<&str>,
    meant: impl Fn(&Slot) -> bool,
) -> Result<Slot, Failure> {
    let all: Vec<&Slot> = journal.slots.iter().map(|it| &it.slot).collect();
    let found: Vec<&Slot> = match given {
        // `web` will do where there is only one.
        Some(given) => all
            .iter()
            .copied()
            .filter(|it| {
                let exact = format!("{}/{}/{}", it.application, it.component, it.pool);
                [it.to_string(), exact, it.component.to_string()].contains(&given.to_owned())
            })
            .collect(),
        None => all.iter().copied().filter(|it| meant(it)).collect(),
    };
    let names = |slots: &[&Slot]| {
        let names: Vec<_> = slots.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    match (&found[..], given) {
        ([only], _) => Ok((*only).clone()),
        ([], _) if all.is_empty() => Err(Failure::usage("nothing was ever deployed here")),
        ([], Some(given)) => Err(Failure::usage(format!(
            "there is no {given} here, only {}",
            names(&all)
        ))),
        ([], None) => Err(Failure::usage("nothing here is held")),
        (several, _) => Err(Failure::usage(format!(
            "name one of them: {}",
            names(several)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(application: &str, component: &str, pool: Option<&str>) -> Slot {
        Slot {
            application: application.parse().unwrap(),
            component: component.parse().unwrap(),
            pool: pool.map_or_else(Default::default, |it| it.parse().unwrap()),
        }
    }

    #[test]
    fn a_component_is_named_as_shortly_as_it_can_be() {
        let mut journal = Journal::default();
        let none = chosen(&journal, None, |_| true).unwrap_err();
        assert!(format!("{none:?}").contains("nothing was ever deployed"));
        journal.slot_mut(&slot("shop", "web", None));
        assert_eq!(
            chosen(&journal, None, |_| true).unwrap(),
            slot("shop", "web", None)
        );
        journal.slot_mut(&slot("shop", "web", Some("blue")));
        journal.slot_mut(&slot("bank", "worker", None));
        let pick = |given| chosen(&journal, given, |_| true);
        assert_eq!(pick(Some("worker")).unwrap(), slot("bank", "worker", None));
        assert_eq!(pick(Some("shop/web")).unwrap(), slot("shop", "web", None));
        assert_eq!(
            pick(Some("shop/web/blue")).unwrap(),
            slot("shop", "web", Some("blue"))
        );
        for unclear in [Some("web"), None, Some("shop/db")] {
            let failure = pick(unclear).unwrap_err();
            assert_eq!(failure.code(), 2, "{unclear:?}");
            assert!(format!("{failure:?}").contains("shop/web"), "{failure:?}");
        }
        let held = |it: &Slot| it.application.as_str() == "bank";
        assert_eq!(
            chosen(&journal, None, held).unwrap(),
            slot("bank", "worker", None)
        );
    }
}
