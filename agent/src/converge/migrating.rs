//! Orders to migrate databases, beside the loop: one at a time a component, and none while it is being
//! switched.

use super::{Converge, Event};
use crate::execute::End;
use crate::journal::{Migrating, SlotJournal};
use crate::plan::{self, Migrate};
use tamer_core::desired::{DesiredComponent, Slot};
use tamer_core::schema::{MigrationReport, MigrationStatus};
use tokio_util::task::AbortOnDropHandle;

/// An order that is being carried out, or one that ended.
#[derive(Default)]
pub(super) struct Migration {
    /// The one under way.
    pub(super) working: Option<(MigrationReport, AbortOnDropHandle<()>)>,
    /// How one ended that the journal could not be told of.
    pub(super) ended: Option<MigrationReport>,
}

impl Migration {
    /// What is reported: what memory holds, or what the journal holds where that is as new.
    pub(super) fn report(&self, journal: Option<&SlotJournal>) -> Option<MigrationReport> {
        let working = self.working.as_ref().map(|(report, _)| report.clone());
        let known = journal
            .and_then(|it| it.migration.as_ref())
            .map(|known| MigrationReport {
                id: known.order.id,
                status: known.status.clone(),
            });
        let ended = self
            .ended
            .clone()
            .filter(|ended| known.as_ref().is_none_or(|known| known.id <= ended.id));
        working.or(ended).or(known)
    }
}

impl Converge {
    /// Takes up what was begun before the agent stopped: how it ended is not known, and is said so.
    pub(super) async fn resume_migrations(&mut self) {
        let journal = self.executor.journal.get();
        for known in &journal.slots {
            let Some(begun) = &known.migration else {
                continue;
            };
            if begun.status != MigrationStatus::Working {
                continue;
            }
            tracing::warn!(slot = %known.slot, order = %begun.order.id, "a migration was interrupted");
            self.launch_migration(known, begun.clone(), true);
        }
    }

    /// Decides over a component's order. Says whether one is under way.
    pub(super) async fn migrate(&mut self, wanted: &DesiredComponent) -> bool {
        let slot = &wanted.slot;
        let view = self.view.clone();
        let now = (self.hands.clock)();
        let journal = self.executor.journal.get();
        let unknown = SlotJournal::new(slot.clone());
        let known = journal.slot(slot).unwrap_or(&unknown);
        let state = self.state(slot);
        if state.migration.working.is_some() {
            return true;
        }
        let Some(order) = &wanted.migrate else {
            return false;
        };
        let ended = state.migration.ended.as_ref();
        if state.working.is_some() || ended.is_some_and(|ended| ended.id >= order.id) {
            return false;
        }
        let facts = state.facts(None, view.as_ref());
        // The agent is about to be started again, which would end the program in the middle.
        let exchange = self.slots.values().filter_map(|it| it.working.as_ref());
        if exchange.into_iter().any(|it| it.go.exchanges_agent()) {
            return false;
        }
        match plan::migrate(order, &facts, known, journal.void_through, now) {
            Migrate::Known | Migrate::Wait => false,
            Migrate::End(status) => {
                self.executor.end_migration(slot, order, &status).await;
                self.note_migration(slot, order.id, status);
                false
            }
            Migrate::Go => {
                let begun = Migrating {
                    order: order.clone(),
                    status: MigrationStatus::Working,
                };
                self.launch_migration(known, begun, false);
                true
            }
        }
    }

    fn launch_migration(&mut self, known: &SlotJournal, begun: Migrating, interrupted: bool) {
        let (slot, root) = (known.slot.clone(), known.root.clone());
        let order = begun.order.clone();
        tracing::info!(%slot, schema = %order.schema, task = %order.task, order = %order.id, "migrating");
        let installed = self.state(&slot).find(&order.release).cloned();
        let (executor, event, id, whose) = (
            self.executor.clone(),
            self.event.clone(),
            order.id,
            slot.clone(),
        );
        let work = async move {
            let end = match (installed, root) {
                (Some(installed), Some(root)) => {
                    End::new(&executor.config, &slot, &root, &installed)
                        .await
                        .map(Some)
                }
                _ => Ok(None),
            };
            let status = match end {
                end if interrupted => {
                    let end = end.ok().flatten();
                    executor.settle_migration(&slot, end.as_ref(), &begun).await
                }
                Ok(Some(end)) => executor.migrate(&slot, &end, &order).await,
                // It was found ready, and is gone since.
                Ok(None) => {
                    let status = plan::interrupted_before();
                    executor.end_migration(&slot, &order, &status).await;
                    status
                }
                Err(failure) => {
                    let status = MigrationStatus::NotBegun {
                        found: None,
                        failure,
                    };
                    executor.end_migration(&slot, &order, &status).await;
                    status
                }
            };
            let _ = event.send(Event::Migrated(slot, id, status));
        };
        let report = MigrationReport {
            id,
            status: MigrationStatus::Working,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(work));
        self.state(&whose).migration.working = Some((report, task));
    }

    /// An order has ended.
    pub(super) fn note_migration(
        &mut self,
        slot: &Slot,
        id: tamer_core::generation::Generation,
        status: MigrationStatus,
    ) {
        // What the programs printed may hold passwords: it goes to those who may deploy, and into no log.
        let failed = status.failure().map(|failure| failure.message.as_str());
        tracing::info!(%slot, order = %id, ended = status.word(), failed, "migration ended");
        let migration = &mut self.state(slot).migration;
        migration.working = None;
        migration.ended = Some(MigrationReport { id, status });
    }
}
