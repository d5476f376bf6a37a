//! Why a deployment is refused, in words that end in a command.

use tamer_core::environment::NotAdmitted;
use tamer_core::id::EnvironmentName;
use tamer_core::rollout::deployment::DeploymentId;
use tamer_core::rollout::{Illegal, NoPlan};

/// Why a deployment was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No such environment.
    #[error(
        "there is no environment `{0}`: `tamer env list` shows those that are signed, `tamer env apply` adds one"
    )]
    NoEnvironment(EnvironmentName),
    /// The environment places nothing of the application.
    #[error("`{environment}` has no place for {what}: add it to [place] and run `tamer env apply`")]
    NoPlace {
        /// Where.
        environment: EnvironmentName,
        /// What.
        what: String,
    },
    /// No host has the labels.
    #[error(
        "no host of `{environment}` has the labels that {what} is placed by: `tamer hosts --environment {environment}` shows them, `tamer host invite` adds one"
    )]
    NoHosts {
        /// Where.
        environment: EnvironmentName,
        /// What.
        what: String,
    },
    /// There are hosts, and none can be reached.
    #[error(
        "cannot deploy {what} to `{environment}`: {why}; `tamer hosts --environment {environment}` shows them"
    )]
    Unreachable {
        /// Where.
        environment: EnvironmentName,
        /// What.
        what: String,
        /// Why not.
        why: NoPlan,
    },
    /// The environment's signed file does not admit a release.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Evidence is missing; nothing overrides that.
    #[error(
        "{environment} demands evidence that {what} does not have: {missing}{aside}; nothing overrides that: whoever \
         has such a key makes it with `tamer attest` (a review with `tamer review approve`), and `tamer verify` says \
         what counts"
    )]
    Evidence {
        /// Where.
        environment: EnvironmentName,
        /// Of which release.
        what: String,
        /// What is missing, and which keys may state it.
        missing: String,
        /// Why what is there does not count, each with `; ` before it.
        aside: String,
    },
    /// Another one is in the way.
    #[error(
        "deployment {id} of {what} by {by} is running since {since}: `tamer watch {id}` follows it, --wait waits for it"
    )]
    Locked {
        /// Which one.
        id: DeploymentId,
        /// What it deploys.
        what: String,
        /// Who asked for it.
        by: String,
        /// Since when, as a length of time.
        since: String,
    },
    /// The environment or the application is closed.
    #[error("`{environment}` is closed: {why}; {next}")]
    Closed {
        /// Where.
        environment: EnvironmentName,
        /// Why, and when it opens.
        why: String,
        /// What to do.
        next: &'static str,
    },
    /// Whoever asks has not confirmed it.
    #[error("`{0}` wants it confirmed: look at `tamer plan`, then add --yes")]
    Confirm(EnvironmentName),
    /// It cannot be frozen, locked or opened like this.
    #[error("{0}")]
    Calendar(String),
    /// The database does not allow it.
    #[error("{0}")]
    Schema(String),
    /// It cannot be approved, or not by them.
    #[error("{0}")]
    Approval(String),
    /// Its routers do not allow it.
    #[error("{0}")]
    Router(String),
    /// It is another drift than the one that was seen.
    #[error("{0}")]
    Drift(String),
    /// It is not known how a migration ended.
    #[error("{0}")]
    Open(String),
    /// The controller was restored and is held.
    #[error("the controller was restored from a backup and is held: {0}")]
    Held(String),
    /// There is nothing to go back to.
    #[error("there is nothing to go back to in `{environment}`: {why}")]
    NothingBack {
        /// Where.
        environment: EnvironmentName,
        /// Why.
        why: String,
    },
    /// There is no such deployment, or it is over.
    #[error("{0}")]
    NoDeployment(String),
    /// Its state does not allow it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
}
