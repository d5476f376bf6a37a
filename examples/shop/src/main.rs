//! The shop: a small web application to deploy. It takes orders, keeps them in a file that survives
//! releases, and says which version it is and whether it is well.
//!
//! What a release is, and what is wrong with it, stands in files beside the program (`VERSION`,
//! `shop.conf`): a broken release needs no other program, only another setting.

mod ask;
mod orders;
mod release;
mod web;

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::io::{Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A small shop.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves a release until TERM or INT; requests under way are answered first.
    Serve {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// The release: the directory with VERSION and shop.conf.
        #[arg(long)]
        release: PathBuf,
        /// Where the orders are kept.
        #[arg(long)]
        data: PathBuf,
        /// A file that gets the process id, once the port is taken.
        #[arg(long)]
        pid_file: Option<PathBuf>,
    },
    /// Asks a shop on this machine for a path, prints the answer, and succeeds if its status is 200.
    Ask {
        /// The port that the shop listens on.
        #[arg(long)]
        port: u16,
        /// How many seconds to go on asking while nobody answers.
        #[arg(long, default_value_t = 5)]
        within: u64,
        /// Give up at once when the process with this id is gone.
        #[arg(long = "while")]
        alive: Option<u32>,
        /// What to ask for, such as /version.
        path: String,
    },
    /// Prints so many TCP ports of 127.0.0.1 that are free now, a line each: for demos and tests.
    Ports {
        /// How many.
        count: usize,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(stderr(), "shop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ports { count } => {
            // All are held until the last is chosen, so that no port comes twice.
            let any = || std::net::TcpListener::bind(("127.0.0.1", 0));
            let held = (0..count)
                .map(|_| any())
                .collect::<Result<Vec<_>, _>>()
                .context("no port is free")?;
            for listener in &held {
                writeln!(stdout(), "{}", listener.local_addr()?.port())?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve {
            listen,
            release,
            data,
            pid_file,
        } => {
            let release = release::Release::read(&release)?;
            let orders = orders::Orders::new(&data)
                .with_context(|| format!("cannot keep orders in {}", data.display()))?;
            let listener =
                web::listen(listen).with_context(|| format!("cannot listen on {listen}"))?;
            if let Some(file) = pid_file {
                std::fs::write(&file, format!("{}\n", std::process::id()))
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
            web::serve(listener, release, orders).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Ask {
            port,
            within,
            alive,
            path,
        } => {
            let (status, body) = ask::ask(port, &path, Duration::from_secs(within), alive).await?;
            write!(stdout(), "{body}")?;
            Ok(if status == 200 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}
