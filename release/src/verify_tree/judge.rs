//! What should be at a path, and how what is there differs. Pure.

use super::entries::{Changes, Stat, Verdict};
use crate::capabilities;
use crate::manifest::{ENVIRONMENT, RESERVED, mode_on_disk};
use crate::unpack::MANIFEST_PATH;
use rustix::fs::FileType;
use std::collections::BTreeSet;
use tamer_core::capability::Capability;
use tamer_core::digest::Digest;
use tamer_core::drift::Change;
use tamer_core::path::walk_order;
use tamer_core::release::{Entry, EntryKind, Manifest};
use tamer_kit::hash::Hasher;

/// The permission bits of the release's own directory, and of those that the manifest does not list.
const DIRECTORY_MODE: u32 = 0o555;

/// The permission bits of what the agent keeps in a release for the component's user.
const OWN_MODE: u32 = 0o640;

/// Whose a release must be: whoever unpacked it, and who may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// The user.
    pub user: u32,
    /// The group that files and directories were given; `None`: none was.
    pub group: Option<u32>,
    /// The group of what was given none: one of these two. Some file systems give what is created the group of
    /// the directory it is created in.
    pub groups: [u32; 2],
}

/// What a manifest says of paths.
pub(super) struct Listed<'a> {
    manifest: Held<'a>,
    shared: BTreeSet<Vec<u8>>,
    digest: Digest,
}

/// A manifest of the caller's, or one that was read.
pub(super) enum Held<'a> {
    Given(&'a Manifest),
    Read(Box<Manifest>),
}

/// What should be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Should<'a> {
    /// This entry of the manifest.
    Entry(&'a EntryKind),
    /// A directory that is there in any case.
    Directory,
    /// The manifest.
    Manifest(Digest),
    /// The link to a shared path, or nothing.
    Shared,
    /// The directory on the way to a shared path, or nothing.
    Way,
    /// The agent's own file, or nothing: what is in it is true of the host, not of the release.
    Own,
    /// Nothing.
    Nothing,
}

/// What was found inside a file or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inside {
    /// It has no inside, or none was looked at.
    Unseen,
    /// It is as listed: that was seen to while it was unpacked.
    AsListed,
    /// A file's content, by SHA-256, and its capabilities, as they are on disk.
    Content(Digest, Option<Vec<u8>>),
    /// Where a link points to.
    Target(Vec<u8>),
}

/// What the link at a shared path of a release points to: from the link's directory up to the release, from
/// there over `releases` to the component's root, and down into `shared`.
pub fn shared_target(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let up = "../".repeat(path.split('/').count() + 1);
    format!("{up}shared/{path}")
}

/// The same for a path of which only the bytes are at hand; those that are shared are text.
fn target_of_shared(path: &[u8]) -> Vec<u8> {
    str::from_utf8(path).map_or_else(|_| Vec::new(), |path| shared_target(path).into_bytes())
}

// === impl Listed ===

impl<'a> Listed<'a> {
    pub(super) fn new(manifest: Held<'a>, digest: Digest) -> Self {
        let mut listed = Self {
            manifest,
            shared: BTreeSet::new(),
            digest,
        };
        let shared = listed.manifest().spec.shared.iter();
        listed.shared = shared
            .map(|path| path.trim_end_matches('/').as_bytes().to_vec())
            .collect();
        listed
    }

    fn manifest(&self) -> &Manifest {
        match &self.manifest {
            Held::Given(manifest) => manifest,
            Held::Read(manifest) => manifest,
        }
    }

    pub(super) fn should(&self, path: &[u8]) -> Should<'_> {
        if path.is_empty() || path == RESERVED.as_bytes() {
            return Should::Directory;
        }
        if path == MANIFEST_PATH.as_bytes() {
            return Should::Manifest(self.digest);
        }
        if let Some(name) = path
            .strip_prefix(RESERVED.as_bytes())
            .and_then(|it| it.strip_prefix(b"/"))
        {
            // Under the second name it is written, and a crash may leave that.
            let aside = name
                .strip_prefix(b".")
                .and_then(|it| it.strip_suffix(b".new"));
            let own = ENVIRONMENT.as_bytes();
            return match name == own || aside == Some(own) {
                true => Should::Own,
                false => Should::Nothing,
            };
        }
        if let Some(entry) = self.manifest().entry(path) {
            return Should::Entry(&entry.kind);
        }
        if self.shared.contains(path) {
            return Should::Shared;
        }
        let prefix = [path, b"/"].concat();
        let next = self.shared.range(prefix.clone()..).next();
        match next.is_some_and(|shared| shared.starts_with(&prefix)) {
            true => Should::Way,
            false => Should::Nothing,
        }
    }

    /// The capabilities that the file at a path should have.
    pub(super) fn capabilities(&self, path: &[u8]) -> Option<&BTreeSet<Capability>> {
        let all = &self.manifest().spec.capabilities;
        all.get(str::from_utf8(path).ok()?)
    }

    /// Every path that must be there, in the order of walking.
    pub(super) fn needed(&self) -> impl Iterator<Item = &[u8]> {
        let entries = &self.manifest().files;
        let own = |entry: &Entry| walk_order(entry.path.as_bytes(), RESERVED.as_bytes()).is_lt();
        let (before, after) = entries.split_at(entries.partition_point(own));
        let own = [RESERVED, MANIFEST_PATH].map(str::as_bytes);
        let before = before.iter().map(|entry| entry.path.as_bytes());
        let after = after.iter().map(|entry| entry.path.as_bytes());
        before.chain(own).chain(after)
    }
}

// === the verdict ===

/// How what is at a path differs from what should be there; `None`: not at all. `listed` are the capabilities that
/// it should have.
pub(super) fn judge(
    path: &[u8],
    should: Should<'_>,
    listed: Option<&BTreeSet<Capability>>,
    found: &Stat,
    owners: Option<Owners>,
    inside: &Inside,
) -> Option<Verdict> {
    let changes = changes(path, should, listed, found, owners, inside);
    (!changes.is_empty()).then(|| Verdict {
        changes,
        evidence: evidence(found, inside),
    })
}

fn changes(
    path: &[u8],
    should: Should<'_>,
    listed: Option<&BTreeSet<Capability>>,
    found: &Stat,
    owners: Option<Owners>,
    inside: &Inside,
) -> Changes {
    let mut changes = Changes::default();
    let kind = FileType::from_raw_mode(found.mode);
    let content = |size: Option<u64>, listed: Digest| {
        size.is_some_and(|size| size != found.size)
            || matches!(inside, Inside::Content(content, _) if *content != listed)
    };
    let elsewhere = |target: &[u8]| matches!(inside, Inside::Target(there) if there != target);
    let powers = |listed: Option<&BTreeSet<Capability>>| match inside {
        Inside::Content(_, found) => {
            let listed = listed.map(|it| capabilities::encoded(it).to_vec());
            *found != listed
        }
        _ => false,
    };
    let mut differs = |yes: bool, change| {
        if yes {
            changes.add(change);
        }
    };
    let mode = match (should, kind) {
        (Should::Nothing, _) => {
            differs(true, Change::Added);
            return changes;
        }
        (Should::Directory | Should::Way, FileType::Directory) => Some(DIRECTORY_MODE),
        (Should::Entry(kind @ EntryKind::Directory { .. }), FileType::Directory) => {
            Some(mode_on_disk(kind))
        }
        (Should::Entry(kind @ EntryKind::File { size, sha256, .. }), FileType::RegularFile) => {
            differs(content(Some(*size), *sha256), Change::Content);
            differs(powers(listed), Change::Capabilities);
            Some(mode_on_disk(kind))
        }
        (Should::Manifest(digest), FileType::RegularFile) => {
            differs(content(None, digest), Change::Content);
            differs(powers(None), Change::Capabilities);
            Some(0o444)
        }
        (Should::Entry(EntryKind::Link { target }), FileType::Symlink) => {
            differs(elsewhere(target.as_bytes()), Change::Target);
            None
        }
        (Should::Shared, FileType::Symlink) => {
            differs(elsewhere(&target_of_shared(path)), Change::Target);
            None
        }
        (Should::Own, FileType::RegularFile) => Some(OWN_MODE),
        // Something that may be absent is in the way of it.
        (Should::Way, _) => {
            differs(true, Change::Added);
            return changes;
        }
        _ => {
            differs(true, Change::Kind);
            return changes;
        }
    };
    // A link has no mode of its own.
    differs(
        mode.is_some_and(|mode| mode != found.mode & 0o7777),
        Change::Mode,
    );
    let given = match should {
        Should::Entry(EntryKind::Directory { .. } | EntryKind::File { .. }) => true,
        // The release's own directory, and the agent's file for the component's user.
        Should::Own => true,
        Should::Directory => path.is_empty(),
        _ => false,
    };
    let of_group = |owners: Owners| match owners.group.filter(|_| given) {
        Some(group) => group == found.group,
        None => should == Should::Own || owners.groups.contains(&found.group),
    };
    let strange = |owners: Owners| owners.user != found.user || !of_group(owners);
    differs(owners.is_some_and(strange), Change::Owner);
    changes
}

/// What is there instead, so that a further change gives another digest.
fn evidence(found: &Stat, inside: &Inside) -> Digest {
    let mut hasher = Hasher::default();
    for number in [found.mode, found.user, found.group] {
        hasher.update(&number.to_le_bytes());
    }
    match inside {
        Inside::Content(content, capabilities) => {
            hasher.update(content.as_bytes());
            hasher.update(capabilities.as_deref().unwrap_or_default());
        }
        Inside::Target(target) => hasher.update(target),
        Inside::AsListed => {}
        // What was not read (it is huge, or may not be) is known by what `stat` says of it.
        Inside::Unseen if FileType::from_raw_mode(found.mode) == FileType::Directory => {}
        Inside::Unseen => {
            hasher.update(&found.size.to_le_bytes());
            hasher.update(&found.inode.to_le_bytes());
            hasher.update(&found.changed.seconds.to_le_bytes());
            hasher.update(&found.changed.nanos.to_le_bytes());
        }
    }
    hasher.finish()
}

impl Verdict {
    /// Nothing is there, and something should be.
    pub(super) fn removed() -> Self {
        let mut changes = Changes::default();
        changes.add(Change::Removed);
        Self {
            changes,
            evidence: Hasher::default().finish(),
        }
    }

    /// It cannot be told what should be there: the manifest is not the signed one.
    pub(super) fn of_manifest(found: Option<Digest>) -> Self {
        let mut changes = Changes::default();
        changes.add(match found {
            Some(_) => Change::Content,
            None => Change::Removed,
        });
        Self {
            changes,
            evidence: found.unwrap_or_else(|| Hasher::default().finish()),
        }
    }
}
