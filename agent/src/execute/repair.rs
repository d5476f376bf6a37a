//! Puts back what was changed by hand in the running release: a fresh copy is made beside it, of what is
//! still good on disk and of what is fetched, and whatever differs is taken from there.
//!
//! Nothing is switched or restarted: a program that has read the change goes on with it until it is
//! started again.

use super::stage::{StageJob, Stager, Way};
use crate::brake::{Brake, interrupted};
use crate::drift::{Seen, Tree};
use crate::host::layout::{self, Installed};
use crate::host::{blocking, file_failure};
use crate::journal::progress::fail_at;
use std::path::PathBuf;
use std::sync::Arc;
use tamer_core::desired::{Failure, Slot};
use tamer_core::digest::Digest;
use tamer_release::put_back;

/// A running release whose changes by hand are to be undone.
#[derive(Debug, Clone)]
pub struct Repair {
    /// Of which component.
    pub slot: Slot,
    /// Its root.
    pub root: PathBuf,
    /// Which release.
    pub installed: Arc<Installed>,
    /// Which drift: another one is left alone.
    pub drift: Digest,
    /// Other releases of the component on disk.
    pub older: Vec<Arc<Installed>>,
    /// The version of the environment's metadata to verify it with.
    pub environment_version: u64,
    /// Ends it early.
    pub brake: Arc<Brake>,
}

impl Stager {
    /// Puts a release right, and looks at it.
    ///
    /// # Errors
    /// [`Failure`]: what was not put back differs still.
    pub async fn repair(&self, repair: &Repair) -> Result<Seen, Failure> {
        let mut older = vec![Arc::clone(&repair.installed)];
        older.extend(repair.older.iter().cloned());
        let job = StageJob {
            slot: repair.slot.clone(),
            release: repair.installed.release.clone(),
            steps: Vec::new(),
            environment_version: repair.environment_version,
            installed: None,
            older,
            next_seq: repair.installed.seq,
            // It runs.
            ahead: true,
            newest: None,
            withdrawn: repair.brake.pulled(),
        };
        let mut way = Way::default();
        fail_at("repair", "before");
        tokio::select! {
            verified = self.verify(&job, &mut way) => verified?,
            () = job.withdrawn.cancelled() => return Err(interrupted()),
        }
        let releases = layout::releases(&repair.root);
        let room =
            blocking(move || put_back::room(&releases).map_err(|e| file_failure(&e))).await?;
        way.name = Some(repair.installed.name.clone());
        let done = async {
            let made = self.unpack_in(&room, &job, &mut way).await;
            if job.withdrawn.is_cancelled() {
                return Err(interrupted());
            }
            made?;
            fail_at("repair", "unpacked");
            let tree = Tree::new(&self.config, &repair.slot, &repair.root, &repair.installed);
            let (fresh, aside) = (room.join(&repair.installed.name), room.join("aside"));
            let (drift, spec) = (repair.drift, repair.installed.spec.clone());
            let brake = Arc::clone(&repair.brake);
            blocking(move || {
                // What belongs to no release, but to this host, is put back too.
                crate::host::shared::link_again(&fresh, &spec)?;
                tree.put_back(drift, &fresh, &aside, &brake)
            })
            .await
        };
        let done = done.await;
        fail_at("repair", "after");
        let cleared = blocking(move || put_back::clear(&room).map_err(|e| file_failure(&e))).await;
        if let Err(why) = cleared {
            tracing::warn!(%why, "what a repair needed is still there until the next start");
        }
        done
    }
}
