//! What the metrics take from the fleet's state, after every change of it.

use super::{EndingLabel, Metrics, PeerLabel, StateLabel};
use crate::fleet::Fleet;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use tamer_core::rollout::deployment::{DeploymentId, Ending};
use tamer_core::rollout::{Rollout, Stage};

/// Which of the fleet's deployments and events were counted already.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// The newest deployment that was seen.
    newest: DeploymentId,
    /// Deployments that ran when they were last seen.
    running: BTreeSet<DeploymentId>,
    /// The number of the newest event.
    event: u64,
}

/// Every state of a rollout that runs; each has its series from the start, so that none goes missing.
const STATES: [&str; 4] = ["rolling", "baking", "rolling_back", "paused"];

impl Metrics {
    /// Sets what is a state, and counts what is new since the last call. What had happened before
    /// the first call is not counted.
    pub fn observe_fleet(&self, fleet: &Fleet) {
        let mut states = [0i64; STATES.len()];
        let mut grants = 0;
        for target in fleet.targets.values() {
            if let Some(at) = target.active().and_then(state) {
                states[at] += 1;
            }
            let open = target.hosts.values().filter(|host| host.grant.is_some());
            grants += i64::try_from(open.count()).unwrap_or(i64::MAX);
        }
        self.grants_open.set(grants);
        self.observe_routers(fleet);
        self.held.set(i64::from(fleet.held.is_some()));
        let unsettled = fleet.targets.values().filter(|target| target.unsettled);
        self.unsettled
            .set(i64::try_from(unsettled.count()).unwrap_or(i64::MAX));
        self.strangers
            .set(i64::try_from(fleet.strangers.len()).unwrap_or(i64::MAX));
        let (hosts, operators) = fleet.registry.number_behind();
        for (kind, number) in [("host", hosts), ("operator", operators)] {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.behind.get_or_create(&PeerLabel { kind }).set(number);
        }
        let open = || {
            fleet
                .book
                .all()
                .filter_map(|(.., known)| known.open.as_ref())
        };
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.migrations_open.set(number(open().count()));
        let unknown = open().filter(|open| open.unknown.is_some());
        self.migrations_unknown.set(number(unknown.count()));
        for (state, number) in STATES.into_iter().zip(states) {
            self.rollouts
                .get_or_create(&StateLabel { state })
                .set(number);
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let first = counted.is_none();
        let counted = counted.get_or_insert_default();
        let known = counted.newest;
        for (id, deployment) in &fleet.deployments {
            match deployment.ended {
                None => {
                    counted.running.insert(*id);
                }
                Some((_, ending)) => {
                    let ran = counted.running.remove(id);
                    if ran || (*id > known && !first) {
                        let ending = word(ending);
                        self.deployments
                            .get_or_create(&EndingLabel { ending })
                            .inc();
                    }
                }
            }
            counted.newest = counted.newest.max(*id);
        }
        let event = fleet.numbers.event;
        if !first {
            self.events.inc_by(event.saturating_sub(counted.event));
        }
        counted.event = event;
    }
}

/// Where in [`STATES`] a rollout stands; nowhere once it has ended.
fn state(rollout: &Rollout) -> Option<usize> {
    match (&rollout.stage, &rollout.paused) {
        (Stage::Ended { .. }, _) => None,
        (_, Some(_)) => Some(3),
        (Stage::Rolling { .. }, None) => Some(0),
        (Stage::Baking { .. }, None) => Some(1),
        (Stage::RollingBack { .. }, None) => Some(2),
    }
}

fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "succeeded",
        Ending::HostsAway => "hosts_away",
        Ending::Refused => "refused",
        Ending::PreChecksFailed => "pre_checks_failed",
        Ending::Drifted => "drifted",
        Ending::RolledBack => "rolled_back",
        Ending::NotRolledBack => "not_rolled_back",
        Ending::Aborted => "aborted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::desired::Purpose;
    use tamer_core::moment::Moment;
    use tamer_core::policy::OnFailure;
    use tamer_core::rollout::deployment::Deployment;

    fn deployment(id: u64, ended: Option<Ending>) -> (DeploymentId, Deployment) {
        let id = DeploymentId(id);
        let deployment = Deployment {
            id,
            environment: "staging".parse().unwrap(),
            application: "shop".parse().unwrap(),
            version: None,
            component: None,
            purpose: Purpose::Forward,
            by: "anna".to_owned(),
            reason: String::new(),
            started_at: Moment(1),
            override_freeze: false,
            on_failure: OnFailure::Rollback,
            steps: Vec::new(),
            migrations: Vec::new(),
            approval: None,
            ended: ended.map(|ending| (Moment(2), ending)),
        };
        (id, deployment)
    }

    #[test]
    fn an_ending_is_counted_once_and_history_never() {
        let metrics = Metrics::new();
        let mut fleet = Fleet::new(1, None);
        fleet.numbers.event = 100;
        let ended = |metrics: &Metrics, ending| {
            let label = EndingLabel { ending };
            metrics.deployments.get_or_create(&label).get()
        };
        fleet
            .deployments
            .extend([deployment(1, Some(Ending::Succeeded)), deployment(2, None)]);
        metrics.observe_fleet(&fleet);
        assert_eq!((ended(&metrics, "succeeded"), metrics.events.get()), (0, 0));
        // 3 begins and ends between two looks; 2 ends later than it.
        fleet
            .deployments
            .extend([deployment(3, Some(Ending::RolledBack))]);
        fleet.numbers.event = 107;
        metrics.observe_fleet(&fleet);
        metrics.observe_fleet(&fleet);
        assert_eq!(
            (ended(&metrics, "rolled_back"), metrics.events.get()),
            (1, 7)
        );
        fleet
            .deployments
            .extend([deployment(2, Some(Ending::Succeeded))]);
        metrics.observe_fleet(&fleet);
        metrics.observe_fleet(&fleet);
        assert_eq!(ended(&metrics, "succeeded"), 1);
        assert_eq!(ended(&metrics, "rolled_back"), 1);
        let text = metrics.text();
        let idle = "tamer_controller_rollouts{state=\"rolling\"} 0\n";
        assert!(text.contains(idle), "{text}");
    }
}
