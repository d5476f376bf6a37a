//! The audit log: who did what, why, and when; a [`crate::chain`] of its own.

use crate::chain;
pub use crate::chain::{Broken, Chain, ChainError, Head, MAX_LINE};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tamer_core::moment::Moment;

/// The most bytes of each text of an entry. Two of them fit into a line however they are escaped: a byte takes at
/// most six there.
pub const MAX_TEXT: usize = 4 << 10;

const _: () = assert!(2 * 6 * MAX_TEXT < MAX_LINE);

/// The open audit log.
pub type AuditLog = Chain<Entry>;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When it was done.
    pub at: Moment,
    /// Who did it: an operator, or the controller itself.
    pub who: String,
    /// What was done: `deploy`, `host.invite` …
    pub action: String,
    /// To what: `production shop@1.4.2`.
    pub object: String,
    /// Why, where a reason was given or demanded.
    pub reason: Option<String>,
    /// Whatever else belongs to it.
    pub details: serde_json::Value,
}

/// What a whole log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The last line's place; its number is that of all lines.
    pub head: Head,
    /// The first and the last entry's time.
    pub span: Option<(Moment, Moment)>,
}

/// Reads a whole log and checks every link; with `known`, a head that was kept elsewhere, also that
/// nothing was cut off or rewritten up to there.
///
/// # Errors
/// [`ChainError::Broken`] with the first line that is wrong; or the file can't be read.
pub fn verify(path: &Path, known: Option<Head>) -> Result<Summary, ChainError> {
    let mut span = None;
    let head = chain::read(path, known, &mut |entry: Entry| {
        let first = span.map_or(entry.at, |(first, _)| first);
        span = Some((first, entry.at));
    })?;
    Ok(Summary { head, span })
}

#[cfg(test)]
mod tests;
