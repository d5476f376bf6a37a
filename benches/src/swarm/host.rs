//! What a simulated host does with what it is told: the fake in place of an agent's plan and executor. It stages,
//! switches under a grant and reports as the real one does, and has no disk. Without clock and without I/O.

use std::collections::BTreeSet;
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{
    ActivationReport, ActivationStatus, ComponentReport, Desired, DesiredComponent, Grant,
    HostReport, Slot,
};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::id::CheckName;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;

/// A host.
#[derive(Debug)]
pub struct SimulatedHost {
    desired: Option<Desired>,
    report: HostReport,
}

/// What a host has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Fetch a release and unpack it.
    Stage(Slot, Digest),
    /// Switch to a release, or to none.
    Switch(Slot, Grant, Option<ReleaseRef>),
}

impl Default for SimulatedHost {
    fn default() -> Self {
        let report = HostReport {
            generation: Generation::default(),
            components: Vec::new(),
            checks: Results::new(),
            inspection: None,
            routes: Vec::new(),
        };
        Self {
            desired: None,
            report,
        }
    }
}

impl SimulatedHost {
    /// What it says of itself.
    pub fn report(&self) -> &HostReport {
        &self.report
    }

    /// Takes in what it should be; says whether it did: what is older than the newest is refused.
    pub fn take_in(&mut self, desired: Desired) -> bool {
        if desired.generation < self.report.generation {
            return false;
        }
        self.report.generation = desired.generation;
        for wanted in &desired.components {
            if !self
                .report
                .components
                .iter()
                .any(|it| it.slot == wanted.slot)
            {
                self.report.components.push(nothing(&wanted.slot));
            }
        }
        let placed = |slot: &Slot| desired.components.iter().any(|it| it.slot == *slot);
        self.report.components.retain(|it| placed(&it.slot));
        self.desired = Some(desired);
        true
    }

    /// The first thing that is left to do.
    pub fn work(&self) -> Option<Work> {
        let wanted = self.desired.iter().flat_map(|it| &it.components);
        wanted
            .zip(&self.report.components)
            .find_map(|(wanted, _)| work(wanted, self.component(&wanted.slot)?))
    }

    /// It begins with this at `now`: a switch is reported, and one that comes too late is void.
    pub fn begin(&mut self, work: &Work, now: Moment) {
        let Work::Switch(slot, grant, release) = work else {
            return;
        };
        let Some(component) = self.component_mut(slot) else {
            return;
        };
        let begun = component
            .activation
            .as_ref()
            .is_some_and(|it| it.grant == grant.id);
        let status = if begun || now <= grant.start_by {
            ActivationStatus::Working("switch".to_owned())
        } else {
            ActivationStatus::Expired
        };
        component.activation = Some(ActivationReport {
            grant: grant.id,
            release: release.clone(),
            status,
        });
    }

    /// It has done this.
    pub fn finish(&mut self, work: &Work) {
        let (Work::Stage(slot, _) | Work::Switch(slot, ..)) = work;
        let wanted = self.desired.iter().flat_map(|it| &it.components);
        let kept: BTreeSet<Digest> = wanted
            .filter(|it| it.slot == *slot)
            .flat_map(kept)
            .collect();
        let Some(component) = self.component_mut(slot) else {
            return;
        };
        match work {
            Work::Stage(_, release) => component.staged.push(*release),
            Work::Switch(_, grant, release) => {
                let Some(activation) = &mut component.activation else {
                    return;
                };
                if activation.grant == grant.id && !activation.status.is_final() {
                    activation.status = ActivationStatus::Done;
                    component.running.clone_from(release);
                    component.staged.retain(|it| kept.contains(it));
                }
            }
        }
    }

    /// A check of the environment has ended otherwise than before.
    pub fn check(&mut self, name: &CheckName, result: CheckResult) {
        self.report.checks.insert(name.clone(), result);
    }

    fn component(&self, slot: &Slot) -> Option<&ComponentReport> {
        self.report.components.iter().find(|it| it.slot == *slot)
    }

    fn component_mut(&mut self, slot: &Slot) -> Option<&mut ComponentReport> {
        self.report
            .components
            .iter_mut()
            .find(|it| it.slot == *slot)
    }
}

/// What a component has to do: what is granted goes before what is only to be staged.
fn work(wanted: &DesiredComponent, is: &ComponentReport) -> Option<Work> {
    let lacks = |release: &&ReleaseRef| !is.staged.contains(&release.manifest);
    let stage = |release: &ReleaseRef| Work::Stage(wanted.slot.clone(), release.manifest);
    let open = |grant: &Grant| {
        let last = is.activation.as_ref();
        last.is_none_or(|last| {
            last.grant < grant.id || last.grant == grant.id && !last.status.is_final()
        })
    };
    if let Some(grant) = wanted.grant.filter(open) {
        let missing = wanted.run.as_ref().filter(lacks).map(stage);
        return missing
            .or_else(|| Some(Work::Switch(wanted.slot.clone(), grant, wanted.run.clone())));
    }
    wanted
        .run
        .iter()
        .chain(&wanted.stage)
        .find(lacks)
        .map(stage)
}

fn kept(wanted: &DesiredComponent) -> impl Iterator<Item = Digest> + '_ {
    let named = wanted.run.iter().chain(&wanted.stage);
    named
        .map(|it| it.manifest)
        .chain(wanted.keep.iter().copied())
}

fn nothing(slot: &Slot) -> ComponentReport {
    ComponentReport {
        slot: slot.clone(),
        running: None,
        staged: Vec::new(),
        staging_failure: None,
        activation: None,
        checks: Results::new(),
        hold: None,
        drift: None,
        compared: true,
        repair: None,
        migration: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::desired::Purpose;

    fn release(n: u8) -> ReleaseRef {
        ReleaseRef {
            version: format!("1.{n}.0").parse().unwrap(),
            manifest: Digest::new([n; 32]),
        }
    }

    fn told(counter: u64, run: Option<u8>, stage: &[u8], granted: bool) -> Desired {
        let id = Generation { epoch: 1, counter };
        Desired {
            generation: id,
            environment: "production".parse().unwrap(),
            environment_version: 1,
            routes: Vec::new(),
            components: vec![DesiredComponent {
                slot: Slot {
                    application: "shop".parse().unwrap(),
                    component: "app".parse().unwrap(),
                    pool: Default::default(),
                },
                run: run.map(release),
                stage: stage.iter().map(|n| release(*n)).collect(),
                keep: Vec::new(),
                grant: granted.then_some(Grant {
                    id,
                    start_by: Moment(1000),
                    purpose: Purpose::Forward,
                }),
                waits_for_approval: false,
                migrate: None,
                adopted: None,
                repair: None,
            }],
            inspect: None,
        }
    }

    /// Works until nothing is left to do, as if it were `now` all the time; gives how much there was.
    fn works(host: &mut SimulatedHost, now: u64) -> usize {
        let mut done = 0;
        while let Some(work) = host.work() {
            host.begin(&work, Moment(now));
            host.finish(&work);
            done += 1;
        }
        done
    }

    #[test]
    fn it_stages_what_it_is_told_and_switches_only_under_a_grant() {
        let mut host = SimulatedHost::default();
        assert!(host.take_in(told(1, None, &[1], false)));
        assert_eq!(works(&mut host, 0), 1);
        assert_eq!(host.report().components[0].staged, [release(1).manifest]);
        assert_eq!(host.report().components[0].running, None);
        assert!(host.take_in(told(2, Some(1), &[], true)));
        assert_eq!(works(&mut host, 0), 1);
        assert_eq!(host.report().components[0].running, Some(release(1)));
        assert_eq!(works(&mut host, 0), 0, "a grant is good once");
    }

    #[test]
    fn what_is_older_is_refused_and_what_comes_too_late_is_void() {
        let mut host = SimulatedHost::default();
        assert!(host.take_in(told(2, Some(1), &[], true)));
        assert!(!host.take_in(told(1, Some(2), &[], true)));
        works(&mut host, 1001);
        let is = &host.report().components[0];
        assert_eq!(is.running, None);
        assert_eq!(
            is.activation.as_ref().unwrap().status,
            ActivationStatus::Expired
        );
    }
}
