//! What of an unpacked release was changed by hand: told by content, never by size and time alone.
//!
//! | module | what it is |
//! |---|---|
//! | `judge` | pure: what should be at a path, and how what is there differs |
//! | `merge` | pure: two lists of paths become one |
//! | `entries` | paths, and what is known of each, as bytes |
//! | `fresh` | what is noted of a release while it is unpacked |
//! | [`record`] | what every path looked like when it was judged last, as a small file |
//! | `walk` | goes through the tree, compares with the record, reads what the record does not vouch for |
//!
//! A *record* makes looking again cheap: what `stat` says of a path is exactly what it said when the path was
//! judged, down to the change time, which nobody can set; then the verdict stands. Everything else is judged
//! anew by content, mode, owner and link target. A directory of which this is true has the names that it had, so it
//! is not even opened. The record is a hint: without it everything is read.
//!
//! A path that the component shares may be absent, or a link as [`shared_target`] says; the directories on
//! the way to it may be there although the manifest lists none.

mod entries;
pub(crate) mod fresh;
mod judge;
mod merge;
pub mod record;
mod walk;

pub use judge::{Owners, shared_target};
pub use record::Record;

use crate::manifest::ManifestError;
use std::ops::ControlFlow;
use std::path::Path;
use tamer_core::digest::Digest;
use tamer_core::drift::{Difference, Drift};
use tamer_core::moment::Moment;
use tamer_core::release::Manifest;
use tamer_kit::durable::FileError;

/// The most differences that [`verify`] names; whoever changed more changed everything.
pub const MAX_DIFFERENCES: usize = tamer_core::drift::NAMED_WHEN_ASKED;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Look<'a> {
    /// The release's directory.
    pub release: &'a Path,
    /// The digest of its manifest, which is what makes the manifest on disk the signed one.
    pub manifest: Digest,
    /// Whose everything must be; `None`: that is not looked at.
    pub owners: Option<Owners>,
    /// How closely.
    pub depth: Depth,
    /// The time on the file system's clock, not later than the look begins. What was changed so shortly
    /// before that a further change might leave no trace is not vouched for.
    pub now: Moment,
}

/// How closely a tree is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depth {
    /// It was unpacked just now, and its content was verified on the way: content of the right size is
    /// taken to be right, and nobody else has changed it yet. The record is that of the unpacking: below a
    /// directory that is as it says, nothing but directories is looked at again.
    Unpacked,
    /// What the record vouches for is not read.
    Fast,
    /// Everything is read, from the path after this one on, where an earlier look was given up.
    Full {
        /// The last path that was read already, as it is shown.
        after: Option<String>,
    },
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was looked at.
    Whole(Record),
    /// It was given up. The record knows what was seen until then, and the rest as before.
    GivenUp {
        /// What is known now.
        record: Record,
        /// The last path that was looked at, as it is shown.
        after: String,
    },
}

/// Why a release cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest on disk is the signed one, and this version of Tamer cannot read it.
    #[error("the release's manifest cannot be read")]
    Unknown(#[from] ManifestError),
    /// The manifest on disk is not the signed one, so that nothing can be compared with it.
    #[error("the manifest in the release is not the one that was signed")]
    Manifest {
        /// That this is so, as a drift.
        drift: Box<Drift>,
    },
}

/// Looks at a release. `before` is the record of an earlier look, `manifest` the one that was signed where the
/// caller has it; else it is read from the release. `pace` is told of bytes before they are
/// read; it may take its time, and it may break the look off.
///
/// # Errors
/// [`LookError`]
pub fn look(
    what: &Look<'_>,
    before: Option<&Record>,
    manifest: Option<&Manifest>,
    pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Outcome, LookError> {
    walk::look(what, before, manifest, pace)
}

/// Compares the release at `release` with its manifest; gives the differences, sorted by path, at most
/// [`MAX_DIFFERENCES`]. Every file is read; owners are not looked at. The manifest must have been judged.
///
/// # Errors
/// [`FileError`] if the release cannot be read.
pub fn verify(release: &Path, manifest: &Manifest) -> Result<Vec<Difference>, FileError> {
    let digest = crate::manifest::digest(manifest);
    let what = Look {
        release,
        manifest: digest,
        owners: None,
        depth: Depth::Full { after: None },
        now: Moment(0),
    };
    match walk::look(&what, None, Some(manifest), &mut |_| {
        ControlFlow::Continue(())
    }) {
        Ok(Outcome::Whole(record) | Outcome::GivenUp { record, .. }) => {
            let drift = record.drift(MAX_DIFFERENCES);
            Ok(drift.map(|drift| drift.differences).unwrap_or_default())
        }
        Err(LookError::File(error)) => Err(error),
        // A manifest that was given is not read.
        Err(LookError::Unknown(_)) => Ok(Vec::new()),
        Err(LookError::Manifest { drift }) => Ok(drift.differences),
    }
}
