//! One signed document: capped, parsed, bound to its repository; and what a whole set of them says.
//!
//! Signatures are over the canonical form of all that was read, `_type` included, which must be the role's:
//! so a document of one role never passes as another's.

use super::names::RepositoryName;
use super::signatures::{Lacking, Required, Signature, material};
use crate::json;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;
use tough::schema::{Hashes, Role, RoleType, Root, Snapshot, Targets, Timestamp};

/// The signed field that binds a document to its repository.
pub const REPOSITORY_FIELD: &str = "x-tamer-repository";

/// What [`REPOSITORY_FIELD`] says in the team's own root.
pub const TEAM: &str = "team";

/// Size caps in bytes, against endless data; the figures of the reference client, python-tuf.
pub mod cap {
    /// `N.root.json`
    pub const ROOT: u64 = 512_000;
    /// `timestamp.json`
    pub const TIMESTAMP: u64 = 16_384;
    /// `N.snapshot.json`, where the timestamp gives no length.
    pub const SNAPSHOT: u64 = 2_000_000;
    /// `N.targets.json`, where the snapshot gives no length.
    pub const TARGETS: u64 = 5_000_000;
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// More bytes than its kind, or its signed length, allows.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// Not a document of this role.
    #[error("it is not a {role} document")]
    Format {
        /// The role whose document it should be.
        role: RoleType,
        /// Where it breaks the schema.
        #[source]
        source: serde_json::Error,
    },
    /// The signatures are not those of the role's keys, or too few.
    #[error("its signatures do not meet the threshold of the {by} keys")]
    Signatures {
        /// Whose keys: a role's of this root, of the previous root, or the team's.
        by: String,
        /// What is missing.
        #[source]
        source: Lacking,
    },
    /// Signed, but not for this repository.
    #[error("it is signed for {found}, not for {expected}")]
    OtherRepository {
        /// The repository it was asked for.
        expected: String,
        /// What it says itself.
        found: String,
    },
    /// Not the version that was announced.
    #[error("it is version {found}, and version {expected} is needed")]
    Version {
        /// The version that must come.
        expected: u64,
        /// The version that came.
        found: u64,
    },
    /// An older version of what is trusted already.
    #[error("it takes {what} back from version {trusted} to {offered}")]
    Rollback {
        /// What would go back.
        what: &'static str,
        /// The version that is trusted already.
        trusted: u64,
        /// The older one that was offered.
        offered: u64,
    },
    /// Other bytes than those that were accepted under this version.
    #[error("version {0} was accepted before with other bytes: sign the next version")]
    Changed(u64),
    /// No longer valid by the given clock.
    #[error("it expired on {0} by the clock here")]
    Expired(String),
    /// Not the bytes whose length was signed.
    #[error("it has {found} bytes, and {expected} were signed")]
    Length {
        /// The signed length.
        expected: u64,
        /// The length of what came.
        found: u64,
    },
    /// Not the bytes whose digest was signed.
    #[error("its SHA-256 is not the signed one")]
    Hash,
    /// Something the specification demands is not in it.
    #[error("it does not say {0}")]
    Missing(&'static str),
    /// Valid TUF, but not what this client works with.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A needed document came before the one that vouches for it.
    #[error("{0} is not there yet")]
    OutOfOrder(&'static str),
}

/// What is read of a document of any role.
pub trait Readable: DeserializeOwned {
    /// The role.
    const ROLE: RoleType;
    /// The size cap for a document of this role.
    const CAP: u64;
    /// `spec_version`
    fn spec_version(&self) -> &str;
    /// `version`
    fn version(&self) -> u64;
    /// `expires`
    fn expires(&self) -> Moment;
    /// Fields that the schema does not name.
    fn extra(&self) -> &HashMap<String, Value>;
}

/// What is also written: tough's types of the four roles.
pub trait Signable: Role + Readable {}

macro_rules! signable {
    ($($role:ty => $cap:expr),*) => {$(
        impl Signable for $role {}
        impl Readable for $role {
            const ROLE: RoleType = <Self as Role>::TYPE;
            const CAP: u64 = $cap;
            fn spec_version(&self) -> &str {
                &self.spec_version
            }
            fn version(&self) -> u64 {
                self.version.get()
            }
            fn expires(&self) -> Moment {
                Moment(u64::try_from(self.expires.as_millisecond()).unwrap_or(0))
            }
            fn extra(&self) -> &HashMap<String, Value> {
                &self._extra
            }
        }
    )*};
}
signable!(Root => cap::ROOT, Timestamp => cap::TIMESTAMP, Snapshot => cap::SNAPSHOT, Targets => cap::TARGETS);

/// A document as it came, byte for byte, and as it was read.
#[derive(Debug, Clone)]
pub struct Document<T> {
    bytes: Vec<u8>,
    /// What the signatures are over.
    message: Vec<u8>,
    signatures: Vec<Signature>,
    content: T,
}

#[derive(Deserialize)]
struct Envelope {
    signed: Value,
    signatures: Vec<Signature>,
}

impl<T: Readable> Document<T> {
    /// Reads a document; its signatures are still to be verified.
    ///
    /// With a `label`, it must be bound to that repository; `None` reads any TUF repository.
    ///
    /// # Errors
    /// Too large, not of this role, of another specification, or of another repository.
    pub fn parse(bytes: Vec<u8>, label: Option<&str>) -> Result<Self, Refused> {
        if bytes.len() as u64 > T::CAP {
            return Err(Refused::TooLarge(T::CAP));
        }
        let (message, signatures, content) =
            Self::read(&bytes).map_err(|source| Refused::Format {
                role: T::ROLE,
                source,
            })?;
        if !content.spec_version().starts_with("1.") {
            return Err(Refused::Unsupported(
                "it follows another major version of the TUF specification than 1",
            ));
        }
        if let Some(expected) = label {
            let found = content.extra().get(REPOSITORY_FIELD);
            if found.and_then(Value::as_str) != Some(expected) {
                return Err(Refused::OtherRepository {
                    expected: expected.to_owned(),
                    found: match found {
                        Some(Value::String(name)) => name.chars().take(80).collect(),
                        _ => "no repository".to_owned(),
                    },
                });
            }
        }
        Ok(Self {
            bytes,
            message,
            signatures,
            content,
        })
    }

    fn read(bytes: &[u8]) -> Result<(Vec<u8>, Vec<Signature>, T), serde_json::Error> {
        let Envelope { signed, signatures } = serde_json::from_value(json::strict(bytes)?)?;
        let found = signed.get("_type").and_then(Value::as_str);
        if found != Some(&T::ROLE.to_string()) {
            return Err(serde_json::Error::custom("its _type is another role's"));
        }
        let message = json::canonical(&signed)?;
        Ok((message, signatures, serde_json::from_value(signed)?))
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is signed.
    pub fn content(&self) -> &T {
        &self.content
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.content.version()
    }

    /// When it expires.
    pub fn expires(&self) -> Moment {
        self.content.expires()
    }

    /// Refuses a document that has expired.
    ///
    /// # Errors
    /// [`Refused::Expired`]. At the very moment of expiry it is expired.
    pub fn fresh(&self, now: Moment) -> Result<(), Refused> {
        if self.expires() <= now {
            return Err(Refused::Expired(written(self.expires())));
        }
        Ok(())
    }

    /// Refuses a document that lacks a threshold of signatures by the keys that `root` gives its role.
    ///
    /// # Errors
    /// [`Refused::Signatures`], which names the keys as `by`.
    pub fn signed_under(&self, root: &Document<Root>, by: &str) -> Result<(), Refused> {
        self.signed_by(&Required::of(root.content(), T::ROLE), by)
    }

    /// Refuses a document that lacks these signatures.
    ///
    /// # Errors
    /// [`Refused::Signatures`], which names the keys as `by`.
    pub fn signed_by(&self, required: &Required, by: &str) -> Result<(), Refused> {
        let met = required.met_by(&self.message, &self.signatures);
        met.map_err(|source| Refused::Signatures {
            by: by.to_owned(),
            source,
        })
    }
}

/// A moment as metadata write it.
fn written(moment: Moment) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let seconds = i64::try_from(moment.0 / 1000).unwrap_or(i64::MAX);
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = date.and_then(|date| date.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "a day that no calendar has".to_owned())
}

impl Document<Root> {
    /// Refuses a root without consistent snapshots, on which immutable metadata files rest.
    ///
    /// # Errors
    /// [`Refused::Unsupported`].
    pub fn consistent(&self) -> Result<(), Refused> {
        if self.content().consistent_snapshot {
            return Ok(());
        }
        Err(Refused::Unsupported("its snapshots are not consistent"))
    }

    /// Refuses a root that cannot do its work: a role without enough distinct keys. Tamer's own roots are
    /// held to that early; elsewhere such a root is valid, and nothing is ever valid under it.
    ///
    /// # Errors
    /// [`Refused::Missing`].
    pub fn sound(&self) -> Result<(), Refused> {
        let root = self.content();
        for role in [
            RoleType::Root,
            RoleType::Targets,
            RoleType::Snapshot,
            RoleType::Timestamp,
        ] {
            let Some(keys) = root.roles.get(&role) else {
                return Err(Refused::Missing("the keys of all four roles"));
            };
            // By the key itself: one key under two ids must not count twice.
            let distinct: BTreeSet<_> = root.keys(role).map(material).collect();
            let ids: BTreeSet<_> = keys.keyids.iter().map(|id| id.to_vec()).collect();
            if distinct.len() < ids.len() || (distinct.len() as u64) < keys.threshold.get() {
                return Err(Refused::Missing(
                    "as many different keys for each role as its threshold asks for",
                ));
            }
        }
        Ok(())
    }
}

/// A target as the signed metadata describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// SHA-256 of its bytes: also where they are found.
    pub digest: Digest,
    /// Their number.
    pub length: u64,
    /// What the publisher noted beside it; see [`super::editor`].
    pub custom: BTreeMap<String, Value>,
}

/// Reads the targets of a document that a publisher builds on, or offers; clients read with
/// [`super::targets`].
///
/// # Errors
/// A digest that is not a SHA-256, or delegations: a repository here is small enough without.
pub fn targets_of(document: &Document<Targets>) -> Result<BTreeMap<String, Target>, Refused> {
    let content = document.content();
    if let Some(delegations) = &content.delegations
        && !delegations.roles.is_empty()
    {
        return Err(Refused::Unsupported(
            "it delegates to other roles, which is not supported",
        ));
    }
    let mut all = BTreeMap::new();
    for (name, target) in &content.targets {
        let described = Target {
            digest: sha256_of(&target.hashes)?,
            length: target.length,
            custom: target.custom.clone().into_iter().collect(),
        };
        all.insert(name.raw().to_owned(), described);
    }
    Ok(all)
}

/// The SHA-256 among signed hashes.
///
/// # Errors
/// It does not have 32 bytes.
pub fn sha256_of(hashes: &Hashes) -> Result<Digest, Refused> {
    Digest::try_from(&hashes.sha256[..]).map_err(|_| Refused::Missing("a SHA-256 of 32 bytes"))
}

/// What one repository vouches for: every signature, version, length and digest was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Which repository.
    pub repository: RepositoryName,
    /// The version of its root.
    pub root: u64,
    /// The version of its timestamp.
    pub timestamp: u64,
    /// The version of its snapshot.
    pub snapshot: u64,
    /// The version of its targets: what a publisher's next edit builds on.
    pub targets_version: u64,
    /// When the first of its documents expires.
    pub expires: Moment,
    pub(super) targets: BTreeMap<String, Target>,
}

impl Verified {
    /// The target of this name.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.get(name)
    }

    /// All live targets, by name.
    pub fn targets(&self) -> impl Iterator<Item = (&str, &Target)> {
        self.targets
            .iter()
            .map(|(name, target)| (name.as_str(), target))
    }
}
