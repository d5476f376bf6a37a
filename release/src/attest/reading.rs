//! Reading statements: fields that are not known are passed over, as in-toto demands; what is read must be whole.

use super::dsse::MAX_PAYLOAD;
use super::statement::{
    APPROVAL, Approved, Build, Claim, CommitId, Counts, MAX_AUTHORS, MAX_COMMENT, MAX_NAMED,
    MAX_SUBJECTS, PROVENANCE, REVIEW, Review, Run, STATEMENT, Statement, Subject, TEST_RESULT,
};
use crate::json;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::evidence::{EvidenceKind, MAX_PERSON, Until};
use tamer_core::moment::Moment;
use tamer_core::rollout::approval::ToApprove;

/// Why a payload is not a statement that is read here.
#[derive(Debug, thiserror::Error)]
pub enum BadStatement {
    /// Too much.
    #[error("it is larger than {MAX_PAYLOAD} bytes")]
    TooLarge,
    /// Not the JSON of a statement.
    #[error("it is not an in-toto statement: {0}")]
    Format(String),
    /// A statement of another version.
    #[error("it is of type `{0}`, and {STATEMENT} is needed")]
    Type(String),
    /// It says something of which nothing is known here.
    #[error("its predicate `{0}` is not known here")]
    Predicate(String),
    /// It is about nothing, too much, or something that is not told by a SHA-256 or a commit.
    #[error("{0}")]
    Subject(&'static str),
    /// What it says is not whole, or contradicts itself.
    #[error("{0}")]
    Content(String),
}

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Descriptor>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Descriptor {
    name: String,
    uri: String,
    digest: BTreeMap<String, String>,
    annotations: Value,
}

pub(super) fn read(payload: &[u8]) -> Result<Statement, BadStatement> {
    if payload.len() > MAX_PAYLOAD {
        return Err(BadStatement::TooLarge);
    }
    let written: Written = json::strict_as(payload)
        .map_err(|error| BadStatement::Format(cut(&error.to_string(), 200)))?;
    if written.kind != STATEMENT {
        return Err(BadStatement::Type(cut(&written.kind, 80)));
    }
    let claim = match written.predicate_type.as_str() {
        PROVENANCE => Claim::Build(build(predicate(written.predicate)?)?),
        TEST_RESULT => Claim::Run(run(predicate(written.predicate)?)?),
        REVIEW => Claim::Review(review(predicate(written.predicate)?)?),
        APPROVAL => Claim::Approval(approval(predicate(written.predicate)?)?),
        other => return Err(BadStatement::Predicate(cut(other, 80))),
    };
    let subjects = written.subject;
    if subjects.is_empty() {
        return Err(BadStatement::Subject("it is about nothing"));
    }
    if subjects.len() > MAX_SUBJECTS {
        return Err(BadStatement::Subject("it is about more than 1,024 things"));
    }
    let subjects = subjects
        .into_iter()
        .map(|subject| subject_of(&claim, subject))
        .collect::<Result<_, _>>()?;
    Ok(Statement { subjects, claim })
}

/// A review is of commits, all else is of manifests; one digest each, so that it is clear which one holds.
fn subject_of(claim: &Claim, subject: Descriptor) -> Result<Subject, BadStatement> {
    let mut digests = subject.digest.iter();
    let (Some((algorithm, digest)), None) = (digests.next(), digests.next()) else {
        return Err(BadStatement::Subject(
            "what it is about has not exactly one digest",
        ));
    };
    match (claim, algorithm.as_str()) {
        (Claim::Review(_), "gitCommit") => digest
            .parse()
            .map(Subject::Commit)
            .map_err(|_| BadStatement::Subject("what it is about is not a whole commit id")),
        (Claim::Review(_), _) => Err(BadStatement::Subject(
            "it is a review, and not of a commit (`gitCommit`)",
        )),
        (_, "sha256") => {
            let digest = digest.parse().map_err(|_| {
                BadStatement::Subject("what it is about has not a SHA-256 of 64 small digits")
            })?;
            let name = cut(&subject.name, 400);
            Ok(Subject::Manifest { name, digest })
        }
        _ => Err(BadStatement::Subject(
            "it is not about a manifest (`sha256`)",
        )),
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

fn content(what: impl Into<String>) -> BadStatement {
    BadStatement::Content(what.into())
}

fn predicate<T: DeserializeOwned>(value: Value) -> Result<T, BadStatement> {
    serde_json::from_value(value).map_err(|error| {
        content(format!(
            "its predicate is not whole: {}",
            cut(&error.to_string(), 200)
        ))
    })
}

fn moment(name: &str, text: &str) -> Result<Moment, BadStatement> {
    let read = text.parse::<Until>();
    read.map(|until| until.0)
        .map_err(|_| content(format!("`{name}` is not a time")))
}

fn is_short(text: &str) -> bool {
    text.len() <= 16 << 10
}

// === build ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provenance {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    #[serde(default)]
    external_parameters: External,
    #[serde(default)]
    internal_parameters: Internal,
    #[serde(default)]
    resolved_dependencies: Vec<Descriptor>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct External {
    commands: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Internal {
    environment: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RunDetails {
    builder: Builder,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    started_on: String,
    finished_on: String,
}

#[derive(Deserialize)]
struct Authors {
    authors: BTreeSet<String>,
}

fn build(written: Provenance) -> Result<Build, BadStatement> {
    let definition = written.build_definition;
    let mut commits = definition
        .resolved_dependencies
        .into_iter()
        .filter(|dependency| dependency.digest.contains_key("gitCommit"));
    let (Some(source), None) = (commits.next(), commits.next()) else {
        return Err(content("it does not name exactly one commit"));
    };
    let commit: CommitId = source.digest["gitCommit"]
        .parse()
        .map_err(|error| content(format!("its commit: {error}")))?;
    let Authors { authors } = serde_json::from_value(source.annotations)
        .map_err(|_| content("it does not say who wrote the commit (`authors`)"))?;
    if authors.is_empty() || authors.len() > MAX_AUTHORS {
        return Err(content(format!(
            "it names {} authors of the commit, and 1 to {MAX_AUTHORS} are read",
            authors.len()
        )));
    }
    if authors
        .iter()
        .any(|author| author.trim().is_empty() || author.len() > MAX_PERSON)
    {
        return Err(content("an author has no address, or one that is too long"));
    }
    let metadata = written.run_details.metadata;
    Ok(Build {
        commit,
        source: cut(&source.uri, 2048),
        authors,
        commands: definition.external_parameters.commands,
        environment: definition.internal_parameters.environment,
        builder: cut(&written.run_details.builder.id, 2048),
        started: moment("startedOn", &metadata.started_on)?,
        finished: moment("finishedOn", &metadata.finished_on)?,
    })
}

// === the result of a run ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestResult {
    result: String,
    configuration: Vec<Descriptor>,
    #[serde(default)]
    failed_tests: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notes {
    kind: EvidenceKind,
    started_on: String,
    finished_on: String,
    command: Option<String>,
    passed: Option<u64>,
    failed: Option<u64>,
    skipped: Option<u64>,
}

fn run(written: TestResult) -> Result<Run, BadStatement> {
    let passed = match written.result.as_str() {
        "PASSED" => true,
        "FAILED" => false,
        other => {
            return Err(content(format!(
                "it says {}, which is neither PASSED nor FAILED",
                cut(other, 80)
            )));
        }
    };
    let Ok([configuration]) = <[Descriptor; 1]>::try_from(written.configuration) else {
        return Err(content(
            "it does not say what was run in one `configuration`",
        ));
    };
    let notes: Notes = serde_json::from_value(configuration.annotations).map_err(|error| {
        content(format!(
            "it does not say in the annotations of its `configuration` what was run, and when: {}",
            cut(&error.to_string(), 200)
        ))
    })?;
    if !notes.kind.is_result() {
        return Err(content(format!(
            "{} is not something that is run",
            notes.kind
        )));
    }
    let counts = match (notes.passed, notes.failed, notes.skipped) {
        (None, None, None) => None,
        (passed, failed, skipped) => Some(Counts {
            passed: passed.unwrap_or(0),
            failed: failed.unwrap_or(0),
            skipped: skipped.unwrap_or(0),
        }),
    };
    let failures = counts.map_or(0, |counts| counts.failed);
    if passed && (failures > 0 || !written.failed_tests.is_empty()) {
        return Err(content("it says PASSED, and names tests that failed"));
    }
    if notes.command.as_deref().is_some_and(|it| !is_short(it)) {
        return Err(content("its command is too long"));
    }
    let named = written.failed_tests.iter().take(MAX_NAMED);
    Ok(Run {
        kind: notes.kind,
        passed,
        command: notes.command,
        counts,
        failed: named.map(|name| cut(name, 400)).collect(),
        started: moment("startedOn", &notes.started_on)?,
        finished: moment("finishedOn", &notes.finished_on)?,
    })
}

// === review and approval ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenReview {
    verdict: String,
    reviewed_on: String,
    comment: Option<String>,
}

fn review(written: WrittenReview) -> Result<Review, BadStatement> {
    if written.verdict != "approved" {
        return Err(content(format!(
            "its verdict is `{}`, and not `approved`",
            cut(&written.verdict, 80)
        )));
    }
    if written
        .comment
        .as_ref()
        .is_some_and(|it| it.len() > MAX_COMMENT)
    {
        return Err(content(format!(
            "its comment has more than {MAX_COMMENT} bytes"
        )));
    }
    Ok(Review {
        at: moment("reviewedOn", &written.reviewed_on)?,
        comment: written.comment,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenApproval {
    plan: ToApprove,
    approved_on: String,
    expires_on: String,
}

fn approval(written: WrittenApproval) -> Result<Approved, BadStatement> {
    Ok(Approved {
        plan: written.plan,
        at: moment("approvedOn", &written.approved_on)?,
        expires: moment("expiresOn", &written.expires_on)?,
    })
}
