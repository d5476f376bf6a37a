//! A deployment brings (environment, application, version) about: one rollout for each component and
//! pool, in the order of `needs`. If a later one fails, the earlier ones go back in reverse order. A component
//! with pools takes two steps: the rollout in the idle pool, then the switch of its routers.

use super::approval::Approving;
use super::state::{Cause, Outcome, RolloutId};
use crate::desired::{FailureKind, Purpose};
use crate::id::{ApplicationName, ComponentName, EnvironmentName, PoolName, TargetKey};
use crate::moment::Moment;
use crate::policy::OnFailure;
use crate::release::ReleaseRef;
use crate::schema::Migration;
use crate::schema::migration::State;
use crate::version::Version;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a deployment, as people type it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct DeploymentId(pub u64);

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A deployment: an immutable plan of rollouts, and how each went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Which one.
    pub id: DeploymentId,
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub application: ApplicationName,
    /// The version that was asked for; `None`: to what ran before.
    pub version: Option<Version>,
    /// The one component that was asked for; `None`: the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentName>,
    /// Forward, or back.
    pub purpose: Purpose,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it started.
    pub started_at: Moment,
    /// Whether it passes over windows and freezes, because an admin said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub override_freeze: bool,
    /// Whether earlier rollouts go back when a later one fails.
    pub on_failure: OnFailure,
    /// Its rollouts, in order. Those that take earlier ones back are appended.
    pub steps: Vec<Step>,
    /// The databases that it reads and migrates, each in front of one of its rollouts.
    pub migrations: Vec<Migration>,
    /// Who approved it; `None` where nobody has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approving>,
    /// When it ended, and how.
    pub ended: Option<(Moment, Ending)>,
}

/// One rollout of a deployment, or one switch of routers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where; of a switch, the pool that routers are switched to.
    pub target: TargetKey,
    /// Set for a switch of routers: the pool that they leave. Nothing is rolled out then; `release` and `from` are
    /// what the two pools run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<PoolName>,
    /// To which release; `None`: to none.
    pub release: Option<ReleaseRef>,
    /// From which.
    pub from: Option<ReleaseRef>,
    /// Forward, or back.
    pub purpose: Purpose,
    /// How far it is.
    pub status: StepStatus,
}

/// How far a rollout of a deployment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// Its turn has not come.
    Waiting,
    /// It runs.
    Running(RolloutId),
    /// It is over.
    Ended(RolloutId, Box<Summary>),
    /// It could not be planned.
    Impossible(String),
}

/// How a rollout went, for the deployment's ending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its outcome.
    pub outcome: Outcome,
    /// How many hosts it had brought the release to.
    pub moved: u32,
    /// Hosts that failed and are not back, or did not get there.
    pub failed: u32,
    /// Hosts that were away, and follow when they are back.
    pub left_out: u32,
    /// What the first failure was.
    pub first_failure: Option<FailureKind>,
}

/// How a deployment ended: what `deploy` answers to the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Everything is as it was asked for.
    Succeeded,
    /// As asked for, on all hosts that could be reached.
    HostsAway,
    /// Evidence or policy refused it; nothing changed.
    Refused,
    /// Checks before the switch failed, or it could not be fetched or unpacked; nothing changed.
    PreChecksFailed,
    /// Hosts refused it, for what runs there was changed by hand; nothing changed.
    Drifted,
    /// It failed, and everything is as it was before.
    RolledBack,
    /// It failed, and not everything is as it was before.
    NotRolledBack,
    /// A person stopped it where it was.
    Aborted,
}

/// What a deployment does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Start this step's rollout.
    Start(usize),
    /// Append these steps, which take earlier ones back, and ask again.
    TakeBack(Vec<Step>),
    /// It is over.
    End(Ending),
    /// Have this database read, migrated, or looked for a host that can.
    Migrate(usize),
    /// A rollout or a migration is under way.
    Wait,
}

impl Deployment {
    /// Whether it is one of this application in this environment.
    pub fn is_of(&self, environment: &EnvironmentName, application: &ApplicationName) -> bool {
        self.environment == *environment && self.application == *application
    }

    /// Whether it ended as it was asked for, on all hosts that could be reached.
    pub fn is_as_asked(&self) -> bool {
        match self.ended {
            Some((_, Ending::Succeeded)) => true,
            Some((_, Ending::HostsAway)) => self.steps.iter().all(Step::has_succeeded),
            _ => false,
        }
    }

    /// What follows from how its steps and migrations stand.
    pub fn next(&self) -> Next {
        if self.ended.is_some() {
            return Next::Wait;
        }
        // While it is under way nothing else is: what runs must work with whatever comes of it.
        if let Some(number) = self.migrations.iter().position(Migration::is_under_way) {
            return match self.migrations[number].state {
                State::Asks { .. } => Next::Wait,
                _ => Next::Migrate(number),
            };
        }
        // What frees the way back of a rollout that is frozen is asked for while that stands still.
        let frees = |it: &Migration| it.frees.is_some() && it.state == State::Waiting;
        if let Some(number) = self.migrations.iter().position(frees) {
            return Next::Migrate(number);
        }
        if self
            .steps
            .iter()
            .any(|step| matches!(step.status, StepStatus::Running(_)))
        {
            return Next::Wait;
        }
        let failed = self
            .steps
            .iter()
            .position(|step| !step.has_succeeded() && step.status != StepStatus::Waiting);
        let failed = match self.failed_migration() {
            // It comes in front of its rollout, which is then not to be.
            Some(migration) => Some(failed.map_or(migration.before, |at| at.min(migration.before))),
            None => failed,
        };
        let Some(failed) = failed else {
            return self.forward();
        };
        let taken_back = self.steps.iter().any(|step| step.purpose == Purpose::Back)
            || self.purpose == Purpose::Back;
        // A policy that pauses speaks of failures; who asks for a rollback means the whole deployment.
        let stays = |step: &Step| {
            self.on_failure == OnFailure::Pause && !step.was_asked_back() || step.was_aborted()
        };
        if taken_back || self.steps.get(failed).is_some_and(stays) {
            let next = self
                .steps
                .iter()
                .position(|s| s.status == StepStatus::Waiting && s.purpose == Purpose::Back);
            return match next.filter(|_| self.purpose == Purpose::Forward) {
                Some(next) => Next::Start(next),
                None => Next::End(self.ending(Some(failed))),
            };
        }
        let back: Vec<Step> = self.steps[..failed]
            .iter()
            .rev()
            .filter(|step| step.changed())
            .map(Step::reversed)
            .collect();
        if back.is_empty() {
            Next::End(self.ending(Some(failed)))
        } else {
            Next::TakeBack(back)
        }
    }

    /// The next rollout, and in front of it whatever its database needs. Every database is read before
    /// anything changes: then it is known whether all of it is possible.
    fn forward(&self) -> Next {
        let waits = |migration: &Migration| migration.state == State::Waiting;
        let unread = |it: &Migration| waits(it) && it.from.is_none();
        if let Some(number) = self.migrations.iter().position(unread) {
            return Next::Migrate(number);
        }
        let next = self
            .steps
            .iter()
            .position(|step| step.status == StepStatus::Waiting);
        let due = |it: &Migration| waits(it) && next.is_none_or(|next| it.before <= next);
        match (self.migrations.iter().position(due), next) {
            (Some(number), _) => Next::Migrate(number),
            (None, Some(next)) => Next::Start(next),
            (None, None) => Next::End(self.ending(None)),
        }
    }

    fn ending(&self, failed: Option<usize>) -> Ending {
        let summaries = || self.steps.iter().filter_map(Step::summary);
        let Some(failed) = failed else {
            return if summaries().any(|s| s.failed > 0 && self.purpose == Purpose::Back) {
                Ending::NotRolledBack
            } else if summaries().any(|s| s.left_out > 0) {
                Ending::HostsAway
            } else {
                Ending::Succeeded
            };
        };
        let earlier = || self.steps[..failed].iter().filter(|step| step.changed());
        // Of a deployment that goes back, what went back stays there, and the rest does not follow.
        let earlier_stay =
            earlier().any(|step| self.purpose == Purpose::Back || !self.has_taken_back(step));
        if let Some(migration) = self.failed_migration() {
            let moved = match &migration.state {
                State::Failed { version, .. } => version.is_some() && migration.from != *version,
                _ => false,
            };
            return match migration.state {
                _ if moved || earlier_stay => Ending::NotRolledBack,
                _ if earlier().next().is_some() => Ending::RolledBack,
                State::Refused(_) => Ending::Refused,
                _ => Ending::PreChecksFailed,
            };
        }
        let Some(summary) = self.steps.get(failed).and_then(Step::summary) else {
            // It could not even be planned.
            return if earlier_stay {
                Ending::NotRolledBack
            } else if earlier().next().is_some() {
                Ending::RolledBack
            } else {
                Ending::HostsAway
            };
        };
        let untouched = summaries().all(|s| s.moved == 0);
        match &summary.outcome {
            Outcome::Aborted { .. } => Ending::Aborted,
            Outcome::NotRolledBack(_) => Ending::NotRolledBack,
            _ if earlier_stay => Ending::NotRolledBack,
            _ if untouched => match summary.first_failure {
                // What could not even be staged has changed nothing either.
                Some(FailureKind::PreCheck | FailureKind::Fetch | FailureKind::Disk) => {
                    Ending::PreChecksFailed
                }
                Some(
                    FailureKind::Evidence
                    | FailureKind::Trust
                    | FailureKind::NotAllowed
                    | FailureKind::Unsupported,
                ) => Ending::Refused,
                Some(FailureKind::Drift) => Ending::Drifted,
                _ => Ending::RolledBack,
            },
            _ => Ending::RolledBack,
        }
    }

    /// The migration that the deployment fails with. What was to free the way back of a rollout that is
    /// frozen is none of these: that rollout stands where it stood.
    fn failed_migration(&self) -> Option<&Migration> {
        self.migrations
            .iter()
            .find(|it| it.frees.is_none() && it.has_failed())
    }

    fn has_taken_back(&self, step: &Step) -> bool {
        let (target, leaves) = (step.reversed().target, step.reversed().leaves);
        self.steps.iter().any(|back| {
            let undoes = (&back.target, &back.leaves) == (&target, &leaves);
            back.purpose == Purpose::Back && undoes && back.is_back()
        })
    }
}

impl Step {
    fn summary(&self) -> Option<&Summary> {
        match &self.status {
            StepStatus::Ended(_, summary) => Some(summary),
            _ => None,
        }
    }

    fn has_succeeded(&self) -> bool {
        self.summary()
            .is_some_and(|summary| summary.outcome == Outcome::Succeeded)
    }

    fn was_aborted(&self) -> bool {
        self.summary()
            .is_some_and(|summary| matches!(summary.outcome, Outcome::Aborted { .. }))
    }

    fn was_asked_back(&self) -> bool {
        self.summary().is_some_and(|summary| {
            matches!(
                summary.outcome,
                Outcome::RolledBack(Cause::Asked { .. })
                    | Outcome::NotRolledBack(Cause::Asked { .. })
            )
        })
    }

    /// Whether this went back without a host left behind.
    fn is_back(&self) -> bool {
        self.summary()
            .is_some_and(|summary| summary.outcome == Outcome::Succeeded && summary.failed == 0)
    }

    /// Whether this switches routers.
    pub fn is_switch(&self) -> bool {
        self.leaves.is_some()
    }

    /// Whether users meet, or the target runs, something else because of it.
    fn changed(&self) -> bool {
        let differs = match &self.leaves {
            Some(pool) => *pool != self.target.pool,
            None => self.from != self.release,
        };
        self.has_succeeded() && differs
    }

    fn reversed(&self) -> Self {
        let mut target = self.target.clone();
        let leaves = self.leaves.as_ref().map(|left| {
            // The other way.
            std::mem::replace(&mut target.pool, left.clone())
        });
        Self {
            target,
            leaves,
            release: self.from.clone(),
            from: self.release.clone(),
            purpose: Purpose::Back,
            status: StepStatus::Waiting,
        }
    }
}

impl Ending {
    /// The exit code of the command that asked for it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Refused => 3,
            Self::PreChecksFailed => 5,
            Self::RolledBack => 6,
            Self::NotRolledBack | Self::Aborted => 7,
            Self::HostsAway => 9,
            Self::Drifted => 10,
        }
    }
}
