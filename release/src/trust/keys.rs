//! Signing keys as files, public keys as metadata: the only place that touches private keys.
//!
//! New keys are ECDSA P-256, the algorithm of evidence and certificates too; Ed25519 keys that a
//! team already has are read as well.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tamer_kit::durable::{self, FileError};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::sign::Sign;

/// The largest key file that is read, in bytes.
pub const MAX_KEY_FILE: u64 = 16 << 10;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not PKCS#8 PEM of a kind that is known here.
    #[error("not a PKCS#8 PEM private key for ECDSA P-256 or Ed25519")]
    Format,
    /// Others on the machine can read it.
    #[error("{path} can be read by others: make it yours alone with chmod 600", path = .0.display())]
    Exposed(PathBuf),
    /// No such file.
    #[error("there is no key file {path}", path = .0.display())]
    Missing(PathBuf),
    /// It would overwrite another key.
    #[error("{path} is there already: keys are never overwritten", path = .0.display())]
    Exists(PathBuf),
    /// The cryptography library refused.
    #[error("the key could not be used to sign")]
    Crypto,
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A public key with its TUF key id. In JSON it is the TUF key object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Key", into = "Key")]
pub struct PublicKey {
    key: Key,
    id: Decoded<Hex>,
}

impl PublicKey {
    /// The TUF key id: SHA-256 of the key object in canonical JSON, in hexadecimal.
    pub fn id(&self) -> String {
        hex::encode(&self.id)
    }

    /// The key object as metadata carries it.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

impl TryFrom<Key> for PublicKey {
    type Error = tough::schema::Error;
    fn try_from(key: Key) -> Result<Self, Self::Error> {
        let id = key.key_id()?;
        Ok(Self { key, id })
    }
}

impl From<PublicKey> for Key {
    fn from(public: PublicKey) -> Key {
        public.key
    }
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key that signs metadata. Its `Debug` shows the key id only.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    pair: Pair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}

impl SigningKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::Crypto)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads a key in PKCS#8 DER.
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let ecdsa = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der);
        let (pair, key) = if let Ok(pair) = ecdsa {
            let key = Sign::tuf_key(&pair);
            (Pair::Ecdsa(pair), key)
        } else {
            let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::Format)?;
            let key = Sign::tuf_key(&pair);
            (Pair::Ed25519(pair), key)
        };
        Ok(Self {
            pkcs8: der.to_vec(),
            pair,
            public: key.try_into().map_err(|_| KeyError::Format)?,
        })
    }

    /// Reads a key in PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let body = pem
            .trim()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END))
            .ok_or(KeyError::Format)?;
        let base64: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(base64).map_err(|_| KeyError::Format)?;
        Self::from_pkcs8(&der)
    }

    /// The key in PKCS#8 PEM (RFC 7468).
    pub fn to_pem(&self) -> String {
        let text = STANDARD.encode(&self.pkcs8);
        let mut pem = format!("{BEGIN}\n");
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str(END);
        pem.push('\n');
        pem
    }

    /// Reads a key file, which nobody but its owner may be able to read.
    ///
    /// # Errors
    /// The file is not there, exposed, or not a key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let bytes = durable::read_capped(path, MAX_KEY_FILE)?
            .ok_or_else(|| KeyError::Missing(path.to_owned()))?;
        let metadata = std::fs::metadata(path).map_err(FileError::new("stat", path))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Exposed(path.to_owned()));
        }
        Self::from_pem(std::str::from_utf8(&bytes).map_err(|_| KeyError::Format)?)
    }

    /// Writes a new key file, readable by its owner alone, durably.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        if path.symlink_metadata().is_ok() {
            return Err(KeyError::Exists(path.to_owned()));
        }
        Ok(durable::replace(path, self.to_pem().as_bytes(), 0o600)?)
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message: ASN.1 ECDSA over SHA-256, or Ed25519.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| KeyError::Crypto),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_file_and_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.pem");
        let key = SigningKey::generate().unwrap();
        key.save(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
        assert!(matches!(key.save(&path), Err(KeyError::Exists(_))));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Exposed(_))));
        assert!(matches!(
            SigningKey::load(&dir.path().join("none")),
            Err(KeyError::Missing(_))
        ));
    }

    #[test]
    fn ed25519_keys_are_read_too_and_rubbish_is_not() {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(der.as_ref()).unwrap();
        assert_eq!(
            SigningKey::from_pem(&key.to_pem()).unwrap().public(),
            key.public()
        );
        for bad in [
            "",
            "hello",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        ] {
            assert!(matches!(SigningKey::from_pem(bad), Err(KeyError::Format)));
        }
    }

    #[test]
    fn a_public_key_keeps_its_id_through_json_and_debug_shows_no_secret() {
        let key = SigningKey::generate().unwrap();
        let json = serde_json::to_string(key.public()).unwrap();
        let back: PublicKey = serde_json::from_str(&json).unwrap();
        assert_eq!(back.id(), key.public().id());
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", back.id()));
    }
}
