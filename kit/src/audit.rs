//! What stands in a controller's audit log: one entry for each action, also for those that were refused.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When it was done, or refused.
    pub at: Moment,
    /// Who did it: an operator, a host, or the controller itself.
    pub who: String,
    /// In which role: the one that they had then, there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// From which address; absent for what happened at the controller itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// What was done: `deploy`, `host.remove` …
    pub action: String,
    /// To what: `production shop@1.4.2`.
    pub object: String,
    /// Why, where a reason was given or demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was asked, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// SHA-256 of the plan that it began, which approvals name: what goes forward where, and what it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// What was proven of each release that it concerns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Proven>,
    /// What came of it.
    pub result: Outcome,
    /// How many refusals of the same caller came before this one and were not written down: too many at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unwritten: u64,
}

/// What was asked of the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The name of the call: `Deploy`.
    pub call: String,
    /// SHA-256 of all that came with it.
    pub digest: Digest,
}

/// What was proven of a release when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// The kinds of evidence that counted, and by which keys: `build by ci, review by anna`.
    pub proven: String,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done, or begun.
    Done,
    /// Nothing has changed, and why.
    Refused(String),
    /// The controller broke off, and why; what had been done by then is not known.
    Failed(String),
}

impl Entry {
    /// Something that was done, with nothing said but the most needful.
    pub fn done(at: Moment, who: String, action: String, object: String) -> Self {
        Self {
            at,
            who,
            role: None,
            source: None,
            action,
            object,
            reason: None,
            request: None,
            plan: None,
            evidence: Vec::new(),
            result: Outcome::Done,
            unwritten: 0,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}
