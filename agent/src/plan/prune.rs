//! What leaves the disk.

use super::Facts;
use crate::journal::SlotJournal;
use std::collections::BTreeSet;
use tamer_core::desired::DesiredComponent;
use tamer_core::digest::Digest;

/// The directories of releases to remove, by name.
///
/// Never the running one, the one before it, the last good one, one that takes part in an activation,
/// or one that the desired state names. Of the others, those that ran well stay while there are at most
/// `keep` in all, the newest first; those that never did (staged and withdrawn, or tried and undone)
/// go at once.
pub fn prune(
    wanted: Option<&DesiredComponent>,
    facts: &Facts,
    journal: &SlotJournal,
    keep: usize,
) -> Vec<String> {
    let running = facts.running();
    let mut needed: BTreeSet<Digest> = BTreeSet::new();
    let activation = journal.activation.iter().flat_map(|it| [&it.from, &it.to]);
    needed.extend(
        running
            .into_iter()
            .chain(journal.previous(running))
            .chain(journal.good.last())
            .chain(&journal.committed)
            .chain(activation.flatten())
            .map(|release| release.manifest),
    );
    if let Some(wanted) = wanted {
        needed.extend(wanted.run.iter().chain(&wanted.stage).map(|it| it.manifest));
        needed.extend(&wanted.keep);
    }
    let (stay, mut others): (Vec<_>, Vec<_>) = facts
        .on_disk
        .iter()
        .partition(|it| needed.contains(&it.release.manifest));
    others.sort_by_key(|it| std::cmp::Reverse(it.seq));
    let mut room = keep.saturating_sub(stay.len());
    others.retain(|it| {
        let stays = room > 0 && journal.good.contains(&it.release);
        room -= usize::from(stays);
        !stays
    });
    others.into_iter().map(|it| it.name.clone()).collect()
}
