//! DSSE envelopes: a payload, its type, and one signature over both (the protocol's version 1.0).
//!
//! Stricter than the specification asks, so that nobody can read another thing than what was signed: canonical
//! base64 of the standard alphabet alone, one payload, one signature, no key that is not known, none twice.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tamer_core::evidence::VerifyingKey;

/// The type of the payload of every envelope here: an in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The largest payload that is read, in bytes.
pub const MAX_PAYLOAD: usize = 192 << 10;

/// The longest ECDSA P-256 signature in ASN.1: two numbers of at most 33 bytes, and their marks.
const MAX_SIGNATURE: usize = 72;

/// Why something is not an envelope that is read here.
#[derive(Debug, thiserror::Error)]
pub enum BadEnvelope {
    /// It says that its payload is something else.
    #[error("its payload is of type `{0}`, and {IN_TOTO} is needed")]
    Type(String),
    /// Not exactly one signature.
    #[error("it has {0} signatures, and exactly one is read")]
    Signatures(usize),
    /// Base64 of another alphabet, with another padding, or none at all.
    #[error("its {0} is not canonical base64")]
    Base64(&'static str),
    /// Too much.
    #[error("its {what} is longer than {most} bytes")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// The most, in bytes.
        most: usize,
    },
}

/// An envelope as it is written in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    payload: String,
    payload_type: String,
    signatures: Vec<WrittenSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSignature {
    sig: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
}

/// An envelope that was read. Nothing in it is to be believed before [`Envelope::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signature: Vec<u8>,
    keyid: Option<String>,
}

/// What is signed: the pre-authentication encoding of type and payload.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Puts a payload, the signature over its [`pae`] and the name of its key together: other readers
    /// demand that name, and none believes it.
    pub fn new(payload: Vec<u8>, signature: Vec<u8>, keyid: &str) -> Self {
        Self {
            payload,
            signature,
            keyid: Some(keyid.to_owned()),
        }
    }

    /// What the envelope says about its key; believed by nobody.
    pub fn keyid(&self) -> Option<&str> {
        self.keyid.as_deref()
    }

    /// The payload, if this key signed it.
    pub fn verify(&self, key: &VerifyingKey) -> Option<&[u8]> {
        let message = pae(IN_TOTO, &self.payload);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point())
            .verify(&message, &self.signature)
            .ok()
            .map(|()| self.payload.as_slice())
    }

    /// The payload though nobody has verified it: only to choose what is then judged.
    pub(super) fn unverified(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn write(&self) -> Written {
        Written {
            payload: STANDARD.encode(&self.payload),
            payload_type: IN_TOTO.to_owned(),
            signatures: vec![WrittenSignature {
                sig: STANDARD.encode(&self.signature),
                keyid: self.keyid.clone(),
            }],
        }
    }
}

impl TryFrom<Written> for Envelope {
    type Error = BadEnvelope;
    fn try_from(written: Written) -> Result<Self, BadEnvelope> {
        if written.payload_type != IN_TOTO {
            let given = written.payload_type.chars().take(80).collect();
            return Err(BadEnvelope::Type(given));
        }
        let [signature] = &written.signatures[..] else {
            return Err(BadEnvelope::Signatures(written.signatures.len()));
        };
        Ok(Self {
            payload: decode("payload", &written.payload, MAX_PAYLOAD)?,
            signature: decode("signature", &signature.sig, MAX_SIGNATURE)?,
            keyid: signature.keyid.clone().filter(|id| !id.is_empty()),
        })
    }
}

/// The engine takes the standard alphabet, with padding, and no bits behind the end.
fn decode(what: &'static str, text: &str, most: usize) -> Result<Vec<u8>, BadEnvelope> {
    if text.len() > most.div_ceil(3) * 4 {
        return Err(BadEnvelope::TooLarge { what, most });
    }
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| BadEnvelope::Base64(what))?;
    match bytes.len() {
        0 => Err(BadEnvelope::Base64(what)),
        n if n > most => Err(BadEnvelope::TooLarge { what, most }),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the protocol's specification.
    #[test]
    fn what_is_signed_is_what_the_specification_says() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn lengths_keep_type_and_payload_apart() {
        assert_ne!(pae("a", b"b c"), pae("a b", b"c"));
    }
}
