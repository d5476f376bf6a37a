//! The `tamer` binary: reads the arguments, runs the command, prints what failed.

use clap::{CommandFactory, Parser};
use std::process::ExitCode;
use tamer::args::Cli;
use tamer::commands;
use tamer::exit::Exit;
use tamer::printer::{Output, Printer};

fn main() -> ExitCode {
    if let Some(written) = tamer_kit::manual::asked(&Cli::command(), "1") {
        return match written {
            Ok(()) => Exit::Done.into(),
            Err(error) => {
                Printer::new(Output::Text, false).failure(&format!("error: {error}"));
                Exit::Internal.into()
            }
        };
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no failures.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
            .into();
        }
    };
    let printer = Printer::new(cli.global.output, cli.global.quiet);
    if let Err(error) = tamer_kit::telemetry::init("error") {
        printer.failure(&format!("error: {error:#}"));
        return Exit::Usage.into();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.failure(&format!("error: cannot start: {error}"));
            return Exit::Internal.into();
        }
    };
    match runtime.block_on(commands::run(cli, &printer)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            printer.failure(&error.report());
            error.exit.into()
        }
    }
}
