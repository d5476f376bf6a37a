//! What was changed by hand: in every report a few differences, and all of them for whoever asks.

use super::{
    BadMessage, MAX_COMPONENTS, MAX_DRIFT, MAX_INSPECTED, MAX_NAMES, MAX_TEXT, digest,
    digest_bytes, head, list, needed, no_slot_twice, optional, text,
};
use crate::v1;
use tamer_core::desired::{Inspected, Inspection};
use tamer_core::drift::{Change, Difference, Drift, Inspect};

impl From<&Inspect> for v1::Inspect {
    fn from(inspect: &Inspect) -> Self {
        Self {
            id: inspect.id,
            full: inspect.full,
        }
    }
}

impl From<v1::Inspect> for Inspect {
    fn from(inspect: v1::Inspect) -> Self {
        Self {
            id: inspect.id,
            full: inspect.full,
        }
    }
}

impl From<&Drift> for v1::Drift {
    fn from(drift: &Drift) -> Self {
        out(drift, MAX_DRIFT, &mut usize::MAX.clone())
    }
}

impl TryFrom<v1::Drift> for Drift {
    type Error = BadMessage;
    fn try_from(drift: v1::Drift) -> Result<Self, BadMessage> {
        read(drift, MAX_DRIFT)
    }
}

impl From<&Inspection> for v1::Inspection {
    fn from(inspection: &Inspection) -> Self {
        let mut left = MAX_NAMES;
        let components = inspection.components.iter().map(|it| {
            let (drift, failure) = match &it.found {
                Ok(drift) => (drift.as_ref(), None),
                Err(failure) => (None, Some(failure)),
            };
            v1::Inspected {
                slot: Some((&it.slot).into()),
                drift: drift.map(|drift| out(drift, MAX_INSPECTED, &mut left)),
                failure: failure.map(Into::into),
            }
        });
        Self {
            id: inspection.id,
            components: components.collect(),
        }
    }
}

impl TryFrom<v1::Inspection> for Inspection {
    type Error = BadMessage;
    fn try_from(inspection: v1::Inspection) -> Result<Self, BadMessage> {
        let components = list(
            "components",
            MAX_COMPONENTS,
            inspection.components,
            Inspected::try_from,
        )?;
        no_slot_twice(components.iter().map(|it| &it.slot))?;
        Ok(Self {
            id: inspection.id,
            components,
        })
    }
}

impl TryFrom<v1::Inspected> for Inspected {
    type Error = BadMessage;
    fn try_from(inspected: v1::Inspected) -> Result<Self, BadMessage> {
        let drift = inspected.drift.map(|it| read(it, MAX_INSPECTED));
        let drift = drift.transpose().map_err(|e| e.inside("drift"))?;
        Ok(Self {
            slot: needed("slot", inspected.slot)?,
            found: match optional("failure", inspected.failure)? {
                Some(failure) => Err(failure),
                None => Ok(drift),
            },
        })
    }
}

/// At most `most` differences, and as many as have room in `left` bytes, which are spent.
fn out(drift: &Drift, most: usize, left: &mut usize) -> v1::Drift {
    // Tags, lengths and the word for the change, generously.
    const AROUND: usize = 24;
    let mut differences = Vec::new();
    for it in drift.differences.iter().take(most) {
        let path = head(&it.path, MAX_TEXT);
        let Some(rest) = left.checked_sub(path.len() + AROUND) else {
            *left = 0;
            break;
        };
        *left = rest;
        differences.push(v1::Difference {
            path,
            change: it.change.name().to_owned(),
        });
    }
    v1::Drift {
        digest: digest_bytes(&drift.digest),
        total: drift.total,
        differences,
    }
}

fn read(drift: v1::Drift, most: usize) -> Result<Drift, BadMessage> {
    let difference = |it: v1::Difference| {
        Ok(Difference {
            path: text("path", MAX_TEXT, it.path)?,
            change: Change::named(&it.change)
                .ok_or_else(|| BadMessage::new("change", "it is none that is known"))?,
        })
    };
    let differences = list("differences", most, drift.differences, difference)?;
    if drift.total == 0 || drift.total < differences.len() as u64 {
        return Err(BadMessage::new("total", "it is less than what is named"));
    }
    Ok(Drift {
        digest: digest("digest", &drift.digest)?,
        total: drift.total,
        differences,
    })
}
