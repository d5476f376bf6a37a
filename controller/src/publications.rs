//! The team's signed metadata, as this controller serves it: one repository an application, one an
//! environment, and the team's root above them. Files are the truth; nothing of this is in the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tamer_core::moment::Moment;
use tamer_release::trust::document::{Document, targets_of};
use tamer_release::trust::{
    PublicKey, PublicationError, PublishedRepository, PublishedTeam, Refused, RepositoryName,
    SigningKey, Target,
};

/// All repositories. Every call does file I/O on a thread for that.
#[derive(Clone)]
pub struct Publications(Arc<Mutex<Open>>);

struct Open {
    base: PathBuf,
    online: Vec<Arc<SigningKey>>,
    team: PublishedTeam,
    repositories: BTreeMap<RepositoryName, PublishedRepository>,
}

/// A repository at a glance, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glance {
    /// Which one: `app/shop`; `team` for the root above them all, which has nothing but roots.
    pub name: String,
    /// The newest root's version; 0: none yet.
    pub root: u64,
    /// The current targets' version; 0: none yet.
    pub targets: u64,
    /// When root, targets, snapshot and timestamp expire; empty: none yet.
    pub expires: [String; 4],
}

impl Publications {
    /// Opens what is published under `base`, vouched for with these keys.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(base: &Path, online: Vec<Arc<SigningKey>>) -> std::io::Result<Self> {
        let mut open = Open {
            base: base.to_owned(),
            online,
            team: PublishedTeam::new(base),
            repositories: BTreeMap::new(),
        };
        for kind in ["app", "env"] {
            let entries = match std::fs::read_dir(base.join(kind)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let name = format!("{kind}/{}", entry?.file_name().to_string_lossy());
                if let Ok(name) = name.parse::<RepositoryName>() {
                    open.repository(&name);
                }
            }
        }
        Ok(Self(Arc::new(Mutex::new(open))))
    }

    /// The repositories under `base` whose newest root lets this key vouch; for commands beside a
    /// running controller.
    ///
    /// # Errors
    /// A file is damaged or cannot be read.
    pub fn naming(base: &Path, key: &PublicKey) -> anyhow::Result<Vec<String>> {
        let all = Self::open(base, Vec::new())?;
        let open = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut naming = Vec::new();
        for (name, repository) in &open.repositories {
            if repository.lets_vouch(key)? {
                naming.push(name.to_string());
            }
        }
        Ok(naming)
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Open) -> T + Send + 'static,
    ) -> T {
        let open = Arc::clone(&self.0);
        let work = move || work(&mut open.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            // The work panicked, which is a mistake of ours that must not look like an answer.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Version 1 of the team's root, which hosts pin; `None` before it is registered.
    ///
    /// # Errors
    /// [`PublicationError`].
    pub async fn first_team_root(&self) -> Result<Option<Vec<u8>>, PublicationError> {
        self.with(|open| open.team.read("1.root.json")).await
    }

    /// Takes the team's root, or the one that follows it. One under which a repository would stand
    /// without anchor is refused: hosts would take nothing of it any more.
    ///
    /// # Errors
    /// [`PublicationError`].
    pub async fn register_team_root(
        &self,
        bytes: Vec<u8>,
        now: Moment,
    ) -> Result<u64, PublicationError> {
        self.with(move |open| {
            if let Some(next) = open.team.check_root(&bytes, now)? {
                for repository in open.repositories.values() {
                    repository.anchored(&next)?;
                }
            }
            open.team.accept_root(&bytes, now)
        })
        .await
    }

    /// Takes a repository's root, or the one that follows it, with its current targets signed anew
    /// where the publishing keys change.
    ///
    /// # Errors
    /// [`PublicationError`].
    pub async fn publish_root(
        &self,
        name: RepositoryName,
        bytes: Vec<u8>,
        targets: Option<(Vec<u8>, u64)>,
        now: Moment,
    ) -> Result<u64, PublicationError> {
        self.with(move |open| {
            let Some(team) = open.team.current()? else {
                return Err(PublicationError::NoRoot("the team".to_owned()));
            };
            let targets = targets.as_ref();
            let targets = targets.map(|(bytes, previous)| (&bytes[..], *previous));
            open.repository(&name)
                .accept_root_with(&bytes, targets, &team, now)
        })
        .await
    }

    /// What offered targets name, so that the caller can see that all of it is there.
    ///
    /// # Errors
    /// [`PublicationError`].
    pub async fn check_targets(
        &self,
        name: RepositoryName,
        bytes: Vec<u8>,
        previous: u64,
        now: Moment,
    ) -> Result<BTreeMap<String, Target>, PublicationError> {
        self.with(move |open| open.repository(&name).check_targets(&bytes, previous, now))
            .await
    }

    /// Publishes targets.
    ///
    /// # Errors
    /// [`PublicationError`].
    pub async fn publish_targets(
        &self,
        name: RepositoryName,
        bytes: Vec<u8>,
        previous: u64,
        now: Moment,
    ) -> Result<u64, PublicationError> {
        self.with(move |open| open.repository(&name).accept_targets(&bytes, previous, now))
            .await
    }

    /// The targets that are current, and their version; none where nothing is published.
    ///
    /// # Errors
    /// [`PublicationError`].
    pub async fn targets(
        &self,
        name: RepositoryName,
    ) -> Result<(u64, BTreeMap<String, Target>), PublicationError> {
        self.with(move |open| {
            let Some(repository) = open.repositories.get(&name) else {
                return Ok((0, BTreeMap::new()));
            };
            let Some(bytes) = repository.targets()? else {
                return Ok((0, BTreeMap::new()));
            };
            let damaged = |reason: Refused| PublicationError::Refused {
                repository: name.to_string(),
                what: "targets",
                reason,
            };
            let document = Document::parse(bytes, Some(&name.to_string())).map_err(damaged)?;
            Ok((document.version(), targets_of(&document).map_err(damaged)?))
        })
        .await
    }

    /// The names of all repositories.
    pub async fn names(&self) -> Vec<RepositoryName> {
        self.with(|open| open.repositories.keys().cloned().collect())
            .await
    }

    /// The team's root at a glance, and every repository.
    ///
    /// # Errors
    /// [`PublicationError`].
    pub async fn glance(&self) -> Result<(Glance, Vec<Glance>), PublicationError> {
        self.with(|open| {
            let team = roots("team".to_owned(), |file| open.team.read(file))?;
            let all = open.repositories.values().map(glance);
            Ok((team, all.collect::<Result<_, _>>()?))
        })
        .await
    }

    /// Vouches anew where less than half of the life of a snapshot or timestamp is left. Failures are
    /// logged, for one repository must not stop the others.
    pub async fn resign(&self, now: Moment) {
        self.with(move |open| {
            for (name, repository) in &mut open.repositories {
                if let Err(error) = repository.resign(now) {
                    tracing::error!(repository = %name, error = &error as &dyn std::error::Error, "cannot vouch anew");
                }
            }
        })
        .await;
    }
}

impl Open {
    fn repository(&mut self, name: &RepositoryName) -> &mut PublishedRepository {
        let Self {
            base,
            online,
            repositories,
            ..
        } = self;
        repositories
            .entry(name.clone())
            .or_insert_with(|| PublishedRepository::new(base, name.clone(), online.clone()))
    }
}

/// What there is of roots.
fn roots(
    name: String,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, PublicationError>,
) -> Result<Glance, PublicationError> {
    let mut glance = Glance {
        name,
        ..Glance::default()
    };
    while let Some(root) = read(&format!("{}.root.json", glance.root + 1))? {
        glance.root += 1;
        glance.expires[0] = shown(&root).map_or_else(String::new, |root| text(&root, EXPIRES));
    }
    Ok(glance)
}

fn glance(repository: &PublishedRepository) -> Result<Glance, PublicationError> {
    let document = |file: &str| {
        let bytes = repository.read(file)?;
        Ok::<_, PublicationError>(bytes.as_deref().and_then(shown))
    };
    let mut glance = roots(repository.name().to_string(), |file| repository.read(file))?;
    let Some(timestamp) = document("timestamp.json")? else {
        return Ok(glance);
    };
    glance.expires[3] = text(&timestamp, EXPIRES);
    let version = timestamp
        .pointer("/signed/meta/snapshot.json/version")
        .map_or(0, |v| v.as_u64().unwrap_or(0));
    let Some(snapshot) = document(&format!("{version}.snapshot.json"))? else {
        return Ok(glance);
    };
    glance.expires[2] = text(&snapshot, EXPIRES);
    glance.targets = snapshot
        .pointer("/signed/meta/targets.json/version")
        .map_or(0, |v| v.as_u64().unwrap_or(0));
    if let Some(targets) = document(&format!("{}.targets.json", glance.targets))? {
        glance.expires[1] = text(&targets, EXPIRES);
    }
    Ok(glance)
}

const EXPIRES: &str = "/signed/expires";

/// A document as JSON, only to be shown: nothing is believed because of it.
fn shown(bytes: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(bytes).ok()
}

fn text(document: &serde_json::Value, pointer: &str) -> String {
    document
        .pointer(pointer)
        .and_then(|value| value.as_str())
        .unwrap_or_default()
        .to_owned()
}
