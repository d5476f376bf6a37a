//! What a release is made of on this host: planned from the manifests that are on disk, and made as planned.

use super::stage::{StageJob, Stager, Way, downloads, known, leave_room};
use crate::allowed::failure;
use crate::host::layout::{self, Installed};
use crate::host::{blocking, chain, file_failure};
use crate::source::{Known, Verified};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::release::{Manifest, ReleaseRef};
use tamer_kit::durable::{self, FileError};
use tamer_release::delta::{self, Delta, Search, Spoilt};
use tamer_release::layout::Layout;
use tamer_release::manifest;
use tamer_release::unpack::{self, Arrivals, Material, UnpackError};
use tamer_release::verify_tree::Record;

/// The most older releases that files are taken from. More would rarely have anything that these lack.
const OLDER: usize = 3;

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
    /// The release is there, and this was noted of it.
    Whole(Record),
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
        let mut search = Search::new(manifest);
        let mut places = Vec::new();
        for installed in older.iter().take(OLDER) {
            let place = layout::releases(root).join(&installed.name);
            // One that cannot be read is no help, and no harm: whoever copies from it hashes on the way.
            let Ok(text) = unpack::open_manifest(&place) else {
                continue;
            };
            if let Err(error) = manifest::visit(text, &mut search.older(places.len())) {
                tracing::debug!(name = installed.name, %error, "an older manifest is no help");
            }
            places.push(place);
        }
        Ok(Self {
            delta: delta::plan_with(&layout, &search),
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

    /// Makes the release as `name` in `parent`, with the frames that are in the file of the archive or come to it.
    /// Blocks.
    ///
    /// # Errors
    /// What kept it from being made; nothing of it is then left.
    pub(super) fn make(
        &mut self,
        verified: &Verified,
        (archive, arrivals): (&File, &Arrivals),
        parent: &Path,
        name: &str,
        group: Option<u32>,
    ) -> Result<Made, UnpackError> {
        let material = Material {
            manifest: &verified.manifest,
            digest: &verified.digest,
            layout: &self.layout,
            delta: &self.delta,
            older: &self.older,
            archive,
            arrivals,
        };
        // Root's, and not the component's user's: who runs a release must not be able to edit it. That its group
        // may read it lets a release have files that others may not.
        let owner = group.map(|group| (nix::unistd::geteuid().as_raw(), group));
        match unpack::make_and_record(&material, parent, name, owner) {
            Ok((_, noted)) => Ok(Made::Whole(noted)),
            Err(UnpackError::Spoilt(spoilt)) => Ok(Made::Lacks(self.instead(verified, &spoilt))),
            Err(error) => Err(error),
        }
    }

    fn instead(&mut self, verified: &Verified, spoilt: &[Spoilt]) -> Vec<usize> {
        let paths = spoilt
            .iter()
            .map(|it| verified.manifest.files[it.entry].path.to_string());
        let some: Vec<String> = paths.take(5).collect();
        tracing::warn!(
            files = spoilt.len(),
            some = %some.join(", "),
            "an older release is not what was deployed: this is fetched instead of copied"
        );
        self.delta.instead(&verified.manifest, &self.layout, spoilt)
    }
}

impl Stager {
    /// The release on disk whose manifest is likeliest to be much like the new one.
    pub(super) fn known_release(&self, job: &StageJob) -> Option<Known> {
        let journal = self.journal.get();
        let root = journal.slot(&job.slot).and_then(|it| it.root.clone())?;
        let first = job.older.first()?;
        Some(Known {
            release: layout::releases(&root).join(&first.name),
            manifest: first.release.manifest,
        })
    }

    fn download(&self, release: &ReleaseRef) -> PathBuf {
        let name = format!("{}.tar.zst", release.manifest);
        downloads(&self.config.state).join(name)
    }

    /// Plans what the release is made of, and sees that there is room for it.
    async fn plan(
        &self,
        job: &StageJob,
        verified: &Arc<Verified>,
        way: &Way,
    ) -> Result<Plan, Failure> {
        let root = known(way.place.as_ref())?.root.clone();
        let (for_plan, older) = (Arc::clone(verified), job.older.clone());
        let (state, reserve) = (self.config.state.clone(), self.config.disk_reserve);
        let plan = blocking(move || {
            let plan = Plan::new(&for_plan.manifest, &root, &older)?;
            durable::create_dir_all(&downloads(&state), 0o700).map_err(|e| file_failure(&e))?;
            leave_room(&root, for_plan.manifest.archive.unpacked, reserve)?;
            Ok(plan)
        });
        let plan = plan.await?;
        tracing::info!(
            release = %job.release,
            frames = plan.frames().len(),
            of = verified.manifest.archive.frames.len(),
            reused = plan.reused(),
            "fetching what is not on disk"
        );
        Ok(plan)
    }

    /// Makes the release. What older ones do not give after all is fetched, as often as it takes: each time it is
    /// less that is taken from them.
    pub(super) async fn unpack(&self, job: &StageJob, way: &mut Way) -> Result<(), Failure> {
        let parent = layout::releases(&known(way.place.as_ref())?.root);
        way.name = Some(layout::name_of(job.next_seq, &job.release));
        self.unpack_in(&parent, job, way).await
    }

    /// Makes the release in `parent`.
    pub(super) async fn unpack_in(
        &self,
        parent: &Path,
        job: &StageJob,
        way: &mut Way,
    ) -> Result<(), Failure> {
        let verified = known(way.verified.as_ref())?;
        let mut plan = self.plan(job, verified, way).await?;
        let mut wanted = plan.frames();
        loop {
            let made = self.fetch_and_make(parent, job, way, plan, &wanted).await?;
            (wanted, plan) = match made {
                (Made::Whole(noted), _) => {
                    way.noted = Some(noted);
                    return Ok(());
                }
                (Made::Lacks(frames), plan) => (frames, plan),
            };
        }
    }

    /// Fetches the `wanted` frames; meanwhile the release is made of them, of those that came before, and of older
    /// releases.
    async fn fetch_and_make(
        &self,
        parent: &Path,
        job: &StageJob,
        way: &Way,
        mut plan: Plan,
        wanted: &[usize],
    ) -> Result<(Made, Plan), Failure> {
        let verified = known(way.verified.as_ref())?;
        let frames = &verified.manifest.archive.frames;
        let bytes = wanted.iter().map(|n| frames[*n].length).sum();
        let (state, reserve) = (self.config.state.clone(), self.config.disk_reserve);
        let into = self.download(&job.release);
        let (archive, verified_) = (into.clone(), Arc::clone(verified));
        let (parent, name) = (parent.to_owned(), known(way.name.as_ref())?.clone());
        let (release, group) = (job.release.clone(), way.owner.map(|(_, group)| group));
        let arrivals = Arc::new(Arrivals::of(wanted));
        let coming = Arc::clone(&arrivals);

        let file = blocking(move || {
            leave_room(&state, bytes, reserve)?;
            open_archive(&archive)
                .map_err(|e| file_failure(&e))
                .map(|file| (archive, file))
        });
        let (archive, file) = file.await?;
        let making = blocking(move || {
            let made = plan.make(&verified_, (&file, &coming), &parent, &name, group);
            let again = match &made {
                Ok(Made::Lacks(_)) => true,
                // Whole or refused, it has served; what came before a cut, or before the disk was full, has not.
                Ok(Made::Whole(_)) => false,
                Err(error) => error.is_cut() || error.is_disk_full(),
            };
            if !again {
                let _ = fs::remove_file(&archive);
            }
            made.map(|made| (made, plan)).map_err(|e| {
                let kind = match &e {
                    e if e.is_disk_full() => FailureKind::Disk,
                    e if e.is_refusal() => FailureKind::Trust,
                    UnpackError::Read(_) | UnpackError::Truncated { .. } | UnpackError::Cut(_) => {
                        FailureKind::Fetch
                    }
                    _ => FailureKind::Host,
                };
                failure(kind, format!("{release} was not unpacked: {}", chain(&e)))
            })
        });
        let fetching = async {
            // However this ends, nobody waits for more.
            let _over = Over(&arrivals);
            self.source
                .frames(&verified.manifest, wanted, &into, &arrivals, &way.count)
                .await
        };
        tokio::pin!(making, fetching);
        tokio::select! {
            made = &mut making => {
                // Then all came: it only has to say so.
                if made.is_ok() {
                    let _ = fetching.await;
                }
                made
            }
            // Why frames did not come is said by who fetched them.
            fetched = &mut fetching => match making.await {
                Err(failure) => Err(fetched.err().unwrap_or(failure)),
                made => made,
            },
            () = job.withdrawn.cancelled() => {
                arrivals.cut();
                making.await
            }
        }
    }
}

/// Ends the waiting for frames with itself.
struct Over<'a>(&'a Arrivals);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// Opens the file that frames go to, which may hold some of them.
fn open_archive(path: &Path) -> Result<File, FileError> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(FileError::new("open", path))
}
