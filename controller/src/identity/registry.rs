//! Whom the controller knows, and what they may do: looked up for every request, so that a
//! revocation or another role holds at once.

use super::peer::{Caller, Identity, Peer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::{Moment, Span};
use tamer_core::selector::Labels;
use tamer_kit::tls::EXPIRED_ACCEPTED;

/// What an operator may do; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See everything, but not what hooks and services printed.
    Viewer,
    /// Deploy, roll back, pause, resume, abort.
    Deployer,
    /// Invite and revoke hosts and operators, apply environment files.
    Admin,
}

/// An operator's roles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roles {
    /// In every environment, and for what belongs to none.
    pub everywhere: Option<Role>,
    /// In single environments; the higher one counts.
    pub environments: BTreeMap<EnvironmentName, Role>,
}

/// The keys that a name goes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// SHA-256 of the public key (SubjectPublicKeyInfo).
    pub current: Digest,
    /// A key that a renewal brought and that has not been seen in use. Until then both are good,
    /// since the answer to the renewal may have been lost.
    pub next: Option<Digest>,
    /// When the newest of them was taken in; 0: not since this is noted.
    #[serde(default)]
    pub since: Moment,
    /// The newest CA of which a certificate of this name was seen in use: whoever shows one trusts that CA, for it came
    /// with it, and was kept first.
    #[serde(default)]
    pub ca: Option<Digest>,
}

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

/// Somebody who has not shown a certificate of the CA that issues them now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// `tamer://host/…` or `tamer://operator/…`.
    pub identity: Identity,
    /// Their keys, to close their connections.
    pub keys: Vec<Digest>,
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

/// Where a role holds, in words: `that holds everywhere`, `in staging`.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a>(pub Option<&'a EnvironmentName>);

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

// === impl Roles ===

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        })
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("that holds everywhere"),
            Some(environment) => write!(f, "in {environment}"),
        }
    }
}

/// `viewer everywhere, deployer in staging`.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let everywhere = self.everywhere.map(|role| format!("{role} everywhere"));
        let places = self.environments.iter();
        let places = places.map(|(environment, role)| format!("{role} in {environment}"));
        let all: Vec<String> = everywhere.into_iter().chain(places).collect();
        if all.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&all.join(", "))
    }
}

impl Roles {
    /// This role in every environment.
    pub fn everywhere(role: Role) -> Self {
        Self {
            everywhere: Some(role),
            environments: BTreeMap::new(),
        }
    }

    /// The role in an environment, or with `None` for what concerns the whole fleet.
    pub fn in_environment(&self, environment: Option<&EnvironmentName>) -> Option<Role> {
        let here = environment.and_then(|environment| self.environments.get(environment));
        self.everywhere.max(here.copied())
    }

    /// Whether this is enough. Whoever has a role anywhere may look at everything, for what one environment does
    /// concerns the others; what was printed there is hidden by who reads it.
    pub fn may(&self, environment: Option<&EnvironmentName>, needed: Role) -> bool {
        let anywhere = self.everywhere.is_some() || !self.environments.is_empty();
        anywhere && (needed == Role::Viewer || self.in_environment(environment) >= Some(needed))
    }

    /// The highest role that they have anywhere.
    pub fn highest(&self) -> Option<Role> {
        self.everywhere
            .max(self.environments.values().max().copied())
    }

    /// Adds these: where both name a place, the new role counts there, be it a lower one.
    pub fn add(&mut self, more: &Self) {
        self.everywhere = more.everywhere.or(self.everywhere);
        let environments = more.environments.iter();
        let environments = environments.map(|(name, role)| (name.clone(), *role));
        self.environments.extend(environments);
    }

    /// In one word where one says it: `deployer`; otherwise `viewer everywhere, deployer in staging`.
    pub fn shortly(&self) -> String {
        match self.everywhere {
            Some(role) if self.environments.is_empty() => role.to_string(),
            _ => self.to_string(),
        }
    }
}

// === impl Keys ===

impl Keys {
    /// One key.
    pub fn new(key: Digest) -> Self {
        Self {
            current: key,
            next: None,
            since: Moment(0),
            ca: None,
        }
    }

    /// Whether this key is good.
    pub fn hold(&self, key: Digest) -> bool {
        self.current == key || self.next == Some(key)
    }

    /// All of them, to close their connections.
    pub fn all(&self) -> impl Iterator<Item = Digest> + '_ {
        std::iter::once(self.current).chain(self.next)
    }

    fn renewed(&mut self, key: Digest, now: Moment) {
        self.next = (key != self.current).then_some(key);
        self.since = now;
    }

    /// Retires the old key once the next one is in use; says whether that changed anything.
    fn seen(&mut self, key: Digest) -> bool {
        let promote = self.next == Some(key);
        if promote {
            self.current = key;
            self.next = None;
        }
        promote
    }
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
        if !operator.roles.may(environment, needed) {
            return Err(Denied::Role {
                operator: name.clone(),
                roles: operator.roles.clone(),
                option: environment.map_or_else(String::new, |e| format!(" --environment {e}")),
                place: environment.map_or("for the whole fleet".to_owned(), |e| format!("in {e}")),
                needed,
            });
        }
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

    /// Whether this operator, or root on the controller for `None`, may give an operator's name to whoever comes with
    /// a token. A name that somebody has is taken away by that, with all that it may do: only who may do everything
    /// everywhere gives it to somebody else.
    pub fn may_name(&self, by: Option<&OperatorName>, name: &OperatorName) -> bool {
        let everything = |by: &OperatorName| {
            let operator = self.operators.get(by).filter(|it| !it.revoked);
            operator.is_some_and(|it| it.roles.in_environment(None) >= Some(Role::Admin))
        };
        !self.operators.contains_key(name) || by.is_none_or(everything)
    }

    /// Notes the key of a renewed certificate and says for whom to sign it. The connection proves
    /// the old key and the signing request the new one, which may be the same.
    ///
    /// # Errors
    /// [`Denied`]; a certificate that expired up to [`EXPIRED_ACCEPTED`] ago, or is not valid yet, is
    /// good enough.
    pub fn renew(
        &mut self,
        caller: &Caller,
        new_key: Digest,
        now: Moment,
    ) -> Result<Identity, Denied> {
        let peer = caller.peer().ok_or(Denied::Stranger)?;
        let (name, keys) = match &peer.identity {
            Identity::Host { .. } => {
                let (name, host) = self.host_of(peer)?;
                (name.to_string(), &host.keys)
            }
            Identity::Operator { .. } => {
                let (name, operator) = self.operator_of(peer)?;
                (name.to_string(), &operator.keys)
            }
        };
        if let Some(owner) = self.owner(new_key).filter(|_| !keys.hold(new_key)) {
            return Err(Denied::KeyTaken(owner.to_owned()));
        }
        if now > peer.not_after + Span(EXPIRED_ACCEPTED) {
            return Err(Denied::TooLate(name));
        }
        // The key that came is in use, so it is the one that a lost answer must not shut out.
        self.seen(peer);
        if let Some(keys) = self.keys_mut(&peer.identity) {
            keys.renewed(new_key, now);
        }
        Ok(peer.identity.clone())
    }

    /// To be called with every new connection's peer: retires the key from before a renewal, and notes that the peer
    /// has come over to the CA that issues certificates now. Says whether anything changed that must be stored.
    pub fn seen(&mut self, peer: &Peer) -> bool {
        let is_news = self.is_news(peer);
        let over = self.issuing.filter(|_| Some(peer.issuer) == self.issuing);
        if let Some(keys) = self.keys_mut(&peer.identity).filter(|_| is_news) {
            keys.seen(peer.key);
            keys.ca = over.or(keys.ca);
        }
        is_news
    }

    /// Whether [`Self::seen`] would change anything.
    pub fn is_news(&self, peer: &Peer) -> bool {
        let keys = match &peer.identity {
            Identity::Host { .. } => self.host_of(peer).map(|(_, host)| &host.keys),
            Identity::Operator { .. } => self.operator_of(peer).map(|(_, it)| &it.keys),
        };
        let over = self.issuing.filter(|_| Some(peer.issuer) == self.issuing);
        keys.is_ok_and(|keys| keys.next == Some(peer.key) || over.is_some() && keys.ca != over)
    }

    /// Everybody who is known, not shut out, and has not yet shown a certificate of the CA that issues them now:
    /// hosts first, by name.
    pub fn behind(&self) -> impl Iterator<Item = Behind> + '_ {
        let hosts = self.hosts_behind().map(|(name, it)| Behind {
            identity: Identity::Host {
                environment: it.environment.clone(),
                name: name.clone(),
                incarnation: it.incarnation,
            },
            keys: it.keys.all().collect(),
        });
        hosts.chain(self.operators_behind().map(|(name, it)| Behind {
            identity: Identity::Operator { name: name.clone() },
            keys: it.keys.all().collect(),
        }))
    }

    /// How many hosts and how many operators [`Self::behind`] has.
    pub fn number_behind(&self) -> (usize, usize) {
        (self.hosts_behind().count(), self.operators_behind().count())
    }

    fn hosts_behind(&self) -> impl Iterator<Item = (&HostName, &Host)> {
        let is_behind = |it: &Host| !it.revoked && it.keys.ca != self.issuing;
        self.hosts.iter().filter(move |(_, it)| is_behind(it))
    }

    fn operators_behind(&self) -> impl Iterator<Item = (&OperatorName, &Operator)> {
        let is_behind = |it: &Operator| !it.revoked && it.keys.ca != self.issuing;
        self.operators.iter().filter(move |(_, it)| is_behind(it))
    }

    /// After a restore this registry is older than certificates that the lost controller gave out: a host may have
    /// renewed its key since the `backup`. Takes in the newer key, and says whether it did; what was revoked, joined
    /// anew or retired gets nowhere by this. Operators keep their key when they renew, and whoever has only the key of
    /// an earlier CA gets nowhere, either.
    pub fn catch_up(&mut self, peer: &Peer, backup: Moment) -> bool {
        let Identity::Host {
            name, incarnation, ..
        } = &peer.identity
        else {
            return false;
        };
        let other = matches!(self.host_of(peer), Err(Denied::OldKey(_)))
            && self.issuing.is_none_or(|issuing| issuing == peer.issuer);
        if !other || self.shut_out.contains(&peer.key) || self.owner(peer.key).is_some() {
            return false;
        }
        let host = self.hosts.get(name);
        let same = host.filter(|host| host.incarnation == *incarnation);
        let joined = same.map(|host| host.joined_at);
        let shut_out = self.shut_out.clone();
        let (Some(joined), Some(keys)) = (joined, self.keys_mut(&peer.identity)) else {
            return false;
        };
        // A key that was replaced by joining anew stands among those that were revoked.
        let by_renewal = !keys.all().any(|key| shut_out.contains(&key));
        // Certificates are dated to the second.
        let newer = peer.issued.0 / 1000 >= backup.0 / 1000 && peer.issued > joined.max(keys.since);
        if by_renewal && newer {
            *keys = Keys {
                since: peer.issued,
                ca: keys.ca,
                ..Keys::new(peer.key)
            };
        }
        by_renewal && newer
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

    /// Whose key this is.
    pub(super) fn owner(&self, key: Digest) -> Option<&str> {
        let mut hosts = self.hosts.iter().map(|(n, host)| (n.as_str(), &host.keys));
        let mut operators = self.operators.iter().map(|(n, o)| (n.as_str(), &o.keys));
        hosts
            .find(|(_, keys)| keys.hold(key))
            .or_else(|| operators.find(|(_, keys)| keys.hold(key)))
            .map(|(name, _)| name)
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

    fn keys_mut(&mut self, identity: &Identity) -> Option<&mut Keys> {
        match identity {
            Identity::Host { name, .. } => self.hosts.get_mut(name).map(|host| &mut host.keys),
            Identity::Operator { name } => self.operators.get_mut(name).map(|o| &mut o.keys),
        }
    }
}
