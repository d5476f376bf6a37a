//! The steps of the workflow, each after the one that vouches for it, over a transport that may lie.
//!
//! The same for every repository. What is Tamer's own comes as an argument: the label that documents are
//! bound to, and the team's root that anchors them.

use super::document::{Refused, Verified, cap};
use super::error::TrustError;
use super::names::{MetadataFile, RepositoryName};
use super::roots::{RootChain, TeamRoot};
use super::transport::{Transport, TransportError};
use super::workflow::{MAX_ROOT_UPDATES, Trusted};
use std::fmt;
use std::time::Duration;
use tamer_core::moment::Moment;

/// How long one file may take, from the question to its last byte: a source that drips holds nobody up for
/// longer. The largest takes that long at 40 KB/s.
pub const FILE_TIME: Duration = Duration::from_secs(120);

/// The repository that a step is about.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// The team's own root.
    Team,
    /// A repository under it.
    Repository(&'a RepositoryName),
    /// One that is not Tamer's: no label, and nobody's root but its own.
    Plain,
}

impl At<'_> {
    fn label(self) -> Option<String> {
        match self {
            Self::Plain => None,
            _ => Some(self.to_string()),
        }
    }

    /// A refusal of one of its files.
    pub fn refused(self, file: impl fmt::Display, reason: Refused) -> TrustError {
        TrustError::Refused {
            repository: self.to_string(),
            file: file.to_string(),
            reason,
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Team => f.write_str(super::document::TEAM),
            Self::Repository(repository) => repository.fmt(f),
            Self::Plain => f.write_str("the repository"),
        }
    }
}

/// The steps for one repository.
#[derive(Clone, Copy)]
pub struct Steps<'a> {
    /// Which.
    pub at: At<'a>,
    /// Where its files come from.
    pub transport: &'a dyn Transport,
}

impl fmt::Debug for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Steps").field(&self.at).finish()
    }
}

impl Steps<'_> {
    /// 5.3 for the team's root: `team` takes every step that has held.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn follow_team(self, team: &mut TeamRoot) -> Result<(), TrustError> {
        for _ in 0..MAX_ROOT_UPDATES {
            let file = MetadataFile::Root(team.current().version() + 1);
            let Some(bytes) = self.may(file, cap::ROOT).await? else {
                return Ok(());
            };
            *team = team
                .next(bytes)
                .map_err(|reason| self.at.refused(file, reason))?;
        }
        Err(TrustError::TooManyRoots(self.at.to_string()))
    }

    /// 5.3 to 5.6, in order. `trusted` takes every step that has held.
    ///
    /// With a `team`, nothing is trusted that does not end in a root of the team's.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn update<'t>(
        self,
        trusted: &'t mut Option<Trusted>,
        team: Option<&TeamRoot>,
        now: Moment,
    ) -> Result<&'t Trusted, TrustError> {
        let at = self.at;
        // 5.3 The root; for a repository that was never met, version 1 comes like all others.
        let mut newest = match trusted {
            Some(trusted) => trusted.root().clone(),
            None => {
                let first = MetadataFile::Root(1);
                let bytes = self.must(first, cap::ROOT).await?;
                RootChain::begin(at.label().as_deref(), bytes)
                    .map_err(|reason| at.refused(first, reason))?
            }
        };
        let anchored = |root: &RootChain| team.map_or(Ok(()), |team| team.anchors(root));
        for step in 0.. {
            if anchored(&newest).is_ok() {
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
            let Some(bytes) = self.may(file, cap::ROOT).await? else {
                break;
            };
            newest = newest
                .next(bytes)
                .map_err(|reason| at.refused(file, reason))?;
        }
        let file = MetadataFile::Root(newest.current().version());
        anchored(&newest).map_err(|reason| at.refused(file, reason))?;
        let Some(trusted) = trusted else {
            return Err(at.refused(file, Refused::OutOfOrder("the root")));
        };
        trusted
            .root_is_fresh(now)
            .map_err(|reason| at.refused(file, reason))?;

        // 5.4 The timestamp.
        let file = MetadataFile::Timestamp;
        let bytes = self.must(file, cap::TIMESTAMP).await?;
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
            None => self.must(file, max).await?,
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
            None => self.must(file, max).await?,
        };
        trusted
            .update_targets(bytes, now)
            .map_err(|reason| at.refused(file, reason))?;
        Ok(trusted)
    }

    /// What an updated repository of Tamer's vouches for.
    ///
    /// # Errors
    /// [`TrustError::Refused`].
    pub fn verified(
        self,
        trusted: &Trusted,
        repository: &RepositoryName,
    ) -> Result<Verified, TrustError> {
        let refused = |reason| {
            let version = trusted.targets().map_or(0, |targets| targets.version());
            self.at.refused(MetadataFile::Targets(version), reason)
        };
        trusted.verified(repository).map_err(refused)
    }

    /// Fetches a file that may not be there, of at most `max` bytes.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn may(
        self,
        file: impl fmt::Display,
        max: u64,
    ) -> Result<Option<Vec<u8>>, TrustError> {
        let name = file.to_string();
        let repository = match self.at {
            At::Repository(repository) => Some(repository),
            At::Team | At::Plain => None,
        };
        let asked = self.transport.metadata(repository, &name, max);
        let answer = match tokio::time::timeout(FILE_TIME, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError::new(format!(
                "it was not whole after {} s",
                FILE_TIME.as_secs()
            ))),
        };
        match answer {
            // A transport that gives more than it was asked for is not believed either.
            Ok(Some(bytes)) if bytes.len() as u64 > max => {
                Err(self.at.refused(name, Refused::TooLarge(max)))
            }
            Ok(found) => Ok(found),
            Err(source) => Err(TrustError::Fetch {
                repository: self.at.to_string(),
                file: name,
                source,
            }),
        }
    }

    /// Fetches a file that must be there, of at most `max` bytes.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn must(self, file: impl fmt::Display, max: u64) -> Result<Vec<u8>, TrustError> {
        let name = file.to_string();
        let found = self.may(&name, max).await?;
        found.ok_or_else(|| TrustError::Missing {
            repository: self.at.to_string(),
            file: name,
        })
    }
}
