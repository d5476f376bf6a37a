//! What rollouts care for in a report, cut to a size that the store takes: a host may say much, and
//! must not be able to stop the controller by it.

use tamer_core::check::CheckResult;
use tamer_core::desired::{ActivationStatus, ComponentReport, Failure, FailureKind};
use tamer_core::rollout::Observation;

/// How many staged releases are noted; an agent keeps a handful.
const MOST_STAGED: usize = 100;

/// The longest sentence that is kept, in bytes.
const MOST_MESSAGE: usize = 1024;

/// The longest output that is kept, in bytes: the end of it.
const MOST_OUTPUT: usize = 4096;

/// Why staging failed counts only if the host speaks of what it was told last (`current`), and where
/// trying again would not help: a line that is cut heals by itself.
pub(super) fn observation(said: &ComponentReport, current: bool) -> Observation {
    let staging_failure = said
        .staging_failure
        .as_ref()
        .filter(|f| current && f.kind != FailureKind::Fetch);
    let unhealthy = said.checks.iter().find_map(|(check, result)| match result {
        CheckResult::Failed(why) => Some(Failure {
            kind: FailureKind::Check,
            message: start(&format!("check `{check}` fails: {why}")),
            check: Some(check.clone()),
            output: String::new(),
        }),
        CheckResult::Passed => None,
    });
    let mut activation = said.activation.clone();
    if let Some(activation) = &mut activation {
        match &mut activation.status {
            ActivationStatus::Working(step) => *step = start(step),
            ActivationStatus::Refused(f)
            | ActivationStatus::Undone(f)
            | ActivationStatus::Stuck(f) => *f = short(f),
            ActivationStatus::Done | ActivationStatus::Expired => {}
        }
    }
    Observation {
        running: said.running.clone(),
        staged: said.staged.iter().take(MOST_STAGED).copied().collect(),
        staging_failure: staging_failure.map(short),
        activation,
        unhealthy: unhealthy.filter(|_| said.running.is_some()),
        hold: said.hold.as_deref().map(start),
    }
}

pub(super) fn short(failure: &Failure) -> Failure {
    let mut from = failure.output.len().saturating_sub(MOST_OUTPUT);
    while !failure.output.is_char_boundary(from) {
        from += 1;
    }
    Failure {
        kind: failure.kind,
        message: start(&failure.message),
        check: failure.check.clone(),
        output: failure.output[from..].to_owned(),
    }
}

fn start(text: &str) -> String {
    let mut to = text.len().min(MOST_MESSAGE);
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    text[..to].to_owned()
}
