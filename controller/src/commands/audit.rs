//! `audit verify`: whether the log is as it was written.

use super::Failure;
use clap::{Args, Subcommand};
use std::io::Write;
use tamer_controller::audit::{self, Head};
use tamer_controller::config::Config;
use tamer_core::digest::Digest;

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Check every link of the chain; works while the controller runs
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A line and its hash as an earlier `verify` printed them: proves that nothing up to there
    /// was cut off or rewritten since
    #[arg(long, value_name = "LINE:HASH", value_parser = head)]
    known: Option<Head>,
}

pub(super) fn verify(config: &Config, verify: &Verify, out: &mut dyn Write) -> Result<(), Failure> {
    let path = config.paths().audit;
    let summary = audit::verify(&path, verify.known)?;
    let Head { line, hash } = summary.head;
    writeln!(
        out,
        "{}: every link holds, up to line {line}",
        path.display()
    )?;
    writeln!(
        out,
        "keep this elsewhere to prove it later: --known {line}:{hash}"
    )?;
    Ok(())
}

fn head(given: &str) -> Result<Head, String> {
    let form = || "write it as LINE:HASH, as `audit verify` prints it".to_owned();
    let (line, hash) = given.split_once(':').ok_or_else(form)?;
    let line = line.parse().map_err(|_| form())?;
    let hash: Digest = hash.parse().map_err(|_| form())?;
    Ok(Head { line, hash })
}
