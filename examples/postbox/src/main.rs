//! `postbox`: runs the mail server until TERM or INT.

use anyhow::Context;
use clap::Parser;
use postbox::mailbox::Mailbox;
use postbox::server::Server;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A mail server that keeps what is sent to *.example as files, and refuses the rest.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen; with port 0 the kernel chooses one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to keep the messages.
    #[arg(long)]
    mail_dir: PathBuf,
    /// A file that gets the port, once the server listens.
    #[arg(long)]
    port_file: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mailbox = Mailbox::new(&args.mail_dir)
        .with_context(|| format!("cannot keep mail in {}", args.mail_dir.display()))?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    if let Some(file) = &args.port_file {
        tamer_kit::durable::replace(file, format!("{}\n", address.port()).as_bytes(), 0o644)?;
    }
    writeln!(stdout(), "listening on {address}")?;
    stdout().flush()?;
    tokio::select! {
        ended = Server::new("postbox.example", mailbox).serve(listener) => Ok(ended?),
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    }
}
