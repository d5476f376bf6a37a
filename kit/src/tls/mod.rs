//! TLS set-up: one provider (aws-lc-rs), named explicitly and never taken from the process;
//! TLS 1.3 only; trust in the controller's own CA and in nothing else.
//!
//! No session is ever resumed: a resumed session would skip the verification of the client's
//! certificate, and caches and tickets cost memory for every connected agent.

mod pinned;
mod server;

pub use pinned::pinned_client_config;
pub use server::{EXPIRED_ACCEPTED, ServerTls};

use crate::hash::sha256;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The protocol versions spoken.
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// How many CAs a controller has at most.
const MOST_AUTHORITIES: usize = 4;

/// Why TLS cannot be set up with these certificates and keys.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate stands in the text.
    #[error("{0}: there is no PEM certificate in it")]
    NoCertificate(&'static str),
    /// A text that should be PEM is not.
    #[error("{what}: it is not valid PEM")]
    Pem {
        /// Which text: `the CA certificate`, `the private key` …
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The system's list of certificate authorities is empty.
    #[error("this host trusts no certificate authority: install ca-certificates")]
    Nobody,
    /// The certificates, the key, or both together are of no use.
    #[error("{what}: it cannot be used")]
    Refused {
        /// Which certificate or key.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What a client of the controller uses once it knows the controller's CA: trusts servers of that
/// CA alone, and shows `identity` (certificate chain and private key, both PEM) if it has one. While
/// the CA is rotated, `ca_pem` holds both, and servers of either are trusted.
///
/// # Errors
/// [`TlsError`].
pub fn client_config(
    ca_pem: &str,
    identity: Option<(&str, &str)>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(refused("the TLS version"))?
        .with_root_certificates(roots(&certificates("the CA certificate", ca_pem)?)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(
                certificates("the client's certificate", chain)?,
                key_of(key)?,
            )
            .map_err(refused("the client's certificate and key"))?,
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What a client of anybody else's server uses: trusts the system's authorities, read anew, for an
/// operator may have added one, and those of `more` in PEM. It shows no certificate of its own.
///
/// # Errors
/// [`TlsError`], also where there is nobody at all to trust.
pub fn public_client_config(more: Option<&[u8]>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = more {
        let what = "the certificate authorities";
        let before = roots.len();
        for der in CertificateDer::pem_slice_iter(pem) {
            let der = der.map_err(|source| TlsError::Pem { what, source })?;
            roots.add(der).map_err(refused(what))?;
        }
        if roots.len() == before {
            return Err(TlsError::NoCertificate(what));
        }
    }
    if roots.is_empty() {
        return Err(TlsError::Nobody);
    }
    trusting(roots)
}

/// What a client uses that trusts nobody: for plain http alone.
///
/// # Errors
/// [`TlsError`].
pub fn nobody_client_config() -> Result<ClientConfig, TlsError> {
    trusting(RootCertStore::empty())
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused("the TLS version"))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The fingerprint of a certificate in PEM: SHA-256 of its DER, as join tokens carry it for the CA.
///
/// # Errors
/// [`TlsError`] if there is no certificate in the text.
pub fn fingerprint(certificate_pem: &str) -> Result<Digest, TlsError> {
    Ok(sha256(&first_certificate(certificate_pem)?))
}

/// The first certificate of a text in PEM, as DER.
///
/// # Errors
/// [`TlsError`] if there is none.
pub fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    one_certificate("the certificate", pem)
}

/// The fingerprints of all certificates of a text in PEM, in their order.
///
/// # Errors
/// [`TlsError`] if there is none.
pub fn fingerprints(pem: &str) -> Result<Vec<Digest>, TlsError> {
    let all = certificates("the certificates", pem)?;
    Ok(all.iter().map(|it| sha256(it)).collect())
}

/// Whether the CAs in `new` may be trusted in place of those in `old`, at the word of a controller that one of the old
/// ones vouches for: one of them is known already, and there are no more than two of its rotation and some to spare.
/// So a controller that has lost the way to its peers, or is another one, moves nobody.
///
/// # Errors
/// [`TlsError`] if one of the texts holds no certificate, or one that is of no use.
pub fn may_follow(old: &str, new: &str) -> Result<bool, TlsError> {
    let known = fingerprints(old)?;
    let told = certificates("the CA certificates", new)?;
    roots(&told)?;
    let follows = told.iter().any(|it| known.contains(&sha256(it)));
    Ok(follows && told.len() <= MOST_AUTHORITIES)
}

/// The name that a certificate carries, and the name of who issued it, each as the SHA-256 of its DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// Of the subject.
    pub subject: Digest,
    /// Of the issuer.
    pub issuer: Digest,
}

/// Whose the first certificate of a text in PEM is, and who issued it.
///
/// # Errors
/// [`TlsError`] if there is none, or it cannot be read.
pub fn names(pem: &str) -> Result<Names, TlsError> {
    let what = "the certificate";
    let certificate = one_certificate(what, pem)?;
    let (_, certificate) = X509Certificate::from_der(&certificate)
        .map_err(|_| refused(what)(rustls::CertificateError::BadEncoding.into()))?;
    Ok(Names {
        subject: sha256(certificate.subject().as_raw()),
        issuer: sha256(certificate.issuer().as_raw()),
    })
}

/// From when to when the first certificate of a text in PEM is good.
///
/// # Errors
/// [`TlsError`] if there is none, or it cannot be read.
pub fn validity(pem: &str) -> Result<(Moment, Moment), TlsError> {
    let what = "the certificate";
    let certificate = one_certificate(what, pem)?;
    let (_, certificate) = X509Certificate::from_der(&certificate)
        .map_err(|_| refused(what)(rustls::CertificateError::BadEncoding.into()))?;
    let moment = |time: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
        Moment(seconds.saturating_mul(1000))
    };
    let validity = certificate.validity();
    Ok((moment(validity.not_before), moment(validity.not_after)))
}

fn refused(what: &'static str) -> impl FnOnce(rustls::Error) -> TlsError {
    move |source| TlsError::Refused { what, source }
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in authorities {
        roots
            .add(ca.clone())
            .map_err(refused("the CA certificate"))?;
    }
    Ok(roots)
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { what, source })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(what));
    }
    Ok(chain)
}

fn one_certificate(what: &'static str, pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    Ok(certificates(what, pem)?.swap_remove(0))
}

fn key_of(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|source| TlsError::Pem {
        what: "the private key",
        source,
    })
}
