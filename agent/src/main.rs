//! The agent's binary: reads the arguments, runs one command, prints what failed.

mod commands;

use clap::Parser;
use commands::{Cli, Failure};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    match commands::run(&Cli::parse(), &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (Failure::Usage(error) | Failure::Internal(error)) = &failure;
            // Nobody is left to tell if this fails.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(failure.code())
        }
    }
}
