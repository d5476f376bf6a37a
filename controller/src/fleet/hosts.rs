//! What hosts say of themselves, and what they are told to be.

use super::Fleet;
use super::migrate::Told;
use super::observation::observation;
use super::persist::Object;
use crate::identity::peer::Caller;
use crate::identity::registry::Denied;
use std::collections::VecDeque;
use tamer_core::check::Results;
use tamer_core::desired::{ComponentReport, Desired, DesiredComponent, HostReport, Slot};
use tamer_core::drift::Way;
use tamer_core::generation::Generation;
use tamer_core::id::{EnvironmentName, HostName, TargetKey};
use tamer_core::moment::{Moment, Span};
use tamer_core::rollout::switching::SwitchEvent;
use tamer_core::rollout::{Event, Host, Observation};
use tamer_core::router::RouteReport;

/// The number of a connection: a host that connects again has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What is known of a host beside its targets.
#[derive(Debug, Clone, Default)]
pub struct Seat {
    /// What it was last told.
    pub desired: Option<Desired>,
    /// The connection it speaks on.
    pub session: Option<Session>,
    /// When it connected or went away.
    pub since: Moment,
    /// The newest state that it has taken in.
    pub generation: Generation,
    /// Its environment's checks.
    pub checks: Results,
    /// What it last said of each component.
    pub components: Vec<ComponentReport>,
    /// What it last said of each component that it routes for.
    pub routes: Vec<RouteReport>,
    /// Set when two live agents claimed to be it: neither is believed.
    pub quarantined: bool,
    /// A generation that it has heard of and that this controller cannot have made: another one spoke to it, or it
    /// lies. It is not believed until [`Fleet::take_back`].
    pub beyond: Option<Generation>,
    /// Starts of the agent that a newer one has replaced while they seemed alive.
    pub replaced: VecDeque<String>,
    /// When one of those spoke again, lately.
    pub(super) returns: VecDeque<Moment>,
}

/// How many replaced starts of an agent are remembered.
const REPLACED_REMEMBERED: usize = 8;

/// How often within [`RETURNS_WITHIN`] starts that were replaced may speak again before they are two live agents. A
/// greeting that came late, of an agent that is gone, is one return of its own and one of the agent that it replaced.
/// Two agents that live replace one another at every try of theirs, each after half a minute at most.
const RETURNS: usize = 4;

/// See [`RETURNS`].
const RETURNS_WITHIN: Span = Span::secs(600);

/// A host's connection.
#[derive(Debug, Clone)]
pub struct Session {
    /// Which one.
    pub id: SessionId,
    /// One start of one agent.
    pub run_id: String,
    /// The version of the agent.
    pub agent_version: String,
    /// How far the host's clock was ahead of this controller's when it greeted, in seconds.
    pub clock_ahead: i64,
}

impl Seat {
    /// Whether nothing that it says is believed.
    pub fn is_shut_out(&self) -> bool {
        self.quarantined || self.beyond.is_some()
    }

    /// A machine was rebuilt: what the old one said is void, what was told stays numbered.
    pub(super) fn forget(&mut self) {
        *self = Self {
            desired: self.desired.take(),
            ..Self::default()
        };
    }
}

impl Fleet {
    /// The host that calls, and its environment. A key that a renewal brought is in use now.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authorise_host(
        &mut self,
        caller: &Caller,
        now: Moment,
    ) -> Result<(HostName, EnvironmentName), Denied> {
        self.catch_up(caller);
        let known = self.registry.authorise_host(caller, now);
        let known = known.map(|(name, host)| (name.clone(), host.environment.clone()));
        if let Err(denied) = &known {
            let denied = denied.clone();
            self.note_stranger(caller, &denied, now);
        }
        let (name, environment) = known?;
        if caller.peer().is_some_and(|peer| self.registry.seen(peer)) {
            self.dirty.insert(Object::Host(name.clone()));
        }
        Ok((name, environment))
    }

    /// A host's agent has connected and greeted. Gives what the host should be.
    ///
    /// # Errors
    /// A sentence, if two live agents claim to be this host: then neither is believed any more.
    pub fn connected(
        &mut self,
        name: &HostName,
        session: Session,
        report: HostReport,
        now: Moment,
    ) -> Result<Option<Desired>, String> {
        self.awaited.remove(name);
        let seat = self.seats.entry(name.clone()).or_default();
        if let Some(old) = seat.session.replace(session) {
            let current = seat.session.as_ref().map(|session| session.run_id.clone());
            if Some(&old.run_id) != current.as_ref() {
                seat.replaced.push_back(old.run_id);
                if seat.replaced.len() > REPLACED_REMEMBERED {
                    seat.replaced.pop_front();
                }
            }
            if current.is_some_and(|current| seat.replaced.contains(&current)) {
                seat.returns.push_back(now);
            }
            while seat
                .returns
                .front()
                .is_some_and(|at| *at + RETURNS_WITHIN < now)
            {
                seat.returns.pop_front();
            }
            seat.quarantined |= seat.returns.len() >= RETURNS;
        }
        self.raise_epoch(name, &report, now);
        let beyond = beyond(&report, self.epoch);
        let seat = self.seats.entry(name.clone()).or_default();
        seat.beyond = seat.beyond.max(beyond);
        let beyond = seat.beyond;
        if seat.is_shut_out() {
            seat.session = None;
            for key in self.targets_of(name) {
                let _ = self.apply(&key, &Event::Lost(name.clone()), now);
            }
            self.happen_to_router(name, SwitchEvent::Lost, now);
            if let Some(beyond) = beyond {
                return Err(format!(
                    "{name} has heard of generation {beyond}, which this controller cannot have made: it is shut out until `tamer host take-back {name}` raises what this controller says above that"
                ));
            }
            return Err(format!(
                "two agents claim to be {name}: both are shut out until `tamer host invite --replace {name}` makes one of them new"
            ));
        }
        seat.since = now;
        for key in self.targets_of(name) {
            // The host is the target's: this cannot be refused.
            let _ = self.apply(&key, &Event::Connected(name.clone()), now);
        }
        self.happen_to_router(name, SwitchEvent::Connected, now);
        self.reported(name, report, now);
        self.stale.insert(name.clone());
        let told = self.seats.get(name).and_then(|seat| seat.desired.clone());
        Ok(told.filter(|_| self.held.is_none()))
    }

    /// Whether this is the connection that the host speaks on now; older ones are not believed.
    pub fn is_current(&self, name: &HostName, session: SessionId) -> bool {
        self.seats
            .get(name)
            .and_then(|seat| seat.session.as_ref())
            .is_some_and(|current| current.id == session)
    }

    /// A connection has ended.
    pub fn lost(&mut self, name: &HostName, session: SessionId, now: Moment) {
        if !self.is_current(name, session) {
            return;
        }
        if let Some(seat) = self.seats.get_mut(name) {
            seat.session = None;
            seat.since = now;
        }
        for key in self.targets_of(name) {
            let _ = self.apply(&key, &Event::Lost(name.clone()), now);
        }
        self.happen_to_router(name, SwitchEvent::Lost, now);
    }

    /// A host says what it is, whole.
    pub fn reported(&mut self, name: &HostName, report: HostReport, now: Moment) {
        let Some(seat) = self.seats.get_mut(name) else {
            return;
        };
        if beyond(&report, self.epoch).is_some() {
            tracing::warn!(host = %name, "a report speaks of generations that this controller cannot have made: it is not believed");
            return;
        }
        seat.generation = report.generation;
        seat.checks = report.checks;
        let differs = |all: &[ComponentReport]| {
            let differing = all.iter().filter(|it| it.drift.is_some() || !it.compared);
            let said = differing.map(|it| (it.slot.clone(), it.drift.is_some()));
            said.collect::<Vec<_>>()
        };
        let turned = seat.components.len() != report.components.len()
            || differs(&seat.components) != differs(&report.components);
        seat.components = report.components;
        seat.routes = report.routes;
        for key in self.targets_of(name) {
            self.tell_again(name, &key, now);
            self.settle_words(name, &key, now);
            if turned {
                self.look_again(&key);
            }
        }
        for key in self.routers_of(name) {
            self.route_again(name, &key, now);
        }
    }

    /// What the host last said of a component goes into its target.
    pub(super) fn tell_again(&mut self, name: &HostName, key: &TargetKey, now: Moment) {
        let Some(seat) = self.seats.get(name) else {
            return;
        };
        let current = seat
            .desired
            .as_ref()
            .is_some_and(|told| told.generation == seat.generation);
        let said = seat
            .components
            .iter()
            .find(|component| is_of(&component.slot, key));
        let seen = said.map_or_else(Observation::default, |said| observation(said, current));
        let _ = self.apply(key, &Event::Reported(name.clone(), Box::new(seen)), now);
    }

    /// What must be sent now: hosts whose desired state has changed, with a newer generation.
    pub fn dispatch(&mut self) -> Vec<(HostName, Desired)> {
        let stale = std::mem::take(&mut self.stale);
        let databases = self.told_of_databases();
        let mut changed = Vec::new();
        for name in stale {
            if let Some(desired) = self.new_desired(&name, &databases) {
                self.dirty.insert(Object::Desired(name.clone()));
                if let Some(seat) = self.seats.get_mut(&name) {
                    seat.desired = Some(desired.clone());
                }
                changed.push((name, desired));
            }
        }
        changed
    }

    fn new_desired(&self, name: &HostName, databases: &[Told]) -> Option<Desired> {
        let host = self.registry.hosts.get(name).filter(|host| !host.revoked)?;
        let place = self.environments.get(&host.environment)?;
        let before = self.seats.get(name).and_then(|seat| seat.desired.as_ref());
        let components = self
            .targets_of(name)
            .iter()
            .filter_map(|key| {
                let mut component = self.targets[key].desired(name)?;
                match self.words.get(&(key.clone(), name.clone())) {
                    Some(word) if word.way == Way::Adopt => component.adopted = Some(word.digest),
                    Some(word) => component.repair = Some(word.digest),
                    None => {}
                }
                let ours = databases
                    .iter()
                    .filter(|(host, carrier, ..)| (host, carrier) == (name, key));
                for (_, _, release, order) in ours {
                    if !component.stage.contains(release) {
                        component.stage.push(release.clone());
                    }
                    component.migrate.clone_from(order);
                }
                Some(component)
            })
            .collect();
        let told = before.map_or_else(Default::default, |before| before.generation);
        // What the host has seen is never newer, unless this controller has lost what it told.
        let generation = told.max(self.seats.get(name).map_or(told, |seat| seat.generation));
        let mut desired = Desired {
            generation: told,
            environment: host.environment.clone(),
            environment_version: place.version,
            components,
            routes: self.desired_routes(name),
            inspect: self.asked.get(name).copied(),
        };
        let known = generation == told && generation.epoch >= self.epoch;
        if known && before.is_some_and(|before| self.says_nothing_new(name, before, &desired)) {
            return None;
        }
        desired.generation = generation.next(self.epoch);
        Some(desired)
    }

    /// Whether a state differs from the one before at most in lacking grants under which the host has come to run what
    /// it should. It can do nothing with these any more, and forgets them with the next state: to take them back alone
    /// would be one more message to every host, and one more answer, after every switch.
    fn says_nothing_new(&self, name: &HostName, before: &Desired, desired: &Desired) -> bool {
        if before == desired {
            return true;
        }
        let used = |was: &DesiredComponent| {
            let mut targets = self.targets.iter().filter(|(key, _)| is_of(&was.slot, key));
            let host = targets.find_map(|(_, target)| target.hosts.get(name));
            let done = |host: &Host| {
                let answered = was.grant.map(|grant| (grant.id, true));
                Some(host.answered) == answered && host.running == was.run
            };
            host.is_some_and(done)
        };
        let mut as_before = desired.clone();
        for (is, was) in as_before.components.iter_mut().zip(&before.components) {
            if is.grant.is_none() && is.slot == was.slot && used(was) {
                is.grant = was.grant;
            }
        }
        as_before == *before
    }
}

/// The newest generation that a report speaks of and that neither this controller, nor one that it was restored from,
/// can have made. Of its own epoch, numbers near the end of their range would leave none for what follows.
fn beyond(report: &HostReport, epoch: u64) -> Option<Generation> {
    let is_ours = |it: &Generation| it.epoch < epoch || it.epoch == epoch && counts(it);
    spoken_of(report).filter(|it| !is_ours(it)).max()
}

pub(super) fn counts(generation: &Generation) -> bool {
    generation.counter < u64::MAX / 2
}

/// Every generation that a report speaks of.
pub(super) fn spoken_of(report: &HostReport) -> impl Iterator<Item = Generation> + '_ {
    let grants = report
        .components
        .iter()
        .filter_map(|component| component.activation.as_ref());
    let orders = report
        .components
        .iter()
        .filter_map(|component| component.migration.as_ref());
    let routes = report.routes.iter().flat_map(|route| {
        let accepted = route.acceptance.as_ref().map(|it| it.id);
        std::iter::once(route.answered).chain(accepted)
    });
    std::iter::once(report.generation)
        .chain(routes)
        .chain(grants.map(|activation| activation.grant))
        .chain(orders.map(|migration| migration.id))
}

pub(crate) fn is_of(slot: &Slot, key: &TargetKey) -> bool {
    slot.application == key.application && slot.component == key.component && slot.pool == key.pool
}
