//! The agent's binary: reads the arguments, runs one command, prints what failed.

mod commands;

use clap::{CommandFactory, Parser};
use commands::{Cli, Failure};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything is opened here.
    tamer_agent::process::close_inherited();
    let mut out = std::io::stdout();
    let done = match tamer_kit::manual::asked(&Cli::command(), "8") {
        Some(written) => written.map_err(Into::into),
        None => commands::run(&Cli::parse(), &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (Failure::Usage(error) | Failure::Internal(error)) = &failure;
            // Nobody is left to tell if this fails.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(failure.code())
        }
    }
}
