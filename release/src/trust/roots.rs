//! Chains of roots: a repository's, and the team's that anchors them all. TUF 5.3, pure.

use super::document::{Document, Refused, TEAM};
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;
use tough::schema::Root;

/// A root in force, the last of a chain.
#[derive(Debug, Clone)]
pub struct RootChain {
    /// `None`: of a repository that is not Tamer's.
    label: Option<String>,
    current: Document<Root>,
}

impl RootChain {
    /// The repository that its documents are bound to.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Begins with a root that is trusted for another reason: it is pinned, stored, or about to be
    /// held against the team's keys.
    ///
    /// # Errors
    /// It is not sound, not bound to `label`, or not even signed by its own keys.
    pub fn begin(label: Option<&str>, bytes: Vec<u8>) -> Result<Self, Refused> {
        let current: Document<Root> = Document::parse(bytes, label)?;
        current.consistent()?;
        if label.is_some() {
            current.sound()?;
        }
        current.signed_under(&current, "root")?;
        let label = label.map(str::to_owned);
        Ok(Self { label, current })
    }

    /// The root with the next version.
    ///
    /// # Errors
    /// [`Refused`]; the chain is as it was.
    pub fn next(&self, bytes: Vec<u8>) -> Result<Self, Refused> {
        let new = Document::<Root>::parse(bytes, self.label.as_deref())?;
        new.consistent()?;
        if self.label.is_some() {
            new.sound()?;
        }
        // 5.3.4 A threshold of the keys of the trusted root, and a threshold of its own.
        new.signed_under(&self.current, "previous root")?;
        new.signed_under(&new, "root")?;
        // 5.3.5 Exactly one version further; against rollback, and against skipping.
        // 5.3.6 Whether it has expired does not matter on the way.
        let expected = self.current.version() + 1;
        if new.version() != expected {
            return Err(Refused::Version {
                expected,
                found: new.version(),
            });
        }
        Ok(Self {
            label: self.label.clone(),
            current: new,
        })
    }

    /// The root in force.
    pub fn current(&self) -> &Document<Root> {
        &self.current
    }
}

/// The team's root in force: what anchors every repository.
#[derive(Debug, Clone)]
pub struct TeamRoot(pub(super) RootChain);

impl TeamRoot {
    /// Begins with the pinned version 1.
    ///
    /// # Errors
    /// The bytes are not the pinned ones, or not a sound root of a team.
    pub fn pinned(pin: &Digest, bytes: Vec<u8>) -> Result<Self, Refused> {
        if sha256(&bytes) != *pin {
            return Err(Refused::Hash);
        }
        Self::stored(bytes)
    }

    /// Begins with a version that was verified when it was stored.
    ///
    /// # Errors
    /// Not a sound root of a team.
    pub fn stored(bytes: Vec<u8>) -> Result<Self, Refused> {
        RootChain::begin(Some(TEAM), bytes).map(Self)
    }

    /// The team's root with the next version.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn next(&self, bytes: Vec<u8>) -> Result<Self, Refused> {
        self.0.next(bytes).map(Self)
    }

    /// The document in force.
    pub fn current(&self) -> &Document<Root> {
        self.0.current()
    }

    /// Refuses a repository's root that lacks a threshold of the team's current root keys.
    ///
    /// # Errors
    /// [`Refused::Signatures`].
    pub fn anchors(&self, root: &RootChain) -> Result<(), Refused> {
        root.current().signed_under(self.current(), "team's root")
    }
}
