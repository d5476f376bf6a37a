//! A copy of the CAs, as a mirror keeps one: of use wherever it is cut off.

use super::{CURRENT, CaError, NEXT, OLD, RETIRED, read};
use std::collections::BTreeMap;
use std::path::Path;
use tamer_kit::durable;

/// All files, in the order in which they are copied: however few of them have come over when the lights go out, the
/// copy is in one of the phases, or on its way between two as a directory of a controller may be.
const ALL: [&str; 6] = [
    NEXT.key,
    NEXT.certificate,
    OLD,
    RETIRED,
    CURRENT.key,
    CURRENT.certificate,
];

/// How often the files are read in search of a moment in which nobody changes them.
const READINGS: usize = 10;

/// Copies the CAs as they are at one moment; removes nothing from `to`. Blocks, and is durable when it returns.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<(), CaError> {
    let mut files = snapshot(from)?;
    for _ in 1..READINGS {
        let again = snapshot(from)?;
        if again == files {
            break;
        }
        files = again;
    }
    durable::create_dir_all(to, 0o700)?;
    for (name, text) in to_copy(files, &snapshot(to)?) {
        durable::replace(&to.join(name), text.as_bytes(), 0o600)?;
    }
    Ok(())
}

pub(super) type Snapshot = BTreeMap<&'static str, String>;

/// What is to be written to have these files where others are now, in this order.
pub(super) fn to_copy(mut files: Snapshot, there: &Snapshot) -> Vec<(&'static str, String)> {
    let (next, current) = (NEXT.certificate, CURRENT.certificate);
    let other = there
        .get(current)
        .is_some_and(|it| Some(it) != files.get(current));
    if other && !files.contains_key(next) {
        // A certificate and its key are two files: the new ones come first where they say nothing once all are there.
        for (as_next, name) in [(NEXT.key, CURRENT.key), (next, current)] {
            let copied = files.get(name).cloned();
            files.extend(copied.map(|it| (as_next, it)));
        }
    }
    let all = ALL.iter().filter_map(|name| files.remove_entry(name));
    all.filter(|(name, text)| there.get(name) != Some(text))
        .collect()
}

pub(super) fn snapshot(dir: &Path) -> Result<Snapshot, CaError> {
    let mut files = Snapshot::new();
    for name in ALL {
        if let Some(text) = snapshot_of(dir, name)? {
            files.insert(name, text);
        }
    }
    Ok(files)
}

fn snapshot_of(dir: &Path, name: &str) -> Result<Option<String>, CaError> {
    match read(&dir.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(CaError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
