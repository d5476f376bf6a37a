//! The acceptance record: which releases this host has verified for its environment, signatures,
//! evidence, minimum and all.
//!
//! A release that is in it, whole on disk and not revoked, can be activated without asking anybody:
//! so going back is not stopped by expired metadata or an absent controller. One that is pruned leaves
//! the record too, and is verified anew should it come again.

use super::file::{JournalError, read, write};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tamer_core::desired::Slot;
use tamer_core::digest::Digest;
use tamer_core::evidence::EvidenceKind;
use tamer_core::id::{EnvironmentName, KeyName};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::PlanRef;

/// One accepted release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// Which release.
    pub release: ReleaseRef,
    /// For which component.
    pub slot: Slot,
    /// For which environment.
    pub environment: EnvironmentName,
    /// Where the component lives.
    pub root: PathBuf,
    /// When it was accepted.
    pub at: Moment,
    /// What was proven of it then, and by which key of the environment's file; the bundles are kept beside the
    /// record, see [`Accepted::evidence_path`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proven: BTreeMap<EvidenceKind, KeyName>,
    /// The keys of the people who had approved a deployment of it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub approved: BTreeSet<KeyName>,
    /// The plan of that deployment; `None` where nobody had to approve one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanRef>,
    /// Set as long as not enough people had: it was made ready, and may not be activated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unapproved: bool,
}

/// The acceptance record of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// What was accepted, in that order.
    pub releases: Vec<Accepted>,
}

impl Accepted {
    /// Where the evidence is kept that a release was accepted by: `evidence/<sha256>` in the state directory.
    pub fn evidence_path(state: &Path, manifest: &Digest) -> PathBuf {
        state.join(tamer_release::proofs::path(manifest))
    }
}

impl Acceptance {
    /// The record's file in the state directory.
    pub fn path(state: &Path) -> PathBuf {
        state.join("accepted.json")
    }

    /// Reads the record; an empty one where there is none.
    ///
    /// # Errors
    /// [`JournalError`]; a damaged record is not guessed at.
    pub fn read(state: &Path) -> Result<Self, JournalError> {
        Ok(read(&Self::path(state), "tamer-accepted")?.unwrap_or_default())
    }

    /// Replaces the record, durably. Blocks.
    ///
    /// # Errors
    /// [`JournalError::File`].
    pub fn write(&self, state: &Path) -> Result<(), JournalError> {
        write(&Self::path(state), "tamer-accepted", self)
    }

    /// Whether a release was accepted for this component in this environment.
    pub fn holds(&self, slot: &Slot, environment: &EnvironmentName, manifest: &Digest) -> bool {
        self.find(slot, environment, manifest).is_some()
    }

    /// The word about a release of this component in this environment.
    pub fn find(
        &self,
        slot: &Slot,
        environment: &EnvironmentName,
        manifest: &Digest,
    ) -> Option<&Accepted> {
        self.releases.iter().find(|it| {
            it.slot == *slot && it.environment == *environment && it.release.manifest == *manifest
        })
    }

    /// Adds a release, in place of an older word about the same.
    pub fn add(&mut self, accepted: Accepted) {
        self.forget(&accepted.slot, &accepted.release.manifest);
        self.releases.push(accepted);
    }

    /// Takes a release out.
    pub fn forget(&mut self, slot: &Slot, manifest: &Digest) {
        self.releases
            .retain(|it| it.slot != *slot || it.release.manifest != *manifest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_slot_and_environment_count() {
        let dir = tempfile::tempdir().unwrap();
        let slot = |component: &str| Slot {
            application: "shop".parse().unwrap(),
            component: component.parse().unwrap(),
            pool: Default::default(),
        };
        let staging: EnvironmentName = "staging".parse().unwrap();
        let digest = Digest::new([1; 32]);
        let mut record = Acceptance::default();
        record.add(Accepted {
            release: ReleaseRef {
                version: "1.0.0".parse().unwrap(),
                manifest: digest,
            },
            slot: slot("web"),
            environment: staging.clone(),
            root: "/srv/shop/web".into(),
            at: Moment(1),
            proven: BTreeMap::new(),
            approved: BTreeSet::new(),
            plan: None,
            unapproved: false,
        });
        record.write(dir.path()).unwrap();
        let record = Acceptance::read(dir.path()).unwrap();
        assert!(record.holds(&slot("web"), &staging, &digest));
        assert!(!record.holds(&slot("worker"), &staging, &digest));
        assert!(!record.holds(&slot("web"), &"production".parse().unwrap(), &digest));
        assert!(!record.holds(&slot("web"), &staging, &Digest::new([2; 32])));
    }
}
