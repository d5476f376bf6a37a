//! The controller's side: what the team offers is verified with the same code that hosts run, kept
//! in plain files that are only ever added to, and vouched for with the online keys.
//!
//! The controller cannot make a root or targets. It holds the snapshot and timestamp keys, and says
//! with them which of the team's documents are current. Files are durable before an answer is given,
//! and `timestamp.json`, the only one that is replaced, is written last: whoever reads meanwhile
//! sees the old set, whole, or the new one.

use super::document::{Document, Refused, Signable, TEAM, Target, targets_of};
use super::editor::{self, SNAPSHOT_LIFE, TIMESTAMP_LIFE};
use super::files::{Files, PublicationError};
use super::keys::{PublicKey, SigningKey};
use super::live::may_replace;
use super::names::{MetadataFile, RepositoryName};
use super::roots::{RootChain, TeamRoot};
use super::workflow::Trusted;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tamer_core::moment::{Moment, Span};
use tamer_kit::hash::sha256;
use tough::schema::{RoleType, Root, Snapshot, Targets, Timestamp};

/// The team's root, as the controller serves it. One writer is assumed.
#[derive(Debug)]
pub struct PublishedTeam {
    files: Files,
}

impl PublishedTeam {
    /// The team's root under `base`, in `base/team`.
    pub fn new(base: &Path) -> Self {
        let files = Files {
            dir: base.join(TEAM),
            label: TEAM.to_owned(),
        };
        Self { files }
    }

    /// The root in force; `None` before the first is registered.
    ///
    /// # Errors
    /// A file is damaged or cannot be read.
    pub fn current(&self) -> Result<Option<TeamRoot>, PublicationError> {
        Ok(self.files.newest_root()?.map(TeamRoot))
    }

    /// What an offered root would put in force; `None` if it is the newest itself.
    ///
    /// # Errors
    /// It is refused.
    pub fn check_root(
        &self,
        bytes: &[u8],
        now: Moment,
    ) -> Result<Option<TeamRoot>, PublicationError> {
        let Some(next) = self.files.next_root(bytes)? else {
            return Ok(None);
        };
        let fresh = next.current().fresh(now);
        fresh.map_err(|reason| self.files.refused("root", reason))?;
        Ok(Some(TeamRoot(next)))
    }

    /// Takes version 1 where there is none, or the version that follows; durable when it returns.
    /// The newest version, offered again, is fine. The caller has seen to it that the new keys
    /// anchor every repository: [`PublishedRepository::anchored`].
    ///
    /// # Errors
    /// It is refused, or cannot be written.
    pub fn accept_root(&mut self, bytes: &[u8], now: Moment) -> Result<u64, PublicationError> {
        let Some(next) = self.check_root(bytes, now)? else {
            return Ok(self
                .files
                .newest_root()?
                .map_or(0, |r| r.current().version()));
        };
        let version = next.current().version();
        self.files.write(MetadataFile::Root(version), bytes)?;
        Ok(version)
    }

    /// A file by its name: `1.root.json`; `None` for every other name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>, PublicationError> {
        self.files.read(file)
    }
}

/// One repository, as the controller serves it. One writer is assumed.
#[derive(Debug)]
pub struct PublishedRepository {
    name: RepositoryName,
    files: Files,
    online: Vec<Arc<SigningKey>>,
}

/// What is published now; a document that the newest root's keys no longer vouch for is in it too.
struct State {
    root: RootChain,
    timestamp: Option<Document<Timestamp>>,
    snapshot: Option<Document<Snapshot>>,
    targets: Option<Document<Targets>>,
}

impl PublishedRepository {
    /// The repository `name` under `base`, in `base/app/shop`, vouched for with these keys.
    pub fn new(base: &Path, name: RepositoryName, online: Vec<Arc<SigningKey>>) -> Self {
        let label = name.to_string();
        let files = Files {
            dir: base.join(&label),
            label,
        };
        Self {
            name,
            files,
            online,
        }
    }

    /// Its name.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Whether the newest root lets this key vouch online.
    ///
    /// # Errors
    /// A file is damaged or cannot be read.
    pub fn lets_vouch(&self, key: &PublicKey) -> Result<bool, PublicationError> {
        let root = self.files.newest_root()?;
        Ok(root.is_some_and(|root| {
            let roles = [RoleType::Snapshot, RoleType::Timestamp];
            let mut keys = roles
                .into_iter()
                .flat_map(|role| root.current().content().keys(role));
            keys.any(|named| named == key.key())
        }))
    }

    /// A file by its name: `3.targets.json`; `None` where there is none, or for any other name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>, PublicationError> {
        self.files.read(file)
    }

    /// The targets document that is current, byte for byte: what a publisher's next edit builds on.
    ///
    /// # Errors
    /// A file is damaged or cannot be read.
    pub fn targets(&self) -> Result<Option<Vec<u8>>, PublicationError> {
        let state = self.state()?;
        let targets = state.and_then(|state| state.targets);
        Ok(targets.map(|targets| targets.bytes().to_vec()))
    }

    /// Refuses a team's next root under which this repository would stand without anchor.
    ///
    /// # Errors
    /// [`PublicationError::NotAnchored`], or a file is damaged.
    pub fn anchored(&self, next: &TeamRoot) -> Result<(), PublicationError> {
        match self.files.newest_root()? {
            Some(root) if next.anchors(&root).is_err() => {
                Err(PublicationError::NotAnchored(self.name.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Takes the first root, or the one that follows, then vouches anew. It must be signed by the
    /// team's current root keys and name this controller's online keys. The current targets must hold
    /// under it.
    ///
    /// # Errors
    /// [`PublicationError`]; nothing was published.
    pub fn accept_root(
        &mut self,
        bytes: &[u8],
        team: &TeamRoot,
        now: Moment,
    ) -> Result<u64, PublicationError> {
        self.accept_root_with(bytes, None, team, now)
    }

    /// As [`Self::accept_root`]; a root with other publishing keys brings the current targets along,
    /// signed anew, with the version that they follow: so there is no moment at which hosts are
    /// offered targets that do not hold. Offered again after a crash, it goes on where it stopped.
    ///
    /// # Errors
    /// [`PublicationError`]; nothing was published.
    pub fn accept_root_with(
        &mut self,
        bytes: &[u8],
        targets: Option<(&[u8], u64)>,
        team: &TeamRoot,
        now: Moment,
    ) -> Result<u64, PublicationError> {
        if let Some(next) = self.files.next_root(bytes)? {
            let refused = |reason| self.files.refused("root", reason);
            team.anchors(&next).map_err(refused)?;
            next.current().fresh(now).map_err(refused)?;
            for role in [RoleType::Snapshot, RoleType::Timestamp] {
                self.signers(next.current(), role)?;
            }
            let file = MetadataFile::Root(next.current().version());
            if let Some(mut state) = self.state()? {
                state.root = next;
                self.hold(&state, targets, now)?;
            }
            self.files.write(file, bytes)?;
        }
        // Also after a crash between the two: then the root is there already.
        match targets {
            Some((targets, previous)) => drop(self.accept_targets(targets, previous, now)?),
            None => drop(self.resign(now)?),
        }
        let state = self.state()?;
        Ok(state.map_or(0, |state| state.root.current().version()))
    }

    /// The current targets hold under a new root, or are brought along as they are, signed anew.
    fn hold(
        &self,
        state: &State,
        with: Option<(&[u8], u64)>,
        now: Moment,
    ) -> Result<(), PublicationError> {
        let Some(current) = &state.targets else {
            return Ok(());
        };
        let Some((targets, previous)) = with else {
            let holds = current.signed_under(state.root.current(), "targets");
            return holds.map_err(|_| PublicationError::Unsigned(self.name.clone()));
        };
        let (_, after) = self.check(state, targets, previous, now)?;
        let refused = |reason| self.files.refused("targets", reason);
        if targets_of(current).map_err(refused)? != after {
            return Err(PublicationError::NotTheSame(self.name.clone()));
        }
        Ok(())
    }

    /// Looks at targets that are offered, without publishing them: what they name, so that the
    /// caller can see that every blob is there.
    ///
    /// `previous` is the version that the publisher built on, 0 for none.
    ///
    /// # Errors
    /// [`PublicationError`], [`PublicationError::Conflict`] among them.
    pub fn check_targets(
        &self,
        bytes: &[u8],
        previous: u64,
        now: Moment,
    ) -> Result<BTreeMap<String, Target>, PublicationError> {
        let state = self.state()?.ok_or_else(|| self.no_root())?;
        Ok(self.check(&state, bytes, previous, now)?.1)
    }

    /// Publishes targets: verifies them, keeps them, and vouches for them. Durable when it returns.
    /// The current targets, offered again, are fine: an answer may have been lost.
    ///
    /// # Errors
    /// [`PublicationError`]; what was current still is.
    pub fn accept_targets(
        &mut self,
        bytes: &[u8],
        previous: u64,
        now: Moment,
    ) -> Result<u64, PublicationError> {
        let mut state = self.state()?.ok_or_else(|| self.no_root())?;
        let current = state.targets.as_ref();
        if current.is_none_or(|current| current.bytes() != bytes) {
            let (targets, _) = self.check(&state, bytes, previous, now)?;
            // A version that no snapshot names was never current: a crash left it, and this one
            // takes its place.
            self.files
                .write(MetadataFile::Targets(targets.version()), bytes)?;
            state.targets = Some(targets);
        }
        let version = state.targets.as_ref().map_or(0, Document::version);
        self.vouch(&mut state, now)?;
        Ok(version)
    }

    /// Signs snapshot and timestamp anew where less than half of their life is left, or where the
    /// newest root asks for other keys. Call it at least every few hours; `true` if anything changed.
    ///
    /// # Errors
    /// [`PublicationError`]; what was current still is.
    pub fn resign(&mut self, now: Moment) -> Result<bool, PublicationError> {
        match self.state()? {
            Some(mut state) => self.vouch(&mut state, now),
            None => Ok(false),
        }
    }

    fn no_root(&self) -> PublicationError {
        PublicationError::NoRoot(self.name.to_string())
    }

    fn state(&self) -> Result<Option<State>, PublicationError> {
        let Some(root) = self.files.newest_root()? else {
            return Ok(None);
        };
        let mut state = State {
            root,
            timestamp: self.files.document(MetadataFile::Timestamp)?,
            snapshot: None,
            targets: None,
        };
        if let Some(timestamp) = &state.timestamp {
            let version = version_of(&timestamp.content().meta, "snapshot.json");
            let file = MetadataFile::Snapshot(version);
            let snapshot: Option<Document<Snapshot>> = self.files.document(file)?;
            let Some(snapshot) = snapshot else {
                return Err(self.files.damaged(file, Refused::OutOfOrder("the file")));
            };
            let file = MetadataFile::Targets(version_of(&snapshot.content().meta, "targets.json"));
            state.targets = self.files.document(file)?;
            if state.targets.is_none() {
                return Err(self.files.damaged(file, Refused::OutOfOrder("the file")));
            }
            state.snapshot = Some(snapshot);
        }
        Ok(Some(state))
    }

    fn check(
        &self,
        state: &State,
        bytes: &[u8],
        previous: u64,
        now: Moment,
    ) -> Result<(Document<Targets>, BTreeMap<String, Target>), PublicationError> {
        let refused = |reason| self.files.refused("targets", reason);
        let label = self.name.to_string();
        let current = state.targets.as_ref().map_or(0, Document::version);
        let new = Document::<Targets>::parse(bytes.to_vec(), Some(&label)).map_err(refused)?;
        new.signed_under(state.root.current(), "targets")
            .map_err(refused)?;
        if previous != current {
            return Err(PublicationError::Conflict {
                repository: self.name.clone(),
                expected: previous,
                current,
            });
        }
        if new.version() != current + 1 {
            let (expected, found) = (current + 1, new.version());
            return Err(refused(Refused::Version { expected, found }));
        }
        new.fresh(now).map_err(refused)?;
        let before = match &state.targets {
            Some(document) => targets_of(document).map_err(refused)?,
            None => BTreeMap::new(),
        };
        let after = targets_of(&new).map_err(refused)?;
        for (name, target) in &after {
            let Some(purpose) = self.name.purpose(name) else {
                let (repository, target) = (self.name.clone(), name.clone());
                return Err(PublicationError::Stranger { repository, target });
            };
            let old = before.get(name);
            if old.is_some_and(|old| !may_replace(&purpose, old, target)) {
                return Err(PublicationError::Immutable(name.clone()));
            }
        }
        Ok((new, after))
    }

    /// Makes snapshot and timestamp fit the state, writing the timestamp last.
    fn vouch(&mut self, state: &mut State, now: Moment) -> Result<bool, PublicationError> {
        let Some(targets) = &state.targets else {
            return Ok(false);
        };
        let root = state.root.current();
        let label = &self.files.label;
        let mut changed = false;
        let snapshot = match state.snapshot.take() {
            Some(old) if fits(&old, root, targets, SNAPSHOT_LIFE, now) => old,
            old => {
                let version = old.map_or(1, |old| old.version() + 1);
                let signers = self.signers(root, RoleType::Snapshot)?;
                let expires = now + SNAPSHOT_LIFE;
                let bytes = editor::snapshot(label, targets, version, expires, &signers)?;
                self.files.write(MetadataFile::Snapshot(version), &bytes)?;
                changed = true;
                self.ours(MetadataFile::Snapshot(version), bytes)?
            }
        };
        let timestamp = match state.timestamp.take() {
            Some(old) if fits(&old, root, &snapshot, TIMESTAMP_LIFE, now) => old,
            old => {
                let version = old.map_or(1, |old| old.version() + 1);
                let signers = self.signers(root, RoleType::Timestamp)?;
                let expires = now + TIMESTAMP_LIFE;
                let bytes = editor::timestamp(label, &snapshot, version, expires, &signers)?;
                // What hosts will do with it, before they can see it.
                let mut host = Trusted::new(state.root.clone());
                host.update_timestamp(bytes.clone(), now)
                    .and_then(|()| host.update_snapshot(snapshot.bytes().to_vec(), now))
                    .map_err(|reason| self.files.damaged(MetadataFile::Timestamp, reason))?;
                self.files.write(MetadataFile::Timestamp, &bytes)?;
                changed = true;
                self.ours(MetadataFile::Timestamp, bytes)?
            }
        };
        state.snapshot = Some(snapshot);
        state.timestamp = Some(timestamp);
        Ok(changed)
    }

    fn ours<T: Signable>(
        &self,
        file: MetadataFile,
        bytes: Vec<u8>,
    ) -> Result<Document<T>, PublicationError> {
        Document::parse(bytes, Some(&self.files.label))
            .map_err(|reason| self.files.damaged(file, reason))
    }

    /// Our keys among those of a role, enough of them.
    fn signers(
        &self,
        root: &Document<Root>,
        role: RoleType,
    ) -> Result<Vec<&SigningKey>, PublicationError> {
        let named = |key: &&SigningKey| root.content().keys(role).any(|k| k == key.public().key());
        let signers: Vec<_> = self.online.iter().map(Arc::as_ref).filter(named).collect();
        let threshold = root.content().roles.get(&role).map(|r| r.threshold.get());
        if threshold.is_none_or(|threshold| (signers.len() as u64) < threshold) {
            return Err(PublicationError::NotOurKeys(self.name.clone()));
        }
        Ok(signers)
    }
}

/// A document that says which version of another is current.
trait Announces: Signable {
    fn announced(&self) -> Option<&tough::schema::Metafile>;
}

impl Announces for Timestamp {
    fn announced(&self) -> Option<&tough::schema::Metafile> {
        self.meta.get("snapshot.json")
    }
}

impl Announces for Snapshot {
    fn announced(&self) -> Option<&tough::schema::Metafile> {
        self.meta.get("targets.json")
    }
}

/// Whether `old` still vouches for `of`, under the newest root, with half of its life left. One that
/// outlives its life was signed by a clock that ran ahead, and does not fit either.
fn fits<T: Announces, U: Signable>(
    old: &Document<T>,
    root: &Document<Root>,
    of: &Document<U>,
    life: Span,
    now: Moment,
) -> bool {
    let announced = old.content().announced().is_some_and(|meta| {
        let digest = meta.hashes.as_ref().map(|hashes| &hashes.sha256[..]);
        meta.version.get() == of.version() && digest == Some(sha256(of.bytes()).as_bytes())
    });
    let left = old.expires().since(now);
    let young = left >= life.0 / 2 && left <= life.0;
    announced && young && old.signed_under(root, "online").is_ok()
}

fn version_of(
    meta: &std::collections::HashMap<String, tough::schema::Metafile>,
    name: &str,
) -> u64 {
    meta.get(name).map_or(0, |meta| meta.version.get())
}
