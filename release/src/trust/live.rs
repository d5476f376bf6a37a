//! Which targets are live: additions, removals, and the retirement of the oldest.
//!
//! An application's repository keeps the newest [`LIVE`] versions and the newest [`LIVE`] releases
//! as live targets, and every release that a live version names. Older ones are retired, not
//! forgotten: their blobs stay in the content store, and a team can add them again. What is "newest"
//! is told by the version of the targets document that brought it in (`custom.added`), not by a
//! clock and not by the version's number: a fix for an old branch is new.

use super::document::{Document, Target, targets_of};
use super::editor::{self, EditError};
use super::names::{Purpose, RepositoryName, environment_target, release_target, version_target};
use super::signer::Signer;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::digest::Digest;
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName};
use tamer_core::moment::Moment;
use tamer_core::release::ApplicationVersion;
use tamer_core::version::Version;
use tamer_kit::hash::sha256;
use tough::schema::Targets;

/// How many versions, and how many releases, stay live.
pub const LIVE: usize = 200;

/// The version of the targets document that brought a target in.
const ADDED: &str = "added";
/// The targets that a version needs.
const USES: &str = "uses";

/// A target to publish.
#[derive(Debug, Clone)]
pub struct NewTarget {
    name: String,
    target: Target,
}

impl NewTarget {
    fn new(name: String, bytes: &[u8]) -> Self {
        Self::named(name, sha256(bytes), bytes.len() as u64)
    }

    fn named(name: String, digest: Digest, length: u64) -> Self {
        let target = Target {
            digest,
            length,
            custom: BTreeMap::new(),
        };
        Self { name, target }
    }

    /// A release, by the bytes of its manifest.
    pub fn release(
        application: &ApplicationName,
        component: &ComponentName,
        version: &Version,
        manifest: &[u8],
    ) -> Self {
        Self::new(release_target(application, component, version), manifest)
    }

    /// A release, by the digest and the length of its manifest.
    pub fn release_by_digest(
        application: &ApplicationName,
        component: &ComponentName,
        version: &Version,
        manifest: Digest,
        length: u64,
    ) -> Self {
        let name = release_target(application, component, version);
        Self::named(name, manifest, length)
    }

    /// A version of an application, and the bytes to publish as its blob. The releases that it names
    /// stay live with it.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn version(version: &ApplicationVersion) -> Result<(Self, Vec<u8>), EditError> {
        let mut bytes = serde_json::to_vec_pretty(version)?;
        bytes.push(b'\n');
        let uses: Vec<_> = version
            .components
            .iter()
            .map(|(component, release)| {
                release_target(&version.application, component, &release.version)
            })
            .collect();
        let name = version_target(&version.application, &version.version);
        let mut new = Self::new(name, &bytes);
        new.target.custom.insert(USES.to_owned(), json!(uses));
        Ok((new, bytes))
    }

    /// An environment's file.
    pub fn environment(environment: &EnvironmentName, file: &[u8]) -> Self {
        Self::new(environment_target(environment), file)
    }

    /// The target's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The target as it will be described.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// Makes the targets that follow `previous`, or the first ones: with the additions, without the
/// removals, the oldest retired, one version further.
///
/// # Errors
/// A name of another repository, a release or version that would change, a removal of what is not
/// there, or [`EditError`]s of signing.
pub fn targets_with(
    repository: &RepositoryName,
    previous: Option<&[u8]>,
    additions: Vec<NewTarget>,
    removals: &[String],
    expires: Moment,
    signers: &[&(impl Signer + ?Sized)],
) -> Result<Vec<u8>, EditError> {
    let label = repository.to_string();
    let (before, mut entries) = match previous {
        None => (0, BTreeMap::new()),
        Some(bytes) => {
            let document = Document::<Targets>::parse(bytes.to_vec(), Some(&label))?;
            (document.version(), targets_of(&document)?)
        }
    };
    let version = before + 1;
    for name in removals {
        if entries.remove(name).is_none() {
            return Err(EditError::NotThere(name.clone()));
        }
    }
    for NewTarget { name, mut target } in additions {
        let Some(purpose) = repository.purpose(&name) else {
            let (target, repository) = (name, repository.clone());
            return Err(EditError::Stranger { target, repository });
        };
        let old = entries.get(&name);
        if old.is_some_and(|old| !may_replace(&purpose, old, &target)) {
            return Err(EditError::Immutable(name));
        }
        target.custom.insert(ADDED.to_owned(), json!(version));
        entries.insert(name, target);
    }
    let entries = retire(repository, entries, LIVE);
    editor::targets(&label, &entries, version, expires, signers)
}

/// Whether a live target may become this: an environment's file may; a release or a version is what
/// it is.
pub fn may_replace(purpose: &Purpose, old: &Target, new: &Target) -> bool {
    *purpose == Purpose::Environment || (old.digest, old.length) == (new.digest, new.length)
}

/// Leaves the newest `live` versions, the newest `live` releases, and what those versions use.
fn retire(
    repository: &RepositoryName,
    entries: BTreeMap<String, Target>,
    live: usize,
) -> BTreeMap<String, Target> {
    let newest = |wanted: fn(&Purpose) -> bool| {
        let mut names: Vec<_> = entries
            .iter()
            .filter(|(name, _)| repository.purpose(name).is_some_and(|p| wanted(&p)))
            .map(|(name, target)| (Reverse(added(target)), name.clone()))
            .collect();
        names.sort();
        names.into_iter().take(live).map(|(_, name)| name)
    };
    let versions: BTreeSet<_> = newest(|p| matches!(p, Purpose::Version(_))).collect();
    let mut kept: BTreeSet<_> = newest(|p| matches!(p, Purpose::Release { .. })).collect();
    kept.extend(newest(|p| *p == Purpose::Environment));
    kept.extend(
        versions
            .iter()
            .filter_map(|v| entries.get(v))
            .flat_map(uses),
    );
    kept.extend(versions);
    entries
        .into_iter()
        .filter(|(name, _)| kept.contains(name))
        .collect()
}

fn added(target: &Target) -> u64 {
    let added = target.custom.get(ADDED).and_then(Value::as_u64);
    added.unwrap_or(0)
}

fn uses(target: &Target) -> Vec<String> {
    let uses = target.custom.get(USES).and_then(Value::as_array);
    let names = uses.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(added: u64, uses: &[&str]) -> Target {
        let mut custom = BTreeMap::from([(ADDED.to_owned(), json!(added))]);
        custom.insert(USES.to_owned(), json!(uses));
        Target {
            digest: Digest::new([0; 32]),
            length: 1,
            custom,
        }
    }

    #[test]
    fn the_oldest_are_retired_but_never_what_a_live_version_uses() {
        let shop: RepositoryName = "app/shop".parse().unwrap();
        let old_release = "shop/releases/worker/1.0.0.json";
        let mut all = BTreeMap::from([(old_release.to_owned(), target(1, &[]))]);
        for n in 1..=9 {
            let release = format!("shop/releases/web/1.{n}.0.json");
            let version = format!("shop/versions/1.{n}.0.json");
            all.insert(version, target(n, &[&release, old_release]));
            all.insert(release, target(n, &[]));
        }
        // A fix for an old branch, published last.
        all.insert(
            "shop/versions/1.2.1.json".to_owned(),
            target(10, &["shop/releases/web/1.2.0.json"]),
        );
        let left = retire(&shop, all, 3);
        let names: Vec<_> = left.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "shop/releases/web/1.2.0.json",
                "shop/releases/web/1.7.0.json",
                "shop/releases/web/1.8.0.json",
                "shop/releases/web/1.9.0.json",
                "shop/releases/worker/1.0.0.json",
                "shop/versions/1.2.1.json",
                "shop/versions/1.8.0.json",
                "shop/versions/1.9.0.json",
            ]
        );
    }
}
