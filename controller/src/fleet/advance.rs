//! What follows by itself: targets decide, deployments go from one rollout to the next.

use super::Fleet;
use super::persist::Object;
use tamer_core::desired::{FailureKind, Purpose};
use tamer_core::id::TargetKey;
use tamer_core::moment::Moment;
use tamer_core::rollout::deployment::{Deployment, DeploymentId, Next, Step, StepStatus, Summary};
use tamer_core::rollout::{Event, PartStatus, RolloutId, Stage, Target};
use tamer_core::schema::Task;
use tamer_core::schema::migration::State;

/// A target that has not come to rest after so many decisions is a mistake of ours, and is left alone
/// until something happens to it.
const MOST_DECISIONS: usize = 100_000;

impl Fleet {
    /// Lets everything happen that follows now. Nothing does while the controller is held.
    pub fn advance(&mut self, now: Moment) {
        if self.held.is_some() {
            return;
        }
        if now >= self.patient_until {
            self.awaited.clear();
        }
        let due = self
            .wakes
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(key, _)| key.clone());
        self.restless.extend(due.collect::<Vec<_>>());
        let due = self.router_wakes.iter().filter(|(_, at)| **at <= now);
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        self.restless_routers.extend(due);
        loop {
            for key in std::mem::take(&mut self.restless) {
                self.settle(&key, now);
                self.weigh(&key, now);
            }
            for key in std::mem::take(&mut self.restless_routers) {
                self.settle_router(&key, now);
            }
            let rests = self.restless.is_empty() && self.restless_routers.is_empty();
            if !self.advance_deployments(now) && rests {
                self.look_at_standings(now);
                return;
            }
        }
    }

    fn settle(&mut self, key: &TargetKey, now: Moment) {
        for _ in 0..MOST_DECISIONS {
            self.draw_line(key, now);
            self.await_approval(key, now);
            self.look_at_calendar(key, now);
            let Some(target) = self.targets.get(key) else {
                return;
            };
            let mut decision = target.decide(now, self.epoch);
            if now < self.patient_until && decision.events.iter().any(is_giving_up) {
                // It is the controller that was away: hosts have a moment to say how they are.
                decision.events.retain(|event| !is_giving_up(event));
                let at = decision.wake_at.unwrap_or(self.patient_until);
                decision.wake_at = Some(at.min(self.patient_until));
            }
            if decision.events.is_empty() {
                match decision.wake_at {
                    Some(at) => self.wakes.insert(key.clone(), at),
                    None => self.wakes.remove(key),
                };
                self.restless.remove(key);
                return;
            }
            for event in &decision.events {
                if let Err(error) = self.apply(key, event, now) {
                    tracing::error!(target = %key, %error, ?event, "the engine decided what its state does not allow");
                    self.restless.remove(key);
                    return;
                }
            }
        }
        tracing::error!(target = %key, "the engine does not come to rest");
    }

    /// Says whether anything changed.
    fn advance_deployments(&mut self, now: Moment) -> bool {
        let running: Vec<DeploymentId> = self
            .deployments
            .iter()
            .filter(|(_, deployment)| deployment.ended.is_none())
            .map(|(id, _)| *id)
            .collect();
        let mut changed = false;
        for id in running {
            changed |= self.note_endings(id);
            changed |= self.next_step(id, now);
        }
        changed
    }

    /// Rollouts of a deployment that have ended become ended steps.
    fn note_endings(&mut self, id: DeploymentId) -> bool {
        let Some(deployment) = self.deployments.get(&id) else {
            return false;
        };
        let steps = deployment.steps.iter().enumerate();
        let ended: Vec<(usize, StepStatus)> = steps
            .filter_map(|(number, step)| {
                let StepStatus::Running(rollout) = step.status else {
                    return None;
                };
                Some((number, self.step_ended(step, rollout)?))
            })
            .collect();
        let changed = !ended.is_empty();
        if let Some(deployment) = self.deployments.get_mut(&id).filter(|_| changed) {
            for (number, status) in ended {
                deployment.steps[number].status = status;
            }
            self.dirty.insert(Object::Deployment(id));
        }
        changed
    }

    fn step_ended(&self, step: &Step, id: RolloutId) -> Option<StepStatus> {
        if step.is_switch() {
            return self.switch_ended(step, id);
        }
        let summary = summary(self.targets.get(&step.target)?, id)?;
        Some(StepStatus::Ended(id, Box::new(summary)))
    }

    fn next_step(&mut self, id: DeploymentId, now: Moment) -> bool {
        let Some(deployment) = self.deployments.get(&id) else {
            return false;
        };
        let next = deployment.next();
        if self.awaits_hosts(deployment, &next) {
            return false;
        }
        // A database's programs are the release's: they are not run either before it is approved, nor are routers
        // switched to what runs already.
        let switches = |number: &usize| {
            let step = deployment.steps.get(*number);
            step.is_some_and(|it| it.is_switch() && it.purpose == Purpose::Forward)
        };
        let waits = match &next {
            Next::Migrate(_) => true,
            Next::Start(number) => switches(number),
            _ => false,
        };
        if waits && !self.may_begin(id, now) {
            return false;
        }
        if let Next::Migrate(number) = next
            && self.migrates_when_open(id, number, now)
        {
            return false;
        }
        let Some(deployment) = self.deployments.get_mut(&id) else {
            return false;
        };
        match next {
            Next::Wait => return false,
            Next::TakeBack(steps) => deployment.steps.extend(steps),
            Next::End(ending) => {
                deployment.ended = Some((now, ending));
                let object = format!("{} {}", deployment.environment, deployment.application);
                let what = format!("deployment {id}: {ending:?}");
                self.came_to(id);
                self.note(now, "controller", "deployment.ended", object, &what);
            }
            Next::Start(number) => self.start_step(id, number, now),
            Next::Migrate(number) => return self.migrate(id, number, now),
        }
        self.dirty.insert(Object::Deployment(id));
        true
    }

    /// Whether hosts are awaited that were there when the controller stopped: what counts them as away
    /// would leave them out.
    fn awaits_hosts(&self, deployment: &Deployment, next: &Next) -> bool {
        let counts = match next {
            Next::Start(_) => true,
            Next::Migrate(number) => {
                let migration = deployment.migrations.get(*number);
                migration.is_some_and(|it| match &it.state {
                    State::Ordered(lease) => lease.task == Task::Read,
                    _ => true,
                })
            }
            Next::TakeBack(_) | Next::End(_) | Next::Wait => false,
        };
        let site = (&deployment.environment, &deployment.application);
        let mut hosts = self.sited(site).flat_map(|target| target.hosts.keys());
        counts && hosts.any(|host| self.awaited.contains(host))
    }

    fn start_step(&mut self, id: DeploymentId, number: usize, now: Moment) {
        let Some(step) = self
            .deployments
            .get(&id)
            .and_then(|deployment| deployment.steps.get(number))
            .cloned()
        else {
            return;
        };
        let rollout = RolloutId(self.numbers.rollout + 1);
        let crosses = step
            .release
            .as_ref()
            .and_then(|release| self.crosses_line(&step.target, release));
        let started = match crosses {
            Some(why) => Err(why),
            None if step.is_switch() => self.start_switch(rollout, &step, now),
            None => self.start_rollout(rollout, &step, now),
        };
        let status = match started {
            Ok(()) => {
                self.numbers.rollout = rollout.0;
                StepStatus::Running(rollout)
            }
            Err(reason) => StepStatus::Impossible(reason),
        };
        if let Some(step) = self
            .deployments
            .get_mut(&id)
            .and_then(|deployment| deployment.steps.get_mut(number))
        {
            step.status = status;
        }
    }

    fn start_rollout(&mut self, id: RolloutId, step: &Step, now: Moment) -> Result<(), String> {
        if let Some(why) = self.in_use(&step.target) {
            return Err(format!("pool {} is not idle: {why}", step.target.pool));
        }
        let target = self.targets.get(&step.target);
        let target = target.ok_or("the environment has no place for it any more")?;
        let new = self.plan(target, id, step.release.clone(), step.purpose, now);
        let started = Event::Started(Box::new(new.map_err(|why| why.to_string())?));
        self.apply(&step.target, &started, now)
            .map_err(|why| why.to_string())
    }
}

fn is_giving_up(event: &Event) -> bool {
    matches!(event, Event::GaveUp(_))
}

/// How the rollout went, once it has ended.
fn summary(target: &Target, id: RolloutId) -> Option<Summary> {
    let rollout = target.rollout.as_ref().filter(|rollout| rollout.id == id)?;
    let Stage::Ended { outcome, .. } = &rollout.stage else {
        return None;
    };
    let mut summary = Summary {
        outcome: outcome.clone(),
        moved: 0,
        failed: 0,
        left_out: rollout.left_out,
        first_failure: None,
    };
    for (_, host, part) in target.parts() {
        summary.moved += u32::from(part.moved);
        let there = host.running == rollout.release;
        summary.failed += u32::from(match rollout.purpose {
            Purpose::Forward => part.status.is_failure(),
            Purpose::Back => part.status.is_failure() || !there,
        });
        if part.status.is_failure() && summary.first_failure.is_none() {
            let silent = FailureKind::Host;
            summary.first_failure =
                Some(part.status.failure().map_or(silent, |failure| failure.kind));
        }
        if matches!(part.status, PartStatus::Failed(_)) {
            summary.moved += u32::from(!part.moved);
        }
    }
    Some(summary)
}
