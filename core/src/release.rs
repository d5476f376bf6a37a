//! The manifest: what one release is, file by file and frame by frame. Its bytes are signed, and
//! its digest is the release's identity.

use crate::application::ComponentSpec;
use crate::capability::Capability;
use crate::digest::Digest;
use crate::id::{ApplicationName, ComponentName};
use crate::path::{LinkTarget, TreePath, walk_order};
use crate::version::Version;
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;

/// The manifest format that this code writes and reads.
pub const FORMAT: u32 = 1;

/// The largest manifest that is read, in bytes: room for about 300,000 files.
pub const MAX_MANIFEST: u64 = 64 << 20;

/// One release of one component: immutable, and pinned by the digest of these bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// What an agent must know to run this release; one that lacks a feature refuses by its name.
    pub requires: BTreeSet<String>,
    /// The application it belongs to.
    pub application: ApplicationName,
    /// The component it is a release of.
    pub component: ComponentName,
    /// The version it was first published as.
    pub version: Version,
    /// The modification time of every unpacked file, in seconds since the Unix epoch. The archive itself
    /// carries a fixed time, so that what did not change between two releases is the same bytes in both.
    pub mtime: u64,
    /// The archive's bytes.
    pub archive: Archive,
    /// Everything in the archive, in the order of a walk: what lies below a directory stands right after it.
    pub files: Vec<Entry>,
    /// What `tamer.toml` said of the component: hooks and checks are signed too.
    pub spec: ComponentSpec,
}

impl Manifest {
    /// What is listed at a path, given by its bytes.
    pub fn entry(&self, path: &[u8]) -> Option<&Entry> {
        let order = |entry: &Entry| walk_order(entry.path.as_bytes(), path);
        let found = self.files.binary_search_by(order);
        found.ok().map(|n| &self.files[n])
    }

    /// The capabilities of the file at a path; `None`: it has none.
    pub fn capabilities(&self, path: &TreePath) -> Option<&BTreeSet<Capability>> {
        // Mostly there are none at all.
        if self.spec.capabilities.is_empty() {
            return None;
        }
        let path = str::from_utf8(path.as_bytes()).ok()?;
        self.spec.capabilities.get(path)
    }
}

/// The archive: a plain `.tar.zst` of independent frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// SHA-256 of the whole archive.
    pub sha256: Digest,
    /// Length of the whole archive in bytes.
    pub length: u64,
    /// Length of the tar stream inside, in bytes.
    pub unpacked: u64,
    /// The frames, in order, without gaps.
    pub frames: Vec<Frame>,
}

/// One independent zstd frame of the archive. It starts where the one before it ends.
///
/// In JSON an array, `[length, unpacked, sha256]`, with `content` as a fourth value where there is one: there
/// is about a frame a file, and names and offsets would be most of what an update of the manifest costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its compressed length in bytes.
    pub length: u64,
    /// Its length when unpacked, in bytes.
    pub unpacked: u64,
    /// SHA-256 of its compressed bytes.
    pub sha256: Digest,
    /// SHA-256 of what it unpacks to, for a frame that holds a piece of one file's content and nothing else: by
    /// this an older release on disk is known to have the same piece.
    pub content: Option<Digest>,
}

impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = 3 + usize::from(self.content.is_some());
        let mut array = serializer.serialize_tuple(values)?;
        array.serialize_element(&self.length)?;
        array.serialize_element(&self.unpacked)?;
        array.serialize_element(&self.sha256)?;
        if let Some(content) = &self.content {
            array.serialize_element(content)?;
        }
        array.end()
    }
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = Frame;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a frame: [length, unpacked, sha256] or [length, unpacked, sha256, content]",
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Frame, A::Error> {
                let lacks = |n| A::Error::invalid_length(n, &self);
                let frame = Frame {
                    length: values.next_element()?.ok_or_else(|| lacks(0))?,
                    unpacked: values.next_element()?.ok_or_else(|| lacks(1))?,
                    sha256: values.next_element()?.ok_or_else(|| lacks(2))?,
                    content: values.next_element()?,
                };
                match values.next_element::<IgnoredAny>()? {
                    None => Ok(frame),
                    Some(_) => Err(A::Error::invalid_length(5, &self)),
                }
            }
        }

        deserializer.deserialize_seq(Values)
    }
}

/// One file, directory or link of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it is.
    pub path: TreePath,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EntryKind {
    /// A directory.
    Directory {
        /// Permission bits, at most 0o7777.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits, at most 0o7777.
        mode: u32,
        /// Size in bytes.
        size: u64,
        /// SHA-256 of its content.
        sha256: Digest,
    },
    /// A symbolic link that stays in the tree.
    Link {
        /// What it points to.
        target: LinkTarget,
    },
}

/// A release by what pins it, and by the version that people know it as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// The component's version.
    pub version: Version,
    /// SHA-256 of the manifest.
    pub manifest: Digest,
}

impl fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.manifest.short())
    }
}

/// A version of an application: a signed set of component releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationVersion {
    /// [`FORMAT`].
    pub format: u32,
    /// The application.
    pub application: ApplicationName,
    /// The version.
    pub version: Version,
    /// Its components; one that did not change keeps the release it had.
    pub components: std::collections::BTreeMap<ComponentName, ReleaseRef>,
}
