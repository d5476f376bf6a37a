//! The workflow over a transport: what a host, or an engineer's machine, believes of a repository.

use super::document::{Refused, Target, Verified, cap};
use super::error::TrustError;
use super::names::{MetadataFile, RepositoryName, environment_target};
use super::roots::TeamRoot;
use super::steps::{At, Steps};
use super::storage::{StorageError, Stored, TrustStore};
use super::transport::Transport;
use super::workflow::Trusted;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use tamer_core::environment::MAX_ENVIRONMENT;
use tamer_core::id::EnvironmentName;
use tamer_core::moment::Moment;
use tamer_kit::hash::sha256;
use tokio::sync::Mutex;

/// Refreshes repositories and fetches what they vouch for.
pub struct Client {
    store: TrustStore,
    transport: Arc<dyn Transport>,
    /// One refresh of a repository at a time: each file of the store has one writer. None waits for
    /// another's, so one that is served slowly holds up itself alone.
    turns: std::sync::Mutex<BTreeMap<Option<RepositoryName>, Arc<Mutex<()>>>>,
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
            turns: std::sync::Mutex::default(),
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
        let team = self.refresh_team(now).await?;
        let turn = self.turn(Some(repository));
        let _turn = turn.lock().await;
        let steps = self.steps(At::Repository(repository));
        let before = self.load(Some(repository)).await?;
        let mut trusted = match &before {
            Some(stored) => Some(self.restore(repository, stored.trusted.clone())?),
            None => None,
        };
        let outcome = match steps.update(&mut trusted, Some(&team), now).await {
            Ok(trusted) => steps.verified(trusted, repository),
            Err(error) => Err(error),
        };
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
        let verified = trusted.verified(repository);
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
        let repository = verified.repository.to_string();
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
        if verified.repository != repository {
            let repository = verified.repository.to_string();
            return Err(TrustError::NoTarget { repository, name });
        }
        self.fetch(verified, &name, MAX_ENVIRONMENT).await
    }

    fn turn(&self, repository: Option<&RepositoryName>) -> Arc<Mutex<()>> {
        let turns = self.turns.lock();
        let mut turns = turns.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(repository.cloned()).or_default())
    }

    async fn refresh_team(&self, now: Moment) -> Result<TeamRoot, TrustError> {
        let turn = self.turn(None);
        let _turn = turn.lock().await;
        let at = At::Team;
        let steps = self.steps(at);
        let before = self.load(None).await?;
        let mut team = match &before {
            Some(stored) => TeamRoot::stored(stored.trusted.root.clone())
                .map_err(|reason| self.damaged_file(None, &reason))?,
            None => {
                let bytes = steps.must(MetadataFile::Root(1), cap::ROOT).await?;
                TeamRoot::pinned(self.store.pin(), bytes)
                    .map_err(|reason| at.refused(MetadataFile::Root(1), reason))?
            }
        };
        let outcome = steps.follow_team(&mut team).await;
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

    fn steps<'a>(&'a self, at: At<'a>) -> Steps<'a> {
        Steps {
            at,
            transport: &*self.transport,
        }
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
