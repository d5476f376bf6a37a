//! Sigstore bundles v0.3: an envelope, and which public key it is by.

use super::dsse::{BadEnvelope, Envelope, IN_TOTO, MAX_PAYLOAD, Written, pae};
use super::key_hint;
use super::statement::Statement;
use crate::json;
use crate::trust::{KeyError, PublicKey, Signer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tamer_core::digest::Digest;
use tamer_core::evidence::VerifyingKey;
use tough::schema::key::Key;

/// The largest bundle that is read, in bytes.
pub const MAX_BUNDLE: usize = 320 << 10;

/// The `mediaType` of every bundle here.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Why bytes are not a bundle that is read here.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    /// Too much.
    #[error("it is larger than {MAX_BUNDLE} bytes")]
    TooLarge,
    /// Not the JSON of a bundle with a public-key hint and an envelope.
    #[error("it is not a bundle with a public key and an envelope: {0}")]
    Format(String),
    /// A bundle of another version.
    #[error("it is of type `{0}`, and {MEDIA_TYPE} is needed")]
    MediaType(String),
    /// The envelope in it is not one that is read here.
    #[error("its envelope is refused: {0}")]
    Envelope(#[from] BadEnvelope),
}

/// Why a statement could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Evidence is signed with ECDSA P-256 alone.
    #[error(
        "key {0} is not ECDSA P-256, with which evidence is signed: `tamer trust init` makes such keys"
    )]
    Algorithm(String),
    /// Nobody would read it.
    #[error("the statement has {0} bytes, and {MAX_PAYLOAD} are the most")]
    TooLarge(usize),
    /// The key refused.
    #[error(transparent)]
    Key(#[from] KeyError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenBundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Written,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    public_key: Hint,
    // Logs and timestamps of others: passed over, as nothing is decided by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tlog_entries: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    #[serde(default)]
    hint: String,
}

/// A bundle that was read. Nothing in it is to be believed before its envelope was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Which key signed it, as it says itself: see [`key_hint`].
    pub hint: String,
    /// The envelope.
    pub envelope: Envelope,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`BadBundle`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadBundle> {
        if bytes.len() > MAX_BUNDLE {
            return Err(BadBundle::TooLarge);
        }
        let written: WrittenBundle = json::strict_as(bytes).map_err(|error| {
            // A message quotes what it met, and what it met is a stranger's.
            BadBundle::Format(error.to_string().chars().take(200).collect())
        })?;
        if written.media_type != MEDIA_TYPE {
            let given = written.media_type.chars().take(80).collect();
            return Err(BadBundle::MediaType(given));
        }
        Ok(Self {
            hint: written.verification_material.public_key.hint,
            envelope: written.dsse_envelope.try_into()?,
        })
    }

    /// The [`key_hint`] of the key that signed it, as it says itself: in hexadecimal as we write it, or in base64 as
    /// tools of others do.
    pub fn key(&self) -> Option<Digest> {
        let encoded = || {
            let bytes = STANDARD.decode(&self.hint).ok()?;
            Some(Digest::new(bytes.try_into().ok()?))
        };
        self.hint.parse().ok().or_else(encoded)
    }

    /// The bundle as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let written = WrittenBundle {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: Material {
                public_key: Hint {
                    hint: self.hint.clone(),
                },
                tlog_entries: Vec::new(),
                timestamp_verification_data: None,
            },
            dsse_envelope: self.envelope.write(),
        };
        // Strings and arrays of them: writing those into memory cannot fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }
}

/// The key of this name as evidence is verified with; `None` for another algorithm than ECDSA P-256.
pub fn verifying_key(public: &PublicKey) -> Option<VerifyingKey> {
    match public.key() {
        Key::Ecdsa { keyval, .. } | Key::EcdsaOld { keyval, .. } => {
            VerifyingKey::from_point(&keyval.public).ok()
        }
        _ => None,
    }
}

/// Signs a statement and makes it a bundle, in JSON.
///
/// # Errors
/// [`SealError`].
pub fn seal(statement: &Statement, key: &(impl Signer + ?Sized)) -> Result<Vec<u8>, SealError> {
    let public = verifying_key(key.public())
        .ok_or_else(|| SealError::Algorithm(key.public().id().chars().take(12).collect()))?;
    let payload = statement.to_json();
    if payload.len() > MAX_PAYLOAD {
        return Err(SealError::TooLarge(payload.len()));
    }
    let signature = key.sign(&pae(IN_TOTO, &payload))?;
    let hint = key_hint(&public).to_string();
    let envelope = Envelope::new(payload, signature, &hint);
    Ok(Bundle { hint, envelope }.to_json())
}
