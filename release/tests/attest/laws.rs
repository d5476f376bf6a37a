//! What holds of every statement, and of every bundle that was touched.

use super::made::{NOW, RELEASE, Team, ago, build, review, run};
use proptest::prelude::*;
use std::sync::OnceLock;
use tamer_core::digest::Digest;
use tamer_core::evidence::EvidenceKind;
use tamer_core::moment::Moment;
use tamer_release::attest::statement::{Build, Claim, Counts, Review, Run};
use tamer_release::attest::{Statement, Subject, judge};

fn team() -> &'static (Team, Vec<Vec<u8>>) {
    static TEAM: OnceLock<(Team, Vec<Vec<u8>>)> = OnceLock::new();
    TEAM.get_or_init(|| {
        let team = Team::new();
        let evidence = team.evidence();
        (team, evidence)
    })
}

fn moment() -> impl Strategy<Value = Moment> {
    (0..253_402_300_799_999_u64).prop_map(Moment)
}

fn claim() -> impl Strategy<Value = Claim> {
    let commit = "[0-9a-f]{40}|[0-9a-f]{64}".prop_map(|it| it.parse().unwrap());
    let table = || proptest::collection::btree_map("[a-z]{1,6}", ".{0,12}", 0..3);
    let build = (
        commit,
        ".{0,30}",
        proptest::collection::btree_set("[a-zé]{1,9}@x", 1..4),
        table(),
        table(),
        moment(),
        moment(),
    );
    let build = build.prop_map(
        |(commit, source, authors, commands, environment, started, finished)| {
            Claim::Build(Build {
                commit,
                source,
                authors,
                commands,
                environment,
                builder: "urn:x".to_owned(),
                started,
                finished,
            })
        },
    );
    let counts = proptest::option::of((0..1000_u64, 0..1000_u64));
    let run = (
        0..5_usize,
        proptest::bool::ANY,
        counts,
        proptest::option::of(".{0,20}"),
        moment(),
    );
    let run = run.prop_map(|(kind, passed, counts, command, at)| {
        let kinds = EvidenceKind::ALL
            .into_iter()
            .filter(|kind| kind.is_result());
        Claim::Run(Run {
            kind: kinds.collect::<Vec<_>>()[kind],
            passed,
            command,
            counts: counts.map(|(good, skipped)| Counts {
                passed: good,
                failed: u64::from(!passed),
                skipped,
            }),
            failed: if passed {
                vec![]
            } else {
                vec!["a \"test\"".to_owned()]
            },
            started: at,
            finished: at,
        })
    });
    let review = (moment(), proptest::option::of(".{0,40}"))
        .prop_map(|(at, comment)| Claim::Review(Review { at, comment }));
    prop_oneof![build, run, review]
}

fn statement() -> impl Strategy<Value = Statement> {
    let digests = proptest::collection::vec(any::<[u8; 32]>(), 1..4);
    (claim(), digests).prop_map(|(claim, digests)| {
        let subject = |bytes: [u8; 32]| match claim {
            Claim::Review(_) => Subject::Commit(Digest::new(bytes).to_string().parse().unwrap()),
            _ => Subject::Manifest {
                name: "shop/web 1".to_owned(),
                digest: Digest::new(bytes),
            },
        };
        let subjects = digests.into_iter().map(subject).collect();
        Statement { subjects, claim }
    })
}

proptest! {
    #[test]
    fn a_statement_is_read_as_it_was_written(statement in statement()) {
        let json = statement.to_json();
        prop_assert_eq!(Statement::parse(&json).unwrap(), statement.clone());
        prop_assert_eq!(json, statement.to_json());
    }

    /// Whatever byte of a bundle is changed, it proves nothing else than before, and others still count.
    #[test]
    fn a_touched_bundle_proves_nothing_new(at in any::<proptest::sample::Index>(), byte in any::<u8>(), which in 0..4_usize) {
        let (team, evidence) = team();
        let mut bundles = evidence.clone();
        let at = at.index(bundles[which].len());
        bundles[which][at] = byte;
        let judged = judge(&team.demands(), &RELEASE, &bundles, NOW);
        let before = judge(&team.demands(), &RELEASE, evidence, NOW);
        for (kind, proof) in &judged.proven {
            prop_assert_eq!(&proof.claim, &before.proven[kind].claim);
        }
        // Of the others, a review alone rests on another one.
        let most = if which == 0 { 2 } else { 1 };
        prop_assert!(judged.lacking.len() <= most);
    }

    /// Statements come in any order, and more of them prove no less unless one says FAILED.
    #[test]
    fn the_order_of_bundles_decides_nothing(order in Just((0..4_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let (team, evidence) = team();
        let bundles: Vec<_> = order.iter().map(|n| evidence[*n].clone()).collect();
        prop_assert!(judge(&team.demands(), &RELEASE, &bundles, NOW).is_enough());
    }
}

#[test]
fn the_bytes_of_statements_are_fixed() {
    let text = |statement: Statement| String::from_utf8(statement.to_json()).unwrap();
    let commit = super::made::commit('a');
    insta::assert_snapshot!(text(build(ago(1), &["ben@shop.example"])));
    insta::assert_snapshot!(text(run(EvidenceKind::Test, false, ago(1))));
    insta::assert_snapshot!(text(review(commit, ago(1))));
}
