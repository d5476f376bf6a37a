//! What a host has accepted, byte for byte.
//!
//! One file a repository, replaced atomically, so that no mixed state can exist; a SHA-256 over all
//! of it stands at its end. A file that is *absent* starts from the pinned root. A file that is
//! *damaged* stops everything that needs it: a store that forgets lets old versions be replayed.
//!
//! No reading of a clock is kept: one wrong clock must not lock the store.

use super::names::RepositoryName;
use super::workflow::Documents;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_kit::durable::{self, FileError};
use tamer_kit::hash::sha256;

/// The first line of every file of the store.
const MAGIC: &[u8] = b"tamer-trust 1\n";

/// The largest file of the store, in bytes: two sets of documents at their caps, and the header.
const MAX_STORED: u64 = 16 << 20;

/// Length of the SHA-256 at the end.
const SEAL: usize = 32;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file is not as it was written.
    #[error(
        "the trust store is damaged: {path}: {reason}; nothing new is accepted until it is moved \
         aside, after which trust starts again from the pinned root", path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What is kept of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How far the workflow has come, also where it stopped half way: nothing older is taken again.
    pub trusted: Documents,
    /// The last whole set: what going back rests on.
    pub accepted: Option<Documents>,
}

/// A directory with what this host trusts, under one pinned root.
#[derive(Debug, Clone)]
pub struct TrustStore {
    dir: PathBuf,
    pin: Digest,
}

/// Which document a part of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Root,
    Timestamp,
    Snapshot,
    Targets,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// The pinned root of the team: a store of another team is not this host's.
    pin: Digest,
    /// `team`, or the repository: a file under another's name is refused.
    holds: String,
    /// The parts that follow, in order.
    trusted: Vec<(Kind, usize)>,
    /// Those after them; empty where nothing was accepted yet, or where `same`.
    accepted: Vec<(Kind, usize)>,
    /// The accepted documents are the trusted ones, byte for byte.
    same: bool,
}

impl TrustStore {
    /// A store in `dir`, which need not be there yet, for a host that pins the team's root by the
    /// SHA-256 of its version 1.
    pub fn new(dir: &Path, pin: Digest) -> Self {
        let dir = dir.to_owned();
        Self { dir, pin }
    }

    /// The pinned SHA-256 of the team's root, version 1.
    pub fn pin(&self) -> &Digest {
        &self.pin
    }

    /// The file that keeps this repository, or the team's root.
    pub fn path(&self, repository: Option<&RepositoryName>) -> PathBuf {
        // Names have no dots, so this is unambiguous.
        self.dir.join(match repository {
            None => "team.trust".to_owned(),
            Some(RepositoryName::Application(name)) => format!("app.{name}.trust"),
            Some(RepositoryName::Environment(name)) => format!("env.{name}.trust"),
        })
    }

    /// Reads what is kept; `None` where nothing is yet.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] for anything but exactly what was written here.
    pub fn load(
        &self,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Stored>, StorageError> {
        let path = self.path(repository);
        let Some(bytes) = durable::read_capped(&path, MAX_STORED)? else {
            return Ok(None);
        };
        match self.open(&holds(repository), &bytes) {
            Ok(stored) => Ok(Some(stored)),
            Err(reason) => Err(StorageError::Damaged { path, reason }),
        }
    }

    /// Keeps what is trusted now; durable when it returns.
    ///
    /// # Errors
    /// [`FileError`]; the old file is then still in place.
    pub fn save(
        &self,
        repository: Option<&RepositoryName>,
        stored: &Stored,
    ) -> Result<(), StorageError> {
        let sealed = self.seal(&holds(repository), stored);
        durable::create_dir_all(&self.dir, 0o700)?;
        Ok(durable::replace(&self.path(repository), &sealed, 0o600)?)
    }

    fn seal(&self, holds: &str, stored: &Stored) -> Vec<u8> {
        let same = stored.accepted.as_ref() == Some(&stored.trusted);
        let trusted = parts(&stored.trusted);
        let accepted = match &stored.accepted {
            Some(documents) if !same => parts(documents),
            _ => Vec::new(),
        };
        let sizes = |parts: &[(Kind, &[u8])]| parts.iter().map(|(k, b)| (*k, b.len())).collect();
        let header = Header {
            pin: self.pin,
            holds: holds.to_owned(),
            trusted: sizes(&trusted),
            accepted: sizes(&accepted),
            same,
        };
        let mut bytes = MAGIC.to_vec();
        // A header of names and numbers always serialises.
        bytes.extend(serde_json::to_vec(&header).unwrap_or_default());
        bytes.push(b'\n');
        for (_, part) in trusted.iter().chain(&accepted) {
            bytes.extend_from_slice(part);
        }
        let seal = sha256(&bytes);
        bytes.extend_from_slice(seal.as_bytes());
        bytes
    }

    fn open(&self, holds: &str, bytes: &[u8]) -> Result<Stored, String> {
        let whole = bytes.len().checked_sub(SEAL).ok_or("it is cut off")?;
        let (content, seal) = bytes.split_at(whole);
        if sha256(content).as_bytes() != seal {
            return Err("its checksum does not fit".to_owned());
        }
        let rest = content
            .strip_prefix(MAGIC)
            .ok_or("it is of another format")?;
        let end = rest.iter().position(|b| *b == b'\n');
        let (header, rest) = rest.split_at(end.ok_or("it has no header")?);
        let header: Header = serde_json::from_slice(header).map_err(|e| e.to_string())?;
        if header.pin != self.pin {
            return Err("it belongs to another trust root".to_owned());
        }
        if header.holds != holds {
            return Err(format!("it holds {}, not {holds}", header.holds));
        }
        let mut rest = &rest[1..];
        let trusted = take(&header.trusted, &mut rest)?;
        let accepted = match (header.same, header.accepted.is_empty()) {
            (true, _) => Some(trusted.clone()),
            (false, true) => None,
            (false, false) => Some(take(&header.accepted, &mut rest)?),
        };
        if !rest.is_empty() {
            return Err("there is more in it than its header says".to_owned());
        }
        Ok(Stored { trusted, accepted })
    }
}

fn holds(repository: Option<&RepositoryName>) -> String {
    repository.map_or_else(|| super::document::TEAM.to_owned(), ToString::to_string)
}

fn parts(documents: &Documents) -> Vec<(Kind, &[u8])> {
    let optional = [
        (Kind::Timestamp, &documents.timestamp),
        (Kind::Snapshot, &documents.snapshot),
        (Kind::Targets, &documents.targets),
    ];
    let mut parts = vec![(Kind::Root, &documents.root[..])];
    parts.extend(
        optional
            .into_iter()
            .filter_map(|(kind, bytes)| Some((kind, bytes.as_deref()?))),
    );
    parts
}

fn take(sizes: &[(Kind, usize)], rest: &mut &[u8]) -> Result<Documents, String> {
    let mut found = std::collections::BTreeMap::new();
    for (kind, size) in sizes {
        let (part, after) = rest
            .split_at_checked(*size)
            .ok_or("there is less in it than its header says")?;
        found.insert(*kind, part.to_vec());
        *rest = after;
    }
    Ok(Documents {
        root: found.remove(&Kind::Root).ok_or("it holds no root")?,
        timestamp: found.remove(&Kind::Timestamp),
        snapshot: found.remove(&Kind::Snapshot),
        targets: found.remove(&Kind::Targets),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(version: u8) -> Documents {
        Documents {
            root: vec![version; 40],
            timestamp: Some(vec![version; 3]),
            snapshot: None,
            targets: Some(Vec::new()),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let store = TrustStore::new(&dir.path().join("trust"), Digest::new([1; 32]));
        let shop = "app/shop".parse().unwrap();
        assert_eq!(store.load(Some(&shop)).unwrap(), None);
        for accepted in [None, Some(some(1)), Some(some(2))] {
            let stored = Stored {
                trusted: some(2),
                accepted,
            };
            store.save(Some(&shop), &stored).unwrap();
            assert_eq!(store.load(Some(&shop)).unwrap(), Some(stored));
        }
    }

    #[test]
    fn a_file_of_another_team_or_repository_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = TrustStore::new(dir.path(), Digest::new([1; 32]));
        let (shop, bank) = ("app/shop".parse().unwrap(), "app/bank".parse().unwrap());
        let stored = Stored {
            trusted: some(1),
            accepted: None,
        };
        store.save(Some(&shop), &stored).unwrap();
        std::fs::copy(store.path(Some(&shop)), store.path(Some(&bank))).unwrap();
        let said = store.load(Some(&bank)).unwrap_err().to_string();
        assert!(said.contains("holds app/shop, not app/bank"), "{said}");
        let other = TrustStore::new(dir.path(), Digest::new([2; 32]));
        let said = other.load(Some(&shop)).unwrap_err().to_string();
        assert!(said.contains("another trust root"), "{said}");
        assert!(
            said.contains(&*store.path(Some(&shop)).to_string_lossy()),
            "{said}"
        );
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = TrustStore::new(dir.path(), Digest::new([1; 32]));
        let stored = Stored {
            trusted: some(2),
            accepted: Some(some(1)),
        };
        let whole = store.seal("app/shop", &stored);
        assert_eq!(store.open("app/shop", &whole), Ok(stored));
        for length in 0..whole.len() {
            assert!(
                store.open("app/shop", &whole[..length]).is_err(),
                "{length}"
            );
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(store.open("app/shop", &flipped).is_err(), "{bit}");
        }
    }
}
