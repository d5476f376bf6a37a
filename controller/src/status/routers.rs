//! Pools and routers as people see them. What routers' commands printed is in failures of hosts alone, which are
//! hidden like all other output.

use super::{POINT, cause, failure, outcome};
use crate::fleet::Fleet;
use tamer_core::id::{EnvironmentName, HostName};
use tamer_core::moment::Moment;
use tamer_core::rollout::RolloutId;
use tamer_core::rollout::switching::{Router, RouterHost, Switch, SwitchStage, Unfit};
use tamer_proto::v1;

/// How a switch of routers stands, into the row of its step.
pub(super) fn switch(
    fleet: &Fleet,
    router: &Router,
    id: RolloutId,
    now: Moment,
    status: &mut v1::RolloutStatus,
) {
    let Some(switch) = router.switch.as_ref().filter(|it| it.id == id) else {
        return;
    };
    let state = match &switch.stage {
        SwitchStage::Ended { outcome: how, .. } => {
            status.cause = cause(how);
            outcome(how)
        }
        SwitchStage::TurningBack { cause, .. } => {
            status.cause = cause.to_string();
            "rolling back"
        }
        SwitchStage::Accepted { .. } => POINT,
        _ => "running",
    };
    state.clone_into(&mut status.state);
    let waits = router.decide(now, fleet.epoch).waiting_on;
    status.waiting_on = waits.iter().map(ToString::to_string).collect();
    let named = match switch.taking_part.is_empty() {
        true => router.hosts.keys().collect::<Vec<_>>(),
        false => switch.taking_part.iter().collect(),
    };
    status.total = named.len() as u32;
    let rows = named.into_iter().filter_map(|name| {
        let host = router.hosts.get(name)?;
        Some(row(name, host, switch))
    });
    status.hosts = rows.collect();
}

fn row(name: &HostName, host: &RouterHost, switch: &Switch) -> v1::RolloutHost {
    let to = host.sends_to.as_ref();
    let refused = host.acceptance.as_ref().and_then(|(_, it)| it.as_ref());
    let problem = host.failure.as_ref();
    let problem = problem.or(refused.filter(|_| switch.is_untouched()));
    let state = match (&switch.stage, problem) {
        (_, Some(_)) => "failed",
        (_, None) if switch.is_untouched() => "waiting",
        (_, None) if to == Some(&switch.to) => "done",
        (SwitchStage::TurningBack { .. } | SwitchStage::Ended { .. }, None)
            if to == Some(&switch.from) =>
        {
            "back"
        }
        (_, None) => "working: switch",
    };
    v1::RolloutHost {
        host: name.to_string(),
        wave: 0,
        state: state.to_owned(),
        running: to.map_or_else(String::new, ToString::to_string),
        failure: problem.map(failure),
        transfer: None,
    }
}

/// Every component with pools, of one environment or of all.
pub fn routers(fleet: &Fleet, environment: Option<&EnvironmentName>) -> Vec<v1::RouterRow> {
    let here = |router: &&Router| environment.is_none_or(|it| *it == router.key.environment);
    let shown = fleet.routers.values().filter(here);
    shown.map(|router| shown_router(fleet, router)).collect()
}

fn shown_router(fleet: &Fleet, router: &Router) -> v1::RouterRow {
    let pools = router.settings.pools.iter().map(|pool| {
        let target = fleet.targets.get(&router.key.target(pool));
        let hosts = target.map_or(0, |target| target.hosts.len() as u32);
        let unfit = target.and_then(|target| target.is_fit().err());
        let release = target.and_then(|target| target.release.as_ref());
        v1::PoolRow {
            pool: pool.to_string(),
            version: release.map_or_else(String::new, |release| release.version.to_string()),
            hosts,
            serving: unfit.as_ref().map_or_else(
                || target.map_or(0, |target| target.serving()),
                |Unfit { serving, .. }| *serving,
            ),
            unfit: unfit.map_or_else(String::new, |unfit| unfit.to_string()),
        }
    });
    let astray = router.astray();
    let hosts = router.hosts.iter().map(|(name, host)| {
        let found = astray.iter().find(|(it, _)| *it == name);
        v1::RouterHostRow {
            host: name.to_string(),
            state: match host.is_connected() {
                true => "connected".to_owned(),
                false => "away".to_owned(),
            },
            sends_to: host
                .sends_to
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            problem: found.map_or_else(String::new, |(_, what)| what.clone()),
        }
    });
    v1::RouterRow {
        environment: router.key.environment.to_string(),
        application: router.key.application.to_string(),
        component: router.key.component.to_string(),
        active: router
            .active
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        pools: pools.collect(),
        hosts: hosts.collect(),
        unsettled: match router.idle() {
            Err(why) => why.to_string(),
            Ok(_) => String::new(),
        },
        deadline: router.settings.deadline.to_string(),
    }
}
