//! Freezes and locks.

use super::Why;
use clap::Args;
use tamer_core::calendar::Zone;
use tamer_core::id::EnvironmentName;

/// `tamer freeze`
#[derive(Debug, Args)]
#[command(after_help = "\
No host is moved forward until then; what stages goes on, and going back is never stopped.

Examples:
  tamer freeze production --until 4h --reason 'the sale'
  tamer freeze production --until 2026-12-24 --zone Europe/Berlin --reason 'Christmas'
  tamer freeze production --until '2026-12-24 18:00' --zone Europe/Berlin --reason 'Christmas'")]
pub struct Freeze {
    /// The environment.
    pub environment: EnvironmentName,
    /// Until when: a length of time, the last day, or a time of one; at most 366 days.
    #[arg(long, value_name = "TIME")]
    pub until: String,
    /// Whose calendar and clock a day is one of.
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    pub zone: Zone,
    /// Why, for everybody who wants to deploy.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// `tamer unfreeze`
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever set the freeze takes it back, or an admin. One that the environment file has is taken out there.

Examples:
  tamer unfreeze production")]
pub struct Unfreeze {
    /// The environment.
    pub environment: EnvironmentName,
    /// Why.
    #[command(flatten)]
    pub why: Why,
}

/// `tamer lock`
#[derive(Debug, Args)]
#[command(after_help = "\
No host is moved forward until somebody unlocks it, nor by --override-freeze; going back is never stopped.

Examples:
  tamer lock production --reason 'the network is being rebuilt'
  tamer lock shop --reason 'an incident, see 1234'     wherever it runs")]
pub struct Lock {
    /// The environment, or an application.
    #[arg(value_name = "ENVIRONMENT|APPLICATION")]
    pub name: String,
    /// An application is meant, also where an environment has the same name.
    #[arg(long, short)]
    pub application: bool,
    /// Why, for everybody who wants to deploy.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// `tamer unlock`
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever locked it opens it again, or an admin.

Examples:
  tamer unlock production
  tamer unlock shop")]
pub struct Unlock {
    /// The environment, or an application.
    #[arg(value_name = "ENVIRONMENT|APPLICATION")]
    pub name: String,
    /// An application is meant, also where an environment has the same name.
    #[arg(long, short)]
    pub application: bool,
    /// Why.
    #[command(flatten)]
    pub why: Why,
}
