//! Where the controller listens: `https://host:port`, parsed once.

use std::fmt;
use std::str::FromStr;

/// The port of a controller whose address names none.
pub const DEFAULT_PORT: u16 = 7400;

/// The longest host part, as for any DNS name (RFC 1035, 2.3.4).
const MAX_HOST: usize = 253;

/// The address of a controller; as text `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a string is not a controller's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a controller's address: {reason}; write it like https://controller:7400")]
pub struct BadAddress {
    given: String,
    reason: &'static str,
}

impl Address {
    /// The host: a DNS name in small letters, an IPv4 address, or an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = BadAddress;
    /// Takes `https://host:port`, `host:port` or `host`; the port is then [`DEFAULT_PORT`].
    fn from_str(given: &str) -> Result<Self, BadAddress> {
        let bad = |reason| BadAddress {
            given: given.chars().take(80).collect(),
            reason,
        };
        let rest = given.strip_prefix("https://").unwrap_or(given);
        if rest.contains("://") {
            return Err(bad("only https is spoken"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').map(|v6| v6.split_once(']')) {
            Some(Some((v6, port))) => {
                v6.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| bad("the brackets hold no IPv6 address"))?;
                let port = match port.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if port.is_empty() => None,
                    None => return Err(bad("after the brackets only a port may follow")),
                };
                (v6, port)
            }
            Some(None) => return Err(bad("a bracket is missing")),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| bad("the port is not a number"))?,
            None => DEFAULT_PORT,
        };
        if port == 0 {
            return Err(bad("port 0 is no port to call"));
        }
        let host = host.to_ascii_lowercase();
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || host.len() > MAX_HOST || !host.chars().all(fits) {
            return Err(bad("the host is not a name or an IP address"));
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "https://[{host}]:{port}")
        } else {
            write!(f, "https://{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (given, written) in [
            ("https://controller:7400", "https://controller:7400"),
            ("Controller.Example", "https://controller.example:7400"),
            ("10.0.0.1:99/", "https://10.0.0.1:99"),
            ("https://[::1]:8", "https://[::1]:8"),
            ("[fe80::1]", "https://[fe80::1]:7400"),
        ] {
            let address: Address = given.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "http://a:1",
            "a:",
            "a:0",
            "a:70000",
            "a b",
            "a/b",
            "[::1",
            "[x]:1",
            "[::1]9",
            "user@host",
            "::1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
