//! The course of one switch, from its first step to its end, and back where it fails: which step comes next, what the
//! journal must say before it, and what a failure means. The executor takes each act as it comes and says how that went.
//!
//! ```text
//! before ─▶ begun ─▶ change ─▶ committed ─▶ end: done
//!    │                 └─▶ undoing ─▶ undo ─▶ ended ─▶ end: undone, stuck
//!    └─▶ ended ─▶ end: refused
//! ```

use super::{Go, Next, Resume, Shape, Step, on_failure, undo};
use crate::journal::{Activation, Baseline, SlotJournal};
use std::collections::VecDeque;
use tamer_core::desired::{ActivationReport, ActivationStatus, Failure};

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// This step is taken.
    Step(Step),
    /// This is written into the journal, durably.
    Write(Entry),
    /// It is over.
    End(Ended),
}

/// How a switch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub status: ActivationStatus,
    /// What the journal could not be told of it, and is owed: without that, the switch would be taken up again by the
    /// next agent, although it has ended.
    pub owed: Option<Entry>,
}

/// What the journal is told of a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// From now on the host changes.
    Begun,
    /// It was interrupted, and is done again.
    Again,
    /// The new release runs.
    Committed,
    /// It goes the other way, and why.
    Undoing(Failure),
    /// It ended without the new release running.
    Ended(ActivationStatus),
}

/// The course of one switch.
#[derive(Debug, Clone)]
pub struct Course {
    go: Go,
    /// What runs, and what is to run.
    ends: (Option<Shape>, Option<Shape>),
    act: Act,
    /// The steps that come after `act`, in the direction that it goes.
    ahead: VecDeque<Step>,
    /// Why it goes back.
    undoing: Option<Failure>,
    /// Whether the journal holds it as begun.
    begun: bool,
}

// === impl Course ===

impl Course {
    /// A switch that has not begun. `ends` are what runs and what is to run.
    pub fn begin(go: Go, ends: (Option<Shape>, Option<Shape>)) -> Self {
        let ahead = go.before.iter().copied().collect();
        let mut course = Self::new(go, ends, ahead);
        course.forward();
        course
    }

    /// One that was interrupted; `how` is [`super::resume`]'s word.
    pub fn resume(go: Go, ends: (Option<Shape>, Option<Shape>), how: Resume) -> Self {
        let mut course = Self::new(go, ends, VecDeque::new());
        course.begun = true;
        match how {
            Resume::Again => course.act = Act::Write(Entry::Again),
            Resume::Undo(failure) => course.turn_back(None, failure),
        }
        course
    }

    fn new(go: Go, ends: (Option<Shape>, Option<Shape>), ahead: VecDeque<Step>) -> Self {
        Self {
            go,
            ends,
            act: Act::Write(Entry::Begun),
            ahead,
            undoing: None,
            begun: false,
        }
    }

    /// What the plan says.
    pub fn go(&self) -> &Go {
        &self.go
    }

    /// What is done now.
    pub fn act(&self) -> &Act {
        &self.act
    }

    /// How that went.
    pub fn took(&mut self, outcome: Result<(), Failure>) {
        match (self.act.clone(), outcome) {
            (Act::End(_), _) => {}
            (Act::Step(step), outcome) => self.stepped(step, outcome),
            (Act::Write(entry), outcome) => self.wrote(entry, outcome),
        }
    }

    fn stepped(&mut self, step: Step, outcome: Result<(), Failure>) {
        let Err(failure) = outcome else {
            return self.forward();
        };
        match (on_failure(self.go.purpose, step), &self.undoing) {
            (Next::GoOn, _) => self.forward(),
            (_, None) if !self.begun => self.end(ActivationStatus::Refused(failure)),
            (Next::Undo | Next::Refuse, None) => self.turn_back(Some(step), failure),
            (Next::Stuck, None) => self.end(ActivationStatus::Stuck(failure)),
            (_, Some(why)) => {
                let both = Failure {
                    message: format!(
                        "{}; and going back failed at `{step}`: {}",
                        why.message, failure.message
                    ),
                    output: failure.output,
                    ..why.clone()
                };
                self.end(ActivationStatus::Stuck(both));
            }
        }
    }

    fn wrote(&mut self, entry: Entry, outcome: Result<(), Failure>) {
        match (entry, outcome) {
            (Entry::Begun | Entry::Again, Ok(())) => {
                self.begun = true;
                self.ahead = self.go.change.iter().copied().collect();
                self.forward();
            }
            (Entry::Begun, Err(failure)) => self.end(ActivationStatus::Refused(failure)),
            (Entry::Again, Err(failure)) => self.turn_back(None, failure),
            (Entry::Committed, Ok(())) => self.over(ActivationStatus::Done, None),
            (Entry::Committed, Err(failure)) => self.stepped(Step::Commit, Err(failure)),
            // The way back is taken all the same: what is there now is not healthy.
            (Entry::Undoing(_), _) => self.forward(),
            (Entry::Ended(status), Ok(())) => self.over(status, None),
            (Entry::Ended(status), Err(_)) => {
                self.over(status.clone(), Some(Entry::Ended(status)));
            }
        }
    }

    /// The next step, or what comes after the last one.
    fn forward(&mut self) {
        self.act = match (self.ahead.pop_front(), &self.undoing) {
            (Some(Step::Commit), _) => Act::Write(Entry::Committed),
            (Some(Step::UndoCommit), Some(why)) => {
                Act::Write(Entry::Ended(ActivationStatus::Undone(why.clone())))
            }
            (Some(step), _) => Act::Step(step),
            // Every way ends with a commit of its kind: what comes after the last step is the beginning.
            (None, _) => Act::Write(Entry::Begun),
        };
    }

    fn over(&mut self, status: ActivationStatus, owed: Option<Entry>) {
        self.act = Act::End(Ended { status, owed });
    }

    /// `reached` is the step that failed; `None` after an interruption.
    fn turn_back(&mut self, reached: Option<Step>, failure: Failure) {
        let (from, to) = &self.ends;
        self.ahead = undo(from.as_ref(), to.as_ref(), reached).into();
        self.undoing = Some(failure.clone());
        self.act = Act::Write(Entry::Undoing(failure));
    }

    fn end(&mut self, status: ActivationStatus) {
        self.act = Act::Write(Entry::Ended(status));
    }
}

// === impl Entry ===

impl Entry {
    /// The step that this is, where it is one.
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Committed => Some(Step::Commit),
            Self::Ended(ActivationStatus::Undone(_)) => Some(Step::UndoCommit),
            Self::Begun | Self::Again | Self::Undoing(_) | Self::Ended(_) => None,
        }
    }

    /// Writes it. `baseline` is how the checks ended before anything changed.
    pub fn write(&self, slot: &mut SlotJournal, go: &Go, baseline: &Baseline) {
        match self {
            Self::Begun => {
                let activation = Activation {
                    grant: go.grant,
                    purpose: go.purpose,
                    from: go.from.clone(),
                    to: go.to.clone(),
                    tries: 1,
                    undoing: None,
                    baseline: baseline.clone(),
                };
                slot.begin(activation, go.plan);
            }
            Self::Again => {
                if let Some(activation) = &mut slot.activation {
                    activation.tries += 1;
                }
            }
            Self::Undoing(why) => {
                if let Some(activation) = &mut slot.activation {
                    activation.undoing = Some(why.clone());
                }
            }
            Self::Committed => {
                if let Some(activation) = slot.activation.take() {
                    slot.commit(&activation);
                }
                report(slot, go, ActivationStatus::Done);
            }
            Self::Ended(status) => {
                match status {
                    ActivationStatus::Undone(_) => slot.committed.clone_from(&go.from),
                    // What is there now is nobody's word: a new grant activates anew.
                    ActivationStatus::Stuck(_) => slot.committed = None,
                    _ => {}
                }
                slot.activation = None;
                report(slot, go, status.clone());
            }
        }
    }
}

/// How the grant ended; nothing of a rollback by a person on the server.
fn report(slot: &mut SlotJournal, go: &Go, status: ActivationStatus) {
    if let Some(grant) = go.grant {
        slot.last = Some(ActivationReport {
            grant,
            release: go.to.clone(),
            status,
        });
    }
}
