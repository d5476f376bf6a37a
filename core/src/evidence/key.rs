//! A public key as people write it into an environment file, and until when it counts.

use crate::moment::Moment;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

/// How every uncompressed ECDSA P-256 key in DER begins: algorithm and curve (RFC 5480, 2.1.1) and the marks
/// of what follows, up to the point.
const PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The length of an uncompressed point (SEC 1, 2.3.3).
const POINT: usize = 65;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// An ECDSA P-256 public key: an uncompressed point. Whether it lies on the curve is seen when it verifies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey([u8; POINT]);

/// Why a string is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an ECDSA P-256 public key: write it as PEM (`-----BEGIN PUBLIC KEY-----`), or the base64 in it"
)]
pub struct BadKey;

impl VerifyingKey {
    /// A key from its uncompressed point.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn from_point(point: &[u8]) -> Result<Self, BadKey> {
        let point: [u8; POINT] = point.try_into().map_err(|_| BadKey)?;
        // SEC 1, 2.3.3: 4 marks an uncompressed point.
        if point[0] == 4 {
            Ok(Self(point))
        } else {
            Err(BadKey)
        }
    }

    /// A key from its SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn from_der(der: &[u8]) -> Result<Self, BadKey> {
        Self::from_point(der.strip_prefix(&PREFIX).ok_or(BadKey)?)
    }

    /// The uncompressed point.
    pub const fn point(&self) -> &[u8] {
        &self.0
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn der(&self) -> Vec<u8> {
        [&PREFIX[..], &self.0].concat()
    }

    /// The key as PEM (RFC 7468).
    pub fn pem(&self) -> String {
        let text = self.to_string();
        let (first, second) = text.split_at(64);
        format!("{BEGIN}\n{first}\n{second}\n{END}\n")
    }
}

impl FromStr for VerifyingKey {
    type Err = BadKey;
    fn from_str(given: &str) -> Result<Self, BadKey> {
        let given = given.trim();
        let body = match given.strip_prefix(BEGIN) {
            Some(rest) => rest.strip_suffix(END).ok_or(BadKey)?,
            None => given,
        };
        let text: String = body.split_ascii_whitespace().collect();
        Self::from_der(&STANDARD.decode(text).map_err(|_| BadKey)?)
    }
}

impl TryFrom<String> for VerifyingKey {
    type Error = BadKey;
    fn try_from(given: String) -> Result<Self, BadKey> {
        given.parse()
    }
}

impl From<VerifyingKey> for String {
    fn from(key: VerifyingKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.der()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

/// A moment as people write it: `2027-01-31`, which is its beginning, or `2027-01-31T08:00:00Z`; UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Until(pub Moment);

/// Why a string is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a day: write it like 2027-01-31 or 2027-01-31T08:00:00Z")]
pub struct BadUntil(String);

impl FromStr for Until {
    type Err = BadUntil;
    fn from_str(given: &str) -> Result<Self, BadUntil> {
        let bad = || BadUntil(given.chars().take(80).collect());
        let full = match given.len() {
            10 => format!("{given}T00:00:00Z"),
            _ => given.to_owned(),
        };
        let time = humantime::parse_rfc3339(&full).map_err(|_| bad())?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| bad())?;
        u64::try_from(since.as_millis())
            .map(|millis| Self(Moment(millis)))
            .map_err(|_| bad())
    }
}

impl TryFrom<String> for Until {
    type Error = BadUntil;
    fn try_from(given: String) -> Result<Self, BadUntil> {
        given.parse()
    }
}

impl From<Until> for String {
    fn from(until: Until) -> String {
        until.to_string()
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Read from a text, it is within what can be written; a moment past the year 9999 is shown as that.
        let latest = Moment(253_402_300_799_999);
        let time = UNIX_EPOCH + std::time::Duration::from_millis(self.0.min(latest).0);
        f.pad(&humantime::format_rfc3339_millis(time).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

    #[test]
    fn a_key_is_read_as_pem_and_as_base64() {
        let key: VerifyingKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(key.pem().parse::<VerifyingKey>().unwrap(), key);
        assert_eq!(VerifyingKey::from_point(key.point()).unwrap(), key);
    }

    #[test]
    fn other_keys_and_rubbish_are_refused() {
        // Ed25519, a compressed point, one byte short, other base64, a private key's label.
        for bad in [
            "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=".to_owned(),
            KEY.replacen("QgAEa", "QgACa", 1),
            KEY.replacen("9R9Q==", "9R", 1),
            KEY.replacen("9R9Q==", "9R9R==", 1),
            KEY.replace("==", ""),
            format!("-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----"),
            String::new(),
        ] {
            assert_eq!(bad.parse::<VerifyingKey>(), Err(BadKey), "{bad}");
        }
    }

    #[test]
    fn days_and_moments_are_read_and_written() {
        let day: Until = "2027-01-01".parse().unwrap();
        assert_eq!(day, Until(Moment(1_798_761_600_000)));
        assert_eq!(day.to_string().parse::<Until>().unwrap(), day);
        assert_eq!("2027-01-01T00:00:00Z".parse::<Until>().unwrap(), day);
        for bad in [
            "",
            "tomorrow",
            "2027-13-01",
            "1960-01-01",
            "2027-1-1",
            "ä2027-01-",
        ] {
            assert!(bad.parse::<Until>().is_err(), "{bad}");
        }
        assert!(!Until(Moment(u64::MAX)).to_string().is_empty());
    }
}
