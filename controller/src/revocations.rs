//! The keys that were shut out, in a plain file outside the store: a [`crate::chain`], written before a
//! revocation is acknowledged.
//!
//! Whatever store is put in place, a key that stands here stays out. A line that was torn by a power cut
//! was never acknowledged, and is set aside.

use crate::chain::{self, Chain, ChainError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;

/// A key that is good for nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// SHA-256 of the public key.
    pub key: Digest,
    /// Whose it was: `tamer://host/production/web-01?incarnation=1`.
    pub whose: String,
    /// `removed`, or `replaced` by a machine or a login of the same name.
    pub why: String,
    /// When.
    pub at: Moment,
}

/// The open file.
pub type Revocations = Chain<Revocation>;

/// Opens the file, or makes it, and reads all of it.
///
/// # Errors
/// [`ChainError`]: then it is not known who must stay out, and nobody may be let in.
pub fn open(path: &Path) -> Result<(Revocations, Vec<Revocation>), ChainError> {
    let log = Chain::open(path)?;
    let mut all = Vec::new();
    chain::read(path, Some(log.head()), &mut |revocation: Revocation| {
        all.push(revocation);
    })?;
    Ok((log, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn revocation(n: u8) -> Revocation {
        Revocation {
            key: Digest::new([n; 32]),
            whose: "tamer://host/production/web-01?incarnation=1".to_owned(),
            why: "removed".to_owned(),
            at: Moment(5),
        }
    }

    fn all(numbers: &[u8]) -> Vec<Revocation> {
        numbers.iter().map(|n| revocation(*n)).collect()
    }

    #[test]
    fn what_was_acknowledged_is_there_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.log");
        let (mut log, found) = open(&path).unwrap();
        assert_eq!(found, all(&[]));
        log.append(&[revocation(1), revocation(2)]).unwrap();
        drop(log);
        let (mut log, found) = open(&path).unwrap();
        assert_eq!(found, all(&[1, 2]));
        log.append(&[revocation(3)]).unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let (mut log, found) = open(&path).unwrap();
        assert_eq!(found, all(&[1, 2]));
        log.append(&[revocation(4)]).unwrap();
        assert_eq!(open_again(log, &path), all(&[1, 2, 4]));
    }

    fn open_again(log: Revocations, path: &Path) -> Vec<Revocation> {
        drop(log);
        open(path).unwrap().1
    }

    #[test]
    fn a_changed_line_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.log");
        let (mut log, _) = open(&path).unwrap();
        log.append(&[revocation(1), revocation(2)]).unwrap();
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("removed", "remover", 1)).unwrap();
        assert!(open(&path).is_err());
        std::fs::write(&path, text).unwrap();
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"hash\":\"00\"}\n").unwrap();
        assert!(open(&path).is_err());
    }
}
