//! `decide`: what follows from the state and the time. "Not yet" is a value with a reason.

use super::event::Event;
use super::state::{Cause, Host, Outcome, Part, PartStatus, Rollout, Stage, Target};
use crate::calendar::Opening;
use crate::desired::Purpose;
use crate::id::HostName;
use crate::moment::{Moment, Span};
use crate::release::ReleaseRef;
use std::fmt;

/// How long a host has to start after it was granted. Enough for a message to arrive over a slow
/// line, and short enough that a host which was cut off does not switch long after.
pub(super) const START_WITHIN: Span = Span::secs(60);

/// What follows now, what is waited for, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// To be applied in this order, each at this same time; then decide again.
    pub events: Vec<Event>,
    /// Why nothing more happens; empty when nothing is under way.
    pub waiting_on: Vec<Waiting>,
    /// When time alone may change the decision.
    pub wake_at: Option<Moment>,
}

/// Why a rollout does not go on at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Hosts are switching.
    Switching(Vec<HostName>),
    /// Hosts fetch and unpack the release.
    Staging(Vec<HostName>),
    /// Hosts of the wave are not connected.
    Away(Vec<HostName>),
    /// Hosts whose last grant ran out before they began, and that get another one later.
    Late(Vec<HostName>),
    /// As many hosts are out of service as may be.
    Budget {
        /// How many are.
        out: u32,
        /// How many may be.
        limit: u32,
    },
    /// The wave is being watched.
    Bake {
        /// Until when.
        until: Moment,
    },
    /// People have to approve it; how that stands.
    Approval(String),
    /// More hosts are away than the policy allows.
    Unreachable {
        /// Those that are.
        away: Vec<HostName>,
        /// How many may be.
        allowed: u32,
    },
    /// A person must let it go on after a wave: its name.
    Point(String),
    /// The environment is closed: nothing is moved forward.
    Closed {
        /// Why, and in words when it opens.
        why: String,
        /// Until when; `None`: until a person opens it, or says what holds.
        until: Option<Moment>,
    },
    /// The release that they should be brought to does not work with a database.
    Line(String),
    /// It is paused.
    Paused {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
}

/// The first of these hosts, and how many more there are; `none` where there is none.
pub(super) fn few(hosts: &[HostName], none: &str) -> String {
    match hosts {
        [a] => a.to_string(),
        [a, b] => format!("{a} and {b}"),
        [a, b, rest @ ..] => format!("{a}, {b} and {} more", rest.len()),
        [] => none.to_owned(),
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[HostName]| few(hosts, "no host");
        match self {
            Self::Switching(hosts) => write!(f, "{} to switch", list(hosts)),
            Self::Staging(hosts) => write!(f, "{} to fetch the release", list(hosts)),
            Self::Away(hosts) => write!(f, "{} to come back", list(hosts)),
            Self::Late(hosts) => write!(
                f,
                "another grant for {}, where the last one ran out unused",
                list(hosts)
            ),
            Self::Budget { out, limit } => {
                write!(
                    f,
                    "a host to be in service again: {out} are out, {limit} may be"
                )
            }
            Self::Bake { .. } => f.write_str("the bake to end"),
            Self::Approval(how) => write!(f, "approval: {how}"),
            Self::Unreachable { away, allowed } => {
                write!(f, "{} to come back: {allowed} may be away", list(away))
            }
            Self::Point(wave) => write!(f, "somebody to promote it after {wave}"),
            Self::Closed { why, .. } => write!(f, "the environment to open: {why}"),
            Self::Line(why) => write!(f, "the database: {why}"),
            Self::Paused { by, reason } if reason.is_empty() => {
                write!(f, "a resume: paused by {by}")
            }
            Self::Paused { by, reason } => write!(f, "a resume: paused by {by}: {reason}"),
        }
    }
}

impl Target {
    /// What follows from the state at `now`, in a controller whose epoch is `epoch`.
    ///
    /// Apply `events` and decide again until there are none.
    pub fn decide(&self, now: Moment, epoch: u64) -> Decision {
        let mut decision = Decision::default();
        self.give_up_silent_grants(now, &mut decision);
        if !decision.events.is_empty() {
            // A host that fell silent is a failure: it is counted before anything else is done.
            return decision;
        }
        match self.active() {
            None => self.converge(now, epoch, &mut decision),
            Some(rollout) => match &rollout.stage {
                Stage::Rolling { wave } => self.roll(rollout, *wave, now, epoch, &mut decision),
                Stage::Baking { wave, since } => {
                    self.watch(rollout, *wave, *since, now, &mut decision);
                }
                Stage::RollingBack { cause } => {
                    self.roll_back(rollout, cause, now, epoch, &mut decision);
                }
                Stage::Ended { .. } => {}
            },
        }
        decision
    }

    fn give_up_silent_grants(&self, now: Moment, decision: &mut Decision) {
        for (name, host) in &self.hosts {
            if let Some(grant) = host.grant.as_ref().filter(|grant| !grant.overdue) {
                if now >= grant.give_up_at {
                    decision.events.push(Event::GaveUp(name.clone()));
                } else {
                    decision.wake(grant.give_up_at);
                }
            }
        }
    }

    /// Failures above what is allowed, as a cause. A failed batch stops before anything else is done.
    fn verdict(&self, rollout: &Rollout, wave: u32) -> Option<Cause> {
        if rollout.purpose == Purpose::Back {
            return None;
        }
        let mut failed = 0;
        let mut first = None;
        let counts = |part: &Part| part.wave <= wave && part.status.is_failure();
        for (name, host, part) in self.parts().filter(|(_, _, part)| counts(part)) {
            failed += 1;
            first.get_or_insert((name, host, part));
        }
        let canary = rollout
            .waves
            .get(wave as usize)
            .is_some_and(|wave| wave.canary);
        let budget = if canary {
            0
        } else {
            rollout.policy.max_failures.rounded_down(rollout.total)
        };
        let allowed = budget.max(rollout.forgiven);
        let (name, host, part) = first.filter(|_| failed > allowed)?;
        let failure = part.status.failure().cloned();
        let failure = failure.unwrap_or_else(|| host.silence());
        Some(Cause::TooManyFailures {
            failed,
            allowed,
            host: name.clone(),
            failure,
        })
    }

    /// Handles a failed or paused rollout; says whether the stage goes on.
    fn may_go_on(&self, rollout: &Rollout, wave: u32, decision: &mut Decision) -> bool {
        if let Some(pause) = &rollout.paused {
            decision.waiting_on.push(Waiting::Paused {
                by: pause.by.clone(),
                reason: pause.reason.clone(),
            });
            return false;
        }
        match self.verdict(rollout, wave) {
            None => true,
            Some(cause) => {
                decision.events.push(match rollout.policy.on_failure {
                    crate::policy::OnFailure::Rollback if self.line.is_some() => {
                        Event::Frozen(cause)
                    }
                    crate::policy::OnFailure::Rollback => Event::TurnedBack(cause),
                    crate::policy::OnFailure::Pause => Event::PausedByPolicy(cause),
                });
                false
            }
        }
    }

    fn roll(&self, rollout: &Rollout, wave: u32, now: Moment, epoch: u64, decision: &mut Decision) {
        if !self.may_go_on(rollout, wave, decision) {
            return;
        }
        self.stage_ahead(rollout, decision);
        if let Some(how) = &rollout.awaits {
            decision.waiting_on.push(Waiting::Approval(how.clone()));
            return;
        }
        let open = |part: &Part| part.wave <= wave && part.status == PartStatus::Waiting;
        let waiting: Vec<(&HostName, &Host)> = self
            .parts()
            .filter(|(_, _, part)| open(part))
            .map(|(name, host, _)| (name, host))
            .collect();
        if waiting.is_empty() {
            decision.events.push(Event::WaveBaking(wave));
            return;
        }
        if rollout.purpose == Purpose::Forward && !self.is_open(now, decision) {
            let switching = waiting.iter().filter(|(_, host)| host.grant.is_some());
            let switching: Vec<_> = switching.map(|(name, _)| (*name).clone()).collect();
            if !switching.is_empty() {
                decision.waiting_on.push(Waiting::Switching(switching));
            }
            return;
        }
        if rollout.purpose == Purpose::Forward
            && let Some((away, allowed)) = self.too_many_away(&rollout.policy)
        {
            decision
                .waiting_on
                .push(Waiting::Unreachable { away, allowed });
            // They have as long as everybody: then the hosts that wait for them count as failed.
            self.give_up_without_progress(rollout, &waiting, now, decision);
            return;
        }
        self.grant_some(
            &waiting,
            rollout.release.as_ref(),
            rollout.purpose,
            now,
            epoch,
            decision,
        );
        self.give_up_without_progress(rollout, &waiting, now, decision);
    }

    fn watch(
        &self,
        rollout: &Rollout,
        wave: u32,
        since: Moment,
        now: Moment,
        decision: &mut Decision,
    ) {
        if !self.may_go_on(rollout, wave, decision) {
            return;
        }
        self.stage_ahead(rollout, decision);
        let bake = if rollout.purpose == Purpose::Back {
            Span::secs(0)
        } else {
            rollout.policy.bake
        };
        let until = since + bake;
        if now < until {
            decision.wake(until);
            decision.waiting_on.push(Waiting::Bake { until });
        } else if rollout.waits_after(wave) {
            let name = rollout.waves.get(wave as usize);
            let name = name.map_or_else(String::new, |wave| wave.name.clone());
            decision.waiting_on.push(Waiting::Point(name));
        } else if (wave as usize) + 1 < rollout.waves.len() {
            decision.events.push(Event::WaveStarted(wave + 1));
        } else {
            decision.events.push(Event::Ended(Outcome::Succeeded));
        }
    }

    fn roll_back(
        &self,
        rollout: &Rollout,
        cause: &Cause,
        now: Moment,
        epoch: u64,
        decision: &mut Decision,
    ) {
        if let Some(pause) = &rollout.paused {
            decision.waiting_on.push(Waiting::Paused {
                by: pause.by.clone(),
                reason: pause.reason.clone(),
            });
            return;
        }
        let must_go = |host: &Host, part: &Part| {
            let may_have_moved = host.grant.as_ref().is_some_and(|grant| !grant.overdue);
            !matches!(part.status, PartStatus::NotBack(_))
                && (may_have_moved || part.moved && host.running != self.release)
        };
        let waiting: Vec<(&HostName, &Host)> = self
            .parts()
            .filter(|(_, host, part)| must_go(host, part))
            .map(|(name, host, _)| (name, host))
            .collect();
        if waiting.is_empty() {
            let stranded = self.parts().any(|(_, host, part)| {
                host.grant.is_some() || matches!(part.status, PartStatus::NotBack(_))
            });
            decision.events.push(Event::Ended(if stranded {
                Outcome::NotRolledBack(cause.clone())
            } else {
                Outcome::RolledBack(cause.clone())
            }));
            return;
        }
        // Drawn while it was going back: whoever has not moved yet stays.
        if let Some(line) = &self.line {
            decision.waiting_on.push(Waiting::Line(line.clone()));
            return;
        }
        self.grant_some(
            &waiting,
            self.release.as_ref(),
            Purpose::Back,
            now,
            epoch,
            decision,
        );
        self.give_up_without_progress(rollout, &waiting, now, decision);
    }

    /// No rollout runs: hosts that were away, and new ones, are brought to the target's release.
    fn converge(&self, now: Moment, epoch: u64, decision: &mut Decision) {
        if self.agrees() {
            decision.events.push(Event::Settled);
            return;
        }
        if !self.converges() || self.line.is_some() {
            return;
        }
        let (back, forward): (Vec<_>, Vec<_>) = self
            .hosts
            .iter()
            .filter(|(_, host)| self.strays(host))
            .partition(|(_, host)| {
                host.running
                    .as_ref()
                    .is_some_and(|running| self.was_taken_back(running))
            });
        self.grant_some(
            &back,
            self.release.as_ref(),
            Purpose::Back,
            now,
            epoch,
            decision,
        );
        let may = decision.events.is_empty() && self.release.is_some() && !forward.is_empty();
        if may && self.is_open(now, decision) {
            self.grant_some(
                &forward,
                self.release.as_ref(),
                Purpose::Forward,
                now,
                epoch,
                decision,
            );
        }
    }

    /// Whether a host may be moved forward now; if not, says why, and until when.
    fn is_open(&self, now: Moment, decision: &mut Decision) -> bool {
        let until = self.opening.until().filter(|until| *until > now);
        until.into_iter().for_each(|until| decision.wake(until));
        if self.opening.lets(now) {
            return true;
        }
        let why = match &self.opening {
            Opening::Closed { why, .. } => why.clone(),
            Opening::Open { .. } => "its calendar is looked at".to_owned(),
        };
        decision.waiting_on.push(Waiting::Closed { why, until });
        false
    }

    /// Whether a release is bad, or was what the last rollout took back, or any of a component that was never brought
    /// here to stay: a host that comes back late with it goes back like the others.
    fn was_taken_back(&self, release: &ReleaseRef) -> bool {
        let by_last = self.rollout.as_ref().is_some_and(|last| {
            let Stage::Ended { outcome, .. } = &last.stage else {
                return false;
            };
            let taken = match outcome {
                Outcome::RolledBack(_) | Outcome::NotRolledBack(_) => last.release.as_ref(),
                Outcome::Succeeded if last.purpose == Purpose::Back => last.from.as_ref(),
                Outcome::Succeeded | Outcome::Aborted { .. } => None,
            };
            taken == Some(release) || self.release.is_none()
        });
        self.bad.contains(&release.manifest) || by_last
    }

    /// Whether a host differs from the target's release, and may be brought there without being asked:
    /// what failed there once is not tried again by itself.
    fn strays(&self, host: &Host) -> bool {
        host.known
            && host.running != self.release
            && host
                .tried
                .as_ref()
                .is_none_or(|tried| tried.release != self.release)
    }

    /// Grants as many of these hosts as the policy allows, and says what the others wait for.
    ///
    /// Two bounds hold: never more open grants than the limit; and a grant that takes a serving host
    /// out of service needs room beside all that are out already. A host that is down may be moved
    /// without spending that room.
    fn grant_some(
        &self,
        hosts: &[(&HostName, &Host)],
        release: Option<&ReleaseRef>,
        purpose: Purpose,
        now: Moment,
        epoch: u64,
        decision: &mut Decision,
    ) {
        let limit = self.parallel_limit();
        let mut open = self
            .hosts
            .values()
            .filter(|host| host.grant.is_some())
            .count() as u32;
        let mut out = self
            .hosts
            .values()
            .filter(|host| host.grant.is_some() || host.is_down())
            .count() as u32;
        let (mut switching, mut staging, mut away) = (Vec::new(), Vec::new(), Vec::new());
        let mut late = Vec::new();
        let mut blocked = false;
        // Whoever goes forward starts before it closes.
        let closes = self.opening.until().filter(|_| purpose == Purpose::Forward);
        let start_by = closes.map_or(now + START_WITHIN, |at| at.min(now + START_WITHIN));
        for (name, host) in hosts {
            let serving = host.running.is_some() && !host.is_down();
            if host.grant.is_some() {
                switching.push((*name).clone());
            } else if !host.is_free() {
                away.push((*name).clone());
            } else if !host.has(release) {
                staging.push((*name).clone());
            } else if let Some(at) = host.expired.filter(|at| now < *at) {
                late.push((*name).clone());
                decision.wake(at);
            } else if open >= limit || (serving && out >= limit) {
                blocked = true;
            } else {
                open += 1;
                out += u32::from(!host.is_down());
                decision.events.push(Event::Granted {
                    host: (*name).clone(),
                    id: host.last_grant.next(epoch),
                    release: release.cloned(),
                    purpose,
                    start_by,
                    give_up_at: start_by + self.progress_deadline(),
                });
            }
        }
        if blocked && switching.is_empty() {
            decision.waiting_on.push(Waiting::Budget { out, limit });
        }
        for (hosts, reason) in [
            (switching, Waiting::Switching as fn(_) -> _),
            (staging, Waiting::Staging),
            (away, Waiting::Away),
            (late, Waiting::Late),
        ] {
            if !hosts.is_empty() {
                decision.waiting_on.push(reason(hosts));
            }
        }
    }

    fn progress_deadline(&self) -> Span {
        self.active()
            .map_or(self.policy.progress_deadline, |rollout| {
                rollout.policy.progress_deadline
            })
    }

    /// Hosts that nobody can move for longer than the deadline count as failed, so that a rollout always ends.
    fn give_up_without_progress(
        &self,
        rollout: &Rollout,
        waiting: &[(&HostName, &Host)],
        now: Moment,
        decision: &mut Decision,
    ) {
        let deadline = rollout.progress_at + rollout.policy.progress_deadline;
        if now < deadline {
            decision.wake(deadline);
            return;
        }
        let granting = decision
            .events
            .iter()
            .any(|event| matches!(event, Event::Granted { .. } | Event::MayStage(_)));
        // While a granted host may still answer, the others wait for it and not for nothing.
        let answers_due = self
            .hosts
            .values()
            .any(|host| host.grant.as_ref().is_some_and(|g| !g.overdue));
        if !granting && !answers_due {
            // Nor is it the fault of those who wait for others to have fetched it.
            let mut stuck: Vec<_> = waiting
                .iter()
                .filter(|(_, host)| host.grant.as_ref().is_none_or(|grant| grant.overdue))
                .collect();
            if stuck
                .iter()
                .any(|(_, host)| !self.waits_to_fetch(rollout, host))
            {
                stuck.retain(|(_, host)| !self.waits_to_fetch(rollout, host));
            }
            decision
                .events
                .extend(stuck.iter().map(|(name, _)| Event::GaveUp((*name).clone())));
        }
    }
}

impl Decision {
    fn wake(&mut self, at: Moment) {
        self.wake_at = Some(self.wake_at.map_or(at, |sooner| sooner.min(at)));
    }
}
