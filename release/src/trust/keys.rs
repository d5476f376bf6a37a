//! Signing keys as files, public keys as metadata: the only place that touches private keys.
//!
//! New keys are ECDSA P-256, the algorithm of evidence and certificates too; Ed25519 keys that a
//! team already has are read as well.

use super::sealed;
use super::signer::Signer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    ParsedPublicKey, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tamer_kit::durable::{self, FileError};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::{EcdsaKey, EcdsaScheme, Ed25519Key, Ed25519Scheme, Key};
use tough::sign::Sign;

/// The largest key file that is read, in bytes.
pub const MAX_KEY_FILE: u64 = 16 << 10;

const PRIVATE: &str = "PRIVATE KEY";
const SEALED: &str = "ENCRYPTED PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";

/// How a SubjectPublicKeyInfo for P-256 begins; the uncompressed point follows.
const SPKI_P256: [u8; 26] = *b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// How a SubjectPublicKeyInfo for Ed25519 begins; the 32 bytes of the key follow.
const SPKI_ED25519: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not PKCS#8 PEM of a kind that is known here.
    #[error("not a PKCS#8 PEM private key for ECDSA P-256 or Ed25519")]
    Format,
    /// Not a public key of a kind that is known here.
    #[error("not a PEM public key for ECDSA P-256 or Ed25519")]
    PublicFormat,
    /// It lies under a passphrase, and none was given.
    #[error("{path} is under a passphrase", path = .0.display())]
    Sealed(PathBuf),
    /// Sealed in a way that is not read here.
    #[error(
        "it is not sealed with PBES2, PBKDF2-HMAC-SHA256 and AES-256-CBC, as `openssl pkcs8 -topk8` does"
    )]
    Sealing,
    /// Another passphrase.
    #[error("the passphrase is not the one that it was sealed with")]
    Passphrase,
    /// The program that signs failed, or did not answer in time.
    #[error("the program that signs failed: {0}")]
    Program(String),
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

    /// Whether this is the key's signature of the message: ASN.1 ECDSA over SHA-256, or Ed25519.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.key {
            Key::Ecdsa { keyval, .. } | Key::EcdsaOld { keyval, .. } => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &keyval.public[..])
                    .verify(message, signature)
            }
            Key::Ed25519 { keyval, .. } => {
                UnparsedPublicKey::new(&ED25519, &keyval.public[..]).verify(message, signature)
            }
            Key::Rsa { .. } => return false,
        };
        verified.is_ok()
    }

    /// The key as a SubjectPublicKeyInfo in DER, as certificates and other tools have it.
    ///
    /// # Errors
    /// [`KeyError::PublicFormat`]: a kind of key that no signer here has.
    pub fn to_spki(&self) -> Result<Vec<u8>, KeyError> {
        match &self.key {
            Key::Ecdsa { keyval, .. } | Key::EcdsaOld { keyval, .. }
                if keyval.public.len() == 65 =>
            {
                Ok([&SPKI_P256[..], &keyval.public].concat())
            }
            Key::Ed25519 { keyval, .. } => Ok([&SPKI_ED25519[..], &keyval.public].concat()),
            _ => Err(KeyError::PublicFormat),
        }
    }

    /// Reads a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`KeyError::PublicFormat`]: not for ECDSA P-256 (with an uncompressed point) or Ed25519.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let key = if let Some(point) = der.strip_prefix(&SPKI_P256[..])
            && ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).is_ok()
        {
            Key::Ecdsa {
                keyval: EcdsaKey {
                    public: point.to_vec().into(),
                    _extra: HashMap::new(),
                },
                scheme: EcdsaScheme::EcdsaSha2Nistp256,
                _extra: HashMap::new(),
            }
        } else if let Some(public) = der.strip_prefix(&SPKI_ED25519[..])
            && ParsedPublicKey::new(&ED25519, public).is_ok()
        {
            Key::Ed25519 {
                keyval: Ed25519Key {
                    public: public.to_vec().into(),
                    _extra: HashMap::new(),
                },
                scheme: Ed25519Scheme::Ed25519,
                _extra: HashMap::new(),
            }
        } else {
            return Err(KeyError::PublicFormat);
        };
        key.try_into().map_err(|_| KeyError::PublicFormat)
    }

    /// Reads a public key in PEM, as `openssl pkey -pubout` writes it. Text around it is nothing to
    /// the key.
    ///
    /// # Errors
    /// [`KeyError::PublicFormat`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::from_spki(&unpem(PUBLIC, pem).ok_or(KeyError::PublicFormat)?)
    }

    /// The public key in PEM.
    ///
    /// # Errors
    /// [`KeyError::PublicFormat`].
    pub fn to_pem(&self) -> Result<String, KeyError> {
        Ok(pem(PUBLIC, &self.to_spki()?))
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), KeyError> {
    if path.symlink_metadata().is_ok() {
        return Err(KeyError::Exists(path.to_owned()));
    }
    Ok(durable::replace(path, text.as_bytes(), 0o600)?)
}

/// What stands between the lines that begin and end a PEM of this kind.
fn unpem(kind: &str, text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {kind}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {kind}-----"))?;
    let base64: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(base64).ok()
}

/// RFC 7468.
fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {kind}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {kind}-----\n"));
    pem
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
        let der = unpem(PRIVATE, pem).ok_or(KeyError::Format)?;
        Self::from_pkcs8(&der)
    }

    /// The key in PKCS#8 PEM (RFC 7468).
    pub fn to_pem(&self) -> String {
        pem(PRIVATE, &self.pkcs8)
    }

    /// Reads a key file, which nobody but its owner may be able to read.
    ///
    /// # Errors
    /// The file is not there, exposed, under a passphrase, or not a key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Self::load_with(path, || Err(KeyError::Sealed(path.to_owned())))
    }

    /// As [`Self::load`]; where the key is under a passphrase, it is asked for.
    ///
    /// # Errors
    /// As [`Self::load`], or no passphrase, or another one.
    pub fn load_with(
        path: &Path,
        passphrase: impl FnOnce() -> Result<String, KeyError>,
    ) -> Result<Self, KeyError> {
        let bytes = durable::read_capped(path, MAX_KEY_FILE)?
            .ok_or_else(|| KeyError::Missing(path.to_owned()))?;
        let metadata = std::fs::metadata(path).map_err(FileError::new("stat", path))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Exposed(path.to_owned()));
        }
        let pem = std::str::from_utf8(&bytes).map_err(|_| KeyError::Format)?;
        match unpem(SEALED, pem) {
            None => Self::from_pem(pem),
            Some(der) => {
                let pkcs8 = sealed::open(&der, passphrase()?.as_bytes())?;
                // Padding that happens to be right around rubbish is no key.
                Self::from_pkcs8(&pkcs8).map_err(|_| KeyError::Passphrase)
            }
        }
    }

    /// Writes a new key file, readable by its owner alone, durably.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        write_new(path, &self.to_pem())
    }

    /// As [`Self::save`], under a passphrase.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_sealed(&self, path: &Path, passphrase: &str) -> Result<(), KeyError> {
        let sealed = sealed::seal(&self.pkcs8, passphrase.as_bytes())?;
        write_new(path, &pem(SEALED, &sealed))
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl Signer for SigningKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
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
    fn public_keys_travel_as_pem_and_verify_what_their_key_signed() {
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let ed25519 = SigningKey::from_pkcs8(ed25519.as_ref()).unwrap();
        for key in [SigningKey::generate().unwrap(), ed25519] {
            let pem = format!("anna@laptop\n{}", key.public().to_pem().unwrap());
            let public = PublicKey::from_pem(&pem).unwrap();
            assert_eq!((&public, public.id()), (key.public(), key.public().id()));
            let signature = key.sign(b"release").unwrap();
            assert!(public.verify(b"release", &signature));
            assert!(!public.verify(b"another", &signature));
            assert!(!public.verify(b"release", &signature[1..]));
        }
        // A point that is not on the curve is no key.
        let mut der = SPKI_P256.to_vec();
        der.extend([4; 65]);
        for bad in [&der[..], &SPKI_P256, &SPKI_ED25519, b""] {
            assert!(matches!(
                PublicKey::from_spki(bad),
                Err(KeyError::PublicFormat)
            ));
        }
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
