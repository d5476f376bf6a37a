//! A fleet that was loaded from an older store.

use super::*;
use crate::fleet::beyond::NotTakenBack;
use crate::fleet::deploy::By;
use crate::fleet::hosts::{Session, SessionId};
use crate::identity::peer::Peer;
use crate::identity::registry::{Host, Keys};
use crate::identity::tokens::{Grant, Token};
use std::sync::Arc;
use tamer_core::check::Results;
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::selector::Labels;

const BACKUP: Moment = Moment(1_800_000_000_000);
const DAY: u64 = 24 * 3600 * 1000;

fn digest(n: u8) -> Digest {
    Digest::new([n; 32])
}

fn web(name: &str) -> HostName {
    name.parse().unwrap()
}

fn token() -> Token {
    Token {
        grant: Grant::Operator {
            name: "anna".parse().unwrap(),
            roles: crate::identity::registry::Roles::default(),
        },
        expires: Moment(u64::MAX),
        created_by: None,
        used: None,
    }
}

/// `web-1` with key 1, joined the day before the backup; a token is out; `held`, in epoch 9.
fn restored() -> Fleet {
    let mut fleet = Fleet::new(9, Some("restored".to_owned()));
    fleet.restored_from = Some(BACKUP);
    fleet.registry.hosts.insert(
        web("web-1"),
        Host {
            environment: "production".parse().unwrap(),
            labels: Labels::new(),
            incarnation: 1,
            keys: Keys::new(digest(1)),
            revoked: false,
            joined_at: Moment(BACKUP.0 - DAY),
        },
    );
    fleet.tokens.issue(digest(200), token());
    fleet
}

fn caller(name: &str, incarnation: u32, key: u8, issued: Moment) -> Caller {
    let identity = format!("tamer://host/production/{name}?incarnation={incarnation}");
    Caller::Peer(Arc::new(Peer {
        identity: identity.parse().unwrap(),
        key: digest(key),
        certificate: digest(key),
        serial: "01".to_owned(),
        issuer: Digest::new([0; 32]),
        issued,
        not_after: Moment(u64::MAX),
    }))
}

fn later(hours: u64) -> Moment {
    Moment(BACKUP.0 + hours * 3_600_000)
}

fn may(fleet: &mut Fleet, caller: &Caller) -> Result<(), Denied> {
    fleet.authorise_host(caller, later(48)).map(|_| ())
}

#[test]
fn a_key_that_was_renewed_since_the_backup_is_taken_in_and_older_ones_are_not() {
    let mut fleet = restored();
    let (second, third) = (
        caller("web-1", 1, 2, later(12)),
        caller("web-1", 1, 3, later(24)),
    );
    may(&mut fleet, &third).unwrap();
    assert_eq!(
        may(&mut fleet, &second),
        Err(Denied::OldKey("web-1".to_owned()))
    );
    let first = caller("web-1", 1, 1, Moment(BACKUP.0 - DAY));
    assert_eq!(
        may(&mut fleet, &first),
        Err(Denied::OldKey("web-1".to_owned()))
    );
    may(&mut fleet, &third).unwrap();
    // A certificate of before the backup brings nothing: the store knew of everything then.
    let mut fleet = restored();
    let early = caller("web-1", 1, 4, Moment(BACKUP.0 - 3_600_000));
    assert_eq!(
        may(&mut fleet, &early),
        Err(Denied::OldKey("web-1".to_owned()))
    );
    // Nor does any, where the store came from no backup.
    let mut fleet = restored();
    fleet.restored_from = None;
    assert!(may(&mut fleet, &third).is_err());
    assert!(fleet.strangers.is_empty());
}

#[test]
fn a_key_that_was_retired_after_the_restore_does_not_come_back() {
    let mut fleet = restored();
    let second = caller("web-1", 1, 2, later(12));
    may(&mut fleet, &second).unwrap();
    fleet.renew(&second, digest(3), later(30)).unwrap();
    may(&mut fleet, &caller("web-1", 1, 3, later(30))).unwrap();
    assert!(may(&mut fleet, &second).is_err());
}

/// `web-N` in this incarnation was removed; it had this key then.
fn removed(fleet: &mut Fleet, name: &str, incarnation: u32, key: u8) {
    let revocation = Revocation {
        key: digest(key),
        whose: format!("tamer://host/production/{name}?incarnation={incarnation}"),
        why: "removed".to_owned(),
        at: later(30),
    };
    fleet.keep_out(&[revocation], later(48));
}

#[test]
fn who_was_shut_out_after_the_backup_stays_out_with_every_key_it_had() {
    // It had renewed its key when it was removed: the one that the store knows is out as well.
    let mut fleet = restored();
    removed(&mut fleet, "web-1", 1, 2);
    for (key, issued) in [(1, Moment(BACKUP.0 - DAY)), (2, later(12)), (3, later(24))] {
        let said = may(&mut fleet, &caller("web-1", 1, key, issued));
        assert_eq!(said, Err(Denied::Revoked("web-1".to_owned())), "{key}");
    }
    // It was replaced, and the new machine removed.
    let mut fleet = restored();
    removed(&mut fleet, "web-1", 2, 7);
    for (incarnation, key) in [(1, 1), (2, 7), (2, 8)] {
        assert!(may(&mut fleet, &caller("web-1", incarnation, key, later(24))).is_err());
    }
    assert_eq!(
        fleet.registry.hosts[&web("web-1")].incarnation,
        2,
        "the next one is 3"
    );
    // It joined and was removed, both after the backup.
    let mut fleet = restored();
    removed(&mut fleet, "web-9", 1, 9);
    let said = may(&mut fleet, &caller("web-9", 1, 9, later(24)));
    assert_eq!(said, Err(Denied::Revoked("web-9".to_owned())));
}

#[test]
fn who_joined_again_since_it_was_shut_out_stays_in() {
    let mut fleet = restored();
    let host = fleet.registry.hosts.get_mut(&web("web-1")).unwrap();
    host.incarnation = 2;
    host.keys = Keys::new(digest(5));
    removed(&mut fleet, "web-1", 1, 1);
    may(&mut fleet, &caller("web-1", 2, 5, later(31))).unwrap();
    assert!(may(&mut fleet, &caller("web-1", 1, 1, later(24))).is_err());
}

#[test]
fn hosts_that_joined_since_are_shown_and_not_let_in() {
    let mut fleet = restored();
    let new = caller("web-9", 1, 9, later(2));
    assert_eq!(
        may(&mut fleet, &new),
        Err(Denied::Unknown("web-9".to_owned()))
    );
    assert!(may(&mut fleet, &caller("web-1", 2, 8, later(2))).is_err());
    let known: Vec<_> = fleet
        .strangers
        .iter()
        .map(|(n, s)| (n.as_str(), s.known))
        .collect();
    assert_eq!(known, [("web-1", true), ("web-9", false)]);
}

#[test]
fn tokens_are_void_once_and_new_ones_are_good() {
    let mut fleet = restored();
    fleet.begin_restored(later(48));
    assert!(fleet.tokens.0.is_empty());
    let batches = fleet.drain().unwrap();
    assert!(
        !batches.is_empty(),
        "all of it is stored, the epoch included"
    );
    assert_eq!(fleet.numbers.epoch, 9);
    fleet.tokens.issue(digest(201), token());
    fleet.begin_restored(later(49));
    assert_eq!(fleet.tokens.0.len(), 1);
}

fn greet(fleet: &mut Fleet, epoch: u64) -> bool {
    let session = Session {
        id: SessionId(1),
        run_id: "a".to_owned(),
        agent_version: "0.1.0".to_owned(),
        clock_ahead: 0,
    };
    let report = HostReport {
        routes: vec![],
        inspection: None,
        generation: Generation { epoch, counter: 5 },
        components: Vec::new(),
        checks: Results::new(),
    };
    fleet
        .connected(&web("web-1"), session, report, later(48))
        .is_ok()
}

#[test]
fn the_epoch_rises_above_what_hosts_have_heard_while_it_is_held() {
    let mut fleet = restored();
    assert!(greet(&mut fleet, 4));
    assert_eq!(fleet.epoch, 9);
    // Equal is not enough: another restore may have had the same number.
    assert!(greet(&mut fleet, 9));
    assert_eq!((fleet.epoch, fleet.numbers.epoch), (10, 10));
    let seconds = later(48).0 / 1000;
    assert!(greet(&mut fleet, seconds + 3600));
    assert_eq!(fleet.epoch, seconds + 3601);
    let before = fleet.epoch;
    assert!(
        !greet(&mut fleet, before + 2 * AHEAD),
        "nobody uses up the numbers"
    );
    assert_eq!(fleet.epoch, before);
    let mut fleet = restored();
    fleet.held = None;
    assert!(
        !greet(&mut fleet, 10),
        "once it has gone on, it is what counts"
    );
    assert_eq!(fleet.epoch, 9);
}

#[test]
fn no_number_that_was_told_after_the_backup_is_told_of_something_else() {
    let mut fleet = restored();
    fleet.numbers.deployment = 7;
    fleet.numbers.rollout = 9;
    fleet.begin_restored(BACKUP);
    assert!(fleet.numbers.deployment > 900 && fleet.numbers.rollout > 900);
    let before = fleet.numbers.deployment;
    fleet.begin_restored(BACKUP);
    assert_eq!(fleet.numbers.deployment, before, "once an epoch");
}

#[test]
fn a_host_that_was_raised_out_of_reach_is_taken_back_by_a_person_alone() {
    let mut fleet = restored();
    fleet.held = None;
    let by = By {
        who: "anna".to_owned(),
        reason: "the stolen controller is off".to_owned(),
    };
    let (name, now) = (web("web-1"), later(48));
    let take_back = |fleet: &mut Fleet| fleet.take_back(&name, &by, now);
    let nothing = take_back(&mut fleet);
    assert!(matches!(nothing, Err(NotTakenBack::WithinReach(_))));
    let stolen = now.0 / 1000 + 3600;
    assert!(!greet(&mut fleet, stolen));
    let noted = crate::notes::of_environment(&fleet, None).join("\n");
    assert!(noted.contains("tamer host take-back web-1"), "{noted}");
    // That it speaks of something lower then makes it no better.
    assert!(!greet(&mut fleet, 4) && fleet.epoch == 9);
    assert_eq!(take_back(&mut fleet), Ok(stolen + 1));
    // Stored as an epoch is that comes from a restore, so the next start is no restore.
    assert_eq!((fleet.epoch, fleet.numbers.epoch), (stolen + 1, stolen + 1));
    assert!(greet(&mut fleet, stolen));
    assert!(take_back(&mut fleet).is_err());
    let told = Generation {
        epoch: stolen,
        counter: u64::MAX,
    }
    .next(fleet.epoch);
    assert_eq!(told.epoch, stolen + 1);
    // Nobody uses up the numbers.
    for absurd in [fleet.epoch + 2 * AHEAD, u64::MAX] {
        assert!(!greet(&mut fleet, absurd));
        let said = take_back(&mut fleet).unwrap_err();
        assert!(matches!(said, NotTakenBack::Absurd { .. }), "{said}");
        assert_eq!(fleet.epoch, stolen + 1);
    }
}

#[test]
fn of_renewals_those_out_of_time_are_noted_and_not_the_thousands_in_time() {
    let mut fleet = restored();
    let renewed = |fleet: &mut Fleet, issued: Moment, ends: Moment, key: u8| {
        let Caller::Peer(peer) = caller("web-1", 1, 1, issued) else {
            panic!("a peer");
        };
        let caller = Caller::Peer(Arc::new(Peer {
            not_after: ends,
            ..(*peer).clone()
        }));
        fleet.renew(&caller, digest(key), later(48)).unwrap();
        let noted = fleet.audit.drain(..).map(|it| (it.action, it.reason));
        noted.collect::<Vec<_>>()
    };
    let (before, after) = (Moment(BACKUP.0 - DAY), later(72));
    assert_eq!(renewed(&mut fleet, before, after, 1), []);
    for (issued, ends, word) in [
        (before, later(47), "expired"),
        (later(60), after, "set back"),
    ] {
        let noted = renewed(&mut fleet, issued, ends, 1);
        assert_eq!(noted.len(), 1, "{word}");
        let (action, reason) = &noted[0];
        assert!(
            action == "renew" && reason.as_ref().unwrap().contains(word),
            "{noted:?}"
        );
    }
}
