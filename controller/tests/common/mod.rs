//! What the worlds of several tests share: a controller's fleet in memory, and servers that do what they are told.

#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::BTreeMap;
use tamer_controller::fleet::Fleet;
use tamer_controller::identity::registry::{Keys, Operator, Role, Roles};
use tamer_controller::identity::tokens::Grant;
use tamer_core::digest::Digest;
use tamer_core::id::{HostName, OperatorName};
use tamer_core::moment::{Moment, Span};

/// Anna, who is the admin of every world.
pub(crate) fn admin(fleet: &mut Fleet, now: Moment) -> OperatorName {
    let name: OperatorName = "anna".parse().unwrap();
    let anna = Operator {
        roles: Roles::everywhere(Role::Admin),
        keys: Keys::new(Digest::new([255; 32])),
        revoked: false,
        joined_at: now,
    };
    fleet.registry.operators.insert(name.clone(), anna);
    name
}

/// The admin invites a server, which joins with the key of this number.
pub(crate) fn joins(
    fleet: &mut Fleet,
    (name, number): (&str, u8),
    environment: &str,
    labels: &[(&str, &str)],
    now: Moment,
) -> HostName {
    let by = admin(fleet, now);
    let labels = labels.iter();
    let labels: BTreeMap<_, _> = labels
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let grant = Grant::Host {
        environment: environment.parse().unwrap(),
        labels,
        replaces: None,
    };
    let secret = Digest::new([254 - number; 32]);
    let given = fleet.invite(secret, grant, Span::secs(60), &by, now);
    given.unwrap();
    let name: HostName = name.parse().unwrap();
    let key = Digest::new([number; 32]);
    fleet.join(secret, Some(&name), key, now).unwrap();
    name
}
