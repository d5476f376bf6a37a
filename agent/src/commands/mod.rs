//! The commands of `tamer-agent`, one file each.

mod enroll;
mod hold;
mod recover;
mod run;
mod run_program;
mod status;
mod template;

use clap::{Args, CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use tamer_agent::config::Config;
use tamer_agent::identity::IdentityError;
use tamer_agent::journal::JournalError;
use tamer_kit::manual;
use tokio::runtime::Runtime;

/// The configuration file where none is named.
const DEFAULT_CONFIG: &str = "/etc/tamer/agent.toml";
/// The state directory where none is named.
const DEFAULT_STATE: &str = "/var/lib/tamer/agent";

/// One server's hands and eyes: brings the server to what the controller wants it to be, checks every
/// release by itself, and can always go back.
#[derive(Debug, Parser)]
#[command(
    name = "tamer-agent",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
A new server, with a line from `tamer host invite`:
  tamer-agent enroll <<< tamer-join-…
  systemctl enable --now tamer-agent      (or by hand: tamer-agent run)

When something is wrong, also without the controller:
  tamer-agent status                      what runs here, and how it is
  tamer-agent rollback shop/web           back to the release before, and stay there
  tamer-agent release-hold shop/web       follow the controller again

Exit codes: 0 done · 1 failed · 2 usage or configuration
Logs go to standard error; TAMER_LOG=debug shows more of them."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

/// Where the agent's files are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Places {
    /// The configuration file [default: DIR/agent.toml with --state DIR, else /etc/tamer/agent.toml]
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "TAMER_AGENT_CONFIG"
    )]
    config: Option<PathBuf>,
    /// The directory of keys, journal and downloads [default: what the configuration says, else
    /// /var/lib/tamer/agent]
    #[arg(long, global = true, value_name = "DIR", env = "TAMER_AGENT_STATE")]
    state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a controller's fleet, with a one-time token
    Enroll(enroll::Enroll),
    /// Run the agent until SIGTERM or SIGINT
    Run,
    /// Show what runs here, and how it is; needs no controller
    Status,
    /// Go back to the release that ran well before, and stay there; needs no controller
    #[command(long_about = hold::ROLLBACK)]
    Rollback(hold::Rollback),
    /// Follow the controller again after a rollback
    ReleaseHold(hold::Release),
    /// Make a new journal from what is on disk, after the old one was damaged
    #[command(long_about = recover::ABOUT)]
    Recover,
    /// Run one program for the agent, as it says on standard input; systemd starts this
    #[command(name = tamer_agent::process::outside::RUNNER, hide = true)]
    RunProgram,
    /// Print a completion script for your shell
    #[command(
        after_help = "Example:\n  tamer-agent completions bash > /etc/bash_completion.d/tamer-agent"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Why a command did not do its work; decides the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments, the configuration or the state are not as they must be: 2.
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

    fn usage(said: impl Into<String>) -> Self {
        Self::Usage(anyhow::Error::msg(said.into()))
    }

    fn internal(said: impl Into<String>) -> Self {
        Self::Internal(anyhow::Error::msg(said.into()))
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Usage(_)
            | IdentityError::NotEnrolled { .. }
            | IdentityError::Damaged { .. } => Self::Usage(error.into()),
            _ => Self::Internal(error.into()),
        }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::InUse { .. } => Self::Usage(
                anyhow::Error::from(error)
                    .context("one state directory is for one agent (see `tamer-agent status`)"),
            ),
            _ => Self::Internal(error.into()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Internal(error.into())
    }
}

/// Runs what was asked for; what it has to say goes to `out`.
pub(crate) fn run(cli: &Cli, out: &mut dyn Write) -> Result<(), Failure> {
    let default = match cli.command {
        Command::Run => "info",
        // People read these; only what is unusual should come between.
        _ => "warn",
    };
    tamer_kit::telemetry::init(default).map_err(Failure::Usage)?;
    let runtime = runtime()?;
    match &cli.command {
        Command::RunProgram => runtime.block_on(run_program::run_program()),
        Command::Enroll(args) => runtime.block_on(enroll::enroll(&cli.places, args, out)),
        Command::Run => runtime.block_on(run::run(cli.places.load()?)),
        Command::Status => runtime.block_on(status::status(&cli.places.load()?, out)),
        Command::Rollback(args) => runtime.block_on(hold::rollback(cli.places.load()?, args, out)),
        Command::ReleaseHold(args) => {
            runtime.block_on(hold::release(&cli.places.load()?, args, out))
        }
        Command::Recover => recover::recover(&cli.places.load()?, out),
        Command::Completions { shell } => {
            Ok(out.write_all(&manual::completions(*shell, Cli::command()))?)
        }
    }
}

/// Two threads: an agent mostly waits.
fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.map_err(|e| Failure::Internal(anyhow::Error::new(e).context("cannot start")))
}

impl Places {
    /// The configuration file.
    fn file(&self) -> PathBuf {
        match (&self.config, &self.state) {
            (Some(file), _) => file.clone(),
            (None, Some(state)) => state.join("agent.toml"),
            (None, None) => PathBuf::from(DEFAULT_CONFIG),
        }
    }

    /// The configuration, with the state directory that was named.
    fn load(&self) -> Result<Config, Failure> {
        let file = self.file();
        if !file.exists() {
            return Err(Failure::usage(format!(
                "{}: there is no such file; a new server joins with a line from `tamer host invite`, \
                 another file is named with --config",
                file.display()
            )));
        }
        let mut config = Config::load(&file).map_err(Failure::Usage)?;
        if let Some(state) = &self.state {
            config.state = absolute(state)?;
        }
        Ok(config)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(Into::into)
}
