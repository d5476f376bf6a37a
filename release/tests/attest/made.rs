//! Keys, statements and bundles to test with, and bundles put together by hand, without the code that is tested.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::evidence::{Demanded, EvidenceKind, VerifyingKey};
use tamer_core::moment::Moment;
use tamer_release::attest::bundle::verifying_key;
use tamer_release::attest::statement::{Build, Claim, Counts, Review, Run};
use tamer_release::attest::{CommitId, Judged, Statement, Subject, judge, key_hint, seal};
use tamer_release::trust::{Signer, SigningKey};

/// 2026-11-26, 12:00 UTC.
pub(crate) const NOW: Moment = Moment(1_795_694_400_000);
/// An hour, in milliseconds.
pub(crate) const HOUR: u64 = 3_600_000;
/// The release that is judged.
pub(crate) const RELEASE: Digest = Digest::new([7; 32]);
/// Another one.
pub(crate) const OTHER: Digest = Digest::new([8; 32]);

pub(crate) fn ago(hours: u64) -> Moment {
    Moment(NOW.0 - hours * HOUR)
}

pub(crate) fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

pub(crate) fn release(digest: Digest) -> Vec<Subject> {
    let name = "shop/web 1.4.2".to_owned();
    vec![Subject::Manifest { name, digest }]
}

pub(crate) fn build(at: Moment, authors: &[&str]) -> Statement {
    Statement {
        subjects: release(RELEASE),
        claim: Claim::Build(Build {
            commit: commit('a'),
            source: "git+https://code.shop.example/shop".to_owned(),
            authors: authors.iter().map(|it| (*it).to_owned()).collect(),
            commands: BTreeMap::from([("build".to_owned(), "make dist".to_owned())]),
            environment: BTreeMap::from([("TZ".to_owned(), "UTC".to_owned())]),
            builder: "urn:x-tamer:builder:ci".to_owned(),
            started: Moment(at.0 - 60_000),
            finished: at,
        }),
    }
}

pub(crate) fn run(kind: EvidenceKind, passed: bool, at: Moment) -> Statement {
    Statement {
        subjects: release(RELEASE),
        claim: Claim::Run(Run {
            kind,
            passed,
            command: Some("pytest -q".to_owned()),
            counts: Some(Counts {
                passed: 412,
                failed: u64::from(!passed),
                skipped: 3,
            }),
            failed: if passed {
                vec![]
            } else {
                vec!["test_cart".to_owned()]
            },
            started: Moment(at.0 - 38_000),
            finished: at,
        }),
    }
}

pub(crate) fn review(of: CommitId, at: Moment) -> Statement {
    Statement {
        subjects: vec![Subject::Commit(of)],
        claim: Claim::Review(Review { at, comment: None }),
    }
}

/// A team's keys, and an environment that lists them.
pub(crate) struct Team {
    pub(crate) ci: SigningKey,
    pub(crate) anna: SigningKey,
    pub(crate) ben: SigningKey,
    /// Listed nowhere.
    pub(crate) stranger: SigningKey,
}

pub(crate) fn public(key: &SigningKey) -> VerifyingKey {
    verifying_key(key.public()).unwrap()
}

impl Team {
    pub(crate) fn new() -> Self {
        let key = || SigningKey::generate().unwrap();
        Self {
            ci: key(),
            anna: key(),
            ben: key(),
            stranger: key(),
        }
    }

    /// Everything is demanded, of any age.
    pub(crate) fn demands(&self) -> Demanded {
        self.demands_with("", "")
    }

    /// The same, with lines more about all evidence, and about CI's key.
    pub(crate) fn demands_with(&self, evidence: &str, ci: &str) -> Demanded {
        let text = format!(
            "[evidence]\nrequire = [\"build\", \"lint\", \"test\", \"review\"]\n{evidence}\n\
             [evidence.keys.ci]\nkey = \"{}\"\nstates = [\"build\", \"lint\", \"test\"]\n{ci}\n\
             [evidence.keys.anna]\nkey = \"{}\"\nstates = [\"review\"]\nperson = \"anna@shop.example\"\n\
             [evidence.keys.ben]\nkey = \"{}\"\nstates = [\"review\"]\nperson = \"Ben@shop.example\"\n",
            public(&self.ci),
            public(&self.anna),
            public(&self.ben),
        );
        Environment::parse("production.toml", &text)
            .unwrap()
            .evidence
    }

    /// All that is demanded, an hour old: Ben wrote it, and Anna reviewed it.
    pub(crate) fn evidence(&self) -> Vec<Vec<u8>> {
        vec![
            seal(&build(ago(1), &["ben@shop.example"]), &self.ci).unwrap(),
            seal(&run(EvidenceKind::Lint, true, ago(1)), &self.ci).unwrap(),
            seal(&run(EvidenceKind::Test, true, ago(1)), &self.ci).unwrap(),
            seal(&review(commit('a'), ago(1)), &self.anna).unwrap(),
        ]
    }

    /// The evidence with one bundle put in the place of another.
    pub(crate) fn with(&self, place: usize, bundle: Vec<u8>) -> Vec<Vec<u8>> {
        let mut bundles = self.evidence();
        bundles[place] = bundle;
        bundles
    }

    pub(crate) fn judge(&self, bundles: &[Vec<u8>]) -> Judged {
        judge(&self.demands(), &RELEASE, bundles, NOW)
    }
}

/// The kinds that are lacking, by name.
pub(crate) fn lacking(judged: &Judged) -> Vec<&'static str> {
    judged.lacking.iter().map(|kind| kind.name()).collect()
}

/// Why the bundle at this place does not count.
#[track_caller]
pub(crate) fn why(judged: &Judged, place: usize) -> String {
    let mut found = judged.set_aside.iter().filter(|it| it.index == place);
    let found = found.next().expect("nothing was set aside");
    found.why.to_string()
}

/// What is signed, by the words of the specification.
pub(crate) fn encoded(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    let mut bytes = std::mem::take(&mut out).into_bytes();
    bytes.extend(payload);
    bytes
}

/// A bundle by hand: any payload of any type, signed as such.
pub(crate) fn by_hand(payload_type: &str, payload: &[u8], key: &SigningKey) -> Value {
    let signature = key.sign(&encoded(payload_type, payload)).unwrap();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": key_hint(&public(key)).to_string()}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": payload_type,
            "signatures": [{"sig": STANDARD.encode(signature)}],
        },
    })
}

/// The type of every payload.
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A statement, changed before it is signed: what a key holder could say, and no code of ours writes.
pub(crate) fn changed(
    statement: &Statement,
    key: &SigningKey,
    change: impl Fn(&mut Value),
) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&statement.to_json()).unwrap();
    change(&mut value);
    by_hand(IN_TOTO, &serde_json::to_vec(&value).unwrap(), key)
        .to_string()
        .into_bytes()
}

/// A bundle changed after it was signed.
pub(crate) fn tampered(bundle: &[u8], change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bundle).unwrap();
    change(&mut value);
    value.to_string().into_bytes()
}

pub(crate) fn kinds(names: &[&str]) -> BTreeSet<EvidenceKind> {
    names
        .iter()
        .map(|it| EvidenceKind::named(it).unwrap())
        .collect()
}
