//! How many hosts fetch a release, counted without the decision's own words.

use super::{Broken, at_most, broken};
use crate::id::HostName;
use crate::rollout::{Host, PartStatus, Presence, Target};

/// No more hosts fetch a release at once than the policy allows.
pub(super) fn judge(before: &Target, name: &HostName) -> Result<(), Broken> {
    let Some(rollout) = &before.rollout else {
        return broken(format!("{name} may stage, and there is no rollout"));
    };
    let lacks = |host: &Host| {
        let wanted = rollout.release.as_ref().map(|release| release.manifest);
        wanted.is_some_and(|wanted| !host.staged.contains(&wanted))
    };
    let busy = before.hosts.values().filter(|host| {
        let part = host.part.as_ref().filter(|part| part.rollout == rollout.id);
        let told =
            part.is_some_and(|part| part.may_stage && matches!(part.status, PartStatus::Waiting));
        told && lacks(host) && host.presence == Presence::Connected
    });
    let most = at_most(rollout.policy.max_staging, before.hosts.len());
    if lacks(&before.hosts[name]) && busy.count() + 1 > most {
        return broken(format!("{name} may stage, and {most} hosts do so already"));
    }
    Ok(())
}
