//! One certificate authority: ECDSA P-256, a certificate and a key in two files. Which of them a controller has, and
//! how one takes another's place, is said in [`super::authorities`].

use super::csr::ProvenKey;
use super::peer::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_core::moment::{Moment, Span};
use tamer_kit::durable::{self, FileError};
use tamer_kit::tls;
use time::OffsetDateTime;

const DAY: u64 = 24 * 3600;
/// How long the CA itself is valid.
pub const CA_LIFE: Span = Span::secs(10 * 365 * DAY);
/// How long the controller's certificate is valid; renew it at half of that.
pub const SERVER_LIFE: Span = Span::secs(90 * DAY);
/// How long a host's certificate is valid; an agent renews it at half of that.
pub const HOST_LIFE: Span = Span::secs(DAY);
/// How long an operator's certificate is valid. Revoking one takes effect at once, by the registry.
pub const OPERATOR_LIFE: Span = Span::secs(365 * DAY);
/// Certificates are valid a little before they were made: clocks differ.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// The files of a CA, in the directory of all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files {
    pub(super) certificate: &'static str,
    pub(super) key: &'static str,
}

/// The CA that vouches for the controller.
pub(super) const CURRENT: Files = Files {
    certificate: "ca.pem",
    key: "ca-key.pem",
};

const MAX_FILE: u64 = 64 << 10;

/// The certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    fingerprint: Digest,
    name: Digest,
    valid: (Moment, Moment),
}

/// A certificate and its private key, both PEM.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key: to be kept with mode 0600, or in memory only.
    pub key_pem: String,
}

/// Why the CA cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is a CA already: it is never overwritten.
    #[error("there is a CA already: {path}", path = .0.display())]
    Exists(PathBuf),
    /// A file of the CA is missing.
    #[error("the CA is not complete: {path} is missing", path = .0.display())]
    Missing(PathBuf),
    /// Somebody else may read the key.
    #[error("{path}: other users may read the CA's key; chmod 600 it", path = .0.display())]
    Exposed(PathBuf),
    /// The two files do not belong together.
    #[error("{path}: this is not the key of the CA's certificate", path = .0.display())]
    WrongKey(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot keep the CA's files")]
    File(#[from] FileError),
    /// A file holds something else, or a certificate cannot be made of what was asked for.
    #[error("cannot {operation}")]
    Certificate {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: rcgen::Error,
    },
    /// The CA's certificate is of no use to TLS.
    #[error("cannot use the CA's certificate")]
    Tls(#[from] tls::TlsError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a serial number")]
    NoRandomness,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({})", self.fingerprint.short())
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued(…)")
    }
}

impl Ca {
    /// Makes a CA in `dir`, which must exist: `ca.pem` and, with mode 0600, `ca-key.pem`.
    /// A key without a certificate is what a crash left behind, and is written over.
    ///
    /// # Errors
    /// [`CaError`], also if there is a CA already.
    pub fn create(dir: &Path, now: Moment) -> Result<Self, CaError> {
        Self::create_in(dir, CURRENT, now)
    }

    pub(super) fn create_in(dir: &Path, files: Files, now: Moment) -> Result<Self, CaError> {
        let (certificate_file, key_file) = (dir.join(files.certificate), dir.join(files.key));
        if certificate_file.exists() {
            return Err(CaError::Exists(certificate_file));
        }
        let key = KeyPair::generate().map_err(failed("make the CA's key"))?;
        // A name of its own, so that it is always told which of two has issued a certificate.
        let own = serial()?.to_bytes();
        let own = format!("Tamer controller CA {}", hex::encode(&own[..6]));
        let mut params = params(&own, now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params
            .self_signed(&key)
            .map_err(failed("make the CA's certificate"))?;
        durable::replace(&key_file, key.serialize_pem().as_bytes(), 0o600)?;
        durable::replace(&certificate_file, certificate.pem().as_bytes(), 0o644)?;
        Self::load_from(dir, files)
    }

    /// Loads the CA that vouches for the controller from `dir`.
    ///
    /// # Errors
    /// [`CaError`]; a key that others may read is refused.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        Self::load_from(dir, CURRENT)
    }

    pub(super) fn load_from(dir: &Path, files: Files) -> Result<Self, CaError> {
        let (certificate_file, key_file) = (dir.join(files.certificate), dir.join(files.key));
        let pem = read(&certificate_file)?;
        refuse_exposed(&key_file)?;
        let key = KeyPair::from_pem(&read(&key_file)?).map_err(failed("read the CA's key"))?;
        let public = key.public_key_raw().to_vec();
        let certificate = tls::first_certificate(&pem)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(failed("read the CA's certificate"))?;
        if key_in(&certificate).as_deref() != Some(&public) {
            return Err(CaError::WrongKey(key_file));
        }
        Ok(Self {
            fingerprint: tls::fingerprint(&pem)?,
            name: tls::names(&pem)?.subject,
            valid: tls::validity(&pem)?,
            issuer,
            pem,
        })
    }

    /// The CA's certificate, which everyone may know.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the CA's certificate, as join tokens carry it.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// SHA-256 of the CA's own name: what [`Peer::issuer`](super::peer::Peer::issuer) of its certificates says.
    pub fn name(&self) -> Digest {
        self.name
    }

    /// When it was made, to the second.
    pub fn made(&self) -> Moment {
        self.valid.0 + Span(CLOCK_SKEW)
    }

    /// The last moment of its validity.
    pub fn ends(&self) -> Moment {
        self.valid.1
    }

    /// A new key and certificate for the controller itself, for these DNS names and IP addresses.
    ///
    /// # Errors
    /// [`CaError`], for instance if a name is none.
    pub fn issue_server(&self, names: &[String], now: Moment) -> Result<Issued, CaError> {
        let key = KeyPair::generate().map_err(failed("make the controller's key"))?;
        let mut params = params("Tamer controller", now, SERVER_LIFE)?;
        params.subject_alt_names = CertificateParams::new(names)
            .map_err(failed("put the names into the controller's certificate"))?
            .subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(Issued {
            certificate_pem: self.sign(params, &key)?,
            key_pem: key.serialize_pem(),
        })
    }

    /// A certificate, in PEM, that names the bearer of a key: for 24 hours if it is a host.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn issue(
        &self,
        identity: &Identity,
        key: &ProvenKey,
        now: Moment,
    ) -> Result<String, CaError> {
        let (name, life) = match identity {
            Identity::Host { name, .. } => (name.as_str(), HOST_LIFE),
            Identity::Operator { name } => (name.as_str(), OPERATOR_LIFE),
        };
        self.issue_for(identity, name, key, now, life)
    }

    fn issue_for(
        &self,
        identity: &Identity,
        name: &str,
        key: &ProvenKey,
        now: Moment,
        life: Span,
    ) -> Result<String, CaError> {
        let mut params = params(name, now, life)?;
        let uri = identity
            .to_string()
            .try_into()
            .map_err(failed("put the name into a certificate"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, key.key())
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<String, CaError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params
            .signed_by(key, &self.issuer)
            .map_err(failed("sign a certificate"))?
            .pem())
    }
}

fn failed(operation: &'static str) -> impl FnOnce(rcgen::Error) -> CaError {
    move |source| CaError::Certificate { operation, source }
}

fn params(name: &str, now: Moment, life: Span) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // A common name has at most 64 characters (RFC 5280, upper bounds); it is for people only.
    let common_name: String = name.chars().take(64).collect();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date(now) - CLOCK_SKEW;
    params.not_after = date(now + life);
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// 127 random bits, positive, as RFC 5280, 4.1.2.2 wants them.
fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CaError::NoRandomness)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn date(moment: Moment) -> OffsetDateTime {
    i64::try_from(moment.0 / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(rcgen::date_time_ymd(9999, 1, 1))
}

fn key_in(certificate: &[u8]) -> Option<Vec<u8>> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

pub(super) fn read(path: &Path) -> Result<String, CaError> {
    let bytes =
        durable::read_capped(path, MAX_FILE)?.ok_or_else(|| CaError::Missing(path.to_owned()))?;
    Ok(String::from_utf8(bytes)
        .map_err(|_| FileError::new("read", path)(io::Error::other("it is not text")))?)
}

fn refuse_exposed(path: &Path) -> Result<(), CaError> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            Err(CaError::Exposed(path.to_owned()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(CaError::Missing(path.to_owned())),
        Err(e) => Err(FileError::new("stat", path)(e).into()),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::peer::Peer;
    use std::os::unix::fs::PermissionsExt;

    const NOW: Moment = Moment(1_800_000_000_000);

    fn key() -> (KeyPair, ProvenKey) {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let proven = ProvenKey::from_csr_pem(&csr.pem().unwrap()).unwrap();
        (key, proven)
    }

    #[test]
    fn a_ca_is_made_once_and_its_key_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let made = Ca::create(dir.path(), NOW).unwrap();
        let key = dir.path().join(CURRENT.key);
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            Ca::load(dir.path()).unwrap().fingerprint(),
            made.fingerprint()
        );
        let again = Ca::create(dir.path(), NOW);
        assert!(matches!(again, Err(CaError::Exists(_))));

        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(Ca::load(dir.path()), Err(CaError::Exposed(_))));
        let other = KeyPair::generate().unwrap().serialize_pem();
        durable::replace(&key, other.as_bytes(), 0o600).unwrap();
        assert!(matches!(Ca::load(dir.path()), Err(CaError::WrongKey(_))));
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(Ca::load(dir.path()), Err(CaError::Missing(_))));
    }

    #[test]
    fn a_certificate_names_its_bearer_for_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create(dir.path(), NOW).unwrap();
        let (_, proven) = key();
        for (name, hours) in [
            ("tamer://host/production/web-01?incarnation=2", 24),
            ("tamer://operator/anna", 365 * 24),
        ] {
            let identity: Identity = name.parse().unwrap();
            let pem = ca.issue(&identity, &proven, NOW).unwrap();
            let again = ca.issue(&identity, &proven, NOW).unwrap();
            let peer = Peer::from_der(&tls::first_certificate(&pem).unwrap()).unwrap();
            let other = Peer::from_der(&tls::first_certificate(&again).unwrap()).unwrap();
            assert_eq!(peer.identity, identity);
            assert_eq!(peer.issuer, ca.name());
            assert_eq!(peer.key, proven.fingerprint());
            assert_ne!(peer.serial, other.serial);
            let end = Moment(NOW.0 + hours * 3_600_000);
            assert_eq!(peer.not_after, end);
            assert_eq!(peer.issued, Moment(NOW.0 / 1000 * 1000));
            assert!(!peer.expired(end) && peer.expired(Moment(end.0 + 1)));
        }
    }

    #[test]
    fn certificates_of_servers_name_no_peer() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create(dir.path(), NOW).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issued = ca.issue_server(&names, NOW).unwrap();
        let der = tls::first_certificate(&issued.certificate_pem).unwrap();
        assert!(Peer::from_der(&der).is_err());
        assert!(!format!("{issued:?}{ca:?}").contains("PRIVATE"));
    }
}
