//! What the metrics take from components with two pools, after every change of the fleet.

use super::{Metrics, StateLabel};
use crate::fleet::Fleet;
use tamer_core::rollout::switching::SwitchStage;

/// Every state of a switch that runs; each has its series from the start.
const STATES: [&str; 5] = [
    "preparing",
    "accepted",
    "turning",
    "watching",
    "turning_back",
];

impl Metrics {
    /// Sets how many switches run, and how many routers do not do what they were told.
    pub(super) fn observe_routers(&self, fleet: &Fleet) {
        let mut states = [0i64; STATES.len()];
        let mut astray = 0;
        for router in fleet.routers.values() {
            if let Some(at) = router.running().and_then(|switch| state(&switch.stage)) {
                states[at] += 1;
            }
            astray += router.astray().len();
        }
        for (state, number) in STATES.into_iter().zip(states) {
            self.switches
                .get_or_create(&StateLabel { state })
                .set(number);
        }
        self.routers_astray
            .set(i64::try_from(astray).unwrap_or(i64::MAX));
    }
}

/// Where in [`STATES`] a switch stands; nowhere once it has ended.
fn state(stage: &SwitchStage) -> Option<usize> {
    match stage {
        SwitchStage::Preparing { .. } => Some(0),
        SwitchStage::Accepted { .. } => Some(1),
        SwitchStage::Turning { .. } => Some(2),
        SwitchStage::Watching { .. } => Some(3),
        SwitchStage::TurningBack { .. } => Some(4),
        SwitchStage::Ended { .. } => None,
    }
}
