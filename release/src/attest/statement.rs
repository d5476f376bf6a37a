//! Statements: what somebody says about a release, as in-toto Statement v1 writes it. Reading is in `reading`.
//!
//! Extensions of others' predicates stand in `annotations` of a resource descriptor, where every reader expects
//! them: the predicates themselves have no field that their schema does not know.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_core::evidence::{EvidenceKind, Until};
use tamer_core::moment::Moment;
use tamer_core::rollout::approval::ToApprove;

pub use super::reading::BadStatement;

/// `_type` of every statement.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate of a build.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// The predicate of the result of a run.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// The predicate of a review: our own, with its version in its name.
pub const REVIEW: &str = "urn:x-tamer:review:v1";
/// The predicate of an approval: our own, with its version in its name.
pub const APPROVAL: &str = "urn:x-tamer:approval:v1";
/// `buildType` of what `tamer build` does: the commands of `[build]`, in a clean checkout.
pub const BUILD_TYPE: &str = "urn:x-tamer:build:v1";

/// The most subjects of one statement.
pub const MAX_SUBJECTS: usize = 1024;
/// The most authors of one commit.
pub const MAX_AUTHORS: usize = 256;
/// The most failed tests that are named.
pub const MAX_NAMED: usize = 100;

/// A commit: 40 (SHA-1) or 64 (SHA-256) small hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

/// Why a string is not a whole commit id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the whole id of a commit: 40 or 64 hexadecimal digits are needed")]
pub struct BadCommit;

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A manifest, by its SHA-256; it pins everything else of a release.
    Manifest {
        /// What people call it: `shop/web 1.4.2`.
        name: String,
        /// SHA-256 of its bytes.
        digest: Digest,
    },
    /// A commit.
    Commit(CommitId),
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it is about; at least one.
    pub subjects: Vec<Subject>,
    /// What is said.
    pub claim: Claim,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// How it was built.
    Build(Build),
    /// How a run over it ended.
    Run(Run),
    /// The commit was reviewed, and found good.
    Review(Review),
    /// A deployment was approved.
    Approval(Approved),
}

/// How releases were built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The commit.
    pub commit: CommitId,
    /// Where the commit comes from, as a URI: `git+https://…`.
    pub source: String,
    /// Who wrote what is new in the commit: addresses as git has them.
    pub authors: BTreeSet<String>,
    /// The commands that were run, by their names in `[build]`.
    pub commands: BTreeMap<String, String>,
    /// In which environment: what matters of it, by name.
    pub environment: BTreeMap<String, String>,
    /// Who built, as a URI.
    pub builder: String,
    /// When it began.
    pub started: Moment,
    /// When it was done.
    pub finished: Moment,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What was run: a kind for which [`EvidenceKind::is_result`] holds.
    pub kind: EvidenceKind,
    /// Whether it passed.
    pub passed: bool,
    /// The command, where there was one.
    pub command: Option<String>,
    /// How many tests there were of each outcome, where they were counted.
    pub counts: Option<Counts>,
    /// The names of failed tests, the first [`MAX_NAMED`] of them.
    pub failed: Vec<String>,
    /// When it began.
    pub started: Moment,
    /// When it ended.
    pub finished: Moment,
}

/// How many tests there were of each outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Passed.
    pub passed: u64,
    /// Failed, or broke.
    pub failed: u64,
    /// Were not run.
    pub skipped: u64,
}

/// A review that found a commit good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// When.
    pub at: Moment,
    /// What else the reviewer says; at most [`MAX_COMMENT`] bytes.
    pub comment: Option<String>,
}

/// The longest comment of a reviewer, in bytes.
pub const MAX_COMMENT: usize = 4096;

/// An approval of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// Its plan, whole: whoever reads it needs nobody's word on what was approved.
    pub plan: ToApprove,
    /// When it was approved.
    pub at: Moment,
    /// When it is worth nothing any more.
    pub expires: Moment,
}

// === impl CommitId ===

impl CommitId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as screens show them.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for CommitId {
    type Err = BadCommit;
    fn from_str(given: &str) -> Result<Self, BadCommit> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if matches!(given.len(), 40 | 64) && given.bytes().all(digit) {
            Ok(Self(given.to_owned()))
        } else {
            Err(BadCommit)
        }
    }
}

impl TryFrom<String> for CommitId {
    type Error = BadCommit;
    fn try_from(given: String) -> Result<Self, BadCommit> {
        given.parse()
    }
}

impl From<CommitId> for String {
    fn from(commit: CommitId) -> String {
        commit.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

// === impl Run ===

impl Run {
    /// How long it took.
    pub fn took(&self) -> Duration {
        self.finished.since(self.started)
    }
}

// === impl Statement ===

impl Statement {
    /// Reads a statement, whose signature somebody has verified.
    ///
    /// # Errors
    /// [`BadStatement`].
    pub fn parse(payload: &[u8]) -> Result<Self, BadStatement> {
        super::reading::read(payload)
    }

    /// The kind of evidence that it is; `None` for an approval.
    pub fn kind(&self) -> Option<EvidenceKind> {
        self.claim.kind()
    }

    /// Whether it is about this manifest.
    pub fn is_about(&self, manifest: &Digest) -> bool {
        self.subjects.iter().any(
            |subject| matches!(subject, Subject::Manifest { digest, .. } if digest == manifest),
        )
    }

    /// The statement as JSON: the same bytes for the same statement.
    pub fn to_json(&self) -> Vec<u8> {
        let subjects: Vec<_> = self.subjects.iter().map(subject).collect();
        let value = json!({
            "_type": STATEMENT,
            "subject": subjects,
            "predicateType": self.claim.predicate_type(),
            "predicate": self.claim.predicate(),
        });
        // A value that was made of strings and numbers: writing it into memory cannot fail.
        serde_json::to_vec(&value).unwrap_or_default()
    }
}

fn subject(subject: &Subject) -> Value {
    match subject {
        Subject::Manifest { name, digest } => json!({"name": name, "digest": {"sha256": digest}}),
        Subject::Commit(commit) => json!({"name": "commit", "digest": {"gitCommit": commit}}),
    }
}

/// A moment as statements carry it (RFC 3339).
pub(super) fn written(moment: Moment) -> String {
    Until(moment).to_string()
}

// === impl Claim ===

impl Claim {
    /// The kind of evidence that it is; `None` for an approval.
    pub fn kind(&self) -> Option<EvidenceKind> {
        match self {
            Self::Build(_) => Some(EvidenceKind::Build),
            Self::Run(run) => Some(run.kind),
            Self::Review(_) => Some(EvidenceKind::Review),
            Self::Approval(_) => None,
        }
    }

    /// When it was said, by the clock of whoever said it.
    pub fn at(&self) -> Moment {
        match self {
            Self::Build(build) => build.finished,
            Self::Run(run) => run.finished,
            Self::Review(review) => review.at,
            Self::Approval(approved) => approved.at,
        }
    }

    fn predicate_type(&self) -> &'static str {
        match self {
            Self::Build(_) => PROVENANCE,
            Self::Run(_) => TEST_RESULT,
            Self::Review(_) => REVIEW,
            Self::Approval(_) => APPROVAL,
        }
    }

    fn predicate(&self) -> Value {
        match self {
            Self::Build(build) => json!({
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"commands": build.commands},
                    "internalParameters": {"environment": build.environment},
                    "resolvedDependencies": [{
                        "uri": build.source,
                        "digest": {"gitCommit": build.commit},
                        "annotations": {"authors": build.authors},
                    }],
                },
                "runDetails": {
                    "builder": {"id": build.builder},
                    "metadata": {
                        "startedOn": written(build.started),
                        "finishedOn": written(build.finished),
                    },
                },
            }),
            Self::Run(run) => {
                let mut notes = Map::new();
                notes.insert("kind".to_owned(), run.kind.name().into());
                notes.insert("startedOn".to_owned(), written(run.started).into());
                notes.insert("finishedOn".to_owned(), written(run.finished).into());
                if let Some(command) = &run.command {
                    notes.insert("command".to_owned(), command.as_str().into());
                }
                if let Some(counts) = run.counts {
                    notes.insert("passed".to_owned(), counts.passed.into());
                    notes.insert("failed".to_owned(), counts.failed.into());
                    notes.insert("skipped".to_owned(), counts.skipped.into());
                }
                json!({
                    "result": if run.passed { "PASSED" } else { "FAILED" },
                    "configuration": [{"name": run.kind.name(), "annotations": notes}],
                    "failedTests": run.failed,
                })
            }
            Self::Review(review) => {
                let mut said = json!({"verdict": "approved", "reviewedOn": written(review.at)});
                if let Some(comment) = &review.comment {
                    said["comment"] = comment.as_str().into();
                }
                said
            }
            Self::Approval(approved) => json!({
                "plan": approved.plan,
                "approvedOn": written(approved.at),
                "expiresOn": written(approved.expires),
            }),
        }
    }
}
