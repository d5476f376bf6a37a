//! `apply`: one event changes what is known of routers, or is refused as illegal and changes nothing.

use super::{RouteSeen, Router, RouterHost, Switch, SwitchEvent, SwitchStage};
use crate::desired::Purpose;
use crate::generation::Generation;
use crate::id::{HostName, PoolName};
use crate::moment::Moment;
use crate::rollout::event::{Illegal, Touched};
use crate::rollout::state::{Cause, Outcome, Presence};

impl Router {
    /// Applies one event that happened at `at`, and says what it changed.
    ///
    /// Events from hosts may come late, twice, or out of order: what is stale changes nothing.
    ///
    /// # Errors
    /// [`Illegal`] when the event cannot happen in this state; the state is then unchanged.
    pub fn apply(&mut self, event: &SwitchEvent, at: Moment) -> Result<Touched, Illegal> {
        match event {
            SwitchEvent::HostAdded(name) => {
                if self.hosts.contains_key(name) {
                    return Ok(Touched::default());
                }
                self.hosts.insert(name.clone(), RouterHost::new(at));
                Ok(Touched::host(name))
            }
            SwitchEvent::HostRemoved(name) => Ok(self.remove_host(name)),
            SwitchEvent::HostReset(name) => self.change(name, |host| *host = RouterHost::new(at)),
            SwitchEvent::Configured(settings) => {
                let changed = self.settings != *settings;
                self.settings.clone_from(settings);
                Ok(head_if(changed))
            }
            SwitchEvent::Weighed(pool, unfit) => {
                let before = match unfit {
                    Some(unfit) => self.unfit.insert(pool.clone(), unfit.clone()),
                    None => self.unfit.remove(pool),
                };
                Ok(head_if(before != *unfit))
            }
            SwitchEvent::Restored => Ok(self.restored(at)),
            SwitchEvent::Connected(name) => {
                self.change(name, |host| host.presence = Presence::Connected)
            }
            SwitchEvent::Lost(name) => self.change(name, |host| {
                if host.is_connected() {
                    host.presence = Presence::Away(at);
                }
            }),
            SwitchEvent::Reported(name, seen) => self.observe(name, seen),
            SwitchEvent::Started(switch) => self.start(switch),
            SwitchEvent::RollbackAsked { by, reason } => self.ask_back(by, reason, at),
            SwitchEvent::Aborted { by, reason } => self.abort(by, reason, at),
            SwitchEvent::Accepted => self.accept(at),
            SwitchEvent::Promoted { .. } => self.promote(at),
            SwitchEvent::Turned(order) => self.turn(*order, at),
            SwitchEvent::Arrived => match &mut self.in_progress()?.stage {
                stage @ SwitchStage::Turning { .. } => {
                    *stage = SwitchStage::Watching { since: at };
                    Ok(Touched::head())
                }
                _ => Err(Illegal::OutOfOrder),
            },
            SwitchEvent::TurnedBack(order, cause) => self.turn_back(*order, cause, at),
            SwitchEvent::Ended(outcome) => self.end(outcome, at),
            SwitchEvent::Settled(pool) => self.settle(pool),
        }
    }

    fn change(
        &mut self,
        name: &HostName,
        change: impl FnOnce(&mut RouterHost),
    ) -> Result<Touched, Illegal> {
        let host = self.hosts.get_mut(name);
        let host = host.ok_or_else(|| Illegal::NoSuchHost(name.clone()))?;
        let before = host.clone();
        change(host);
        Ok(match *host == before {
            true => Touched::default(),
            false => Touched::host(name),
        })
    }

    fn remove_host(&mut self, name: &HostName) -> Touched {
        if self.hosts.remove(name).is_none() {
            return Touched::default();
        }
        if let Ok(switch) = self.in_progress() {
            switch.taking_part.remove(name);
        }
        Touched::host(name).and_head()
    }

    fn restored(&mut self, at: Moment) -> Touched {
        self.unsettled = true;
        self.told = None;
        let mut touched = Touched::head();
        for (name, host) in &mut self.hosts {
            host.heard = false;
            touched.hosts.insert(name.clone());
        }
        if let Ok(switch) = self.in_progress() {
            let outcome = Outcome::Aborted {
                by: "the restore".to_owned(),
                reason: "routers may have been switched since the backup".to_owned(),
            };
            switch.stage = SwitchStage::Ended { outcome, at };
        }
        touched
    }

    fn observe(&mut self, name: &HostName, seen: &RouteSeen) -> Result<Touched, Illegal> {
        let stale = self
            .hosts
            .get(name)
            .is_some_and(|it| seen.answered < it.answered);
        if stale {
            return Ok(Touched::default());
        }
        let touched = self.change(name, |host| {
            host.heard = true;
            host.answered = seen.answered;
            host.sends_to.clone_from(&seen.sends_to);
            host.failure.clone_from(&seen.failure);
            if seen.acceptance.is_some() {
                host.acceptance.clone_from(&seen.acceptance);
            }
        })?;
        // Only a controller that was restored hears of orders newer than all that it gave.
        if self.newest < seen.answered {
            self.newest = seen.answered;
            return Ok(touched.and_head());
        }
        Ok(touched)
    }

    fn in_progress(&mut self) -> Result<&mut Switch, Illegal> {
        match self.switch.as_mut() {
            Some(switch) if !switch.has_ended() => Ok(switch),
            _ => Err(Illegal::NoRollout),
        }
    }

    fn start(&mut self, new: &Switch) -> Result<Touched, Illegal> {
        if let Some(switch) = self.running() {
            return Err(Illegal::AlreadyRunning(switch.id));
        }
        let SwitchStage::Preparing { acceptance, .. } = &new.stage else {
            return Err(Illegal::OutOfOrder);
        };
        if let Some(number) = acceptance {
            self.newest = self.newest.max(*number);
        }
        self.switch = Some(new.clone());
        Ok(Touched::head())
    }

    fn accept(&mut self, at: Moment) -> Result<Touched, Illegal> {
        let switch = self.in_progress()?;
        let asks = switch.settings.approval && switch.purpose == Purpose::Forward;
        if !matches!(switch.stage, SwitchStage::Preparing { .. }) || !asks || switch.promoted {
            return Err(Illegal::OutOfOrder);
        }
        switch.stage = SwitchStage::Accepted { since: at };
        Ok(Touched::head())
    }

    fn promote(&mut self, at: Moment) -> Result<Touched, Illegal> {
        let number = self.newest.next(self.newest.epoch);
        let switch = self.in_progress()?;
        match switch.stage {
            SwitchStage::Accepted { .. } => {}
            SwitchStage::Preparing { .. } if switch.promoted => {
                return Err(Illegal::NoPoint("it goes on by itself"));
            }
            SwitchStage::Preparing { .. } => {
                return Err(Illegal::NoPoint("the pool is not accepted yet"));
            }
            _ => return Err(Illegal::NoPoint("routers are being switched")),
        }
        switch.promoted = true;
        let acceptance = switch.settings.accepts.then_some(number);
        switch.stage = SwitchStage::Preparing {
            acceptance,
            since: at,
        };
        self.newest = acceptance.unwrap_or(self.newest);
        Ok(Touched::head())
    }

    fn turn(&mut self, order: Generation, at: Moment) -> Result<Touched, Illegal> {
        if order <= self.newest {
            return Err(Illegal::OutOfOrder);
        }
        let connected = self.hosts.iter().filter(|(_, host)| host.is_connected());
        let connected = connected.map(|(name, _)| name.clone()).collect();
        let switch = self.in_progress()?;
        if !matches!(switch.stage, SwitchStage::Preparing { .. }) {
            return Err(Illegal::OutOfOrder);
        }
        switch.taking_part = connected;
        switch.stage = SwitchStage::Turning { since: at };
        self.told = Some((switch.to.clone(), order));
        self.newest = order;
        Ok(Touched::head())
    }

    fn turn_back(
        &mut self,
        order: Generation,
        cause: &Cause,
        at: Moment,
    ) -> Result<Touched, Illegal> {
        if order <= self.newest {
            return Err(Illegal::OutOfOrder);
        }
        let switch = self.in_progress()?;
        let turned = matches!(
            switch.stage,
            SwitchStage::Turning { .. } | SwitchStage::Watching { .. }
        );
        if !turned || switch.purpose == Purpose::Back {
            return Err(Illegal::AlreadyGoingBack);
        }
        switch.stage = SwitchStage::TurningBack {
            since: at,
            cause: cause.clone(),
        };
        self.told = Some((switch.from.clone(), order));
        self.newest = order;
        Ok(Touched::head())
    }

    fn ask_back(&mut self, by: &str, reason: &str, at: Moment) -> Result<Touched, Illegal> {
        let cause = Cause::Asked {
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        let switch = self.in_progress()?;
        if switch.purpose == Purpose::Back {
            return Err(Illegal::AlreadyGoingBack);
        }
        match switch.stage {
            SwitchStage::Preparing { .. } | SwitchStage::Accepted { .. } => {
                let outcome = Outcome::RolledBack(cause);
                switch.stage = SwitchStage::Ended { outcome, at };
                Ok(Touched::head())
            }
            SwitchStage::Turning { .. } | SwitchStage::Watching { .. } => {
                let order = self.newest.next(self.newest.epoch);
                self.turn_back(order, &cause, at)
            }
            _ => Err(Illegal::AlreadyGoingBack),
        }
    }

    fn abort(&mut self, by: &str, reason: &str, at: Moment) -> Result<Touched, Illegal> {
        let switch = self.in_progress()?;
        if !switch.is_untouched() {
            return Err(Illegal::Mixed);
        }
        let outcome = Outcome::Aborted {
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        switch.stage = SwitchStage::Ended { outcome, at };
        Ok(Touched::head())
    }

    fn end(&mut self, outcome: &Outcome, at: Moment) -> Result<Touched, Illegal> {
        let switch = self.in_progress()?;
        let back = switch.purpose == Purpose::Back;
        let follows = match (&switch.stage, outcome) {
            (SwitchStage::Watching { .. }, Outcome::Succeeded) => true,
            (SwitchStage::Turning { .. }, Outcome::Succeeded) => back,
            (SwitchStage::Preparing { .. }, Outcome::RolledBack(_)) => true,
            (
                SwitchStage::TurningBack { .. },
                Outcome::RolledBack(_) | Outcome::NotRolledBack(_),
            ) => true,
            _ => false,
        };
        if !follows {
            return Err(Illegal::OutOfOrder);
        }
        switch.stage = SwitchStage::Ended {
            outcome: outcome.clone(),
            at,
        };
        if *outcome == Outcome::Succeeded {
            self.active = Some(switch.to.clone());
            self.unsettled = false;
        }
        Ok(Touched::head())
    }

    fn settle(&mut self, pool: &PoolName) -> Result<Touched, Illegal> {
        if self.agreed() != Some(pool) {
            return Err(Illegal::OutOfOrder);
        }
        self.active = Some(pool.clone());
        self.unsettled = false;
        Ok(Touched::head())
    }

    /// The pool that all routers were heard to send to, while it is not known.
    pub(super) fn agreed(&self) -> Option<&PoolName> {
        let first = self.hosts.values().next()?.sends_to.as_ref()?;
        let agree = |host: &RouterHost| host.heard && host.sends_to.as_ref() == Some(first);
        let all = self.unsettled && self.running().is_none() && self.hosts.values().all(agree);
        Some(first).filter(|pool| all && self.settings.pools.contains(*pool))
    }
}

fn head_if(changed: bool) -> Touched {
    match changed {
        true => Touched::head(),
        false => Touched::default(),
    }
}
