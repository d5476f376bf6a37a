//! Hooks: executables inside a release, run as the component's user.

use super::End;
use crate::allowed::failure;
use crate::checks::seconds;
use crate::config::Config;
use crate::process::{self, Command, Exit};
use std::collections::BTreeMap;
use std::time::Duration;
use tamer_core::application::Hook;
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::release::ReleaseRef;
use tokio::time::{Instant, sleep};

/// The exit code with which a hook asks to be run again later (`EX_TEMPFAIL`, sysexits.h).
const TEMPFAIL: i32 = 75;

/// The first and the longest wait before a hook is run again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What a hook and a `command` check find in their environment.
pub(super) fn environment(
    config: &Config,
    slot: &Slot,
    end: &End,
    previous: Option<&ReleaseRef>,
) -> BTreeMap<String, String> {
    let root = &end.place.root;
    let mut env: BTreeMap<String, String> = [
        ("APPLICATION", slot.application.to_string()),
        ("COMPONENT", slot.component.to_string()),
        ("VERSION", end.installed.release.version.to_string()),
        ("RELEASE", end.dir.display().to_string()),
        ("ROOT", root.display().to_string()),
        ("SHARED", root.join("shared").display().to_string()),
        ("HOST", config.name.to_string()),
        ("ENVIRONMENT", config.environment.to_string()),
        // Empty where nothing ran before.
        (
            "PREVIOUS",
            previous.map_or(String::new(), |it| it.version.to_string()),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (format!("TAMER_{name}"), value))
    .collect();
    for (name, value) in &config.variables {
        env.insert(format!("TAMER_VAR_{}", name.to_uppercase()), value.clone());
    }
    if let Some(user) = &end.user {
        env.insert("HOME".to_owned(), user.home.display().to_string());
        env.insert("USER".to_owned(), user.name.clone());
        env.insert("LOGNAME".to_owned(), user.name.clone());
    }
    env
}

/// Runs a hook of a release, again while it asks for that and `hook_timeout` is not over. A release
/// without that hook is content.
///
/// # Errors
/// [`FailureKind::Hook`] with the last lines of what it printed.
pub(super) async fn run(
    config: &Config,
    slot: &Slot,
    end: &End,
    hook: Hook,
    previous: Option<&ReleaseRef>,
) -> Result<(), Failure> {
    let spec = &end.installed.spec;
    let Some(path) = spec.hooks.get(&hook) else {
        return Ok(());
    };
    let mut command = Command::new(end.dir.join(path));
    command.dir.clone_from(&end.dir);
    command.user.clone_from(&end.user);
    command.env = environment(config, slot, end, previous);
    let limit = spec.hook_timeout.0;
    let deadline = Instant::now() + limit;
    let mut wait = RETRY.0;
    loop {
        command.time_limit = deadline.saturating_duration_since(Instant::now());
        let outcome = process::run(command.clone()).await.map_err(|e| {
            failure(
                FailureKind::Hook,
                format!(
                    "hook `{hook}` of {} cannot be run: {e}",
                    end.installed.release.version
                ),
            )
        })?;
        let how = match outcome.status {
            Exit::Code(0) => return Ok(()),
            Exit::Code(TEMPFAIL) if Instant::now() + wait < deadline => {
                sleep(wait).await;
                wait = (wait * 2).min(RETRY.1);
                continue;
            }
            Exit::Code(TEMPFAIL) => {
                format!(
                    "asked to be run again later until {} were over",
                    seconds(limit)
                )
            }
            Exit::Code(code) => format!("ended with exit code {code}"),
            Exit::Signal(signal) => format!("was ended by signal {signal}"),
            Exit::TimedOut => format!("did not end within {}", seconds(limit)),
        };
        return Err(Failure {
            output: outcome.output,
            ..failure(
                FailureKind::Hook,
                format!("hook `{hook}` of {} {how}", end.installed.release.version),
            )
        });
    }
}
