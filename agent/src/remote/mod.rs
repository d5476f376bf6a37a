//! Releases and the environment's file from the controller: TUF over HTTP, and frames of archives.
//!
//! Metadata is asked for when desired state names something newer, or when what is known has expired,
//! and never by polling. Nothing here believes the controller: it holds no key that a release needs.

mod evidence;
mod frames;
pub mod http;
mod manifests;
pub mod pace;

use crate::allowed::{self, failure};
use crate::host::{blocking, chain, file_failure};
use crate::metrics::Metrics;
use crate::source::{EnvironmentView, Known, Proven, Source, Verified};
use crate::transfer::Count;
use async_trait::async_trait;
use http::Http;
use manifests::Useless;
use pace::Pace;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::digest::Digest;
use tamer_core::environment::{Environment, MAX_ENVIRONMENT};
use tamer_core::id::{ComponentPath, EnvironmentName};
use tamer_core::moment::Moment;
use tamer_core::release::{MAX_MANIFEST, Manifest, ReleaseRef};
use tamer_core::rollout::approval::PlanRef;
use tamer_kit::durable;
use tamer_kit::hash::sha256;
use tamer_release::manifest::ManifestError;
use tamer_release::trust::client::Client;
use tamer_release::trust::names::{environment_target, release_target};
use tamer_release::trust::storage::StorageError;
use tamer_release::trust::{self, RepositoryName, Transport, TrustError, TrustStore};
use tamer_release::unpack::Arrivals;

/// Releases and the environment's file from the controller.
pub struct Remote {
    environment: EnvironmentName,
    trust: Client,
    http: Arc<Http>,
    /// Where manifests lie on their way.
    downloads: PathBuf,
    /// The environment's file, as last verified: so that it is at hand without the network.
    file: PathBuf,
    /// One at a time looks after that file: it has one writer.
    turn: tokio::sync::Mutex<()>,
    /// This host's own clock, for expiry: the controller's is not asked how old its news are.
    now: fn() -> Moment,
    metrics: Metrics,
    pace: Pace,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("environment", &self.environment)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// For a host of `environment` that pins the team root `pin`; what it trusts is kept in
    /// `<state>/trust`.
    pub fn new(
        state: &Path,
        environment: EnvironmentName,
        pin: Digest,
        http: Arc<Http>,
        metrics: Metrics,
    ) -> Self {
        let dir = state.join("trust");
        let transport = Arc::clone(&http) as Arc<dyn Transport>;
        Self {
            environment,
            downloads: crate::execute::stage::downloads(state),
            file: dir.join("environment.toml"),
            turn: tokio::sync::Mutex::default(),
            trust: Client::new(TrustStore::new(&dir, pin), transport),
            http,
            now: tamer_kit::clock::now,
            metrics,
            pace: Pace::default(),
        }
    }

    /// Fetches no faster than `pace` allows.
    #[must_use]
    pub fn at(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// What is known of a repository, as long as it is `enough`; else it is asked for.
    async fn known(
        &self,
        repository: &RepositoryName,
        enough: impl FnOnce(&trust::Verified) -> bool,
    ) -> Result<trust::Verified, Failure> {
        match self.trust.cached(repository).map_err(|e| told(&e))? {
            Some(known) if enough(&known) => Ok(known),
            _ => {
                let fresh = self.trust.refresh(repository, (self.now)()).await;
                fresh.map_err(|e| told(&e))
            }
        }
    }

    /// The environment's file that `verified` vouches for: from disk, else from the network, if that
    /// may be used.
    async fn file(
        &self,
        verified: &trust::Verified,
        network: bool,
    ) -> Result<Environment, Failure> {
        let name = environment_target(&self.environment);
        let wanted = verified.target(&name).map(|target| target.digest);
        let _turn = self.turn.lock().await;
        let kept = self.file.clone();
        let kept = blocking(move || {
            durable::read_capped(&kept, MAX_ENVIRONMENT).map_err(|e| file_failure(&e))
        });
        let bytes = match kept.await? {
            Some(bytes) if Some(sha256(&bytes)) == wanted => bytes,
            _ if network => {
                let fetched = self.trust.environment(verified, &self.environment).await;
                let bytes = fetched.map_err(|e| told(&e))?;
                let (path, to_keep) = (self.file.clone(), bytes.clone());
                blocking(move || {
                    durable::replace(&path, &to_keep, 0o644).map_err(|e| file_failure(&e))
                })
                .await?;
                bytes
            }
            _ => {
                let why = format!("the file of {} is not at hand", self.environment);
                return Err(failure(FailureKind::Fetch, why));
            }
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| failure(FailureKind::Trust, format!("{name} is not UTF-8 text")))?;
        // A key that this agent does not know may be a demand that it would not meet.
        Environment::parse(&name, &text).map_err(|e| failure(FailureKind::Unsupported, chain(&e)))
    }

    /// A manifest as it was signed: as a difference from that of a release that is `known`, where the controller
    /// gives it so.
    async fn manifest(
        &self,
        target: &trust::Target,
        release: &ReleaseRef,
        known: Option<&Known>,
    ) -> Result<Manifest, Failure> {
        let (wanted, length) = (target.digest, target.length);
        if length > MAX_MANIFEST {
            return Err(unfit(release, &ManifestError::TooLarge(length)));
        }
        for coded in [true, false] {
            let fetched =
                manifests::fetch(&self.http, &self.downloads, &wanted, known, coded, length);
            let got = match fetched.await {
                Err(error) if coded => {
                    tracing::debug!(%release, %error, "a difference did not come");
                    continue;
                }
                got => got?,
            };
            self.metrics.fetched_bytes.inc_by(got.came);
            let again = got.is_coded();
            match blocking(move || Ok(got.read(&wanted))).await? {
                Ok(manifest) => return Ok(manifest),
                Err(error) if again => {
                    let error = chain(&error);
                    tracing::warn!(%release, %error, "a difference is of no use: the whole manifest is asked for");
                }
                Err(Useless::Refused(error)) => return Err(unfit(release, &error)),
                Err(error) => {
                    let why = format!("{release}: {}", chain(&error));
                    return Err(failure(FailureKind::Trust, why));
                }
            }
        }
        Err(failure(
            FailureKind::Fetch,
            format!("the manifest of {release} was not fetched"),
        ))
    }

    fn repository(&self) -> RepositoryName {
        RepositoryName::Environment(self.environment.clone())
    }

    /// The environment's file, if it admits the release.
    async fn admitting(
        &self,
        component: &ComponentPath,
        release: &ReleaseRef,
        at_least: u64,
    ) -> Result<Environment, Failure> {
        let now = (self.now)();
        let verified = self
            .known(&self.repository(), |known| {
                known.targets_version >= at_least && known.expires > now
            })
            .await?;
        newest(&verified, at_least)?;
        let environment = self.file(&verified, true).await?;
        environment
            .admits(component, &release.version, &release.manifest)
            .map_err(|e| failure(FailureKind::Trust, e.to_string()))?;
        Ok(environment)
    }

    /// Refuses what the environment does not admit; says what is proven of the rest.
    async fn environment_admits(
        &self,
        slot: &Slot,
        release: &ReleaseRef,
        at_least: u64,
        ahead: bool,
        newest: Option<&PlanRef>,
    ) -> Result<Proven, Failure> {
        let component = path(slot);
        let environment = self.admitting(&component, release, at_least).await?;
        let now = (self.now)();
        let (evidence, approval) = (&environment.evidence, &environment.approval);
        if evidence.require.is_empty() && approval.needed == 0 {
            return Ok(Proven::default());
        }
        let bundles = evidence::fetch(&self.http, release).await?;
        let whose = evidence::Whose {
            environment: &self.environment,
            component: &component,
            slot,
            release,
            newest,
        };
        let proven = evidence::enough(evidence, whose, &bundles, now)?;
        match approval.needed {
            0 => Ok(proven),
            _ => match evidence::approved(approval, whose, bundles, now) {
                Ok(approved) => Ok(Proven {
                    by: proven.by,
                    ..approved
                }),
                Err(_) if ahead => Ok(Proven {
                    unapproved: true,
                    ..proven
                }),
                Err(why) => Err(why),
            },
        }
    }

    /// Who approved a deployment of the release, if it is enough.
    async fn approvals(
        &self,
        slot: &Slot,
        release: &ReleaseRef,
        at_least: u64,
        newest: Option<&PlanRef>,
    ) -> Result<Proven, Failure> {
        let component = path(slot);
        let environment = self.admitting(&component, release, at_least).await?;
        if environment.approval.needed == 0 {
            return Ok(Proven::default());
        }
        let bundles = evidence::fetch(&self.http, release).await?;
        let whose = evidence::Whose {
            environment: &self.environment,
            component: &component,
            slot,
            release,
            newest,
        };
        evidence::approved(&environment.approval, whose, bundles, (self.now)())
    }

    /// Counts what is of no use.
    fn counted<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.inspect_err(|failure| self.metrics.useless(failure.kind))
    }

    async fn admitted(
        &self,
        slot: &Slot,
        release: &ReleaseRef,
        environment_version: u64,
        known: Option<&Known>,
        ahead: bool,
        newest: Option<&PlanRef>,
    ) -> Result<Verified, Failure> {
        let proven = self
            .environment_admits(slot, release, environment_version, ahead, newest)
            .await?;
        let (repository, now) = (
            RepositoryName::Application(slot.application.clone()),
            (self.now)(),
        );
        let name = release_target(&slot.application, &slot.component, &release.version);
        let signed = |known: &trust::Verified| {
            let target = known.target(&name);
            target.is_some_and(|target| target.digest == release.manifest)
        };
        let verified = self
            .known(&repository, |known| signed(known) && known.expires > now)
            .await?;
        if !signed(&verified) {
            let why = match verified.target(&name) {
                None => format!("{repository} has no signed release {name}"),
                Some(other) => format!(
                    "{name} is signed as {}, and {} was asked for",
                    other.digest.short(),
                    release.manifest.short()
                ),
            };
            return Err(failure(FailureKind::Trust, why));
        }
        let Some(target) = verified.target(&name) else {
            let why = format!("{repository} has no signed release {name}");
            return Err(failure(FailureKind::Trust, why));
        };
        let manifest = self.manifest(target, release, known).await?;
        allowed::fits(slot, &manifest)?;
        if manifest.version != release.version {
            let why = format!("{name} is the manifest of version {}", manifest.version);
            return Err(failure(FailureKind::Trust, why));
        }
        Ok(Verified {
            manifest,
            digest: release.manifest,
            proven,
        })
    }

    async fn view(&self, at_least: u64) -> Result<EnvironmentView, Failure> {
        let repository = self.repository();
        let offline = at_least == 0;
        let verified = if offline {
            let known = self.trust.cached(&repository).map_err(|e| told(&e))?;
            known.ok_or_else(|| {
                let why = format!("nothing of {} was verified here yet", self.environment);
                failure(FailureKind::Fetch, why)
            })?
        } else {
            let enough = |known: &trust::Verified| known.targets_version >= at_least;
            self.known(&repository, enough).await?
        };
        newest(&verified, at_least)?;
        let environment = self.file(&verified, !offline).await?;
        Ok(EnvironmentView::of(environment, verified.targets_version))
    }
}

#[async_trait]
impl Source for Remote {
    async fn admit(
        &self,
        slot: &Slot,
        release: &ReleaseRef,
        environment_version: u64,
        known: Option<&Known>,
        ahead: bool,
        newest: Option<&PlanRef>,
    ) -> Result<Verified, Failure> {
        let admitted = self.admitted(slot, release, environment_version, known, ahead, newest);
        self.counted(admitted.await)
    }

    async fn approved(
        &self,
        slot: &Slot,
        release: &ReleaseRef,
        environment_version: u64,
        newest: Option<&PlanRef>,
    ) -> Result<Proven, Failure> {
        let approvals = self.approvals(slot, release, environment_version, newest);
        self.counted(approvals.await)
    }

    async fn frames(
        &self,
        manifest: &Manifest,
        wanted: &[usize],
        into: &Path,
        arrivals: &Arrivals,
        count: &Count,
    ) -> Result<(), Failure> {
        let way = frames::Way {
            http: &self.http,
            metrics: &self.metrics,
            pace: &self.pace,
            arrivals,
            count,
        };
        self.counted(frames::fetch(&way, &manifest.archive, wanted, into).await)
    }

    async fn environment(&self, at_least: u64) -> Result<EnvironmentView, Failure> {
        match at_least {
            // What was never verified here is no news.
            0 => self.view(0).await,
            newer => self.counted(self.view(newer).await),
        }
    }
}

fn path(slot: &Slot) -> ComponentPath {
    ComponentPath {
        application: slot.application.clone(),
        component: slot.component.clone(),
    }
}

/// The controller decides with a version of the environment's file that it also has to show.
fn newest(verified: &trust::Verified, at_least: u64) -> Result<(), Failure> {
    let found = verified.targets_version;
    if found >= at_least {
        return Ok(());
    }
    let why = format!(
        "the environment's file is needed in version {at_least}, and the controller serves version {found}"
    );
    Err(failure(FailureKind::Fetch, why))
}

/// Why trust could not be established, as a report shows it.
fn told(error: &TrustError) -> Failure {
    let kind = match error {
        TrustError::Fetch { .. } | TrustError::Missing { .. } => FailureKind::Fetch,
        TrustError::Storage(StorageError::File(error)) => return file_failure(error),
        _ => FailureKind::Trust,
    };
    failure(kind, chain(error))
}

fn unfit(release: &ReleaseRef, error: &ManifestError) -> Failure {
    let kind = match error {
        ManifestError::Requires(_) | ManifestError::Format(_) => FailureKind::Unsupported,
        _ => FailureKind::Trust,
    };
    failure(kind, format!("{release} is refused: {}", chain(error)))
}
