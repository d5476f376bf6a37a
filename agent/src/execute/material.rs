//! What a release is made of on this host: planned from the manifests that are on disk, and made as planned.

use crate::allowed::failure;
use crate::host::chain;
use crate::host::layout::{self, Installed};
use crate::source::Verified;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::release::Manifest;
use tamer_kit::durable::FileError;
use tamer_release::delta::{self, Delta, Spoilt};
use tamer_release::layout::Layout;
use tamer_release::manifest;
use tamer_release::unpack::{self, Material, UnpackError};

/// The most older releases that files are taken from. More would rarely have anything that these lack.
const OLDER: usize = 3;

/// After so many bytes of older manifests no further one is read, for they are held in memory.
const ENOUGH: usize = 4 << 20;

/// How a release is made here.
#[derive(Debug)]
pub(super) struct Plan {
    layout: Layout,
    delta: Delta,
    /// The directories of the older releases, in the order that the delta counts them.
    older: Vec<PathBuf>,
}

/// What became of it.
pub(super) enum Made {
    /// The release is there.
    Whole,
    /// Older releases are not what they were: these frames are needed too, and then it can be made.
    Lacks(Vec<usize>),
}

impl Plan {
    /// Plans the release from the `older` ones below `root`, the likeliest first. Blocks.
    ///
    /// # Errors
    /// The manifest is refused.
    pub(super) fn new(
        manifest: &Manifest,
        root: &Path,
        older: &[Arc<Installed>],
    ) -> Result<Self, Failure> {
        let layout =
            manifest::validate(manifest).map_err(|e| failure(FailureKind::Trust, chain(&e)))?;
        let (mut manifests, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
        for installed in older.iter().take(OLDER) {
            let place = layout::releases(root).join(&installed.name);
            // One that cannot be read is no help, and no harm.
            let Ok(text) = unpack::read_manifest(&place) else {
                continue;
            };
            let Ok(manifest) = manifest::parse(&text) else {
                continue;
            };
            bytes += text.len();
            manifests.push(manifest);
            places.push(place);
            if bytes >= ENOUGH {
                break;
            }
        }
        let manifests: Vec<&Manifest> = manifests.iter().collect();
        Ok(Self {
            delta: delta::plan(manifest, &layout, &manifests),
            layout,
            older: places,
        })
    }

    /// The frames that must be fetched, in order.
    pub(super) fn frames(&self) -> Vec<usize> {
        self.delta.frames.iter().copied().collect()
    }

    /// How many bytes of contents older releases give.
    pub(super) fn reused(&self) -> u64 {
        self.delta.reused
    }

    /// Makes the release as `name` in `parent`, with the frames that are in the file `archive`. Blocks.
    ///
    /// # Errors
    /// What kept it from being made; nothing of it is then left.
    pub(super) fn make(
        &mut self,
        verified: &Verified,
        archive: &Path,
        parent: &Path,
        name: &str,
    ) -> Result<Made, UnpackError> {
        let file = File::open(archive).map_err(FileError::new("open", archive))?;
        let material = Material {
            manifest: &verified.manifest,
            manifest_bytes: &verified.manifest_bytes,
            layout: &self.layout,
            delta: &self.delta,
            older: &self.older,
            archive: &file,
        };
        // Root's, and not the component's user's: who runs a release must not be able to edit it.
        match unpack::make(&material, parent, name, None) {
            Ok(_) => Ok(Made::Whole),
            Err(UnpackError::Spoilt(spoilt)) => Ok(Made::Lacks(self.instead(verified, &spoilt))),
            Err(error) => Err(error),
        }
    }

    fn instead(&mut self, verified: &Verified, spoilt: &[Spoilt]) -> Vec<usize> {
        let paths = spoilt
            .iter()
            .map(|it| verified.manifest.files[it.entry].path.as_str());
        let some: Vec<&str> = paths.take(5).collect();
        tracing::warn!(
            files = spoilt.len(),
            some = %some.join(", "),
            "an older release is not what was deployed: this is fetched instead of copied"
        );
        self.delta.instead(&verified.manifest, &self.layout, spoilt)
    }
}
