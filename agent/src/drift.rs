//! Drift: what of a release on disk is not what was deployed.

use crate::allowed::failure;
use crate::host::{chain, file_failure};
use std::path::Path;
use tamer_core::desired::{Failure, FailureKind};
use tamer_release::{manifest, unpack, verify_tree};

/// How many changed paths a report names.
pub const MAX_NAMED: usize = 20;

/// Compares a release with its manifest, reading every file; gives the differences, at most
/// [`MAX_NAMED`]. Blocks.
///
/// That the manifest is the signed one is known from its digest when the release is looked up
/// ([`crate::host::layout::scan`]).
///
/// # Errors
/// The release cannot be read.
pub fn inspect(release: &Path) -> Result<Vec<String>, Failure> {
    let bytes = unpack::read_manifest(release).map_err(|e| file_failure(&e))?;
    let manifest = manifest::parse(&bytes).map_err(|e| {
        failure(
            FailureKind::Trust,
            format!("{}: {}", release.display(), chain(&e)),
        )
    })?;
    let differences = verify_tree::verify(release, &manifest).map_err(|e| file_failure(&e))?;
    Ok(differences
        .into_iter()
        .take(MAX_NAMED)
        .map(|it| it.to_string())
        .collect())
}
