//! What every host is told, compared with the state after every event.

use super::World;
use std::collections::BTreeSet;
use tamer_core::desired::{DesiredComponent, Purpose};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::id::HostName;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::{Event, Host, Part, PartStatus, Rollout, Stage, Target};

/// A grant as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given {
    id: Generation,
    release: Option<ReleaseRef>,
    purpose: Purpose,
    start_by: Moment,
}

impl Given {
    pub(crate) fn of(event: &Event) -> Option<(HostName, Self)> {
        let Event::Granted {
            host,
            id,
            release,
            purpose,
            start_by,
            ..
        } = event
        else {
            return None;
        };
        let given = Self {
            id: *id,
            release: release.clone(),
            purpose: *purpose,
            start_by: *start_by,
        };
        Some((host.clone(), given))
    }
}

impl World {
    /// Every host is told what its state demands, and no more.
    pub(crate) fn check_told(&self) {
        for name in self.target.hosts.keys() {
            let told = self.target.desired(name).unwrap();
            self.check_grant(name, &told);
            check_release(&self.target, name, &told);
            check_stage(&self.target, name, &told);
            check_keep(&self.target, &told);
        }
    }

    /// With an open grant: exactly that grant's release. Without one: no leave to switch at all.
    fn check_grant(&self, name: &HostName, told: &DesiredComponent) {
        let Some(grant) = &told.grant else {
            assert!(
                self.target.hosts[name].grant.is_none(),
                "{name} is not told of its grant"
            );
            return;
        };
        assert!(
            self.target.hosts[name].grant.is_some(),
            "{name} is told of a grant that is closed"
        );
        let said = Given {
            id: grant.id,
            release: told.run.clone(),
            purpose: grant.purpose,
            start_by: grant.start_by,
        };
        assert_eq!(
            Some(&said),
            self.given.get(name),
            "{name} is told of another grant"
        );
    }
}

/// Without a grant: the rollout's release only for those whose turn it is and for whom it has not failed;
/// after an abort or a restore what runs; else the target's.
fn check_release(target: &Target, name: &HostName, told: &DesiredComponent) {
    let host = &target.hosts[name];
    if told.grant.is_some() {
        return;
    }
    let expected = match target
        .rollout
        .as_ref()
        .map(|rollout| (rollout, &rollout.stage))
    {
        Some((_, Stage::Ended { .. })) if !target.converging || target.unsettled => &host.running,
        None if target.unsettled => &host.running,
        Some((rollout, Stage::Rolling { wave } | Stage::Baking { wave, .. })) => match &host.part {
            Some(part) if part.rollout != rollout.id || part.wave > *wave => &target.release,
            Some(part)
                if part.status == PartStatus::Waiting
                    && !part.may_stage
                    && lacks(rollout, host) =>
            {
                &target.release
            }
            Some(part) if matches!(part.status, PartStatus::Waiting | PartStatus::Done) => {
                &rollout.release
            }
            _ => &target.release,
        },
        _ => &target.release,
    };
    assert_eq!(&told.run, expected, "{name} at {:?}", target.rollout);
}

fn lacks(rollout: &Rollout, host: &Host) -> bool {
    let release = rollout.release.as_ref();
    release.is_some_and(|release| !host.staged.contains(&release.manifest))
}

/// Hosts of a rollout that goes forward stage its release ahead once they may; others stage nothing.
fn check_stage(target: &Target, name: &HostName, told: &DesiredComponent) {
    let may = |part: &Part| {
        part.may_stage && matches!(part.status, PartStatus::Waiting | PartStatus::Done)
    };
    let takes_part = target
        .parts()
        .any(|(part_of, _, part)| part_of == name && may(part));
    let forward = |stage: &Stage| matches!(stage, Stage::Rolling { .. } | Stage::Baking { .. });
    let expected: Vec<ReleaseRef> = match &target.rollout {
        Some(rollout) if takes_part && forward(&rollout.stage) => {
            rollout.release.iter().cloned().collect()
        }
        _ => Vec::new(),
    };
    assert_eq!(told.stage, expected, "{name} stages something else");
}

/// What going back may need is kept: the target's release and the one that it would go back to.
fn check_keep(target: &Target, told: &DesiredComponent) {
    let kept: BTreeSet<Digest> = told.keep.iter().copied().collect();
    let needed = target.release.iter().chain(target.last_good());
    let needed: BTreeSet<Digest> = needed.map(|release| release.manifest).collect();
    assert_eq!(
        kept, needed,
        "other releases are kept than going back may need"
    );
}
