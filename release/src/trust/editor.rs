//! Making and signing documents. Pure but for the keys: what goes in decides what comes out, and
//! time is an argument.
//!
//! Roots and targets are the team's, made offline or in CI. Snapshots and timestamps are the
//! controller's, see [`super::publication`].

use super::document::{Document, REPOSITORY_FIELD, Refused, Signable, TEAM};
use super::keys::{KeyError, PublicKey};
use super::names::RepositoryName;
use super::signer::Signer;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tamer_core::digest::Digest;
use tamer_core::moment::{Moment, Span};
use tough::schema::{Role, RoleType, Root, Signature, Signed, Snapshot, Targets, Timestamp};

/// How long a root is valid: bringing the root keys out once a year is rehearsal, not burden.
pub const ROOT_LIFE: Span = Span::secs(365 * DAY);
/// How long targets are valid: the offline bound on how long a controller in the wrong hands can
/// hold back news. A team that publishes nothing for a quarter signs again.
pub const TARGETS_LIFE: Span = Span::secs(90 * DAY);
/// How long a snapshot is valid: a controller that was away for a long weekend stops nobody.
pub const SNAPSHOT_LIFE: Span = Span::secs(7 * DAY);
/// How long a timestamp is valid: the bound on how long a stranger on the wire can hold back news.
pub const TIMESTAMP_LIFE: Span = Span::secs(DAY);

const DAY: u64 = 24 * 60 * 60;

/// The signed field of a root that says who holds which key, by key id. It decides nothing.
pub const HOLDERS_FIELD: &str = "x-tamer-holders";

/// The TUF specification that these documents follow.
const SPEC_VERSION: &str = "1.0.33";

/// Why a document cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A threshold of none, or of more keys than there are.
    #[error("a threshold of {threshold} cannot be met with {keys} keys")]
    Threshold {
        /// The threshold asked for.
        threshold: u64,
        /// The number of different keys.
        keys: usize,
    },
    /// A target whose name does not belong to the repository.
    #[error("{target} does not belong to {repository}")]
    Stranger {
        /// The target.
        target: String,
        /// The repository.
        repository: RepositoryName,
    },
    /// A release or version would change, which none ever does.
    #[error("{0} is published already, with other content: choose a new version")]
    Immutable(String),
    /// A target that is to be removed is not there.
    #[error("{0} is not a live target")]
    NotThere(String),
    /// The document is not what this code can work with.
    #[error("the document is refused")]
    Refused(#[from] Refused),
    /// A moment that the calendar does not have.
    #[error("the expiry is not a date")]
    Date,
    /// A key refused to sign.
    #[error("cannot sign")]
    Key(#[from] KeyError),
    /// The document cannot be written as JSON.
    #[error("cannot write the document")]
    Json(#[from] serde_json::Error),
    /// The document has no canonical form.
    #[error("cannot bring the document into canonical form")]
    Canonical(#[source] Box<tough::schema::Error>),
}

/// The keys of one role, and how many of them must sign.
#[derive(Debug, Clone)]
pub struct RoleKeys {
    /// The public keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign; at least one, at most all.
    pub threshold: u64,
}

impl RoleKeys {
    /// One key, which must sign.
    pub fn one(key: &PublicKey) -> Self {
        Self {
            keys: vec![key.clone()],
            threshold: 1,
        }
    }

    /// The keys that a root gives a role: what its next version starts from.
    ///
    /// # Errors
    /// It gives the role none.
    pub fn of(root: &Document<Root>, role: RoleType) -> Result<Self, Refused> {
        let missing = Refused::Missing("the keys of all four roles");
        let threshold = match root.content().roles.get(&role) {
            Some(keys) => keys.threshold.get(),
            None => return Err(missing),
        };
        let keys = root.content().keys(role).cloned().map(PublicKey::try_from);
        match keys.collect() {
            Ok(keys) => Ok(Self { keys, threshold }),
            Err(_) => Err(missing),
        }
    }

    fn entry(&self) -> Result<Value, EditError> {
        let ids: std::collections::BTreeSet<_> = self.keys.iter().map(PublicKey::id).collect();
        if self.threshold == 0 || self.threshold > ids.len() as u64 {
            return Err(EditError::Threshold {
                threshold: self.threshold,
                keys: ids.len(),
            });
        }
        Ok(json!({ "keyids": ids, "threshold": self.threshold }))
    }
}

/// What a repository's root says of its roles.
#[derive(Debug, Clone)]
pub struct RepositoryRoles {
    /// The team's root keys.
    pub root: RoleKeys,
    /// The keys that publish: releases, or the environment file.
    pub targets: RoleKeys,
    /// The controller's keys, for snapshot and timestamp.
    pub online: RoleKeys,
}

/// Makes the team's root, version 1 or the next. All who sign it need not sit at one machine: see
/// [`cosign`]. A next version needs a threshold of the previous root's keys too.
///
/// # Errors
/// [`EditError`].
pub fn team_root(
    keys: &RoleKeys,
    version: u64,
    expires: Moment,
    signers: &[&(impl Signer + ?Sized)],
) -> Result<Vec<u8>, EditError> {
    // The specification wants all four roles named; only `root` is ever used here.
    let nobody = BTreeMap::new();
    root(TEAM, [keys; 4], version, expires, &nobody, signers)
}

/// Makes a repository's root, version 1 or the next, to be signed by a threshold of the team's root
/// keys, and for a next version by a threshold of the previous version's.
///
/// # Errors
/// [`EditError`].
pub fn repository_root(
    repository: &RepositoryName,
    roles: &RepositoryRoles,
    version: u64,
    expires: Moment,
    signers: &[&(impl Signer + ?Sized)],
) -> Result<Vec<u8>, EditError> {
    let RepositoryRoles {
        root: team,
        targets,
        online,
    } = roles;
    let roles = [team, targets, online, online];
    let label = repository.to_string();
    root(&label, roles, version, expires, &BTreeMap::new(), signers)
}

/// A root, with a word about who holds which key.
pub(super) fn root<S: Signer + ?Sized>(
    label: &str,
    [root, targets, snapshot, timestamp]: [&RoleKeys; 4],
    version: u64,
    expires: Moment,
    holders: &BTreeMap<String, String>,
    signers: &[&S],
) -> Result<Vec<u8>, EditError> {
    let mut keys = Map::new();
    for key in [root, targets, snapshot, timestamp]
        .into_iter()
        .flat_map(|role| &role.keys)
    {
        keys.insert(key.id(), serde_json::to_value(key.key())?);
    }
    let mut document = header("root", label, version, expires)?;
    document["consistent_snapshot"] = json!(true);
    document["keys"] = Value::Object(keys);
    if !holders.is_empty() {
        document[HOLDERS_FIELD] = json!(holders);
    }
    document["roles"] = json!({
        "root": root.entry()?,
        "targets": targets.entry()?,
        "snapshot": snapshot.entry()?,
        "timestamp": timestamp.entry()?,
    });
    sign::<Root>(document, signers)
}

/// Adds one more signature to a document, for teams whose root keys lie on several machines.
///
/// # Errors
/// Not a document of this role, or the key refused.
pub fn cosign<T: Signable>(
    bytes: &[u8],
    signer: &(impl Signer + ?Sized),
) -> Result<Vec<u8>, EditError> {
    // Parsed for its caps first, then taken as it is.
    Document::<T>::parse(bytes.to_vec(), None)?;
    let mut signed: Signed<T> = serde_json::from_slice(bytes)?;
    let signature = signature(&signed.signed, signer)?;
    signed.signatures.retain(|s| s.keyid != signature.keyid);
    signed.signatures.push(signature);
    write(&signed)
}

/// Makes a snapshot that announces these targets.
///
/// # Errors
/// [`EditError`].
pub fn snapshot(
    label: &str,
    targets: &Document<Targets>,
    version: u64,
    expires: Moment,
    signers: &[&(impl Signer + ?Sized)],
) -> Result<Vec<u8>, EditError> {
    let mut document = header("snapshot", label, version, expires)?;
    document["meta"] = json!({ "targets.json": announce(targets) });
    sign::<Snapshot>(document, signers)
}

/// Makes a timestamp that announces this snapshot.
///
/// # Errors
/// [`EditError`].
pub fn timestamp(
    label: &str,
    snapshot: &Document<Snapshot>,
    version: u64,
    expires: Moment,
    signers: &[&(impl Signer + ?Sized)],
) -> Result<Vec<u8>, EditError> {
    let mut document = header("timestamp", label, version, expires)?;
    document["meta"] = json!({ "snapshot.json": announce(snapshot) });
    sign::<Timestamp>(document, signers)
}

/// Makes targets from entries that [`super::live`] chose.
///
/// # Errors
/// [`EditError`].
pub(super) fn targets(
    label: &str,
    entries: &BTreeMap<String, super::document::Target>,
    version: u64,
    expires: Moment,
    signers: &[&(impl Signer + ?Sized)],
) -> Result<Vec<u8>, EditError> {
    let mut document = header("targets", label, version, expires)?;
    let entries: Map<_, _> = entries
        .iter()
        .map(|(name, target)| {
            let mut entry = file(&target.digest, target.length);
            if !target.custom.is_empty() {
                entry["custom"] = json!(target.custom);
            }
            (name.clone(), entry)
        })
        .collect();
    document["targets"] = Value::Object(entries);
    sign::<Targets>(document, signers)
}

fn announce<T: Signable>(document: &Document<T>) -> Value {
    let digest = tamer_kit::hash::sha256(document.bytes());
    let mut entry = file(&digest, document.bytes().len() as u64);
    entry["version"] = json!(document.version());
    entry
}

fn file(digest: &Digest, length: u64) -> Value {
    json!({ "length": length, "hashes": { "sha256": digest } })
}

fn header(kind: &str, label: &str, version: u64, expires: Moment) -> Result<Value, EditError> {
    Ok(json!({
        "_type": kind,
        "spec_version": SPEC_VERSION,
        REPOSITORY_FIELD: label,
        "version": version,
        "expires": rfc3339(expires)?,
    }))
}

/// The date as metadata write it: whole seconds, rounded down, in UTC.
fn rfc3339(moment: Moment) -> Result<String, EditError> {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let seconds = i64::try_from(moment.0 / 1000).map_err(|_| EditError::Date)?;
    let date = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| EditError::Date)?;
    date.format(&Rfc3339).map_err(|_| EditError::Date)
}

fn sign<T: Signable>(
    document: Value,
    signers: &[&(impl Signer + ?Sized)],
) -> Result<Vec<u8>, EditError> {
    let role: T = serde_json::from_value(document)?;
    let mut signed = Signed {
        signed: role,
        signatures: Vec::new(),
    };
    for signer in signers {
        let signature = signature(&signed.signed, *signer)?;
        if !signed.signatures.iter().any(|s| s.keyid == signature.keyid) {
            signed.signatures.push(signature);
        }
    }
    write(&signed)
}

fn signature<T: Role>(role: &T, signer: &(impl Signer + ?Sized)) -> Result<Signature, EditError> {
    let message = role
        .canonical_form()
        .map_err(|source| EditError::Canonical(Box::new(source)))?;
    let id = signer.public().key().key_id();
    Ok(Signature {
        keyid: id.map_err(|source| EditError::Canonical(Box::new(source)))?,
        sig: signer.sign(&message)?.into(),
    })
}

/// Through a `Value`, whose keys are in order: the same document gives the same bytes.
fn write<T: Serialize>(signed: &Signed<T>) -> Result<Vec<u8>, EditError> {
    let mut bytes = serde_json::to_vec_pretty(&serde_json::to_value(signed)?)?;
    bytes.push(b'\n');
    Ok(bytes)
}
