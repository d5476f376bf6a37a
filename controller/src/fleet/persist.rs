//! How the fleet lies in the store: one small object for each host, member, rollout, deployment.
//!
//! | key | value |
//! |---|---|
//! | `host/NAME`, `operator/NAME`, `token/DIGEST` | the registry |
//! | `target/ID` | a target without its hosts; ID is made from its key |
//! | `member/ID/HOST` | one host of a target |
//! | `router/ID`, `route/ID/HOST` | a component's routers without their hosts; one of these |
//! | `deployment/N` | a deployment |
//! | `drift/ID/HOST` | what somebody said of a release that was changed by hand |
//! | `word/N` | the same of the past, with what came of it |
//! | `declared/DIGEST` | what a release says of databases, by its manifest |
//! | `desired/HOST` | what the host was last told |
//! | `closure/KIND/NAME` | what somebody froze or locked |
//! | `standing/ENVIRONMENT/APPLICATION` | which versions stood there, and what was given up |
//! | `numbers` | the numbers given out last |
//! | `event/N` | what happened, for people: never read back into the state |
//!
//! Environment files are not here: the signed metadata is the truth of them.

mod history;
mod load;
mod save;

pub use history::HistoryEntry;
pub use load::BadObject;

use super::Fleet;
use super::closing::Closed;
use crate::identity::peer::Identity;
use crate::identity::registry::Roles;
use crate::identity::tokens::{Grant, Token};
use crate::store::{BadEntry, Batch};
use serde::{Deserialize, Serialize};
use tamer_core::digest::Digest;
use tamer_core::id::{ApplicationName, EnvironmentName, HostName, OperatorName, TargetKey};
use tamer_core::moment::{Moment, Span};
use tamer_core::rollout::deployment::DeploymentId;
use tamer_core::rollout::switching::RouterKey;
use tamer_kit::hash::sha256;

/// The numbers given out last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Numbers {
    /// Deployments.
    pub deployment: u64,
    /// Rollouts.
    pub rollout: u64,
    /// Entries of the history.
    pub event: u64,
    /// What was said of changes by hand.
    pub word: u64,
    /// The epoch that the store was last written in: a lower one than the controller's is a backup's.
    pub epoch: u64,
}

/// One object of the store. The order is the order of writing where one batch does not hold all: a
/// rollout's hosts before the rollout itself, so that a torn write never shows a rollout without them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Token(Digest),
    Declared(Digest),
    Host(HostName),
    Operator(OperatorName),
    Member(TargetKey, HostName),
    RouterHost(RouterKey, HostName),
    Word(TargetKey, HostName),
    PastWord(u64),
    Closure(Closed),
    Standing(EnvironmentName, ApplicationName),
    Desired(HostName),
    Target(TargetKey),
    Router(RouterKey),
    Deployment(DeploymentId),
}

/// What is known of a host or an operator.
impl From<&Identity> for Object {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::Host { name, .. } => Self::Host(name.clone()),
            Identity::Operator { name } => Self::Operator(name.clone()),
        }
    }
}

/// The first content of a new store: the token of the first admin.
///
/// # Errors
/// Never in practice: the token is small.
pub fn genesis(
    now: Moment,
    secret: Digest,
    name: &OperatorName,
    roles: Roles,
) -> Result<Batch, BadEntry> {
    let mut fleet = Fleet::new(0, None);
    let token = Token {
        grant: Grant::Operator {
            name: name.clone(),
            roles,
        },
        expires: now + Span::secs(24 * 3600),
        created_by: None,
        used: None,
    };
    fleet.tokens.issue(secret, token);
    fleet.dirty.insert(Object::Token(secret));
    Ok(fleet.drain()?.into_iter().next().unwrap_or_default())
}

/// Short, because keys are: 64 bits of the digest of the target's name.
fn id(key: &TargetKey) -> String {
    let TargetKey {
        environment,
        application,
        component,
        pool,
    } = key;
    sha256(format!("{environment}/{application}/{component}/{pool}").as_bytes()).to_string()[..16]
        .to_owned()
}

fn router_id(key: &RouterKey) -> String {
    sha256(key.to_string().as_bytes()).to_string()[..16].to_owned()
}
