//! What can be typed. Each group of commands has a file; what they mean is in `commands`.

mod access;
mod audit;
mod closing;
mod deploy;
mod evidence;
mod fleet;
mod release;
mod schema;

pub use access::{
    CaCommand, HostCommand, InviteHost, InviteOperator, KeyRoleName, Login, OfRole,
    OperatorCommand, Role, TrustCommand,
};
pub use audit::{Audit, AuditCommand};
pub use closing::{Freeze, Lock, Unfreeze, Unlock};
pub use deploy::{ApproveDeployment, Control, Deploy, History, Rollback, Status, Watch, What, Why};
pub use evidence::{
    Approve, AttestBuild, AttestCommand, AttestKey, AttestRun, AttestSend, Build, EvidenceKeyFile,
    ReviewCommand, Verify,
};
pub use fleet::{Drift, EnvCommand, Hosts};
pub use release::{Init, Pack, Publish, Releases};
pub use schema::{Plan, SchemaCommand, SettleSchema};

use crate::printer::Output;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tamer_kit::address::Address;

/// Deploys signed releases to fleets of Linux servers, and can always go back.
#[derive(Debug, Parser)]
#[command(
    name = "tamer",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
The first ten minutes, each command prints the next one:
  tamer login                     with the token that `tamer-controller init` printed
  tamer trust init                makes the keys that your servers will trust
  tamer env apply environments/   says where components run, and how carefully they change
  tamer host invite --environment staging --label role=web
  tamer init                      writes a tamer.toml that works
  tamer publish 1.0.0
  tamer deploy staging 1.0.0

Exit codes:
  0 done · 1 internal · 2 usage or configuration · 3 evidence or policy refused ·
  4 locked or closed · 5 pre-checks failed, nothing changed · 6 failed, rolled back ·
  7 failed, not fully rolled back · 8 waits for approval · 9 hosts unreachable ·
  10 drift · 130 detached, the rollout goes on"
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// How results are printed.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Output,
    /// Prints results and errors, and nothing else.
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// The controller to ask, of those you are logged in to [default: the last one].
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "TAMER_CONTROLLER",
        help_heading = "Global options"
    )]
    pub controller: Option<Address>,
    /// Where your certificate and keys are [default: ~/.config/tamer].
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TAMER_HOME",
        help_heading = "Global options"
    )]
    pub home: Option<PathBuf>,
}

/// The commands, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Gets your certificate from a controller, with a one-time token.
    Login(Login),
    /// Says who you are to the controller.
    Whoami,
    /// The keys that servers trust.
    #[command(subcommand)]
    Trust(TrustCommand),
    /// The controller's CA, which vouches for everybody's certificate.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Environments: where components run, how carefully they change, on what evidence.
    #[command(subcommand)]
    Env(EnvCommand),
    /// Servers that join and leave.
    #[command(subcommand)]
    Host(HostCommand),
    /// Lists servers, what they run, and how they are.
    Hosts(Hosts),
    /// Shows what was changed by hand on servers, puts it back, or accepts it.
    Drift(Drift),
    /// People and CI jobs that work with the controller.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Writes a tamer.toml that works for this folder.
    Init(Init),
    /// Builds a commit in a clean checkout, tests included, and publishes it with evidence.
    Build(Build),
    /// Signed statements about releases.
    #[command(subcommand)]
    Attest(AttestCommand),
    /// Signed statements about commits.
    #[command(subcommand)]
    Review(ReviewCommand),
    /// Says what is proven of a release, by whom, and what environments still lack.
    Verify(Verify),
    /// Packs releases into files, without publishing them.
    Pack(Pack),
    /// Packs, uploads and signs a version of the application.
    Publish(Publish),
    /// Lists the versions that can be deployed.
    Releases(Releases),
    /// Says what a deployment would do, and what stands in its way.
    Plan(Plan),
    /// Brings a version to an environment, and watches until it is there or back.
    Deploy(Deploy),
    /// Says, with your key, that a deployment may happen.
    Approve(ApproveDeployment),
    /// Shows what is going on.
    Status(Status),
    /// Follows a deployment until it ends.
    Watch(Watch),
    /// Goes back to a version that was good.
    Rollback(Rollback),
    /// Stops a deployment where it is; hosts under way finish.
    Pause(Control),
    /// Lets a paused deployment go on.
    Resume(Control),
    /// Lets a deployment go on after a point of approval.
    Promote(Control),
    /// Ends a deployment where it is; nothing goes back.
    Abort(Control),
    /// Closes an environment until a moment: nothing moves forward there.
    Freeze(Freeze),
    /// Takes back a freeze.
    Unfreeze(Unfreeze),
    /// Closes an environment, or an application everywhere, until somebody unlocks it.
    Lock(Lock),
    /// Takes back a lock.
    Unlock(Unlock),
    /// Databases: what each has, and what was done to it.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Lists past deployments.
    History(History),
    /// Shows who did what, or tried to.
    Audit(Audit),
    /// Prints a completion script for your shell.
    #[command(
        after_help = "Examples:\n  tamer completions bash > ~/.local/share/bash-completion/completions/tamer"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// A screen without an example leaves its reader guessing.
    #[test]
    fn every_command_shows_examples() {
        fn look(command: &clap::Command) {
            let bare = ["whoami"].contains(&command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(look);
            } else if !bare {
                let help = command.get_after_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                assert!(help.contains("tamer "), "{}", command.get_name());
            }
        }
        look(&Cli::command());
    }
}
