//! Pools in a deployment: where a release goes, when routers are switched to it, and whether they may go back.

use super::Fleet;
use super::deploy::Refused;
use tamer_core::desired::{FailureKind, Purpose};
use tamer_core::id::TargetKey;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::deployment::{Step, StepStatus, Summary};
use tamer_core::rollout::switching::{
    NoSwitch, Router, RouterKey, Switch, SwitchEvent, SwitchStage, Unfit,
};
use tamer_core::rollout::{Outcome, RolloutId};

impl Fleet {
    /// The routers in front of a target, where its component has some.
    pub fn router_of(&self, target: &TargetKey) -> Option<&Router> {
        self.routers.get(&RouterKey::from(target))
    }

    /// Where a release of a component goes: to the pool that is idle, or to that which is used where it is the
    /// release of that already; the one pool of a component that has none.
    ///
    /// # Errors
    /// [`Refused`]: it is not known which pool is idle, or a router may be sending to it.
    pub(super) fn goes_to(
        &self,
        main: TargetKey,
        release: &ReleaseRef,
    ) -> Result<TargetKey, Refused> {
        let Some(router) = self.router_of(&main) else {
            return Ok(main);
        };
        let refuse = |why: NoSwitch| {
            Refused::Router(format!(
                "{}: {why}; `tamer status {}` shows its routers",
                router.key.path(),
                main.environment
            ))
        };
        let idle = router.idle().map_err(refuse)?;
        let used = router.active.as_ref().map(|pool| router.key.target(pool));
        let runs = |key: &TargetKey| self.targets.get(key)?.release.as_ref();
        if let Some(used) = used.filter(|key| runs(key) == Some(release)) {
            return Ok(used);
        }
        match router.may_send_to(&idle) {
            Some(why) => Err(Refused::Router(format!(
                "{}: pool {idle} is not idle: {why}; `tamer rollback {} --component {} --pool POOL` has all routers send to one pool",
                router.key.path(),
                main.environment,
                main.component
            ))),
            None => Ok(router.key.target(&idle)),
        }
    }

    /// Whether a target is a pool that is not used: after its rollout routers are switched to it.
    pub(super) fn is_idle(&self, target: &TargetKey) -> bool {
        let router = self.router_of(target);
        router.is_some_and(|router| router.active.as_ref() != Some(&target.pool))
    }

    /// The steps that bring a release to a target: its rollout, unless it is there already, and the switch of its
    /// routers, where it is an idle pool.
    pub(super) fn steps_to(
        &self,
        target: &TargetKey,
        release: Option<&ReleaseRef>,
        purpose: Purpose,
    ) -> Vec<Step> {
        let there = release.is_some_and(|release| self.is_there(target, release));
        let mut steps = Vec::new();
        if !there {
            steps.push(self.step(target.clone(), release.cloned(), purpose));
        }
        if self.is_idle(target) {
            steps.extend(self.switch_to(target, release, purpose));
        }
        steps
    }

    /// The step that switches a target's routers to it.
    pub(super) fn switch_to(
        &self,
        target: &TargetKey,
        release: Option<&ReleaseRef>,
        purpose: Purpose,
    ) -> Option<Step> {
        let router = self.router_of(target)?;
        let leaves = router.active.clone().unwrap_or_else(|| target.pool.clone());
        let from = self.targets.get(&router.key.target(&leaves));
        Some(Step {
            leaves: Some(leaves),
            from: from.and_then(|from| from.release.clone()),
            ..self.step(target.clone(), release.cloned(), purpose)
        })
    }

    /// Whether routers may be switched back to a pool: one that does not serve as it should is gone back to only
    /// where somebody has said so, and one of which nothing serves is not gone back to at all.
    pub(super) fn may_go_back_to(&self, pool: &TargetKey, incomplete: bool) -> Result<(), Refused> {
        let Some(Err(unfit)) = self.targets.get(pool).map(|target| target.is_fit()) else {
            return Ok(());
        };
        let Unfit { serving, why, .. } = &unfit;
        let what = format!("{}/{} pool {}", pool.application, pool.component, pool.pool);
        match (serving, incomplete) {
            (0, _) => Err(Refused::Router(format!(
                "{what} cannot serve: {why}; a version is named with `tamer rollback {} VERSION`",
                pool.environment
            ))),
            (_, true) => Ok(()),
            (_, false) => Err(Refused::Router(format!(
                "{what} is not whole any more: {why}; with --incomplete routers are switched to it all the same"
            ))),
        }
    }

    /// Why a rollout may not begin in a target: it is a pool that should be idle, and a router may send to it.
    pub(super) fn in_use(&self, target: &TargetKey) -> Option<String> {
        let router = self.router_of(target).filter(|_| self.is_idle(target))?;
        router.may_send_to(&target.pool)
    }

    /// Starts the switch of a deployment's step.
    pub(super) fn start_switch(
        &mut self,
        id: RolloutId,
        step: &Step,
        now: Moment,
    ) -> Result<(), String> {
        let key = RouterKey::from(&step.target);
        let router = self.routers.get(&key);
        let router = router.ok_or("the environment has no routers for it any more")?;
        let switch = router.plan(id, &step.target.pool, step.purpose, (now, self.epoch));
        let switch = switch.map_err(|why| why.to_string())?;
        let started = SwitchEvent::Started(Box::new(switch));
        self.apply_route(&key, &started, now)
            .map_err(|e| e.to_string())
    }

    /// How the switch of a deployment's step went, once it has ended.
    pub(super) fn switch_ended(&self, step: &Step, id: RolloutId) -> Option<StepStatus> {
        let Some(router) = self.router_of(&step.target) else {
            let why = "the environment has no routers for it any more";
            return Some(StepStatus::Impossible(why.to_owned()));
        };
        let switch = router.switch.as_ref().filter(|it| it.id == id)?;
        let SwitchStage::Ended { outcome, .. } = &switch.stage else {
            return None;
        };
        Some(StepStatus::Ended(
            id,
            Box::new(summary(router, switch, outcome)),
        ))
    }
}

fn summary(router: &Router, switch: &Switch, outcome: &Outcome) -> Summary {
    let (there, not) = router.counts(switch);
    let all = switch.taking_part.len() as u32;
    let succeeded = *outcome == Outcome::Succeeded;
    Summary {
        outcome: outcome.clone(),
        moved: if succeeded { there } else { all },
        failed: match outcome {
            Outcome::Succeeded | Outcome::NotRolledBack(_) => not,
            _ => 0,
        },
        left_out: match all {
            0 => 0,
            all => (router.hosts.len() as u32).saturating_sub(all),
        },
        first_failure: (!succeeded).then_some(FailureKind::Check),
    }
}
