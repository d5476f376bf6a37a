//! What the agent's hands need from outside, behind two small traits: verified releases and the signed
//! environment file ([`Source`]), and tried checks ([`Probe`]).

use crate::checks::Surroundings;
use crate::transfer::Count;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tamer_core::check::{Checks, Results};
use tamer_core::desired::{Failure, Slot};
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::evidence::EvidenceKind;
use tamer_core::id::KeyName;
use tamer_core::policy::Policy;
use tamer_core::release::{Manifest, ReleaseRef};
use tamer_core::rollout::approval::PlanRef;
use tamer_release::unpack::Arrivals;

/// A release's manifest, verified by its signatures and admitted by the environment.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of its bytes as they were signed: the release's identity.
    pub digest: Digest,
    /// What was proven of it.
    pub proven: Proven,
}

/// What was proven of a release when it was admitted, as far as the environment demanded it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    /// What, and by which key of the environment's file.
    pub by: BTreeMap<EvidenceKind, KeyName>,
    /// Whether it may not be activated yet: people have to approve a deployment of it, and not enough did.
    pub unapproved: bool,
    /// The keys of the people who approved a deployment of it.
    pub approved: BTreeSet<KeyName>,
    /// The plan of that deployment.
    pub plan: Option<PlanRef>,
    /// The bundles that prove it, as [`tamer_release::proofs`] keeps them.
    pub bundles: Vec<u8>,
}

/// A release on this host, whose manifest may be much like another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its directory.
    pub release: PathBuf,
    /// The digest of its manifest.
    pub manifest: Digest,
}

/// What the agent needs of its environment's signed file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EnvironmentView {
    /// How carefully it is changed.
    pub policy: Policy,
    /// What every host of it must pass.
    pub checks: Checks,
    /// Releases that may not run here any more.
    pub revoked: BTreeSet<Digest>,
    /// The whole of it, as it was signed.
    pub file: Arc<Environment>,
    /// The version of the signed metadata.
    pub version: u64,
}

/// Where releases and the environment's file come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// Verifies a release: its signatures, that it is `slot`'s, and that the environment admits it
    /// (place, minimum, revocation, evidence) as of `environment_version` at least. `known` is a release that
    /// this host has, from whose manifest the new one may be fetched as a difference. With `ahead` one is admitted
    /// too that is not approved: it says so then. Approvals of plans that `newest` supersedes count no more.
    ///
    /// # Errors
    /// [`Failure`] of the kind `Trust`, `Evidence`, `Unsupported`, or `Fetch` where trying again may help.
    async fn admit(
        &self,
        slot: &Slot,
        release: &ReleaseRef,
        environment_version: u64,
        known: Option<&Known>,
        ahead: bool,
        newest: Option<&PlanRef>,
    ) -> Result<Verified, Failure>;

    /// Whether enough people approved a deployment that brings `slot` a release that was admitted before, where the
    /// environment, as of `environment_version` at least, demands that. `newest` is as for [`Source::admit`].
    ///
    /// # Errors
    /// [`Failure`] of the kind `Evidence`, or of those of [`Source::admit`].
    async fn approved(
        &self,
        slot: &Slot,
        release: &ReleaseRef,
        environment_version: u64,
        newest: Option<&PlanRef>,
    ) -> Result<Proven, Failure>;

    /// Fetches frames of a release's archive, given in order, into the file `into`, each to its place in the
    /// archive. What an earlier try left there is used where it is good. Frames are verified; `arrivals` is told of
    /// each that is in its place, `count` of the bytes as they come.
    ///
    /// # Errors
    /// [`Failure`] of the kind `Fetch`, `Disk`, or `Trust` for frames that are not the signed ones.
    async fn frames(
        &self,
        manifest: &Manifest,
        wanted: &[usize],
        into: &Path,
        arrivals: &Arrivals,
        count: &Count,
    ) -> Result<(), Failure>;

    /// The environment's file as last verified, of the version `at_least` or newer. With `at_least`
    /// 0 the network is not used: whatever was verified before, expired or not, is good enough.
    ///
    /// # Errors
    /// [`Failure`]: there is none, or none so new could be had.
    async fn environment(&self, at_least: u64) -> Result<EnvironmentView, Failure>;
}

/// Tries checks.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Tries each of these once, side by side, and says how each ended. Every check keeps its own time
    /// limit, so this ends.
    async fn run(&self, checks: &Checks, around: &Surroundings) -> Results;
}

/// The checks of [`crate::checks`], on this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Real;

#[async_trait]
impl Probe for Real {
    async fn run(&self, checks: &Checks, around: &Surroundings) -> Results {
        crate::checks::run_all(checks, around).await
    }
}

impl EnvironmentView {
    /// What is needed of a file, which was signed as this version.
    pub fn of(file: Environment, version: u64) -> Self {
        Self {
            policy: file.policy.clone(),
            checks: file.checks.clone(),
            revoked: file.revoked.clone(),
            file: Arc::new(file),
            version,
        }
    }
}
