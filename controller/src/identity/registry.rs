//! Whom the controller knows, and what they may do: looked up for every request, so that a
//! revocation or another role holds at once.

mod inviting;
mod keys;
mod roles;

pub use inviting::NotGiven;
pub use keys::{Behind, Keys};
pub use roles::{Place, Role, Roles};

use super::peer::{Caller, Identity, Peer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::Moment;
use tamer_core::selector::Labels;

/// A host that joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its environment, fixed when it joined.
    pub environment: EnvironmentName,
    /// Its labels.
    pub labels: Labels,
    /// Counts the machines that have borne the name, from 1.
    pub incarnation: u32,
    /// Its keys.
    pub keys: Keys,
    /// Whether it is shut out.
    pub revoked: bool,
    /// When this incarnation joined.
    pub joined_at: Moment,
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// What they may do.
    pub roles: Roles,
    /// Their keys.
    pub keys: Keys,
    /// Whether they are shut out.
    pub revoked: bool,
    /// When they joined, or logged in with a new key.
    pub joined_at: Moment,
}

/// All hosts and operators.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Registry {
    /// By name; names are unique in the whole fleet.
    pub hosts: BTreeMap<HostName, Host>,
    /// By name.
    pub operators: BTreeMap<OperatorName, Operator>,
    /// Keys that were revoked, whatever else is said of them here; from a file outside the store.
    #[serde(default)]
    pub shut_out: BTreeSet<Digest>,
    /// The name of the CA that issues certificates; from the files of the CAs, never stored here.
    #[serde(skip)]
    pub issuing: Option<Digest>,
}

/// Why a role cannot be taken from somebody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Nobody of that name is known.
    #[error("there is no operator {0}: `tamer operator list` names them all")]
    Unknown(OperatorName),
    /// They have none there.
    #[error(
        "{operator} has no role {place}: {operator} is {roles}; `tamer operator list` says what everybody is"
    )]
    None {
        /// Who.
        operator: OperatorName,
        /// Where, in words.
        place: String,
        /// What they are.
        roles: Roles,
    },
    /// They would have none at all.
    #[error("{0} has no other role: `tamer operator remove {0}` shuts {0} out")]
    Only(OperatorName),
    /// Nobody could invite anybody any more.
    #[error(transparent)]
    LastAdmin(Denied),
}

/// Why somebody may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No certificate was shown.
    #[error("you are not known here: join with a token first")]
    Stranger,
    /// Only hosts do this.
    #[error("only a host's agent may do this")]
    NotAHost,
    /// Only operators do this.
    #[error("only an operator may do this")]
    NotAnOperator,
    /// Nobody makes this call.
    #[error(
        "this controller has no such call open: is `tamer` or the agent newer than the controller?"
    )]
    NoSuchCall,
    /// The name was forgotten.
    #[error(
        "{0} is not in this controller's registry: if that was restored from a backup which is older, join \
         again with a new token (`tamer-agent enroll --force`, `tamer login`)"
    )]
    Unknown(String),
    /// Shut out.
    #[error("{0} has been revoked")]
    Revoked(String),
    /// Nobody would be left who may do everything.
    #[error(
        "{0} is the last admin: invite another one first (`tamer operator invite NAME --role admin`)"
    )]
    LastAdmin(String),
    /// The name belongs to another key by now: a rebuilt machine, a new login.
    #[error("{0} has a newer key than the one used here")]
    OldKey(String),
    /// The certificate has run out.
    #[error("the certificate of {0} has expired by this controller's clock: renew it first")]
    Expired(String),
    /// The certificate is not valid yet.
    #[error(
        "the certificate of {0} is not valid yet by this controller's clock: that is behind, or was ahead when it \
         signed. Set it right; agents then renew by themselves"
    )]
    Early(String),
    /// It ran out too long ago for a renewal.
    #[error("the certificate of {0} expired more than 90 days ago: join with a new token")]
    TooLate(String),
    /// One key would have two names.
    #[error("the new key belongs to {0} already: make another one")]
    KeyTaken(String),
    /// The role is too low.
    #[error(
        "{operator} may not do this {place}: it takes the role {needed}. {operator} is {roles}; an admin {place} \
         changes that with a new token: `tamer operator invite {operator} --role {needed}{option}`"
    )]
    Role {
        /// Who asked.
        operator: OperatorName,
        /// What they are.
        roles: Roles,
        /// The environment as an option of the command; empty for the whole fleet.
        option: String,
        /// `in production`, or `for the whole fleet`.
        place: String,
        /// The role that it takes.
        needed: Role,
    },
}

/// A certificate outside of its validity serves to be renewed, and for nothing else.
fn in_time(peer: &Peer, name: &str, now: Moment) -> Result<(), Denied> {
    if peer.expired(now) {
        return Err(Denied::Expired(name.to_owned()));
    }
    if peer.early(now) {
        return Err(Denied::Early(name.to_owned()));
    }
    Ok(())
}

// === impl Operator ===

impl Operator {
    /// They have at least the role `needed` in the environment, or with `None` for the whole fleet.
    fn demand(
        &self,
        name: &OperatorName,
        environment: Option<&EnvironmentName>,
        needed: Role,
    ) -> Result<(), Denied> {
        if self.roles.may(environment, needed) {
            return Ok(());
        }
        Err(Denied::Role {
            operator: name.clone(),
            roles: self.roles.clone(),
            option: environment.map_or_else(String::new, |e| format!(" --environment {e}")),
            place: environment.map_or("for the whole fleet".to_owned(), |e| format!("in {e}")),
            needed,
        })
    }
}

// === impl Registry ===

impl Registry {
    /// The host that calls, if it may act.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authorise_host<'a>(
        &self,
        caller: &'a Caller,
        now: Moment,
    ) -> Result<(&'a HostName, &Host), Denied> {
        let peer = caller.peer().ok_or(Denied::Stranger)?;
        let (name, host) = self.host_of(peer)?;
        in_time(peer, name.as_str(), now)?;
        Ok((name, host))
    }

    /// The operator who calls, if they have at least the role `needed` in the environment, or with
    /// `None` for the whole fleet.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authorise_operator<'a>(
        &self,
        caller: &'a Caller,
        environment: Option<&EnvironmentName>,
        needed: Role,
        now: Moment,
    ) -> Result<(&'a OperatorName, &Operator), Denied> {
        let peer = caller.peer().ok_or(Denied::Stranger)?;
        let (name, operator) = self.operator_of(peer)?;
        in_time(peer, name.as_str(), now)?;
        operator.demand(name, environment, needed)?;
        Ok((name, operator))
    }

    /// The operator who calls, if they have at least the role `needed` in any environment: for what belongs to none,
    /// and gets nowhere unless somebody deploys it there.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authorise_anywhere<'a>(
        &self,
        caller: &'a Caller,
        needed: Role,
        now: Moment,
    ) -> Result<(&'a OperatorName, &Operator), Denied> {
        let (name, operator) = self.authorise_operator(caller, None, Role::Viewer, now)?;
        if operator.roles.highest() >= Some(needed) {
            return Ok((name, operator));
        }
        Err(Denied::Role {
            operator: name.clone(),
            roles: operator.roles.clone(),
            option: " --environment NAME".to_owned(),
            place: "in any environment".to_owned(),
            needed,
        })
    }

    /// The role of an operator who calls, whether they may act or not: for the audit log. Nobody else has one, and
    /// nobody who shows another key than theirs.
    pub fn role_of(&self, caller: &Caller, environment: Option<&EnvironmentName>) -> Option<Role> {
        let (_, operator) = self.operator_of(caller.peer()?).ok()?;
        operator.roles.in_environment(environment)
    }

    /// Takes in that this key was revoked, at that moment, whatever is said of its bearer here; says
    /// whether that changed anything. A host is shut out in all its incarnations up to that one, with all
    /// keys that it ever had, and also if it is not known here: its name is taken.
    pub fn shut_out(&mut self, key: Digest, whose: &Identity, at: Moment) -> bool {
        self.shut_out.insert(key);
        match whose {
            Identity::Host {
                environment,
                name,
                incarnation,
            } => {
                let host = self.hosts.entry(name.clone()).or_insert_with(|| Host {
                    environment: environment.clone(),
                    labels: Labels::new(),
                    incarnation: 0,
                    keys: Keys::new(key),
                    revoked: false,
                    joined_at: at,
                });
                let older = host.incarnation < *incarnation
                    || host.incarnation == *incarnation && !host.revoked;
                if older {
                    host.incarnation = *incarnation;
                    host.revoked = true;
                }
                older
            }
            Identity::Operator { name } => match self.operators.get_mut(name) {
                Some(operator) if !operator.revoked && operator.keys.hold(key) => {
                    operator.revoked = true;
                    true
                }
                _ => false,
            },
        }
    }

    /// Shuts a host out and gives the keys whose connections are to be closed.
    ///
    /// # Errors
    /// [`Denied::Unknown`].
    pub fn revoke_host(&mut self, name: &HostName) -> Result<Vec<Digest>, Denied> {
        let host = self.hosts.get_mut(name);
        let host = host.ok_or_else(|| Denied::Unknown(name.to_string()))?;
        host.revoked = true;
        Ok(host.keys.all().collect())
    }

    /// Shuts an operator out and gives the keys whose connections are to be closed.
    ///
    /// # Errors
    /// [`Denied::Unknown`], [`Denied::LastAdmin`].
    pub fn revoke_operator(&mut self, name: &OperatorName) -> Result<Vec<Digest>, Denied> {
        let is_last = self.is_last_admin(name);
        let operator = self.operators.get_mut(name);
        let operator = operator.ok_or_else(|| Denied::Unknown(name.to_string()))?;
        if is_last {
            return Err(Denied::LastAdmin(name.to_string()));
        }
        operator.revoked = true;
        Ok(operator.keys.all().collect())
    }

    /// Whether they are the only ones who may do everything.
    pub fn is_last_admin(&self, name: &OperatorName) -> bool {
        let admin = |it: &Operator| !it.revoked && it.roles.everywhere == Some(Role::Admin);
        let others = self.operators.iter().filter(|(other, _)| *other != name);
        self.operators.get(name).is_some_and(admin) && !others.map(|it| it.1).any(admin)
    }

    /// Takes one role from an operator: the one of this environment, or the one that holds everywhere.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing has changed then.
    pub fn take_role(
        &mut self,
        name: &OperatorName,
        place: Option<&EnvironmentName>,
    ) -> Result<Role, NotTaken> {
        let operator = self.operators.get(name).filter(|it| !it.revoked);
        let operator = operator.ok_or_else(|| NotTaken::Unknown(name.clone()))?;
        let mut left = operator.roles.clone();
        let role = match place {
            None => left.everywhere.take(),
            Some(environment) => left.environments.remove(environment),
        };
        let role = role.ok_or_else(|| NotTaken::None {
            operator: name.clone(),
            place: Place(place).to_string(),
            roles: operator.roles.clone(),
        })?;
        if left == Roles::default() {
            return Err(NotTaken::Only(name.clone()));
        }
        if place.is_none() && self.is_last_admin(name) {
            return Err(NotTaken::LastAdmin(Denied::LastAdmin(name.to_string())));
        }
        if let Some(operator) = self.operators.get_mut(name) {
            operator.roles = left;
        }
        Ok(role)
    }

    fn host_of<'a>(&self, peer: &'a Peer) -> Result<(&'a HostName, &Host), Denied> {
        let Identity::Host {
            environment,
            name,
            incarnation,
        } = &peer.identity
        else {
            return Err(Denied::NotAHost);
        };
        let host = self.hosts.get(name);
        let host = host.ok_or_else(|| Denied::Unknown(name.to_string()))?;
        if host.revoked {
            return Err(Denied::Revoked(name.to_string()));
        }
        let same = host.incarnation == *incarnation && host.environment == *environment;
        if !same || !host.keys.hold(peer.key) {
            return Err(Denied::OldKey(name.to_string()));
        }
        if self.shut_out.contains(&peer.key) {
            return Err(Denied::Revoked(name.to_string()));
        }
        Ok((name, host))
    }

    fn operator_of<'a>(&self, peer: &'a Peer) -> Result<(&'a OperatorName, &Operator), Denied> {
        let Identity::Operator { name } = &peer.identity else {
            return Err(Denied::NotAnOperator);
        };
        let operator = self.operators.get(name);
        let operator = operator.ok_or_else(|| Denied::Unknown(name.to_string()))?;
        if operator.revoked {
            return Err(Denied::Revoked(name.to_string()));
        }
        if !operator.keys.hold(peer.key) {
            return Err(Denied::OldKey(name.to_string()));
        }
        if self.shut_out.contains(&peer.key) {
            return Err(Denied::Revoked(name.to_string()));
        }
        Ok((name, operator))
    }
}
