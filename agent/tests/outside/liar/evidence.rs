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

/// An environment where Anna must approve each deployment.
fn approving(anna: &SigningKey) -> String {
    let key = STANDARD.encode(verifying_key(anna.public()).unwrap().der());
    format!("{PLAIN}[approval]\nneeded = 1\n[approval.keys.anna]\nkey = \"{key}\"\n")
}

const HOUR: u64 = 3_600_000;

/// An approval that ends so many milliseconds from now.
fn approval(key: &SigningKey, environment: &str, manifest: Digest, ends: i64) -> Vec<u8> {
    let now = tamer_kit::clock::now().0;
    let statement = Statement {
        subjects: vec![Subject::Manifest {
            name: "shop/web 1.0.0".to_owned(),
            digest: manifest,
        }],
        claim: Claim::Approval(Approved {
            environment: environment.parse().unwrap(),
            plan: Digest::new([4; 32]),
            at: Moment(now - 2000),
            expires: Moment(now.saturating_add_signed(ends)),
        }),
    };
    let mut bundle = seal(&statement, key).unwrap();
    bundle.push(b'\n');
    bundle
}

/// What a controller may say instead of an approval, and the words that each is refused with.
fn no_approvals(liar: &Liar, anna: &SigningKey, manifest: Digest) -> Vec<(Vec<u8>, &'static str)> {
    let (hour, other) = (HOUR as i64, Digest::new([9; 32]));
    vec![
        (Vec::new(), "wants 1 to approve"),
        (
            approval(&liar.team.online, "staging", manifest, hour),
            "not listed here",
        ),
        (approval(anna, "production", manifest, hour), "and 0 did"),
        (approval(anna, "staging", other, hour), "and 0 did"),
        (approval(anna, "staging", manifest, -1000), "it expired on"),
        (tested(manifest, anna, true), "and 0 did"),
    ]
}

#[tokio::test]
async fn a_controller_approves_for_nobody() {
    let anna = SigningKey::generate().unwrap();
    let (mut liar, _, one) = Liar::in_environment(&approving(&anna)).await;
    let path = proofs::path(&one.manifest);
    for (lie, words) in no_approvals(&liar, &anna, one.manifest) {
        liar.team.served.put(path.clone(), lie);
        liar.run(slot("shop", "web"), &one, 1).await;
        liar.refused("evidence", words).await;
        liar.holds(&[]);
    }
    let good = approval(&anna, "staging", one.manifest, HOUR as i64);
    liar.team.served.put(path, good);
    liar.staged(&one).await;
    let state = liar.dir.path().join("state");
    let record = tamer_agent::journal::Acceptance::read(&state).unwrap();
    assert_eq!(record.releases[0].approved.len(), 1);
    assert!(!record.releases[0].unapproved);
}

/// What is staged ahead of its approval is granted without one, in either direction: it does not run.
#[tokio::test]
async fn a_grant_is_no_approval() {
    let anna = SigningKey::generate().unwrap();
    let (mut liar, _, one) = Liar::in_environment(&approving(&anna)).await;
    let path = proofs::path(&one.manifest);
    liar.waits = true;
    liar.staged(&one).await;
    liar.holds(&["1.0.0"]);
    assert_eq!(liar.counts(), 0, "so far nobody has lied");
    for purpose in [Purpose::Forward, Purpose::Back] {
        for (lie, words) in no_approvals(&liar, &anna, one.manifest) {
            // Whatever it says of who waits for what.
            for waits in [true, false] {
                liar.waits = waits;
                liar.team.served.put(path.clone(), lie.clone());
                liar.grant(&one, purpose).await;
                liar.refused_grant("evidence", words).await;
            }
        }
    }
    let good = approval(&anna, "staging", one.manifest, HOUR as i64);
    liar.team.served.put(path, good.clone());
    liar.grant(&one, Purpose::Forward).await;
    liar.runs(&one).await;
    let state = liar.dir.path().join("state");
    let record = tamer_agent::journal::Acceptance::read(&state).unwrap();
    assert_eq!(record.releases[0].approved.len(), 1);
    let kept = std::fs::read(state.join(proofs::path(&one.manifest))).unwrap();
    assert_eq!(kept, good);
}

/// Once approved, a release stays so where it was accepted: going back to it asks nobody.
#[tokio::test]
async fn what_was_approved_is_gone_back_to_when_no_approval_counts_any_more() {
    let anna = SigningKey::generate().unwrap();
    let (mut liar, _, one) = Liar::in_environment(&approving(&anna)).await;
    let (_, bytes) = liar.team.pack("1.1.0");
    let two = liar.team.sign("web", "1.1.0", &bytes, 2);
    let good = |it: &ReleaseRef| approval(&anna, "staging", it.manifest, HOUR as i64);
    for release in [&one, &two] {
        let path = proofs::path(&release.manifest);
        liar.team.served.put(path.clone(), good(release));
        liar.staged(release).await;
        liar.grant(release, Purpose::Forward).await;
        liar.runs(release).await;
        liar.team.served.put(path, Vec::new());
    }
    liar.grant(&one, Purpose::Back).await;
    liar.runs(&one).await;
}
