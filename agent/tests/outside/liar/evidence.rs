//! Lies about what is proven of a release, and who approved it.

use super::*;
use tamer_core::rollout::approval::{ReleaseToApprove, ToApprove};
use tamer_core::rollout::deployment::DeploymentId;

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

/// The plan of deployment `number`, asked for so many milliseconds ago, which brings this release to `component`.
fn plan(
    number: u64,
    environment: &str,
    component: &str,
    release: &ReleaseRef,
    ago: u64,
) -> ToApprove {
    ToApprove {
        deployment: DeploymentId(number),
        environment: environment.parse().unwrap(),
        application: "shop".parse().unwrap(),
        version: Some(release.version.clone()),
        by: "ci".to_owned(),
        reason: String::new(),
        asked_at: Moment(tamer_kit::clock::now().0 - ago),
        releases: vec![ReleaseToApprove {
            component: component.parse().unwrap(),
            pool: Default::default(),
            from: None,
            to: release.clone(),
        }],
    }
}

/// An approval of a plan that ends so many milliseconds from now.
fn approves(key: &SigningKey, plan: &ToApprove, ends: i64) -> Vec<u8> {
    let now = tamer_kit::clock::now().0;
    let subjects = plan.manifests().into_iter();
    let subjects = subjects.map(|digest| Subject::Manifest {
        name: "shop/web 1.0.0".to_owned(),
        digest,
    });
    signed(
        key,
        subjects.collect(),
        plan,
        now.saturating_add_signed(ends),
    )
}

fn signed(key: &SigningKey, subjects: Vec<Subject>, plan: &ToApprove, expires: u64) -> Vec<u8> {
    let statement = Statement {
        subjects,
        claim: Claim::Approval(Approved {
            plan: plan.clone(),
            at: Moment(tamer_kit::clock::now().0 - 2000),
            expires: Moment(expires),
        }),
    };
    let mut bundle = seal(&statement, key).unwrap();
    bundle.push(b'\n');
    bundle
}

/// An approval of a deployment of nothing but this release.
fn approval(key: &SigningKey, environment: &str, release: &ReleaseRef, ends: i64) -> Vec<u8> {
    approves(key, &plan(7, environment, "web", release, 60_000), ends)
}

/// An approval of a plan of this release, by a statement that says it is about `manifest`.
fn beside(key: &SigningKey, plan: &ToApprove, manifest: Digest) -> Vec<u8> {
    let about = Subject::Manifest {
        name: "shop/web 1.0.0".to_owned(),
        digest: manifest,
    };
    signed(key, vec![about], plan, tamer_kit::clock::now().0 + HOUR)
}

/// What a controller may say instead of an approval, and the words that each is refused with.
fn no_approvals(
    liar: &Liar,
    anna: &SigningKey,
    release: &ReleaseRef,
) -> Vec<(Vec<u8>, &'static str)> {
    let hour = HOUR as i64;
    let mut other = release.clone();
    other.manifest = Digest::new([9; 32]);
    let lists_another = plan(7, "staging", "web", &other, 60_000);
    let good = plan(7, "staging", "web", release, 60_000);
    let elsewhere = plan(7, "staging", "worker", release, 60_000);
    let from_the_future = plan(7, "staging", "web", release, 0);
    let from_the_future = ToApprove {
        asked_at: Moment(from_the_future.asked_at.0 + HOUR),
        ..from_the_future
    };
    vec![
        (Vec::new(), "wants 1 to approve"),
        (
            approval(&liar.team.online, "staging", release, hour),
            "not listed here",
        ),
        (
            approval(anna, "production", release, hour),
            "another environment",
        ),
        (
            approves(anna, &lists_another, hour),
            "does not bring this release",
        ),
        // The statement is about this release, and the plan in it is not.
        (
            beside(anna, &lists_another, release.manifest),
            "does not bring this release",
        ),
        (
            beside(anna, &good, other.manifest),
            "another set of releases",
        ),
        (
            approves(anna, &elsewhere, hour),
            "does not bring this release",
        ),
        (
            approves(anna, &from_the_future, hour),
            "after it was approved",
        ),
        (approval(anna, "staging", release, -1000), "it expired on"),
        (tested(release.manifest, anna, true), "and 0 did"),
    ]
}

#[tokio::test]
async fn a_controller_approves_for_nobody() {
    let anna = SigningKey::generate().unwrap();
    let (mut liar, _, one) = Liar::in_environment(&approving(&anna)).await;
    let path = proofs::path(&one.manifest);
    for (lie, words) in no_approvals(&liar, &anna, &one) {
        liar.team.served.put(path.clone(), lie);
        liar.run(slot("shop", "web"), &one, 1).await;
        liar.refused("evidence", words).await;
        liar.holds(&[]);
    }
    let good = approval(&anna, "staging", &one, HOUR as i64);
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
        for (lie, words) in no_approvals(&liar, &anna, &one) {
            // Whatever it says of who waits for what.
            for waits in [true, false] {
                liar.waits = waits;
                liar.team.served.put(path.clone(), lie.clone());
                liar.grant(&one, purpose).await;
                liar.refused_grant("evidence", words).await;
            }
        }
    }
    let good = approval(&anna, "staging", &one, HOUR as i64);
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
    let good = |it: &ReleaseRef| approval(&anna, "staging", it, HOUR as i64);
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

/// What is served as the evidence of a release from now on.
fn serve(liar: &Liar, release: &ReleaseRef, evidence: Vec<u8>) {
    let path = proofs::path(&release.manifest);
    liar.team.served.put(path, evidence);
}

/// An approval is of one plan: once a later one has gone ahead, it brings nothing here any more, however long it
/// lasts; and what an approved plan has brought is gone back to all the same.
#[tokio::test]
async fn an_approval_is_not_used_again_after_a_later_plan_has_gone_ahead() {
    let anna = SigningKey::generate().unwrap();
    let (mut liar, _, one) = Liar::in_environment(&approving(&anna)).await;
    let (_, bytes) = liar.team.pack("1.1.0");
    let two = liar.team.sign("web", "1.1.0", &bytes, 2);
    let hour = HOUR as i64;
    let (first, second) = (
        plan(1, "staging", "web", &one, 60_000),
        plan(2, "staging", "web", &two, 30_000),
    );
    let earlier = plan(3, "staging", "web", &one, 45_000);
    for (release, plan) in [(&one, &first), (&two, &second)] {
        serve(&liar, release, approves(&anna, plan, hour));
        liar.staged(release).await;
        liar.grant(release, Purpose::Forward).await;
        liar.runs(release).await;
    }
    let record = tamer_agent::journal::Acceptance::read(&liar.dir.path().join("state")).unwrap();
    let asked: Vec<_> = record.releases.iter().filter_map(|it| it.plan).collect();
    let asked: Vec<_> = asked.iter().map(|it| it.asked_at).collect();
    assert_eq!(asked, [first.asked_at, second.asked_at]);
    // The same approval, another one of the same plan, and one of another plan that was asked for earlier.
    for lie in [&first, &first, &earlier] {
        serve(&liar, &one, approves(&anna, lie, hour));
        liar.grant(&one, Purpose::Forward).await;
        liar.refused_to_move("evidence", "has gone ahead here since", &two)
            .await;
    }
    // What ran with approval is gone back to, and the newest plan may go ahead once more.
    liar.grant(&one, Purpose::Back).await;
    liar.runs(&one).await;
    liar.grant(&two, Purpose::Forward).await;
    liar.runs(&two).await;
    // People approve what ran before anew: that is a later plan.
    let third = plan(4, "staging", "web", &one, 10_000);
    serve(&liar, &one, approves(&anna, &third, hour));
    liar.grant(&one, Purpose::Forward).await;
    liar.runs(&one).await;
    liar.grant(&two, Purpose::Forward).await;
    liar.refused_to_move("evidence", "has gone ahead here since", &one)
        .await;
}

/// What was approved and only staged when a later plan went ahead never ran: nothing goes back to it either.
#[tokio::test]
async fn what_was_only_staged_when_a_later_plan_went_ahead_is_nothing_to_go_back_to() {
    let anna = SigningKey::generate().unwrap();
    let (mut liar, _, one) = Liar::in_environment(&approving(&anna)).await;
    let (_, bytes) = liar.team.pack("1.1.0");
    let two = liar.team.sign("web", "1.1.0", &bytes, 2);
    let hour = HOUR as i64;
    for (release, ago) in [(&one, 60_000), (&two, 30_000)] {
        let plan = plan(ago, "staging", "web", release, ago);
        serve(&liar, release, approves(&anna, &plan, hour));
        liar.staged(release).await;
    }
    liar.grant(&two, Purpose::Forward).await;
    liar.runs(&two).await;
    for purpose in [Purpose::Back, Purpose::Forward] {
        liar.grant(&one, purpose).await;
        liar.refused_to_move("evidence", "has gone ahead here since", &two)
            .await;
    }
}

/// Who asked stands in the plan that the approver signed: the agent holds it against the key.
#[tokio::test]
async fn who_asked_does_not_approve_whatever_the_controller_counts() {
    let anna = SigningKey::generate().unwrap();
    let file = approving(&anna).replace("needed = 1", "needed = 1\nfour_eyes = true");
    let (mut liar, _, one) = Liar::in_environment(&file).await;
    let mut own = plan(7, "staging", "web", &one, 60_000);
    own.by = "Anna".to_owned();
    serve(&liar, &one, approves(&anna, &own, HOUR as i64));
    liar.run(slot("shop", "web"), &one, 1).await;
    liar.refused("evidence", "Anna asked for deployment 7")
        .await;
    liar.holds(&[]);
    own.by = "ci".to_owned();
    serve(&liar, &one, approves(&anna, &own, HOUR as i64));
    liar.staged(&one).await;
}
