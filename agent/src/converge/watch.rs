//! What is looked at while nothing is being deployed: checks, each at its own interval, and running
//! releases, which are compared with their manifests as `looking` says.

use super::confirm::confirmed;
use super::{Converge, Event};
use crate::execute::End;
use std::collections::BTreeMap;
use std::sync::Arc;
use tamer_core::check::{Check, CheckResult, Checks, Results};
use tamer_core::desired::Slot;
use tamer_core::id::CheckName;
use tokio::time::Instant;

/// Which checks are due when; `None` stands for the environment's.
#[derive(Default)]
pub(super) struct Watched {
    /// The environment's checks, as they last ended.
    pub(super) environment: Results,
    next: BTreeMap<(Option<Slot>, CheckName), Next>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is being tried.
    Trying,
    /// It is tried again then.
    At(Instant),
}

impl Watched {
    /// The checks of `checks` that are due, and they are now being tried.
    fn due(&mut self, whose: Option<&Slot>, checks: &Checks) -> Checks {
        let now = Instant::now();
        self.next
            .retain(|(slot, name), _| slot.as_ref() != whose || checks.contains_key(name));
        let mut due = Checks::new();
        for (name, check) in checks {
            let next = self
                .next
                .entry((whose.cloned(), name.clone()))
                .or_insert(Next::At(now));
            if matches!(next, Next::At(at) if *at <= now) {
                *next = Next::Trying;
                due.insert(name.clone(), check.clone());
            }
        }
        due
    }

    /// Plans the next try.
    fn tried(&mut self, whose: Option<&Slot>, name: &CheckName, check: Option<&Check>) {
        let key = (whose.cloned(), name.clone());
        match check {
            Some(check) => {
                let at = Instant::now() + check.interval.0;
                self.next.insert(key, Next::At(at));
            }
            None => {
                self.next.remove(&key);
            }
        }
    }

    /// Has everything of `whose` tried again at once.
    pub(super) fn forget(&mut self, whose: Option<&Slot>) {
        self.next.retain(|(slot, _), _| slot.as_ref() != whose);
    }

    /// The earliest time that something is due, at the latest `latest`.
    pub(super) fn wake_at(&self, latest: Instant) -> Instant {
        let times = self.next.values().filter_map(|next| match next {
            Next::At(at) => Some(*at),
            Next::Trying => None,
        });
        times.min().map_or(latest, |at| at.min(latest))
    }
}

impl Converge {
    /// Begins whatever is due. Components that are being activated are left alone.
    pub(super) fn watch_at_rest(&mut self) {
        // What is not looked at now must not wake anybody.
        let idle: Vec<Slot> = self
            .slots
            .iter()
            .filter(|(_, it)| it.working.is_some() || it.running().is_none())
            .map(|(slot, _)| slot.clone())
            .collect();
        for slot in &idle {
            self.checks.forget(Some(slot));
        }
        if let Some(view) = &self.view {
            let due = self.checks.due(None, &view.checks);
            if !due.is_empty() {
                self.try_environment(due);
            }
        }
        let slots: Vec<Slot> = self.slots.keys().cloned().collect();
        for slot in slots {
            if idle.contains(&slot) {
                continue;
            }
            let Some(running) = self.state(&slot).running().cloned() else {
                continue;
            };
            self.compare(&slot, &running);
            let due = self.checks.due(Some(&slot), &running.spec.checks);
            if due.is_empty() {
                continue;
            }
            let journal = self.executor.journal.get();
            let Some(root) = journal.slot(&slot).and_then(|it| it.root.clone()) else {
                continue;
            };
            let before = self.state(&slot).checks.clone();
            let (executor, event) = (self.executor.clone(), self.event.clone());
            tokio::spawn(async move {
                let whose = Some((slot.clone(), running.name.clone()));
                let tell = |results| {
                    let _ = event.send(Event::Checked(whose.clone(), results));
                };
                match End::new(&executor.config, &slot, &root, &running).await {
                    Ok(end) => {
                        let around = executor.around_component(&slot, &end);
                        confirmed(&*executor.probe, due, &before, &around, tell).await;
                    }
                    Err(why) => {
                        let failed = |name| (name, CheckResult::Failed(why.message.clone()));
                        tell(due.into_keys().map(failed).collect());
                    }
                }
            });
        }
    }

    fn try_environment(&self, due: Checks) {
        let around = self.executor.around_environment();
        let before = self.checks.environment.clone();
        let (probe, event) = (Arc::clone(&self.hands.probe), self.event.clone());
        tokio::spawn(async move {
            let tell = |results| {
                let _ = event.send(Event::Checked(None, results));
            };
            confirmed(&*probe, due, &before, &around, tell).await;
        });
    }

    /// Notes how checks ended. Those of a release that was left meanwhile are of no interest.
    pub(super) fn checked(&mut self, whose: Option<(Slot, String)>, results: Results) {
        let checks = match &whose {
            None => self.view.as_ref().map(|view| view.checks.clone()),
            Some((slot, tried)) => match self.state(slot).running() {
                Some(running) if running.name == *tried => Some(running.spec.checks.clone()),
                _ => return,
            },
        }
        .unwrap_or_default();
        let whose = whose.as_ref().map(|(slot, _)| slot);
        for (name, result) in results {
            let check = checks.get(&name);
            self.checks.tried(whose, &name, check);
            let known = match whose {
                None => &mut self.checks.environment,
                Some(slot) => &mut self.slots.entry(slot.clone()).or_default().checks,
            };
            if check.is_some() {
                known.insert(name, result);
            }
            known.retain(|name, _| checks.contains_key(name));
        }
    }
}
