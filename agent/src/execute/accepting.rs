//! The record of what was accepted on this host, and the evidence that it was accepted by.

use super::stage::{StageJob, Stager, Way, known};
use crate::allowed::failure;
use crate::host::{blocking, chain, file_failure};
use crate::journal::{Acceptance, Accepted};
use std::fs;
use std::path::Path;
use tamer_core::desired::{Failure, FailureKind};
use tamer_kit::durable::{self, FileError};

impl Stager {
    /// Notes that the release was accepted here. Only what was verified in this staging is new.
    pub(super) async fn accept(&self, job: &StageJob, way: &Way) -> Result<(), Failure> {
        let Some(verified) = &way.verified else {
            return Ok(());
        };
        let proven = &verified.proven;
        if !proven.bundles.is_empty() {
            let path = Accepted::evidence_path(&self.config.state, &verified.digest);
            let bundles = proven.bundles.clone();
            blocking(move || keep(&path, &bundles).map_err(|e| file_failure(&e))).await?;
        }
        let (slot, here) = (&job.slot, &self.config.environment);
        let before = (self.acceptance.lock().await)
            .find(slot, here, &verified.digest)
            .cloned();
        // An approval that has ended since takes nothing back.
        let stays = before.filter(|it| !it.unapproved && proven.unapproved);
        let accepted = Accepted {
            release: job.release.clone(),
            slot: job.slot.clone(),
            environment: self.config.environment.clone(),
            root: known(way.place.as_ref())?.root.clone(),
            at: (self.clock)(),
            proven: proven.by.clone(),
            unapproved: proven.unapproved && stays.is_none(),
            plan: stays.as_ref().map_or(proven.plan, |it| it.plan),
            approved: stays.map_or_else(|| proven.approved.clone(), |it| it.approved),
        };
        self.record(|it| it.add(accepted)).await
    }

    /// Notes that enough people approved a deployment of a release that is ready here, and which one.
    pub(super) async fn approve(&self, job: &StageJob) -> Result<(), Failure> {
        let (slot, manifest) = (&job.slot, &job.release.manifest);
        let proven = self
            .source
            .approved(
                slot,
                &job.release,
                job.environment_version,
                job.newest.as_ref(),
            )
            .await?;
        if !proven.bundles.is_empty() {
            let path = Accepted::evidence_path(&self.config.state, manifest);
            let bundles = proven.bundles;
            blocking(move || keep(&path, &bundles).map_err(|e| file_failure(&e))).await?;
        }
        let here = &self.config.environment;
        let approved = |record: &mut Acceptance| {
            let known = record.find(slot, here, manifest).cloned();
            if let Some(known) = known {
                record.add(Accepted {
                    approved: proven.approved,
                    plan: proven.plan,
                    unapproved: false,
                    ..known
                });
            }
        };
        self.record(approved).await
    }

    /// Removes the evidence of a release that was accepted for nothing any more.
    pub(super) async fn forget_evidence(&self, manifest: &tamer_core::digest::Digest) {
        let record = self.acceptance.lock().await;
        let named = |it: &Accepted| it.release.manifest == *manifest;
        let path = Accepted::evidence_path(&self.config.state, manifest);
        if !record.releases.iter().any(named)
            && let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove");
        }
    }

    /// Changes the record in memory, then writes it once.
    pub(super) async fn record(&self, change: impl FnOnce(&mut Acceptance)) -> Result<(), Failure> {
        let mut record = self.acceptance.lock().await;
        let mut after = record.clone();
        change(&mut after);
        if after == *record {
            return Ok(());
        }
        let (state, to_write) = (self.config.state.clone(), after.clone());
        blocking(move || {
            to_write
                .write(&state)
                .map_err(|e| failure(FailureKind::Disk, chain(&e)))
        })
        .await?;
        *record = after;
        Ok(())
    }
}

/// Keeps the evidence that a release is accepted by. Blocks.
fn keep(path: &Path, bundles: &[u8]) -> Result<(), FileError> {
    if let Some(dir) = path.parent() {
        durable::create_dir_all(dir, 0o700)?;
    }
    durable::replace(path, bundles, 0o600)
}
