//! Which releases a new version is made of: pure decisions of `tamer publish`.

use std::io::{self, Read};
use tamer_core::id::{ApplicationName, ComponentName};
use tamer_core::release::{Entry, Frame, Manifest};
use tamer_core::version::Version;
use tamer_release::manifest::{self, ManifestError};
use tamer_release::trust::document::{Target, Verified};
use tamer_release::trust::names::{Purpose, RepositoryName};

/// Whether a published release, whose manifest `open` begins at its first byte, puts the same things on a server as
/// another one: the same files and the same description. Their versions, their times, and how their bytes were
/// compressed make no difference there. The published manifest passes by, and is not held.
///
/// # Errors
/// It cannot be read.
pub(super) fn same_content<R: Read>(
    open: impl Fn() -> io::Result<R>,
    other: &Manifest,
) -> Result<bool, ManifestError> {
    let from = || open().map_err(ManifestError::Read);
    let (about, _) = manifest::about(from()?)?;
    if !about.describes(other) {
        return Ok(false);
    }
    let mut files = Files {
        left: other.files.iter(),
        same: true,
    };
    manifest::visit(from()?, &mut files)?;
    Ok(files.same && files.left.len() == 0)
}

/// Files that are compared with those that pass by.
struct Files<'a> {
    left: std::slice::Iter<'a, Entry>,
    same: bool,
}

impl manifest::Visit for Files<'_> {
    fn frame(&mut self, _: Frame) {}

    fn entry(&mut self, entry: Entry) {
        self.same = self.same && self.left.next() == Some(&entry);
    }
}

/// The release of a component that was published last, which need not have the highest version.
pub(super) fn newest_release(
    verified: &Verified,
    application: &ApplicationName,
    component: &ComponentName,
) -> Option<Version> {
    newest(verified, application, |purpose| match purpose {
        Purpose::Release {
            component: of,
            version,
        } if of == *component => Some(version),
        _ => None,
    })
}

/// The version of the application that was published last.
pub(super) fn newest_version(
    verified: &Verified,
    application: &ApplicationName,
) -> Option<Version> {
    newest(verified, application, |purpose| match purpose {
        Purpose::Version(version) => Some(version),
        _ => None,
    })
}

fn newest(
    verified: &Verified,
    application: &ApplicationName,
    wanted: impl Fn(Purpose) -> Option<Version>,
) -> Option<Version> {
    let repository = RepositoryName::Application(application.clone());
    verified
        .targets()
        .filter_map(|(name, target)| Some((added(target), wanted(repository.purpose(name)?)?)))
        .max()
        .map(|(_, version)| version)
}

/// Which edit of the repository brought a target in.
fn added(target: &Target) -> u64 {
    target
        .custom
        .get("added")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::digest::Digest;
    use tamer_core::release::{Archive, EntryKind, FORMAT};

    fn manifest(version: &str) -> Manifest {
        let spec = "files = \"web\"\nroot = \"/srv/shop/web\"";
        Manifest {
            format: FORMAT,
            requires: std::collections::BTreeSet::new(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            version: version.parse().unwrap(),
            mtime: 1,
            archive: Archive {
                sha256: Digest::new([1; 32]),
                length: 1,
                unpacked: 1,
                frames: Vec::new(),
            },
            files: vec![Entry {
                path: "a".parse().unwrap(),
                kind: EntryKind::Link {
                    target: "b".parse().unwrap(),
                },
            }],
            spec: toml::from_str(spec).unwrap(),
        }
    }

    #[test]
    fn a_new_commit_alone_makes_no_new_release() {
        let old = manifest("1.0.0");
        let mut new = manifest("1.1.0");
        new.mtime = 99;
        new.archive.sha256 = Digest::new([2; 32]);
        let published = tamer_release::manifest::to_bytes(&old);
        let same = |new: &Manifest| same_content(|| Ok(&published[..]), new).unwrap();
        assert!(same(&new));
        new.spec.user = Some("other".into());
        assert!(!same(&new));
        let mut new = manifest("1.1.0");
        new.files[0].path = "c".parse().unwrap();
        assert!(!same(&new));
        new.files.insert(0, old.files[0].clone());
        assert!(!same(&new), "one file more");
        new.files.clear();
        assert!(!same(&new), "one file less");
    }
}
