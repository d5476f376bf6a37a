//! What a host should be, as it follows from the state of its target.

use super::state::{Host, PartStatus, Stage, Target};
use crate::desired::{DesiredComponent, Grant, Slot};
use crate::id::HostName;
use crate::release::ReleaseRef;
use std::collections::BTreeSet;

impl Target {
    /// What the component should be on one of the target's hosts.
    pub fn desired(&self, name: &HostName) -> Option<DesiredComponent> {
        let host = self.hosts.get(name)?;
        let run = match &host.grant {
            Some(grant) => grant.release.clone(),
            // A release in `run` is fetched at once: not before the host may.
            None if self.must_not_fetch(host) => self.release.clone(),
            None => self.goal(host).cloned(),
        };
        Some(DesiredComponent {
            slot: Slot {
                application: self.key.application.clone(),
                component: self.key.component.clone(),
                pool: self.key.pool.clone(),
            },
            run,
            stage: self.to_stage(host).into_iter().cloned().collect(),
            keep: self.to_keep(),
            grant: host.grant.as_ref().map(|grant| Grant {
                id: grant.id,
                start_by: grant.start_by,
                purpose: grant.purpose,
            }),
            waits_for_approval: (self.active()).is_some_and(|rollout| rollout.awaits.is_some()),
            migrate: None,
            adopted: None,
            repair: None,
        })
    }

    /// The release that a host is to run, whether or not it has been granted yet.
    pub fn goal<'a>(&'a self, host: &'a Host) -> Option<&'a ReleaseRef> {
        let Some(rollout) = self.active() else {
            return if self.converges() {
                self.release.as_ref()
            } else {
                host.running.as_ref()
            };
        };
        let part = host.part.as_ref().filter(|part| part.rollout == rollout.id);
        match (&rollout.stage, part) {
            (Stage::Rolling { wave } | Stage::Baking { wave, .. }, Some(part))
                if part.wave <= *wave
                    && matches!(part.status, PartStatus::Waiting | PartStatus::Done) =>
            {
                rollout.release.as_ref()
            }
            _ => self.release.as_ref(),
        }
    }

    fn must_not_fetch(&self, host: &Host) -> bool {
        self.active().is_some_and(|rollout| {
            let part = host.part.as_ref().filter(|part| part.rollout == rollout.id);
            rollout.wave().is_some()
                && !host.has(rollout.release.as_ref())
                && part.is_some_and(|part| !part.may_stage && part.status == PartStatus::Waiting)
        })
    }

    /// The rollout's release is staged ahead everywhere, so many hosts at a time, while the canary still bakes.
    fn to_stage(&self, host: &Host) -> Option<&ReleaseRef> {
        let rollout = self.active().filter(|rollout| rollout.wave().is_some())?;
        host.part.as_ref().filter(|part| {
            part.rollout == rollout.id && part.may_stage && !part.status.is_failure()
        })?;
        rollout.release.as_ref()
    }

    /// What going back may need: the target's release, and the one before it.
    fn to_keep(&self) -> Vec<crate::digest::Digest> {
        let keep: BTreeSet<_> = self
            .release
            .iter()
            .chain(self.last_good())
            .map(|release| release.manifest)
            .collect();
        keep.into_iter().collect()
    }
}
