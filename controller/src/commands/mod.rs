//! The commands of `tamer-controller`, one file each kind.

mod audit;
mod handover;
mod hold;
mod init;
mod online;
mod restore;
mod serve;
mod store;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use handover::Reading;
use std::io::Write;
use std::path::{Path, PathBuf};
use tamer_controller::audit::{AuditLog, Entry};
use tamer_controller::config::{Config, DEFAULT_FILE};
use tamer_controller::mirror::Plan;
use tamer_kit::{clock, manual};

/// Decides which release runs on which server, and never alone: hosts check every release
/// themselves.
#[derive(Debug, Parser)]
#[command(
    name = "tamer-controller",
    version,
    max_term_width = 100,
    after_help = "\
A new controller:
  tamer-controller init --name controller.example
  tamer-controller serve

Logs go to standard error; TAMER_LOG=debug shows more of them."
)]
pub(crate) struct Cli {
    /// The configuration file [default: /etc/tamer/controller.toml, if there is one]
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "TAMER_CONTROLLER_CONFIG"
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new controller: CA, store, online keys; prints the first admin's login line
    Init(init::Init),
    /// Run the controller until SIGTERM or SIGINT
    Serve,
    /// Write a backup of the store, and bring the mirror up to date; the controller must be stopped (a
    /// running one does both by itself)
    Backup,
    /// Put a backup of the store in place, or all of a controller; it then starts held
    #[command(long_about = restore::RESTORE)]
    Restore(restore::Restore),
    /// Write the store anew without its dead space; the controller must be stopped
    Compact,
    /// Read everything that the controller keeps, and say whether it is whole; all but the store also while
    /// it runs
    Check,
    /// The audit log: who did what, and when
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Let a restored controller go on
    #[command(alias = "resume-held", long_about = hold::UNHOLD)]
    Unhold(Reason),
    /// Print a new login line for an admin, when no other admin can; the controller must be stopped
    AdminToken(init::AdminToken),
    /// Make new online keys, for snapshots and timestamps; the controller must be stopped
    #[command(long_about = online::ROTATE)]
    RotateOnlineKeys(Reason),
    /// Print a completion script for your shell
    #[command(
        after_help = "Example:\n  tamer-controller completions bash > /etc/bash_completion.d/tamer-controller"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
struct Reason {
    /// Why; it stands in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Why a command did not do its work; decides the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments or the configuration are wrong: 2.
    Usage(anyhow::Error),
    /// Everything else: 1.
    Internal(anyhow::Error),
}

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::Usage(_) => 2,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Internal(error.into())
    }
}

/// Runs what was asked for; what it has to say goes to `out`.
pub(crate) fn run(cli: &Cli, out: &mut dyn Write) -> Result<(), Failure> {
    let default = match cli.command {
        Command::Serve => "info",
        // People read these; only what is unusual should come between.
        _ => "warn",
    };
    tamer_kit::telemetry::init(default).map_err(Failure::Usage)?;
    let file = cli.config.as_deref();
    // These need no configuration, or make it.
    match &cli.command {
        Command::Init(init) => return init::init(init, file, out),
        Command::Completions { shell } => {
            return Ok(out.write_all(&manual::completions(*shell, Cli::command()))?);
        }
        _ => {}
    }
    if let Command::Restore(restore) = &cli.command {
        restore.settings(file, out)?;
    }
    let config = load(file).map_err(Failure::Usage)?;
    let reading = match &cli.command {
        Command::Restore(_) => Reading::All,
        _ => Reading::Own,
    };
    handover::to_owner(&config.data, file.is_none(), reading)?;
    match &cli.command {
        Command::Init(_) | Command::Completions { .. } => Ok(()),
        Command::Serve => serve::serve(config),
        Command::Backup => store::backup(&config, out),
        Command::Restore(restore) => restore::restore(&config, restore, &start(file), out),
        Command::Compact => store::compact(&config, out),
        Command::Check => store::check(&config, out),
        Command::Audit(audit::Audit::Verify(verify)) => audit::verify(&config, verify, out),
        Command::Unhold(reason) => hold::unhold(&config, reason.reason.clone(), &start(file), out),
        Command::RotateOnlineKeys(reason) => {
            online::rotate(&config, &start(file), reason.reason.clone(), out)
        }
        Command::AdminToken(token) => init::admin_token(&config, token, out),
    }
}

/// The configuration that was named, or the usual one, or the defaults.
fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    let usual = Path::new(DEFAULT_FILE);
    match file {
        Some(file) => Config::load(file),
        None if usual.exists() => Config::load(usual),
        None => Config::defaults(),
    }
}

/// What starts the controller with this configuration: systemd where it runs and it is the machine's own.
fn start(file: Option<&Path>) -> String {
    match file {
        Some(file) => format!("tamer-controller serve --config {}", file.display()),
        None if Path::new("/run/systemd/system").exists() => {
            "systemctl enable --now tamer-controller".to_owned()
        }
        None => "tamer-controller serve".to_owned(),
    }
}

/// This program, which is also its own probe.
fn exe() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot tell where this program lies")
}

/// Notes in the audit log what somebody did at the controller itself, and in the mirror where there is
/// one: a mirror that can't be written does not keep anybody from it.
fn note(config: &Config, action: &str, object: &str, reason: Option<String>) -> anyhow::Result<()> {
    let paths = config.paths();
    let who = format!("{} at the controller", handover::given_by());
    let entry = Entry {
        reason,
        ..Entry::done(clock::now(), who, action.to_owned(), object.to_owned())
    };
    AuditLog::open(&paths.audit)?.append(&[entry])?;
    if paths.mirror.exists()
        && let Err(error) = Plan::new(config).records()
    {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "the mirror lacks this");
    }
    Ok(())
}
