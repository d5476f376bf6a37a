//! The client's rules, pure: bytes and a time in, trust or a refusal out.
//!
//! The numbers in the comments are the steps of the TUF specification 1.0.33, section 5, "detailed
//! client workflow". Nothing here reads a clock, a file or the network; the order of the calls is
//! the order of the steps, and [`super::client`] is the only caller that downloads.

use super::document::{Document, Readable, Refused, Verified, sha256_of};
use super::names::RepositoryName;
use super::roots::RootChain;
use super::targets::{Delegation, Targets, flat};
use tamer_core::moment::Moment;
use tamer_kit::hash::sha256;
use tough::schema::{Metafile, Snapshot, Timestamp};

/// How many new roots one refresh follows (5.3.3, "endless data"); python-tuf's figure.
pub const MAX_ROOT_UPDATES: u64 = 256;

/// What is trusted of one repository, as far as the workflow has come.
#[derive(Debug, Clone)]
pub struct Trusted {
    root: RootChain,
    timestamp: Option<Document<Timestamp>>,
    snapshot: Option<Document<Snapshot>>,
    targets: Option<Document<Targets>>,
}

/// The documents of one repository, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// The newest root.
    pub root: Vec<u8>,
    /// The newest timestamp, if one was accepted.
    pub timestamp: Option<Vec<u8>>,
    /// The newest snapshot, if one was accepted.
    pub snapshot: Option<Vec<u8>>,
    /// The newest targets, if any were accepted.
    pub targets: Option<Vec<u8>>,
}

impl Trusted {
    /// Begins with a root alone.
    pub fn new(root: RootChain) -> Self {
        Self {
            root,
            timestamp: None,
            snapshot: None,
            targets: None,
        }
    }

    /// Begins with what was trusted before. Documents that the root's keys no longer vouch for, or
    /// that rest on such, are forgotten: a root that came since has rotated those keys.
    ///
    /// # Errors
    /// A document that could not have been stored.
    pub fn restore(label: Option<&str>, documents: Documents) -> Result<Self, Refused> {
        let mut trusted = Self::new(RootChain::begin(label, documents.root)?);
        let parsed = documents.timestamp.map(|b| Document::parse(b, label));
        trusted.timestamp = parsed.transpose()?;
        let parsed = documents.snapshot.map(|b| Document::parse(b, label));
        trusted.snapshot = parsed.transpose()?;
        let parsed = documents.targets.map(|b| Document::parse(b, label));
        trusted.targets = parsed.transpose()?;
        trusted.forget_unvouched();
        Ok(trusted)
    }

    /// The documents, byte for byte.
    pub fn documents(&self) -> Documents {
        Documents {
            root: self.root.current().bytes().to_vec(),
            timestamp: self.timestamp.as_ref().map(|d| d.bytes().to_vec()),
            snapshot: self.snapshot.as_ref().map(|d| d.bytes().to_vec()),
            targets: self.targets.as_ref().map(|d| d.bytes().to_vec()),
        }
    }

    /// The root in force.
    pub fn root(&self) -> &RootChain {
        &self.root
    }

    /// The newest timestamp.
    pub fn timestamp(&self) -> Option<&Document<Timestamp>> {
        self.timestamp.as_ref()
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<&Document<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// The newest targets.
    pub fn targets(&self) -> Option<&Document<Targets>> {
        self.targets.as_ref()
    }

    /// 5.3.7 Takes a verified root as the trusted one.
    ///
    /// 5.3.11 Where it has rotated the keys under the trusted timestamp or snapshot, both are
    /// forgotten: an attacker who had those keys may have raised their versions out of reach
    /// ("fast-forward"). Keys were rotated when the document no longer meets the threshold.
    pub fn set_root(&mut self, root: RootChain) {
        self.root = root;
        self.forget_unvouched();
    }

    fn forget_unvouched(&mut self) {
        let root = self.root.current();
        let timestamp = self.timestamp.as_ref();
        let snapshot = self.snapshot.as_ref();
        let vouched = timestamp.is_none_or(|d| d.signed_under(root, "timestamp").is_ok())
            && snapshot.is_none_or(|d| d.signed_under(root, "snapshot").is_ok());
        if !vouched {
            self.timestamp = None;
            self.snapshot = None;
        }
        let targets = self.targets.as_ref();
        if targets.is_some_and(|d| d.signed_under(root, "targets").is_err()) {
            self.targets = None;
        }
    }

    /// 5.3.10 The root that the chain ends with must not have expired ("freeze").
    ///
    /// # Errors
    /// [`Refused::Expired`].
    pub fn root_is_fresh(&self, now: Moment) -> Result<(), Refused> {
        self.root.current().fresh(now)
    }

    /// 5.4 The timestamp.
    ///
    /// # Errors
    /// [`Refused`]; what was trusted stays.
    pub fn update_timestamp(&mut self, bytes: Vec<u8>, now: Moment) -> Result<(), Refused> {
        let new = Document::<Timestamp>::parse(bytes, self.root.label())?;
        // 5.4.2 Signed by a threshold of the timestamp keys.
        new.signed_under(self.root.current(), "timestamp")?;
        let announced = snapshot_meta(&new)?;
        if let Some(trusted) = &self.timestamp {
            // 5.4.3.1 Not older than the trusted one ("rollback"). The same version brings nothing
            // new: the trusted one stays, and must itself still be fresh.
            not_older("the timestamp", trusted.version(), new.version())?;
            if new.version() == trusted.version() {
                return trusted.fresh(now);
            }
            // 5.4.3.2 Nor may it announce an older snapshot.
            let before = snapshot_meta(trusted)?.version.get();
            not_older("the snapshot", before, announced.version.get())?;
        }
        // 5.4.4 Not expired ("freeze").
        new.fresh(now)?;
        // 5.4.5
        self.timestamp = Some(new);
        Ok(())
    }

    /// What the trusted timestamp says of the snapshot that must come next.
    ///
    /// # Errors
    /// There is no trusted timestamp yet.
    pub fn wanted_snapshot(&self) -> Result<&Metafile, Refused> {
        snapshot_meta(self.timestamp.as_ref().ok_or(OUT_OF_ORDER_TIMESTAMP)?)
    }

    /// What the trusted snapshot says of the targets that must come next.
    ///
    /// # Errors
    /// There is no trusted snapshot yet.
    pub fn wanted_targets(&self) -> Result<&Metafile, Refused> {
        targets_meta(self.snapshot.as_ref().ok_or(OUT_OF_ORDER_SNAPSHOT)?)
    }

    /// The trusted snapshot's bytes, if they are the wanted ones: then nothing need be downloaded.
    pub fn snapshot_at_hand(&self) -> Option<Vec<u8>> {
        at_hand(self.wanted_snapshot().ok()?, self.snapshot.as_ref()?)
    }

    /// The trusted targets' bytes, if they are the wanted ones: then nothing need be downloaded.
    pub fn targets_at_hand(&self) -> Option<Vec<u8>> {
        at_hand(self.wanted_targets().ok()?, self.targets.as_ref()?)
    }

    /// 5.5 The snapshot.
    ///
    /// # Errors
    /// [`Refused`]; what was trusted stays.
    pub fn update_snapshot(&mut self, bytes: Vec<u8>, now: Moment) -> Result<(), Refused> {
        let wanted = self.wanted_snapshot()?;
        // 5.5.2 The announced bytes ("mix-and-match").
        announced_bytes(wanted, &bytes)?;
        let new = Document::<Snapshot>::parse(bytes, self.root.label())?;
        // 5.5.3 Signed by a threshold of the snapshot keys.
        new.signed_under(self.root.current(), "snapshot")?;
        // 5.5.4 The announced version.
        announced_version(wanted, new.version())?;
        // 5.5.5 Everything that the trusted one lists is still listed, and no older ("rollback").
        if let Some(trusted) = &self.snapshot {
            for (name, before) in &trusted.content().meta {
                let Some(after) = new.content().meta.get(name) else {
                    return Err(Refused::Missing("all that the trusted snapshot listed"));
                };
                not_older("the targets", before.version.get(), after.version.get())?;
            }
        }
        // 5.5.6 Not expired ("freeze").
        new.fresh(now)?;
        // 5.5.7
        self.snapshot = Some(new);
        Ok(())
    }

    /// 5.6 The targets.
    ///
    /// # Errors
    /// [`Refused`]; what was trusted stays.
    pub fn update_targets(&mut self, bytes: Vec<u8>, now: Moment) -> Result<(), Refused> {
        let wanted = self.wanted_targets()?;
        // 5.6.2 The announced bytes ("mix-and-match").
        announced_bytes(wanted, &bytes)?;
        let new = Document::<Targets>::parse(bytes, self.root.label())?;
        // 5.6.3 Signed by a threshold of the targets keys.
        new.signed_under(self.root.current(), "targets")?;
        // 5.6.4 The announced version.
        announced_version(wanted, new.version())?;
        // 5.6.5 Not expired ("freeze").
        new.fresh(now)?;
        if self.root.label().is_some() {
            flat(&new)?;
            // Not in the specification: a version of targets is what it is. Two of one version were signed
            // behind somebody's back.
            let trusted = self.targets.as_ref();
            let twin = trusted.filter(|trusted| trusted.version() == new.version());
            if twin.is_some_and(|trusted| trusted.bytes() != new.bytes()) {
                return Err(Refused::Changed(new.version()));
            }
        }
        // 5.6.6
        self.targets = Some(new);
        Ok(())
    }

    /// What the trusted snapshot says of a role that is delegated to.
    ///
    /// # Errors
    /// There is no trusted snapshot, or it does not list the role.
    pub fn wanted_role(&self, role: &str) -> Result<&Metafile, Refused> {
        let snapshot = self.snapshot.as_ref().ok_or(OUT_OF_ORDER_SNAPSHOT)?;
        let meta = snapshot.content().meta.get(&format!("{role}.json"));
        meta.ok_or(Refused::Missing("in the snapshot which version is current"))
    }

    /// 5.6.7 The targets of a role, as the one who delegates to it asks for them.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn delegated(
        &self,
        to: &Delegation,
        bytes: Vec<u8>,
        now: Moment,
    ) -> Result<Document<Targets>, Refused> {
        let wanted = self.wanted_role(&to.role)?;
        announced_bytes(wanted, &bytes)?;
        let new = Document::<Targets>::parse(bytes, self.root.label())?;
        new.signed_by(&to.required, "delegated")?;
        announced_version(wanted, new.version())?;
        new.fresh(now)?;
        Ok(new)
    }

    /// What the four documents vouch for together, whether or not they have expired.
    ///
    /// # Errors
    /// One of them is not there, or they do not belong together.
    pub fn verified(&self, repository: &RepositoryName) -> Result<Verified, Refused> {
        let timestamp = self.timestamp.as_ref().ok_or(OUT_OF_ORDER_TIMESTAMP)?;
        let snapshot = self.snapshot.as_ref().ok_or(OUT_OF_ORDER_SNAPSHOT)?;
        let targets = self.targets.as_ref().ok_or(OUT_OF_ORDER_TARGETS)?;
        belongs(
            self.wanted_snapshot()?,
            snapshot.bytes(),
            snapshot.version(),
        )?;
        belongs(self.wanted_targets()?, targets.bytes(), targets.version())?;
        let expires = [
            self.root.current().expires(),
            timestamp.expires(),
            snapshot.expires(),
        ];
        Ok(Verified {
            repository: repository.clone(),
            root: self.root.current().version(),
            timestamp: timestamp.version(),
            snapshot: snapshot.version(),
            targets_version: targets.version(),
            expires: expires.into_iter().fold(targets.expires(), Moment::min),
            targets: flat(targets)?,
        })
    }
}

const OUT_OF_ORDER_TIMESTAMP: Refused = Refused::OutOfOrder("the timestamp");
const OUT_OF_ORDER_SNAPSHOT: Refused = Refused::OutOfOrder("the snapshot");
const OUT_OF_ORDER_TARGETS: Refused = Refused::OutOfOrder("the targets document");

fn snapshot_meta(timestamp: &Document<Timestamp>) -> Result<&Metafile, Refused> {
    let meta = timestamp.content().meta.get("snapshot.json");
    meta.ok_or(Refused::Missing("which snapshot is current"))
}

fn targets_meta(snapshot: &Document<Snapshot>) -> Result<&Metafile, Refused> {
    let meta = snapshot.content().meta.get("targets.json");
    meta.ok_or(Refused::Missing("which targets are current"))
}

fn not_older(what: &'static str, trusted: u64, offered: u64) -> Result<(), Refused> {
    if offered < trusted {
        return Err(Refused::Rollback {
            what,
            trusted,
            offered,
        });
    }
    Ok(())
}

fn announced_version(wanted: &Metafile, found: u64) -> Result<(), Refused> {
    let expected = wanted.version.get();
    if found != expected {
        return Err(Refused::Version { expected, found });
    }
    Ok(())
}

fn announced_bytes(wanted: &Metafile, bytes: &[u8]) -> Result<(), Refused> {
    let found = bytes.len() as u64;
    if let Some(expected) = wanted.length.filter(|expected| *expected != found) {
        return Err(Refused::Length { expected, found });
    }
    match &wanted.hashes {
        Some(hashes) if sha256_of(hashes)? != sha256(bytes) => Err(Refused::Hash),
        _ => Ok(()),
    }
}

fn belongs(wanted: &Metafile, bytes: &[u8], version: u64) -> Result<(), Refused> {
    announced_bytes(wanted, bytes)?;
    announced_version(wanted, version)
}

fn at_hand<T: Readable>(wanted: &Metafile, document: &Document<T>) -> Option<Vec<u8>> {
    let fits = belongs(wanted, document.bytes(), document.version()).is_ok();
    fits.then(|| document.bytes().to_vec())
}
