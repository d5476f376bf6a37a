//! Whose evidence has a place beside a release, when somebody tries to take them all.

use super::made::{
    HOUR, NOW, OTHER, RELEASE, Team, ago, build, by_hand, commit, public, release, review, run,
    tampered,
};
use proptest::prelude::*;
use tamer_core::evidence::EvidenceKind::{Lint, Test};
use tamer_core::moment::Moment;
use tamer_release::attest::{Judged, Statement, judge, seal};
use tamer_release::proofs::{Kept, Listed, MAX_LINES, MAX_STRANGERS, NotAdded, bundles};

fn listed(team: &Team) -> Listed {
    [&team.ci, &team.anna, &team.ben]
        .map(public)
        .into_iter()
        .collect()
}

/// Offers bundles until one of a stranger is refused; how many were taken.
fn offer(kept: &mut Kept<'_>, mut bundle: impl FnMut(usize) -> Vec<u8>) -> usize {
    for n in 0..=MAX_LINES {
        match kept.add(&bundle(n)) {
            Ok(added) => assert!(added, "{n}"),
            Err(NotAdded::Strangers { lines, .. }) => {
                assert_eq!(lines, MAX_STRANGERS);
                return n;
            }
            Err(other) => panic!("{n}: {other}"),
        }
    }
    panic!("there was no end");
}

/// The same run, said at different times.
fn runs(n: usize) -> Statement {
    run(Test, true, ago(1 + n as u64))
}

#[test]
fn rubbish_takes_no_place_that_evidence_of_a_listed_key_needs() {
    let team = Team::new();
    let keys = listed(&team);
    let of_others = |n| {
        let mut statement = runs(n);
        statement.subjects = release(OTHER);
        seal(&statement, &team.ci).unwrap()
    };
    let of_another_commit = |n| seal(&review(commit('b'), ago(n as u64)), &team.anna).unwrap();
    let with_a_listed_name = |n| {
        let real = seal(&runs(0), &team.ci).unwrap();
        let forged = seal(&runs(n), &team.stranger).unwrap();
        let forged: serde_json::Value = serde_json::from_slice(&forged).unwrap();
        tampered(&real, |it| {
            it["dsseEnvelope"] = forged["dsseEnvelope"].clone();
        })
    };
    let no_statement = |n: usize| {
        let payload = format!("{{\"n\":{n}}}");
        by_hand(super::made::IN_TOTO, payload.as_bytes(), &team.ci)
            .to_string()
            .into_bytes()
    };
    let by_a_stranger = |n| seal(&runs(n), &team.stranger).unwrap();
    let all: [&dyn Fn(usize) -> Vec<u8>; 5] = [
        &by_a_stranger,
        &with_a_listed_name,
        &of_others,
        &of_another_commit,
        &no_statement,
    ];
    for rubbish in all {
        let mut kept = Kept::read(b"", &RELEASE, &keys, NOW);
        assert_eq!(offer(&mut kept, rubbish), MAX_STRANGERS);
        for bundle in team.evidence() {
            assert!(kept.add(&bundle).unwrap());
        }
        let file = kept.to_file();
        assert!(judge(&team.demands(), &RELEASE, &bundles(&file), NOW).is_enough());
    }
}

#[test]
fn what_a_listed_key_said_has_one_place_however_it_is_wrapped() {
    let team = Team::new();
    let keys = listed(&team);
    let mut kept = Kept::read(b"", &RELEASE, &keys, NOW);
    let real = seal(&runs(0), &team.ci).unwrap();
    assert!(kept.add(&real).unwrap());
    for n in 0..3 {
        let wrapped = tampered(&real, |it| {
            it["dsseEnvelope"]["signatures"][0]["keyid"] = format!("{n}").into();
        });
        assert!(!kept.add(&wrapped).unwrap());
    }
    // Signed again it has other bytes, and says nothing more.
    assert!(!kept.add(&seal(&runs(0), &team.ci).unwrap()).unwrap());
    assert_eq!(kept.len(), 1);
}

#[test]
fn a_key_may_be_listed_after_it_has_signed() {
    let team = Team::new();
    let nobody = Listed::default();
    let mut kept = Kept::read(b"", &RELEASE, &nobody, NOW);
    assert_eq!(
        offer(&mut kept, |n| seal(&runs(n), &team.ci).unwrap()),
        MAX_STRANGERS
    );
    let file = kept.to_file();
    // Then they are nobody's strangers any more, and make room.
    let keys = listed(&team);
    let mut kept = Kept::read(&file, &RELEASE, &keys, NOW);
    assert!(
        kept.add(&seal(&build(ago(1), &["ben@shop.example"]), &team.ci).unwrap())
            .unwrap()
    );
    assert_eq!(
        offer(&mut kept, |n| seal(&runs(n), &team.stranger).unwrap()),
        MAX_STRANGERS
    );
}

#[test]
fn what_a_key_says_anew_takes_the_place_of_what_it_said_before() {
    let team = Team::new();
    let keys = listed(&team);
    let mut kept = Kept::read(b"", &RELEASE, &keys, NOW);
    let passed = |hours| seal(&run(Test, true, ago(hours)), &team.ci).unwrap();
    let evidence = team.evidence();
    for bundle in &evidence {
        assert!(kept.add(bundle).unwrap());
    }
    // A machine that runs the tests every hour for weeks, and says each time how it went.
    for hours in (2..500).rev() {
        assert!(kept.add(&passed(hours)).unwrap(), "{hours}");
    }
    assert_eq!(kept.len(), MAX_LINES);
    let file = kept.to_file();
    let lines = bundles(&file);
    for bundle in &evidence {
        assert!(lines.contains(&bundle.as_slice()));
    }
    assert!(judge(&team.demands(), &RELEASE, &lines, NOW).is_enough());
    // What is brought again of long ago takes no newer one's place.
    let late = kept.add(&passed(400));
    assert!(matches!(late, Err(NotAdded::Full { .. })), "{late:?}");
    assert_eq!(kept.to_file(), file);
    // Nor does the newest one have to go for what is dated in the future.
    let ahead = seal(&run(Test, true, Moment(NOW.0 + 5 * HOUR)), &team.ci).unwrap();
    assert!(kept.add(&ahead).is_err());
    let failed = seal(&run(Test, false, ago(0)), &team.ci).unwrap();
    assert!(kept.add(&failed).unwrap());
    let file = kept.to_file();
    assert!(!judge(&team.demands(), &RELEASE, &bundles(&file), NOW).is_enough());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is said by whom, when and in which order: what is proven is the same as if all of it had been kept.
    #[test]
    fn what_makes_room_decides_nothing(
        said in prop::collection::vec((0..6, 1..2000_u64, any::<bool>()), MAX_LINES..2 * MAX_LINES)
    ) {
        let team = Team::new();
        let keys = listed(&team);
        let mut kept = Kept::read(b"", &RELEASE, &keys, NOW);
        let mut all = Vec::new();
        // Before a build is known, reviews of its commit are strangers'.
        let first = (0, 1000, true);
        for (what, hours, passed) in std::iter::once(first).chain(said) {
            let at = ago(hours);
            let bundle = match what {
                0 => seal(&build(at, &["ben@shop.example"]), &team.ci),
                1 => seal(&run(Lint, passed, at), &team.ci),
                2 => seal(&review(commit('a'), at), &team.anna),
                3 => seal(&review(commit('a'), at), &team.ben),
                _ => seal(&run(Test, passed, at), &team.ci),
            };
            let bundle = bundle.unwrap();
            let added = kept.add(&bundle);
            prop_assert!(matches!(added, Ok(_) | Err(NotAdded::Full { .. })), "{added:?}");
            all.push(bundle);
        }
        prop_assert!(kept.len() <= MAX_LINES);
        let file = kept.to_file();
        let proven = |judged: Judged| {
            let proven = judged.proven.into_iter();
            proven.map(|(kind, it)| (kind, it.claim)).collect::<Vec<_>>()
        };
        prop_assert_eq!(
            proven(judge(&team.demands(), &RELEASE, &bundles(&file), NOW)),
            proven(judge(&team.demands(), &RELEASE, &all, NOW))
        );
    }
}
