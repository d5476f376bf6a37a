//! `audit verify`: whether the log is as it was written.

use super::Failure;
use clap::{Args, Subcommand};
use std::io::Write;
use tamer_controller::audit::{self, Head};
use tamer_controller::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Check every link of the chain; works while the controller runs
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A line and its hash as an earlier `verify` printed them: proves that nothing up to there
    /// was cut off or rewritten since
    #[arg(long, value_name = "LINE:HASH")]
    known: Option<Head>,
}

pub(super) fn verify(config: &Config, verify: &Verify, out: &mut dyn Write) -> Result<(), Failure> {
    let path = config.paths().audit;
    let summary = audit::verify(&path, verify.known)?;
    let head = summary.head;
    writeln!(
        out,
        "{}: every link holds, up to line {}",
        path.display(),
        head.line
    )?;
    writeln!(out, "keep this elsewhere to prove it later: --known {head}")?;
    Ok(())
}
