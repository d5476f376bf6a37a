//! `apply`: one event changes the state, or is refused as illegal and changes nothing.

use super::event::{Event, Illegal, Touched};
use super::plan::NewRollout;
use super::state::{
    Cause, HISTORY, Host, OpenGrant, Outcome, Part, PartStatus, Pause, Presence, Rollout, Stage,
    Target,
};
use crate::desired::{Failure, FailureKind, Purpose};
use crate::id::HostName;
use crate::moment::Moment;

impl Target {
    /// Applies one event that happened at `at`, and says what it changed.
    ///
    /// Events from hosts may come late, twice, or out of order: what is stale changes nothing.
    ///
    /// # Errors
    /// [`Illegal`] when the event cannot happen in this state; the state is then unchanged.
    pub fn apply(&mut self, event: &Event, at: Moment) -> Result<Touched, Illegal> {
        match event {
            Event::HostAdded(name) => Ok(self.add_host(name, at)),
            Event::HostRemoved(name) => Ok(self.remove_host(name)),
            Event::HostReset(name) => self.change_host(name, |host| {
                let last_grant = host.last_grant;
                let part = host.part.take();
                *host = Host {
                    last_grant,
                    part,
                    ..Host::new(at)
                };
            }),
            Event::PolicyChanged(policy) => {
                self.policy = policy.clone();
                Ok(Touched::head())
            }
            Event::Line(line) => {
                if self.line == *line {
                    return Ok(Touched::default());
                }
                self.line.clone_from(line);
                Ok(Touched::head())
            }
            Event::Opening(opening) => {
                if self.opening == *opening {
                    return Ok(Touched::default());
                }
                self.opening = opening.clone();
                if opening.lets(at)
                    && let Ok(rollout) = self.running()
                {
                    // Hosts' time does not run while it is closed.
                    rollout.progress_at = at;
                }
                Ok(Touched::head())
            }
            Event::Approval(awaits) => self.await_approval(awaits.as_deref(), at),
            Event::Restored => Ok(self.restored(at)),
            Event::Adopted => Ok(self.adopt()),
            Event::Settled => self.settled(),
            Event::Connected(name) => {
                self.change_host(name, |host| host.presence = Presence::Connected)
            }
            Event::Lost(name) => self.change_host(name, |host| {
                if host.is_connected() {
                    host.presence = Presence::Away(at);
                }
            }),
            Event::Reported(name, seen) => self.observe(name, seen, at),
            Event::Started(new) => self.start(new),
            Event::Paused { by, reason } => self.pause(by, reason, false, at),
            Event::Resumed => self.resume(at),
            Event::Promoted { .. } => self.promote(at),
            Event::Aborted { by, reason } => self.abort(by, reason, at),
            Event::RollbackAsked { by, reason } => {
                let rollout = self.running()?;
                if rollout.purpose == Purpose::Back
                    || matches!(rollout.stage, Stage::RollingBack { .. })
                {
                    return Err(Illegal::AlreadyGoingBack);
                }
                if let Some(line) = &self.line {
                    return Err(Illegal::Line(line.clone()));
                }
                self.turn_back(
                    Cause::Asked {
                        by: by.clone(),
                        reason: reason.clone(),
                    },
                    at,
                )
            }
            Event::Granted { host, .. } => self.grant(host, event, at),
            Event::GaveUp(name) => self.give_up(name),
            Event::MayStage(name) => self.may_stage(name, at),
            Event::WaveStarted(wave) => self.start_wave(*wave, at),
            Event::WaveBaking(wave) => self.bake(*wave, at),
            Event::TurnedBack(cause) => self.turn_back(cause.clone(), at),
            Event::PausedByPolicy(cause) => self.pause("the policy", &cause.to_string(), false, at),
            Event::Frozen(cause) => self.freeze(cause, at),
            Event::Ended(outcome) => self.end(outcome, at),
        }
    }

    // === hosts ===

    fn add_host(&mut self, name: &HostName, at: Moment) -> Touched {
        if self.hosts.contains_key(name) {
            return Touched::default();
        }
        self.hosts.insert(name.clone(), Host::new(at));
        Touched::host(name)
    }

    fn remove_host(&mut self, name: &HostName) -> Touched {
        match self.hosts.remove(name) {
            Some(_) => Touched::host(name),
            None => Touched::default(),
        }
    }

    fn host(&mut self, name: &HostName) -> Result<&mut Host, Illegal> {
        self.hosts
            .get_mut(name)
            .ok_or_else(|| Illegal::NoSuchHost(name.clone()))
    }

    fn change_host(
        &mut self,
        name: &HostName,
        change: impl FnOnce(&mut Host),
    ) -> Result<Touched, Illegal> {
        let host = self.host(name)?;
        let before = host.clone();
        change(host);
        Ok(if *host == before {
            Touched::default()
        } else {
            Touched::host(name)
        })
    }

    fn restored(&mut self, at: Moment) -> Touched {
        let mut touched = Touched::head();
        self.unsettled = true;
        for (name, host) in &mut self.hosts {
            host.known = false;
            touched.hosts.insert(name.clone());
        }
        if let Ok(rollout) = self.running() {
            rollout.paused.get_or_insert_with(|| Pause {
                by: "the restore".to_owned(),
                reason: "hosts may have moved on since the backup".to_owned(),
                at,
                frozen: false,
            });
        }
        touched
    }

    fn adopt(&mut self) -> Touched {
        if !self.unsettled {
            return Touched::default();
        }
        self.unsettled = false;
        let prevailing = self.prevailing().cloned();
        if let Some(release) = prevailing.filter(|found| !self.bad.contains(&found.manifest)) {
            self.settle(Some(release), Purpose::Forward);
        }
        Touched::head()
    }

    fn settled(&mut self) -> Result<Touched, Illegal> {
        if !self.agrees() {
            return Err(Illegal::OutOfOrder);
        }
        self.unsettled = false;
        Ok(Touched::head())
    }

    /// Whether the target is unsettled, and every host was heard since and runs its release.
    pub(super) fn agrees(&self) -> bool {
        self.unsettled
            && self.active().is_none()
            && self
                .hosts
                .values()
                .all(|host| host.known && host.running == self.release)
    }

    // === people ===

    fn running(&mut self) -> Result<&mut Rollout, Illegal> {
        match self.rollout.as_mut() {
            Some(rollout) if !rollout.has_ended() => Ok(rollout),
            _ => Err(Illegal::NoRollout),
        }
    }

    fn start(&mut self, new: &NewRollout) -> Result<Touched, Illegal> {
        if let Some(rollout) = self.active() {
            return Err(Illegal::AlreadyRunning(rollout.id));
        }
        if let Some(missing) = new
            .waves
            .keys()
            .find(|name| !self.hosts.contains_key(*name))
        {
            return Err(Illegal::NoSuchHost(missing.clone()));
        }
        if let (Purpose::Back, Some(release)) = (new.rollout.purpose, &new.rollout.release)
            && self.bad.contains(&release.manifest)
        {
            return Err(Illegal::KnownBad(release.clone()));
        }
        let mut touched = Touched::head();
        for (name, host) in &mut self.hosts {
            // A host that may still be switching to something else is not there, whatever it runs now.
            let leaves = host.grant.as_ref();
            let leaves = leaves.is_some_and(|grant| grant.release != new.rollout.release);
            host.part = new.waves.get(name).map(|wave| Part {
                rollout: new.rollout.id,
                wave: *wave,
                from: host.running.clone(),
                may_stage: false,
                moved: false,
                status: if host.running == new.rollout.release && !leaves {
                    PartStatus::Done
                } else {
                    PartStatus::Waiting
                },
            });
            host.tried = None;
            touched.hosts.insert(name.clone());
        }
        self.rollout = Some(new.rollout.clone());
        Ok(touched)
    }

    fn await_approval(&mut self, awaits: Option<&str>, at: Moment) -> Result<Touched, Illegal> {
        let rollout = self.running()?;
        if rollout.wave().is_none() {
            return Err(Illegal::OutOfOrder);
        }
        if rollout.awaits.as_deref() == awaits {
            return Ok(Touched::default());
        }
        rollout.awaits = awaits.map(str::to_owned);
        // People have the time that they need: hosts' time runs from when they may be moved.
        rollout.progress_at = at;
        Ok(Touched::head())
    }

    /// What would have gone back stays where it is, for what it would go back to does not work with the
    /// database any more.
    fn freeze(&mut self, cause: &Cause, at: Moment) -> Result<Touched, Illegal> {
        let line = self.line.clone().ok_or(Illegal::OutOfOrder)?;
        let reason = format!("{cause}; it does not go back, for {line}");
        self.pause("the database", &reason, true, at)
    }

    fn pause(
        &mut self,
        by: &str,
        reason: &str,
        frozen: bool,
        at: Moment,
    ) -> Result<Touched, Illegal> {
        let rollout = self.running()?;
        if let Some(pause) = &rollout.paused {
            return Err(Illegal::AlreadyPaused(pause.by.clone()));
        }
        rollout.paused = Some(Pause {
            by: by.to_owned(),
            reason: reason.to_owned(),
            at,
            frozen,
        });
        Ok(Touched::head())
    }

    fn resume(&mut self, at: Moment) -> Result<Touched, Illegal> {
        let failed = self
            .parts()
            .filter(|(_, _, part)| part.status.is_failure())
            .count() as u32;
        let rollout = self.running()?;
        if rollout.paused.take().is_none() {
            return Err(Illegal::NotPaused);
        }
        rollout.forgiven = failed;
        rollout.progress_at = at;
        Ok(Touched::head())
    }

    fn promote(&mut self, at: Moment) -> Result<Touched, Illegal> {
        let rollout = self.running()?;
        let Stage::Baking { wave, since } = rollout.stage else {
            return Err(Illegal::NoPoint("a wave is on its way"));
        };
        if rollout.paused.is_some() {
            return Err(Illegal::NoPoint("it is paused, and resumed first"));
        }
        if !rollout.waits_after(wave) {
            return Err(Illegal::NoPoint("it goes on by itself"));
        }
        // Nobody can have seen yet how that wave does.
        if at < since + rollout.policy.bake {
            return Err(Illegal::NoPoint("the wave is still being watched"));
        }
        rollout.promoted = Some(wave);
        Ok(Touched::head())
    }

    fn abort(&mut self, by: &str, reason: &str, at: Moment) -> Result<Touched, Illegal> {
        let rollout = self.running()?;
        let outcome = Outcome::Aborted {
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        rollout.stage = Stage::Ended { outcome, at };
        rollout.paused = None;
        self.converging = false;
        Ok(Touched::head())
    }

    // === decided ===

    fn grant(&mut self, name: &HostName, event: &Event, at: Moment) -> Result<Touched, Illegal> {
        let Event::Granted {
            id,
            release,
            purpose,
            start_by,
            give_up_at,
            ..
        } = event
        else {
            return Err(Illegal::OutOfOrder);
        };
        let host = self.host(name)?;
        if host.grant.is_some() || *id <= host.last_grant {
            return Err(Illegal::BadGrant(name.clone()));
        }
        host.last_grant = *id;
        let again = host.expired.is_some();
        host.grant = Some(OpenGrant {
            id: *id,
            release: release.clone(),
            purpose: *purpose,
            since: at,
            start_by: *start_by,
            give_up_at: *give_up_at,
            overdue: false,
            step: None,
        });
        let touched = Touched::host(name);
        match self.running() {
            Ok(rollout) if !again => {
                rollout.progress_at = at;
                Ok(touched.and_head())
            }
            _ => Ok(touched),
        }
    }

    fn may_stage(&mut self, name: &HostName, at: Moment) -> Result<Touched, Illegal> {
        let rollout = self.running()?;
        let (id, forward) = (rollout.id, rollout.wave().is_some());
        let part = self.host(name)?.part.as_mut();
        let part = part.filter(|part| forward && part.rollout == id && !part.may_stage);
        part.ok_or(Illegal::OutOfOrder)?.may_stage = true;
        // It needs time of its own from here on.
        self.running()?.progress_at = at;
        Ok(Touched::host(name).and_head())
    }

    fn give_up(&mut self, name: &HostName) -> Result<Touched, Illegal> {
        let active = self
            .active()
            .map(|rollout| (rollout.id, rollout.wave().is_some()));
        let host = self.host(name)?;
        if let Some(grant) = &mut host.grant {
            grant.overdue = true;
        }
        let part = host
            .part
            .as_mut()
            .filter(|part| Some(part.rollout) == active.map(|(id, _)| id));
        if let (Some(part), Some((_, forward))) = (part, active) {
            part.status = if forward {
                PartStatus::Silent
            } else {
                PartStatus::NotBack(Failure::seen(
                    FailureKind::Host,
                    "it did not answer in time",
                ))
            };
        }
        Ok(Touched::host(name))
    }

    fn start_wave(&mut self, next: u32, at: Moment) -> Result<Touched, Illegal> {
        let rollout = self.running()?;
        match rollout.stage {
            Stage::Baking { wave, .. }
                if next == wave + 1 && (next as usize) < rollout.waves.len() =>
            {
                rollout.stage = Stage::Rolling { wave: next };
                rollout.progress_at = at;
                Ok(Touched::head())
            }
            _ => Err(Illegal::OutOfOrder),
        }
    }

    fn bake(&mut self, wave: u32, at: Moment) -> Result<Touched, Illegal> {
        let rollout = self.running()?;
        if rollout.stage != (Stage::Rolling { wave }) {
            return Err(Illegal::OutOfOrder);
        }
        rollout.stage = Stage::Baking { wave, since: at };
        Ok(Touched::head())
    }

    fn turn_back(&mut self, cause: Cause, at: Moment) -> Result<Touched, Illegal> {
        let (current, line) = (self.release.clone(), self.line.clone());
        let ran_and_failed = self
            .parts()
            .any(|(_, _, part)| matches!(part.status, PartStatus::Failed(_)));
        let rollout = self.running()?;
        if rollout.wave().is_none() {
            return Err(Illegal::AlreadyGoingBack);
        }
        if let Some(line) = line {
            return Err(Illegal::Line(line));
        }
        // Only what ran and failed is bad; a host that refused it, or fell silent, says nothing of it.
        let verdict = matches!(cause, Cause::TooManyFailures { .. }) && ran_and_failed;
        let found_bad = rollout
            .release
            .clone()
            .filter(|release| verdict && current.as_ref() != Some(release));
        rollout.stage = Stage::RollingBack { cause };
        rollout.awaits = None;
        rollout.paused = None;
        rollout.progress_at = at;
        if let Some(release) = found_bad {
            self.history.retain(|old| old.manifest != release.manifest);
            self.bad.insert(release.manifest);
        }
        Ok(Touched::head())
    }

    fn end(&mut self, outcome: &Outcome, at: Moment) -> Result<Touched, Illegal> {
        let rollout = self.running()?;
        let follows = matches!(
            (&rollout.stage, outcome, rollout.purpose),
            (Stage::Baking { .. }, Outcome::Succeeded, _)
                | (
                    Stage::RollingBack { .. },
                    Outcome::RolledBack(_) | Outcome::NotRolledBack(_),
                    _
                )
        );
        if !follows {
            return Err(Illegal::OutOfOrder);
        }
        rollout.stage = Stage::Ended {
            outcome: outcome.clone(),
            at,
        };
        let (release, purpose) = (rollout.release.clone(), rollout.purpose);
        self.converging = true;
        if *outcome == Outcome::Succeeded {
            self.unsettled = false;
            self.settle(release, purpose);
        }
        Ok(Touched::head())
    }

    /// The rollout's release is the target's release from now on.
    fn settle(&mut self, release: Option<crate::release::ReleaseRef>, purpose: Purpose) {
        if let Some(release) = &release {
            self.bad.remove(&release.manifest);
        }
        if self.release == release {
            return;
        }
        match purpose {
            Purpose::Forward => self.history.extend(self.release.take()),
            // Going back again goes further back, not forth.
            Purpose::Back => {
                if let Some(at) = self
                    .history
                    .iter()
                    .rposition(|old| Some(old) == release.as_ref())
                {
                    self.history.truncate(at);
                }
            }
        }
        self.history.retain(|old| Some(old) != release.as_ref());
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
        self.release = release;
    }
}
