//! A `current` that Tamer did not put there is led back to what was deployed, where somebody asks for that.

use super::Converge;
use crate::allowed::failure;
use crate::host::layout;
use crate::plan;
use tamer_core::desired::{DesiredComponent, FailureKind, RepairReport};

impl Converge {
    /// Leads `current` back to what was deployed, where that is desired. It takes an instant, so it is waited for.
    pub(super) async fn lead_back(&mut self, wanted: &DesiredComponent) {
        let slot = &wanted.slot;
        let journal = self.executor.journal.get();
        let Some(known) = journal.slot(slot) else {
            return;
        };
        let Some(root) = known.root.clone() else {
            return;
        };
        let state = self.state(slot);
        if state.working.is_some() || state.migration.working.is_some() {
            return;
        }
        let failed = state.looking.failed.as_ref().map(|it| it.drift);
        let facts = state.facts(None, None);
        let committed = known.committed.as_ref();
        let Some(name) = plan::lead_back(wanted, &facts, committed, failed.as_ref()) else {
            return;
        };
        let done = match name {
            Ok(name) => {
                let (root, name) = (root.clone(), name.to_owned());
                crate::host::blocking(move || layout::lead_back(&root, &name)).await
            }
            Err(why) => Err(failure(FailureKind::Host, why)),
        };
        let failed = match (done, wanted.repair) {
            (Err(failure), Some(drift)) => {
                tracing::warn!(%slot, %failure, "`current` is not led back");
                Some(RepairReport { drift, failure })
            }
            _ => {
                tracing::info!(%slot, "`current` is led back");
                None
            }
        };
        let state = self.state(slot);
        state.looking.failed = failed;
        state.look_at_current(&root);
    }
}
