//! What must hold after every event.
//!
//! A [`Witness`] keeps its own books from the events alone, and compares the engine's doings with the
//! promises. It shares no formula with the engine, so that a wrong engine does not agree with it. It
//! serves the property tests and the simulator; it costs nothing in production.

use super::event::{Event, Observation};
use super::state::{Cause, Target};
use crate::desired::{ActivationStatus, Purpose};
use crate::digest::Digest;
use crate::generation::Generation;
use crate::id::HostName;
use crate::moment::Moment;
use crate::policy::{Policy, Quantity};
use crate::release::ReleaseRef;
use std::collections::{BTreeMap, BTreeSet};

/// A promise that was broken, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

/// The books of somebody who watches a target and trusts nobody.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    /// Grants without an answer.
    open: BTreeMap<HostName, (Generation, Option<ReleaseRef>)>,
    /// The newest grant of each host.
    newest: BTreeMap<HostName, Generation>,
    /// The last answer of each host: what is older is an echo.
    heard: BTreeMap<HostName, (Generation, bool)>,
    /// What failed where since the last rollout started.
    failed: BTreeSet<(HostName, Option<ReleaseRef>)>,
    /// Releases that hosts ran and failed with, when the rollout was taken back for it.
    bad: BTreeSet<Digest>,
    /// The rollout that runs.
    rollout: Option<Books>,
}

#[derive(Debug, Clone)]
struct Books {
    release: Option<ReleaseRef>,
    before: Option<ReleaseRef>,
    purpose: Purpose,
    policy: Policy,
    waves: BTreeMap<HostName, u32>,
    canary: bool,
    wave: u32,
    /// Hosts that are through, and when.
    through: BTreeMap<HostName, Moment>,
    /// Hosts that this rollout failed on or gave up.
    failures: BTreeSet<HostName>,
    /// Hosts that ran the release and were found unfit.
    ran_and_failed: bool,
    /// Hosts that the release was brought to.
    moved: BTreeSet<HostName>,
    forgiven: usize,
    paused: bool,
    going_back: bool,
}

impl Witness {
    /// Takes note of `event`, which led from `before` to `after` at `now`.
    ///
    /// # Errors
    /// The promise that was [`Broken`].
    pub fn saw(
        &mut self,
        before: &Target,
        event: &Event,
        after: &Target,
        now: Moment,
    ) -> Result<(), Broken> {
        match event {
            Event::Granted {
                host,
                id,
                release,
                purpose,
                start_by,
                ..
            } => {
                self.judge_grant(
                    before,
                    host,
                    *id,
                    release.as_ref(),
                    *purpose,
                    now < *start_by,
                )?;
                self.open.insert(host.clone(), (*id, release.clone()));
                self.newest.insert(host.clone(), *id);
            }
            Event::Reported(host, seen) => self.hear(before, after, host, seen, now),
            Event::HostRemoved(host) | Event::HostReset(host) => {
                self.open.remove(host);
                self.heard.remove(host);
                self.failed.retain(|(other, _)| other != host);
            }
            Event::GaveUp(host) => {
                if let Some(books) = &mut self.rollout {
                    books.failures.insert(host.clone());
                    books.through.entry(host.clone()).or_insert(now);
                }
            }
            Event::Started(new) => {
                self.failed.clear();
                let there = |host: &&HostName| before.hosts[*host].running == new.rollout.release;
                self.rollout = Some(Books {
                    release: new.rollout.release.clone(),
                    before: before.release.clone(),
                    purpose: new.rollout.purpose,
                    policy: new.rollout.policy.clone(),
                    canary: new.rollout.waves.first().is_some_and(|wave| wave.canary),
                    through: new
                        .waves
                        .keys()
                        .filter(there)
                        .map(|host| (host.clone(), now))
                        .collect(),
                    waves: new.waves.clone(),
                    wave: 0,
                    failures: BTreeSet::new(),
                    ran_and_failed: false,
                    moved: BTreeSet::new(),
                    forgiven: 0,
                    paused: false,
                    going_back: false,
                });
            }
            Event::WaveStarted(wave) => self.judge_wave(before, *wave, now)?,
            Event::Paused { .. } | Event::PausedByPolicy(_) => {
                self.books(|books| books.paused = true);
            }
            Event::Resumed => self.books(|books| {
                books.paused = false;
                books.forgiven = books.failures.len();
            }),
            Event::RollbackAsked { .. } => self.books(|books| {
                books.going_back = true;
                books.paused = false;
            }),
            Event::TurnedBack(cause) => {
                if let Some(books) = &mut self.rollout {
                    books.going_back = true;
                    books.paused = false;
                    let verdict =
                        books.ran_and_failed && matches!(cause, Cause::TooManyFailures { .. });
                    if let Some(release) = books
                        .release
                        .as_ref()
                        .filter(|r| verdict && books.before.as_ref() != Some(*r))
                    {
                        self.bad.insert(release.manifest);
                    }
                }
            }
            Event::Aborted { .. } | Event::Ended(_) => {
                if let (Event::Ended(super::Outcome::Succeeded), Some(books)) =
                    (event, &self.rollout)
                    && let Some(release) = &books.release
                {
                    self.bad.remove(&release.manifest);
                }
                self.rollout = None;
            }
            Event::HostAdded(_)
            | Event::PolicyChanged(_)
            | Event::Connected(_)
            | Event::Lost(_)
            | Event::WaveBaking(_) => {}
        }
        match &after.release {
            Some(release) if self.bad.contains(&release.manifest) => {
                broken(format!("the target's release {release} is known bad"))
            }
            _ => Ok(()),
        }
    }

    fn books(&mut self, change: impl FnOnce(&mut Books)) {
        if let Some(books) = &mut self.rollout {
            change(books);
        }
    }

    fn judge_grant(
        &self,
        before: &Target,
        name: &HostName,
        id: Generation,
        release: Option<&ReleaseRef>,
        purpose: Purpose,
        startable: bool,
    ) -> Result<(), Broken> {
        let host = &before.hosts[name];
        if self.open.contains_key(name) {
            return broken(format!(
                "{name} was granted a second switch while the first is open"
            ));
        }
        if self.newest.get(name).is_some_and(|newest| *newest >= id) {
            return broken(format!(
                "{name}: grant {id} is not newer than the one before"
            ));
        }
        if !startable || host.presence != super::Presence::Connected || host.hold.is_some() {
            return broken(format!(
                "{name} was granted a switch that it cannot or must not start"
            ));
        }
        if release.is_some_and(|release| !host.staged.contains(&release.manifest)) {
            return broken(format!(
                "{name} was granted a release that it does not have"
            ));
        }
        if self.failed.contains(&(name.clone(), release.cloned())) {
            return broken(format!("{name} was granted again what had failed there"));
        }
        if release.is_some_and(|release| self.bad.contains(&release.manifest))
            && purpose == Purpose::Back
        {
            return broken(format!("{name} was sent back to a release known bad"));
        }
        let policy = self
            .rollout
            .as_ref()
            .map_or(&before.policy, |books| &books.policy);
        let most = at_most(policy.max_parallel, before.hosts.len());
        if self.open.len() + 1 > most {
            return broken(format!(
                "{} grants are open, {most} may be",
                self.open.len() + 1
            ));
        }
        let down = |host: &super::Host| {
            host.running.is_some()
                && (host.presence != super::Presence::Connected || host.unhealthy.is_some())
        };
        let out: BTreeSet<&HostName> = before
            .hosts
            .iter()
            .filter(|(other, host)| self.open.contains_key(*other) || down(host))
            .map(|(other, _)| other)
            .collect();
        if host.running.is_some() && !down(host) && out.len() + 1 > most {
            return broken(format!(
                "{name} would be out of service as number {}, {most} may be",
                out.len() + 1
            ));
        }
        match &self.rollout {
            Some(books) => books.judge_grant(name, release, purpose),
            None => Ok(()),
        }
    }

    fn judge_wave(&mut self, before: &Target, wave: u32, now: Moment) -> Result<(), Broken> {
        let Some(books) = &mut self.rollout else {
            return broken("a wave without a rollout");
        };
        for (name, _) in books
            .waves
            .iter()
            .filter(|(name, of)| **of < wave && before.hosts.contains_key(*name))
        {
            match books.through.get(name) {
                None => return broken(format!("wave {wave} started while {name} was not through")),
                Some(at)
                    if now.since(*at) < books.policy.bake.0 && books.waves[name] + 1 == wave =>
                {
                    return broken(format!(
                        "wave {wave} started before {name} was watched for {}",
                        books.policy.bake
                    ));
                }
                Some(_) => {}
            }
        }
        if books.paused || books.going_back {
            return broken("a wave started in a rollout that is paused or goes back");
        }
        books.wave = wave;
        Ok(())
    }

    fn hear(
        &mut self,
        before: &Target,
        after: &Target,
        name: &HostName,
        seen: &Observation,
        now: Moment,
    ) {
        let said = seen
            .activation
            .as_ref()
            .map(|a| (a.grant, a.status.is_final()))
            .unwrap_or_default();
        if self.heard.get(name).is_some_and(|heard| said < *heard) {
            return;
        }
        self.heard.insert(name.clone(), said);
        let answer = seen.activation.as_ref().filter(|a| {
            a.status.is_final() && self.open.get(name).is_some_and(|(id, _)| *id == a.grant)
        });
        if let Some(answer) = answer {
            let (_, release) = self.open.remove(name).unwrap_or_default();
            let failed = matches!(
                answer.status,
                ActivationStatus::Refused(_)
                    | ActivationStatus::Undone(_)
                    | ActivationStatus::Stuck(_)
            );
            if failed {
                self.failed.insert((name.clone(), release.clone()));
            }
            if let Some(books) = self
                .rollout
                .as_mut()
                .filter(|books| books.release == release && books.waves.contains_key(name))
            {
                books.note_answer(name, &answer.status, now);
            }
        }
        // A host that needed no grant, or got worse after its switch: the part says so, and only that is believed.
        let part = |target: &Target| target.hosts.get(name).and_then(|host| host.part.clone());
        if let (Some(books), Some(was), Some(is)) = (&mut self.rollout, part(before), part(after))
            && is.status != was.status
            && !books.going_back
        {
            if is.status.is_failure() {
                books.failures.insert(name.clone());
                books.ran_and_failed |= matches!(is.status, super::PartStatus::Failed(_));
            }
            books.through.entry(name.clone()).or_insert(now);
        }
    }
}

impl Books {
    fn note_answer(&mut self, name: &HostName, status: &ActivationStatus, now: Moment) {
        match status {
            ActivationStatus::Working(_) | ActivationStatus::Expired => return,
            ActivationStatus::Done => {
                self.moved.insert(name.clone());
                self.failures.remove(name);
            }
            ActivationStatus::Refused(_) => {
                self.failures.insert(name.clone());
            }
            ActivationStatus::Undone(_) => {
                self.failures.insert(name.clone());
                self.ran_and_failed = true;
            }
            ActivationStatus::Stuck(_) => {
                self.moved.insert(name.clone());
                self.failures.insert(name.clone());
                self.ran_and_failed = true;
            }
        }
        self.through.entry(name.clone()).or_insert(now);
    }

    fn judge_grant(
        &self,
        name: &HostName,
        release: Option<&ReleaseRef>,
        purpose: Purpose,
    ) -> Result<(), Broken> {
        if self.paused {
            return broken(format!("{name} was granted a switch in a paused rollout"));
        }
        if self.going_back {
            return if release != self.before.as_ref() || purpose != Purpose::Back {
                broken(format!(
                    "{name} goes to something else than what the target ran before"
                ))
            } else if !self.moved.contains(name) {
                broken(format!("{name} goes back and had never moved"))
            } else {
                Ok(())
            };
        }
        let Some(wave) = self.waves.get(name) else {
            return broken(format!("{name} has no part in the rollout"));
        };
        if *wave > self.wave {
            return broken(format!(
                "{name} of wave {wave} was granted a switch in wave {}",
                self.wave
            ));
        }
        if release != self.release.as_ref() {
            return broken(format!(
                "{name} was granted another release than the rollout's"
            ));
        }
        let counted = self
            .failures
            .iter()
            .filter(|host| self.waves.get(*host).is_some_and(|of| *of <= self.wave))
            .count();
        let most = if self.canary && self.wave == 0 {
            0
        } else {
            share_of(self.policy.max_failures, self.waves.len())
        };
        if self.purpose == Purpose::Forward && counted > most.max(self.forgiven) {
            return broken(format!(
                "{name} was granted a switch after {counted} failures, {most} are allowed"
            ));
        }
        Ok(())
    }
}

fn broken<T>(what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken(what.into()))
}

/// "20 %" of 9 hosts is one host: counted off one by one, without the engine's arithmetic.
fn share_of(quantity: Quantity, total: usize) -> usize {
    match quantity {
        Quantity::Hosts(hosts) => total.min(hosts as usize),
        Quantity::Percent(percent) => (1..=total)
            .filter(|n| n * 100 <= total * usize::from(percent))
            .count(),
    }
}

/// At least one, or nothing would ever move.
fn at_most(quantity: Quantity, total: usize) -> usize {
    share_of(quantity, total).max(1)
}
