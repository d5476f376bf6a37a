//! Which key a name goes with, and which CA its bearer has come over to.

use super::{Denied, Host, Operator, Registry};
use crate::identity::peer::{Caller, Identity, Peer};
use serde::{Deserialize, Serialize};
use tamer_core::digest::Digest;
use tamer_core::id::{HostName, OperatorName};
use tamer_core::moment::{Moment, Span};
use tamer_kit::tls::EXPIRED_ACCEPTED;

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

/// Somebody who has not shown a certificate of the CA that issues them now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// `tamer://host/…` or `tamer://operator/…`.
    pub identity: Identity,
    /// Their keys, to close their connections.
    pub keys: Vec<Digest>,
}

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

impl Registry {
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

    /// Whose key this is.
    pub(in crate::identity) fn owner(&self, key: Digest) -> Option<&str> {
        let mut hosts = self.hosts.iter().map(|(n, host)| (n.as_str(), &host.keys));
        let mut operators = self.operators.iter().map(|(n, o)| (n.as_str(), &o.keys));
        hosts
            .find(|(_, keys)| keys.hold(key))
            .or_else(|| operators.find(|(_, keys)| keys.hold(key)))
            .map(|(name, _)| name)
    }

    fn keys_mut(&mut self, identity: &Identity) -> Option<&mut Keys> {
        match identity {
            Identity::Host { name, .. } => self.hosts.get_mut(name).map(|host| &mut host.keys),
            Identity::Operator { name } => self.operators.get_mut(name).map(|o| &mut o.keys),
        }
    }
}
