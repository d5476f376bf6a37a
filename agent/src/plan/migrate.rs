//! Whether an order to migrate a database is carried out now.
//!
//! An order is begun once, or never: one that the journal knows already, in whatever state, is not begun
//! again, and neither is one that a journal which was lost may have known.

use super::Facts;
use super::activate::revoked;
use crate::allowed::failure;
use crate::journal::{Migrating, SlotJournal};
use tamer_core::desired::FailureKind;
use tamer_core::generation::Generation;
use tamer_core::moment::Moment;
use tamer_core::schema::{MigrationOrder, MigrationStatus, Task};

/// What is done about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migrate {
    /// It is begun now.
    Go,
    /// It ends here, and nothing is done to the database.
    End(MigrationStatus),
    /// Its release is not ready on disk yet.
    Wait,
    /// It is known already, or is older than one that is.
    Known,
}

/// Decides over an order; `void_through` and `now` are as for [`super::activation`].
pub fn migrate(
    order: &MigrationOrder,
    facts: &Facts,
    journal: &SlotJournal,
    void_through: Option<Generation>,
    now: Moment,
) -> Migrate {
    let known = journal.migration.as_ref();
    if known.is_some_and(|known| known.order.id >= order.id) {
        return Migrate::Known;
    }
    let not_begun = |why| {
        Migrate::End(MigrationStatus::NotBegun {
            found: None,
            failure: why,
        })
    };
    let again = |why: &str| not_begun(failure(FailureKind::Interrupted, why));
    if void_through.is_some_and(|last| order.id <= last) {
        let why = "the agent's journal was lost, and whether this was begun is not known any more";
        return match order.task {
            Task::Read => again(why),
            Task::Up | Task::Down => Migrate::End(MigrationStatus::Unknown {
                version: None,
                failure: failure(FailureKind::Interrupted, why),
            }),
        };
    }
    if facts.revoked.contains(&order.release.manifest) {
        return not_begun(revoked(&order.release));
    }
    if now > order.start_by {
        return again("it could not begin in time");
    }
    match facts.find(&order.release.manifest) {
        // Its programs are run as much as what it serves.
        Some(on_disk)
            if on_disk.ready()
                && on_disk.approved
                && (journal.was_brought(&order.release.manifest)
                    || journal.lets(on_disk.plan.as_ref())) =>
        {
            Migrate::Go
        }
        _ => Migrate::Wait,
    }
}

/// What an order is whose release went away before it was begun: it may be tried again.
pub fn interrupted_before() -> MigrationStatus {
    let why = "the release that carries the programs is not on disk any more";
    MigrationStatus::NotBegun {
        found: None,
        failure: failure(FailureKind::Interrupted, why),
    }
}

/// What an order is that the journal says was begun, and that nobody carries out any more. Reading changes
/// nothing: it is as if it had never begun. Of all else a person must see to what became of it.
pub fn interrupted(begun: &Migrating, version: Option<u64>) -> MigrationStatus {
    let order = &begun.order;
    let why = |what: &str| failure(FailureKind::Interrupted, what);
    match order.task {
        Task::Read => MigrationStatus::NotBegun {
            found: None,
            failure: why("the agent stopped while it was reading"),
        },
        Task::Up | Task::Down => MigrationStatus::Unknown {
            version,
            failure: why(&format!(
                "the agent or the server stopped in the middle of `{}` of schema `{}`, from {} to {}",
                order.task, order.schema, order.from, order.to
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Current, OnDisk, Shape};
    use tamer_core::desired::Slot;
    use tamer_core::digest::Digest;
    use tamer_core::release::ReleaseRef;

    fn generation(counter: u64) -> Generation {
        Generation { epoch: 1, counter }
    }

    fn order(id: u64, task: Task) -> MigrationOrder {
        MigrationOrder {
            id: generation(id),
            schema: "main".parse().unwrap(),
            task,
            release: ReleaseRef {
                version: "1.2.0".parse().unwrap(),
                manifest: Digest::new([2; 32]),
            },
            from: 41,
            to: 42,
            start_by: Moment(100),
        }
    }

    fn facts(ready: bool) -> Facts {
        let on_disk = OnDisk {
            release: order(1, Task::Up).release,
            name: "1".to_owned(),
            seq: 1,
            accepted: ready,
            approved: true,
            plan: None,
            whole: Some(true),
            linked: true,
            stale: false,
            shape: Shape::default(),
        };
        Facts {
            on_disk: vec![on_disk],
            current: Current::Nothing,
            revoked: Default::default(),
            environment_version: None,
            staging_failure: None,
            switching: false,
        }
    }

    fn journal(known: Option<u64>) -> SlotJournal {
        let slot = Slot {
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        };
        let mut journal = SlotJournal::new(slot);
        journal.migration = known.map(|id| Migrating {
            order: order(id, Task::Up),
            status: MigrationStatus::Working,
        });
        journal
    }

    #[test]
    fn an_order_is_begun_once_or_never() {
        let decide = |known, void: Option<u64>, now, ready| {
            let void = void.map(generation);
            let order = order(5, Task::Up);
            migrate(&order, &facts(ready), &journal(known), void, Moment(now))
        };
        assert_eq!(decide(None, None, 50, true), Migrate::Go);
        assert_eq!(decide(Some(4), Some(4), 50, true), Migrate::Go);
        assert_eq!(decide(Some(5), None, 50, true), Migrate::Known);
        assert_eq!(decide(Some(6), None, 50, true), Migrate::Known);
        assert_eq!(decide(None, None, 50, false), Migrate::Wait);
        let late = decide(None, None, 101, false);
        assert!(matches!(
            late,
            Migrate::End(MigrationStatus::NotBegun { found: None, .. })
        ));
        let lost = decide(None, Some(5), 50, true);
        assert!(matches!(
            lost,
            Migrate::End(MigrationStatus::Unknown { .. })
        ));
    }

    #[test]
    fn what_was_cut_off_is_unknown_unless_it_only_read() {
        let begun = |task| Migrating {
            order: order(5, task),
            status: MigrationStatus::Working,
        };
        let said = interrupted(&begun(Task::Up), Some(41));
        assert!(
            matches!(said, MigrationStatus::Unknown { version: Some(41), failure } if failure.message.contains("from 41 to 42"))
        );
        let said = interrupted(&begun(Task::Read), None);
        assert!(matches!(said, MigrationStatus::NotBegun { .. }));
    }
}
