//! Deployments that are under way, steered: paused, resumed, aborted, turned around.

use super::Fleet;
use super::deploy::{By, Refused};
use super::migrate::migration;
use super::persist::Object;
use tamer_core::evidence::same_person;
use tamer_core::id::TargetKey;
use tamer_core::moment::Moment;
use tamer_core::rollout::deployment::{DeploymentId, Ending, StepStatus};
use tamer_core::rollout::switching::{RouterKey, SwitchEvent};
use tamer_core::rollout::{Event, Illegal};
use tamer_core::schema::migration::{Frees, State};
use tamer_core::schema::{Migration, Task};

/// What may be done to a running deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Grant nothing more.
    Pause,
    /// Go on.
    Resume,
    /// Go on after a point of approval.
    Promote,
    /// Stop where it is.
    Abort,
    /// Go back.
    Rollback {
        /// Bring databases down first, where that is needed.
        with_down: bool,
    },
}

impl Fleet {
    /// Pauses, resumes, aborts or turns around a running deployment.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn control(
        &mut self,
        id: DeploymentId,
        what: Control,
        by: &By,
        now: Moment,
    ) -> Result<(), Refused> {
        let deployment = self.deployments.get(&id).ok_or_else(|| {
            Refused::NoDeployment(format!(
                "there is no deployment {id}: `tamer history` lists them"
            ))
        })?;
        let running = deployment
            .steps
            .iter()
            .find(|step| matches!(step.status, StepStatus::Running(_)));
        let environment = deployment.environment.clone();
        let place = self.environments.get(&environment);
        let four_eyes = place.is_some_and(|place| place.file.approval.four_eyes);
        if what == Control::Promote
            && running.is_some()
            && four_eyes
            && same_person(&by.who, &deployment.by)
        {
            return Err(Refused::Approval(format!(
                "{} asked for deployment {id}, and `{environment}` wants somebody else to let it go on (`four_eyes`)",
                deployment.by
            )));
        }
        if let Some(step) = running.filter(|step| step.is_switch()) {
            let router = RouterKey::from(&step.target);
            return self.control_switch(id, &router, what, by, now);
        }
        let Some(key) = running.map(|step| step.target.clone()) else {
            if what == Control::Abort && deployment.ended.is_none() {
                return self.abort_migrating(id, by, now);
            }
            if deployment.ended.is_none() {
                return Err(Refused::Schema(format!(
                    "deployment {id} is at its database: it can be aborted, or `tamer watch {id}` follows it"
                )));
            }
            return Err(Refused::NoDeployment(format!(
                "deployment {id} is over: `tamer status {id}` says how it ended"
            )));
        };
        let (by_text, reason_text) = (by.who.clone(), by.reason.clone());
        let (event, action) = match what {
            Control::Pause => (
                Event::Paused {
                    by: by_text,
                    reason: reason_text,
                },
                "pause",
            ),
            Control::Resume => (Event::Resumed, "resume"),
            Control::Promote => (
                Event::Promoted {
                    by: by_text,
                    reason: reason_text,
                },
                "promote",
            ),
            Control::Abort => (
                Event::Aborted {
                    by: by_text,
                    reason: reason_text,
                },
                "abort",
            ),
            Control::Rollback { .. } => (
                Event::RollbackAsked {
                    by: by_text,
                    reason: reason_text,
                },
                "rollback",
            ),
        };
        let begun = self.apply(&key, &event, now);
        if let (Control::Rollback { with_down }, Err(Illegal::Line(_))) = (what, &begun) {
            self.go_down_first(id, &key, with_down, by)?;
        } else {
            begun?;
        }
        let object = format!("{environment} deployment {id}");
        self.note(now, &by.who, action, object, &by.reason);
        Ok(())
    }

    /// The same while its routers are switched: that is short, and must not be left half-way.
    fn control_switch(
        &mut self,
        id: DeploymentId,
        router: &RouterKey,
        what: Control,
        by: &By,
        now: Moment,
    ) -> Result<(), Refused> {
        let (who, reason) = (by.who.clone(), by.reason.clone());
        let (event, action) = match what {
            Control::Promote => (SwitchEvent::Promoted { by: who, reason }, "promote"),
            Control::Pause | Control::Resume => {
                return Err(Refused::Router(format!(
                    "deployment {id} is switching routers, which is not held up: `tamer watch {id}` follows it, `tamer rollback {}` takes it back",
                    router.environment
                )));
            }
            Control::Abort => (SwitchEvent::Aborted { by: who, reason }, "abort"),
            Control::Rollback { .. } => {
                (SwitchEvent::RollbackAsked { by: who, reason }, "rollback")
            }
        };
        self.apply_route(router, &event, now)?;
        let object = format!("{} deployment {id}", router.environment);
        self.note(now, &by.who, action, object, &by.reason);
        Ok(())
    }

    /// A rollout that cannot go back for the database: has that brought down first, and then the rollout
    /// goes back, and what the deployment had moved before it.
    fn go_down_first(
        &mut self,
        id: DeploymentId,
        frozen: &TargetKey,
        with_down: bool,
        by: &By,
    ) -> Result<(), Refused> {
        let Some(deployment) = self.deployments.get(&id) else {
            return Ok(());
        };
        if deployment.migrations.iter().any(|it| it.frees.is_some()) {
            return Err(Refused::Schema(format!(
                "the database is being brought down already: `tamer watch {id}`"
            )));
        }
        let moved = deployment
            .steps
            .iter()
            .filter(|step| step.status != StepStatus::Waiting);
        let then: Vec<_> = moved
            .map(|step| (step.target.clone(), step.from.clone()))
            .collect();
        let (environment, application) = (
            deployment.environment.clone(),
            deployment.application.clone(),
        );
        let downs = self.way_down((&environment, &application), &then, with_down)?;
        let frees = Frees {
            target: frozen.clone(),
            by: by.who.clone(),
            reason: by.reason.clone(),
        };
        let downs = downs.into_iter().map(|(schema, to, carrier)| Migration {
            frees: Some(frees.clone()),
            ..migration(schema, Task::Down, to, carrier)
        });
        if let Some(deployment) = self.deployments.get_mut(&id) {
            deployment.migrations.extend(downs);
            self.dirty.insert(Object::Deployment(id));
        }
        Ok(())
    }

    /// Ends a deployment that waits for its database. What was begun goes on: its end must be settled then.
    fn abort_migrating(&mut self, id: DeploymentId, by: &By, now: Moment) -> Result<(), Refused> {
        let Some(deployment) = self.deployments.get_mut(&id) else {
            return Ok(());
        };
        let at_it = deployment.migrations.iter().find_map(|it| match &it.state {
            State::Ordered(lease) if lease.task != Task::Read => Some(&lease.host),
            _ => None,
        });
        if let Some(host) = at_it {
            return Err(Refused::Schema(format!(
                "{host} is migrating a database, and that cannot be taken back: wait until it has ended, or stop it there and `tamer schema settle`"
            )));
        }
        let hosts = deployment.migrations.iter().filter_map(Migration::host);
        self.stale.extend(hosts.cloned());
        deployment.ended = Some((now, Ending::Aborted));
        let object = format!("{} deployment {id}", deployment.environment);
        self.came_to(id);
        self.dirty.insert(Object::Deployment(id));
        self.note(now, &by.who, "abort", object, &by.reason);
        Ok(())
    }
}
