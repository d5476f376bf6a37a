//! What must hold after every event.
//!
//! A [`Witness`] keeps its own books from the events alone, and compares the engine's doings with the
//! promises. It shares no formula with the engine, so that a wrong engine does not agree with it. It
//! serves the property tests and the simulator; it costs nothing in production.

mod books;
mod staging;

use super::event::{Event, Observation};
use super::state::{Cause, Outcome, Target};
use crate::calendar::Opening;
use crate::desired::{ActivationStatus, Purpose};
use crate::digest::Digest;
use crate::generation::Generation;
use crate::id::HostName;
use crate::moment::Moment;
use crate::policy::Quantity;
use crate::release::ReleaseRef;
use books::Books;
use std::collections::{BTreeMap, BTreeSet};

/// A promise that was broken, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

/// The books of somebody who watches a target and trusts nobody.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    /// Grants without an answer.
    open: BTreeMap<HostName, Open>,
    /// The newest grant of each host.
    newest: BTreeMap<HostName, Generation>,
    /// The last answer of each host: what is older is an echo.
    heard: BTreeMap<HostName, (Generation, bool)>,
    /// Hosts whose last grant ran out unused, and when that was over: who gets another one gets on no further by that.
    ran_out: BTreeMap<HostName, Moment>,
    /// What failed last on a host, since the last rollout started.
    failed: BTreeMap<HostName, Option<ReleaseRef>>,
    /// Releases that hosts ran and failed with, when the rollout was taken back for it.
    bad: BTreeSet<Digest>,
    /// The rollout that runs.
    rollout: Option<Books>,
    /// What the last rollout brought, when it was taken back.
    taken_back: Option<ReleaseRef>,
    /// Whether the last rollout was aborted: everything stays as it is.
    stopped: bool,
    /// Whether the target's release does not work with the database.
    line: bool,
    /// Whether people have to approve the rollout before anything is activated.
    unapproved: bool,
    /// Until when hosts may be moved forward: `None` where they may not, and `Some(None)` for ever.
    closes: Closes,
    /// The hosts that were heard since a restore, until somebody decides or all of them agree.
    since_restore: Option<BTreeSet<HostName>>,
}

/// See [`Witness::closes`]: nobody has closed anything at first.
#[derive(Debug, Clone, Copy)]
struct Closes(Option<Option<Moment>>);

impl Default for Closes {
    fn default() -> Self {
        Self(Some(None))
    }
}

/// A grant without an answer.
#[derive(Debug, Clone)]
struct Open {
    id: Generation,
    release: Option<ReleaseRef>,
    start_by: Moment,
    give_up_at: Moment,
    given_up: bool,
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
                give_up_at,
            } => {
                let rolls = before.active().is_some();
                if self.unapproved && rolls && *purpose == Purpose::Forward {
                    return broken("a grant before it was approved");
                }
                if let Some(books) = &self.rollout
                    && *purpose == Purpose::Forward
                {
                    books.judge_away(before, host)?;
                }
                if *purpose == Purpose::Forward {
                    self.judge_opening(host, now, *start_by)?;
                }
                self.judge_grant(
                    before,
                    host,
                    *id,
                    release.as_ref(),
                    *purpose,
                    now < *start_by,
                )?;
                let open = Open {
                    id: *id,
                    release: release.clone(),
                    start_by: *start_by,
                    give_up_at: *give_up_at,
                    given_up: false,
                };
                if self.ran_out.get(host).is_some_and(|end| now < *end) {
                    return broken(format!(
                        "{host} was granted anew before its last grant's end"
                    ));
                }
                self.open.insert(host.clone(), open);
                self.newest.insert(host.clone(), *id);
                if !self.ran_out.contains_key(host) {
                    self.books(|books| books.note_grant(now));
                }
            }
            Event::Reported(host, seen) => self.hear(before, after, host, seen, now),
            Event::HostRemoved(host) | Event::HostReset(host) => {
                self.open.remove(host);
                self.heard.remove(host);
                self.failed.remove(host);
                self.ran_out.remove(host);
                if let Some(heard) = &mut self.since_restore {
                    heard.remove(host);
                }
                if matches!(event, Event::HostRemoved(_)) {
                    self.books(|books| books.forget(host));
                }
            }
            Event::GaveUp(host) => {
                self.judge_giving_up(host, now)?;
                self.books(|books| {
                    if books.waves.contains_key(host) {
                        books.failures.insert(host.clone());
                        books.through.entry(host.clone()).or_insert(now);
                    }
                });
            }
            Event::Started(new) => {
                self.failed.clear();
                self.unapproved = new.rollout.awaits.is_some();
                self.rollout = Some(Books::open(before, new, now));
            }
            Event::MayStage(host) => staging::judge(before, host)?,
            Event::WaveStarted(wave) => match &mut self.rollout {
                Some(books) => books.start_wave(before, *wave, now)?,
                None => return broken("a wave without a rollout"),
            },
            Event::Promoted { .. } => {
                if let Some(books) = &mut self.rollout {
                    books.judge_watched(before, books.wave, now)?;
                    books.promoted.insert(books.wave);
                }
            }
            Event::Paused { .. } => self.books(|books| books.paused = true),
            Event::Opening(opening) => {
                self.closes = Closes(match opening {
                    Opening::Open { until } => Some(*until),
                    Opening::Closed { .. } => None,
                });
                // Hosts' time does not run while it is closed; that it closes gives them no more.
                if *opening != before.opening && opening.lets(now) {
                    self.books(|books| books.note_grant(now));
                }
            }
            Event::Approval(awaits) => self.unapproved = awaits.is_some(),
            Event::Line(line) => self.line = line.is_some(),
            Event::Frozen(_) if !self.line => {
                return broken("it froze, and what it would go back to works");
            }
            Event::PausedByPolicy(_) | Event::Frozen(_) => {
                if let Some(books) = &mut self.rollout {
                    books.judge_failing(event)?;
                    books.paused = true;
                }
            }
            Event::Resumed => self.books(|books| {
                books.paused = false;
                books.forgiven = books.failures.len();
            }),
            Event::RollbackAsked { .. } | Event::TurnedBack(_) if self.line => {
                return broken("it goes back to what does not work with the database");
            }
            Event::RollbackAsked { .. } => self.books(|books| {
                books.going_back = true;
                books.paused = false;
            }),
            Event::TurnedBack(cause) => {
                if let Some(books) = &mut self.rollout {
                    books.judge_failing(event)?;
                    books.going_back = true;
                    books.paused = false;
                    let verdict =
                        !books.unfit.is_empty() && matches!(cause, Cause::TooManyFailures { .. });
                    if let Some(release) = books
                        .release
                        .as_ref()
                        .filter(|r| verdict && books.before.as_ref() != Some(*r))
                    {
                        self.bad.insert(release.manifest);
                    }
                }
            }
            Event::Aborted { .. } => {
                self.rollout = None;
                self.taken_back = None;
                self.stopped = true;
            }
            Event::Ended(outcome) => self.close(before, outcome, after, now)?,
            Event::Restored => {
                self.books(|books| books.paused = true);
                self.since_restore = Some(BTreeSet::new());
            }
            Event::Adopted => self.judge_adopting(before, after)?,
            Event::Settled => {
                let heard = self.since_restore.take().unwrap_or_default();
                for (name, host) in &after.hosts {
                    if !heard.contains(name) || host.running != after.release {
                        return broken(format!("settled although {name} has not agreed"));
                    }
                }
            }
            Event::HostAdded(_)
            | Event::PolicyChanged(_)
            | Event::Connected(_)
            | Event::Lost(_)
            | Event::WaveBaking(_) => {}
        }
        self.compare(before, event, after)
    }

    /// The state must say what the books say.
    fn compare(&self, before: &Target, event: &Event, after: &Target) -> Result<(), Broken> {
        for (name, host) in &after.hosts {
            let (state, books) = (host.grant.as_ref().map(|g| g.id), self.open.get(name));
            if state != books.map(|open| open.id) {
                return broken(format!(
                    "{name} has the grant {state:?}, given was {books:?}"
                ));
            }
        }
        if after.bad != self.bad {
            return broken("other releases are known bad than were found bad");
        }
        if let Some(release) = after
            .release
            .iter()
            .find(|r| self.bad.contains(&r.manifest))
        {
            return broken(format!("the target's release {release} is known bad"));
        }
        let succeeded = matches!(event, Event::Ended(Outcome::Succeeded) | Event::Adopted);
        if after.release != before.release && !succeeded {
            return broken("the target's release changed without a rollout's success");
        }
        match after.last_good() {
            Some(release) if self.bad.contains(&release.manifest) => {
                broken(format!("{release} is called good and is known bad"))
            }
            Some(release) if after.release.as_ref() == Some(release) => {
                broken(format!("going back from {release} would go nowhere"))
            }
            _ => Ok(()),
        }
    }

    /// A rollout has ended by itself.
    fn close(
        &mut self,
        before: &Target,
        outcome: &Outcome,
        after: &Target,
        now: Moment,
    ) -> Result<(), Broken> {
        let Some(books) = self.rollout.take() else {
            return broken("a rollout ended and had never started");
        };
        let open = self.open.keys().any(|name| books.waves.contains_key(name));
        books.judge_end(before, outcome, open, now)?;
        self.stopped = false;
        self.taken_back = None;
        if *outcome != Outcome::Succeeded {
            self.taken_back.clone_from(&books.release);
        } else if books.purpose == Purpose::Back {
            self.taken_back.clone_from(&books.before);
        }
        if *outcome == Outcome::Succeeded && after.release != books.release {
            return broken("a rollout succeeded and the target's release is another one");
        }
        if *outcome == Outcome::Succeeded {
            self.since_restore = None;
            self.bad
                .retain(|bad| books.release.as_ref().is_none_or(|r| r.manifest != *bad));
        }
        Ok(())
    }

    /// Nothing goes forward while it is closed, nor starts to after it has closed.
    fn judge_opening(&self, host: &HostName, now: Moment, start_by: Moment) -> Result<(), Broken> {
        match self.closes.0 {
            None => broken(format!("{host} was moved forward while it was closed")),
            Some(Some(until)) if until <= now || until < start_by => broken(format!(
                "{host} may start to move forward after it has closed"
            )),
            Some(_) => Ok(()),
        }
    }

    /// A host with a grant has until the moment that was agreed; one without, or whose grant an earlier rollout gave
    /// up, has the rollout's patience, and nobody is given up while others may still answer.
    fn judge_giving_up(&mut self, name: &HostName, now: Moment) -> Result<(), Broken> {
        let open = self.open.get_mut(name);
        if let Some(open) = open.filter(|open| !open.given_up) {
            if now < open.give_up_at {
                return broken(format!("{name} was given up before its grant's time"));
            }
            open.given_up = true;
            return Ok(());
        }
        if self.open.values().any(|open| !open.given_up) {
            return broken(format!("{name} was given up while others may still answer"));
        }
        match &self.rollout {
            Some(books)
                if !books.going_back
                    && books.purpose == Purpose::Forward
                    && self
                        .closes
                        .0
                        .is_none_or(|until| until.is_some_and(|at| at <= now)) =>
            {
                broken(format!("{name} was given up while it was closed"))
            }
            Some(books) => books.judge_impatience(name, now),
            None => broken(format!("{name} was given up without a rollout")),
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
        if self.failed.get(name) == Some(&release.cloned()) {
            return broken(format!("{name} was granted again what had failed there"));
        }
        if release.is_some_and(|release| self.bad.contains(&release.manifest))
            && purpose == Purpose::Back
        {
            return broken(format!("{name} was sent back to a release known bad"));
        }
        if self.line && self.rollout.as_ref().is_none_or(|books| books.going_back) {
            return broken(format!(
                "{name} was brought to a release that does not work with the database"
            ));
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
            None => self.judge_converging(before, name, release, purpose),
        }
    }

    /// Without a rollout hosts are brought to the target's release: back, from what was taken back.
    fn judge_converging(
        &self,
        before: &Target,
        name: &HostName,
        release: Option<&ReleaseRef>,
        purpose: Purpose,
    ) -> Result<(), Broken> {
        if self.stopped {
            return broken(format!("{name} was granted a switch after an abort"));
        }
        if self.since_restore.is_some() {
            return broken(format!(
                "{name} was granted a switch after a restore, and nobody had asked for it"
            ));
        }
        if release != before.release.as_ref() {
            return broken(format!(
                "{name} was granted another release than the target's"
            ));
        }
        let running = before.hosts[name].running.as_ref();
        let back = running.is_some_and(|r| {
            let taken = self.taken_back.as_ref() == Some(r);
            // Where nothing was ever brought to stay, whatever runs is a leftover.
            self.bad.contains(&r.manifest) || taken || before.release.is_none()
        });
        if back != (purpose == Purpose::Back) {
            return broken(format!("{name} runs {running:?} and goes {purpose:?}"));
        }
        Ok(())
    }

    /// What counts as wanted after a restore is what runs somewhere, and never what was found bad.
    fn judge_adopting(&mut self, before: &Target, after: &Target) -> Result<(), Broken> {
        let asked = self.since_restore.take().is_some();
        if after.release == before.release {
            return Ok(());
        }
        let runs = |host: &super::Host| host.known && host.running == after.release;
        if !asked || !before.hosts.values().any(runs) {
            return broken("a release was adopted that no host runs, or without a restore");
        }
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
        if let Some(heard) = &mut self.since_restore {
            heard.insert(name.clone());
        }
        let answer = seen.activation.as_ref().filter(|a| {
            a.status.is_final() && self.open.get(name).is_some_and(|open| open.id == a.grant)
        });
        let works = seen.activation.as_ref().is_some_and(|a| {
            !a.status.is_final() && self.open.get(name).is_some_and(|open| open.id == a.grant)
        });
        if works {
            self.ran_out.remove(name);
        }
        if let Some(answer) = answer {
            let open = self.open.remove(name);
            self.ran_out.remove(name);
            if answer.status == ActivationStatus::Expired {
                let end = open.as_ref().map(|open| (name.clone(), open.start_by));
                self.ran_out.extend(end);
            }
            let release = open.and_then(|open| open.release);
            let failed = matches!(
                answer.status,
                ActivationStatus::Refused(_)
                    | ActivationStatus::Undone(_)
                    | ActivationStatus::Stuck(_)
            );
            if failed {
                self.failed.insert(name.clone(), release.clone());
            } else if answer.status == ActivationStatus::Done {
                self.failed.remove(name);
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
                if matches!(is.status, super::PartStatus::Failed(_)) {
                    books.unfit.insert(name.clone());
                }
            }
            books.through.entry(name.clone()).or_insert(now);
        }
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
