//! What is known of one component while the agent runs; all of it can be found out again.

use super::Retry;
use super::looking::Looking;
use super::migrating::Migration;
use crate::execute::stage::Staged;
use crate::host::layout::Installed;
use crate::journal::Acceptance;
use crate::plan::{Current, Entry, Facts, Go, OnDisk, Shape, Step};
use crate::source::EnvironmentView;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tamer_core::check::Results;
use tamer_core::desired::{ActivationReport, DesiredComponent, Failure, Slot};
use tamer_core::digest::Digest;
use tamer_core::drift::Drift;
use tamer_core::id::EnvironmentName;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::PlanRef;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// What is known of one component while the agent runs.
pub(super) struct SlotState {
    /// Its releases on disk, by their directories' names.
    pub(super) installed: BTreeMap<String, Arc<Installed>>,
    /// Those of them that the acceptance record holds.
    pub(super) accepted: BTreeSet<Digest>,
    /// Those of these that nobody has approved yet, and somebody has to.
    pub(super) unapproved: BTreeSet<Digest>,
    /// The plans by which people approved those of them that had to be approved.
    pub(super) plans: BTreeMap<Digest, PlanRef>,
    /// Those of them whose shared paths are linked, by name.
    pub(super) linked: BTreeSet<String>,
    /// What `current` points to.
    pub(super) current: Current,
    /// What differs from the manifest, for each release that was compared since the start, by name.
    pub(super) drift: BTreeMap<String, Option<Drift>>,
    /// Those of them that are to be looked at again.
    pub(super) stale: BTreeSet<Digest>,
    /// When the running release is compared again, and what is done about what differs.
    pub(super) looking: Looking,
    /// The activation under way.
    pub(super) working: Option<Working>,
    /// The order to migrate a database that is under way, or ended.
    pub(super) migration: Migration,
    /// How an activation ended that the journal could not be told of.
    pub(super) ended: Option<ActivationReport>,
    /// What the journal could not be told of that.
    pub(super) owed: Option<(Go, Entry)>,
    /// Why releases could not be staged, and when it is tried again.
    pub(super) failed: BTreeMap<Digest, (Failure, Retry)>,
    /// Directories that are being removed.
    pub(super) pruning: BTreeSet<String>,
    /// One could not be removed: when that is tried again.
    pub(super) not_pruned: Option<Retry>,
    /// The component's checks, as they last ended.
    pub(super) checks: Results,
}

/// An activation under way.
pub(super) struct Working {
    pub(super) go: Go,
    pub(super) step: Option<Step>,
    pub(super) withdrawn: CancellationToken,
    pub(super) _task: AbortOnDropHandle<()>,
}

impl Default for SlotState {
    fn default() -> Self {
        Self {
            installed: BTreeMap::new(),
            accepted: BTreeSet::new(),
            unapproved: BTreeSet::new(),
            plans: BTreeMap::new(),
            linked: BTreeSet::new(),
            current: Current::Nothing,
            drift: BTreeMap::new(),
            stale: BTreeSet::new(),
            looking: Looking::default(),
            working: None,
            migration: Migration::default(),
            ended: None,
            owed: None,
            failed: BTreeMap::new(),
            pruning: BTreeSet::new(),
            not_pruned: None,
            checks: Results::new(),
        }
    }
}

impl SlotState {
    /// What the planner needs to know.
    pub(super) fn facts(&self, run: Option<&ReleaseRef>, view: Option<&EnvironmentView>) -> Facts {
        let on_disk = self
            .installed
            .values()
            .filter(|it| !self.pruning.contains(&it.name))
            .map(|it| OnDisk {
                release: it.release.clone(),
                name: it.name.clone(),
                seq: it.seq,
                accepted: self.accepted.contains(&it.release.manifest),
                approved: !self.unapproved.contains(&it.release.manifest),
                plan: self.plans.get(&it.release.manifest).copied(),
                whole: self.drift.get(&it.name).map(Option::is_none),
                linked: self.linked.contains(&it.name),
                stale: self.stale.contains(&it.release.manifest),
                shape: Shape::from(&it.spec),
            })
            .collect();
        Facts {
            on_disk,
            current: self.current.clone(),
            revoked: view.map_or(BTreeSet::new(), |it| it.revoked.clone()),
            environment_version: view.map(|it| it.version),
            // One that is about to be tried again is not known to fail still.
            staging_failure: run
                .and_then(|run| self.failed.get(&run.manifest))
                .filter(|(_, retry)| Instant::now() < retry.at)
                .map(|(failure, _)| failure.clone()),
            switching: self.working.is_some(),
        }
    }

    /// The releases on disk other than `manifest`, the likeliest to have the same files first: the running one,
    /// then the newest.
    pub(super) fn older(&self, manifest: &Digest) -> Vec<Arc<Installed>> {
        let there = self.installed.values();
        let mut older: Vec<_> = there
            .filter(|it| it.release.manifest != *manifest && !self.pruning.contains(&it.name))
            .cloned()
            .collect();
        let runs = |it: &Installed| self.current == Current::Release(it.release.clone());
        older.sort_by_key(|it| (!runs(it), std::cmp::Reverse(it.seq)));
        older
    }

    /// Takes the record's word on what is on disk.
    pub(super) fn judge(
        &mut self,
        record: &Acceptance,
        slot: &Slot,
        environment: &EnvironmentName,
    ) {
        self.accepted = self
            .installed
            .values()
            .map(|it| it.release.manifest)
            .filter(|manifest| record.holds(slot, environment, manifest))
            .collect();
        let owed = |manifest: &&Digest| {
            let word = record.find(slot, environment, manifest);
            word.is_some_and(|it| it.unapproved)
        };
        self.unapproved = self.accepted.iter().filter(owed).copied().collect();
        let plan =
            |manifest: &Digest| Some((*manifest, record.find(slot, environment, manifest)?.plan?));
        self.plans = self.accepted.iter().filter_map(plan).collect();
        let installed = &self.installed;
        self.drift.retain(|name, _| installed.contains_key(name));
        self.stale.retain(|manifest| {
            installed
                .values()
                .any(|it| it.release.manifest == *manifest)
        });
    }

    /// It is time to look at all releases on disk again.
    pub(super) fn look_again(&mut self) {
        self.stale = (self.installed.values().map(|it| it.release.manifest)).collect();
    }

    /// The release on disk with this digest.
    pub(super) fn find(&self, release: &ReleaseRef) -> Option<&Arc<Installed>> {
        self.installed.values().find(|it| it.release == *release)
    }

    /// The running release.
    pub(super) fn running(&self) -> Option<&Arc<Installed>> {
        match &self.current {
            Current::Release(release) => self.find(release),
            Current::Nothing | Current::Foreign(_) => None,
        }
    }

    /// Notes what came of a staging.
    pub(super) fn staged(&mut self, release: Digest, outcome: Result<Staged, Failure>) {
        self.stale.remove(&release);
        match outcome {
            Ok(staged) => {
                self.failed.remove(&release);
                if let Some(seen) = staged.seen {
                    self.drift.insert(staged.name, seen);
                }
            }
            Err(failure) => {
                tracing::warn!(release = %release.short(), %failure, "not staged");
                let before = self.failed.get(&release).map(|(_, retry)| *retry);
                self.failed.insert(release, (failure, Retry::after(before)));
            }
        }
    }

    /// What has failed may be tried at once.
    pub(super) fn try_again(&mut self) {
        for (_, retry) in self.failed.values_mut() {
            retry.at = Instant::now();
        }
    }

    /// Forgets what failed and is not wanted any more.
    pub(super) fn forget_failures(&mut self, wanted: Option<&DesiredComponent>) {
        self.failed.retain(|digest, _| {
            wanted.is_some_and(|it| {
                let named = it
                    .run
                    .iter()
                    .chain(&it.stage)
                    .map(|release| &release.manifest);
                named.chain(&it.keep).any(|manifest| manifest == digest)
            })
        });
    }

    /// The number of the next release's directory.
    pub(super) fn next_seq(&self) -> u64 {
        self.installed.values().map(|it| it.seq).max().unwrap_or(0) + 1
    }

    /// Looks `current` up again: it is cheap, and a person may have changed it.
    pub(super) fn look_at_current(&mut self, root: &Path) {
        self.current = crate::host::layout::current(root, &self.installed);
    }
}
