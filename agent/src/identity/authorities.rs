//! What the controller says of its CAs, and what follows from it. No I/O.
//!
//! An agent follows a rotation over lines that a CA vouches for which it trusts: it trusts whom it is told to, then
//! renews its certificate if another CA issues them now. See `controller/src/authority.rs` for the other side.

use super::{IdentityError, Keys};
use std::time::Duration;
use tamer_kit::tls;

/// What the controller says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The certificates of all its CAs, PEM, the one first that issues.
    pub ca: String,
    /// Within what time whoever has a certificate of another one is to renew it.
    pub within: Duration,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lesson {
    /// Other CAs are to be trusted than until now.
    pub trust: bool,
    /// The certificate is to be renewed: another CA issues them now.
    pub renew: bool,
}

/// What follows from `told` for the bearer of these keys.
///
/// # Errors
/// [`IdentityError`] if these are no CAs, or none of them is known here.
pub fn lesson(keys: &Keys, told: &str) -> Result<Lesson, IdentityError> {
    follow(keys, told)?;
    let issuer = tls::names(&keys.identity)?.issuer;
    Ok(Lesson {
        trust: tls::fingerprints(&keys.ca)? != tls::fingerprints(told)?,
        renew: issuer != tls::names(told)?.subject,
    })
}

/// Refuses CAs that come from nowhere.
pub(super) fn follow(keys: &Keys, told: &str) -> Result<(), IdentityError> {
    if tls::may_follow(&keys.ca, told)? {
        return Ok(());
    }
    Err(IdentityError::Untrusted(
        "the controller names another CA than those that this host trusts: it is not followed"
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    /// A CA, and a key with a certificate of it.
    fn ca(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let signed = CertificateParams::default().signed_by(&own, &issuer);
        (
            pem,
            format!("{}{}", own.serialize_pem(), signed.unwrap().pem()),
        )
    }

    #[test]
    fn a_rotation_is_followed_step_by_step() {
        let (old, identity) = ca("old");
        let (new, newer) = ca("new");
        let both = format!("{new}{old}");
        let mut keys = Keys {
            identity,
            ca: old.clone(),
        };
        let lesson = |keys: &Keys, told: &str| {
            let lesson = super::lesson(keys, told).unwrap();
            (lesson.trust, lesson.renew)
        };
        assert_eq!(lesson(&keys, &old), (false, false));
        assert_eq!(lesson(&keys, &both), (true, true));
        keys.ca = both.clone();
        assert_eq!(lesson(&keys, &both), (false, true), "until it is renewed");
        keys.identity = newer;
        assert_eq!(lesson(&keys, &both), (false, false));
        assert_eq!(lesson(&keys, &new), (true, false));
        keys.ca = new.clone();
        assert_eq!(lesson(&keys, &new), (false, false));
    }

    #[test]
    fn cas_that_come_from_nowhere_are_not_followed() {
        let (old, identity) = ca("old");
        let others: Vec<String> = (0..4).map(|n| ca(&format!("other {n}")).0).collect();
        let keys = Keys {
            identity,
            ca: old.clone(),
        };
        for told in [
            "",
            "rubbish",
            &others[0],
            &format!("{old}{}", others.concat()),
        ] {
            assert!(lesson(&keys, told).is_err(), "{told}");
        }
        assert!(lesson(&keys, &format!("{}{old}", others[..3].concat())).is_ok());
    }
}
