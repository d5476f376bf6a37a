//! How far the hosts of a deployment have fetched what it brings.

use crate::fleet::Fleet;
use crate::transfers::{Transfers, row, sum};
use tamer_core::id::HostName;
use tamer_core::rollout::deployment::{Deployment, StepStatus};
use tamer_proto::v1;

/// Shows it beside the hosts of the rollouts that run.
pub(super) fn show(
    fleet: &Fleet,
    deployment: &Deployment,
    transfers: &Transfers,
    status: &mut v1::DeploymentStatus,
) {
    for (step, rollout) in deployment.steps.iter().zip(&mut status.rollouts) {
        let running = matches!(step.status, StepStatus::Running(_)) && !step.is_switch();
        let (true, Some(release), Some(target)) =
            (running, &step.release, fleet.targets.get(&step.target))
        else {
            continue;
        };
        let is_there = |host: &_| target.hosts.contains_key(host);
        let fetched = transfers.of(&step.target, &release.manifest, is_there);
        rollout.transfers = sum(&fetched);
        for host in &mut rollout.hosts {
            let name = host.host.parse::<HostName>().ok();
            host.transfer = name.and_then(|name| fetched.get(&name)).map(row);
        }
    }
}
