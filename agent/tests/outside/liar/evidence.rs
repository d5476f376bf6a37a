//! Lies about what is proven of a release, and who approved it.

use super::*;

/// An environment that demands tests, and whose word counts there.
fn demanding(key: &SigningKey) -> String {
    let key = STANDARD.encode(verifying_key(key.public()).unwrap().der());
    format!(
        "{PLAIN}[evidence]\nrequire = [\"test\"]\n[evidence.keys.ci]\nkey = \"{key}\"\nstates = [\"test\"]\n"
    )
}

fn tested(manifest: Digest, key: &SigningKey, passed: bool) -> Vec<u8> {
    let at = Moment(tamer_kit::clock::now().0 - 1000);
    let statement = Statement {
        subjects: vec![Subject::Manifest {
            name: "shop/web 1.0.0".to_owned(),
            digest: manifest,
        }],
        claim: Claim::Run(Run {
            kind: EvidenceKind::Test,
            passed,
            command: None,
            counts: None,
            failed: Vec::new(),
            started: at,
            finished: at,
        }),
    };
    let mut bundle = seal(&statement, key).unwrap();
    bundle.push(b'\n');
    bundle
}

#[tokio::test]
async fn evidence_is_judged_here_and_kept_with_what_was_accepted() {
    let ci = SigningKey::generate().unwrap();
    let (mut liar, _, one) = Liar::in_environment(&demanding(&ci)).await;
    let other = Digest::new([9; 32]);
    let stranger = SigningKey::generate().unwrap();
    let path = proofs::path(&one.manifest);
    for (lie, words) in [
        (Vec::new(), "does not have: test"),
        (tested(other, &ci, true), "not about this release"),
        (tested(one.manifest, &stranger, true), "not listed here"),
        (
            tested(one.manifest, &liar.team.online, true),
            "not listed here",
        ),
        (tested(one.manifest, &ci, false), "it says FAILED"),
        (b"<html>\n".to_vec(), "cannot be read"),
    ] {
        liar.team.served.put(path.clone(), lie);
        liar.run(slot("shop", "web"), &one, 1).await;
        liar.refused("evidence", words).await;
        liar.holds(&[]);
    }
    // Among all the lies the truth is found, and it alone is kept.
    let truth = tested(one.manifest, &ci, true);
    let all = [
        tested(other, &ci, true),
        b"<html>\n".to_vec(),
        truth.clone(),
    ]
    .concat();
    liar.team.served.put(path.clone(), all);
    liar.staged(&one).await;
    let state = liar.dir.path().join("state");
    assert_eq!(std::fs::read(state.join(&path)).unwrap(), truth);
    let record = tamer_agent::journal::Acceptance::read(&state).unwrap();
    let proven = &record.releases[0].proven;
    assert_eq!(proven[&EvidenceKind::Test].as_str(), "ci");
}

#[tokio::test]
async fn no_evidence_comes_from_a_controller_that_keeps_it_back_with_an_error() {
    let ci = SigningKey::generate().unwrap();
    let (liar, _, one) = Liar::in_environment(&demanding(&ci)).await;
    let path = proofs::path(&one.manifest);
    liar.team
        .served
        .put(path.clone(), tested(one.manifest, &ci, true));
    liar.team.served.fault(path, Fault::Broken);
    liar.refuses(&one, "fetch", "evidence of").await;
}

#[tokio::test]
async fn a_controller_approves_for_nobody() {
    let anna = SigningKey::generate().unwrap();
    let key = STANDARD.encode(verifying_key(anna.public()).unwrap().der());
    let text = format!("{PLAIN}[approval]\nneeded = 1\n[approval.keys.anna]\nkey = \"{key}\"\n");
    let (mut liar, _, one) = Liar::in_environment(&text).await;
    let now = tamer_kit::clock::now().0;
    let approval = |key: &SigningKey, environment: &str, manifest, expires: u64| {
        let statement = Statement {
            subjects: vec![Subject::Manifest {
                name: "shop/web 1.0.0".to_owned(),
                digest: manifest,
            }],
            claim: Claim::Approval(Approved {
                environment: environment.parse().unwrap(),
                plan: Digest::new([4; 32]),
                at: Moment(now - 2000),
                expires: Moment(expires),
            }),
        };
        let mut bundle = seal(&statement, key).unwrap();
        bundle.push(b'\n');
        bundle
    };
    let (later, other) = (now + 3_600_000, Digest::new([9; 32]));
    let path = proofs::path(&one.manifest);
    for (lie, words) in [
        (Vec::new(), "wants 1 to approve"),
        (
            approval(&liar.team.online, "staging", one.manifest, later),
            "not listed here",
        ),
        (
            approval(&anna, "production", one.manifest, later),
            "and 0 did",
        ),
        (approval(&anna, "staging", other, later), "and 0 did"),
        (
            approval(&anna, "staging", one.manifest, now - 1000),
            "it expired on",
        ),
        (tested(one.manifest, &anna, true), "and 0 did"),
    ] {
        liar.team.served.put(path.clone(), lie);
        liar.run(slot("shop", "web"), &one, 1).await;
        liar.refused("evidence", words).await;
        liar.holds(&[]);
    }
    liar.team
        .served
        .put(path, approval(&anna, "staging", one.manifest, later));
    liar.staged(&one).await;
    let state = liar.dir.path().join("state");
    let record = tamer_agent::journal::Acceptance::read(&state).unwrap();
    assert_eq!(record.releases[0].approved.len(), 1);
}
