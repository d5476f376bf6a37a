//! Why trust could not be established, as one type for everything that a client does.

use super::document::Refused;
use super::storage::StorageError;
use super::transport::TransportError;
use super::workflow::MAX_ROOT_UPDATES;

/// Why trust could not be established.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A document, as served, is refused.
    #[error("{repository}: {file} is refused")]
    Refused {
        /// `team`, or the repository.
        repository: String,
        /// The file.
        file: String,
        /// Why.
        #[source]
        reason: Refused,
    },
    /// A file could not be fetched.
    #[error("{repository}: cannot fetch {file}")]
    Fetch {
        /// `team`, or the repository.
        repository: String,
        /// The file, or the blob.
        file: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// A file that must be there is not.
    #[error("{repository}: there is no {file}")]
    Missing {
        /// `team`, or the repository.
        repository: String,
        /// The file.
        file: String,
    },
    /// More new roots than one refresh follows.
    #[error("{0}: more than {MAX_ROOT_UPDATES} new roots in a row")]
    TooManyRoots(String),
    /// The metadata vouch for no target of this name.
    #[error("{repository}: no signed target {name}")]
    NoTarget {
        /// The repository.
        repository: String,
        /// The target's name.
        name: String,
    },
    /// A target's bytes are not those that were signed.
    #[error("{repository}: the bytes of {name} are not the signed ones")]
    Tampered {
        /// The repository.
        repository: String,
        /// The target's name.
        name: String,
    },
    /// A target is larger than its kind may be.
    #[error("{name} has {length} bytes, more than the {max} that are read")]
    TooLarge {
        /// The target's name.
        name: String,
        /// Its signed length.
        length: u64,
        /// The cap.
        max: u64,
    },
    /// The local store cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
