//! Transfers: on the wire within the report of their component, here beside it.

use super::{BadMessage, digest, digest_bytes, needed};
use crate::v1;
use tamer_core::desired::{Slot, Transfer};

/// Says in a report how far the host has come that fetches a release for `slot`. A report that says nothing of that
/// component is left as it is.
pub fn tell_transfer(report: &mut v1::HostReport, slot: &Slot, transfer: &Transfer) {
    let slot = Some(v1::Slot::from(slot));
    let mut components = report.components.iter_mut();
    if let Some(component) = components.find(|it| it.slot == slot) {
        component.transfer = Some(v1::Transfer {
            release: digest_bytes(&transfer.release),
            done: transfer.done,
            total: transfer.total,
            rate: transfer.rate,
        });
    }
}

/// Takes out of a report what the host fetches: what is left is all that anything is decided by.
///
/// # Errors
/// [`BadMessage`]: one of them is not what it should be.
pub fn take_transfers(report: &mut v1::HostReport) -> Result<Vec<(Slot, Transfer)>, BadMessage> {
    let mut taken = Vec::new();
    for (n, component) in report.components.iter_mut().enumerate() {
        let Some(told) = component.transfer.take() else {
            continue;
        };
        let inside = |e: BadMessage| e.inside(format_args!("components[{n}]"));
        let slot = needed("slot", component.slot.clone()).map_err(inside)?;
        let transfer = Transfer::try_from(told).map_err(|e| inside(e.inside("transfer")))?;
        taken.push((slot, transfer));
    }
    Ok(taken)
}

impl TryFrom<v1::Transfer> for Transfer {
    type Error = BadMessage;
    fn try_from(told: v1::Transfer) -> Result<Self, BadMessage> {
        if told.done > told.total {
            let why = format!("it is more than the total of {}", told.total);
            return Err(BadMessage::new("done", why));
        }
        Ok(Self {
            release: digest("release", &told.release)?,
            done: told.done,
            total: told.total,
            rate: told.rate,
        })
    }
}
