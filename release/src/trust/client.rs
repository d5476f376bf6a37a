//! The workflow over a transport: what a host, or an engineer's machine, believes of a repository.

use super::document::{Refused, Target, Verified, cap};
use super::error::TrustError;
use super::names::{MetadataFile, RepositoryName, environment_target};
use super::roots::{RootChain, TeamRoot};
use super::storage::{StorageError, Stored, TrustStore};
use super::transport::Transport;
use super::workflow::{MAX_ROOT_UPDATES, Trusted};
use std::fmt;
use std::sync::Arc;
use tamer_core::environment::MAX_ENVIRONMENT;
use tamer_core::id::EnvironmentName;
use tamer_core::moment::Moment;
use tamer_kit::hash::sha256;
use tokio::sync::Mutex;

/// Refreshes repositories and fetches what they vouch for.
pub struct Client {
    store: TrustStore,
    transport: Arc<dyn Transport>,
    /// One refresh at a time: the store has one writer.
    turn: Mutex<()>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.store).finish()
    }
}

impl Client {
    /// A client with what `store` trusts.
    pub fn new(store: TrustStore, transport: Arc<dyn Transport>) -> Self {
        Self {
            store,
            transport,
            turn: Mutex::new(()),
        }
    }

    /// Runs the whole client workflow for one repository: the team's root, then the repository's
    /// root, timestamp, snapshot and targets. `now` decides expiry only, and is not kept.
    ///
    /// What was verified before an error stays trusted, so that nothing older is taken later.
    ///
    /// # Errors
    /// [`TrustError`]. What [`Client::cached`] gives is then as it was.
    pub async fn refresh(
        &self,
        repository: &RepositoryName,
        now: Moment,
    ) -> Result<Verified, TrustError> {
        let _turn = self.turn.lock().await;
        let team = self.refresh_team(now).await?;
        let at = At(Some(repository));
        let before = self.load(Some(repository)).await?;
        let mut trusted = match &before {
            Some(stored) => Some(self.restore(repository, stored.trusted.clone())?),
            None => None,
        };
        let outcome = self.update(at, &mut trusted, &team, now).await;
        // Memory has changed; now write once, whatever the outcome.
        if let Some(trusted) = trusted {
            let documents = trusted.documents();
            let accepted = match &outcome {
                Ok(_) => Some(documents.clone()),
                Err(_) => before.as_ref().and_then(|stored| stored.accepted.clone()),
            };
            let after = Stored {
                trusted: documents,
                accepted,
            };
            if before.as_ref() != Some(&after) {
                self.save(Some(repository), after).await?;
            }
        }
        outcome
    }

    /// What was last accepted of a repository, without network and whether or not it has expired:
    /// going back is never stopped by it. `None` where nothing was accepted yet.
    ///
    /// # Errors
    /// The store is damaged.
    pub fn cached(&self, repository: &RepositoryName) -> Result<Option<Verified>, TrustError> {
        let stored = self.store.load(Some(repository))?;
        let Some(documents) = stored.and_then(|stored| stored.accepted) else {
            return Ok(None);
        };
        let trusted = self.restore(repository, documents)?;
        let verified = trusted.verified(Some(repository));
        verified
            .map(Some)
            .map_err(|reason| self.damaged(repository, &reason).into())
    }

    /// The targets document that was last accepted, byte for byte: what an edit builds on.
    ///
    /// # Errors
    /// The store is damaged.
    pub fn accepted_targets(
        &self,
        repository: &RepositoryName,
    ) -> Result<Option<Vec<u8>>, TrustError> {
        let stored = self.store.load(Some(repository))?;
        let accepted = stored.and_then(|stored| stored.accepted);
        Ok(accepted.and_then(|documents| documents.targets))
    }

    /// Fetches the bytes of a target that `verified` vouches for, at most `max` of them.
    ///
    /// # Errors
    /// No such target, too large, not fetched, or not the signed bytes.
    pub async fn fetch(
        &self,
        verified: &Verified,
        name: &str,
        max: u64,
    ) -> Result<Vec<u8>, TrustError> {
        let repository = At(verified.repository.as_ref()).to_string();
        let name = name.to_owned();
        let Some(Target { digest, length, .. }) = verified.target(&name) else {
            return Err(TrustError::NoTarget { repository, name });
        };
        let length = *length;
        if length > max {
            return Err(TrustError::TooLarge { name, length, max });
        }
        let bytes = match self.transport.blob(digest, length).await {
            Ok(bytes) => bytes,
            Err(source) => {
                return Err(TrustError::Fetch {
                    repository,
                    file: name,
                    source,
                });
            }
        };
        if bytes.len() as u64 != length || sha256(&bytes) != *digest {
            return Err(TrustError::Tampered { repository, name });
        }
        Ok(bytes)
    }

    /// Fetches the environment file that `verified` vouches for: that of this environment, and of
    /// no other.
    ///
    /// # Errors
    /// As [`Client::fetch`]; and the repository is another one's.
    pub async fn environment(
        &self,
        verified: &Verified,
        environment: &EnvironmentName,
    ) -> Result<Vec<u8>, TrustError> {
        let name = environment_target(environment);
        let repository = RepositoryName::Environment(environment.clone());
        if verified.repository.as_ref() != Some(&repository) {
            let repository = At(verified.repository.as_ref()).to_string();
            return Err(TrustError::NoTarget { repository, name });
        }
        self.fetch(verified, &name, MAX_ENVIRONMENT).await
    }

    async fn refresh_team(&self, now: Moment) -> Result<TeamRoot, TrustError> {
        let at = At(None);
        let before = self.load(None).await?;
        let mut team = match &before {
            Some(stored) => TeamRoot::stored(stored.trusted.root.clone())
                .map_err(|reason| self.damaged_file(None, &reason))?,
            None => {
                let bytes = self.must(at, MetadataFile::Root(1), cap::ROOT).await?;
                TeamRoot::pinned(self.store.pin(), bytes)
                    .map_err(|reason| at.refused(MetadataFile::Root(1), reason))?
            }
        };
        let outcome = self.follow_team(at, &mut team).await;
        if before.as_ref().map(|b| &b.trusted.root[..]) != Some(team.current().bytes()) {
            let documents = Trusted::new(team.0.clone()).documents();
            let after = Stored {
                trusted: documents,
                accepted: None,
            };
            self.save(None, after).await?;
        }
        outcome?;
        // 5.3.10 for the team's root.
        team.current()
            .fresh(now)
            .map_err(|reason| at.refused(MetadataFile::Root(team.current().version()), reason))?;
        Ok(team)
    }

    async fn follow_team(&self, at: At<'_>, team: &mut TeamRoot) -> Result<(), TrustError> {
        for _ in 0..MAX_ROOT_UPDATES {
            let file = MetadataFile::Root(team.current().version() + 1);
            let Some(bytes) = self.may(at, file, cap::ROOT).await? else {
                return Ok(());
            };
            *team = team
                .next(bytes)
                .map_err(|reason| at.refused(file, reason))?;
        }
        Err(TrustError::TooManyRoots(at.to_string()))
    }

    /// 5.3 to 5.6, in order. `trusted` takes every step that has held.
    async fn update(
        &self,
        at: At<'_>,
        trusted: &mut Option<Trusted>,
        team: &TeamRoot,
        now: Moment,
    ) -> Result<Verified, TrustError> {
        // 5.3 The root; for a repository that was never met, version 1 comes like all others.
        let mut newest = match trusted {
            Some(trusted) => trusted.root().clone(),
            None => {
                let first = MetadataFile::Root(1);
                let bytes = self.must(at, first, cap::ROOT).await?;
                RootChain::begin(at.label().as_deref(), bytes)
                    .map_err(|reason| at.refused(first, reason))?
            }
        };
        for step in 0.. {
            // Nothing is trusted that does not end in a root of the team's.
            if team.anchors(&newest).is_ok() {
                match trusted {
                    Some(trusted)
                        if trusted.root().current().version() == newest.current().version() => {}
                    Some(trusted) => trusted.set_root(newest.clone()),
                    None => *trusted = Some(Trusted::new(newest.clone())),
                }
            }
            if step == MAX_ROOT_UPDATES {
                return Err(TrustError::TooManyRoots(at.to_string()));
            }
            // 5.3.3 Only "there is none" ends the chain: any other answer is an error.
            let file = MetadataFile::Root(newest.current().version() + 1);
            let Some(bytes) = self.may(at, file, cap::ROOT).await? else {
                break;
            };
            newest = newest
                .next(bytes)
                .map_err(|reason| at.refused(file, reason))?;
        }
        let file = MetadataFile::Root(newest.current().version());
        team.anchors(&newest)
            .map_err(|reason| at.refused(file, reason))?;
        let Some(trusted) = trusted else {
            return Err(at.refused(file, Refused::OutOfOrder("the root")));
        };
        trusted
            .root_is_fresh(now)
            .map_err(|reason| at.refused(file, reason))?;

        // 5.4 The timestamp.
        let file = MetadataFile::Timestamp;
        let bytes = self.must(at, file, cap::TIMESTAMP).await?;
        trusted
            .update_timestamp(bytes, now)
            .map_err(|reason| at.refused(file, reason))?;

        // 5.5 The snapshot.
        let wanted = trusted
            .wanted_snapshot()
            .map_err(|reason| at.refused(file, reason))?;
        let file = MetadataFile::Snapshot(wanted.version.get());
        let max = wanted.length.unwrap_or(cap::SNAPSHOT).min(cap::SNAPSHOT);
        let bytes = match trusted.snapshot_at_hand() {
            Some(bytes) => bytes,
            None => self.must(at, file, max).await?,
        };
        trusted
            .update_snapshot(bytes, now)
            .map_err(|reason| at.refused(file, reason))?;

        // 5.6 The targets.
        let wanted = trusted
            .wanted_targets()
            .map_err(|reason| at.refused(file, reason))?;
        let file = MetadataFile::Targets(wanted.version.get());
        let max = wanted.length.unwrap_or(cap::TARGETS).min(cap::TARGETS);
        let bytes = match trusted.targets_at_hand() {
            Some(bytes) => bytes,
            None => self.must(at, file, max).await?,
        };
        trusted
            .update_targets(bytes, now)
            .map_err(|reason| at.refused(file, reason))?;
        trusted
            .verified(at.0)
            .map_err(|reason| at.refused(file, reason))
    }

    /// Fetches a file that may not be there.
    async fn may(
        &self,
        at: At<'_>,
        file: MetadataFile,
        max: u64,
    ) -> Result<Option<Vec<u8>>, TrustError> {
        let name = file.to_string();
        match self.transport.metadata(at.0, &name, max).await {
            // A transport that gives more than it was asked for is not believed either.
            Ok(Some(bytes)) if bytes.len() as u64 > max => {
                Err(at.refused(file, Refused::TooLarge(max)))
            }
            Ok(found) => Ok(found),
            Err(source) => Err(TrustError::Fetch {
                repository: at.to_string(),
                file: name,
                source,
            }),
        }
    }

    /// Fetches a file that must be there.
    async fn must(&self, at: At<'_>, file: MetadataFile, max: u64) -> Result<Vec<u8>, TrustError> {
        let found = self.may(at, file, max).await?;
        found.ok_or_else(|| TrustError::Missing {
            repository: at.to_string(),
            file: file.to_string(),
        })
    }

    fn restore(
        &self,
        repository: &RepositoryName,
        documents: super::workflow::Documents,
    ) -> Result<Trusted, StorageError> {
        Trusted::restore(Some(&repository.to_string()), documents)
            .map_err(|reason| self.damaged(repository, &reason))
    }

    fn damaged(&self, repository: &RepositoryName, reason: &Refused) -> StorageError {
        self.damaged_file(Some(repository), reason)
    }

    fn damaged_file(&self, repository: Option<&RepositoryName>, reason: &Refused) -> StorageError {
        StorageError::Damaged {
            path: self.store.path(repository),
            reason: format!("a document in it is refused: {reason}"),
        }
    }

    async fn load(
        &self,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Stored>, StorageError> {
        let (store, repository) = (self.store.clone(), repository.cloned());
        blocking(move || store.load(repository.as_ref())).await
    }

    async fn save(
        &self,
        repository: Option<&RepositoryName>,
        stored: Stored,
    ) -> Result<(), StorageError> {
        let (store, repository) = (self.store.clone(), repository.cloned());
        blocking(move || store.save(repository.as_ref(), &stored)).await
    }
}

/// Files are read and fsynced off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

/// The repository that a step is about; `None` is the team's root.
#[derive(Clone, Copy)]
struct At<'a>(Option<&'a RepositoryName>);

impl At<'_> {
    fn label(self) -> Option<String> {
        Some(self.to_string())
    }

    fn refused(self, file: MetadataFile, reason: Refused) -> TrustError {
        TrustError::Refused {
            repository: self.to_string(),
            file: file.to_string(),
            reason,
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(super::document::TEAM),
            Some(repository) => repository.fmt(f),
        }
    }
}
