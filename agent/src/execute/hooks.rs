//! Hooks: executables inside a release, run as the component's user.

use super::End;
use super::program::{enclosed, program};
use crate::allowed::failure;
use crate::checks::seconds;
use crate::config::Config;
use crate::process::Exit;
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
    loop {
        let mut command = program(config, slot, end, previous);
        command.program = end.dir.join(path);
        command
            .env
            .insert("TAMER_HOOK".to_owned(), hook.to_string());
        command.may_leave = spec.may_leave(hook);
        command.time_limit = deadline.saturating_duration_since(Instant::now());
        let name = format!("tamer-hook-{}-{}-{hook}", slot.application, slot.component);
        let outcome = enclosed(config, &name, command).await.map_err(|e| {
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
