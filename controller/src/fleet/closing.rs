//! Freezes and locks that people set by a command, and whether hosts may be moved forward: the environment file's
//! calendar and these together.

use super::Fleet;
use super::deploy::{By, Refused};
use super::persist::Object;
use crate::identity::registry::Role;
use serde::{Deserialize, Serialize};
use std::fmt;
use tamer_core::calendar::{Calendar, LONGEST_FREEZE, Opening, Shut, utc};
use tamer_core::desired::Purpose;
use tamer_core::id::{ApplicationName, EnvironmentName, OperatorName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::Event;
use tamer_core::rollout::deployment::{Deployment, DeploymentId, Next, StepStatus};
use tamer_core::schema::migration::State;

/// What is closed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closed {
    /// An environment, until a moment.
    Freeze(EnvironmentName),
    /// An environment, until a person opens it.
    Environment(EnvironmentName),
    /// An application, wherever it runs, until a person opens it.
    Application(ApplicationName),
}

/// Who closed it, why, until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// The operator.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Moment,
    /// Until when; `None` with locks.
    pub until: Option<Moment>,
}

// === impl Closed ===

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Freeze(name) | Self::Environment(name) => name.fmt(f),
            Self::Application(name) => name.fmt(f),
        }
    }
}

impl Closed {
    /// Its place in the store.
    pub(super) fn key(&self) -> String {
        let kind = match self {
            Self::Freeze(_) => "freeze",
            Self::Environment(_) => "environment",
            Self::Application(_) => "application",
        };
        format!("{kind}/{self}")
    }

    /// What lies at that place.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let (kind, name) = key.split_once('/')?;
        match kind {
            "freeze" => name.parse().ok().map(Self::Freeze),
            "environment" => name.parse().ok().map(Self::Environment),
            "application" => name.parse().ok().map(Self::Application),
            _ => None,
        }
    }

    /// What closes it, and what opens it again, as commands.
    pub fn commands(&self) -> (&'static str, &'static str) {
        match self {
            Self::Freeze(_) => ("freeze", "unfreeze"),
            Self::Environment(_) | Self::Application(_) => ("lock", "unlock"),
        }
    }

    /// The environment whose role is needed for it; of an application, that in all of them.
    pub fn environment(&self) -> Option<&EnvironmentName> {
        match self {
            Self::Freeze(name) | Self::Environment(name) => Some(name),
            Self::Application(_) => None,
        }
    }
}

// === impl Fleet ===

impl Fleet {
    /// Closes an environment or an application; whatever was said of it before is replaced.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn close(
        &mut self,
        what: Closed,
        until: Option<Moment>,
        by: &By,
        now: Moment,
    ) -> Result<(), Refused> {
        if let Some(until) = until {
            if until <= now {
                let said = format!("a freeze until {} would be over already", utc(until));
                return Err(Refused::Calendar(said));
            }
            if until.since(now) > LONGEST_FREEZE.0 {
                return Err(Refused::Calendar(
                    "a freeze of more than 366 days closes it for good: `tamer lock` does that until a person opens it"
                        .to_owned(),
                ));
            }
        }
        let end = until.map_or_else(String::new, |until| format!(" until {}", utc(until)));
        let object = format!("{what}{end}");
        self.note(now, &by.who, what.commands().0, object, &by.reason);
        let closure = Closure {
            by: by.who.clone(),
            reason: by.reason.clone(),
            at: now,
            until,
        };
        self.closures.insert(what.clone(), closure);
        self.calendar_changed(what);
        Ok(())
    }

    /// Opens what was closed: whoever closed it may, and admins.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn reopen(&mut self, what: Closed, by: &By, now: Moment) -> Result<(), Refused> {
        let (close, reopen) = what.commands();
        let Some(closure) = self.closures.get(&what) else {
            return Err(Refused::NoDeployment(format!(
                "{what} has no {close} that a person set: `tamer status` shows those that there are; what the \
                 environment file says is changed there"
            )));
        };
        let name: Option<OperatorName> = by.who.parse().ok();
        let operator = name.and_then(|name| self.registry.operators.get(&name));
        let admin = operator.is_some_and(|it| it.roles.may(what.environment(), Role::Admin));
        if closure.by != by.who && !admin {
            return Err(Refused::Calendar(format!(
                "the {close} of {what} is {}'s: they open it again, or an admin does with `tamer {reopen} {what}`",
                closure.by
            )));
        }
        self.closures.remove(&what);
        self.note(now, &by.who, reopen, what.to_string(), &by.reason);
        self.calendar_changed(what);
        Ok(())
    }

    fn calendar_changed(&mut self, what: Closed) {
        self.openings.clear();
        let concerned = |key: &&TargetKey| match &what {
            Closed::Freeze(name) | Closed::Environment(name) => key.environment == *name,
            Closed::Application(name) => key.application == *name,
        };
        let keys = self.targets.keys().filter(concerned).cloned();
        self.restless.extend(keys);
        self.dirty.insert(Object::Closure(what));
    }

    /// When an application may be moved forward in an environment. With `overridden`, windows and freezes are passed
    /// over; locks are not, for whoever may override may also unlock.
    pub fn calendar(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        overridden: bool,
    ) -> Calendar<'_> {
        let place = self.environments.get(environment).filter(|_| !overridden);
        let mut calendar = place.map_or_else(Calendar::default, |place| place.file.calendar());
        let frozen = Closed::Freeze(environment.clone());
        let locks = [
            Closed::Environment(environment.clone()),
            Closed::Application(application.clone()),
        ];
        for (what, word) in [
            (&locks[0], "locked"),
            (&locks[1], "locked"),
            (&frozen, "frozen"),
        ] {
            let closure = self.closures.get(what);
            if let Some(closure) = closure.filter(|_| !overridden || *what != frozen) {
                calendar = calendar.and(Shut {
                    from: closure.at,
                    until: closure.until,
                    why: format!("{what} is {word} by {}: {}", closure.by, closure.reason),
                });
            }
        }
        calendar
    }

    fn opening(
        &mut self,
        site: (&EnvironmentName, &ApplicationName),
        overridden: bool,
        now: Moment,
    ) -> Opening {
        let memo = (site.0.clone(), site.1.clone(), overridden);
        if let Some((since, opening)) = self.openings.get(&memo)
            && *since <= now
            && opening.until().is_none_or(|until| now < until)
        {
            return opening.clone();
        }
        let opening = self.calendar(site.0, site.1, overridden).at(now);
        self.openings.insert(memo, (now, opening.clone()));
        opening
    }

    /// Tells a target whether its hosts may be moved forward.
    pub(super) fn look_at_calendar(&mut self, key: &TargetKey, now: Moment) {
        let Some(target) = self.targets.get(key) else {
            return;
        };
        let rollout = target.active().map(|rollout| rollout.id);
        let of_it = |deployment: &&Deployment| {
            let mut steps = deployment.steps.iter();
            deployment.ended.is_none()
                && steps.any(|step| {
                    step.target == *key
                        && rollout.map(StepStatus::Running).as_ref() == Some(&step.status)
                })
        };
        let deployment = rollout.and_then(|_| self.deployments.values().rev().find(of_it));
        let overridden = deployment.is_some_and(|it| it.override_freeze);
        let opening = self.opening((&key.environment, &key.application), overridden, now);
        let known = self.targets.get(key).map(|target| &target.opening);
        // Anything may be told to a target that exists.
        if known.is_some_and(|known| *known != opening) {
            let _ = self.apply(key, &Event::Opening(opening), now);
        }
    }

    /// Refuses to begin what could not go on, unless somebody waits for it.
    pub(super) fn refuse_closed(
        &self,
        site: (&EnvironmentName, &ApplicationName),
        overridden: bool,
        now: Moment,
    ) -> Result<(), Refused> {
        match self.calendar(site.0, site.1, overridden).at(now) {
            Opening::Open { .. } => Ok(()),
            Opening::Closed { why, until } => Err(Refused::Closed {
                environment: site.0.clone(),
                why,
                // What is locked has no end, and an override does not open it.
                next: match until {
                    Some(_) => {
                        "`--wait` stages it now and goes on when it opens; an admin goes ahead with \
                         `--override-freeze --reason TEXT`"
                    }
                    None => {
                        "`--wait` stages it now and goes on when it opens; `tamer unlock` opens it"
                    }
                },
            }),
        }
    }

    /// Why a deployment's next migration waits, where it does because it is closed.
    pub fn migration_closed(&self, deployment: &Deployment, now: Moment) -> Option<String> {
        let Next::Migrate(number) = deployment.next() else {
            return None;
        };
        goes_up(deployment, number).then_some(())?;
        let site = (&deployment.environment, &deployment.application);
        let calendar = self.calendar(site.0, site.1, deployment.override_freeze);
        match calendar.at(now) {
            Opening::Closed { why, .. } => Some(why),
            Opening::Open { .. } => None,
        }
    }

    /// Whether a deployment's next migration has to wait until it is open; reading is not waited with, nor going back.
    pub(super) fn migrates_when_open(
        &mut self,
        id: DeploymentId,
        number: usize,
        now: Moment,
    ) -> bool {
        let Some(deployment) = self.deployments.get(&id) else {
            return false;
        };
        if !goes_up(deployment, number) {
            return false;
        }
        let site = (
            deployment.environment.clone(),
            deployment.application.clone(),
        );
        let target = deployment.steps.first().map(|step| step.target.clone());
        let opening = self.opening((&site.0, &site.1), deployment.override_freeze, now);
        if let (Some(until), Some(target)) = (opening.until(), target) {
            self.wakes.insert(target, until);
        }
        !opening.lets(now)
    }
}

/// Whether this migration brings a database up for a release that comes: it was read, and nothing has begun.
fn goes_up(deployment: &Deployment, number: usize) -> bool {
    let waits = deployment
        .migrations
        .get(number)
        .is_some_and(|it| it.frees.is_none() && it.state == State::Waiting && it.from.is_some());
    waits && deployment.purpose == Purpose::Forward
}
