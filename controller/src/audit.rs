//! The audit log: who did what, why, and when; a [`crate::chain`] of its own.

use crate::chain;
pub use crate::chain::{Broken, Chain, ChainError, Head, MAX_LINE};
use std::path::Path;
use tamer_core::moment::Moment;
pub use tamer_kit::audit::{Entry, Outcome, Proven, Request};

/// The most bytes of a reason.
pub const MAX_TEXT: usize = 4 << 10;

/// The most bytes of what is said of an object, and of why something was refused.
pub const MAX_SAID: usize = 1 << 10;

/// The most releases whose evidence is named.
pub const MAX_PROVEN: usize = 16;

/// The most bytes of what is said of each one's.
pub const MAX_BY: usize = 192;

// They fit into a line however they are escaped: a byte takes at most six there. The rest are names and digests.
const _: () =
    assert!(6 * (MAX_TEXT + 2 * MAX_SAID + 1024) + MAX_PROVEN * (6 * MAX_BY + 128) < MAX_LINE);

/// The open audit log.
pub type AuditLog = Chain<Entry>;

/// The beginning of a text that is too long.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    let most = most.min(text.len());
    let end = (0..=most).rev().find(|n| text.is_char_boundary(*n));
    text.truncate(end.unwrap_or(0));
    text
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
