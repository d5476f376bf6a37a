//! The audit log.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use tamer_core::moment::Span;
use tamer_kit::chain::Head;

/// `tamer audit …`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Each line of the log holds the hash of the line before it. This machine remembers the last line that it saw, so
that a controller whose log was rewritten or cut off is found out by whoever looked before.
It takes the role Deployer or Admin, everywhere. With --output json the lines are printed as they stand in the log.

Examples:
  tamer audit
  tamer audit --follow
  tamer audit --since 7d --limit 0
  tamer audit --limit 0 --output json > audit.log"
)]
pub struct Audit {
    /// `verify` or `head`.
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    /// Goes on with each entry as it is written, until Ctrl-C.
    #[arg(long, short)]
    pub follow: bool,
    /// Only what happened in this time: 2h, 7d.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Span>,
    /// The last so many entries; 0: all.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
}

/// `tamer audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Fetches the whole log and checks every link of its chain.
    #[command(after_help = "\
A line that was changed, removed, inserted or moved is named, and then it ends with 3. Lines that were cut off at
the end are missed by whoever kept a head: this machine keeps the last one that it saw, and --head gives another.

Examples:
  tamer audit verify
  tamer audit verify --head 812:3f2a…
  tamer audit verify audit.log --head 812:3f2a…     a copy; no controller is needed")]
    Verify {
        /// A copy of the log [default: the controller's].
        file: Option<PathBuf>,
        /// What `tamer audit head` printed earlier: nothing up to there was cut off or rewritten since.
        #[arg(long, value_name = "LINE:HASH")]
        head: Option<Head>,
    },
    /// Prints the last line's number and hash, to be kept elsewhere.
    #[command(after_help = "\
Examples:
  tamer audit head
  tamer audit head --output json")]
    Head,
}
