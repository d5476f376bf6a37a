//! A newcomer redeems a token: the token is used up and the name registered, or nothing changes.

use super::peer::Identity;
use super::registry::{Host, Keys, NotGiven, Operator, Registry};
use super::tokens::{Grant, TokenError, Tokens};
use tamer_core::digest::Digest;
use tamer_core::id::HostName;
use tamer_core::moment::Moment;
use tamer_kit::token::TokenKind;

/// What a newcomer has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Whom to sign a certificate for.
    pub identity: Identity,
    /// Keys that the name had before: they are good for nothing now; close their connections.
    pub replaced: Vec<Digest>,
}

/// Why a newcomer is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The token is not good for it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is a host of this name.
    #[error(
        "there is a host {0} already; `tamer host invite --replace {0}` lets a rebuilt machine take its name"
    )]
    NameTaken(HostName),
    /// To be replaced is a host that nobody knows, or one of another environment.
    #[error("there is no host {0} to replace in this environment")]
    NothingToReplace(HostName),
    /// What the token gives is not given any more.
    #[error(transparent)]
    NotGiven(#[from] NotGiven),
    /// One key, two names.
    #[error("the key belongs to {0} already: make a new one")]
    KeyTaken(String),
}

/// Lets a host join under `name` with a key that it has proven to hold.
///
/// Asking again with the same token, name and key gives the same answer.
///
/// # Errors
/// [`JoinError`]; nothing has changed then.
pub fn join_host(
    registry: &mut Registry,
    tokens: &mut Tokens,
    secret: &Digest,
    name: &HostName,
    key: Digest,
    now: Moment,
) -> Result<Joined, JoinError> {
    let (grant, by) = tokens.check(secret, TokenKind::Host, Some(name), key, now)?;
    let Grant::Host {
        environment,
        labels,
        replaces,
    } = grant
    else {
        return Err(TokenError::WrongKind(TokenKind::Host).into());
    };
    let known = registry.hosts.get(name);
    let again = tokens.0.get(secret).and_then(|token| token.used.as_ref()) == Some(&by);
    let identity = |incarnation| Identity::Host {
        environment: environment.clone(),
        name: name.clone(),
        incarnation,
    };
    if again {
        // The answer was lost. What happened to the host since then stands: a revocation, too.
        return match known {
            Some(host) if host.keys.hold(key) && !host.revoked => Ok(Joined {
                identity: identity(host.incarnation),
                replaced: Vec::new(),
            }),
            _ => Err(TokenError::Used(by.name).into()),
        };
    }
    if let Some(owner) = registry.owner(key) {
        return Err(JoinError::KeyTaken(owner.to_owned()));
    }
    let incarnation = match (known, replaces) {
        (None, None) => 1,
        (Some(old), Some(_)) if old.environment == *environment => old.incarnation + 1,
        (_, Some(_)) => return Err(JoinError::NothingToReplace(name.clone())),
        (Some(_), None) => return Err(JoinError::NameTaken(name.clone())),
    };
    let joined = Joined {
        identity: identity(incarnation),
        replaced: known.map_or(Vec::new(), |old| old.keys.all().collect()),
    };
    let host = Host {
        environment: environment.clone(),
        labels: labels.clone(),
        incarnation,
        // The CA comes with the certificate, and is kept first.
        keys: Keys {
            ca: registry.issuing,
            ..Keys::new(key)
        },
        revoked: false,
        joined_at: now,
    };
    tokens.redeem(secret, TokenKind::Host, Some(name), key, now)?;
    registry.hosts.insert(name.clone(), host);
    Ok(joined)
}

/// Lets an operator in with a key that they have proven to hold, under the name in the token.
/// An operator of that name loses the old key, and may do what [`Registry::roles_with`] says.
///
/// # Errors
/// [`JoinError`]; nothing has changed then.
pub fn join_operator(
    registry: &mut Registry,
    tokens: &mut Tokens,
    secret: &Digest,
    key: Digest,
    now: Moment,
) -> Result<Joined, JoinError> {
    let (grant, by) = tokens.check(secret, TokenKind::Operator, None, key, now)?;
    let Grant::Operator { name, roles } = grant else {
        return Err(TokenError::WrongKind(TokenKind::Operator).into());
    };
    let (name, roles) = (name.clone(), roles.clone());
    let known = registry.operators.get(&name);
    let again = tokens.0.get(secret).and_then(|token| token.used.as_ref()) == Some(&by);
    let identity = Identity::Operator { name: name.clone() };
    if again {
        return match known {
            Some(operator) if operator.keys.hold(key) && !operator.revoked => Ok(Joined {
                identity,
                replaced: Vec::new(),
            }),
            _ => Err(TokenError::Used(by.name).into()),
        };
    }
    let invited_by = tokens.0.get(secret).and_then(|it| it.created_by.as_ref());
    let roles = registry.roles_with(invited_by, &name, &roles)?;
    if let Some(owner) = registry.owner(key) {
        return Err(JoinError::KeyTaken(owner.to_owned()));
    }
    let replaced = known.map_or(Vec::new(), |old| old.keys.all().collect());
    tokens.redeem(secret, TokenKind::Operator, None, key, now)?;
    let operator = Operator {
        roles,
        // The CA comes with the certificate, and is kept first.
        keys: Keys {
            ca: registry.issuing,
            ..Keys::new(key)
        },
        revoked: false,
        joined_at: now,
    };
    registry.operators.insert(name, operator);
    Ok(Joined { identity, replaced })
}
