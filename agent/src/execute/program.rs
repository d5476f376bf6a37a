//! Programs of a release, which are hooks and what migrates a database: how every one of them is run.

use super::End;
use super::environment::{About, environment};
use super::underway::UnderWay;
use crate::config::Config;
use crate::process::enclosure::{Enclosure, RunName};
use crate::process::{self, Command, Exit, Outcome};
use std::io;
use std::path::Path;
use tamer_core::desired::Slot;
use tamer_core::release::ReleaseRef;

/// A program of a release; what is left to say is which one, and how long.
pub(super) fn program(
    config: &Config,
    slot: &Slot,
    end: &End,
    previous: Option<&ReleaseRef>,
) -> Command {
    Command {
        dir: end.dir.clone(),
        env: environment(config, &About::new(slot, end, previous)),
        user: end.user.clone(),
        umask: end.installed.spec.umask.bits(),
        limits: Some(end.place.limits),
        new_privileges: end.place.new_privileges,
        ..Command::new("true")
    }
}

/// Runs it in a scope of its own where systemd gives one, outside of the agent's sandbox, noted on disk until it has ended. `name` says to
/// people what it is.
///
/// # Errors
/// It could not be started.
pub(super) async fn enclosed(
    config: &Config,
    name: &str,
    mut command: Command,
) -> io::Result<Outcome> {
    command.enclosure = Enclosure::strongest(RunName::unique(name));
    let runner = config.runner.as_deref();
    let outcome = noted(config, runner, &command).await?;
    if outcome.status != Exit::NoScope {
        return Ok(outcome);
    }
    // A host whose systemd does not answer must still be able to go back.
    let said = outcome.output.trim();
    tracing::warn!(
        name,
        said,
        "systemd gave it no scope: it is run without one"
    );
    command.enclosure = Enclosure::Marked(RunName::unique(name));
    noted(config, None, &command).await
}

async fn noted(config: &Config, runner: Option<&Path>, command: &Command) -> io::Result<Outcome> {
    let note = UnderWay::note(&config.state, &command.enclosure);
    let outcome = process::run_by(runner, command).await;
    note.over();
    outcome
}
