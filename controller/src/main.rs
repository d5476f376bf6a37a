//! The controller's binary: reads the arguments, runs one command, prints what failed.

mod commands;

use clap::{CommandFactory, Parser};
use commands::{Cli, Failure};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tamer_controller::store::sled::probe;

fn main() -> ExitCode {
    // A probe is a child of this binary, and has no use for arguments, logs or a runtime.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == probe::ARGUMENT) {
        return match args.next() {
            Some(data) => probe::probe_main(Path::new(&data)),
            None => ExitCode::from(2),
        };
    }
    let mut out = std::io::stdout().lock();
    let mut err = std::io::stderr();
    let done = match tamer_kit::manual::asked(&Cli::command(), "8") {
        Some(written) => written.map_err(Into::into),
        None => commands::run(&Cli::parse(), &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell if this fails.
            let (Failure::Usage(error) | Failure::Internal(error)) = &failure;
            let _ = writeln!(err, "error: {error:#}");
            ExitCode::from(failure.code())
        }
    }
}
