//! The system that the agent works on: directories and links ([`layout`]), what survives releases
//! ([`shared`]), and units ([`services`], behind a trait; what they say of themselves means is [`mod@unit`]'s).
//! Commands are [`crate::process`]'s.

pub mod layout;
pub mod services;
pub mod shared;
pub mod unit;

use crate::allowed::failure;
use std::io;
use std::path::Path;
use tamer_core::desired::{Failure, FailureKind};
pub(crate) use tamer_kit::cause::chain;
use tamer_kit::durable::FileError;

/// An error of the file system as a report shows it, with its whole chain.
pub(crate) fn file_failure(error: &FileError) -> Failure {
    let kind = match error.source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::Disk,
        _ => FailureKind::Host,
    };
    failure(kind, chain(error))
}

/// Does blocking work where it does not hold up anything else.
///
/// # Errors
/// Those of `work`; a panic in it is a failure too.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|gone| {
            Err(failure(
                FailureKind::Host,
                format!("internal error: {gone}"),
            ))
        })
}

/// What is free for ordinary users on the file system of `path`, and how large it is, in bytes.
///
/// # Errors
/// [`FileError`] of the question.
pub fn room(path: &Path) -> Result<(u64, u64), FileError> {
    let about = rustix::fs::statvfs(path)
        .map_err(|e| FileError::new("ask for the room at", path)(e.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
    Ok((bytes(about.f_bavail), bytes(about.f_blocks)))
}
