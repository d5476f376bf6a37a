//! The controller's side: strangers come without a certificate, everyone else with one of the
//! controller's own CA.

use super::{TlsError, VERSIONS, certificates, key_of, provider, refused, roots};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, client::danger::HandshakeSignatureValid,
};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How far outside of its validity a client's certificate still opens a connection, over which nothing
/// but a renewal is allowed: a controller that was away for days must not lock its fleet out, nor one
/// whose clock was a day ahead when it signed.
pub const EXPIRED_ACCEPTED: Duration = Duration::from_secs(90 * 24 * 3600);

/// Mutual TLS for the controller's port; ALPN `h2` and `http/1.1`.
///
/// What it shows and whom it trusts can be replaced while connections are open.
///
/// A client's certificate is optional, but a wrong one is refused. One that is expired for up to
/// [`EXPIRED_ACCEPTED`] is let in: **the application must let its bearer do nothing but renew**. One of these CAs has
/// signed it, and none below them: the name of its issuer is the name of that CA.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<RwLock<Arc<ServerConfig>>>);

#[derive(Debug)]
struct LenientOnExpiry {
    strict: Arc<dyn ClientCertVerifier>,
}

// === impl ServerTls ===

impl ServerTls {
    /// Shows the given certificate, followed by the CAs' own (one of which a newcomer pins), and verifies
    /// clients against these CAs.
    ///
    /// # Errors
    /// [`TlsError`], also if the key does not belong to the certificate.
    pub fn new(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let config = config(ca_pem, certificate_pem, key_pem)?;
        Ok(Self(Arc::new(RwLock::new(config))))
    }

    /// The configuration for the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Trusts these CAs and shows this certificate from the next handshake on; open connections go on.
    ///
    /// # Errors
    /// [`TlsError`]; all then stays as it is.
    pub fn replace(
        &self,
        ca_pem: &str,
        certificate_pem: &str,
        key_pem: &str,
    ) -> Result<(), TlsError> {
        let new = config(ca_pem, certificate_pem, key_pem)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

fn config(
    ca_pem: &str,
    certificate_pem: &str,
    key_pem: &str,
) -> Result<Arc<ServerConfig>, TlsError> {
    let authorities = certificates("the CA certificate", ca_pem)?;
    let trusted = Arc::new(roots(&authorities)?);
    let strict = WebPkiClientVerifier::builder_with_provider(trusted, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| refused("the CA certificate")(Error::General(e.to_string())))?;
    let mut chain = certificates("the server's certificate", certificate_pem)?;
    for ca in authorities {
        if !chain.contains(&ca) {
            chain.push(ca);
        }
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(refused("the TLS version"))?
        .with_client_cert_verifier(Arc::new(LenientOnExpiry { strict }))
        .with_single_cert(chain, key_of(key_pem)?)
        .map_err(refused("the server's certificate and key"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // No resumption (see the module's words), and no early data, which could be replayed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

// === impl LenientOnExpiry ===

impl ClientCertVerifier for LenientOnExpiry {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Of a trusted CA neither its path length nor its other limits are looked at: whoever has the key of one could
        // sign another CA below it, with any name. Nobody here needs one.
        let verdict = self.strict.verify_client_cert(end_entity, &[], now);
        let untimely = match verdict {
            Err(Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )) => verdict,
            other => return other,
        };
        let Some((not_before, not_after)) = validity_of(end_entity) else {
            return untimely;
        };
        // All else must hold as in the nearest second of its validity: issuer, usage, signature.
        let then = now.as_secs().clamp(not_before, not_after.max(not_before));
        if then.abs_diff(now.as_secs()) > EXPIRED_ACCEPTED.as_secs() {
            return untimely;
        }
        let then = UnixTime::since_unix_epoch(Duration::from_secs(then));
        self.strict.verify_client_cert(end_entity, &[], then)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

/// The first and the last second of a certificate's validity, since the epoch.
fn validity_of(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    let from = u64::try_from(validity.not_before.timestamp()).ok()?;
    let to = u64::try_from(validity.not_after.timestamp()).ok()?;
    Some((from, to))
}
