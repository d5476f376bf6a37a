//! Two lists of paths become one, in the order of walking. Pure.

use super::entries::{Entries, Known};
use tamer_core::path::walk_order;

/// What was seen, and all else that the record knows, in order. What it knows and nobody met is kept as it is:
/// it may be known to be missing, and if not, the next look misses it.
pub(super) fn with_what_was_not_met(seen: &Entries, before: &Entries) -> Entries {
    let mut entries = Entries::default();
    let mut older = before.cursor();
    let mut left = older.next().is_some();
    let mut cursor = seen.cursor();
    while let Some((path, known)) = cursor.next() {
        while left && walk_order(older.here().0, path).is_lt() {
            let (path, known) = older.here();
            entries.push(path, known);
            left = older.next().is_some();
        }
        if left && older.here().0 == path {
            left = older.next().is_some();
        }
        entries.push(path, known);
    }
    while left {
        let (path, known) = older.here();
        entries.push(path, known);
        left = older.next().is_some();
    }
    entries
}

/// Both in one, in the order of walking.
pub(super) fn merged(seen: Entries, missing: Vec<(Vec<u8>, Known)>) -> Entries {
    if missing.is_empty() {
        return seen;
    }
    let mut all = Entries::default();
    let mut missing = missing.into_iter().peekable();
    let mut cursor = seen.cursor();
    while let Some((path, known)) = cursor.next() {
        while let Some((gone, known)) = missing.next_if(|it| walk_order(&it.0, path).is_lt()) {
            all.push(&gone, &known);
        }
        all.push(path, known);
    }
    for (gone, known) in missing {
        all.push(&gone, &known);
    }
    all
}
