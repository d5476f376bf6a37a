//! An agent that behaves as the design says, and fails when it is told to.

use proptest::prelude::*;
use std::collections::BTreeSet;
use tamer_core::desired::{
    ActivationReport, ActivationStatus, DesiredComponent, Failure, FailureKind, Grant, Purpose,
};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::moment::{Moment, Span};
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::Observation;

fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: "it failed".into(),
        check: None,
        output: String::new(),
    }
}

/// What an agent makes of the grant that it has accepted.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Work,
    Finish,
    Refuse,
    Undo,
    Stick,
}

pub(crate) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Work),
        8 => Just(Act::Finish),
        1 => Just(Act::Refuse),
        1 => Just(Act::Undo),
        1 => Just(Act::Stick),
    ]
}

#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    pub(super) running: Option<ReleaseRef>,
    staged: BTreeSet<Digest>,
    seen: Generation,
    accepted: Option<(Grant, Option<ReleaseRef>)>,
    activation: Option<ActivationReport>,
    pub(super) sick: bool,
    pub(super) unstageable: bool,
    pub(super) held: bool,
    /// What its clock is ahead of the controller's.
    pub(super) ahead: Option<Span>,
}

impl Agent {
    /// Takes in what it should be: stages, and accepts a grant that is new and in time.
    pub(super) fn take_in(&mut self, desired: DesiredComponent, now: Moment) {
        if !self.unstageable {
            let wanted = desired.run.iter().chain(&desired.stage);
            self.staged.extend(wanted.map(|release| release.manifest));
        }
        let Some(grant) = desired.grant.filter(|grant| grant.id > self.seen) else {
            return;
        };
        self.seen = grant.id;
        let late = now + self.ahead.unwrap_or(Span::secs(0)) > grant.start_by;
        let status = if late {
            ActivationStatus::Expired
        } else {
            ActivationStatus::Working("fetch".into())
        };
        self.activation = Some(ActivationReport {
            grant: grant.id,
            release: desired.run.clone(),
            status,
        });
        if !late {
            self.accepted = Some((grant, desired.run));
        }
    }

    /// Goes on with the grant that it has accepted, if there is one.
    pub(super) fn act(&mut self, act: &Act, spoilt: &BTreeSet<Digest>) {
        let Some((grant, release)) = self.accepted.clone() else {
            return;
        };
        let bad = release
            .as_ref()
            .is_some_and(|release| spoilt.contains(&release.manifest));
        let back = grant.purpose == Purpose::Back;
        let status = match act {
            Act::Work => ActivationStatus::Working("start".into()),
            Act::Finish if bad && !back => ActivationStatus::Undone(failure(FailureKind::Check)),
            Act::Finish => ActivationStatus::Done,
            Act::Refuse => ActivationStatus::Refused(failure(FailureKind::PreCheck)),
            Act::Undo if back => ActivationStatus::Stuck(failure(FailureKind::Check)),
            Act::Undo => ActivationStatus::Undone(failure(FailureKind::Check)),
            Act::Stick => ActivationStatus::Stuck(failure(FailureKind::Service)),
        };
        if matches!(status, ActivationStatus::Done | ActivationStatus::Stuck(_)) {
            self.running.clone_from(&release);
            self.sick = false;
        }
        if status.is_final() {
            self.accepted = None;
        }
        self.activation = Some(ActivationReport {
            grant: grant.id,
            release,
            status,
        });
    }

    /// What it says of itself.
    pub(super) fn says(&self) -> Observation {
        Observation {
            running: self.running.clone(),
            staged: self.staged.clone(),
            staging_failure: self.unstageable.then(|| failure(FailureKind::Disk)),
            activation: self.activation.clone(),
            unhealthy: self.sick.then(|| failure(FailureKind::Check)),
            hold: self.held.then(|| "by hand".to_owned()),
        }
    }
}
