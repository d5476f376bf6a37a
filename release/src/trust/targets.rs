//! What a targets document says: the files that it vouches for, and the roles that it delegates to.
//!
//! Read by types of our own: tough's know neither hashed bins nor a digest other than SHA-256, and drop
//! what they have no word for, so that its signatures no longer fit.

use super::document::{Document, Readable, Refused, Target, cap};
use super::paths;
use super::signatures::Required;
use aws_lc_rs::digest::{SHA512, digest};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use tamer_core::moment::Moment;
use tamer_kit::hash::sha256;
use tough::schema::RoleType;
use tough::schema::key::Key;

/// A targets document, the top-level one or one that is delegated to.
#[derive(Debug, Clone, Deserialize)]
pub struct Targets {
    spec_version: String,
    version: NonZeroU64,
    #[serde(deserialize_with = "moment")]
    expires: Moment,
    targets: BTreeMap<String, File>,
    delegations: Option<Delegations>,
    #[serde(flatten)]
    extra: HashMap<String, Value>,
}

/// A file that a targets document vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct File {
    /// Its length in bytes.
    pub length: u64,
    /// Its digests in hexadecimal, by the name of the algorithm.
    pub hashes: BTreeMap<String, String>,
    /// What the publisher noted beside it.
    #[serde(default)]
    pub custom: BTreeMap<String, Value>,
}

/// Whom a targets document trusts with which names.
#[derive(Debug, Clone, Deserialize)]
struct Delegations {
    /// Read one by one, when they are needed: a key of a kind that is not known here is of no use, and does
    /// no harm to others.
    keys: HashMap<String, Value>,
    #[serde(default)]
    roles: Vec<Role>,
    succinct_roles: Option<Bins>,
}

#[derive(Debug, Clone, Deserialize)]
struct Role {
    name: String,
    keyids: Vec<String>,
    threshold: NonZeroU64,
    terminating: bool,
    paths: Option<Vec<String>>,
    path_hash_prefixes: Option<Vec<String>>,
}

/// TAP 15: all names, spread evenly over as many roles as `bit_length` has room for.
#[derive(Debug, Clone, Deserialize)]
struct Bins {
    keyids: Vec<String>,
    threshold: NonZeroU64,
    bit_length: u32,
    name_prefix: String,
}

/// A role that a name is delegated to.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// The role's name.
    pub role: String,
    /// Whose signatures it needs.
    pub required: Required,
    /// Nobody after it is asked.
    pub terminating: bool,
}

impl Readable for Targets {
    const ROLE: RoleType = RoleType::Targets;
    const CAP: u64 = cap::TARGETS;
    fn spec_version(&self) -> &str {
        &self.spec_version
    }
    fn version(&self) -> u64 {
        self.version.get()
    }
    fn expires(&self) -> Moment {
        self.expires
    }
    fn extra(&self) -> &HashMap<String, Value> {
        &self.extra
    }
}

impl Targets {
    /// The file of this name, if this document itself vouches for it.
    pub fn file(&self, name: &str) -> Option<&File> {
        self.targets.get(name)
    }

    /// Whom to ask for a name that is not here, in this order.
    pub fn delegations(&self, name: &str) -> Vec<Delegation> {
        let Some(Delegations {
            keys,
            roles,
            succinct_roles,
        }) = &self.delegations
        else {
            return Vec::new();
        };
        let required = |ids: &[String], threshold: NonZeroU64| Required {
            keys: ids
                .iter()
                .filter_map(|id| Some((id.clone(), Key::deserialize(keys.get(id)?).ok()?)))
                .collect(),
            threshold: threshold.get(),
        };
        if let Some(bins) = succinct_roles {
            if !(1..=32).contains(&bins.bit_length) {
                return Vec::new();
            }
            let bin = paths::bin(bins.bit_length, name);
            return vec![Delegation {
                role: format!("{}-{bin}", bins.name_prefix),
                required: required(&bins.keyids, bins.threshold),
                terminating: true,
            }];
        }
        let asked = roles.iter().filter(|role| role.is_for(name));
        asked
            .map(|role| Delegation {
                role: role.name.clone(),
                required: required(&role.keyids, role.threshold),
                terminating: role.terminating,
            })
            .collect()
    }
}

impl Role {
    fn is_for(&self, name: &str) -> bool {
        match (&self.paths, &self.path_hash_prefixes) {
            (Some(patterns), None) => paths::fits(patterns, name),
            (None, Some(prefixes)) => paths::hashed(prefixes, name),
            // Neither, or both: nobody knows what was meant.
            _ => false,
        }
    }
}

impl File {
    /// Whether these are the bytes: their number, and every digest of an algorithm that is known here, of
    /// which there must be one.
    pub fn is(&self, bytes: &[u8]) -> bool {
        let known = [
            ("sha256", hex::encode(sha256(bytes).as_bytes())),
            ("sha512", hex::encode(digest(&SHA512, bytes))),
        ];
        let signed = known
            .iter()
            .filter_map(|(name, is)| Some((self.hashes.get(*name)?, is)));
        let fits: Vec<_> = signed.map(|(signed, is)| signed == is).collect();
        bytes.len() as u64 == self.length && !fits.is_empty() && fits.iter().all(|fits| *fits)
    }
}

/// All targets of a repository of Tamer's.
///
/// # Errors
/// No SHA-256, a name that leads out of a directory, or delegations: a repository here is small enough
/// without.
pub fn flat(document: &Document<Targets>) -> Result<BTreeMap<String, Target>, Refused> {
    let content = document.content();
    let delegations = content.delegations.as_ref();
    if delegations.is_some_and(|d| !d.roles.is_empty() || d.succinct_roles.is_some()) {
        return Err(Refused::Unsupported(
            "it delegates to other roles, which is not supported",
        ));
    }
    let mut all = BTreeMap::new();
    for (name, file) in &content.targets {
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Refused::Unsupported(
                "it has a target whose name leads out of a directory, or is empty",
            ));
        }
        let digest = file.hashes.get("sha256").and_then(|hex| hex.parse().ok());
        let described = Target {
            digest: digest.ok_or(Refused::Missing("a SHA-256 of 32 bytes"))?,
            length: file.length,
            custom: file.custom.clone(),
        };
        all.insert(name.clone(), described);
    }
    Ok(all)
}

fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Moment, D::Error> {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let text = String::deserialize(from)?;
    let date = OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom)?;
    let millis = date.unix_timestamp_nanos() / 1_000_000;
    Ok(Moment(u64::try_from(millis).unwrap_or(0)))
}
