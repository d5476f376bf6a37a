//! Logging in, keys, invitations.

use clap::{Args, Subcommand, ValueEnum};
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::Span;
use tamer_core::selector::parse_label;

/// `tamer login`
#[derive(Debug, Args)]
#[command(
    override_usage = "tamer login [ADDRESS] <TOKEN>",
    after_help = "\
The token carries the controller's address and the fingerprint of its CA, so nothing is trusted blindly.

Examples:
  tamer login tamer-join-AQEa…
  tamer login https://controller:7400 tamer-join-AQEa…"
)]
pub struct Login {
    /// The token, after the controller's address where the one in the token does not reach it.
    #[arg(required = true, num_args = 1..=2, value_name = "TOKEN")]
    pub words: Vec<String>,
}

/// `tamer trust …`
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Makes root, release and environment keys on this machine, and registers the root.
    #[command(after_help = "\
Whoever has the root key decides what your servers trust: take a copy offline.

Examples:
  tamer trust init")]
    Init,
    /// Shows repositories, their versions, and what expires when.
    #[command(after_help = "Examples:\n  tamer trust status")]
    Status,
}

/// `tamer host …`
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Prints the line to paste on a new server.
    Invite(InviteHost),
    /// Takes a server out of the fleet: its certificate is worth nothing from then on.
    #[command(after_help = "Examples:\n  tamer host remove web-07 --reason 'broken disk'")]
    Remove {
        /// The host.
        name: HostName,
        /// Why, for the log.
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        reason: String,
    },
}

/// `tamer host invite`
#[derive(Debug, Args)]
#[command(after_help = "\
The token is good for one server. A host's name is the server's own, unless it says otherwise.

Examples:
  tamer host invite --environment staging --label role=web
  tamer host invite --environment production --label role=web --label zone=a --valid 15m
  tamer host invite --environment production --replace web-07")]
pub struct InviteHost {
    /// The environment that the host will belong to.
    #[arg(long, short, value_name = "NAME")]
    pub environment: EnvironmentName,
    /// A label, by which environments place components; may be given more than once.
    #[arg(long = "label", short, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// How long the token may be used.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub valid: Span,
    /// The host that a rebuilt server takes the place of: its old key is revoked when the new one joins.
    #[arg(long, value_name = "HOST")]
    pub replace: Option<HostName>,
}

/// `tamer operator …`
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Prints the token for a person or a CI job.
    Invite(InviteOperator),
}

/// `tamer operator invite`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tamer operator invite anna --role deployer
  tamer operator invite ci --role deployer --valid 10m")]
pub struct InviteOperator {
    /// The operator's name, as logs will show it.
    pub name: OperatorName,
    /// What the operator may do.
    #[arg(long, value_enum, default_value_t = Role::Viewer)]
    pub role: Role,
    /// How long the token may be used.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub valid: Span,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Look, but not read what hooks and services printed.
    Viewer,
    /// Look, publish, deploy, go back.
    Deployer,
    /// All that, and invite.
    Admin,
}

impl Role {
    /// The word for it on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}
