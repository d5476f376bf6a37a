//! The wall clock, read at the edges only: decisions take a [`Moment`] as an argument.

use std::time::{SystemTime, UNIX_EPOCH};
use tamer_core::moment::Moment;

/// Now, by this machine's clock; the epoch itself for a clock set before it.
pub fn now() -> Moment {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
