//! A moment as people read it.

use std::time::{Duration, UNIX_EPOCH};
use tamer_core::moment::Moment;

/// `2026-11-25T00:42:00Z`.
pub fn utc(moment: Moment) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(moment.0 / 1000);
    time::OffsetDateTime::from(time)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| format!("{} ms after 1970", moment.0))
}
