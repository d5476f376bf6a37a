//! What an agent must still know after it was killed or the power was lost: one small checksummed
//! file, replaced atomically ([`mod@file`]), the releases it has accepted ([`accepted`]), and hints of how
//! far an activation came ([`progress`]).
//!
//! The journal is durable at three moments of an activation: before the first step that changes
//! anything, when it is being undone, and at its end. Between them every step leaves a mark before and
//! after, which is a hint for people and for the message after an interruption, and decides nothing:
//! what decides is the journal and the `current` link, which cannot lie.

pub mod accepted;
pub mod file;
pub mod progress;

pub use accepted::{Acceptance, Accepted};
pub use file::{JournalError, JournalFile, StateLock, recover};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tamer_core::check::Results;
use tamer_core::desired::{ActivationReport, Desired, Failure, Purpose, Slot};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::id::ComponentPath;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::PlanRef;
use tamer_core::router::RouteOrder;
use tamer_core::schema::{MigrationOrder, MigrationStatus};

/// How many releases that ran well are remembered a component: more than ever stay on disk.
const MAX_GOOD: usize = 20;

/// The journal of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// The newest desired state taken in: an older one is refused.
    pub generation: Generation,
    /// That desired state, so that the agent converges after a restart while the controller is away.
    pub desired: Option<Desired>,
    /// Set when this journal was made anew after the old one was damaged: what had failed or was used
    /// up is not known any more, so every grant up to the first desired state's generation is void.
    pub recovered: bool,
    /// Grants up to and including this one are void.
    pub void_through: Option<Generation>,
    /// What is known of each component.
    pub slots: Vec<SlotJournal>,
    /// The order that ended last of each component that this host routes for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteJournal>,
}

/// An order to a router that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteJournal {
    /// Of which component.
    pub component: ComponentPath,
    /// The order.
    pub order: RouteOrder,
    /// When it ended, by this host's clock.
    pub at: Moment,
    /// Why the router was not switched; `None`: it was.
    pub failure: Option<Failure>,
}

/// What the journal holds of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotJournal {
    /// Which component.
    pub slot: Slot,
    /// Where it lives, since its first release was staged.
    pub root: Option<PathBuf>,
    /// What the last activation left running, if it ended well: `None` before the first one, after a
    /// removal, and when a person is needed.
    pub committed: Option<ReleaseRef>,
    /// The releases that ran well here, the newest last. Going back takes the ones above it away.
    pub good: Vec<ReleaseRef>,
    /// The releases that an approved plan brought here, and the newest plan that brought each; the newest last.
    pub by_plan: Vec<ByPlan>,
    /// The activation that has begun to change something and has not ended.
    pub activation: Option<Activation>,
    /// How the newest grant ended.
    pub last: Option<ActivationReport>,
    /// The newest order to migrate a database, and how it ended or that it was begun.
    pub migration: Option<Migrating>,
    /// Why it stays where it is, set by a person on the server.
    pub hold: Option<String>,
}

/// A release that an approved plan brought to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByPlan {
    /// Its manifest.
    pub release: Digest,
    /// The plan.
    pub plan: PlanRef,
}

/// An order to migrate a database that was begun or has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migrating {
    /// The order.
    pub order: MigrationOrder,
    /// How far it is; [`MigrationStatus::Working`] is written before the database is changed.
    pub status: MigrationStatus,
}

/// An activation that has begun to change something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// Its grant; `None` for a rollback by a person on the server.
    pub grant: Option<Generation>,
    /// Forward or back.
    pub purpose: Purpose,
    /// What ran before.
    pub from: Option<ReleaseRef>,
    /// What is to run.
    pub to: Option<ReleaseRef>,
    /// How often it was begun: once, and once more after each interruption.
    pub tries: u32,
    /// Set once it goes the other way, and why.
    pub undoing: Option<Failure>,
    /// How the checks ended before anything changed.
    pub baseline: Baseline,
}

/// How the checks ended before anything changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The environment's.
    pub environment: Results,
    /// Those of the release that ran.
    pub component: Results,
}

// === impl Journal ===

impl Journal {
    /// What is known of `slot`, if anything.
    pub fn slot(&self, slot: &Slot) -> Option<&SlotJournal> {
        self.slots.iter().find(|it| it.slot == *slot)
    }

    /// What is known of `slot`, made if there was nothing.
    pub fn slot_mut(&mut self, slot: &Slot) -> &mut SlotJournal {
        let at = self.slots.iter().position(|it| it.slot == *slot);
        let at = at.unwrap_or_else(|| {
            self.slots.push(SlotJournal::new(slot.clone()));
            self.slots.len() - 1
        });
        &mut self.slots[at]
    }

    /// The order that ended last of a component that this host routes for.
    pub fn route(&self, component: &ComponentPath) -> Option<&RouteJournal> {
        self.routes.iter().find(|it| it.component == *component)
    }

    /// An order to a router has ended. What is not routed for any more is forgotten.
    pub fn route_ended(&mut self, ended: RouteJournal) {
        let wanted = self.desired.as_ref().map(|it| &it.routes[..]);
        self.routes.retain(|it| {
            let mut wanted = wanted.unwrap_or_default().iter();
            it.component != ended.component && wanted.any(|route| route.component == it.component)
        });
        self.routes.push(ended);
    }

    /// Takes in a desired state that [`crate::plan::take_in`] found fit.
    pub fn take_in(&mut self, desired: Desired) {
        if std::mem::take(&mut self.recovered) {
            self.void_through = Some(desired.generation);
        }
        self.generation = desired.generation;
        for (old, new) in self.moves(&desired) {
            self.slot_mut(&old).slot = new;
        }
        self.desired = Some(desired);
    }

    /// Components that a desired state has in another pool than where they are known: it is the host that has come
    /// into that pool, and what it runs stays where it is. One that is being switched is not touched.
    pub fn moves(&self, desired: &Desired) -> Vec<(Slot, Slot)> {
        let wanted = |slot: &Slot| desired.components.iter().any(|it| it.slot == *slot);
        let new = desired.components.iter().map(|it| &it.slot);
        let new = new.filter(|slot| self.slot(slot).is_none());
        let moves = new.filter_map(|new| {
            let old = self.slots.iter().find(|known| {
                let same = (&known.slot.application, &known.slot.component);
                same == (&new.application, &new.component)
                    && !wanted(&known.slot)
                    && known.activation.is_none()
            })?;
            Some((old.slot.clone(), new.clone()))
        });
        moves.collect()
    }
}

// === impl SlotJournal ===

impl SlotJournal {
    /// Nothing is known yet.
    pub fn new(slot: Slot) -> Self {
        Self {
            slot,
            root: None,
            committed: None,
            good: Vec::new(),
            by_plan: Vec::new(),
            activation: None,
            last: None,
            migration: None,
            hold: None,
        }
    }

    /// Begins an activation, of a plan where people had to approve one: from now on those before it count no more.
    pub fn begin(&mut self, activation: Activation, plan: Option<PlanRef>) {
        if let (Some(plan), Some(to)) = (plan, &activation.to)
            && self.lets(Some(&plan))
        {
            let release = to.manifest;
            self.by_plan.retain(|it| it.release != release);
            self.by_plan.push(ByPlan { release, plan });
            if self.by_plan.len() > MAX_GOOD {
                self.by_plan.remove(0);
            }
        }
        self.activation = Some(activation);
    }

    /// The newest plan that has gone ahead here.
    pub fn newest_plan(&self) -> Option<&PlanRef> {
        self.by_plan.last().map(|it| &it.plan)
    }

    /// Whether a release that this plan brings may go ahead: no other plan has that was asked for later.
    pub fn lets(&self, plan: Option<&PlanRef>) -> bool {
        plan.is_none_or(|plan| !plan.is_superseded_by(self.newest_plan()))
    }

    /// Whether an approved plan has brought this release here before.
    pub fn was_brought(&self, manifest: &Digest) -> bool {
        self.by_plan.iter().any(|it| it.release == *manifest)
    }

    /// Ends the activation under way: `to` runs.
    pub fn commit(&mut self, activation: &Activation) {
        self.activation = None;
        self.committed.clone_from(&activation.to);
        let Some(to) = &activation.to else { return };
        match activation.purpose {
            // What was left by going back is suspect, and so is all that came after the target.
            Purpose::Back => match self.good.iter().position(|good| good == to) {
                Some(at) => self.good.truncate(at),
                None => self
                    .good
                    .retain(|good| Some(good) != activation.from.as_ref()),
            },
            Purpose::Forward => self.good.retain(|good| good != to),
        }
        self.good.push(to.clone());
        if self.good.len() > MAX_GOOD {
            self.good.remove(0);
        }
    }

    /// The newest release that ran well here, other than `current`: where a person goes back to.
    pub fn previous(&self, current: Option<&ReleaseRef>) -> Option<&ReleaseRef> {
        // A release that is running and not good was being tried: the newest good one came before it.
        let before = match current.and_then(|it| self.good.iter().position(|good| good == it)) {
            Some(at) => &self.good[..at],
            None => &self.good[..],
        };
        before.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(n: u8) -> ReleaseRef {
        ReleaseRef {
            version: format!("1.{n}.0").parse().unwrap(),
            manifest: Digest::new([n; 32]),
        }
    }

    fn moved(journal: &mut SlotJournal, purpose: Purpose, to: u8) {
        let activation = Activation {
            grant: None,
            purpose,
            from: journal.committed.clone(),
            to: Some(release(to)),
            tries: 1,
            undoing: None,
            baseline: Baseline::default(),
        };
        journal.commit(&activation);
    }

    #[test]
    fn a_host_that_comes_into_another_pool_keeps_what_it_runs() {
        let slot = |component: &str, pool: &str| Slot {
            application: "shop".parse().unwrap(),
            component: component.parse().unwrap(),
            pool: pool.parse().unwrap(),
        };
        let desired = |slots: &[Slot]| Desired {
            generation: Generation {
                epoch: 1,
                counter: 2,
            },
            environment: "production".parse().unwrap(),
            environment_version: 1,
            components: slots
                .iter()
                .map(|slot| tamer_core::desired::DesiredComponent {
                    slot: slot.clone(),
                    run: None,
                    stage: vec![],
                    keep: vec![],
                    grant: None,
                    waits_for_approval: false,
                    migrate: None,
                    adopted: None,
                    repair: None,
                })
                .collect(),
            routes: vec![],
            inspect: None,
        };
        let mut journal = Journal::default();
        moved(journal.slot_mut(&slot("web", "main")), Purpose::Forward, 1);
        journal.slot_mut(&slot("worker", "main"));
        journal.take_in(desired(&[slot("web", "green"), slot("worker", "main")]));
        assert_eq!(
            journal.slot(&slot("web", "green")).unwrap().committed,
            Some(release(1))
        );
        assert_eq!(journal.slots.len(), 2);
        // Not while it is being switched, nor away from what is wanted.
        journal.slot_mut(&slot("web", "green")).activation = Some(Activation {
            grant: None,
            purpose: Purpose::Forward,
            from: None,
            to: None,
            tries: 1,
            undoing: None,
            baseline: Baseline::default(),
        });
        assert_eq!(journal.moves(&desired(&[slot("web", "blue")])), []);
        let both = desired(&[slot("worker", "main"), slot("worker", "blue")]);
        assert_eq!(journal.moves(&both), []);
    }

    #[test]
    fn the_way_back_never_leads_to_what_was_left_by_going_back() {
        let mut journal = SlotJournal::new(Slot {
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        });
        for n in 1..=3 {
            moved(&mut journal, Purpose::Forward, n);
        }
        assert_eq!(journal.previous(Some(&release(3))), Some(&release(2)));
        moved(&mut journal, Purpose::Back, 2);
        assert_eq!(journal.previous(Some(&release(2))), Some(&release(1)));
        moved(&mut journal, Purpose::Forward, 4);
        assert_eq!(journal.previous(Some(&release(4))), Some(&release(2)));
        // Running, and not known to be good: back to the newest that is.
        assert_eq!(journal.previous(Some(&release(9))), Some(&release(4)));
        moved(&mut journal, Purpose::Back, 1);
        assert_eq!(journal.previous(Some(&release(1))), None);
        assert_eq!(journal.good, [release(1)]);
    }
}
