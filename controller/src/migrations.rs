//! What was done to databases, in a plain file outside the store: a [`crate::chain`]. A record is durable
//! before the order that it speaks of is sent, and whatever store is put in place, what stands here was
//! begun.

use crate::chain::{self, Chain, ChainError};
use std::path::Path;
use tamer_core::schema::Record;

/// The open file.
pub type Migrations = Chain<Record>;

/// Opens the file, or makes it, and reads all of it.
///
/// # Errors
/// [`ChainError`]: then it is not known what was begun, and nothing may be migrated.
pub fn open(path: &Path) -> Result<(Migrations, Vec<Record>), ChainError> {
    let log = Chain::open(path)?;
    let mut all = Vec::new();
    chain::read(path, Some(log.head()), &mut |record: Record| {
        all.push(record);
    })?;
    Ok((log, all))
}
