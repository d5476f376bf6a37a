//! Join tokens: one line that a person pastes, with everything a newcomer needs to trust its
//! controller and to be trusted once.
//!
//! The text is `tamer-join-` and unpadded base64url of: version (1 byte), kind (1), length of the
//! address (1), the address, fingerprint of the CA (32), trust root (0 or 32), secret (32), and the
//! first 4 bytes of the SHA-256 of all that, so that a line cut short while pasting is told at once.

use crate::address::Address;
use crate::hash::sha256;
use crate::terminal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::Path;
use std::str::FromStr;
use tamer_core::digest::Digest;

/// What every token begins with.
pub const PREFIX: &str = "tamer-join-";

const VERSION: u8 = 1;
const CHECK: usize = 4;
/// More than the longest token has.
const MAX_TEXT: usize = 1024;

/// Who may join with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// A server's agent.
    Host,
    /// A person or a CI job.
    Operator,
}

/// The 32 random bytes that only the holder of a token knows. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// A join token. `Display` prints the secret: show it once, to the person who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Who may join with it.
    pub kind: TokenKind,
    /// Where the controller listens.
    pub controller: Address,
    /// SHA-256 of the controller's CA certificate (DER): whom to trust at first contact.
    pub ca: Digest,
    /// The digest of the team's trust root; unknown before `tamer trust init`.
    pub trust_root: Option<Digest>,
    /// Proves that the holder was invited; the controller keeps only its digest.
    pub secret: Secret,
}

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It does not look like one at all.
    #[error("this is not a join token: it must begin with `{PREFIX}`")]
    Prefix,
    /// Letters are missing or changed.
    #[error("the join token is damaged: copy the whole line again")]
    Damaged,
    /// Made by a newer controller.
    #[error("the join token has format {0}, which this version of tamer does not know")]
    Version(u8),
}

/// Why no token was given.
#[derive(Debug, thiserror::Error)]
pub enum NotGiven {
    /// It cannot be read.
    #[error("cannot read a join token from {from}")]
    Read {
        /// The file, or `standard input`, or `the terminal`.
        from: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing stands there.
    #[error(
        "no join token came from {0}: type the command alone to be asked for it, or give --token-file FILE"
    )]
    Empty(String),
    /// What stands there is no token.
    #[error(transparent)]
    Bad(#[from] BadToken),
}

/// No randomness could be had from the system.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Operator => "operator",
        })
    }
}

// === impl Secret ===

impl Secret {
    /// A new secret from the system's randomness.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Wraps bytes that came over the wire.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to send them to the controller.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the controller stores and looks up.
    pub fn digest(&self) -> Digest {
        sha256(&self.0)
    }
}

/// The token that a person gives a command: in `file` (`-` is standard input); without one asked for on the terminal,
/// without echo, or read from standard input where that is none. It is no word of the command, since everybody on the
/// machine may see those.
///
/// # Errors
/// [`NotGiven`].
pub fn given(file: Option<&Path>) -> Result<JoinToken, NotGiven> {
    let input = || String::from("standard input");
    let (from, read) = match file {
        Some(file) if file != Path::new("-") => {
            (file.display().to_string(), File::open(file).and_then(text))
        }
        None if std::io::stdin().is_terminal() => (
            "the terminal".to_owned(),
            terminal::ask("join token (it is not shown): "),
        ),
        _ => (input(), text(std::io::stdin())),
    };
    let text = read.map_err(|source| NotGiven::Read {
        from: from.clone(),
        source,
    })?;
    match text.trim() {
        "" => Err(NotGiven::Empty(from)),
        token => Ok(token.parse()?),
    }
}

/// No more than a token can be.
fn text(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(2 * MAX_TEXT as u64).read_to_string(&mut text)?;
    Ok(text)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

// === impl JoinToken ===

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.controller.to_string();
        let kind = match self.kind {
            TokenKind::Host => 0,
            TokenKind::Operator => 1,
        };
        let length = u8::try_from(address.len()).map_err(|_| fmt::Error)?;
        let mut bytes = vec![VERSION, kind, length];
        bytes.extend_from_slice(address.as_bytes());
        bytes.extend_from_slice(self.ca.as_bytes());
        if let Some(root) = &self.trust_root {
            bytes.extend_from_slice(root.as_bytes());
        }
        bytes.extend_from_slice(&self.secret.0);
        let check = sha256(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..CHECK]);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinToken {
    type Err = BadToken;
    fn from_str(given: &str) -> Result<Self, BadToken> {
        let text = given.trim().strip_prefix(PREFIX).ok_or(BadToken::Prefix)?;
        if text.len() > MAX_TEXT {
            return Err(BadToken::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| BadToken::Damaged)?;
        let (body, check) = bytes.split_last_chunk::<CHECK>().ok_or(BadToken::Damaged)?;
        if sha256(body).as_bytes()[..CHECK] != *check {
            return Err(BadToken::Damaged);
        }
        match body {
            [VERSION, ..] => parse_v1(&body[1..]).ok_or(BadToken::Damaged),
            [other, ..] => Err(BadToken::Version(*other)),
            [] => Err(BadToken::Damaged),
        }
    }
}

fn parse_v1(bytes: &[u8]) -> Option<JoinToken> {
    let (&kind, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (address, rest) = rest.split_at_checked(usize::from(length))?;
    let (ca, rest) = rest.split_first_chunk::<32>()?;
    let (rest, secret) = rest.split_last_chunk::<32>()?;
    Some(JoinToken {
        kind: match kind {
            0 => TokenKind::Host,
            1 => TokenKind::Operator,
            _ => return None,
        },
        controller: std::str::from_utf8(address).ok()?.parse().ok()?,
        ca: Digest::new(*ca),
        trust_root: match rest.len() {
            0 => None,
            _ => Some(Digest::try_from(rest).ok()?),
        },
        secret: Secret(*secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(kind: TokenKind, root: Option<[u8; 32]>, secret: [u8; 32]) -> JoinToken {
        JoinToken {
            kind,
            controller: "https://controller.example:7400".parse().unwrap(),
            ca: Digest::new([1; 32]),
            trust_root: root.map(Digest::new),
            secret: Secret::new(secret),
        }
    }

    proptest! {
        #[test]
        fn a_token_is_read_back_and_no_damaged_one_is(
            operator: bool, root: Option<[u8; 32]>, secret: [u8; 32], at in 0usize..100, cut in 1usize..100,
        ) {
            let kind = if operator { TokenKind::Operator } else { TokenKind::Host };
            let token = token(kind, root, secret);
            let text = token.to_string();
            prop_assert_eq!(text.parse::<JoinToken>().unwrap(), token);
            prop_assert_eq!(text[..text.len() - cut].parse::<JoinToken>(), Err(BadToken::Damaged));
            let mut changed: Vec<u8> = text.clone().into_bytes();
            let at = PREFIX.len() + at;
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(changed.parse::<JoinToken>(), Err(BadToken::Damaged));
        }

        #[test]
        fn no_text_makes_it_panic(text: String, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = text.parse::<JoinToken>();
            let mut bytes = bytes;
            let check = sha256(&bytes);
            bytes.extend_from_slice(&check.as_bytes()[..CHECK]);
            let _ = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)).parse::<JoinToken>();
        }
    }

    #[test]
    fn debug_shows_no_secret_and_versions_are_told() {
        let token = token(TokenKind::Host, None, [0xAB; 32]);
        let shown = format!("{token:?}");
        assert!(shown.contains("Secret(…)") && !shown.contains("171") && !shown.contains("abab"));
        let mut newer = vec![9, 0];
        let check = sha256(&newer);
        newer.extend_from_slice(&check.as_bytes()[..CHECK]);
        let newer = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(newer));
        assert_eq!(newer.parse::<JoinToken>(), Err(BadToken::Version(9)));
        assert_eq!("hello".parse::<JoinToken>(), Err(BadToken::Prefix));
        assert_ne!(Secret::random().unwrap(), Secret::random().unwrap());
    }
}
