//! A test for each attack on evidence of docs/security.md. In each, all but one statement is good, so that
//! only the attack stands between the release and its acceptance.

use super::made::{
    HOUR, IN_TOTO, NOW, OTHER, RELEASE, Team, ago, build, by_hand, changed, commit, kinds, lacking,
    public, release, review, run, tampered, why,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::{Value, json};
use tamer_core::evidence::EvidenceKind::{self, Build, Lint, Test};
use tamer_core::moment::Moment;
use tamer_release::attest::{MAX_BUNDLE, MAX_BUNDLES, judge, key_hint, seal};
use tamer_release::trust::Signer;

#[test]
fn what_is_demanded_and_stated_by_listed_keys_is_proven_by_whom_they_are() {
    let team = Team::new();
    let judged = team.judge(&team.evidence());
    assert!(
        judged.is_enough() && judged.set_aside.is_empty(),
        "{judged:?}"
    );
    assert_eq!(judged.kinds(), kinds(&["build", "lint", "test", "review"]));
    assert_eq!(judged.commit(), Some(&commit('a')));
    let said = |kind: EvidenceKind| judged.proven[&kind].to_string();
    assert_eq!(
        said(Build),
        "built from commit aaaaaaaaaaaa of ben@shop.example, says `ci`"
    );
    assert_eq!(
        said(Test),
        "passed, 412 tests and 3 skipped, in 38s, says `ci`"
    );
    assert_eq!(
        said(EvidenceKind::Review),
        "the commit was reviewed, says `anna` (anna@shop.example)"
    );
    // Without evidence nothing is proven, and all is lacking.
    let nothing = team.judge(&[]);
    assert_eq!(lacking(&nothing), ["build", "lint", "test", "review"]);
}

#[test]
fn evidence_for_another_digest_proves_nothing_here() {
    let team = Team::new();
    let mut other = run(Test, true, ago(1));
    other.subjects = release(OTHER);
    let judged = team.judge(&team.with(2, seal(&other, &team.ci).unwrap()));
    assert_eq!(lacking(&judged), ["test"]);
    assert!(why(&judged, 2).contains("shop/web 1.4.2 (080808080808), not about this release"));
    // One statement may be about several releases.
    other.subjects.extend(release(RELEASE));
    assert!(
        team.judge(&team.with(2, seal(&other, &team.ci).unwrap()))
            .is_enough()
    );
    // A digest of another algorithm, or two of which one holds, is not this release's.
    for digest in [
        json!({"sha512": "07".repeat(32)}),
        json!({"sha256": "08".repeat(32), "sha512": "07".repeat(32)}),
        json!({"sha256": "0A".repeat(32)}),
        json!({}),
    ] {
        let bundle = changed(&run(Test, true, ago(1)), &team.ci, |it| {
            it["subject"][0]["digest"] = digest.clone();
        });
        assert_eq!(
            lacking(&team.judge(&team.with(2, bundle))),
            ["test"],
            "{digest}"
        );
    }
}

#[test]
fn evidence_by_an_unknown_key_proves_nothing() {
    let team = Team::new();
    let forged = seal(&run(Test, true, ago(1)), &team.stranger).unwrap();
    let judged = team.judge(&team.with(2, forged.clone()));
    assert_eq!(lacking(&judged), ["test"]);
    assert!(why(&judged, 2).contains("a key that is not listed here"));
    assert_eq!(judged.set_aside[0].claimed, Some(Test));
    // With the hint of a key that is listed, it is a forgery.
    let hint =
        serde_json::from_slice::<Value>(&team.evidence()[0]).unwrap()["verificationMaterial"]
            .clone();
    let forged = tampered(&forged, |it| it["verificationMaterial"] = hint.clone());
    let judged = team.judge(&team.with(2, forged));
    assert_eq!(lacking(&judged), ["test"]);
    assert!(why(&judged, 2).contains("not that of key `ci`"));
}

#[test]
fn a_bundle_that_names_no_key_or_another_one_is_not_tried_with_every_key() {
    let team = Team::new();
    let good = seal(&run(Test, true, ago(1)), &team.ci).unwrap();
    let hinted = |hint: &str| {
        tampered(&good, |it| {
            it["verificationMaterial"]["publicKey"]["hint"] = hint.into();
        })
    };
    let ci = key_hint(&public(&team.ci));
    // In base64, as tools of others write it, it is the same name.
    for named in [ci.to_string(), STANDARD.encode(ci.as_bytes())] {
        let judged = team.judge(&team.with(2, hinted(&named)));
        assert!(judged.is_enough(), "{named}");
    }
    let anna = key_hint(&public(&team.anna)).to_string();
    for (hint, said) in [
        ("", "not listed here"),
        ("ci", "not listed here"),
        (&ci.to_string()[1..], "not listed here"),
        (&anna, "not that of key `anna`"),
    ] {
        let judged = team.judge(&team.with(2, hinted(hint)));
        assert_eq!(lacking(&judged), ["test"], "{hint}");
        assert!(why(&judged, 2).contains(said), "{hint}");
    }
}

#[test]
fn evidence_by_a_revoked_key_proves_nothing() {
    let team = Team::new();
    let mut demanded = team.demands();
    // A key is revoked by taking it out of the file; others of its kind go on.
    let ci = demanded.keys.remove(&"ci".parse().unwrap()).unwrap();
    let judged = judge(&demanded, &RELEASE, &team.evidence(), NOW);
    assert_eq!(lacking(&judged), ["build", "lint", "test", "review"]);
    assert!(
        why(&judged, 0).contains("not listed") && why(&judged, 3).contains("no build that counts")
    );
    demanded.keys.insert("ci-2".parse().unwrap(), ci);
    assert!(judge(&demanded, &RELEASE, &team.evidence(), NOW).is_enough());
}

#[test]
fn evidence_by_an_expired_key_proves_nothing_whenever_it_says_it_was_made() {
    let team = Team::new();
    let demanded = team.demands_with("", "until = \"2026-11-26T12:00:00Z\"");
    let before = judge(&demanded, &RELEASE, &team.evidence(), Moment(NOW.0 - 1));
    assert!(before.is_enough());
    let judged = judge(&demanded, &RELEASE, &team.evidence(), NOW);
    assert_eq!(lacking(&judged), ["build", "lint", "test", "review"]);
    assert!(why(&judged, 0).contains("nothing counts that key `ci` signed"));
}

#[test]
fn a_key_states_nothing_but_what_it_may() {
    let team = Team::new();
    // A reviewer's key that says that the tests passed, and CI's that says that it reviewed.
    let judged = team.judge(&team.with(2, seal(&run(Test, true, ago(1)), &team.anna).unwrap()));
    assert_eq!(lacking(&judged), ["test"]);
    assert_eq!(why(&judged, 2), "key `anna` may not state test");
    let judged = team.judge(&team.with(3, seal(&review(commit('a'), ago(1)), &team.ci).unwrap()));
    assert_eq!(why(&judged, 3), "key `ci` may not state review");
}

#[test]
fn a_payload_of_another_type_is_not_a_statement() {
    let team = Team::new();
    let payload = run(Test, true, ago(1)).to_json();
    let other = by_hand("application/json", &payload, &team.ci);
    let judged = team.judge(&team.with(2, other.to_string().into_bytes()));
    assert_eq!(lacking(&judged), ["test"]);
    assert!(why(&judged, 2).contains("type `application/json`"));
    // Signed as another type, and then given this one.
    let mut confused = other;
    confused["dsseEnvelope"]["payloadType"] = IN_TOTO.into();
    let judged = team.judge(&team.with(2, confused.to_string().into_bytes()));
    assert!(why(&judged, 2).contains("changed, or forged"));
    // The bare payload, signed without its type; and metadata that the same key signs.
    let mut bare = by_hand(IN_TOTO, &payload, &team.ci);
    let signature = STANDARD.encode(team.ci.sign(&payload).unwrap());
    bare["dsseEnvelope"]["signatures"][0]["sig"] = signature.into();
    assert_eq!(
        lacking(&team.judge(&team.with(2, bare.to_string().into_bytes()))),
        ["test"]
    );
    let metadata = by_hand(IN_TOTO, br#"{"_type":"targets","version":1}"#, &team.ci);
    let judged = team.judge(&team.with(2, metadata.to_string().into_bytes()));
    assert!(why(&judged, 2).contains("key `ci` signed something else"));
}

#[test]
fn base64_that_is_not_canonical_is_refused() {
    let team = Team::new();
    let good = team.evidence().remove(2);
    let payload = run(Test, true, ago(1)).to_json();
    // A payload whose base64 ends in padding, so that there are bits to play with.
    let padded = (0..3)
        .map(|n| [&payload[..], &b"  "[..n]].concat())
        .find(|it| it.len() % 3 == 1)
        .unwrap();
    let canonical = by_hand(IN_TOTO, &padded, &team.ci);
    assert!(
        team.judge(&team.with(2, canonical.to_string().into_bytes()))
            .is_enough()
    );
    let text = STANDARD.encode(&padded);
    let with_bits = format!("{}B==", &text[..text.len() - 3]);
    assert_ne!(with_bits, text);
    for bad in [
        with_bits,
        STANDARD_NO_PAD.encode(&padded),
        format!("{text}\n"),
        format!(" {text}"),
        format!("{}\n{}", &text[..64], &text[64..]),
        format!("{text}===="),
        String::new(),
    ] {
        let bundle = tampered(canonical.to_string().as_bytes(), |it| {
            it["dsseEnvelope"]["payload"] = bad.clone().into();
        });
        let judged = team.judge(&team.with(2, bundle));
        assert_eq!(lacking(&judged), ["test"], "{bad}");
        assert!(
            why(&judged, 2).contains("canonical base64"),
            "{}",
            why(&judged, 2)
        );
    }
    let bundle = tampered(&good, |it| {
        let sig = it["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
        let bytes = STANDARD.decode(sig).unwrap();
        it["dsseEnvelope"]["signatures"][0]["sig"] = format!("{}-_", URL_SAFE.encode(bytes)).into();
    });
    assert!(why(&team.judge(&team.with(2, bundle)), 2).contains("its signature"));
}

#[test]
fn duplicate_keys_are_refused_in_the_bundle_and_in_the_signed_statement() {
    let team = Team::new();
    let good = String::from_utf8(team.evidence().remove(2)).unwrap();
    for (what, twice) in [
        ("\"payloadType\":", "\"payload\":\"AAAA\",\"payloadType\":"),
        ("\"hint\":", "\"hint\":\"x\",\"hint\":"),
        ("\"mediaType\":", "\"mediaType\":\"x\",\"mediaType\":"),
    ] {
        let bundle = good.replacen(what, twice, 1);
        assert_ne!(bundle, good);
        let judged = team.judge(&team.with(2, bundle.into_bytes()));
        assert_eq!(lacking(&judged), ["test"]);
        assert!(
            why(&judged, 2).contains("stands twice"),
            "{}",
            why(&judged, 2)
        );
    }
    // A statement that one reader takes for FAILED and the other for PASSED.
    let text = String::from_utf8(run(Test, false, ago(1)).to_json()).unwrap();
    let twice = text.replacen("\"result\":", "\"result\":\"PASSED\",\"result\":", 1);
    let bundle = by_hand(IN_TOTO, twice.as_bytes(), &team.ci);
    let judged = team.judge(&team.with(2, bundle.to_string().into_bytes()));
    assert_eq!(lacking(&judged), ["test"]);
    assert!(why(&judged, 2).contains("the key \"result\" stands twice"));
}

#[test]
fn a_second_payload_or_signature_is_refused() {
    let team = Team::new();
    let good = team.evidence().remove(2);
    let other = STANDARD.encode(run(Test, true, ago(0)).to_json());
    let changes: [&dyn Fn(&mut Value); 6] = [
        &|it| it["dsseEnvelope"]["payload2"] = other.clone().into(),
        &|it| it["dsseEnvelope"]["payload"] = json!([it["dsseEnvelope"]["payload"], other]),
        &|it| it["messageSignature"] = json!({"signature": "AAAA"}),
        &|it| it["dsseEnvelopes"] = json!([it["dsseEnvelope"]]),
        &|it| {
            let signature = it["dsseEnvelope"]["signatures"][0].clone();
            it["dsseEnvelope"]["signatures"] = json!([signature, signature]);
        },
        &|it| it["dsseEnvelope"]["signatures"] = json!([]),
    ];
    for change in changes {
        let judged = team.judge(&team.with(2, tampered(&good, change)));
        assert_eq!(lacking(&judged), ["test"]);
        assert!(
            why(&judged, 2).contains("it cannot be read"),
            "{}",
            why(&judged, 2)
        );
    }
}

#[test]
fn a_result_that_says_failed_proves_nothing_and_takes_back_an_older_one() {
    let team = Team::new();
    let failed = seal(&run(Test, false, ago(1)), &team.ci).unwrap();
    let judged = team.judge(&team.with(2, failed.clone()));
    assert_eq!(lacking(&judged), ["test"]);
    assert_eq!(why(&judged, 2), "it says FAILED: `test_cart`");
    let add = |at| {
        let mut bundles = team.with(2, failed.clone());
        bundles.push(seal(&run(Test, true, at), &team.ci).unwrap());
        bundles
    };
    assert_eq!(
        lacking(&team.judge(&add(ago(2)))),
        ["test"],
        "the newer one failed"
    );
    assert_eq!(
        lacking(&team.judge(&add(ago(1)))),
        ["test"],
        "as old, and it failed"
    );
    assert!(team.judge(&add(ago(0))).is_enough(), "it passed since");
    // What says PASSED and names failures, or something else than both.
    for (pointer, value) in [
        ("/predicate/failedTests", json!(["test_cart"])),
        ("/predicate/configuration/0/annotations/failed", json!(1)),
        ("/predicate/result", json!("WARNED")),
        ("/predicate/result", json!("passed")),
        (
            "/predicate/configuration/0/annotations/kind",
            json!("review"),
        ),
        ("/predicate/configuration", json!([])),
        ("/predicate", json!({"result": "PASSED"})),
        ("/_type", json!("https://in-toto.io/Statement/v0.1")),
        (
            "/predicateType",
            json!("https://in-toto.io/attestation/test-result/v9"),
        ),
        ("/subject", json!([])),
    ] {
        let bundle = changed(&run(Test, true, ago(1)), &team.ci, |it| {
            *it.pointer_mut(pointer).unwrap() = value.clone();
        });
        let judged = team.judge(&team.with(2, bundle));
        assert_eq!(lacking(&judged), ["test"], "{pointer} {value}");
        assert!(why(&judged, 2).contains("key `ci` signed something else"));
    }
}

#[test]
fn an_author_does_not_review_himself() {
    let team = Team::new();
    let own = seal(&review(commit('a'), ago(1)), &team.ben).unwrap();
    let judged = team.judge(&team.with(3, own.clone()));
    assert_eq!(lacking(&judged), ["review"]);
    assert_eq!(
        why(&judged, 3),
        "Ben@shop.example wrote the commit, and an author's own review does not count"
    );
    // One of two authors neither, and another's review beside it counts.
    let both = ["carl@shop.example", "ben@shop.example"];
    let mut bundles = team.with(0, seal(&build(ago(1), &both), &team.ci).unwrap());
    bundles.insert(0, own);
    let judged = team.judge(&bundles);
    assert!(judged.is_enough());
    assert_eq!(judged.proven[&EvidenceKind::Review].key.as_str(), "anna");
    // A build that does not say who wrote it proves nothing, so no review of it counts.
    for authors in [json!([]), json!([" "]), Value::Null] {
        let bundle = changed(&build(ago(1), &["ben@shop.example"]), &team.ci, |it| {
            it["predicate"]["buildDefinition"]["resolvedDependencies"][0]["annotations"]["authors"] =
                authors.clone();
        });
        let judged = team.judge(&team.with(0, bundle));
        assert_eq!(lacking(&judged), ["build", "review"], "{authors}");
    }
}

#[test]
fn a_review_is_of_the_commit_that_the_build_names() {
    let team = Team::new();
    let other = seal(&review(commit('b'), ago(1)), &team.anna).unwrap();
    let judged = team.judge(&team.with(3, other));
    assert_eq!(lacking(&judged), ["review"]);
    assert_eq!(
        why(&judged, 3),
        "it is of commit bbbbbbbbbbbb, and the release was built from aaaaaaaaaaaa"
    );
    // A build that nobody may state names no commit: a stranger cannot say what was reviewed.
    let mut forged = build(ago(0), &["ben@shop.example"]);
    if let tamer_release::attest::Claim::Build(build) = &mut forged.claim {
        build.commit = commit('b');
    }
    let mut bundles = team.evidence();
    bundles.push(seal(&forged, &team.stranger).unwrap());
    assert_eq!(team.judge(&bundles).commit(), Some(&commit('a')));
    // A review of a manifest, of half a commit id, or with another verdict is none.
    for (pointer, value) in [
        ("/subject/0/digest", json!({"sha256": RELEASE})),
        ("/subject/0/digest", json!({"gitCommit": "aaaaaaaaaaaa"})),
        ("/predicate/verdict", json!("rejected")),
    ] {
        let bundle = changed(&review(commit('a'), ago(1)), &team.anna, |it| {
            *it.pointer_mut(pointer).unwrap() = value.clone();
        });
        assert_eq!(
            lacking(&team.judge(&team.with(3, bundle))),
            ["review"],
            "{value}"
        );
    }
}

#[test]
fn stale_evidence_proves_nothing() {
    let team = Team::new();
    let demanded = team.demands_with("max_age = \"30d\"\nmax_age_of = { test = \"2h\" }", "");
    let at = |hours| {
        let bundles = team.with(2, seal(&run(Test, true, ago(hours)), &team.ci).unwrap());
        judge(&demanded, &RELEASE, &bundles, NOW)
    };
    assert!(at(2).is_enough());
    let judged = at(3);
    assert_eq!(lacking(&judged), ["test"]);
    assert_eq!(why(&judged, 2), "it is 3h old, and 2h is the most here");
    let later = Moment(NOW.0 + 31 * 24 * HOUR);
    let judged = judge(&demanded, &RELEASE, &team.evidence(), later);
    assert_eq!(lacking(&judged), ["build", "lint", "test", "review"]);
}

#[test]
fn evidence_from_the_future_proves_nothing() {
    let team = Team::new();
    let soon = seal(&run(Lint, true, Moment(NOW.0 + 600_000)), &team.ci).unwrap();
    assert!(
        team.judge(&team.with(1, soon)).is_enough(),
        "a clock may be ahead a little"
    );
    let future = seal(&run(Lint, true, Moment(NOW.0 + 600_001)), &team.ci).unwrap();
    let judged = team.judge(&team.with(1, future));
    assert_eq!(lacking(&judged), ["lint"]);
    assert!(why(&judged, 1).contains("still to come"));
}

#[test]
fn a_bad_bundle_is_set_aside_and_the_others_count() {
    let team = Team::new();
    let good = team.evidence();
    let huge = vec![b' '; MAX_BUNDLE + 1];
    let deep = "[".repeat(100_000).into_bytes();
    let bad = [
        b"".to_vec(),
        b"<html>".to_vec(),
        b"{}".to_vec(),
        huge,
        deep,
        vec![0xff; 9],
    ];
    let bundles: Vec<_> = bad.iter().chain(&good).cloned().collect();
    let judged = team.judge(&bundles);
    assert!(judged.is_enough());
    let aside: Vec<_> = judged.set_aside.iter().map(|it| it.index).collect();
    assert_eq!(aside, [0, 1, 2, 3, 4, 5]);
    assert!(why(&judged, 3).contains("larger than"));
    // There is an end to looking.
    let many: Vec<_> = std::iter::repeat_n(b"{}".to_vec(), MAX_BUNDLES)
        .chain(good)
        .collect();
    let judged = team.judge(&many);
    assert_eq!(judged.kinds(), kinds(&[]));
    assert!(why(&judged, MAX_BUNDLES).contains("one of more than"));
}
