//! Certificate signing requests: the only thing taken from one is its public key.

use rcgen::{
    CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// The largest request that is read, in bytes of PEM; one for a P-256 key has about 400.
pub const MAX_CSR: usize = 16 << 10;

/// A public key whose owner has proven to hold the private half.
#[derive(Debug)]
pub struct ProvenKey {
    key: SubjectPublicKeyInfo,
    fingerprint: Digest,
}

/// Why a signing request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCsr {
    /// Larger than [`MAX_CSR`].
    #[error("the certificate signing request is larger than {MAX_CSR} bytes")]
    TooLarge,
    /// Not a request, or one with extensions that nobody knows.
    #[error("the certificate signing request cannot be read")]
    Malformed,
    /// The signature does not fit: no proof that the sender holds the key.
    #[error("the certificate signing request is not signed by its own key")]
    Unproven,
    /// Another kind of key.
    #[error("the certificate signing request is not for an ECDSA P-256 key")]
    Algorithm,
}

impl ProvenKey {
    /// Reads a request in PEM and verifies that it is signed by the key that it is for. Whatever
    /// names and extensions stand in it are passed over: a newcomer does not choose its name here.
    ///
    /// # Errors
    /// [`BadCsr`].
    pub fn from_csr_pem(pem: &str) -> Result<Self, BadCsr> {
        if pem.len() > MAX_CSR {
            return Err(BadCsr::TooLarge);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| BadCsr::Malformed)?;
        CertificateSigningRequestParams::from_der(&der).map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => BadCsr::Unproven,
            _ => BadCsr::Malformed,
        })?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| BadCsr::Malformed)?;
        if !rest.is_empty() {
            return Err(BadCsr::Malformed);
        }
        let info = &request.certification_request_info.subject_pki;
        let key = SubjectPublicKeyInfo::from_der(info.raw).map_err(|_| BadCsr::Algorithm)?;
        // 65 bytes are an uncompressed point (SEC 1, 2.3.3), the only form that TLS allows.
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != 65 {
            return Err(BadCsr::Algorithm);
        }
        Ok(Self {
            fingerprint: sha256(info.raw),
            key,
        })
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo, as the registry keeps it.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The key, to put it into a certificate.
    pub(super) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384};
    use rustls::pki_types::pem::PemObject;

    fn csr(key: &KeyPair) -> rcgen::CertificateSigningRequest {
        let params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        params.serialize_request(key).unwrap()
    }

    fn pem(der: &[u8]) -> String {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    }

    #[test]
    fn the_key_is_taken_and_nothing_else() {
        let key = KeyPair::generate().unwrap();
        let proven = ProvenKey::from_csr_pem(&csr(&key).pem().unwrap()).unwrap();
        assert_eq!(proven.key().der_bytes(), key.public_key_raw());
        let spki = rustls::pki_types::SubjectPublicKeyInfoDer::from_pem_slice(
            key.public_key_pem().as_bytes(),
        )
        .unwrap();
        assert_eq!(proven.fingerprint(), sha256(&spki));
    }

    #[test]
    fn a_request_without_proof_of_the_key_is_refused() {
        let (mine, yours) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        // Somebody else's key under my signature.
        let mut der = csr(&mine).der().to_vec();
        let at = der
            .windows(65)
            .position(|window| window == mine.public_key_raw())
            .unwrap();
        der[at..at + 65].copy_from_slice(yours.public_key_raw());
        let refused = ProvenKey::from_csr_pem(&pem(&der)).unwrap_err();
        assert_eq!(refused, BadCsr::Unproven);
    }

    #[test]
    fn other_keys_and_rubbish_are_refused() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let refuse = |pem: &str| ProvenKey::from_csr_pem(pem).unwrap_err();
        assert_eq!(refuse(&csr(&key).pem().unwrap()), BadCsr::Algorithm);
        assert_eq!(refuse("hello"), BadCsr::Malformed);
        assert_eq!(refuse(&pem(b"\x30\x03\x02\x01\x01")), BadCsr::Malformed);
        assert_eq!(refuse(&"A".repeat(MAX_CSR + 1)), BadCsr::TooLarge);
    }
}
