//! Evidence: bundles, the envelopes in them, and statements.

use std::sync::LazyLock;
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::evidence::{Demanded, EvidenceKind};
use tamer_core::moment::Moment;
use tamer_release::attest::bundle::{Bundle, verifying_key};
use tamer_release::attest::dsse::MAX_PAYLOAD;
use tamer_release::attest::statement::{MAX_SUBJECTS, Review, Run};
use tamer_release::attest::{Claim, Statement, Subject, judge, seal};
use tamer_release::trust::SigningKey;

const RELEASE: Digest = Digest::new([7; 32]);

/// A key, and an environment that counts what it states.
static LISTED: LazyLock<(SigningKey, Demanded)> = LazyLock::new(|| {
    let key = SigningKey::generate().unwrap();
    let text = format!(
        "[evidence]\nrequire = [\"test\"]\n[evidence.keys.ci]\nkey = \"{}\"\nstates = [\"build\", \"test\"]\n",
        verifying_key(key.public()).unwrap()
    );
    let demanded = Environment::parse("p.toml", &text).unwrap().evidence;
    (key, demanded)
});

pub(super) fn run(bytes: &[u8]) {
    let (key, demanded) = &*LISTED;
    // Nobody signed it: it proves nothing, whatever it says.
    let now = Moment(1_795_694_400_000);
    let judged = judge(demanded, &RELEASE, &[bytes], now);
    assert!(judged.proven.is_empty() && judged.set_aside.len() == 1);
    super::is_said(&judged.set_aside[0].why);
    // A good one beside it counts all the same.
    let good = seal(&passed(), key).unwrap();
    assert!(judge(demanded, &RELEASE, &[bytes, &good], now).is_enough());
    if let Ok(bundle) = Bundle::parse(bytes) {
        assert_eq!(Bundle::parse(&bundle.to_json()).unwrap(), bundle);
    }
    match Statement::parse(bytes) {
        Ok(statement) => {
            assert!(bytes.len() <= MAX_PAYLOAD);
            assert!((1..=MAX_SUBJECTS).contains(&statement.subjects.len()));
            let again = Statement::parse(&statement.to_json()).unwrap();
            assert_eq!(again, statement);
            assert!(!statement.claim.to_string().is_empty());
        }
        Err(error) => super::is_said(&error),
    }
}

fn passed() -> Statement {
    let at = Moment(1_795_690_800_000);
    Statement {
        subjects: vec![Subject::Manifest {
            name: "shop/web 1.4.2".to_owned(),
            digest: RELEASE,
        }],
        claim: Claim::Run(Run {
            kind: EvidenceKind::Test,
            passed: true,
            command: None,
            counts: None,
            failed: Vec::new(),
            started: at,
            finished: at,
        }),
    }
}

/// Bundles and bare statements. Their signatures are of a key that no run lists.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let stranger = SigningKey::generate().unwrap();
    let review = Statement {
        subjects: vec![Subject::Commit("a".repeat(40).parse().unwrap())],
        claim: Claim::Review(Review {
            at: Moment(1_795_690_800_000),
            comment: Some("good".to_owned()),
        }),
    };
    let built = br#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"shop/web 1.4.2","digest":{"sha256":"0707070707070707070707070707070707070707070707070707070707070707"}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"urn:x-tamer:build:v1","externalParameters":{"commands":{"build":"make"}},"resolvedDependencies":[{"uri":"git+file:","digest":{"gitCommit":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"annotations":{"authors":["ben@shop.example"]}}]},"runDetails":{"builder":{"id":"urn:x"},"metadata":{"startedOn":"2026-11-26T11:00:00Z","finishedOn":"2026-11-26T11:01:00Z"}}}}"#;
    vec![
        seal(&passed(), &stranger).unwrap(),
        seal(&review, &stranger).unwrap(),
        passed().to_json(),
        review.to_json(),
        built.to_vec(),
    ]
}
