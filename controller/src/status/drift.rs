//! What was changed by hand, and what somebody said of it.

use crate::fleet::Fleet;
use tamer_core::desired::{ComponentReport, Failure};
use tamer_core::drift::{Drift, Way, Word};
use tamer_core::id::{HostName, TargetKey};
use tamer_proto::v1;

/// Puts what a host said of a component's drift into its row.
pub(super) fn show(
    fleet: &Fleet,
    name: &HostName,
    key: &TargetKey,
    said: &ComponentReport,
    row: &mut v1::HostComponent,
) {
    row.compared = said.compared;
    let Some(drift) = &said.drift else { return };
    row.drift = Some(drifted(drift));
    row.not_repaired = said
        .repair
        .as_ref()
        .filter(|it| it.drift == drift.digest)
        .map(|it| (&it.failure).into());
    self::said(fleet, name, key, drift, row);
}

/// Puts what a host found that was asked into its row.
pub(super) fn inspected(
    fleet: &Fleet,
    name: &HostName,
    key: &TargetKey,
    found: &Result<Option<Drift>, Failure>,
    row: &mut v1::HostComponent,
) {
    let drift = match found {
        Ok(drift) => drift.as_ref(),
        Err(failure) => {
            row.not_compared = Some(failure.into());
            return;
        }
    };
    row.compared = true;
    row.drift = drift.map(drifted);
    (row.adopted, row.repair) = (None, None);
    if let Some(drift) = drift {
        said(fleet, name, key, drift, row);
    }
}

fn said(
    fleet: &Fleet,
    name: &HostName,
    key: &TargetKey,
    drift: &Drift,
    row: &mut v1::HostComponent,
) {
    match fleet.word(name, key, drift) {
        Some(said) if said.way == Way::Adopt => row.adopted = Some(word(said)),
        Some(said) => row.repair = Some(word(said)),
        None => {}
    }
}

fn drifted(drift: &Drift) -> v1::DriftRow {
    let differences = drift.differences.iter();
    v1::DriftRow {
        digest: drift.digest.to_string(),
        total: drift.total,
        differences: differences
            .map(|it| v1::Difference {
                path: it.path.clone(),
                change: it.change.name().to_owned(),
            })
            .collect(),
    }
}

fn word(word: &Word) -> v1::DriftWord {
    v1::DriftWord {
        drift: word.digest.to_string(),
        total: word.total,
        by: word.by.clone(),
        reason: word.reason.clone(),
        at_ms: word.at.0,
    }
}
