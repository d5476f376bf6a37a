//! Environments and hosts.

use clap::{ArgGroup, Args, Subcommand};
use std::path::PathBuf;
use tamer_core::id::{EnvironmentName, HostName};

/// `tamer env …`
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// Checks environment files, shows what changes, signs them, and hands them to the controller.
    #[command(after_help = "\
The file's name is the environment's: environments/production.toml says what `production` is.

Examples:
  tamer env apply environments/
  tamer env apply environments/production.toml
  tamer env apply environments/ --check     only looks for mistakes, here, without a controller")]
    Apply {
        /// Files NAME.toml, or folders of them.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Only reads the files and says what is wrong with them.
        #[arg(long)]
        check: bool,
    },
    /// Lists environments and what they run.
    #[command(after_help = "Examples:\n  tamer env list")]
    List,
    /// Shows one environment: what it runs, and its signed file.
    #[command(after_help = "Examples:\n  tamer env show production")]
    Show {
        /// The environment.
        name: EnvironmentName,
    },
}

/// `tamer hosts`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tamer hosts
  tamer hosts --environment production
  tamer hosts web-07          everything about one host")]
pub struct Hosts {
    /// One host, in full.
    pub name: Option<HostName>,
    /// Those of one environment.
    #[arg(long, short, value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
}

/// `tamer drift`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").multiple(true).args(["environment", "host"])))]
#[command(after_help = "\
Every server is asked what differs now, and names all of it: up to 10,000 paths a component.
Ends with 10 where something was changed by hand, with 9 where nothing is known to be and a
server could not be asked, and with 0 otherwise.

Examples:
  tamer drift
  tamer drift production
  tamer drift --host web-07 --output json
  tamer drift --host web-07 --full          reads every byte first
  tamer drift --host web-07 --repair
  tamer drift --host web-07 --adopt --reason 'hot fix, in 1.4.3'")]
pub struct Drift {
    /// The hosts of one environment [default: all].
    pub environment: Option<EnvironmentName>,
    /// One host.
    #[arg(long, value_name = "NAME")]
    pub host: Option<HostName>,
    /// Has every byte read, slowly: what the file system does not tell is found, too.
    #[arg(long)]
    pub full: bool,
    /// Puts back what was deployed, in one environment or on one host. Nothing is restarted.
    #[arg(long, conflicts_with = "adopt", requires = "where")]
    pub repair: bool,
    /// Accepts what was changed, in one environment or on one host, until the next release: it keeps that away
    /// no more.
    #[arg(long, requires_all = ["reason", "where"])]
    pub adopt: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}
