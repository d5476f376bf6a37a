//! What is published, as plain files of which only `timestamp.json` is ever replaced; read back
//! strictly, and never believed where it does not parse.

use super::document::{Document, Refused, Signable, cap};
use super::editor::EditError;
use super::names::{MetadataFile, RepositoryName};
use super::roots::RootChain;
use std::path::PathBuf;
use tamer_kit::durable::{self, FileError};

/// Why something offered is not published, or what is published cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// What was offered is refused.
    #[error("{repository}: the offered {what} is refused")]
    Refused {
        /// `team`, or the repository.
        repository: String,
        /// `root` or `targets`.
        what: &'static str,
        /// Why.
        #[source]
        reason: Refused,
    },
    /// A target that does not belong to the repository.
    #[error("{repository}: {target} does not belong here")]
    Stranger {
        /// The repository.
        repository: RepositoryName,
        /// The target.
        target: String,
    },
    /// A release or version that would change.
    #[error("{0} is published already, with other content: choose a new version")]
    Immutable(String),
    /// Someone else published in between.
    #[error(
        "{repository}: these targets follow version {expected}, but version {current} is current: \
         someone else has published; fetch it and publish again"
    )]
    Conflict {
        /// The repository.
        repository: RepositoryName,
        /// The version that the publisher built on.
        expected: u64,
        /// The version that is there.
        current: u64,
    },
    /// A root under which the current targets do not hold, without others that do.
    #[error(
        "{0}: its targets do not hold under this root: hand in targets signed with the new keys together with it"
    )]
    Unsigned(RepositoryName),
    /// Targets that come with a root, and are not the current ones signed anew.
    #[error(
        "{0}: targets that come with a root are the current ones, signed anew: publish what is new before or after it"
    )]
    NotTheSame(RepositoryName),
    /// The team's next root would leave a repository without anchor.
    #[error(
        "{0}: its root is not signed by the team's new keys: hand in its next root, signed by the old and the new keys, before the team's"
    )]
    NotAnchored(RepositoryName),
    /// There is no root yet.
    #[error("{0} has no root yet: register one first")]
    NoRoot(String),
    /// The root does not let this controller vouch.
    #[error("{0}: its root does not name this controller's online keys for snapshot and timestamp")]
    NotOurKeys(RepositoryName),
    /// A published file is not as it was written.
    #[error("{path} is damaged: put it back from a backup", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Refused,
    },
    /// Signing failed.
    #[error("cannot vouch online")]
    Edit(#[from] EditError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The files of one repository, or of the team's root.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) dir: PathBuf,
    pub(super) label: String,
}

impl Files {
    /// Reads a file by its name, which is parsed strictly.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PublicationError> {
        match name.parse() {
            Ok(file) => self.bytes(file),
            Err(_) => Ok(None),
        }
    }

    pub(super) fn path(&self, file: MetadataFile) -> PathBuf {
        self.dir.join(file.to_string())
    }

    pub(super) fn bytes(&self, file: MetadataFile) -> Result<Option<Vec<u8>>, PublicationError> {
        let max = match file {
            MetadataFile::Root(_) => cap::ROOT,
            MetadataFile::Targets(_) => cap::TARGETS,
            MetadataFile::Snapshot(_) => cap::SNAPSHOT,
            MetadataFile::Timestamp => cap::TIMESTAMP,
        };
        Ok(durable::read_capped(&self.path(file), max)?)
    }

    pub(super) fn write(&self, file: MetadataFile, bytes: &[u8]) -> Result<(), PublicationError> {
        durable::create_dir_all(&self.dir, 0o755)?;
        Ok(durable::replace(&self.path(file), bytes, 0o644)?)
    }

    pub(super) fn damaged(&self, file: MetadataFile, reason: Refused) -> PublicationError {
        let path = self.path(file);
        PublicationError::Damaged { path, reason }
    }

    pub(super) fn refused(&self, what: &'static str, reason: Refused) -> PublicationError {
        let repository = self.label.clone();
        PublicationError::Refused {
            repository,
            what,
            reason,
        }
    }

    /// The newest root; all of its predecessors are there.
    pub(super) fn newest_root(&self) -> Result<Option<RootChain>, PublicationError> {
        let mut newest = None;
        for version in 1.. {
            let file = MetadataFile::Root(version);
            let Some(bytes) = self.bytes(file)? else {
                break;
            };
            newest = Some((file, bytes));
        }
        let Some((file, bytes)) = newest else {
            return Ok(None);
        };
        RootChain::begin(Some(&self.label), bytes)
            .map(Some)
            .map_err(|reason| self.damaged(file, reason))
    }

    /// A document of a later version than any yet, or the first; `None` if it is the newest itself.
    pub(super) fn next_root(&self, bytes: &[u8]) -> Result<Option<RootChain>, PublicationError> {
        let refused = |reason| self.refused("root", reason);
        match self.newest_root()? {
            Some(newest) if newest.current().bytes() == bytes => Ok(None),
            Some(newest) => newest.next(bytes.to_vec()).map(Some).map_err(refused),
            None => {
                let first = RootChain::begin(Some(&self.label), bytes.to_vec()).map_err(refused)?;
                match first.current().version() {
                    1 => Ok(Some(first)),
                    found => Err(refused(Refused::Version { expected: 1, found })),
                }
            }
        }
    }

    pub(super) fn document<T: Signable>(
        &self,
        file: MetadataFile,
    ) -> Result<Option<Document<T>>, PublicationError> {
        let Some(bytes) = self.bytes(file)? else {
            return Ok(None);
        };
        Document::parse(bytes, Some(&self.label))
            .map(Some)
            .map_err(|reason| self.damaged(file, reason))
    }
}
