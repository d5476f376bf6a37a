//! Approvals of deployments: handed in, counted, waited for. That one is good was seen before, by its signature and
//! with the environment file's keys.

use super::Fleet;
use super::deploy::{By, Refused};
use super::persist::Object;
use tamer_core::desired::Purpose;
use tamer_core::evidence::Until;
use tamer_core::id::{KeyName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::Event;
use tamer_core::rollout::approval::{Approving, Given, Standing};
use tamer_core::rollout::deployment::{Deployment, DeploymentId, Ending, StepStatus};

impl Fleet {
    /// A deployment that somebody may approve.
    ///
    /// # Errors
    /// [`Refused`]: there is none of this number, it needs no approval, or it is over.
    pub fn approvable(&self, id: DeploymentId) -> Result<&Deployment, Refused> {
        let deployment = self.deployments.get(&id).ok_or_else(|| {
            Refused::NoDeployment(format!(
                "there is no deployment {id}: `tamer history` lists them"
            ))
        })?;
        match (&deployment.approval, &deployment.ended) {
            (None, _) => Err(Refused::Approval(format!(
                "nobody has to approve deployment {id}: `tamer status {id}` shows it"
            ))),
            // Hosts that come later need an approval that has not ended.
            (Some(_), None | Some((_, Ending::Succeeded | Ending::HostsAway))) => Ok(deployment),
            (Some(_), Some(_)) => Err(Refused::Approval(format!(
                "deployment {id} is over, and what it brought did not stay: `tamer status {id}` says how it ended"
            ))),
        }
    }

    /// Whether the holder of this key may approve a deployment.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn may_approve(&self, id: DeploymentId, key: &KeyName) -> Result<(), Refused> {
        let deployment = self.approvable(id)?;
        let place = self.environments.get(&deployment.environment);
        if place.is_some_and(|it| it.file.approval.is_asker(key, &deployment.by)) {
            return Err(Refused::Approval(format!(
                "{} asked for deployment {id}, and `{}` wants somebody else to approve it (`four_eyes`)",
                deployment.by, deployment.environment
            )));
        }
        Ok(())
    }

    /// Counts an approval that was verified with this key of the environment file.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn approve(
        &mut self,
        id: DeploymentId,
        key: &KeyName,
        given: Given,
        by: &By,
        now: Moment,
    ) -> Result<(), Refused> {
        self.may_approve(id, key)?;
        let Some(deployment) = self.deployments.get_mut(&id) else {
            return Ok(());
        };
        let until = Until(given.expires);
        let object = format!(
            "{} deployment {id} with key `{key}` until {until}",
            deployment.environment
        );
        let approving = deployment.approval.get_or_insert_default();
        approving.given.insert(key.clone(), given);
        let targets = deployment.steps.iter().map(|step| step.target.clone());
        self.restless.extend(targets);
        self.dirty.insert(Object::Deployment(id));
        self.note(now, &by.who, "approve", object, &by.reason);
        Ok(())
    }

    /// How the approval of a deployment stands; `None` where nobody has to approve it.
    pub fn standing(&self, deployment: &Deployment, now: Moment) -> Option<Standing> {
        let approving = deployment.approval.as_ref()?;
        let place = self.environments.get(&deployment.environment)?;
        Some(approving.stands(&place.file.approval, &deployment.by, now))
    }

    /// What keeps a deployment from beginning: not enough people have approved it. One that has begun goes on.
    pub fn awaited(&self, deployment: &Deployment, now: Moment) -> Option<Standing> {
        let waits = |it: &Approving| !it.begun && deployment.ended.is_none();
        deployment.approval.as_ref().filter(|it| waits(it))?;
        let standing = self.standing(deployment, now)?;
        Some(standing).filter(|it| !it.is_enough())
    }

    /// Says that a deployment has begun, if it may: what was approved goes on, whatever ends later.
    pub(super) fn may_begin(&mut self, id: DeploymentId, now: Moment) -> bool {
        let Some(deployment) = self.deployments.get(&id) else {
            return false;
        };
        if self.awaited(deployment, now).is_some() {
            return false;
        }
        if let Some(approving) = self
            .deployments
            .get_mut(&id)
            .and_then(|it| it.approval.as_mut())
            .filter(|it| !it.begun)
        {
            approving.begun = true;
            self.dirty.insert(Object::Deployment(id));
        }
        true
    }

    /// Tells the rollout of a target whether it has to wait for approval.
    pub(super) fn await_approval(&mut self, key: &TargetKey, now: Moment) {
        let Some(target) = self.targets.get(key) else {
            return;
        };
        let forward = target.active().filter(|it| it.wave().is_some());
        let Some(rollout) = forward.filter(|it| it.purpose == Purpose::Forward) else {
            return;
        };
        let of_it = |deployment: &&Deployment| {
            let running = StepStatus::Running(rollout.id);
            let mut steps = deployment.steps.iter();
            deployment.ended.is_none()
                && deployment.approval.is_some()
                && steps.any(|step| step.target == *key && step.status == running)
        };
        let Some(deployment) = self.deployments.values().rev().find(of_it) else {
            return;
        };
        let awaits = self.awaited(deployment, now).map(|it| it.to_string());
        let granted = (target.parts()).any(|(_, host, part)| host.grant.is_some() || part.moved);
        let (id, changed) = (deployment.id, rollout.awaits != awaits);
        if awaits.is_none() && granted {
            self.may_begin(id, now);
        }
        if changed && let Err(error) = self.apply(key, &Event::Approval(awaits), now) {
            tracing::error!(target = %key, %error, "the engine knows no rollout that waits");
        }
    }
}
