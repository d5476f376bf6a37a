//! Databases.

use super::What;
use clap::{Args, Subcommand};
use tamer_core::id::{ApplicationName, EnvironmentName, SchemaName};

/// `tamer plan`
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is changed. Where something stands in the way it ends with 3.

Examples:
  tamer plan staging 1.4.2
  tamer plan production web@1.4.3 --output json")]
pub struct Plan {
    /// The environment.
    pub environment: EnvironmentName,
    /// The version, or COMPONENT@VERSION.
    pub what: What,
    /// The application [default: the only one that the environment places].
    #[arg(long, short, value_name = "NAME")]
    pub application: Option<ApplicationName>,
}

/// `tamer schema …`
#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Lists databases: the version that each has, and what was done to it.
    #[command(after_help = "Examples:\n  tamer schema list\n  tamer schema list production")]
    List {
        /// One environment [default: all].
        environment: Option<EnvironmentName>,
        /// One application [default: all].
        #[arg(long, short, value_name = "NAME")]
        application: Option<ApplicationName>,
    },
    /// Says which version a database has, after it was not known how a migration ended.
    Settle(SettleSchema),
}

/// `tamer schema settle`
#[derive(Debug, Args)]
#[command(after_help = "\
Look at the database first. Nothing is run because of this: a deployment that waits goes on where the
database has what it was to have, and ends otherwise.

Examples:
  tamer schema settle production 42 --reason 'all of 42 is there'
  tamer schema settle production 41 --schema orders --reason 'restored from the backup'")]
pub struct SettleSchema {
    /// The environment.
    pub environment: EnvironmentName,
    /// The version that the database has.
    pub version: u64,
    /// The application [default: the only one that the environment places].
    #[arg(long, short, value_name = "NAME")]
    pub application: Option<ApplicationName>,
    /// The database [default: the one that waits].
    #[arg(long, value_name = "NAME")]
    pub schema: Option<SchemaName>,
    /// Why you think so, for the record.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}
