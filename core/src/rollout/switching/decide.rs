//! `decide`: what follows for routers from the state and the time. "Not yet" is a value with a reason.

use super::{Router, RouterHost, Switch, SwitchEvent, SwitchStage};
use crate::desired::Purpose;
use crate::generation::Generation;
use crate::id::{HostName, PoolName};
use crate::moment::Moment;
use crate::rollout::decide::few;
use crate::rollout::state::{Cause, Outcome};
use std::fmt;

/// What follows now, what is waited for, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SwitchDecision {
    /// To be applied in this order, each at this same time; then decide again.
    pub events: Vec<SwitchEvent>,
    /// Why nothing more happens.
    pub waiting_on: Option<SwitchWaiting>,
    /// When time alone may change the decision.
    pub wake_at: Option<Moment>,
}

/// Why a switch does not go on at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwitchWaiting {
    /// The pool cannot serve yet, and why.
    Pool(PoolName, String),
    /// Routers try the acceptance checks.
    Acceptance(Vec<HostName>),
    /// A person has to let routers be switched to this pool.
    Promotion(PoolName),
    /// Routers are being switched, to this pool.
    Routers(Vec<HostName>, PoolName),
    /// The pool is being watched.
    Bake {
        /// Until when.
        until: Moment,
    },
}

impl fmt::Display for SwitchWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[HostName]| few(hosts, "a router to come back");
        match self {
            Self::Pool(pool, why) => write!(f, "pool {pool} to be fit: {why}"),
            Self::Acceptance(hosts) => write!(f, "acceptance checks on {}", list(hosts)),
            Self::Promotion(pool) => {
                write!(f, "somebody to promote it: pool {pool} is accepted")
            }
            Self::Routers(hosts, pool) => write!(f, "{} to send to {pool}", list(hosts)),
            Self::Bake { .. } => f.write_str("the bake to end"),
        }
    }
}

/// How far a router is with what it was told.
enum At {
    /// It does what it was told.
    There,
    /// It has not answered for the order.
    NotYet,
    /// It has, and does not do it.
    Failed(String),
}

impl Router {
    /// What follows from the state at `now`, in a controller whose epoch is `epoch`.
    ///
    /// Apply `events` and decide again until there are none.
    pub fn decide(&self, now: Moment, epoch: u64) -> SwitchDecision {
        let mut decision = SwitchDecision::default();
        let Some(switch) = self.running() else {
            let settled = self.agreed().cloned().map(SwitchEvent::Settled);
            decision.events.extend(settled);
            return decision;
        };
        match &switch.stage {
            SwitchStage::Preparing { acceptance, since } => {
                self.prepare(switch, *acceptance, *since, (now, epoch), &mut decision);
            }
            // People have the time that they need.
            SwitchStage::Accepted { .. } => {
                decision.waiting_on = Some(SwitchWaiting::Promotion(switch.to.clone()));
            }
            SwitchStage::Turning { since } => {
                self.turning(switch, *since, (now, epoch), &mut decision);
            }
            SwitchStage::Watching { since } => {
                self.watching(switch, *since, (now, epoch), &mut decision);
            }
            SwitchStage::TurningBack { since, cause } => {
                self.turning_back(switch, *since, cause, now, &mut decision);
            }
            SwitchStage::Ended { .. } => {}
        }
        decision
    }

    fn prepare(
        &self,
        switch: &Switch,
        acceptance: Option<Generation>,
        since: Moment,
        (now, epoch): (Moment, u64),
        decision: &mut SwitchDecision,
    ) {
        let turn = SwitchEvent::Turned(self.newest.next(epoch));
        if switch.purpose == Purpose::Back {
            decision.events.push(turn);
            return;
        }
        let deadline = since + switch.settings.acceptance_deadline;
        let give_up = |host: Option<&HostName>, why: String, decision: &mut SwitchDecision| {
            let cause = taken_back(host, why);
            let end = SwitchEvent::Ended(Outcome::RolledBack(cause));
            decision.events.push(end);
        };
        let connected = || self.hosts.iter().filter(|(_, host)| host.is_connected());
        let said = |host: &RouterHost| match (&host.acceptance, acceptance) {
            (Some((number, failure)), Some(asked)) if *number == asked => Some(failure.clone()),
            (_, None) => Some(None),
            _ => None,
        };
        let refused = connected().find_map(|(name, host)| Some((name, said(host)??)));
        if let Some((name, failure)) = refused {
            let why = format!("{} is not accepted: {failure}", switch.to);
            give_up(Some(name), why, decision);
            return;
        }
        let open = connected().filter(|(_, host)| said(host).is_none());
        let open: Vec<HostName> = open.map(|(name, _)| name.clone()).collect();
        let waiting = match self.unfit.get(&switch.to) {
            Some(unfit) => SwitchWaiting::Pool(switch.to.clone(), unfit.to_string()),
            None if open.is_empty() && connected().next().is_some() => {
                let asks = switch.settings.approval && !switch.promoted;
                decision.events.push(match asks {
                    true => SwitchEvent::Accepted,
                    false => turn,
                });
                return;
            }
            None => SwitchWaiting::Acceptance(open.clone()),
        };
        if now >= deadline {
            let why = format!(
                "after {} it still waited for {waiting}",
                switch.settings.acceptance_deadline
            );
            give_up(open.first(), why, decision);
        } else {
            decision.wake(deadline);
            decision.waiting_on = Some(waiting);
        }
    }

    fn turning(
        &self,
        switch: &Switch,
        since: Moment,
        (now, epoch): (Moment, u64),
        decision: &mut SwitchDecision,
    ) {
        let forward = switch.purpose == Purpose::Forward;
        let back = |cause| SwitchEvent::TurnedBack(self.newest.next(epoch), cause);
        if let Some(unfit) = self.unfit.get(&switch.to).filter(|_| forward) {
            let cause = taken_back(None, format!("{} cannot serve: {unfit}", switch.to));
            decision.events.push(back(cause));
            return;
        }
        let (open, failed) = self.answers(switch);
        if let Some((name, why)) = failed.first().filter(|_| forward) {
            decision
                .events
                .push(back(taken_back(Some(name), why.clone())));
            return;
        }
        if open.is_empty() {
            decision.events.push(match forward {
                true => SwitchEvent::Arrived,
                false => SwitchEvent::Ended(Outcome::Succeeded),
            });
            return;
        }
        let deadline = since + switch.settings.deadline;
        if now < deadline {
            decision.wake(deadline);
            decision.waiting_on = Some(SwitchWaiting::Routers(open, switch.to.clone()));
        } else if forward {
            let late = format!("it was not switched within {}", switch.settings.deadline);
            decision.events.push(back(taken_back(open.first(), late)));
        } else {
            decision.events.push(SwitchEvent::Ended(Outcome::Succeeded));
        }
    }

    fn watching(
        &self,
        switch: &Switch,
        since: Moment,
        (now, epoch): (Moment, u64),
        decision: &mut SwitchDecision,
    ) {
        let back = |cause| SwitchEvent::TurnedBack(self.newest.next(epoch), cause);
        if let Some(unfit) = self.unfit.get(&switch.to) {
            let cause = taken_back(None, format!("{} cannot serve: {unfit}", switch.to));
            decision.events.push(back(cause));
            return;
        }
        // One look that failed says nothing; another pool does.
        let left = switch.taking_part.iter().find_map(|name| {
            let to = self.hosts.get(name)?.sends_to.as_ref()?;
            (*to != switch.to).then(|| (name, format!("it sends to {to}, and nobody told it to")))
        });
        if let Some((name, why)) = left {
            decision.events.push(back(taken_back(Some(name), why)));
            return;
        }
        let until = since + switch.settings.bake;
        if now < until {
            decision.wake(until);
            decision.waiting_on = Some(SwitchWaiting::Bake { until });
        } else {
            decision.events.push(SwitchEvent::Ended(Outcome::Succeeded));
        }
    }

    fn turning_back(
        &self,
        switch: &Switch,
        since: Moment,
        cause: &Cause,
        now: Moment,
        decision: &mut SwitchDecision,
    ) {
        let (open, failed) = self.answers(switch);
        let deadline = since + switch.settings.deadline;
        if !open.is_empty() && now < deadline {
            decision.wake(deadline);
            decision.waiting_on = Some(SwitchWaiting::Routers(open, switch.from.clone()));
            return;
        }
        let outcome = match open.is_empty() && failed.is_empty() {
            true => Outcome::RolledBack(cause.clone()),
            false => Outcome::NotRolledBack(cause.clone()),
        };
        decision.events.push(SwitchEvent::Ended(outcome));
    }

    /// Of those that have a vote: who has not answered, and who has and does not do what they were told.
    fn answers(&self, switch: &Switch) -> (Vec<HostName>, Vec<(HostName, String)>) {
        let (mut open, mut failed) = (Vec::new(), Vec::new());
        for name in &switch.taking_part {
            let Some(host) = self.hosts.get(name) else {
                continue;
            };
            match self.at(host) {
                At::There => {}
                At::NotYet => open.push(name.clone()),
                At::Failed(why) => failed.push((name.clone(), why)),
            }
        }
        (open, failed)
    }

    /// How many routers with a vote do what they were told, and how many do not.
    pub fn counts(&self, switch: &Switch) -> (u32, u32) {
        let (open, failed) = self.answers(switch);
        let not = (open.len() + failed.len()) as u32;
        (switch.taking_part.len() as u32 - not, not)
    }

    fn at(&self, host: &RouterHost) -> At {
        let Some((pool, order)) = &self.told else {
            return At::There;
        };
        if host.answered < *order {
            return At::NotYet;
        }
        match (&host.sends_to, &host.failure) {
            (Some(to), _) if to == pool => At::There,
            (_, Some(failure)) => At::Failed(failure.to_string()),
            (Some(to), None) => At::Failed(format!("it sends to {to}")),
            (None, None) => At::Failed("it cannot tell where it sends".to_owned()),
        }
    }
}

fn taken_back(host: Option<&HostName>, why: String) -> Cause {
    Cause::Switch {
        router: host.cloned(),
        why,
    }
}

impl SwitchDecision {
    fn wake(&mut self, at: Moment) {
        self.wake_at = Some(self.wake_at.map_or(at, |sooner| sooner.min(at)));
    }
}
