//! The model: two looks by other means, compared path by path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tamer_core::drift::{Change, Drift};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: u32,
    mode: Option<u32>,
    owner: (u32, u32),
    inside: Vec<u8>,
}

pub(crate) fn snapshot(at: &Path) -> BTreeMap<String, Seen> {
    fn walk(root: &Path, at: &Path, into: &mut BTreeMap<String, Seen>) {
        let about = fs::symlink_metadata(at).unwrap();
        let inside = if about.is_file() {
            fs::read(at).unwrap()
        } else if about.is_symlink() {
            fs::read_link(at)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else {
            Vec::new()
        };
        let path = at.strip_prefix(root).unwrap().to_str().unwrap();
        let path = if path.is_empty() { "." } else { path };
        let seen = Seen {
            kind: about.mode() & 0o170_000,
            mode: (!about.is_symlink()).then_some(about.mode() & 0o7777),
            owner: (about.uid(), about.gid()),
            inside,
        };
        into.insert(path.to_owned(), seen);
        if about.is_dir() {
            for entry in fs::read_dir(at).unwrap() {
                walk(root, &entry.unwrap().path(), into);
            }
        }
    }
    let mut seen = BTreeMap::new();
    walk(at, at, &mut seen);
    seen
}

pub(crate) fn difference(
    before: &BTreeMap<String, Seen>,
    after: &BTreeMap<String, Seen>,
) -> BTreeSet<(String, Change)> {
    let mut all = BTreeSet::new();
    for path in before.keys().chain(after.keys()) {
        let mut differs = |change| all.insert((path.clone(), change));
        match (before.get(path), after.get(path)) {
            (Some(_), None) => {
                differs(Change::Removed);
            }
            (None, Some(_)) => {
                differs(Change::Added);
            }
            (Some(was), Some(is)) if was.kind != is.kind => {
                differs(Change::Kind);
            }
            (Some(was), Some(is)) => {
                if was.inside != is.inside {
                    differs(match was.mode {
                        Some(_) => Change::Content,
                        None => Change::Target,
                    });
                }
                if was.mode != is.mode {
                    differs(Change::Mode);
                }
                if was.owner != is.owner {
                    differs(Change::Owner);
                }
            }
            (None, None) => {}
        }
    }
    all
}

pub(crate) fn named(drift: Option<Drift>) -> BTreeSet<(String, Change)> {
    let Some(drift) = drift else {
        return BTreeSet::new();
    };
    assert_eq!(drift.total, drift.differences.len() as u64);
    let all = drift.differences.into_iter();
    all.map(|it| (it.path, it.change)).collect()
}
