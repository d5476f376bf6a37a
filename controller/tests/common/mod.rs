//! What the worlds of several tests share: people, and servers that do what they are told.

#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::{BTreeMap, BTreeSet};
use tamer_controller::fleet::Fleet;
use tamer_controller::fleet::deploy::By;
use tamer_controller::fleet::hosts::{Session, SessionId};
use tamer_controller::identity::registry::{Keys, Operator, Role, Roles};
use tamer_controller::identity::tokens::Grant as Invitation;
use tamer_core::check::Results;
use tamer_core::desired::{
    ActivationReport, ActivationStatus, ComponentReport, DesiredComponent, Failure, FailureKind,
    Grant, Purpose, Slot,
};
use tamer_core::digest::Digest;
use tamer_core::id::{HostName, OperatorName};
use tamer_core::moment::{Moment, Span};
use tamer_core::release::ReleaseRef;
use tamer_core::schema::MigrationReport;

pub(crate) fn anna() -> By {
    By {
        who: "anna".into(),
        reason: "because".into(),
    }
}

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
    let grant = Invitation::Host {
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

/// The session of a server that has not been started again since the first one.
pub(crate) fn session(number: u64) -> Session {
    Session {
        id: SessionId(number),
        run_id: "one".into(),
        agent_version: "0.1.0".into(),
        clock_ahead: 0,
    }
}

/// One component on a server: what runs there, and what was answered last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub(crate) running: Option<ReleaseRef>,
    pub(crate) staged: BTreeSet<Digest>,
    pub(crate) activation: Option<ActivationReport>,
    pub(crate) migration: Option<MigrationReport>,
}

impl Part {
    /// A grant that was not answered yet.
    pub(crate) fn granted(&self, told: &DesiredComponent) -> Option<Grant> {
        let known = self.activation.as_ref().map(|it| it.grant);
        told.grant.filter(|it| Some(it.id) > known)
    }

    /// Fetches what it is told of, and switches where it may, in time. What fails there is undone, going forward.
    pub(crate) fn obey(&mut self, told: &DesiredComponent, fails: bool, now: Moment) {
        let named = told.run.iter().chain(&told.stage);
        self.staged.extend(named.map(|release| release.manifest));
        let Some(grant) = self.granted(told) else {
            return;
        };
        let status = if now > grant.start_by {
            ActivationStatus::Expired
        } else if fails && grant.purpose == Purpose::Forward {
            ActivationStatus::Undone(Failure::seen(FailureKind::Check, "500"))
        } else {
            self.running.clone_from(&told.run);
            ActivationStatus::Done
        };
        self.activation = Some(ActivationReport {
            grant: grant.id,
            release: told.run.clone(),
            status,
        });
    }

    /// What the server says of it.
    pub(crate) fn report(&self, slot: &Slot) -> ComponentReport {
        ComponentReport {
            slot: slot.clone(),
            running: self.running.clone(),
            staged: self.staged.iter().copied().collect(),
            staging_failure: None,
            activation: self.activation.clone(),
            checks: Results::new(),
            hold: None,
            drift: None,
            compared: true,
            repair: None,
            migration: self.migration.clone(),
        }
    }
}
