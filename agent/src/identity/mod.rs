//! Who this host is: its key and certificate, the controller's CA, and what was fixed when it joined.
//!
//! ```text
//! <state>/identity/identity.pem   key and certificate, replaced together
//! <state>/identity/ca.pem         the controller's CA: the only one that is trusted; two while it is rotated
//! <state>/identity/enrolled.json  name, environment, controller, the team's root
//! <state>/identity/next.pem       a key whose certificate has not come yet
//! ```
//!
//! A new key is on disk before anybody hears of it, so an answer that was lost can be asked for again.

pub mod authorities;
pub mod enrol;
pub mod renew;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, HostName};
use tamer_core::moment::Moment;
use tamer_kit::channel::ChannelError;
use tamer_kit::durable::{self, FileError, read_capped};
use tamer_kit::tls::{self, TlsError};

/// The largest file of an identity, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// What was fixed when the host joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// The host's name, as in its certificate.
    pub name: HostName,
    /// The environment that it belongs to, for good.
    pub environment: EnvironmentName,
    /// The controller that it joined.
    pub controller: String,
    /// SHA-256 of the first root of the team: all trust in releases starts there.
    pub trust_root: Digest,
}

/// What the host shows and whom it trusts, all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The private key and the certificate.
    pub identity: String,
    /// The controller's CA; while it is rotated the old one, too, after the one that issues certificates.
    pub ca: String,
}

/// What connections to the controller are made with.
#[derive(Debug, Clone)]
pub struct Shown {
    /// TLS: what is shown, and who is trusted.
    pub tls: ClientConfig,
    /// SHA-256 of the certificate that is shown: another one makes a new line.
    pub certificate: Digest,
}

/// An identity on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    dir: PathBuf,
}

/// Why there is no identity, or no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The host has not joined.
    #[error(
        "this host has not joined a controller: nothing is in {dir}; get a line from \
         `tamer host invite`, and paste it here", dir = dir.display()
    )]
    NotEnrolled {
        /// Where an identity would be.
        dir: PathBuf,
    },
    /// A file is not what was written.
    #[error("{path} is damaged ({reason}): restore it, or invite the host again with `tamer host invite --replace`", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No key could be made or used.
    #[error("cannot make a certificate signing request")]
    Key(#[source] rcgen::Error),
    /// A certificate or key is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The controller was not reached.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Whoever answers is not vouched for by the CA that the token pins.
    #[error(
        "{address} shows a certificate of another CA than the token pins: if the controller's CA was rotated since the \
         token was made, get a new one from `tamer host invite`; if not, find out who answers there"
    )]
    OtherCa {
        /// Who answered.
        address: String,
        /// How the handshake ended.
        #[source]
        source: ChannelError,
    },
    /// The controller refused.
    #[error("the controller refused: {message}", message = .0.message())]
    Refused(Box<tonic::Status>),
    /// What the controller sent cannot be trusted.
    #[error("{0}")]
    Untrusted(String),
    /// It cannot be done like this; the message says how.
    #[error("{0}")]
    Usage(String),
}

// === impl Keys ===

impl Keys {
    /// TLS towards the controller.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        tls::client_config(&self.ca, Some((&self.identity, &self.identity)))
    }

    /// What connections are made with from now on.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn shown(&self) -> Result<Shown, TlsError> {
        Ok(Shown {
            tls: self.client_config()?,
            certificate: tls::fingerprint(&self.identity)?,
        })
    }

    /// From when to when the certificate is good.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn validity(&self) -> Result<(Moment, Moment), TlsError> {
        tls::validity(&self.identity)
    }
}

/// No key in any log.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

// === impl Home ===

impl Home {
    /// The identity of the agent with this state directory; nothing is read yet.
    pub fn new(state: &Path) -> Self {
        Self {
            dir: state.join("identity"),
        }
    }

    fn identity(&self) -> PathBuf {
        self.dir.join("identity.pem")
    }

    fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn facts(&self) -> PathBuf {
        self.dir.join("enrolled.json")
    }

    fn next(&self) -> PathBuf {
        self.dir.join("next.pem")
    }

    /// What was fixed when the host joined; `None` where it has not.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn enrolled(&self) -> Result<Option<Enrolled>, IdentityError> {
        if !self.identity().exists() {
            return Ok(None);
        }
        let path = self.facts();
        let damaged = |reason: String| IdentityError::Damaged {
            path: self.facts(),
            reason,
        };
        let bytes = read_capped(&path, MAX_FILE)?;
        let bytes = bytes.ok_or_else(|| damaged("it is gone".to_owned()))?;
        let facts = serde_json::from_slice(&bytes);
        facts.map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Everything that a running agent needs.
    ///
    /// # Errors
    /// [`IdentityError`]; [`IdentityError::NotEnrolled`] where the host has not joined.
    pub fn load(&self) -> Result<(Enrolled, Keys), IdentityError> {
        let enrolled = self.enrolled()?.ok_or_else(|| IdentityError::NotEnrolled {
            dir: self.dir.clone(),
        })?;
        let keys = Keys {
            identity: self.text(&self.identity())?,
            ca: self.text(&self.ca())?,
        };
        let damaged = |path: PathBuf| {
            move |error: TlsError| IdentityError::Damaged {
                path,
                reason: crate::host::chain(&error),
            }
        };
        keys.validity().map_err(damaged(self.identity()))?;
        keys.shown().map_err(damaged(self.identity()))?;
        Ok((enrolled, keys))
    }

    fn text(&self, path: &Path) -> Result<String, IdentityError> {
        let damaged = |reason: &str| IdentityError::Damaged {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let bytes = read_capped(path, MAX_FILE)?.ok_or_else(|| damaged("it is gone"))?;
        String::from_utf8(bytes).map_err(|_| damaged("it is not text"))
    }

    /// The key that waits for its certificate: the one of an earlier try, or a new one, which is durable
    /// when this returns.
    fn next_key(&self) -> Result<KeyPair, IdentityError> {
        let path = self.next();
        if let Some(bytes) = read_capped(&path, MAX_FILE)? {
            let pem = String::from_utf8_lossy(&bytes);
            match KeyPair::from_pem(&pem) {
                Ok(key) => return Ok(key),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an unfinished key is damaged: a new one is made");
                }
            }
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
        durable::create_dir_all(&self.dir, 0o700)?;
        durable::replace(&path, key.serialize_pem().as_bytes(), 0o600)?;
        Ok(key)
    }

    /// Trusts these CAs and no others from now on; durable when this returns.
    fn trust(&self, ca: &str) -> Result<(), IdentityError> {
        Ok(durable::replace(&self.ca(), ca.as_bytes(), 0o644)?)
    }

    /// Puts the next key and its certificate in place of the old ones, at one stroke.
    fn take(&self, key: &KeyPair, certificate: &str) -> Result<String, IdentityError> {
        let pem = key.serialize_pem();
        let identity = format!("{}\n{}\n", pem.trim_end(), certificate.trim_end());
        durable::replace(&self.identity(), identity.as_bytes(), 0o600)?;
        let next = self.next();
        match fs::remove_file(&next) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(FileError::new("remove", &next)(e).into())
            }
            _ => Ok(identity),
        }
    }
}

/// Proves to the controller that the sender holds this key.
fn signing_request(key: &KeyPair) -> Result<String, IdentityError> {
    CertificateParams::default()
        .serialize_request(key)
        .and_then(|request| request.pem())
        .map_err(IdentityError::Key)
}

/// Refuses a certificate that is not for this key, under this CA's TLS, before anything relies on it.
fn usable(key: &KeyPair, certificate: &str, ca: &str) -> Result<(), IdentityError> {
    let bad = |error: TlsError| {
        let why = crate::host::chain(&error);
        IdentityError::Untrusted(format!(
            "the controller sent a certificate that is of no use: {why}"
        ))
    };
    tls::client_config(ca, Some((certificate, &key.serialize_pem()))).map_err(bad)?;
    tls::validity(certificate).map(drop).map_err(bad)
}
