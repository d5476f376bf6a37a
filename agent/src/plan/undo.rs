//! What a failed step means, the way back, and what is done after an interruption.
//!
//! The rule for interruptions is one: an activation that had begun to change something and had not
//! committed is done again from its first changing step (each is fit to be done twice), once. So an
//! agent that is upgraded or restarted in the middle fails nothing. If it is interrupted a second time,
//! the release may be what brings the host down, and it is undone. Going back has nothing better to go
//! to, so it is done again until it ends; an undo that had begun goes on.

use super::activate::{is_agent, starts, steps, unit_ends};
use super::{Go, Shape, Step};
use crate::allowed::failure;
use crate::journal::Activation;
use std::fmt;
use tamer_core::application::Hook;
use tamer_core::desired::{Failure, FailureKind, Purpose};

/// How often an activation forward is begun: once, and once more after an interruption.
pub const MAX_TRIES: u32 = 2;

/// What a failed step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing has changed: the release is refused.
    Refuse,
    /// What was changed is undone.
    Undo,
    /// The failure is noted, and the next step is taken all the same.
    GoOn,
    /// A person is needed.
    Stuck,
}

/// What the failure of `step` means.
pub fn on_failure(purpose: Purpose, step: Step) -> Next {
    match (purpose, step) {
        (
            _,
            Step::Verify
            | Step::Approve
            | Step::Unpack
            | Step::Inspect
            | Step::LinkShared
            | Step::Exchange
            | Step::PreChecks
            | Step::PreActivate,
        ) => Next::Refuse,
        // A broken release cannot be relied upon to take leave: it must not stand in the way back.
        (Purpose::Back, Step::Drain | Step::Stop) | (_, Step::UndoDrain | Step::UndoStop) => {
            Next::GoOn
        }
        (
            Purpose::Forward,
            Step::Drain
            | Step::Stop
            | Step::Switch
            | Step::Start
            | Step::HandOver
            | Step::CheckIn
            | Step::Validate
            | Step::Admit
            | Step::Confirm
            | Step::Commit,
        ) => Next::Undo,
        (
            Purpose::Back,
            Step::Switch
            | Step::Start
            | Step::HandOver
            | Step::CheckIn
            | Step::Validate
            | Step::Admit
            | Step::Confirm
            | Step::Commit,
        )
        | (
            _,
            Step::UndoSwitch
            | Step::UndoStart
            | Step::UndoHandOver
            | Step::UndoValidate
            | Step::UndoAdmit
            | Step::UndoCommit,
        ) => Next::Stuck,
    }
}

/// The steps back, after `reached` failed; `None` when it is not known how far it came.
pub fn undo(from: Option<&Shape>, to: Option<&Shape>, reached: Option<Step>) -> Vec<Step> {
    let has = |shape: Option<&Shape>, hook| shape.is_some_and(|it| it.hooks.contains(&hook));
    let drained = has(from, Hook::Drain) || has(from, Hook::Admit);
    // Nothing was stopped before `stop` was tried, and nothing switched before `switch` was.
    let stopped = reached != Some(Step::Drain);
    let switched = stopped && reached != Some(Step::Stop);
    let mut steps = Vec::new();
    let mut add = |wanted: bool, step| {
        if wanted {
            steps.push(step);
        }
    };
    let agent = is_agent(from, to);
    // Until `admit` was tried, the new release was not in service.
    let admitted = matches!(
        reached,
        None | Some(Step::Admit | Step::Confirm | Step::Commit)
    );
    add(admitted && has(to, Hook::Drain), Step::UndoDrain);
    add(
        !agent && switched && (has(to, Hook::Stop) || unit_ends(to, from)),
        Step::UndoStop,
    );
    add(switched, Step::UndoSwitch);
    add(!agent && stopped && starts(from), Step::UndoStart);
    add(agent && switched, Step::UndoHandOver);
    add(stopped && from.is_some(), Step::UndoValidate);
    add(drained && has(from, Hook::Admit), Step::UndoAdmit);
    add(true, Step::UndoCommit);
    steps
}

/// What is done about an activation that was interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// It is done again from its first changing step.
    Again,
    /// It is undone, for this reason.
    Undo(Failure),
}

impl fmt::Display for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again => f.write_str("it is done again"),
            Self::Undo(failure) => write!(f, "it is undone: {failure}"),
        }
    }
}

/// The switch that was interrupted, as it is done again: from its first step that changes the host. `from` and `to` are
/// what ran and what was to run, as far as they are on disk.
pub fn again(interrupted: &Activation, from: Option<&Shape>, to: Option<&Shape>) -> Go {
    let (_, change) = steps(interrupted.purpose, from, to);
    Go {
        grant: interrupted.grant,
        purpose: interrupted.purpose,
        from: interrupted.from.clone(),
        to: interrupted.to.clone(),
        before: Vec::new(),
        change,
        adopted: None,
        // What began was noted when it began.
        plan: None,
    }
}

/// How the trial of a new agent stands, as an agent finds it at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// There is none.
    None,
    /// The agent that runs has still to prove itself.
    Runs,
    /// The old agent was put back, for this reason.
    TakenBack(String),
}

/// Decides after a start of the agent. `mark` is the last mark that was left, for the message; `trial`
/// is how the trial stands, where it is the agent itself that is exchanged.
pub fn resume(interrupted: &Activation, mark: Option<&str>, trial: &Stand) -> Resume {
    match (&interrupted.undoing, interrupted.purpose, trial) {
        (Some(failure), _, _) => Resume::Undo(failure.clone()),
        // The restart was meant, and whatever ends the trial ends it for good.
        (None, Purpose::Back, _) | (None, Purpose::Forward, Stand::Runs) => Resume::Again,
        (None, Purpose::Forward, Stand::TakenBack(why)) => Resume::Undo(failure(
            FailureKind::Service,
            format!("the new agent was taken back by systemd: {why}"),
        )),
        (None, Purpose::Forward, Stand::None) if interrupted.tries < MAX_TRIES => Resume::Again,
        (None, Purpose::Forward, Stand::None) => Resume::Undo(failure(
            FailureKind::Interrupted,
            format!(
                "the agent or the server stopped in the middle of it, {} times{}",
                interrupted.tries,
                mark.map_or(String::new(), |mark| format!(
                    ", the last time {}",
                    said(mark)
                ))
            ),
        )),
    }
}

/// `before switch` as a part of a sentence.
fn said(mark: &str) -> String {
    match mark.split_once(' ') {
        Some((side, step)) => format!("{side} step `{step}`"),
        None => format!("at `{mark}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(hooks: &[Hook], service: Option<&str>) -> Shape {
        Shape {
            hooks: hooks.iter().copied().collect(),
            service: service.map(str::to_owned),
        }
    }

    fn names(steps: &[Step]) -> Vec<&'static str> {
        steps.iter().map(|step| step.name()).collect()
    }

    #[test]
    fn the_way_back_begins_where_it_failed() {
        let all = shape(&[Hook::Drain, Hook::Stop, Hook::Start, Hook::Admit], None);
        let whole = [
            "undo-stop",
            "undo-switch",
            "undo-start",
            "undo-validate",
            "undo-admit",
            "undo-commit",
        ];
        let back = |reached| undo(Some(&all), Some(&all), reached);
        assert_eq!(
            names(&back(Some(Step::Drain))),
            ["undo-admit", "undo-commit"]
        );
        assert_eq!(names(&back(Some(Step::Stop))), whole[2..]);
        for reached in [Step::Switch, Step::Start, Step::Validate] {
            assert_eq!(names(&back(Some(reached))), whole);
        }
        // What may be in service is taken out of it first.
        for reached in [Some(Step::Admit), Some(Step::Commit), None] {
            assert_eq!(names(&back(reached))[0], "undo-drain");
            assert_eq!(names(&back(reached))[1..], whole);
        }
        // A first deploy is left stopped, with nothing to start and nothing to look at.
        assert_eq!(
            names(&undo(None, Some(&all), Some(Step::Start))),
            ["undo-stop", "undo-switch", "undo-commit"]
        );
        let unit = shape(&[], Some("shop-web.service"));
        assert_eq!(
            names(&undo(Some(&unit), Some(&unit), Some(Step::Start))),
            ["undo-switch", "undo-start", "undo-validate", "undo-commit"]
        );
        assert_eq!(names(&undo(None, Some(&unit), None))[0], "undo-stop");
    }

    #[test]
    fn one_interruption_is_forgiven_and_the_second_is_not() {
        let mut activation = Activation {
            grant: None,
            purpose: Purpose::Forward,
            from: None,
            to: None,
            tries: 1,
            undoing: None,
            baseline: Default::default(),
        };
        let none = &Stand::None;
        assert_eq!(resume(&activation, None, none), Resume::Again);
        let taken_back = Stand::TakenBack("it was silent".to_owned());
        let Resume::Undo(why) = resume(&activation, None, &taken_back) else {
            panic!("undone");
        };
        assert!(why.message.ends_with("it was silent"), "{why}");
        activation.tries = 2;
        assert_eq!(resume(&activation, None, &Stand::Runs), Resume::Again);
        let Resume::Undo(why) = resume(&activation, Some("before switch"), none) else {
            panic!("undone");
        };
        assert_eq!(why.kind, FailureKind::Interrupted);
        assert!(
            why.message
                .ends_with("2 times, the last time before step `switch`"),
            "{why}"
        );
        activation.purpose = Purpose::Back;
        assert_eq!(resume(&activation, None, none), Resume::Again);
        activation.undoing = Some(why.clone());
        assert_eq!(resume(&activation, None, &Stand::Runs), Resume::Undo(why));
    }
}
