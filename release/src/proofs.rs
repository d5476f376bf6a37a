//! A release's evidence as one file: a bundle a line, the oldest first. The controller keeps it so beside the
//! signed metadata, hands it out so, and an agent keeps so what it accepted a release by.
//!
//! Only the shape is looked at here: what a bundle proves is for [`crate::attest::judge()`], and for each agent.

use crate::attest::bundle::{BadBundle, Bundle};
use tamer_core::digest::Digest;

/// The largest bundle that is kept, in bytes.
pub const MAX_LINE: usize = 256 << 10;

/// The most bundles that are kept for one release.
pub const MAX_LINES: usize = 64;

/// The most bytes that are kept for one release.
pub const MAX_FILE: u64 = 4 << 20;

/// Why a bundle is not added.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// It is not a bundle.
    #[error("this is no evidence: {0}")]
    Shape(#[from] BadBundle),
    /// It is too large to be kept.
    #[error("the bundle has {0} bytes, and {MAX_LINE} are the most")]
    TooLarge(usize),
    /// There is no room for it.
    #[error(
        "the release has {lines} bundles of {bytes} bytes: {MAX_LINES} bundles and {MAX_FILE} bytes are the most"
    )]
    Full {
        /// How many it has.
        lines: usize,
        /// How many bytes they have.
        bytes: usize,
    },
}

/// Where a controller gives the evidence of the release with this manifest: `evidence/<sha256>`.
pub fn path(manifest: &Digest) -> String {
    format!("evidence/{manifest}")
}

/// The bundles of a file.
pub fn bundles(file: &[u8]) -> Vec<&[u8]> {
    let lines = file.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty()).collect()
}

/// The file with one bundle more; `None` where it has it already.
///
/// # Errors
/// [`NotAdded`].
pub fn with(file: &[u8], bundle: &[u8]) -> Result<Option<Vec<u8>>, NotAdded> {
    if bundle.len() > MAX_LINE {
        return Err(NotAdded::TooLarge(bundle.len()));
    }
    // Written anew, it is one line; payload and signature stay byte for byte.
    let line = Bundle::parse(bundle)?.to_json();
    let known = bundles(file);
    if known.contains(&line.as_slice()) {
        return Ok(None);
    }
    let after = file.len() + line.len() + 1;
    if known.len() >= MAX_LINES || u64::try_from(after).map_or(true, |after| after > MAX_FILE) {
        return Err(NotAdded::Full {
            lines: known.len(),
            bytes: file.len(),
        });
    }
    Ok(Some([file, &line, b"\n"].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::dsse::Envelope;

    fn bundle(n: usize) -> Vec<u8> {
        let payload = format!("{{\"n\":{n}}}").into_bytes();
        let bundle = Bundle {
            hint: "somebody".to_owned(),
            envelope: Envelope::new(payload, vec![7; 70], "ci"),
        };
        bundle.to_json()
    }

    #[test]
    fn a_bundle_is_one_line_and_is_kept_once_and_there_is_an_end() {
        let value: serde_json::Value = serde_json::from_slice(&bundle(0)).unwrap();
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        let mut file = with(b"", &pretty).unwrap().unwrap();
        assert_eq!(bundles(&file), [bundle(0)]);
        assert!(with(&file, &bundle(0)).unwrap().is_none());
        for n in 1..MAX_LINES {
            file = with(&file, &bundle(n)).unwrap().unwrap();
        }
        assert_eq!(bundles(&file).len(), MAX_LINES);
        assert!(matches!(
            with(&file, &bundle(MAX_LINES)),
            Err(NotAdded::Full { .. })
        ));
        assert!(with(&file, &bundle(3)).unwrap().is_none());
    }

    #[test]
    fn what_is_no_bundle_is_not_kept() {
        assert!(matches!(with(b"", b"{}"), Err(NotAdded::Shape(_))));
        let large = vec![b' '; MAX_LINE + 1];
        assert!(matches!(with(b"", &large), Err(NotAdded::TooLarge(_))));
    }
}
