//! `tcp`: a connection can be made.

use super::{Doing, Tried, reason};
use tokio::net::{TcpStream, lookup_host};

pub(super) async fn try_it(address: &str, doing: &Doing) -> Tried {
    connect(address, doing).await.map(drop)
}

/// Connects to the first address behind `host:port` that answers.
///
/// # Errors
/// The sentence for the last address that was tried.
pub(super) async fn connect(address: &str, doing: &Doing) -> Result<TcpStream, String> {
    if address
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.parse::<u16>().is_err())
    {
        return Err(format!(
            "`{address}` is not an address: write it like host:port"
        ));
    }
    doing.now(format!("looking up {address}"));
    let found = lookup_host(address)
        .await
        .map_err(|error| format!("cannot look up {address}: {error}"))?;
    let mut last = format!("{address} has no network address");
    for found in found {
        // The name, and where it led, if that is something else.
        let place = match found.to_string() {
            found if found == address => found,
            found => format!("{address} ({found})"),
        };
        doing.now(format!("connecting to {place}"));
        match TcpStream::connect(found).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("connection to {place} {}", reason(&error)),
        }
    }
    Err(last)
}
