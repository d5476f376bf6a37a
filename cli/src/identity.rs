//! An operator's key and certificate.

use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tamer_core::moment::Moment;
use x509_parser::pem::Pem;

/// A new private key, PEM.
///
/// # Errors
/// The system has no randomness.
pub fn new_key() -> Result<String> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .doing(Exit::Internal, || "cannot make a key".to_owned())?;
    Ok(key.serialize_pem())
}

/// Proves to the controller that the sender holds this key: a signing request, PEM. `identity` may
/// hold certificates beside the key.
///
/// # Errors
/// There is no usable key in it.
pub fn signing_request(identity: &str) -> Result<String> {
    let what = || "cannot ask for a certificate with your key".to_owned();
    let key = KeyPair::from_pem(&key_of(identity)?).doing(Exit::Internal, what)?;
    let request = CertificateParams::default()
        .serialize_request(&key)
        .doing(Exit::Internal, what)?;
    request.pem().doing(Exit::Internal, what)
}

/// The key and the certificate in one text.
pub fn join(key: &str, certificate: &str) -> String {
    format!("{}\n{}\n", key.trim_end(), certificate.trim_end())
}

/// The private key alone, PEM.
///
/// # Errors
/// There is none.
pub fn key_of(identity: &str) -> Result<String> {
    const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
    const END: &str = "-----END PRIVATE KEY-----";
    let key = identity.find(BEGIN).and_then(|from| {
        let to = identity[from..].find(END)?;
        Some(format!("{}\n", &identity[from..from + to + END.len()]))
    });
    key.ok_or_else(|| {
        Error::usage("your login has no private key: log in again").next("tamer login")
    })
}

/// From when to when the first certificate in the text is good.
///
/// # Errors
/// There is no certificate in it.
pub fn validity(identity: &str) -> Result<(Moment, Moment)> {
    let bad = || Error::usage("your login has no certificate: log in again").next("tamer login");
    let pem = Pem::iter_from_buffer(identity.as_bytes())
        .filter_map(std::result::Result::ok)
        .find(|pem| pem.label == "CERTIFICATE")
        .ok_or_else(bad)?;
    let certificate = pem.parse_x509().map_err(|_| bad())?;
    let millis = |time: x509_parser::time::ASN1Time| {
        Moment(
            u64::try_from(time.timestamp())
                .unwrap_or(0)
                .saturating_mul(1000),
        )
    };
    let validity = certificate.validity();
    Ok((millis(validity.not_before), millis(validity.not_after)))
}

/// Whether a certificate is past half its life, and should be renewed.
pub fn is_due((from, to): (Moment, Moment), now: Moment) -> bool {
    now.since(from) >= to.since(from) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    #[test]
    fn a_request_proves_the_key_and_survives_the_identity_file() {
        let key = new_key().unwrap();
        let params = CertificateParams::default();
        let pair = KeyPair::from_pem(&key).unwrap();
        let certificate = params.self_signed(&pair).unwrap();
        let identity = join(&key, &certificate.pem());
        assert_eq!(
            key_of(&identity).unwrap().trim_end(),
            key.replace("\r\n", "\n").trim_end()
        );
        let request = signing_request(&identity).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(request.as_bytes()).unwrap();
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        assert_eq!(
            &parsed
                .certification_request_info
                .subject_pki
                .subject_public_key
                .data[..],
            pair.public_key_raw()
        );
        let (from, to) = validity(&identity).unwrap();
        assert!(from < to);
        assert!(signing_request(&certificate.pem()).is_err());
        assert!(validity(&key).is_err());
    }

    #[test]
    fn renewal_is_due_at_half_the_life() {
        let life = (Moment(1000), Moment(3000));
        assert!(!is_due(life, Moment(1999)));
        assert!(is_due(life, Moment(2000)));
        assert!(is_due(life, Moment(9000)));
        assert!(!is_due(life, Moment(0)), "a clock behind is no reason");
    }
}
