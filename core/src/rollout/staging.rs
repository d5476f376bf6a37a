//! Who may fetch a release ahead of its turn: so many hosts at a time, whatever their wave. None of them is
//! out of service for it.

use super::decide::Decision;
use super::event::Event;
use super::state::{Host, Part, PartStatus, Rollout, Target};
use crate::release::ReleaseRef;

impl Target {
    /// Lets as many more hosts fetch the rollout's release as the policy allows, those of earlier waves
    /// first. Who is away takes no place; who has it already needs none, and keeps it.
    pub(super) fn stage_ahead(&self, rollout: &Rollout, decision: &mut Decision) {
        let release = rollout.release.as_ref();
        let fetching = |(_, host, part): &(_, &Host, &Part)| fetches(host, part, release);
        let busy = self.parts().filter(fetching).count() as u32;
        let limit = rollout.policy.staging_of(self.hosts.len() as u32);
        let mut room = limit.saturating_sub(busy);
        let mut next: Vec<_> = self
            .parts()
            .filter(|(_, host, part)| {
                !part.may_stage && (host.has(release) || wants_to_fetch(host, part))
            })
            .collect();
        next.sort_by_key(|(_, _, part)| part.wave);
        for (name, host, _) in next {
            if !host.has(release) {
                if room == 0 {
                    continue;
                }
                room -= 1;
            }
            decision.events.push(Event::MayStage(name.clone()));
        }
    }

    /// Whether a host only waits for others to have fetched the release.
    pub(super) fn waits_to_fetch(&self, rollout: &Rollout, host: &Host) -> bool {
        let part = host.part.as_ref().filter(|part| part.rollout == rollout.id);
        part.is_some_and(|part| {
            !part.may_stage && !host.has(rollout.release.as_ref()) && wants_to_fetch(host, part)
        })
    }
}

/// Whether a host fetches the release just now, as far as is known.
fn fetches(host: &Host, part: &Part, release: Option<&ReleaseRef>) -> bool {
    part.may_stage
        && part.status == PartStatus::Waiting
        && host.is_connected()
        && !host.has(release)
}

fn wants_to_fetch(host: &Host, part: &Part) -> bool {
    part.status == PartStatus::Waiting && host.is_free()
}
