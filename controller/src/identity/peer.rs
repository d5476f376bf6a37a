//! Who is at the other end of a connection, as its certificate says.
//!
//! The name stands in the certificate's one URI (subject alternative name):
//! `tamer://host/ENVIRONMENT/NAME?incarnation=N` or `tamer://operator/NAME`.

use super::ca::CLOCK_SKEW;
use std::fmt;
use std::str::FromStr;
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::{Moment, Span};
use tamer_kit::hash::sha256;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A name that the controller's CA vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A server's agent.
    Host {
        /// The environment that it joined.
        environment: EnvironmentName,
        /// Its name.
        name: HostName,
        /// Counts the machines that have borne the name, from 1.
        incarnation: u32,
    },
    /// A person or a CI job.
    Operator {
        /// Their name.
        name: OperatorName,
    },
}

/// What the certificate of a connection says. That it is of this controller's CA has been verified
/// in the handshake; whether its bearer may still do anything is the registry's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// SHA-256 of the public key (SubjectPublicKeyInfo).
    pub key: Digest,
    /// SHA-256 of the whole certificate.
    pub certificate: Digest,
    /// The certificate's serial number, in hexadecimal digits.
    pub serial: String,
    /// The name of the CA that issued it, as [`Ca::name`](super::ca::Ca::name) has it. No two CAs of a controller have
    /// the same, and the handshake has verified that the one of this name signed it: no CA below one of them counts.
    pub issuer: Digest,
    /// When the certificate was issued, to the second.
    pub issued: Moment,
    /// The last moment of the certificate's validity. A connection may outlive it.
    pub not_after: Moment,
}

/// Who a request comes from; every request carries one as an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Nobody known: may only offer a token.
    Stranger,
    /// The bearer of a certificate.
    Peer(std::sync::Arc<Peer>),
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPeer {
    /// Not a certificate.
    #[error("the certificate cannot be read")]
    Malformed,
    /// No identity in it, or more than one.
    #[error("the certificate does not carry exactly one tamer:// name")]
    NoName,
    /// The name is wrong.
    #[error("`{0}` is not a tamer:// name of a host or an operator")]
    BadName(String),
}

// === impl Identity ===

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host {
                environment,
                name,
                incarnation,
            } => write!(
                f,
                "tamer://host/{environment}/{name}?incarnation={incarnation}"
            ),
            Self::Operator { name } => write!(f, "tamer://operator/{name}"),
        }
    }
}

impl FromStr for Identity {
    type Err = BadPeer;
    fn from_str(given: &str) -> Result<Self, BadPeer> {
        let parse = || {
            let rest = given.strip_prefix("tamer://")?;
            match rest.split_once('/')? {
                ("host", rest) => {
                    let (environment, rest) = rest.split_once('/')?;
                    let (name, incarnation) = rest.split_once("?incarnation=")?;
                    Some(Self::Host {
                        environment: environment.parse().ok()?,
                        name: name.parse().ok()?,
                        incarnation: incarnation.parse().ok()?,
                    })
                }
                ("operator", name) => Some(Self::Operator {
                    name: name.parse().ok()?,
                }),
                _ => None,
            }
        };
        // One name has one spelling: `+1` or `01` would be numbers too.
        parse()
            .filter(|identity| identity.to_string() == given)
            .ok_or_else(|| BadPeer::BadName(given.chars().take(80).collect()))
    }
}

// === impl Peer ===

impl Peer {
    /// Reads the certificate that a client showed.
    ///
    /// # Errors
    /// [`BadPeer`].
    pub fn from_der(der: &[u8]) -> Result<Self, BadPeer> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| BadPeer::Malformed)?;
        if !rest.is_empty() {
            return Err(BadPeer::Malformed);
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| BadPeer::Malformed)?
            .ok_or(BadPeer::NoName)?;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return Err(BadPeer::NoName);
        };
        let moment =
            |seconds: i64| Moment(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
        let validity = certificate.validity();
        Ok(Self {
            identity: uri.parse()?,
            key: sha256(certificate.public_key().raw),
            certificate: sha256(der),
            serial: hex::encode(certificate.raw_serial()),
            issuer: sha256(certificate.issuer().as_raw()),
            issued: moment(validity.not_before.timestamp()) + Span(CLOCK_SKEW),
            not_after: moment(validity.not_after.timestamp()),
        })
    }

    /// Whether the certificate's validity is over.
    pub fn expired(&self, now: Moment) -> bool {
        now > self.not_after
    }

    /// Whether its validity has not begun: it was issued when the clock here stood later than it does now.
    pub fn early(&self, now: Moment) -> bool {
        now + Span(CLOCK_SKEW) < self.issued
    }
}

impl Caller {
    /// The peer, unless it is a stranger.
    pub fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Stranger => None,
            Self::Peer(peer) => Some(peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_are_read_back(
            environment in "[a-z][a-z0-9]{0,9}", name in "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,3}",
            incarnation: u32, operator: bool,
        ) {
            let identity = if operator {
                Identity::Operator { name: name.parse().unwrap() }
            } else {
                Identity::Host {
                    environment: environment.parse().unwrap(),
                    name: name.parse().unwrap(),
                    incarnation,
                }
            };
            prop_assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text: String) {
            let _ = Peer::from_der(&bytes);
            let _ = format!("tamer://{text}").parse::<Identity>();
        }
    }

    #[test]
    fn a_host_is_written_as_documented_and_nothing_else_is_read() {
        let web: Identity = "tamer://host/production/web-01?incarnation=3"
            .parse()
            .unwrap();
        assert_eq!(
            web,
            Identity::Host {
                environment: "production".parse().unwrap(),
                name: "web-01".parse().unwrap(),
                incarnation: 3,
            }
        );
        for bad in [
            "tamer://host/production/web-01",
            "tamer://host/web-01?incarnation=1",
            "tamer://host/production/web-01?incarnation=01",
            "tamer://host/production/web-01?incarnation=+1",
            "tamer://host/production/../web?incarnation=1",
            "tamer://operator/anna/admin",
            "tamer://operator/",
            "tamer://controller/x",
            "https://operator/anna",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
