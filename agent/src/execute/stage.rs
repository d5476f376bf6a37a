//! Makes a release ready on disk, without any grant: verified, fetched, unpacked, linked, and noted in
//! the acceptance record. What is half done is of no consequence: it is not ready, and done again.

use super::user;
use crate::allowed::{self, Place, failure};
use crate::config::Config;
use crate::drift::Tree;
use crate::host::layout::{self, Installed};
use crate::host::{blocking, chain, file_failure, room, shared};
use crate::journal::progress::fail_at;
use crate::journal::{Acceptance, JournalFile};
use crate::plan::Step;
use crate::source::{Source, Verified};
use crate::transfer::{self, Count, Fetching};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tamer_core::check::Room;
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::drift::Drift;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::PlanRef;
use tamer_release::verify_tree::Record;
use tamer_release::{put_back, tree};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

/// What every staging on this host works with.
#[derive(Clone)]
pub struct Stager {
    /// The agent's configuration.
    pub config: Arc<Config>,
    /// The journal: it knows where components live.
    pub journal: Arc<JournalFile>,
    /// Where releases come from.
    pub source: Arc<dyn Source>,
    /// The acceptance record.
    pub acceptance: Arc<Mutex<Acceptance>>,
    /// The controller's clock.
    pub clock: Arc<dyn Fn() -> Moment + Send + Sync>,
    /// Told of what is being fetched.
    pub fetching: watch::Sender<Fetching>,
}

/// One release to make ready.
#[derive(Debug, Clone)]
pub struct StageJob {
    /// For which component.
    pub slot: Slot,
    /// Which release.
    pub release: ReleaseRef,
    /// What is missing.
    pub steps: Vec<Step>,
    /// The version of the environment's metadata to verify it with.
    pub environment_version: u64,
    /// What is on disk of it.
    pub installed: Option<Arc<Installed>>,
    /// Other releases of the component on disk: the running one, then the newest first.
    pub older: Vec<Arc<Installed>>,
    /// The number that a new directory gets.
    pub next_seq: u64,
    /// Whether it is made ready although it is not approved.
    pub ahead: bool,
    /// The newest plan that has gone ahead for this component.
    pub newest: Option<PlanRef>,
    /// Cancelled when nobody wants it any more: it then ends at the next safe moment.
    pub withdrawn: CancellationToken,
}

/// What came of a staging.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The release's directory.
    pub name: String,
    /// What it is, where it was unpacked just now.
    pub installed: Option<Arc<Installed>>,
    /// What differs from its manifest, `None` for a release that is whole; `None` where it was not looked at.
    pub seen: Option<Option<Drift>>,
}

/// What is known on the way.
#[derive(Default)]
pub(super) struct Way {
    pub(super) verified: Option<Arc<Verified>>,
    pub(super) place: Option<Place>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) name: Option<String>,
    /// Where it is made that takes the place of an edited one.
    beside: Option<PathBuf>,
    drift: Option<Drift>,
    /// What was noted of the release while it was unpacked.
    pub(super) noted: Option<Record>,
    /// The bytes that are fetched.
    pub(super) count: Arc<Count>,
}

impl Stager {
    /// Takes the steps of `job`.
    ///
    /// # Errors
    /// [`Failure`] of the step that failed; nothing that was ready before is touched.
    pub async fn stage(&self, job: &StageJob) -> Result<Staged, Failure> {
        let mut way = Way::default();
        let count = Arc::clone(&way.count);
        let telling = transfer::tell(&self.fetching, &job.slot, job.release.manifest, &count);
        let done = tokio::select! {
            done = self.steps(job, &mut way) => done,
            never = telling => match never {},
        };
        if let Some(room) = way.beside.take() {
            let cleared = blocking(move || put_back::clear(&room).map_err(|e| file_failure(&e)));
            if let Err(why) = cleared.await {
                tracing::warn!(%why, "what was exchanged is still there until the next start");
            }
        }
        done
    }

    async fn steps(&self, job: &StageJob, way: &mut Way) -> Result<Staged, Failure> {
        if let Some(installed) = &job.installed {
            way.name = Some(installed.name.clone());
            self.take_place(job, &installed.spec, way).await?;
        }
        for &step in &job.steps {
            fail_at(step.name(), "before");
            let done = match step {
                // What only waits for the network is dropped; other steps end by themselves, soon.
                Step::Verify | Step::Approve => tokio::select! {
                    done = self.step(step, job, way) => done,
                    () = job.withdrawn.cancelled() => Ok(()),
                },
                step => self.step(step, job, way).await,
            };
            if job.withdrawn.is_cancelled() {
                return Err(failure(
                    FailureKind::Interrupted,
                    "nobody wants it any more",
                ));
            }
            done?;
            fail_at(step.name(), "after");
            // What was edited is left as it is: there is another plan for that.
            if way.drift.is_some() {
                break;
            }
        }
        let installed = match job.steps.contains(&Step::Unpack) {
            true => Some(self.record_unpacked(job, way).await?),
            false => None,
        };
        if way.drift.is_none() {
            self.accept(job, way).await?;
        }
        let looked = installed.is_some() || job.steps.contains(&Step::Inspect);
        Ok(Staged {
            name: way.name.take().unwrap_or_default(),
            installed,
            seen: looked.then_some(way.drift.take()),
        })
    }

    async fn step(&self, step: Step, job: &StageJob, way: &mut Way) -> Result<(), Failure> {
        match step {
            Step::Verify => self.verify(job, way).await,
            Step::Approve => self.approve(job).await,
            Step::Unpack if job.steps.contains(&Step::Exchange) => {
                let releases = layout::releases(&known(way.place.as_ref())?.root);
                let room =
                    blocking(move || put_back::room(&releases).map_err(|e| file_failure(&e)));
                let room = room.await?;
                way.beside = Some(room.clone());
                self.unpack_in(&room, job, way).await
            }
            Step::Unpack => self.unpack(job, way).await,
            Step::Inspect => {
                let installed = known(job.installed.as_ref())?;
                let tree = self.tree(&job.slot, &known(way.place.as_ref())?.root, installed);
                way.drift = blocking(move || tree.fast()).await?.drift;
                Ok(())
            }
            Step::LinkShared => self.link(job, way).await,
            Step::Exchange => {
                let (edited, fresh) = (self.dir(way)?, self.made_in(way)?);
                let swap = move || tree::exchange(&edited, &fresh).map_err(|e| file_failure(&e));
                blocking(swap).await
            }
            other => Err(failure(
                FailureKind::Host,
                format!("internal error: `{other}` is no step of staging"),
            )),
        }
    }

    /// The manifest: who says that this is a release, whose it is, and what it wants to touch.
    pub(super) async fn verify(&self, job: &StageJob, way: &mut Way) -> Result<(), Failure> {
        let known = self.known_release(job);
        let verified = self
            .source
            .admit(
                &job.slot,
                &job.release,
                job.environment_version,
                known.as_ref(),
                job.ahead,
                job.newest.as_ref(),
            )
            .await?;
        let manifest = &verified.manifest;
        // The source has verified signatures; that it is what was asked for is seen to here.
        if verified.digest != job.release.manifest || manifest.version != job.release.version {
            return Err(failure(
                FailureKind::Trust,
                format!("what was verified is not {}", job.release),
            ));
        }
        allowed::fits(&job.slot, manifest)?;
        self.take_place(job, &manifest.spec, way).await?;
        way.verified = Some(Arc::new(verified));
        Ok(())
    }

    /// Where the release may live, and the directories there.
    async fn take_place(
        &self,
        job: &StageJob,
        spec: &tamer_core::application::ComponentSpec,
        way: &mut Way,
    ) -> Result<(), Failure> {
        let place = allowed::place(&self.config, &job.slot, spec)?;
        self.take_root(&job.slot, &place.root).await?;
        way.owner = user(&place).await?.map(|user| (user.uid, user.gid));
        let (given, owner) = (place.clone(), way.owner);
        blocking(move || layout::prepare(&given, owner)).await?;
        way.place = Some(place);
        Ok(())
    }

    /// Notes where a component lives, once; a neighbour's place is refused.
    async fn take_root(&self, slot: &Slot, root: &Path) -> Result<(), Failure> {
        let journal = self.journal.get();
        for other in journal.slots.iter().filter(|it| it.slot != *slot) {
            if let Some(taken) = &other.root
                && allowed::collide(taken, root)
            {
                return Err(failure(
                    FailureKind::NotAllowed,
                    format!(
                        "{slot} wants to live in {}, and {} lives in {}: each needs a directory of its own",
                        root.display(),
                        other.slot,
                        taken.display()
                    ),
                ));
            }
        }
        let known = journal.slot(slot).and_then(|it| it.root.clone());
        match known {
            Some(known) if known == root => return Ok(()),
            Some(known) if fs::symlink_metadata(layout::current_link(&known)).is_ok() => {
                return Err(failure(
                    FailureKind::Host,
                    format!(
                        "{slot} lives in {} and the release wants {}: remove the component from this host first",
                        known.display(),
                        root.display()
                    ),
                ));
            }
            _ => {}
        }
        self.journal
            .update(|it| it.slot_mut(slot).root = Some(root.to_owned()))
            .await
            .map(drop)
            .map_err(|e| failure(FailureKind::Disk, chain(&e)))
    }

    pub(super) async fn link(&self, job: &StageJob, way: &Way) -> Result<(), Failure> {
        let spec = match (&way.verified, &job.installed) {
            (Some(verified), _) => verified.manifest.spec.clone(),
            (None, installed) => known(installed.as_ref())?.spec.clone(),
        };
        let root = known(way.place.as_ref())?.root.clone();
        let (dir, owner) = (self.dir(way)?, way.owner);
        let made_in = self.made_in(way)?;
        let (place, release) = (root.clone(), made_in.clone());
        blocking(move || shared::link(&place, &release, &spec, owner)).await?;
        let group = owner.map(|(_, group)| group);
        let version = &job.release.version;
        self.write_environment(&job.slot, &root, version, &dir, made_in, group)
            .await
    }

    fn dir(&self, way: &Way) -> Result<PathBuf, Failure> {
        let root = &known(way.place.as_ref())?.root;
        Ok(layout::releases(root).join(known(way.name.as_ref())?))
    }

    /// Where it lies while it is made.
    fn made_in(&self, way: &Way) -> Result<PathBuf, Failure> {
        match &way.beside {
            Some(room) => Ok(room.join(known(way.name.as_ref())?)),
            None => self.dir(way),
        }
    }

    fn tree(&self, slot: &Slot, root: &Path, installed: &Installed) -> Tree {
        Tree::new(&self.config, slot, root, installed)
    }

    /// Records what a release looks like that was unpacked just now: what was verified on the way is not read
    /// again for that. Without a record the first look reads everything, so a failure costs no more than that.
    async fn record_unpacked(
        &self,
        job: &StageJob,
        way: &mut Way,
    ) -> Result<Arc<Installed>, Failure> {
        let verified = Arc::clone(known(way.verified.as_ref())?);
        let installed = Arc::new(Installed {
            release: job.release.clone(),
            name: known(way.name.as_ref())?.clone(),
            seq: (job.installed.as_ref()).map_or(job.next_seq, |edited| edited.seq),
            spec: verified.manifest.spec.clone(),
        });
        let tree = self.tree(&job.slot, &known(way.place.as_ref())?.root, &installed);
        let noted = way.noted.take();
        if let Err(why) = blocking(move || tree.unpacked(&verified.manifest, noted)).await {
            tracing::warn!(release = %job.release, %why, "not recorded");
        }
        Ok(installed)
    }

    /// Removes a release from disk and from the record.
    ///
    /// # Errors
    /// [`Failure`]: something of it may still be there, under a name that the next start sweeps.
    pub async fn remove(
        &self,
        slot: &Slot,
        root: &Path,
        installed: &Installed,
    ) -> Result<(), Failure> {
        // First the record: what is in it must be whole.
        self.record(|it| it.forget(slot, &installed.release.manifest))
            .await?;
        self.tree(slot, root, installed).forget();
        self.forget_evidence(&installed.release.manifest).await;
        remove(layout::releases(root).join(&installed.name)).await
    }
}

/// Where archives are kept between fetching and unpacking.
pub fn downloads(state: &Path) -> PathBuf {
    state.join("downloads")
}

async fn remove(dir: PathBuf) -> Result<(), Failure> {
    blocking(move || tamer_release::tree::remove_release(&dir).map_err(|e| file_failure(&e))).await
}

pub(super) fn known<T>(it: Option<&T>) -> Result<&T, Failure> {
    it.ok_or_else(|| {
        failure(
            FailureKind::Host,
            "internal error: the steps are out of order",
        )
    })
}

/// Refuses to fill the file system of `path` beyond what is to stay free.
pub(super) fn leave_room(path: &Path, needed: u64, reserve: Room) -> Result<(), Failure> {
    let (free, size) = room(path).map_err(|e| file_failure(&e))?;
    let reserved = match reserve {
        Room::Bytes(bytes) => bytes,
        Room::Percent(percent) => size / 100 * u64::from(percent),
    };
    if needed.saturating_add(reserved) <= free {
        return Ok(());
    }
    Err(failure(
        FailureKind::Disk,
        format!(
            "{} has {free} bytes free: the release needs {needed}, and {reserved} are to stay free (`disk_reserve` in agent.toml)",
            path.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_stays_free() {
        let dir = tempfile::tempdir().unwrap();
        leave_room(dir.path(), 1, Room::Bytes(0)).unwrap();
        let said = leave_room(dir.path(), 1, Room::Percent(100)).unwrap_err();
        assert_eq!(said.kind, FailureKind::Disk);
        assert!(leave_room(dir.path(), u64::MAX, Room::Bytes(u64::MAX)).is_err());
    }
}
