//! Where a component's releases lie, which of them `current` points to, and the switch.
//!
//! ```text
//! <root>/releases/<seq>-<version>-<digest12>/   read-only
//! <root>/current -> releases/...
//! <root>/shared/                                survives releases
//! ```

use super::file_failure;
use crate::allowed::{Place, failure};
use crate::plan::{Current, Foreign};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tamer_core::application::ComponentSpec;
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::release::ReleaseRef;
use tamer_kit::durable::{self, FileError};
use tamer_release::{manifest, unpack};

/// A release on disk, as far as it is kept in memory: a manifest's list of files is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Which release.
    pub release: ReleaseRef,
    /// Its directory's name.
    pub name: String,
    /// Its number in order of unpacking.
    pub seq: u64,
    /// What `tamer.toml` said of the component.
    pub spec: ComponentSpec,
}

/// The directory of a component's releases.
pub fn releases(root: &Path) -> PathBuf {
    root.join("releases")
}

/// The link to the running release.
pub fn current_link(root: &Path) -> PathBuf {
    root.join("current")
}

/// The name of a new release's directory.
pub fn name_of(seq: u64, release: &ReleaseRef) -> String {
    format!("{seq}-{}-{}", release.version, release.manifest.short())
}

/// The number in a directory's name, and the digest's first 12 digits; `None` if it has another form.
fn parts(name: &str) -> Option<(u64, &str)> {
    let (seq, rest) = name.split_once('-')?;
    let (_, short) = rest.rsplit_once('-')?;
    Some((seq.parse().ok()?, short))
}

/// A component's releases on disk, by name. `known` are those of an earlier look: manifests are only
/// read once. A directory that is no release of `slot` is passed over.
///
/// # Errors
/// The directory of releases is there and cannot be read.
pub fn scan(
    root: &Path,
    slot: &Slot,
    known: &BTreeMap<String, Arc<Installed>>,
) -> Result<BTreeMap<String, Arc<Installed>>, Failure> {
    let dir = releases(root);
    let read = |e| file_failure(&FileError::new("read", &dir)(e));
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(read)?,
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let Ok(name) = entry.map_err(read)?.file_name().into_string() else {
            continue;
        };
        let installed = known.get(&name).cloned();
        if let Some(installed) = installed.or_else(|| look(&dir, &name, slot).map(Arc::new)) {
            found.insert(name, installed);
        }
    }
    Ok(found)
}

/// Reads what a release says of itself; `None` if it is not one.
fn look(dir: &Path, name: &str, slot: &Slot) -> Option<Installed> {
    let (seq, short) = parts(name)?;
    let text = unpack::open_manifest(&dir.join(name)).ok()?;
    let (manifest, digest) = manifest::about(text).ok()?;
    let release = ReleaseRef {
        version: manifest.version,
        manifest: digest,
    };
    let own = manifest.application == slot.application && manifest.component == slot.component;
    (own && release.manifest.short() == short && name_of(seq, &release) == name).then(|| {
        Installed {
            release,
            name: name.to_owned(),
            seq,
            spec: manifest.spec,
        }
    })
}

/// What `current` points to.
pub fn current(root: &Path, on_disk: &BTreeMap<String, Arc<Installed>>) -> Current {
    let link = current_link(root);
    let target = match fs::read_link(&link) {
        Ok(target) => target,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Current::Nothing,
        Err(_) => return Current::Foreign(Foreign::NoLink),
    };
    let name = match target.components().collect::<Vec<_>>()[..] {
        [Component::Normal(dir), Component::Normal(name)] if dir == "releases" => name.to_str(),
        _ => None,
    };
    match name.and_then(|name| on_disk.get(name)) {
        Some(installed) => Current::Release(installed.release.clone()),
        None => Current::Foreign(Foreign::Link(target.display().to_string())),
    }
}

/// Points `current` to a release, or removes it. Durable when it returns; doing it again does no harm.
///
/// # Errors
/// [`Failure`], also where there is no such release: `current` is then what it was, or what it is to be.
pub fn switch(root: &Path, name: Option<&str>) -> Result<(), Failure> {
    let link = current_link(root);
    match name {
        Some(name) => {
            let target = Path::new("releases").join(name);
            if fs::read_link(&link).is_ok_and(|there| there == target) {
                return Ok(());
            }
            // What no rename can replace is kept aside: going back is not kept away by it.
            if fs::symlink_metadata(&link).is_ok_and(|it| !it.is_symlink()) {
                return lead_back(root, name);
            }
            let release = root.join(&target);
            fs::metadata(&release)
                .map_err(|e| file_failure(&FileError::new("switch to", &release)(e)))?;
            durable::symlink(&target, &link).map_err(|e| file_failure(&e))
        }
        None => match fs::remove_file(&link) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .map_err(FileError::new("remove", &link))
                .and_then(|()| durable::sync_dir(root))
                .map_err(|e| file_failure(&e)),
        },
    }
}

/// Where what somebody put in the place of `current` lies once `current` leads to a release again.
fn by_hand(root: &Path) -> PathBuf {
    root.join("current.by-hand")
}

/// Points `current` to a release again, and keeps what somebody put in its place as `current.by-hand`, in one instant.
/// Doing it again after a crash does no harm.
///
/// # Errors
/// [`Failure`], also where there is no such release, or something is called `current.by-hand` already.
pub fn lead_back(root: &Path, name: &str) -> Result<(), Failure> {
    let (link, aside) = (current_link(root), by_hand(root));
    let target = Path::new("releases").join(name);
    let release = root.join(&target);
    fs::metadata(&release).map_err(|e| file_failure(&FileError::new("switch to", &release)(e)))?;
    let begun = fs::read_link(&aside).is_ok_and(|there| there == target);
    if !begun && fs::symlink_metadata(&aside).is_ok() {
        let said = format!(
            "{0} is to be kept as {1}, and something is called that already. Next: mv {1} {1}.old",
            link.display(),
            aside.display()
        );
        return Err(failure(FailureKind::Host, said));
    }
    let led = durable::symlink(&target, &aside).and_then(|()| durable::exchange(&link, &aside));
    led.map_err(|e| file_failure(&e))
}

/// Makes a component's directories; `owner` (user and group id) gets `shared`. The agent's own are
/// root's, and it refuses to work below a directory that anybody else could change.
///
/// # Errors
/// [`FailureKind::NotAllowed`] for such a directory; otherwise what the file system says.
pub fn prepare(place: &Place, owner: Option<(u32, u32)>) -> Result<(), Failure> {
    let root = &place.root;
    if owner.is_some() {
        only_roots(root)?;
    }
    let make = |dir: &Path| durable::create_dir_all(dir, 0o755).map_err(|e| file_failure(&e));
    make(&releases(root))?;
    if owner.is_some() {
        // What was there before the agent came may be somebody else's, or a link to it.
        only_roots(&releases(root))?;
    }
    let shared = root.join("shared");
    if fs::symlink_metadata(&shared).is_ok() {
        return Ok(());
    }
    make(&shared)?;
    if let Some((user, group)) = owner {
        chown(&shared, Some(user), Some(group))
            .map_err(|e| file_failure(&FileError::new("change the owner of", &shared)(e)))?;
    }
    Ok(())
}

/// Refuses a path of which somebody other than root could exchange a part.
fn only_roots(path: &Path) -> Result<(), Failure> {
    let there = |path: &&Path| fs::symlink_metadata(path).is_ok();
    let mut parts: Vec<PathBuf> = path.ancestors().filter(there).map(Path::to_owned).collect();
    // A link of root's may lead elsewhere: there the same holds.
    if let Some(deepest) = parts.first() {
        let real = fs::canonicalize(deepest)
            .map_err(|e| file_failure(&FileError::new("resolve", deepest)(e)))?;
        parts.extend(real.ancestors().map(Path::to_owned));
    }
    for part in parts {
        let about = fs::symlink_metadata(&part)
            .map_err(|e| file_failure(&FileError::new("look at", &part)(e)))?;
        let open = about.mode() & 0o022 != 0 && !about.is_symlink();
        if about.uid() != 0 || open {
            return Err(failure(
                FailureKind::NotAllowed,
                format!(
                    "{} must belong to root and be writable by nobody else, or its owner could exchange what lies below it",
                    part.display()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::digest::Digest;

    #[test]
    fn names_are_read_back() {
        let release = ReleaseRef {
            version: "2.0.0-rc.1+b-7".parse().unwrap(),
            manifest: Digest::new([0xab; 32]),
        };
        let name = name_of(12, &release);
        assert_eq!(name, "12-2.0.0-rc.1+b-7-abababababab");
        assert_eq!(parts(&name), Some((12, "abababababab")));
        assert_eq!(parts(".12-1.0.0-abababababab.tmp"), None);
    }

    #[test]
    fn switching_is_relative_and_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("releases/1-1.0.0-abababababab")).unwrap();
        for _ in 0..2 {
            switch(root, Some("1-1.0.0-abababababab")).unwrap();
            let target = fs::read_link(root.join("current")).unwrap();
            assert_eq!(target, Path::new("releases/1-1.0.0-abababababab"));
            // What is not there leaves everything as it is.
            let gone = switch(root, Some("2-1.1.0-cdcdcdcdcdcd")).unwrap_err();
            assert!(gone.message.contains("releases/2-1.1.0-cdcdcdcdcdcd"));
        }
        assert!(matches!(
            current(root, &BTreeMap::new()),
            Current::Foreign(_)
        ));
        for _ in 0..2 {
            switch(root, None).unwrap();
            assert_eq!(current(root, &BTreeMap::new()), Current::Nothing);
        }
        fs::create_dir(root.join("current")).unwrap();
        assert!(matches!(
            current(root, &BTreeMap::new()),
            Current::Foreign(_)
        ));
        assert!(switch(root, Some("x")).is_err());
    }

    #[test]
    fn what_stands_in_the_place_of_current_is_kept_aside_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let name = "1-1.0.0-abababababab";
        fs::create_dir_all(root.join("releases").join(name)).unwrap();
        let led = |root: &Path| fs::read_link(root.join("current")).unwrap();
        let target = Path::new("releases").join(name);
        fs::create_dir(root.join("current")).unwrap();
        fs::write(root.join("current/mine"), "x").unwrap();
        // A crash between the two steps.
        durable::symlink(&target, &by_hand(root)).unwrap();
        lead_back(root, name).unwrap();
        assert_eq!(led(root), target);
        assert_eq!(fs::read(by_hand(root).join("mine")).unwrap(), b"x");
        durable::symlink(Path::new("/tmp"), &root.join("current")).unwrap();
        let said = lead_back(root, name).unwrap_err().message;
        assert!(said.contains("current.by-hand.old"), "{said}");
        assert_eq!(led(root), Path::new("/tmp"));
        assert_eq!(fs::read(by_hand(root).join("mine")).unwrap(), b"x");
        fs::remove_dir_all(by_hand(root)).unwrap();
        assert!(lead_back(root, "2-1.1.0-cdcdcdcdcdcd").is_err());
        lead_back(root, name).unwrap();
        assert_eq!(fs::read_link(by_hand(root)).unwrap(), Path::new("/tmp"));
    }

    #[test]
    fn releases_that_are_somebody_elses_or_a_link_to_such_are_refused() {
        if !nix::unistd::geteuid().is_root() {
            return; // Only root can give directories away.
        }
        let dir = tempfile::tempdir_in("/root")
            .or_else(|_| tempfile::tempdir_in("/var/lib"))
            .unwrap();
        let place = |name: &str| Place {
            root: dir.path().join(name),
            user: Some("shop".to_owned()),
            unit: None,
            limits: tamer_core::limits::Limits::default(),
            new_privileges: false,
        };
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(4242), None).unwrap();
        let (owned, linked, fine) = (place("owned"), place("linked"), place("fine"));
        fs::create_dir_all(releases(&owned.root)).unwrap();
        chown(releases(&owned.root), Some(4242), None).unwrap();
        fs::create_dir(&linked.root).unwrap();
        std::os::unix::fs::symlink(&theirs, releases(&linked.root)).unwrap();
        for planted in [owned, linked] {
            let refused = prepare(&planted, Some((4242, 4242))).unwrap_err();
            assert_eq!(refused.kind, FailureKind::NotAllowed, "{refused:?}");
            assert!(!planted.root.join("shared").exists());
        }
        prepare(&fine, Some((4242, 4242))).unwrap();
        prepare(&fine, Some((4242, 4242))).unwrap();
        assert_eq!(fs::metadata(fine.root.join("shared")).unwrap().uid(), 4242);
    }

    #[test]
    fn a_root_below_somebody_elses_directory_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return; // Only root can give directories away.
        }
        let dir = tempfile::tempdir_in("/root")
            .or_else(|_| tempfile::tempdir_in("/var/lib"))
            .unwrap();
        let safe = dir.path().join("safe");
        fs::create_dir(&safe).unwrap();
        only_roots(&safe.join("shop/web")).unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        chown(&open, Some(4242), None).unwrap();
        assert_eq!(
            only_roots(&open.join("web")).unwrap_err().kind,
            FailureKind::NotAllowed
        );
        std::os::unix::fs::symlink(&open, safe.join("link")).unwrap();
        assert!(only_roots(&safe.join("link/web")).is_err());
        assert!(only_roots(Path::new("/tmp/web")).is_err());
    }
}
