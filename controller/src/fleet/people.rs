//! Who joins, who invites, who is shut out.

use super::Fleet;
use super::deploy::Refused;
use super::persist::Object;
use crate::identity::join::{self, JoinError, Joined};
use crate::identity::peer::{Caller, Identity};
use crate::identity::registry::{Denied, NotGiven, NotTaken, Place};
use crate::identity::tokens::{Grant, Token};
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::{Moment, Span};
use tamer_core::rollout::Event;
use tamer_core::rollout::switching::SwitchEvent;

/// Used and expired tokens are remembered this long, so that who comes late hears why.
const TOKENS_REMEMBERED: Span = Span::secs(7 * 24 * 3600);

/// Why nobody is invited.
#[derive(Debug, thiserror::Error)]
pub enum NotInvited {
    /// It is not theirs to give.
    #[error(transparent)]
    NotGiven(#[from] NotGiven),
    /// There is no such environment.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Fleet {
    /// A newcomer offers a token: a host under the name it gives, or an operator.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has changed then.
    pub fn join(
        &mut self,
        secret: Digest,
        host: Option<&HostName>,
        key: Digest,
        now: Moment,
    ) -> Result<Joined, JoinError> {
        let joined = match host {
            Some(name) => join::join_host(
                &mut self.registry,
                &mut self.tokens,
                &secret,
                name,
                key,
                now,
            )?,
            None => join::join_operator(&mut self.registry, &mut self.tokens, &secret, key, now)?,
        };
        self.dirty.insert(Object::Token(secret));
        self.dirty.insert(Object::from(&joined.identity));
        if let Identity::Host {
            name, incarnation, ..
        } = &joined.identity
        {
            self.strangers.remove(name);
            self.seats.entry(name.clone()).or_default();
            if *incarnation > 1 && !joined.replaced.is_empty() {
                self.reset_host(name, now);
            }
            self.place_host(name, now);
        }
        let before = match joined.identity.clone() {
            Identity::Host {
                environment,
                name,
                incarnation,
            } => Identity::Host {
                environment,
                name,
                incarnation: incarnation.saturating_sub(1),
            },
            operator @ Identity::Operator { .. } => operator,
        };
        self.shut_out(&joined.replaced, &before, "replaced", now);
        let why = match joined.replaced.is_empty() {
            true => "",
            false => "in the place of a key of before",
        };
        let who = joined.identity.to_string();
        self.note(now, &who, "join", &joined.identity, why);
        Ok(joined)
    }

    /// Somebody with a certificate, perhaps expired, brings a new key. It is noted where it is a person's, or out of
    /// time: ten thousand hosts that renew twice a day would bury all else.
    ///
    /// # Errors
    /// [`Denied`]; nothing has changed then.
    pub fn renew(&mut self, caller: &Caller, key: Digest, now: Moment) -> Result<Identity, Denied> {
        self.catch_up(caller);
        let identity = self.registry.renew(caller, key, now)?;
        let why = match caller.peer() {
            Some(peer) if peer.expired(now) => "after its certificate had expired",
            Some(peer) if peer.early(now) => {
                "before its certificate was valid: a clock was set back"
            }
            _ => "",
        };
        if !why.is_empty() || matches!(identity, Identity::Operator { .. }) {
            self.note(now, &identity.to_string(), "renew", &identity, why);
        }
        self.dirty.insert(Object::from(&identity));
        Ok(identity)
    }

    /// An operator calls: their newest key is in use, or they have come over to the CA that issues now.
    pub(crate) fn see_operator(&mut self, caller: &Caller) {
        let Some(peer) = caller.peer() else { return };
        if matches!(peer.identity, Identity::Operator { .. }) && self.registry.seen(peer) {
            self.dirty.insert(Object::from(&peer.identity));
        }
    }

    /// Notes what an admin does to the controller's CA.
    pub(crate) fn note_ca(
        &mut self,
        action: &str,
        object: &str,
        by: &OperatorName,
        reason: &str,
        now: Moment,
    ) {
        self.note(now, by.as_str(), action, object, reason);
    }

    /// Notes that a new CA vouches for the controller from now on.
    pub(crate) fn note_show(&mut self, fingerprint: &Digest, now: Moment) {
        self.note(
            now,
            "the controller",
            "ca.show",
            fingerprint,
            "everybody trusts it",
        );
    }

    /// Gives out a token: the last moment at which it can be redeemed.
    ///
    /// # Errors
    /// [`NotInvited`]; nothing has changed then.
    pub fn invite(
        &mut self,
        secret: Digest,
        grant: Grant,
        valid: Span,
        by: &OperatorName,
        now: Moment,
    ) -> Result<Moment, NotInvited> {
        self.registry.may_invite(by, &grant)?;
        let expires = now + valid;
        let object = match &grant {
            Grant::Host { environment, .. } if !self.environments.contains_key(environment) => {
                return Err(Refused::NoEnvironment(environment.clone()).into());
            }
            Grant::Host { environment, .. } => format!("a host of {environment}"),
            Grant::Operator { name, .. } => format!("operator {name}"),
        };
        self.tokens.issue(
            secret,
            Token {
                grant,
                expires,
                created_by: Some(by.clone()),
                used: None,
            },
        );
        self.dirty.insert(Object::Token(secret));
        for gone in self.tokens.prune(Moment(
            now.0.saturating_sub(TOKENS_REMEMBERED.0.as_millis() as u64),
        )) {
            self.dirty.insert(Object::Token(gone));
        }
        self.note(now, by.as_str(), "invite", object, "");
        Ok(expires)
    }

    /// Revokes a host and takes it out of every target. Its name may be taken again only by `--replace`.
    ///
    /// # Errors
    /// [`Denied::Unknown`] for a host that nobody knows.
    pub fn remove_host(
        &mut self,
        name: &HostName,
        by: &OperatorName,
        reason: &str,
        now: Moment,
    ) -> Result<(), Denied> {
        let keys = self.registry.revoke_host(name)?;
        let host = &self.registry.hosts[name];
        let whose = Identity::Host {
            environment: host.environment.clone(),
            name: name.clone(),
            incarnation: host.incarnation,
        };
        self.shut_out(&keys, &whose, "removed", now);
        self.dirty.insert(Object::from(&whose));
        self.place_host(name, now);
        self.forget_words(name, now);
        self.note(now, by.as_str(), "host.remove", name, reason);
        Ok(())
    }

    /// Revokes an operator: whatever runs for them ends at once. A new invitation lets them in again.
    ///
    /// # Errors
    /// [`Denied::Unknown`], [`Denied::LastAdmin`].
    pub fn remove_operator(
        &mut self,
        name: &OperatorName,
        by: &OperatorName,
        reason: &str,
        now: Moment,
    ) -> Result<(), Denied> {
        let keys = self.registry.revoke_operator(name)?;
        let whose = Identity::Operator { name: name.clone() };
        self.shut_out(&keys, &whose, "removed", now);
        // What they invited somebody to, they did as who they were; and nobody comes back by an older invitation.
        self.take_back_tokens(|it| is_for(it, name) || it.created_by.as_ref() == Some(name));
        self.dirty.insert(Object::from(&whose));
        self.note(now, by.as_str(), "operator.remove", name, reason);
        Ok(())
    }

    fn take_back_tokens(&mut self, which: impl Fn(&Token) -> bool) {
        let gone = self.tokens.take_back(which);
        self.dirty.extend(gone.into_iter().map(Object::Token));
    }

    /// Takes one role from an operator: the one of this environment, or the one that holds everywhere. It holds at
    /// once.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn take_role(
        &mut self,
        name: &OperatorName,
        place: Option<&EnvironmentName>,
        by: &OperatorName,
        reason: &str,
        now: Moment,
    ) -> Result<(), NotTaken> {
        let role = self.registry.take_role(name, place)?;
        self.take_back_tokens(|it| is_for(it, name));
        self.dirty.insert(Object::Operator(name.clone()));
        let object = format!("{name}: {role} {}", Place(place));
        self.note(now, by.as_str(), "operator.role.remove", object, reason);
        Ok(())
    }

    /// A machine was rebuilt under its old name: it knows nothing of what it was granted.
    fn reset_host(&mut self, name: &HostName, now: Moment) {
        for key in self.targets_of(name) {
            // The host is the target's: this cannot be refused.
            let _ = self.apply(&key, &Event::HostReset(name.clone()), now);
        }
        self.happen_to_router(name, SwitchEvent::HostReset, now);
        self.forget_words(name, now);
        if let Some(seat) = self.seats.get_mut(name) {
            seat.forget();
        }
    }
}

/// Whether it lets somebody of this name in.
fn is_for(token: &Token, who: &OperatorName) -> bool {
    matches!(&token.grant, Grant::Operator { name, .. } if name == who)
}
