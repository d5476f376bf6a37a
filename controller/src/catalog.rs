//! What is published, looked up: versions, releases, environment files. All of it comes from signed
//! metadata and from blobs that are compared with their digests.

use crate::artifacts::{BlobError, Blobs};
use crate::evidence::EvidenceFiles;
use crate::fleet::deploy::{Evidence, Wanted};
use crate::publications::Publications;
use futures_util::TryStreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek as _};
use std::sync::Arc;
use tamer_core::application::{ComponentSpec, order_by_needs};
use tamer_core::digest::Digest;
use tamer_core::environment::{Environment, MAX_ENVIRONMENT};
use tamer_core::evidence::Demanded;
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName};
use tamer_core::release::{ApplicationVersion, MAX_MANIFEST, ReleaseRef};
use tamer_core::schema::Declared;
use tamer_core::version::Version;
use tamer_kit::clock;
use tamer_kit::durable::FileError;
use tamer_kit::hash::{HashingReader, sha256};
use tamer_release::manifest::{About, ManifestError};
use tamer_release::trust::names::{environment_target, release_target, version_target};
use tamer_release::trust::{PublicationError, RepositoryName, Target};
use tamer_release::{attest, manifest, proofs};

/// The largest file that names an application's version, in bytes.
const MAX_VERSION_FILE: u64 = 1 << 20;

/// Looks things up.
#[derive(Clone)]
pub struct Catalog {
    /// The signed metadata.
    pub publications: Publications,
    /// The blobs.
    pub blobs: Arc<Blobs>,
    /// The evidence.
    pub evidence: EvidenceFiles,
}

/// Why something was not found.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// No such version.
    #[error(
        "{application} has no version {version}{nearest}: `tamer releases {application}` lists them"
    )]
    Version {
        /// Of which application.
        application: ApplicationName,
        /// Which version.
        version: String,
        /// What may have been meant.
        nearest: String,
    },
    /// No such release of one component.
    #[error(
        "{application} has no {release}{nearest}: `tamer releases {application}` lists what it has"
    )]
    Release {
        /// Of which application.
        application: ApplicationName,
        /// Which release, as `COMPONENT@VERSION`.
        release: String,
        /// What may have been meant.
        nearest: String,
    },
    /// The content of a signed target is not what it should be.
    #[error("{name} cannot be used: {reason}")]
    Unusable {
        /// The target.
        name: String,
        /// Why.
        reason: String,
    },
    /// A blob is named and not there.
    #[error("{name}: its content was never uploaded, or is lost from the artifact store")]
    Missing {
        /// The target.
        name: String,
    },
    /// The metadata.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// The evidence.
    #[error(transparent)]
    Evidence(#[from] FileError),
    /// The artifact store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The artifact store, while it was being read.
    #[error("cannot read from the artifact store")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Catalog {
    /// The bytes of a signed target, verified.
    ///
    /// # Errors
    /// [`NotFound`].
    pub async fn content(
        &self,
        name: &str,
        target: &Target,
        max: u64,
    ) -> Result<Vec<u8>, NotFound> {
        let unusable = |reason: String| NotFound::Unusable {
            name: name.to_owned(),
            reason,
        };
        if target.length > max {
            return Err(unusable(format!(
                "it has {} bytes, {max} are the most",
                target.length
            )));
        }
        let stream = self.blobs.get(&target.digest, None).await?;
        let stream = stream.ok_or_else(|| NotFound::Missing {
            name: name.to_owned(),
        })?;
        let take = async |mut all: Vec<u8>, part: bytes::Bytes| {
            all.extend_from_slice(&part);
            Ok(all)
        };
        let bytes = stream
            .try_fold(Vec::new(), take)
            .await
            .map_err(|e| NotFound::Read(e.into()))?;
        if bytes.len() as u64 != target.length || sha256(&bytes) != target.digest {
            return Err(unusable(
                "its bytes are not those that were signed".to_owned(),
            ));
        }
        Ok(bytes)
    }

    /// An environment's file, and the version of its metadata; `None` where none is signed.
    ///
    /// # Errors
    /// [`NotFound`].
    pub async fn environment(
        &self,
        name: &EnvironmentName,
    ) -> Result<Option<(u64, String, Environment)>, NotFound> {
        let (version, targets) = self
            .publications
            .targets(RepositoryName::Environment(name.clone()))
            .await?;
        let file = environment_target(name);
        match targets.get(&file) {
            None => Ok(None),
            Some(target) => {
                let (text, environment) = self.environment_file(&file, target).await?;
                Ok(Some((version, text, environment)))
            }
        }
    }

    /// The environment file that a target stands for.
    ///
    /// # Errors
    /// [`NotFound`].
    pub async fn environment_file(
        &self,
        file: &str,
        target: &Target,
    ) -> Result<(String, Environment), NotFound> {
        let unusable = |reason: String| NotFound::Unusable {
            name: file.to_owned(),
            reason,
        };
        let bytes = self.content(file, target, MAX_ENVIRONMENT).await?;
        let text =
            String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8 text".to_owned()))?;
        let environment =
            Environment::parse(file, &text).map_err(|error| unusable(error.to_string()))?;
        Ok((text, environment))
    }

    /// Everything that is to be deployed for a version of an application, or of one component of it.
    ///
    /// # Errors
    /// [`NotFound`].
    pub async fn wanted(
        &self,
        environment: EnvironmentName,
        application: ApplicationName,
        component: Option<&ComponentName>,
        version: Version,
    ) -> Result<Wanted, NotFound> {
        let (_, targets) = self
            .publications
            .targets(RepositoryName::Application(application.clone()))
            .await?;
        let mut releases = match component {
            None => {
                self.version(&application, &version, &targets)
                    .await?
                    .components
            }
            Some(component) => {
                let name = release_target(&application, component, &version);
                let target = targets
                    .get(&name)
                    .ok_or_else(|| no_release(&application, component, &version, &targets))?;
                let release = ReleaseRef {
                    version: version.clone(),
                    manifest: target.digest,
                };
                BTreeMap::from([(component.clone(), release)])
            }
        };
        let (mut needs, mut declared) = (BTreeMap::new(), BTreeMap::new());
        for (component, release) in &releases {
            let name = release_target(&application, component, &release.version);
            let spec = self
                .spec(&name, targets.get(&name), &release.manifest)
                .await?;
            declared.insert(release.manifest, Declared::from(&spec));
            needs.insert(component.clone(), spec.needs);
        }
        let circle = |reason| NotFound::Unusable {
            name: version_target(&application, &version),
            reason,
        };
        let order = order_by_needs(needs).map_err(circle)?;
        let releases = order
            .into_iter()
            .filter_map(|name| releases.remove(&name).map(|release| (name, release)));
        let releases = releases.collect();
        let demanded = match self.environment(&environment).await? {
            Some((_, _, file)) => file.evidence,
            None => Demanded::default(),
        };
        let manifests = declared.keys().copied().collect();
        let evidence = self.judged(demanded, manifests).await?;
        Ok(Wanted {
            environment,
            application,
            version,
            component: component.cloned(),
            releases,
            evidence,
            declared,
            no_way_back: false,
            override_freeze: false,
            confirmed: false,
            wait: false,
        })
    }

    /// What is proven of these releases where so much is demanded. The keys that count and the time are the
    /// controller's here, so that it can say early what an agent would refuse.
    async fn judged(
        &self,
        demanded: Demanded,
        manifests: Vec<Digest>,
    ) -> Result<BTreeMap<Digest, Evidence>, NotFound> {
        let mut found = BTreeMap::new();
        if demanded.require.is_empty() {
            return Ok(found);
        }
        for manifest in manifests {
            let file = self.evidence.of(manifest).await?;
            let demanded = demanded.clone();
            // Signatures take their time.
            let judging = move || {
                let bundles = proofs::bundles(&file);
                Evidence::from(&attest::judge(&demanded, &manifest, &bundles, clock::now()))
            };
            let judged = tokio::task::spawn_blocking(judging).await;
            found.insert(manifest, judged.map_err(|e| NotFound::Read(e.into()))?);
        }
        Ok(found)
    }

    /// Every version of an application that is live, newest first.
    ///
    /// # Errors
    /// [`NotFound`].
    pub async fn versions(
        &self,
        application: &ApplicationName,
    ) -> Result<Vec<ApplicationVersion>, NotFound> {
        let (_, targets) = self
            .publications
            .targets(RepositoryName::Application(application.clone()))
            .await?;
        let mut versions = Vec::new();
        for version in version_names(application, &targets) {
            versions.push(self.version(application, &version, &targets).await?);
        }
        versions.sort_by(|a, b| b.version.cmp(&a.version));
        Ok(versions)
    }

    /// Which versions of an application are published and live.
    ///
    /// # Errors
    /// [`NotFound`].
    pub async fn published(
        &self,
        application: &ApplicationName,
    ) -> Result<BTreeSet<Version>, NotFound> {
        let name = RepositoryName::Application(application.clone());
        let (_, targets) = self.publications.targets(name).await?;
        Ok(version_names(application, &targets).into_iter().collect())
    }

    async fn version(
        &self,
        application: &ApplicationName,
        version: &Version,
        targets: &BTreeMap<String, Target>,
    ) -> Result<ApplicationVersion, NotFound> {
        let name = version_target(application, version);
        let target = targets
            .get(&name)
            .ok_or_else(|| no_version(application, version, targets))?;
        let bytes = self.content(&name, target, MAX_VERSION_FILE).await?;
        let unusable = |reason: String| NotFound::Unusable {
            name: name.clone(),
            reason,
        };
        let read: ApplicationVersion =
            serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        if read.application != *application || read.version != *version {
            return Err(unusable(format!(
                "it describes {} {}",
                read.application, read.version
            )));
        }
        Ok(read)
    }

    /// What a release says of its component. Its files pass by, and are judged by the agents.
    async fn spec(
        &self,
        name: &str,
        target: Option<&Target>,
        digest: &Digest,
    ) -> Result<ComponentSpec, NotFound> {
        let unusable = |reason: String| NotFound::Unusable {
            name: name.to_owned(),
            reason,
        };
        let target = target.filter(|target| target.digest == *digest);
        let target = target
            .ok_or_else(|| unusable("it is not among the live releases any more".to_owned()))?;
        let (length, max) = (target.length, MAX_MANIFEST);
        if length > max {
            return Err(unusable(format!(
                "it has {length} bytes, {max} are the most"
            )));
        }
        let file = self.blobs.file(digest).await?;
        let file = file.ok_or_else(|| NotFound::Missing {
            name: name.to_owned(),
        })?;
        let read = tokio::task::spawn_blocking(move || about(&file));
        let read = read.await.map_err(|e| NotFound::Read(e.into()))?;
        let (about, found) = read.map_err(|error| unusable(error.to_string()))?;
        if found != *digest {
            return Err(unusable(
                "its bytes are not those that were signed".to_owned(),
            ));
        }
        let about = about.map_err(|error| unusable(error.to_string()))?;
        about.spec.validate().map_err(unusable)?;
        Ok(about.spec)
    }
}

/// What a manifest says, and the digest of what was read. What cannot be read has one too: most likely it is not what
/// was signed, and that is to be said then.
fn about(file: &File) -> io::Result<(Result<About, ManifestError>, Digest)> {
    match manifest::about(file) {
        Ok((about, found)) => Ok((Ok(about), found)),
        Err(error) => {
            let mut file = file;
            file.rewind()?;
            let mut all = HashingReader::new(file);
            io::copy(&mut all, &mut io::sink())?;
            Ok((Err(error), all.finish().0))
        }
    }
}

fn version_names(
    application: &ApplicationName,
    targets: &BTreeMap<String, Target>,
) -> Vec<Version> {
    let prefix = format!("{application}/versions/");
    let inside = |name: &String| {
        name.strip_prefix(&prefix)?
            .strip_suffix(".json")?
            .parse()
            .ok()
    };
    targets.keys().filter_map(inside).collect()
}

fn no_version(
    application: &ApplicationName,
    version: &Version,
    targets: &BTreeMap<String, Target>,
) -> NotFound {
    let known: Vec<String> = version_names(application, targets)
        .iter()
        .map(ToString::to_string)
        .collect();
    let version = version.to_string();
    NotFound::Version {
        application: application.clone(),
        nearest: did_you_mean(&version, &known),
        version,
    }
}

fn no_release(
    application: &ApplicationName,
    component: &ComponentName,
    version: &Version,
    targets: &BTreeMap<String, Target>,
) -> NotFound {
    let prefix = format!("{application}/releases/");
    let known: Vec<String> = targets
        .keys()
        .filter_map(|name| name.strip_prefix(&prefix)?.strip_suffix(".json"))
        .map(|name| name.replacen('/', "@", 1))
        .collect();
    let release = format!("{component}@{version}");
    NotFound::Release {
        application: application.clone(),
        nearest: did_you_mean(&release, &known),
        release,
    }
}

fn did_you_mean(given: &str, known: &[String]) -> String {
    let near = tamer_core::text::nearest(given, known.iter().map(String::as_str));
    near.map_or(String::new(), |near| format!(" (did you mean {near}?)"))
}
