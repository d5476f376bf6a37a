//! The controller's side of join tokens: one-time, expiring, bound to what they grant.
//!
//! Only the SHA-256 of a token's secret is kept. The secret has 256 random bits and is looked up by
//! its digest, so how long a look-up takes tells nothing that helps to guess one.

use super::registry::Roles;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::Moment;
use tamer_core::selector::Labels;
use tamer_kit::token::TokenKind;

/// What whoever redeems a token becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// A host, under the name that its agent gives.
    Host {
        /// The environment that it joins, for good.
        environment: EnvironmentName,
        /// Its labels.
        labels: Labels,
        /// The host whose name a rebuilt machine takes over; no other name will do then.
        replaces: Option<HostName>,
    },
    /// An operator. The name is the inviter's choice: it stands in the audit log.
    Operator {
        /// Their name; one that exists gets the new key, and these roles besides its own.
        name: OperatorName,
        /// What they may do.
        roles: Roles,
    },
}

/// A token that was given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it grants.
    pub grant: Grant,
    /// The last moment at which it can be redeemed.
    pub expires: Moment,
    /// Who made it; nobody for the first one, which `init` prints.
    pub created_by: Option<OperatorName>,
    /// By whom it was redeemed.
    pub used: Option<Use>,
}

/// Who redeemed a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Under which name.
    pub name: String,
    /// With which key.
    pub key: Digest,
}

/// All tokens that were given out and not yet forgotten, by the digest of their secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens(pub BTreeMap<Digest, Token>);

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nobody gave it out, or it is long gone.
    #[error("this token is not known here; ask for a new one")]
    Unknown,
    /// Too late.
    #[error("this token has expired; ask for a new one")]
    Expired,
    /// Too late: somebody else was faster.
    #[error("this token has been used by {0}; a token serves once")]
    Used(String),
    /// A host came with an operator's token, or the other way round.
    #[error("this token is not for a newcomer of kind {0}")]
    WrongKind(TokenKind),
    /// It is for one certain host.
    #[error("this token is for the host {0} alone")]
    WrongName(HostName),
}

// === impl Tokens ===

impl Tokens {
    /// Gives out a token with this secret.
    pub fn issue(&mut self, secret: Digest, token: Token) {
        self.0.insert(secret, token);
    }

    /// Takes back those that nobody has redeemed and that this is said of; gives the digests of their secrets.
    pub fn take_back(&mut self, which: impl Fn(&Token) -> bool) -> Vec<Digest> {
        let gone = |token: &Token| token.used.is_none() && which(token);
        let gone: Vec<Digest> = self
            .0
            .iter()
            .filter(|(_, token)| gone(token))
            .map(|(secret, _)| *secret)
            .collect();
        for secret in &gone {
            self.0.remove(secret);
        }
        gone
    }

    /// What the token would grant to a newcomer of this kind, name and key; changes nothing.
    ///
    /// Who redeemed it already gets the same answer again, under the same name and key and before it
    /// expires: the first answer may have been lost on its way.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(
        &self,
        secret: &Digest,
        kind: TokenKind,
        host: Option<&HostName>,
        key: Digest,
        now: Moment,
    ) -> Result<(&Grant, Use), TokenError> {
        let token = self.0.get(secret).ok_or(TokenError::Unknown)?;
        let name = match (&token.grant, kind, host) {
            (Grant::Host { replaces, .. }, TokenKind::Host, Some(host)) => match replaces {
                Some(old) if old != host => return Err(TokenError::WrongName(old.clone())),
                _ => host.to_string(),
            },
            (Grant::Operator { name, .. }, TokenKind::Operator, None) => name.to_string(),
            _ => return Err(TokenError::WrongKind(kind)),
        };
        if now > token.expires {
            return Err(TokenError::Expired);
        }
        let by = Use { name, key };
        match &token.used {
            Some(used) if *used != by => Err(TokenError::Used(used.name.clone())),
            _ => Ok((&token.grant, by)),
        }
    }

    /// [`Self::check`], and marks the token as used.
    ///
    /// # Errors
    /// [`TokenError`]; nothing has changed then.
    pub fn redeem(
        &mut self,
        secret: &Digest,
        kind: TokenKind,
        host: Option<&HostName>,
        key: Digest,
        now: Moment,
    ) -> Result<Grant, TokenError> {
        let (grant, by) = self.check(secret, kind, host, key, now)?;
        let grant = grant.clone();
        if let Some(token) = self.0.get_mut(secret) {
            token.used = Some(by);
        }
        Ok(grant)
    }

    /// Forgets tokens that expired before `before`, and says which.
    pub fn prune(&mut self, before: Moment) -> Vec<Digest> {
        let gone = |token: &Token| token.expires < before;
        let found = self.0.iter().filter(|(_, token)| gone(token));
        let found: Vec<Digest> = found.map(|(secret, _)| *secret).collect();
        self.0.retain(|_, token| !gone(token));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Digest = Digest::new([1; 32]);
    const KEY: Digest = Digest::new([2; 32]);
    const OTHER: Digest = Digest::new([3; 32]);

    fn tokens(grant: Grant) -> Tokens {
        let mut tokens = Tokens::default();
        let token = Token {
            grant,
            expires: Moment(1000),
            created_by: None,
            used: None,
        };
        tokens.issue(SECRET, token);
        tokens
    }

    fn host_grant(replaces: Option<&str>) -> Grant {
        Grant::Host {
            environment: "staging".parse().unwrap(),
            labels: Labels::new(),
            replaces: replaces.map(|name| name.parse().unwrap()),
        }
    }

    fn host(
        tokens: &mut Tokens,
        secret: Digest,
        name: &str,
        key: Digest,
        now: u64,
    ) -> Result<Grant, TokenError> {
        let name = name.parse().unwrap();
        tokens.redeem(&secret, TokenKind::Host, Some(&name), key, Moment(now))
    }

    #[test]
    fn a_token_serves_once_and_its_user_may_ask_again() {
        let mut tokens = tokens(host_grant(None));
        assert_eq!(
            host(&mut tokens, OTHER, "a", KEY, 1),
            Err(TokenError::Unknown)
        );
        assert_eq!(
            host(&mut tokens, SECRET, "a", KEY, 1000),
            Ok(host_grant(None))
        );
        assert_eq!(
            host(&mut tokens, SECRET, "a", KEY, 1000),
            Ok(host_grant(None))
        );
        let used = Err(TokenError::Used("a".to_owned()));
        assert_eq!(host(&mut tokens, SECRET, "b", KEY, 1000), used);
        assert_eq!(host(&mut tokens, SECRET, "a", OTHER, 1000), used);
        assert_eq!(
            host(&mut tokens, SECRET, "a", KEY, 1001),
            Err(TokenError::Expired)
        );
    }

    #[test]
    fn a_refusal_leaves_the_token_unused() {
        let mut tokens = tokens(host_grant(Some("web-01")));
        let before = tokens.clone();
        let wrong = TokenError::WrongName("web-01".parse().unwrap());
        assert_eq!(host(&mut tokens, SECRET, "web-02", KEY, 1), Err(wrong));
        assert_eq!(
            host(&mut tokens, SECRET, "web-01", KEY, 1001),
            Err(TokenError::Expired)
        );
        let operator = tokens.redeem(&SECRET, TokenKind::Operator, None, KEY, Moment(1));
        assert_eq!(operator, Err(TokenError::WrongKind(TokenKind::Operator)));
        assert_eq!(tokens, before);
        assert!(host(&mut tokens, SECRET, "web-01", KEY, 1).is_ok());
    }

    #[test]
    fn an_operators_token_is_not_for_hosts_and_old_ones_are_forgotten() {
        let mut tokens = tokens(Grant::Operator {
            name: "anna".parse().unwrap(),
            roles: Roles::default(),
        });
        let refused = host(&mut tokens, SECRET, "anna", KEY, 1).unwrap_err();
        assert_eq!(refused, TokenError::WrongKind(TokenKind::Host));
        assert_eq!(
            refused.to_string(),
            "this token is not for a newcomer of kind host"
        );
        assert!(tokens.prune(Moment(1000)).is_empty());
        assert_eq!(tokens.prune(Moment(1001)), [SECRET]);
        assert_eq!(tokens, Tokens::default());
    }
}
