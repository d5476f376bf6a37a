//! Hooks: executables inside a release, run as the component's user.

use super::End;
use super::environment::{About, environment};
use super::underway::UnderWay;
use crate::allowed::failure;
use crate::checks::seconds;
use crate::config::Config;
use crate::process::enclosure::{Enclosure, RunName};
use crate::process::{self, Command, Exit};
use std::time::Duration;
use tamer_core::application::Hook;
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::release::ReleaseRef;
use tokio::time::{Instant, sleep};

/// The exit code with which a hook asks to be run again later (`EX_TEMPFAIL`, sysexits.h).
const TEMPFAIL: i32 = 75;

/// The signal of a process that writes beyond its limit: SIGXFSZ on every Linux, MIPS and PA-RISC aside.
const FILE_SIZE: i32 = 25;

/// The first and the longest wait before a hook is run again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Runs a hook of a release, again while it asks for that and `hook_timeout` is not over. A release
/// without that hook is content. What the hook leaves behind is ended with it, unless it may stay
/// ([`ComponentSpec::may_leave`](tamer_core::application::ComponentSpec::may_leave)).
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
    let limit = spec.hook_timeout.0;
    let deadline = Instant::now() + limit;
    let mut wait = RETRY.0;
    let mut scopes = true;
    loop {
        let name = RunName::unique(&format!(
            "tamer-hook-{}-{}-{hook}",
            slot.application, slot.component
        ));
        let mut command = command(config, slot, end, hook, previous);
        command.program = end.dir.join(path);
        command.time_limit = deadline.saturating_duration_since(Instant::now());
        command.enclosure = match scopes {
            true => Enclosure::strongest(name),
            false => Enclosure::Marked(name),
        };
        let noted = UnderWay::note(&config.state, &command.enclosure);
        let outcome = process::run(command).await;
        noted.over();
        let outcome = outcome.map_err(|e| {
            failure(
                FailureKind::Hook,
                format!(
                    "hook `{hook}` of {} cannot be run: {e}",
                    end.installed.release.version
                ),
            )
        })?;
        let left = outcome.left.join(", ");
        if !left.is_empty() {
            tracing::warn!(%slot, %hook, left, "the hook left processes behind, which were ended");
        }
        let how = match outcome.status {
            Exit::Code(0) => return Ok(()),
            Exit::Code(TEMPFAIL) if Instant::now() + wait < deadline => {
                sleep(wait).await;
                wait = (wait * 2).min(RETRY.1);
                continue;
            }
            Exit::NoScope if scopes => {
                // A host whose systemd does not answer must still be able to go back.
                let said = outcome.output.trim();
                tracing::warn!(%slot, %hook, said, "systemd gave the hook no scope: it is run without one");
                scopes = false;
                continue;
            }
            Exit::Code(TEMPFAIL) => {
                format!(
                    "asked to be run again later until {} were over",
                    seconds(limit)
                )
            }
            Exit::Code(code) => format!("ended with exit code {code}"),
            Exit::Signal(FILE_SIZE) => {
                "wrote a file larger than `file_size` of its limits allows".to_owned()
            }
            Exit::Signal(signal) => format!("was ended by signal {signal}"),
            Exit::TimedOut => format!("did not end within {}", seconds(limit)),
            Exit::NoScope => "was not started".to_owned(),
        };
        let mut output = outcome.output;
        if !left.is_empty() {
            output.push_str(&format!(
                "\n(it left behind, and these were ended: {left})\n"
            ));
        }
        return Err(Failure {
            output,
            ..failure(
                FailureKind::Hook,
                format!("hook `{hook}` of {} {how}", end.installed.release.version),
            )
        });
    }
}

/// How every hook of a release is run; what is left to say is which program, in what and how long.
fn command(
    config: &Config,
    slot: &Slot,
    end: &End,
    hook: Hook,
    previous: Option<&ReleaseRef>,
) -> Command {
    let spec = &end.installed.spec;
    let mut env = environment(config, &About::new(slot, end, previous));
    env.insert("TAMER_HOOK".to_owned(), hook.to_string());
    Command {
        dir: end.dir.clone(),
        env,
        user: end.user.clone(),
        umask: spec.umask.bits(),
        limits: Some(end.place.limits),
        new_privileges: end.place.new_privileges,
        may_leave: spec.may_leave(hook),
        ..Command::new("true")
    }
}
