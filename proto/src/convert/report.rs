//! Reports: from the agent to the controller.

use super::{
    BadMessage, MAX_CHECKS, MAX_COMPONENTS, MAX_OUTPUT, MAX_TEXT, at_most, digest, digest_bytes,
    digests, head, list, needed, no_slot_twice, optional, parsed, tail, text,
};
use crate::v1;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Serialize};
use std::fmt;
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{
    ActivationReport, ActivationStatus, ComponentReport, Failure, FailureKind, HostReport,
    RepairReport,
};
use tamer_core::schema::{MigrationReport, MigrationStatus};

impl From<&HostReport> for v1::HostReport {
    fn from(report: &HostReport) -> Self {
        Self {
            generation: Some((&report.generation).into()),
            components: report.components.iter().map(Into::into).collect(),
            checks: checks_out(&report.checks),
            inspection: report.inspection.as_ref().map(Into::into),
            routes: report.routes.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::HostReport> for HostReport {
    type Error = BadMessage;
    fn try_from(report: v1::HostReport) -> Result<Self, BadMessage> {
        let components = list(
            "components",
            MAX_COMPONENTS,
            report.components,
            ComponentReport::try_from,
        )?;
        no_slot_twice(components.iter().map(|component| &component.slot))?;
        Ok(Self {
            generation: needed("generation", report.generation)?,
            components,
            checks: checks_in(report.checks)?,
            routes: list("routes", MAX_COMPONENTS, report.routes, TryInto::try_into)?,
            inspection: optional("inspection", report.inspection)?,
        })
    }
}

impl From<&ComponentReport> for v1::ComponentReport {
    fn from(report: &ComponentReport) -> Self {
        Self {
            slot: Some((&report.slot).into()),
            running: report.running.as_ref().map(Into::into),
            staged: report.staged.iter().map(digest_bytes).collect(),
            staging_failure: report.staging_failure.as_ref().map(Into::into),
            activation: report.activation.as_ref().map(Into::into),
            checks: checks_out(&report.checks),
            hold: report.hold.as_deref().map_or_else(String::new, said),
            drift: report.drift.as_ref().map(Into::into),
            migration: report.migration.as_ref().map(Into::into),
            compared: report.compared,
            repair: report.repair.as_ref().map(Into::into),
            // It comes beside the report.
            transfer: None,
        }
    }
}

impl TryFrom<v1::ComponentReport> for ComponentReport {
    type Error = BadMessage;
    fn try_from(report: v1::ComponentReport) -> Result<Self, BadMessage> {
        let hold = text("hold", MAX_TEXT, report.hold)?;
        Ok(Self {
            slot: needed("slot", report.slot)?,
            running: optional("running", report.running)?,
            staged: digests("staged", &report.staged)?,
            staging_failure: optional("staging_failure", report.staging_failure)?,
            activation: optional("activation", report.activation)?,
            checks: checks_in(report.checks)?,
            hold: Some(hold).filter(|hold| !hold.is_empty()),
            drift: optional("drift", report.drift)?,
            migration: optional("migration", report.migration)?,
            compared: report.compared,
            repair: optional("repair", report.repair)?,
        })
    }
}

impl From<&RepairReport> for v1::RepairReport {
    fn from(report: &RepairReport) -> Self {
        Self {
            drift: digest_bytes(&report.drift),
            failure: Some((&report.failure).into()),
        }
    }
}

impl TryFrom<v1::RepairReport> for RepairReport {
    type Error = BadMessage;
    fn try_from(report: v1::RepairReport) -> Result<Self, BadMessage> {
        Ok(Self {
            drift: digest("drift", &report.drift)?,
            failure: needed("failure", report.failure)?,
        })
    }
}

impl From<&MigrationReport> for v1::MigrationReport {
    fn from(report: &MigrationReport) -> Self {
        use v1::migration_report::Status;
        let end = |version: Option<u64>, failure: Option<&Failure>| v1::MigrationEnd {
            version,
            failure: failure.map(Into::into),
        };
        let status = match &report.status {
            MigrationStatus::Working => Status::Working(v1::MigrationWorking {}),
            MigrationStatus::Done(version) => Status::Done(end(Some(*version), None)),
            MigrationStatus::NotBegun { found, failure } => {
                Status::NotBegun(end(*found, Some(failure)))
            }
            MigrationStatus::Failed { version, failure } => {
                Status::Failed(end(Some(*version), Some(failure)))
            }
            MigrationStatus::Unknown { version, failure } => {
                Status::Unknown(end(*version, Some(failure)))
            }
        };
        Self {
            id: Some((&report.id).into()),
            status: Some(status),
        }
    }
}

impl TryFrom<v1::MigrationReport> for MigrationReport {
    type Error = BadMessage;
    fn try_from(report: v1::MigrationReport) -> Result<Self, BadMessage> {
        Ok(Self {
            id: needed("id", report.id)?,
            status: needed("status", report.status)?,
        })
    }
}

impl TryFrom<v1::migration_report::Status> for MigrationStatus {
    type Error = BadMessage;
    fn try_from(status: v1::migration_report::Status) -> Result<Self, BadMessage> {
        use v1::migration_report::Status;
        let version = |end: &v1::MigrationEnd| {
            let missing = || BadMessage::new("version", "it is missing");
            end.version.ok_or_else(missing)
        };
        let failure = |end: v1::MigrationEnd| needed("failure", end.failure);
        Ok(match status {
            Status::Working(v1::MigrationWorking {}) => Self::Working,
            Status::Done(end) => Self::Done(version(&end)?),
            Status::NotBegun(end) => Self::NotBegun {
                found: end.version,
                failure: failure(end)?,
            },
            Status::Failed(end) => Self::Failed {
                version: version(&end)?,
                failure: failure(end)?,
            },
            Status::Unknown(end) => Self::Unknown {
                version: end.version,
                failure: failure(end)?,
            },
        })
    }
}

impl From<&ActivationReport> for v1::Activation {
    fn from(report: &ActivationReport) -> Self {
        use v1::activation::Status;
        Self {
            grant: Some((&report.grant).into()),
            release: report.release.as_ref().map(Into::into),
            status: Some(match &report.status {
                ActivationStatus::Working(step) => Status::Working(head(step, MAX_TEXT)),
                ActivationStatus::Done => Status::Done(v1::Done {}),
                ActivationStatus::Refused(failure) => Status::Refused(failure.into()),
                ActivationStatus::Undone(failure) => Status::Undone(failure.into()),
                ActivationStatus::Stuck(failure) => Status::Stuck(failure.into()),
                ActivationStatus::Expired => Status::Expired(v1::Expired {}),
            }),
        }
    }
}

impl TryFrom<v1::Activation> for ActivationReport {
    type Error = BadMessage;
    fn try_from(report: v1::Activation) -> Result<Self, BadMessage> {
        Ok(Self {
            grant: needed("grant", report.grant)?,
            release: optional("release", report.release)?,
            status: needed("status", report.status)?,
        })
    }
}

impl TryFrom<v1::activation::Status> for ActivationStatus {
    type Error = BadMessage;
    fn try_from(status: v1::activation::Status) -> Result<Self, BadMessage> {
        use v1::activation::Status;
        let failure =
            |field, failure: v1::Failure| Failure::try_from(failure).map_err(|e| e.inside(field));
        Ok(match status {
            Status::Working(step) => Self::Working(text("working", MAX_TEXT, step)?),
            Status::Done(v1::Done {}) => Self::Done,
            Status::Refused(given) => Self::Refused(failure("refused", given)?),
            Status::Undone(given) => Self::Undone(failure("undone", given)?),
            Status::Stuck(given) => Self::Stuck(failure("stuck", given)?),
            Status::Expired(v1::Expired {}) => Self::Expired,
        })
    }
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: kind_word(failure.kind),
            message: head(&failure.message, MAX_TEXT),
            check: failure
                .check
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            output: tail(&failure.output, MAX_OUTPUT),
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = BadMessage;
    fn try_from(failure: v1::Failure) -> Result<Self, BadMessage> {
        Ok(Self {
            kind: kind("kind", &failure.kind)?,
            message: text("message", MAX_TEXT, failure.message)?,
            check: match failure.check.as_str() {
                "" => None,
                _ => Some(parsed("check", failure.check)?),
            },
            output: text("output", MAX_OUTPUT, failure.output)?,
        })
    }
}

/// The word for a kind of failure, as core's serde names it: `pre-check`.
pub(super) fn kind_word(kind: FailureKind) -> String {
    struct Word(FailureKind);
    impl fmt::Display for Word {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.serialize(f)
        }
    }
    Word(kind).to_string()
}

fn kind(field: &str, word: &str) -> Result<FailureKind, BadMessage> {
    let source: StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
    FailureKind::deserialize(source).map_err(|_| {
        let given: String = word.chars().take(80).collect();
        BadMessage::new(field, format!("`{given}` is no kind of failure"))
    })
}

pub(super) fn checks_out(results: &Results) -> Vec<v1::CheckState> {
    results
        .iter()
        .map(|(name, result)| v1::CheckState {
            name: name.to_string(),
            failure: match result {
                CheckResult::Passed => String::new(),
                CheckResult::Failed(why) => said(why),
            },
        })
        .collect()
}

pub(super) fn checks_in(states: Vec<v1::CheckState>) -> Result<Results, BadMessage> {
    at_most("checks", MAX_CHECKS, states.len())?;
    let mut results = Results::new();
    for (n, state) in states.into_iter().enumerate() {
        let inside = |e: BadMessage| e.inside(format_args!("checks[{n}]"));
        let name = parsed("name", state.name).map_err(inside)?;
        let failure = text("failure", MAX_TEXT, state.failure).map_err(inside)?;
        let result = if failure.is_empty() {
            CheckResult::Passed
        } else {
            CheckResult::Failed(failure)
        };
        if results.insert(name, result).is_some() {
            return Err(inside(BadMessage::new("name", "it is there twice")));
        }
    }
    Ok(results)
}

/// A reason that must not be empty on the wire, where empty means that there is nothing to say.
fn said(reason: &str) -> String {
    match reason {
        "" => "no reason was given".to_owned(),
        reason => head(reason, MAX_TEXT),
    }
}
