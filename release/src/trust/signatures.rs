//! Whose signatures a document needs, and whether it has them.
//!
//! Signatures count by the key that made them, not by the name that a key goes by: one key under two
//! ids counts once. A signature that is wrong, or by a key that is not asked for, does no harm.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use tough::schema::key::Key;
use tough::schema::{RoleType, Root};

/// A signature, as it stands in a document.
#[derive(Debug, Clone, Deserialize)]
pub struct Signature {
    keyid: String,
    sig: String,
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// TUF 4.2.1: an id stands once among the signatures.
    #[error("there are two signatures by one key id")]
    Duplicate,
    /// Not enough keys have signed.
    #[error("{valid} of {threshold} keys have signed")]
    TooFew {
        /// How many different keys have.
        valid: u64,
        /// How many must.
        threshold: u64,
    },
}

/// The keys of a role, by id, and how many of them must sign.
#[derive(Debug, Clone)]
pub struct Required {
    /// The keys that can be used.
    pub keys: BTreeMap<String, Key>,
    /// How many must sign.
    pub threshold: u64,
}

impl Required {
    /// What a root asks of a role: of one that it does not name, what nobody can give.
    pub fn of(root: &Root, role: RoleType) -> Self {
        let Some(named) = root.roles.get(&role) else {
            let (keys, threshold) = (BTreeMap::new(), u64::MAX);
            return Self { keys, threshold };
        };
        let ids = named.keyids.iter();
        let keys = ids.filter_map(|id| Some((hex::encode(id), root.keys.get(id)?.clone())));
        Self {
            keys: keys.collect(),
            threshold: named.threshold.get(),
        }
    }

    /// Whether a threshold of different keys has signed the message.
    ///
    /// # Errors
    /// [`Lacking`].
    pub fn met_by(&self, message: &[u8], signatures: &[Signature]) -> Result<(), Lacking> {
        let mut ids = BTreeSet::new();
        if !signatures.iter().all(|one| ids.insert(&one.keyid)) {
            return Err(Lacking::Duplicate);
        }
        let mut signers = BTreeSet::new();
        for signature in signatures {
            let (key, bytes) = (self.keys.get(&signature.keyid), hex::decode(&signature.sig));
            if let (Some(key), Ok(bytes)) = (key, bytes)
                && verifies(key, message, &bytes)
            {
                signers.insert(material(key));
            }
        }
        let (valid, threshold) = (signers.len() as u64, self.threshold);
        if valid < threshold {
            return Err(Lacking::TooFew { valid, threshold });
        }
        Ok(())
    }
}

fn verifies(key: &Key, message: &[u8], signature: &[u8]) -> bool {
    let algorithm: &'static dyn VerificationAlgorithm = match key {
        Key::Ecdsa { .. } | Key::EcdsaOld { .. } => &ECDSA_P256_SHA256_ASN1,
        Key::Ed25519 { .. } => &ED25519,
        Key::Rsa { .. } => &RSA_PSS_2048_8192_SHA256,
    };
    let key = UnparsedPublicKey::new(algorithm, material(key));
    key.verify(message, signature).is_ok()
}

/// The key itself, without its name and notes.
pub fn material(key: &Key) -> &[u8] {
    match key {
        Key::Rsa { keyval, .. } => &keyval.public,
        Key::Ed25519 { keyval, .. } => &keyval.public,
        Key::Ecdsa { keyval, .. } | Key::EcdsaOld { keyval, .. } => &keyval.public,
    }
}
