//! Joining, renewing, revoking: single stories first, then every order of events.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tamer_controller::identity::join::{JoinError, Joined, join_host, join_operator};
use tamer_controller::identity::peer::{Caller, Identity, Peer};
use tamer_controller::identity::registry::{
    Denied, Keys, NotGiven, NotTaken, Registry, Role, Roles,
};
use tamer_controller::identity::tokens::{Grant, Token, TokenError, Tokens};
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::Moment;
use tamer_core::selector::Labels;

const DAY: u64 = 24 * 3600 * 1000;

fn digest(n: u8) -> Digest {
    Digest::new([n; 32])
}

fn name(given: &str) -> HostName {
    given.parse().unwrap()
}

/// The bearer of a certificate that was just signed for `identity` and `key`.
fn caller(identity: &Identity, key: Digest, not_after: u64) -> Caller {
    Caller::Peer(Arc::new(Peer {
        identity: identity.clone(),
        key,
        certificate: key,
        serial: "01".to_owned(),
        issuer: Digest::new([0; 32]),
        issued: Moment(0),
        not_after: Moment(not_after),
    }))
}

#[derive(Default)]
struct Controller {
    registry: Registry,
    tokens: Tokens,
}

impl Controller {
    fn invite(&mut self, secret: u8, grant: Grant) {
        let token = Token {
            grant,
            expires: Moment(u64::MAX),
            created_by: None,
            used: None,
        };
        self.tokens.issue(digest(secret), token);
    }

    fn invite_host(&mut self, secret: u8, environment: &str, replaces: Option<&str>) {
        let grant = Grant::Host {
            environment: environment.parse().unwrap(),
            labels: Labels::from([("role".to_owned(), "web".to_owned())]),
            replaces: replaces.map(name),
        };
        self.invite(secret, grant);
    }

    fn join(&mut self, secret: u8, host: &str, key: u8) -> Result<Joined, JoinError> {
        let (host, key) = (name(host), digest(key));
        let secret = digest(secret);
        join_host(
            &mut self.registry,
            &mut self.tokens,
            &secret,
            &host,
            key,
            Moment(1),
        )
    }

    fn host(&self, caller: &Caller, now: u64) -> Result<String, Denied> {
        let found = self.registry.authorise_host(caller, Moment(now));
        found.map(|(name, _)| name.to_string())
    }
}

#[test]
fn a_host_joins_under_the_tokens_environment_and_labels() {
    let mut controller = Controller::default();
    controller.invite_host(1, "staging", None);
    let joined = controller.join(1, "web-01", 10).unwrap();
    assert_eq!(
        joined.identity.to_string(),
        "tamer://host/staging/web-01?incarnation=1"
    );
    assert!(joined.replaced.is_empty());
    let host = &controller.registry.hosts[&name("web-01")];
    assert_eq!(host.labels["role"], "web");
    let caller = caller(&joined.identity, digest(10), DAY);
    assert_eq!(controller.host(&caller, DAY).unwrap(), "web-01");
    assert!(matches!(
        controller.host(&caller, DAY + 1),
        Err(Denied::Expired(_))
    ));
    assert_eq!(controller.host(&Caller::Stranger, 1), Err(Denied::Stranger));
    // The answer was lost, the agent asks again; another key gets nothing.
    assert_eq!(controller.join(1, "web-01", 10).unwrap(), joined);
    let used = JoinError::Token(TokenError::Used("web-01".to_owned()));
    assert_eq!(controller.join(1, "web-01", 11), Err(used));
}

#[test]
fn a_name_or_a_key_that_is_taken_leaves_the_token_for_another_try() {
    let mut controller = Controller::default();
    controller.invite_host(1, "staging", None);
    controller.invite_host(2, "staging", None);
    controller.join(1, "web-01", 10).unwrap();
    let taken = JoinError::NameTaken(name("web-01"));
    assert_eq!(controller.join(2, "web-01", 11), Err(taken));
    let shared = JoinError::KeyTaken("web-01".to_owned());
    assert_eq!(controller.join(2, "web-02", 10), Err(shared));
    assert!(controller.join(2, "web-02", 11).is_ok());
}

#[test]
fn a_rebuilt_machine_takes_over_and_the_old_key_is_worth_nothing() {
    let mut controller = Controller::default();
    controller.invite_host(1, "staging", None);
    let old = controller.join(1, "web-01", 10).unwrap();
    let old_caller = caller(&old.identity, digest(10), DAY);
    controller.invite_host(2, "staging", Some("web-01"));
    controller.invite_host(3, "production", Some("web-01"));
    controller.invite_host(4, "staging", Some("web-09"));
    let nothing = |host| Err(JoinError::NothingToReplace(name(host)));
    assert_eq!(controller.join(3, "web-01", 11), nothing("web-01"));
    assert_eq!(controller.join(4, "web-09", 11), nothing("web-09"));
    assert_eq!(controller.host(&old_caller, 2).unwrap(), "web-01");

    let new = controller.join(2, "web-01", 11).unwrap();
    assert_eq!(new.replaced, [digest(10)]);
    assert!(new.identity.to_string().ends_with("incarnation=2"));
    assert!(matches!(
        controller.host(&old_caller, 2),
        Err(Denied::OldKey(_))
    ));
    let renewal = controller
        .registry
        .renew(&old_caller, digest(10), Moment(2));
    assert!(matches!(renewal, Err(Denied::OldKey(_))));
    // Nor does the new key help an old certificate's name.
    let mixed = caller(&old.identity, digest(11), DAY);
    assert!(matches!(controller.host(&mixed, 2), Err(Denied::OldKey(_))));
    // And the first token does not bring the old machine back.
    assert!(controller.join(1, "web-01", 10).is_err());
}

#[test]
fn an_expired_certificate_is_renewed_for_ninety_days() {
    let mut controller = Controller::default();
    controller.invite_host(1, "staging", None);
    let joined = controller.join(1, "web-01", 10).unwrap();
    let expired = caller(&joined.identity, digest(10), DAY);
    let renew = |controller: &mut Controller, now: u64| {
        controller.registry.renew(&expired, digest(10), Moment(now))
    };
    assert_eq!(
        renew(&mut controller, 91 * DAY),
        Ok(joined.identity.clone())
    );
    let late = renew(&mut controller, 91 * DAY + 1);
    assert_eq!(late, Err(Denied::TooLate("web-01".to_owned())));
    let keys = controller.registry.revoke_host(&name("web-01")).unwrap();
    assert_eq!(keys, [digest(10)]);
    let revoked = Err(Denied::Revoked("web-01".to_owned()));
    assert_eq!(renew(&mut controller, 2), revoked);
    assert!(
        controller.join(1, "web-01", 10).is_err(),
        "nor by its token"
    );
}

#[test]
fn a_certificate_that_is_not_valid_yet_serves_to_be_renewed_alone() {
    let mut controller = Controller::default();
    controller.invite_host(1, "staging", None);
    let joined = controller.join(1, "web-01", 10).unwrap();
    let Caller::Peer(peer) = caller(&joined.identity, digest(10), 9 * DAY) else {
        panic!("a peer");
    };
    let early = Caller::Peer(Arc::new(Peer {
        issued: Moment(8 * DAY),
        ..(*peer).clone()
    }));
    let registry = &mut controller.registry;
    let refused = registry.authorise_host(&early, Moment(7 * DAY));
    assert_eq!(refused.unwrap_err(), Denied::Early("web-01".to_owned()));
    assert!(registry.renew(&early, digest(10), Moment(7 * DAY)).is_ok());
    assert!(registry.authorise_host(&early, Moment(8 * DAY)).is_ok());
}

#[test]
fn a_lost_renewal_shuts_nobody_out_and_a_used_one_retires_the_old_key() {
    let mut controller = Controller::default();
    controller.invite_host(1, "staging", None);
    let id = controller.join(1, "web-01", 10).unwrap().identity;
    let with = |key| caller(&id, digest(key), DAY);
    let registry = &mut controller.registry;
    registry.renew(&with(10), digest(11), Moment(1)).unwrap();
    assert!(registry.authorise_host(&with(10), Moment(1)).is_ok());
    assert!(registry.authorise_host(&with(11), Moment(1)).is_ok());
    assert!(!registry.seen(with(10).peer().unwrap()));
    assert!(registry.seen(with(11).peer().unwrap()));
    let old = with(10);
    let old = registry.authorise_host(&old, Moment(1));
    assert_eq!(old.unwrap_err(), Denied::OldKey("web-01".to_owned()));
    assert!(registry.authorise_host(&with(11), Moment(1)).is_ok());
}

#[test]
fn operators_have_a_role_for_each_environment() {
    let mut controller = Controller::default();
    let roles = Roles {
        everywhere: Some(Role::Viewer),
        environments: BTreeMap::from([("staging".parse().unwrap(), Role::Deployer)]),
    };
    let grant = |roles| Grant::Operator {
        name: "anna".parse().unwrap(),
        roles,
    };
    controller.invite(1, grant(roles));
    controller.invite(2, grant(Roles::everywhere(Role::Admin)));
    let Controller { registry, tokens } = &mut controller;
    let anna = join_operator(registry, tokens, &digest(1), digest(10), Moment(1)).unwrap();
    assert_eq!(anna.identity.to_string(), "tamer://operator/anna");
    let caller_a = caller(&anna.identity, digest(10), DAY);
    let may = |registry: &Registry, caller: &Caller, environment: Option<&str>, role| {
        let environment = environment.map(|e| e.parse::<EnvironmentName>().unwrap());
        let found = registry.authorise_operator(caller, environment.as_ref(), role, Moment(1));
        found.is_ok()
    };
    for (environment, role, allowed) in [
        (Some("staging"), Role::Deployer, true),
        (Some("staging"), Role::Admin, false),
        (Some("production"), Role::Viewer, true),
        (Some("production"), Role::Deployer, false),
        (None, Role::Viewer, true),
        (None, Role::Deployer, false),
    ] {
        let got = may(registry, &caller_a, environment, role);
        assert_eq!(got, allowed, "{environment:?} {role:?}");
    }
    let refused = registry.authorise_operator(&caller_a, None, Role::Admin, Moment(1));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "anna may not do this for the whole fleet: it takes the role admin. anna is viewer everywhere, deployer in \
         staging; an admin for the whole fleet changes that with a new token: `tamer operator invite anna --role admin`"
    );
    assert_eq!(
        registry.authorise_host(&caller_a, Moment(1)).unwrap_err(),
        Denied::NotAHost
    );
    let late = registry.authorise_operator(&caller_a, None, Role::Viewer, Moment(DAY + 1));
    assert!(matches!(late, Err(Denied::Expired(_))));

    // A second login: new key, one more role, and the old key is gone.
    let again = join_operator(registry, tokens, &digest(2), digest(11), Moment(1)).unwrap();
    assert_eq!(again.replaced, [digest(10)]);
    let roles = &registry.operators[&"anna".parse().unwrap()].roles;
    assert_eq!(roles.to_string(), "admin everywhere, deployer in staging");
    assert!(!may(registry, &caller_a, None, Role::Viewer));
    let caller_b = caller(&again.identity, digest(11), DAY);
    assert!(may(registry, &caller_b, None, Role::Admin));
    let Identity::Operator { name } = &again.identity else {
        panic!("an operator joined")
    };
    // Somebody has to be left who may do everything.
    let last = registry.revoke_operator(name);
    assert_eq!(last, Err(Denied::LastAdmin("anna".to_owned())));
    assert!(may(registry, &caller_b, None, Role::Admin));
    let mut other = registry.operators[name].clone();
    other.keys = Keys::new(digest(12));
    registry.operators.insert("ben".parse().unwrap(), other);
    assert_eq!(registry.revoke_operator(name).unwrap(), [digest(11)]);
    assert!(!may(registry, &caller_b, None, Role::Viewer));
}

/// Whoever may let people into one environment must not become somebody who may do more.
#[test]
fn a_name_that_somebody_has_is_given_away_only_by_who_may_do_everything() {
    let mut controller = Controller::default();
    let operator = |name: &str, everywhere, environments: &[(&str, Role)]| Grant::Operator {
        name: name.parse().unwrap(),
        roles: Roles {
            everywhere,
            environments: environments
                .iter()
                .map(|(environment, role)| (environment.parse().unwrap(), *role))
                .collect(),
        },
    };
    controller.invite(1, operator("root", Some(Role::Admin), &[]));
    controller.invite(2, operator("eve", None, &[("staging", Role::Admin)]));
    let by = |controller: &mut Controller, by: &str, secret, grant| {
        let token = Token {
            grant,
            expires: Moment(u64::MAX),
            created_by: Some(by.parse().unwrap()),
            used: None,
        };
        controller.tokens.issue(digest(secret), token);
    };
    let join = |controller: &mut Controller, secret: u8, key: u8| {
        let Controller { registry, tokens } = controller;
        join_operator(registry, tokens, &digest(secret), digest(key), Moment(1))
    };
    join(&mut controller, 1, 10).unwrap();
    join(&mut controller, 2, 11).unwrap();

    let staging = [("staging", Role::Viewer)];
    by(&mut controller, "eve", 3, operator("root", None, &staging));
    by(&mut controller, "eve", 4, operator("ben", None, &staging));
    let before = controller.registry.clone();
    assert_eq!(
        join(&mut controller, 3, 12),
        Err(NotGiven::NotTheirs("root".parse().unwrap()).into())
    );
    assert_eq!(controller.registry, before);
    // A name that nobody has is hers to give, but not once somebody has it.
    by(&mut controller, "eve", 5, operator("ben", None, &staging));
    join(&mut controller, 4, 13).unwrap();
    assert!(join(&mut controller, 5, 14).is_err());
    // Who may do everything may do that too, as long as they may.
    by(&mut controller, "root", 6, operator("ben", None, &staging));
    by(&mut controller, "root", 7, operator("ben", None, &staging));
    assert_eq!(join(&mut controller, 6, 15).unwrap().replaced, [digest(13)]);
    controller.invite(8, operator("ruth", Some(Role::Admin), &[]));
    join(&mut controller, 8, 17).unwrap();
    controller
        .registry
        .revoke_operator(&"root".parse().unwrap())
        .unwrap();
    assert!(join(&mut controller, 7, 16).is_err());
}

/// Any of them, if there are any.
fn nth(certificates: &[(Identity, Digest)], n: usize) -> Option<(Identity, Digest)> {
    let n = n.checked_rem(certificates.len())?;
    certificates.get(n).cloned()
}

#[derive(Debug, Clone)]
enum Event {
    Invite { secret: u8, replaces: Option<u8> },
    Join { secret: u8, host: u8, key: u8 },
    Renew { certificate: usize, key: u8 },
    Connect { certificate: usize },
    Revoke { host: u8 },
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let host = 0u8..3;
    prop_oneof![
        1 => (3u8..8, prop::option::of(host.clone()))
            .prop_map(|(secret, replaces)| Event::Invite { secret, replaces }),
        3 => (0u8..8, host.clone(), 0u8..8)
            .prop_map(|(secret, host, key)| Event::Join { secret, host, key }),
        3 => (0usize..20, 0u8..8).prop_map(|(certificate, key)| Event::Renew { certificate, key }),
        3 => (0usize..20).prop_map(|certificate| Event::Connect { certificate }),
        1 => host.prop_map(|host| Event::Revoke { host }),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    /// Whatever happens in whatever order: a revoked name stays out until a new token brings it
    /// back, no token serves two, no incarnation falls, and no key opens two names.
    #[test]
    fn every_order_of_events_keeps_the_promises(events in prop::collection::vec(event(), 1..80)) {
        let host_name = |n: u8| format!("web-{n}");
        let mut controller = Controller::default();
        // Every certificate ever signed, with its key.
        let mut certificates: Vec<(Identity, Digest)> = Vec::new();
        let mut served: BTreeMap<u8, (u8, u8)> = BTreeMap::new();
        let mut invited: BTreeSet<u8> = BTreeSet::new();
        let mut revoked: BTreeSet<String> = BTreeSet::new();
        let mut highest: BTreeMap<String, u32> = BTreeMap::new();
        for secret in 0..3 {
            invited.insert(secret);
            controller.invite_host(secret, "staging", None);
        }
        for event in events {
            match event {
                // A secret is random: no two tokens share one.
                Event::Invite { secret, replaces } if invited.insert(secret) => {
                    let replaces = replaces.map(host_name);
                    controller.invite_host(secret, "staging", replaces.as_deref());
                }
                Event::Invite { .. } => {}
                Event::Join { secret, host, key } => {
                    if let Ok(joined) = controller.join(secret, &host_name(host), key) {
                        prop_assert!(invited.contains(&secret));
                        let first = served.insert(secret, (host, key));
                        prop_assert!(first.is_none_or(|first| first == (host, key)));
                        if first.is_none() {
                            revoked.remove(&host_name(host));
                        }
                        certificates.push((joined.identity, digest(key)));
                    }
                }
                Event::Renew { certificate, key } => {
                    if let Some((identity, old)) = nth(&certificates, certificate) {
                        let caller = caller(&identity, old, DAY);
                        let allowed = controller.host(&caller, 1).is_ok();
                        let renewed = controller.registry.renew(&caller, digest(key), Moment(1));
                        prop_assert!(allowed || renewed.is_err());
                        if renewed.is_ok() {
                            certificates.push((identity, digest(key)));
                        }
                    }
                }
                Event::Connect { certificate } => {
                    if let Some((identity, key)) = nth(&certificates, certificate) {
                        let caller = caller(&identity, key, DAY);
                        let before = controller.host(&caller, 1);
                        controller.registry.seen(caller.peer().unwrap());
                        prop_assert_eq!(controller.host(&caller, 1), before);
                    }
                }
                Event::Revoke { host } => {
                    if controller.registry.revoke_host(&name(&host_name(host))).is_ok() {
                        revoked.insert(host_name(host));
                    }
                }
                Event::Restart => {
                    let text = serde_json::to_string(&controller.registry).unwrap();
                    controller.registry = serde_json::from_str(&text).unwrap();
                    let text = serde_json::to_string(&controller.tokens).unwrap();
                    controller.tokens = serde_json::from_str(&text).unwrap();
                }
            }
            for (host, known) in &controller.registry.hosts {
                let highest = highest.entry(host.to_string()).or_default();
                prop_assert!(known.incarnation >= *highest);
                *highest = known.incarnation;
            }
            let mut good: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
            for (identity, key) in &certificates {
                if let Ok(host) = controller.host(&caller(identity, *key, DAY), 1) {
                    prop_assert!(!revoked.contains(&host), "{host} is revoked");
                    good.entry(host).or_default().insert(*key);
                }
            }
            for (host, keys) in &good {
                prop_assert!(keys.len() <= 2, "{host}: at most the key and the next one");
                for (other, theirs) in &good {
                    prop_assert!(host == other || keys.is_disjoint(theirs), "one key, two names");
                }
            }
        }
    }
}

#[test]
fn an_invitation_never_takes_the_last_admin_whenever_it_is_redeemed() {
    let mut controller = Controller::default();
    let name = |given: &str| -> OperatorName { given.parse().unwrap() };
    let grant = |given, role| Grant::Operator {
        name: name(given),
        roles: Roles::everywhere(role),
    };
    controller.invite(1, grant("anna", Role::Admin));
    controller.invite(2, grant("ben", Role::Admin));
    controller.invite(3, grant("anna", Role::Viewer));
    for n in [1, 2] {
        let Controller { registry, tokens } = &mut controller;
        join_operator(registry, tokens, &digest(n), digest(10 + n), Moment(1)).unwrap();
    }
    controller.registry.revoke_operator(&name("ben")).unwrap();
    let Controller { registry, tokens } = &mut controller;
    let lowered = join_operator(registry, tokens, &digest(3), digest(13), Moment(1));
    assert_eq!(lowered, Err(NotGiven::LastAdmin(name("anna")).into()));
}

#[test]
fn after_a_restore_a_host_is_believed_a_newer_key_of_this_ca_and_nobody_else_is() {
    let mut controller = Controller::default();
    controller.invite_host(1, "production", None);
    let joined = controller.join(1, "web-1", 11).unwrap();
    let roles = Roles::everywhere(Role::Admin);
    let anna: OperatorName = "anna".parse().unwrap();
    let name = anna.clone();
    controller.invite(2, Grant::Operator { name, roles });
    let Controller { registry, tokens } = &mut controller;
    join_operator(registry, tokens, &digest(2), digest(12), Moment(1)).unwrap();
    registry.issuing = Some(digest(0));
    let newer = |identity: &Identity, key, issuer| {
        let caller = caller(identity, digest(key), DAY);
        let mut peer = caller.peer().unwrap().clone();
        (peer.issued, peer.issuer) = (Moment(60_000), digest(issuer));
        peer
    };
    let backup = Moment(30_000);
    let operator = Identity::Operator { name: anna };
    let mut takes = |peer| registry.catch_up(&peer, backup);
    assert!(
        !takes(newer(&operator, 21, 0)),
        "whoever has the CA's key is no admin by it"
    );
    assert!(!takes(newer(&joined.identity, 22, 9)), "of an earlier CA");
    assert!(takes(newer(&joined.identity, 23, 0)));
}

#[test]
fn an_invitation_adds_a_role_and_one_is_taken_away_by_itself() {
    let mut controller = Controller::default();
    let anna: OperatorName = "anna".parse().unwrap();
    let places = ["staging", "production", "staging"];
    let roles = [Role::Deployer, Role::Viewer, Role::Admin];
    for (n, (place, role)) in (1..).zip(places.into_iter().zip(roles)) {
        let roles = Roles {
            everywhere: None,
            environments: BTreeMap::from([(place.parse().unwrap(), role)]),
        };
        let name = anna.clone();
        controller.invite(n, Grant::Operator { name, roles });
        let Controller { registry, tokens } = &mut controller;
        join_operator(registry, tokens, &digest(n), digest(10 + n), Moment(1)).unwrap();
    }
    let registry = &mut controller.registry;
    let shown = |registry: &Registry| registry.operators[&anna].roles.to_string();
    // The newest word counts for its place.
    assert_eq!(shown(registry), "viewer in production, admin in staging");
    let caller = caller(&Identity::Operator { name: anna.clone() }, digest(13), DAY);
    assert!(
        registry
            .authorise_anywhere(&caller, Role::Admin, Moment(1))
            .is_ok()
    );
    let (staging, production) = ("staging".parse().unwrap(), "production".parse().unwrap());
    let missing = registry.take_role(&anna, Some(&"lab".parse().unwrap()));
    assert!(matches!(missing, Err(NotTaken::None { .. })));
    assert_eq!(registry.take_role(&anna, Some(&staging)), Ok(Role::Admin));
    assert!(
        registry
            .authorise_anywhere(&caller, Role::Deployer, Moment(1))
            .is_err()
    );
    assert_eq!(
        registry.take_role(&anna, Some(&production)),
        Err(NotTaken::Only(anna.clone()))
    );
    assert_eq!(shown(registry), "viewer in production");
    // The role that holds everywhere is one of several, too; the last admin keeps it.
    let missing = registry.take_role(&anna, None);
    assert!(matches!(missing, Err(NotTaken::None { .. })));
    registry.operators.get_mut(&anna).unwrap().roles.everywhere = Some(Role::Admin);
    let last = registry.take_role(&anna, None);
    assert!(matches!(last, Err(NotTaken::LastAdmin(_))), "{last:?}");
    let other = registry.operators[&anna].clone();
    registry.operators.insert("ben".parse().unwrap(), other);
    assert_eq!(registry.take_role(&anna, None), Ok(Role::Admin));
    assert_eq!(shown(registry), "viewer in production");
    // A new key for what she is already.
    let (name, roles) = (anna.clone(), Roles::default());
    controller.invite(8, Grant::Operator { name, roles });
    let Controller { registry, tokens } = &mut controller;
    join_operator(registry, tokens, &digest(8), digest(18), Moment(1)).unwrap();
    assert_eq!(shown(registry), "viewer in production");
    // Whoever was shut out comes back with what the new token says, and no more.
    let name = anna.clone();
    let roles = Roles::everywhere(Role::Viewer);
    registry.operators.get_mut(&anna).unwrap().revoked = true;
    controller.invite(9, Grant::Operator { name, roles });
    let Controller { registry, tokens } = &mut controller;
    join_operator(registry, tokens, &digest(9), digest(19), Moment(1)).unwrap();
    assert_eq!(shown(registry), "viewer everywhere");
}
