//! The state of a target: what its hosts should run, what they do run, and the rollout between the two.

use crate::calendar::Opening;
use crate::desired::{Failure, FailureKind, Purpose};
use crate::digest::Digest;
use crate::generation::Generation;
use crate::id::{HostName, TargetKey};
use crate::moment::Moment;
use crate::policy::Policy;
use crate::release::ReleaseRef;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The number of a rollout, as people see it; rises within a controller.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RolloutId(pub u64);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many former releases a target remembers, for going back.
pub const HISTORY: usize = 10;

/// One (environment, component, pool): its hosts, the release they should run, and the rollout, if any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Which one.
    pub key: TargetKey,
    /// The environment's policy as it is now; a rollout keeps the one that it started with.
    pub policy: Policy,
    /// What its hosts should run. Changes only when a rollout succeeds. Never one of `bad`.
    pub release: Option<ReleaseRef>,
    /// The releases before it, newest last, at most [`HISTORY`].
    pub history: Vec<ReleaseRef>,
    /// Releases that a rollout here found bad, by manifest.
    pub bad: BTreeSet<Digest>,
    /// Whether hosts that differ from `release` are brought to it. Not after an abort: then everything
    /// stays as it is until the next rollout.
    pub converging: bool,
    /// Set when the controller was restored from a backup: `release` is what was wanted then, and hosts
    /// may have moved on since. Nothing converges until somebody has decided what is wanted now, or
    /// every host was heard to run `release`.
    pub unsettled: bool,
    /// Set while `release` does not work with a database as that is now, and why: nothing is brought to
    /// it, neither back nor otherwise, until the database has changed.
    pub line: Option<String>,
    /// Whether hosts may be moved forward, as the driver said last.
    #[serde(default)]
    pub opening: Opening,
    /// The rollout that runs, or the last one that ended.
    pub rollout: Option<Rollout>,
    /// Its hosts.
    pub hosts: BTreeMap<HostName, Host>,
}

/// What is known of one host of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Whether it is connected.
    pub presence: Presence,
    /// Whether it has ever said what it runs; until then nothing is granted.
    pub known: bool,
    /// What it said it runs.
    pub running: Option<ReleaseRef>,
    /// The releases that it said are whole on its disk, by manifest.
    pub staged: BTreeSet<Digest>,
    /// The component's check that fails there, and why; `None` when all hold.
    pub unhealthy: Option<Failure>,
    /// Why it was put on hold on the server.
    pub hold: Option<String>,
    /// The grant that it has not answered for yet.
    pub grant: Option<OpenGrant>,
    /// Set while its last grant ran out unused: when that could have been begun at the latest. It gets no other one
    /// before, and getting one is no progress: a host whose clock is not the controller's would never end otherwise.
    pub expired: Option<Moment>,
    /// The newest grant that was ever given to it.
    pub last_grant: Generation,
    /// The newest grant that it has spoken of, and whether what it said was final: older words are stale.
    pub answered: (Generation, bool),
    /// The last switch that failed there: not tried again for the same release, except by a new rollout.
    pub tried: Option<Tried>,
    /// Its part in the rollout that runs, or in the last one.
    pub part: Option<Part>,
}

/// Whether a host is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// It is.
    Connected,
    /// It is not, and since when.
    Away(Moment),
}

/// Leave to switch that a host has not answered for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGrant {
    /// Which grant.
    pub id: Generation,
    /// To which release; `None`: to none, stopped.
    pub release: Option<ReleaseRef>,
    /// Forward or back.
    pub purpose: Purpose,
    /// When it was given.
    pub since: Moment,
    /// The host must start by then.
    pub start_by: Moment,
    /// A host that has not answered by then counts as silent; its grant stays open all the same.
    pub give_up_at: Moment,
    /// Whether it was given up.
    pub overdue: bool,
    /// The step that the host last said it is at.
    pub step: Option<String>,
}

/// A switch that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The release it was for.
    pub release: Option<ReleaseRef>,
    /// Why it failed.
    pub failure: Failure,
}

/// A host's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Its wave, from zero.
    pub wave: u32,
    /// What it ran when the rollout started.
    pub from: Option<ReleaseRef>,
    /// Whether the host may fetch the rollout's release.
    pub may_stage: bool,
    /// Whether this rollout has brought its release to the host.
    pub moved: bool,
    /// How far it is.
    pub status: PartStatus,
}

/// How far a host is in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartStatus {
    /// Not there yet.
    Waiting,
    /// It runs the release.
    Done,
    /// It refused before anything changed.
    Refused(Failure),
    /// It failed, and was undone on the spot, or got worse after it was done.
    Failed(Failure),
    /// It did not answer in time.
    Silent,
    /// It had to go back, and could not.
    NotBack(Failure),
}

impl PartStatus {
    /// Whether it counts against the failure budget.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Waiting | Self::Done)
    }

    /// What failed, where something did.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Refused(failure) | Self::Failed(failure) | Self::NotBack(failure) => {
                Some(failure)
            }
            Self::Waiting | Self::Done | Self::Silent => None,
        }
    }
}

/// A rollout: an immutable plan, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Which one.
    pub id: RolloutId,
    /// The release it brings; `None`: it removes the component.
    pub release: Option<ReleaseRef>,
    /// What the target's release was when it started.
    pub from: Option<ReleaseRef>,
    /// Forward, with all care; or back, in one wave without bake, failures not stopping it.
    pub purpose: Purpose,
    /// The policy it started with.
    pub policy: Policy,
    /// Its waves.
    pub waves: Vec<Wave>,
    /// How many hosts it was planned for.
    pub total: u32,
    /// How many hosts were away or held when it was planned, and are not part of it.
    pub left_out: u32,
    /// Where it stands.
    pub stage: Stage,
    /// Set while nothing may be activated, because people have to approve it first, and how that stands.
    /// The release is staged all the same.
    pub awaits: Option<String>,
    /// Set while it is paused.
    pub paused: Option<Pause>,
    /// The newest wave after which a person has let it go on.
    #[serde(default)]
    pub promoted: Option<u32>,
    /// Failures that a person has seen and accepted by resuming.
    pub forgiven: u32,
    /// When a host last got anywhere.
    pub progress_at: Moment,
    /// When it started.
    pub started_at: Moment,
}

/// A wave of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// `canary`, `25 %`, `100 %`.
    pub name: String,
    /// Whether no failure at all is allowed while it is the newest wave.
    pub canary: bool,
    /// Whether a person must let the rollout go on after it.
    #[serde(default)]
    pub point: bool,
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Hosts up to this wave are being moved.
    Rolling {
        /// The newest wave that has started.
        wave: u32,
    },
    /// Every host up to this wave is through, and is being watched.
    Baking {
        /// The wave that bakes.
        wave: u32,
        /// Since when.
        since: Moment,
    },
    /// Hosts that had moved are going back.
    RollingBack {
        /// Why.
        cause: Cause,
    },
    /// It is over.
    Ended {
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: Moment,
    },
}

/// Why a rollout goes back, or was paused by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// More hosts failed than the policy allows.
    TooManyFailures {
        /// How many failed.
        failed: u32,
        /// How many may.
        allowed: u32,
        /// The first failure, by host name.
        host: HostName,
        /// What failed there.
        failure: Failure,
    },
    /// Routers could not be switched to another pool.
    Switch {
        /// The router that it failed at, where it was one.
        router: Option<HostName>,
        /// What failed.
        why: String,
    },
    /// A person asked for it.
    Asked {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyFailures {
                failed,
                allowed,
                host,
                failure,
            } => {
                write!(f, "{host}: {failure} ({failed} failed, {allowed} may)")
            }
            Self::Switch {
                router: Some(router),
                why,
            } => write!(f, "{router}: {why}"),
            Self::Switch { router: None, why } => f.write_str(why),
            Self::Asked { by, reason } if reason.is_empty() => write!(f, "asked for by {by}"),
            Self::Asked { by, reason } => write!(f, "asked for by {by}: {reason}"),
        }
    }
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The release is the target's release now.
    Succeeded,
    /// Every host that had moved is back.
    RolledBack(Cause),
    /// Not every host that had to go back is back.
    NotRolledBack(Cause),
    /// A person stopped it where it was.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// A paused rollout: who, why, since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who paused it; the policy, where it paused by itself.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Moment,
    /// Whether it would have gone back, and stopped at the line that the database draws.
    pub frozen: bool,
}

// === impl Target ===

impl Target {
    /// A target that has no hosts and runs nothing.
    pub fn new(key: TargetKey, policy: Policy) -> Self {
        Self {
            key,
            policy,
            release: None,
            history: Vec::new(),
            bad: BTreeSet::new(),
            converging: true,
            unsettled: false,
            line: None,
            opening: Opening::default(),
            rollout: None,
            hosts: BTreeMap::new(),
        }
    }

    /// The rollout that runs, if one does.
    pub fn active(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| !rollout.has_ended())
    }

    /// The newest former release that no rollout found bad: what going back goes to.
    pub fn last_good(&self) -> Option<&ReleaseRef> {
        self.history.iter().rev().find(|release| {
            !self.bad.contains(&release.manifest) && self.release.as_ref() != Some(release)
        })
    }

    /// Whether hosts that differ from `release` are brought to it.
    pub fn converges(&self) -> bool {
        self.converging && !self.unsettled
    }

    /// What most of the hosts run that have said so; of two that are equal the target's own release,
    /// else the one of the higher version.
    pub fn prevailing(&self) -> Option<&ReleaseRef> {
        let mut counts: BTreeMap<&ReleaseRef, usize> = BTreeMap::new();
        for host in self.hosts.values().filter(|host| host.known) {
            if let Some(running) = &host.running {
                *counts.entry(running).or_default() += 1;
            }
        }
        let ours = |release| self.release.as_ref() == Some(release);
        counts
            .into_iter()
            .max_by_key(|(release, count)| (*count, ours(release), *release))
            .map(|(release, _)| release)
    }

    /// How many hosts may be out of service at once, now.
    pub fn parallel_limit(&self) -> u32 {
        let policy = self
            .active()
            .map_or(&self.policy, |rollout| &rollout.policy);
        policy.parallel_of(self.hosts.len() as u32)
    }

    /// The parts of the rollout that runs, or of the last one.
    pub fn parts(&self) -> impl Iterator<Item = (&HostName, &Host, &Part)> {
        let id = self.rollout.as_ref().map(|rollout| rollout.id);
        self.hosts.iter().filter_map(move |(name, host)| {
            let part = host.part.as_ref().filter(|part| Some(part.rollout) == id)?;
            Some((name, host, part))
        })
    }
}

// === impl Host ===

impl Host {
    /// A host that has never spoken.
    pub fn new(at: Moment) -> Self {
        Self {
            presence: Presence::Away(at),
            known: false,
            running: None,
            staged: BTreeSet::new(),
            unhealthy: None,
            hold: None,
            grant: None,
            expired: None,
            last_grant: Generation::default(),
            answered: (Generation::default(), false),
            tried: None,
            part: None,
        }
    }

    /// Why it counts as failed although it has not said so.
    pub fn silence(&self) -> Failure {
        // One that can be reached may have waited in vain for its turn.
        let why = if self.is_connected() {
            "it got nowhere within the policy's `progress_deadline`"
        } else {
            "it fell silent"
        };
        Failure::seen(FailureKind::Host, why)
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        self.presence == Presence::Connected
    }

    /// Whether it should be serving and is not: away, or with a check that fails. A host that runs
    /// nothing was never in service.
    pub fn is_down(&self) -> bool {
        self.running.is_some() && (!self.is_connected() || self.unhealthy.is_some())
    }

    /// Whether it can switch to `release` without fetching anything.
    pub fn has(&self, release: Option<&ReleaseRef>) -> bool {
        release.is_none_or(|release| self.staged.contains(&release.manifest))
    }

    /// Whether it could be given a grant at all: connected, known, not held, none open.
    pub fn is_free(&self) -> bool {
        self.is_connected() && self.known && self.hold.is_none() && self.grant.is_none()
    }
}

// === impl Rollout ===

impl Rollout {
    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// The newest wave that has started, while it goes forward.
    pub fn wave(&self) -> Option<u32> {
        match self.stage {
            Stage::Rolling { wave } | Stage::Baking { wave, .. } => Some(wave),
            Stage::RollingBack { .. } | Stage::Ended { .. } => None,
        }
    }

    /// Whether a person must still let it go on after this wave.
    pub fn waits_after(&self, wave: u32) -> bool {
        let point = self.waves.get(wave as usize).is_some_and(|it| it.point);
        point && self.promoted.is_none_or(|promoted| promoted < wave)
    }
}

impl Failure {
    /// A failure that the controller saw, not the host.
    pub fn seen(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            check: None,
            output: String::new(),
        }
    }
}
