//! Words of core survive the wire, and nothing that comes off the wire makes the reader panic.

#![expect(clippy::unwrap_used, reason = "generators may fail loudly")]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{
    ActivationReport, ActivationStatus, ComponentReport, Desired, DesiredComponent, Failure,
    FailureKind, Grant, HostReport, Inspected, Inspection, Purpose, RepairReport, Slot, Transfer,
};
use tamer_core::digest::Digest;
use tamer_core::drift::{Change, Difference, Drift, Inspect};
use tamer_core::generation::Generation;
use tamer_core::id::ComponentPath;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::router::{AcceptanceReport, DesiredRoute, RouteOrder, RouteReport};
use tamer_core::schema::{MigrationOrder, MigrationReport, MigrationStatus, Task};
use tamer_proto::convert::{
    BadMessage, MAX_COMPONENTS, MAX_DRIFT, MAX_INSPECTED, MAX_OUTPUT, MAX_TEXT, take_transfers,
    tell_transfer,
};
use tamer_proto::{MAX_MESSAGE, v1};

const NAME: &str = "[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?";

fn generation() -> impl Strategy<Value = Generation> {
    any::<(u64, u64)>().prop_map(|(epoch, counter)| Generation { epoch, counter })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::new)
}

fn release() -> impl Strategy<Value = ReleaseRef> {
    ("[0-9]\\.[1-9][0-9]\\.[0-9](-rc\\.[1-9])?", digest()).prop_map(|(version, manifest)| {
        ReleaseRef {
            version: version.parse().unwrap(),
            manifest,
        }
    })
}

fn slot() -> impl Strategy<Value = Slot> {
    (NAME, NAME, NAME).prop_map(|(application, component, pool)| Slot {
        application: application.parse().unwrap(),
        component: component.parse().unwrap(),
        pool: pool.parse().unwrap(),
    })
}

fn results() -> impl Strategy<Value = Results> {
    let result = prop_oneof![
        Just(CheckResult::Passed),
        ".{1,40}".prop_map(CheckResult::Failed)
    ];
    btree_map(NAME.prop_map(|name| name.parse().unwrap()), result, 0..4)
}

fn failure() -> impl Strategy<Value = Failure> {
    let kind = prop::sample::select(vec![
        FailureKind::Trust,
        FailureKind::Evidence,
        FailureKind::NotAllowed,
        FailureKind::Unsupported,
        FailureKind::Fetch,
        FailureKind::Disk,
        FailureKind::Drift,
        FailureKind::PreCheck,
        FailureKind::Check,
        FailureKind::Hook,
        FailureKind::Service,
        FailureKind::Interrupted,
        FailureKind::Host,
    ]);
    (kind, ".{0,60}", option::of(NAME), ".{0,60}").prop_map(|(kind, message, check, output)| {
        Failure {
            kind,
            message,
            check: check.map(|name| name.parse().unwrap()),
            output,
        }
    })
}

fn desired() -> impl Strategy<Value = Desired> {
    let grant =
        (generation(), any::<u64>(), any::<bool>()).prop_map(|(id, start_by, forward)| Grant {
            id,
            start_by: Moment(start_by),
            purpose: if forward {
                Purpose::Forward
            } else {
                Purpose::Back
            },
        });
    let of_slot = (
        option::of(release()),
        vec(release(), 0..3),
        vec(digest(), 0..3),
        option::of(grant),
        option::of(order()),
        option::of(digest()),
        option::of(digest()),
        any::<bool>(),
    );
    let components = btree_map(slot(), of_slot, 0..4).prop_map(|by_slot| {
        let component =
            |(slot, (run, stage, keep, grant, migrate, adopted, repair, waits))| DesiredComponent {
                slot,
                run,
                stage,
                keep,
                grant,
                migrate,
                adopted,
                repair,
                waits_for_approval: waits,
            };
        by_slot.into_iter().map(component).collect::<Vec<_>>()
    });
    let inspect = option::of((any::<u64>(), any::<bool>()));
    let routes = vec(desired_route(), 0..3);
    (
        generation(),
        NAME,
        any::<u64>(),
        components,
        inspect,
        routes,
    )
        .prop_map(
            |(generation, environment, environment_version, components, inspect, routes)| Desired {
                generation,
                environment: environment.parse().unwrap(),
                environment_version,
                components,
                routes,
                inspect: inspect.map(|(id, full)| Inspect { id, full }),
            },
        )
}

fn activation() -> impl Strategy<Value = ActivationReport> {
    let status = prop_oneof![
        ".{0,20}".prop_map(ActivationStatus::Working),
        Just(ActivationStatus::Done),
        failure().prop_map(ActivationStatus::Refused),
        failure().prop_map(ActivationStatus::Undone),
        failure().prop_map(ActivationStatus::Stuck),
        Just(ActivationStatus::Expired),
    ];
    (generation(), option::of(release()), status).prop_map(|(grant, release, status)| {
        ActivationReport {
            grant,
            release,
            status,
        }
    })
}

fn drift() -> impl Strategy<Value = Drift> {
    let difference = (".{1,20}", prop::sample::select(&Change::ALL[..]))
        .prop_map(|(path, change)| Difference { path, change });
    (digest(), 4..100_u64, vec(difference, 0..4)).prop_map(|(digest, total, differences)| Drift {
        digest,
        total,
        differences,
    })
}

fn repair() -> impl Strategy<Value = RepairReport> {
    (digest(), failure()).prop_map(|(drift, failure)| RepairReport { drift, failure })
}

fn report() -> impl Strategy<Value = HostReport> {
    let of_slot = (
        option::of(release()),
        vec(digest(), 0..3),
        option::of(failure()),
        option::of(activation()),
        results(),
        option::of(".{1,20}"),
        option::of(drift()),
        option::of(migration()),
        any::<bool>(),
        option::of(repair()),
    );
    let components = btree_map(slot(), of_slot, 0..4).prop_map(|by_slot| {
        let component = |(
            slot,
            (
                running,
                staged,
                staging_failure,
                activation,
                checks,
                hold,
                drift,
                migration,
                compared,
                repair,
            ),
        )| {
            ComponentReport {
                slot,
                running,
                staged,
                staging_failure,
                activation,
                checks,
                hold,
                drift,
                compared,
                repair,
                migration,
            }
        };
        by_slot.into_iter().map(component).collect::<Vec<_>>()
    });
    (
        generation(),
        components,
        results(),
        option::of(inspection()),
        vec(route_report(), 0..3),
    )
        .prop_map(
            |(generation, components, checks, inspection, routes)| HostReport {
                generation,
                components,
                checks,
                routes,
                inspection,
            },
        )
}

fn path() -> impl Strategy<Value = ComponentPath> {
    (NAME, NAME).prop_map(|(application, component)| ComponentPath {
        application: application.parse().unwrap(),
        component: component.parse().unwrap(),
    })
}

fn route_order() -> impl Strategy<Value = RouteOrder> {
    (generation(), NAME).prop_map(|(id, pool)| RouteOrder {
        id,
        pool: pool.parse().unwrap(),
    })
}

fn desired_route() -> impl Strategy<Value = DesiredRoute> {
    (path(), option::of(route_order()), option::of(route_order())).prop_map(
        |(component, send, accept)| DesiredRoute {
            component,
            send,
            accept,
        },
    )
}

fn route_report() -> impl Strategy<Value = RouteReport> {
    let acceptance = (generation(), results(), option::of(failure()));
    let acceptance = acceptance.prop_map(|(id, results, failure)| AcceptanceReport {
        id,
        results,
        failure,
    });
    let (acceptance, failed) = (option::of(acceptance), option::of(failure()));
    (path(), generation(), option::of(NAME), failed, acceptance).prop_map(
        |(component, answered, sends_to, failure, acceptance)| RouteReport {
            component,
            answered,
            sends_to: sends_to.map(|pool| pool.parse().unwrap()),
            failure,
            acceptance,
        },
    )
}

fn inspection() -> impl Strategy<Value = Inspection> {
    let found = prop_oneof![option::of(drift()).prop_map(Ok), failure().prop_map(Err)];
    let components = btree_map(slot(), found, 0..3);
    (any::<u64>(), components).prop_map(|(id, components)| Inspection {
        id,
        components: components
            .into_iter()
            .map(|(slot, found)| Inspected { slot, found })
            .collect(),
    })
}

fn migration() -> impl Strategy<Value = MigrationReport> {
    let version = || option::of(any::<u64>());
    let status = prop_oneof![
        Just(MigrationStatus::Working),
        any::<u64>().prop_map(MigrationStatus::Done),
        (version(), failure())
            .prop_map(|(found, failure)| MigrationStatus::NotBegun { found, failure }),
        (any::<u64>(), failure())
            .prop_map(|(version, failure)| MigrationStatus::Failed { version, failure }),
        (version(), failure())
            .prop_map(|(version, failure)| MigrationStatus::Unknown { version, failure }),
    ];
    (generation(), status).prop_map(|(id, status)| MigrationReport { id, status })
}

fn order() -> impl Strategy<Value = MigrationOrder> {
    let task = prop_oneof![Just(Task::Read), Just(Task::Up), Just(Task::Down)];
    let numbers = any::<(u64, u64, u64)>();
    (generation(), task, release(), numbers).prop_map(|(id, task, release, (from, to, at))| {
        MigrationOrder {
            id,
            schema: "main".parse().unwrap(),
            task,
            release,
            from,
            to,
            start_by: Moment(at),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn desired_state_survives_the_wire(desired in desired()) {
        let bytes = v1::Desired::from(&desired).encode_to_vec();
        let read = Desired::try_from(v1::Desired::decode(&*bytes).unwrap());
        prop_assert_eq!(read, Ok(desired));
    }

    #[test]
    fn reports_survive_the_wire(report in report()) {
        let bytes = v1::HostReport::from(&report).encode_to_vec();
        let read = HostReport::try_from(v1::HostReport::decode(&*bytes).unwrap());
        prop_assert_eq!(read, Ok(report));
    }

    #[test]
    fn whatever_the_bytes_the_reader_answers(bytes in vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
    }

    /// Random bytes seldom are messages; a damaged message often still is one.
    #[test]
    fn damaged_messages_are_read_or_refused(
        report in report(), desired in desired(), at in any::<prop::sample::Index>(), with in any::<u8>()
    ) {
        for mut bytes in [
            v1::HostReport::from(&report).encode_to_vec(),
            v1::Desired::from(&desired).encode_to_vec(),
        ] {
            let at = at.index(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            read_all(&bytes);
            read_all(&bytes[..at.min(bytes.len())]);
        }
    }
}

fn read_all(bytes: &[u8]) {
    if let Ok(message) = v1::Desired::decode(bytes) {
        drop(Desired::try_from(message));
    }
    if let Ok(message) = v1::HostReport::decode(bytes) {
        drop(HostReport::try_from(message));
    }
}

fn wire_report() -> v1::HostReport {
    v1::HostReport {
        routes: vec![],
        generation: Some(v1::Generation::default()),
        components: vec![v1::ComponentReport {
            slot: Some(wire_slot("web")),
            ..Default::default()
        }],
        checks: Vec::new(),
        inspection: None,
    }
}

fn wire_slot(component: &str) -> v1::Slot {
    v1::Slot {
        application: "shop".into(),
        component: component.into(),
        pool: "main".into(),
    }
}

/// What the reader says of a report after `change`.
fn refusal(change: impl FnOnce(&mut v1::HostReport)) -> BadMessage {
    let mut report = wire_report();
    assert!(HostReport::try_from(report.clone()).is_ok());
    change(&mut report);
    HostReport::try_from(report).unwrap_err()
}

#[test]
fn refusals_name_the_field_with_the_path_to_it() {
    let said = refusal(|r| r.components[0].slot = Some(wire_slot("Web"))).to_string();
    assert_eq!(
        said,
        "the message's field `components[0].slot.component` was refused: \
         `Web` is not a valid component name: only a-z, 0-9 and `-` may stand in it"
    );
    assert_eq!(
        refusal(|r| r.generation = None).to_string(),
        "the message's field `generation` was refused: it is missing"
    );
    let refused = refusal(|r| r.components[0].staged = vec![vec![0; 32], vec![0; 31]]);
    assert_eq!(refused.field, "components[0].staged[1]");
    let check = |name: &str| v1::CheckState {
        name: name.into(),
        failure: String::new(),
    };
    let refused = refusal(|r| r.checks = vec![check("a"), check("a")]);
    assert_eq!(refused.field, "checks[1].name");
    let refused = refusal(|r| r.components.push(r.components[0].clone()));
    assert_eq!(refused.reason, "`shop/web` is named twice");
}

#[test]
fn counts_and_lengths_are_capped() {
    let many = |n: usize| {
        let component = |n| v1::ComponentReport {
            slot: Some(wire_slot(&format!("c{n}"))),
            ..Default::default()
        };
        let mut report = wire_report();
        report.components = (0..n).map(component).collect();
        HostReport::try_from(report)
    };
    assert!(many(MAX_COMPONENTS).is_ok());
    assert_eq!(many(MAX_COMPONENTS + 1).unwrap_err().field, "components");
    let refused = refusal(|r| r.components[0].hold = "x".repeat(MAX_TEXT + 1));
    assert_eq!(refused.field, "components[0].hold");
    let refused = refusal(|r| {
        let difference = v1::Difference {
            path: "x".into(),
            change: "added".into(),
        };
        r.components[0].drift = Some(v1::Drift {
            digest: vec![1; 32],
            total: 100,
            differences: vec![difference; MAX_DRIFT + 1],
        });
    });
    assert_eq!(refused.field, "components[0].drift.differences");
    let refused = refusal(|r| {
        r.components[0].drift = Some(v1::Drift {
            digest: vec![1; 32],
            total: 0,
            differences: Vec::new(),
        });
    });
    assert_eq!(refused.field, "components[0].drift.total");
    let failure = v1::Failure {
        kind: "host".into(),
        output: "x".repeat(MAX_OUTPUT + 1),
        ..Default::default()
    };
    let refused = refusal(|r| r.components[0].staging_failure = Some(failure));
    assert_eq!(refused.field, "components[0].staging_failure.output");
}

#[test]
fn what_is_unspecified_or_unknown_is_refused() {
    let grant = |purpose| v1::Grant {
        id: Some(v1::Generation::default()),
        start_by_ms: 1,
        purpose,
    };
    assert!(Grant::try_from(grant(1)).is_ok());
    for purpose in [0, 3, -1] {
        assert_eq!(
            Grant::try_from(grant(purpose)).unwrap_err().field,
            "purpose"
        );
    }
    let failure = v1::Failure {
        kind: "moon-phase".into(),
        ..Default::default()
    };
    let refused = Failure::try_from(failure).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the message's field `kind` was refused: `moon-phase` is no kind of failure"
    );
    let refused = refusal(|r| {
        r.components[0].activation = Some(v1::Activation {
            grant: Some(v1::Generation::default()),
            ..Default::default()
        });
    });
    assert_eq!(refused.field, "components[0].activation.status");
}

#[test]
fn what_is_too_long_for_the_wire_is_cut_so_that_the_reader_takes_it() {
    let failure = Failure {
        kind: FailureKind::Hook,
        message: "ä".repeat(MAX_TEXT),
        check: None,
        output: format!("{}the last line", "ä".repeat(MAX_OUTPUT)),
    };
    let read = Failure::try_from(v1::Failure::from(&failure)).unwrap();
    assert!(read.message.len() <= MAX_TEXT && read.message.len() > MAX_TEXT - 2);
    assert!(read.output.len() <= MAX_OUTPUT && read.output.ends_with("the last line"));
}

#[test]
fn whoever_asks_is_named_as_much_as_a_message_carries() {
    let inspection = |paths: usize, length: usize| {
        let differences = (0..paths).map(|n| Difference {
            path: format!("{n:0length$}"),
            change: Change::Added,
        });
        let drift = |n: u8| Drift {
            digest: Digest::new([n; 32]),
            total: 20_000,
            differences: differences.clone().collect(),
        };
        let components = [("web", 1), ("worker", 2)].map(|(name, n)| Inspected {
            slot: Slot::try_from(wire_slot(name)).unwrap(),
            found: Ok(Some(drift(n))),
        });
        let sent = v1::Inspection::from(&Inspection {
            id: 7,
            components: components.into(),
        });
        assert!(sent.encoded_len() < MAX_MESSAGE * 3 / 4);
        let read = Inspection::try_from(sent).unwrap();
        let named = |it: &Inspected| {
            let drift = it.found.clone().unwrap().unwrap();
            assert_eq!(drift.total, 20_000);
            drift.differences.len()
        };
        read.components.iter().map(named).collect::<Vec<_>>()
    };
    assert_eq!(
        inspection(MAX_INSPECTED + 1, 5),
        [MAX_INSPECTED, MAX_INSPECTED]
    );
    let [first, second] = inspection(9_000, 400)[..] else {
        panic!("two components")
    };
    assert!(first == 9_000 && second > 0 && second < 9_000, "{second}");
}

#[test]
fn what_is_fetched_travels_in_the_report_and_is_taken_out_of_it() {
    let slot = |component: &str| Slot {
        application: "shop".parse().unwrap(),
        component: component.parse().unwrap(),
        pool: Default::default(),
    };
    let component = |name| v1::ComponentReport {
        slot: Some((&slot(name)).into()),
        ..Default::default()
    };
    let plain = v1::HostReport {
        components: vec![component("web"), component("worker")],
        ..Default::default()
    };
    let transfer = Transfer {
        release: Digest::new([7; 32]),
        done: 3,
        total: 10,
        rate: 2,
    };
    let mut told = plain.clone();
    tell_transfer(&mut told, &slot("worker"), &transfer);
    tell_transfer(&mut told, &slot("db"), &transfer);
    let bytes = told.encode_to_vec();
    let mut heard = v1::HostReport::decode(&bytes[..]).unwrap();
    let taken = take_transfers(&mut heard).unwrap();
    assert_eq!(taken, [(slot("worker"), transfer)]);
    assert_eq!(heard, plain, "and nothing of it is left");
    assert_eq!(take_transfers(&mut heard).unwrap(), []);

    let refused = |change: fn(&mut v1::Transfer)| {
        let mut bad = told.clone();
        change(bad.components[1].transfer.as_mut().unwrap());
        take_transfers(&mut bad).unwrap_err().field
    };
    assert_eq!(refused(|it| it.done = 11), "components[1].transfer.done");
    let short = refused(|it| it.release.truncate(31));
    assert_eq!(short, "components[1].transfer.release");
}
