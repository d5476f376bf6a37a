//! Asks a shop on this machine for one path: what hooks need of an HTTP client, so that they need
//! no other program.

use anyhow::{Context, bail};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

/// How long to wait before asking again while nobody answers.
const PAUSE: Duration = Duration::from_millis(20);

/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// The status and the body of the answer. Asks again until there is one, at most `within`, and only
/// while the process `alive` runs, if one is named.
pub(crate) async fn ask(
    port: u16,
    path: &str,
    within: Duration,
    alive: Option<u32>,
) -> anyhow::Result<(u16, String)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let deadline = Instant::now() + within;
    let asking = async {
        loop {
            let error = match timeout_at(deadline, once(address, path)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => bail!("no answer from {address} within {} s", within.as_secs()),
            };
            if Instant::now() + PAUSE > deadline {
                return Err(error.context(format!("no answer from {address}")));
            }
            sleep(PAUSE).await;
        }
    };
    let Some(pid) = alive else {
        return asking.await;
    };
    // Somebody else may hold the port and stay silent.
    tokio::select! {
        answer = asking => answer,
        () = gone(pid) => bail!("process {pid} is gone"),
    }
}

/// Waits until the process has ended; one that nobody has reaped has no program any more.
async fn gone(pid: u32) {
    let program = format!("/proc/{pid}/exe");
    while Path::new(&program).exists() {
        sleep(PAUSE).await;
    }
}

async fn once(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    Ok((status.context("the answer has no status")?, body.to_owned()))
}
