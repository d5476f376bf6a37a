//! All roots from the first to the newest, without a store: for those who change keys, who look at
//! roots that have expired too, and at repositories without targets.

use super::document::{TEAM, cap};
use super::error::TrustError;
use super::names::{MetadataFile, RepositoryName};
use super::roots::{RootChain, TeamRoot};
use super::transport::Transport;
use super::workflow::MAX_ROOT_UPDATES;
use tamer_core::digest::Digest;

/// The team's root in force, from the pinned one on; whether it has expired is not looked at.
///
/// # Errors
/// [`TrustError`].
pub async fn team(transport: &dyn Transport, pin: &Digest) -> Result<TeamRoot, TrustError> {
    let first = MetadataFile::Root(1);
    let refused = |file: MetadataFile, reason| TrustError::Refused {
        repository: TEAM.to_owned(),
        file: file.to_string(),
        reason,
    };
    let Some(bytes) = root(transport, None, first).await? else {
        return Err(TrustError::Missing {
            repository: TEAM.to_owned(),
            file: first.to_string(),
        });
    };
    let mut team = TeamRoot::pinned(pin, bytes).map_err(|reason| refused(first, reason))?;
    for _ in 0..MAX_ROOT_UPDATES {
        let file = MetadataFile::Root(team.current().version() + 1);
        let Some(bytes) = root(transport, None, file).await? else {
            return Ok(team);
        };
        team = team.next(bytes).map_err(|reason| refused(file, reason))?;
    }
    Err(TrustError::TooManyRoots(TEAM.to_owned()))
}

/// A repository's root in force, which the team's anchors; `None` before the first.
///
/// # Errors
/// [`TrustError`].
pub async fn repository(
    transport: &dyn Transport,
    name: &RepositoryName,
    team: &TeamRoot,
) -> Result<Option<RootChain>, TrustError> {
    let refused = |file: MetadataFile, reason| TrustError::Refused {
        repository: name.to_string(),
        file: file.to_string(),
        reason,
    };
    let first = MetadataFile::Root(1);
    let Some(bytes) = root(transport, Some(name), first).await? else {
        return Ok(None);
    };
    let begun = RootChain::begin(Some(&name.to_string()), bytes);
    let mut chain = begun.map_err(|reason| refused(first, reason))?;
    for _ in 0..MAX_ROOT_UPDATES {
        let file = MetadataFile::Root(chain.current().version() + 1);
        let Some(bytes) = root(transport, Some(name), file).await? else {
            let file = MetadataFile::Root(chain.current().version());
            team.anchors(&chain)
                .map_err(|reason| refused(file, reason))?;
            return Ok(Some(chain));
        };
        chain = chain.next(bytes).map_err(|reason| refused(file, reason))?;
    }
    Err(TrustError::TooManyRoots(name.to_string()))
}

async fn root(
    transport: &dyn Transport,
    of: Option<&RepositoryName>,
    file: MetadataFile,
) -> Result<Option<Vec<u8>>, TrustError> {
    let name = file.to_string();
    let found = transport.metadata(of, &name, cap::ROOT).await;
    found.map_err(|source| TrustError::Fetch {
        repository: of.map_or_else(|| TEAM.to_owned(), ToString::to_string),
        file: name,
        source,
    })
}
