//! Whether this machine has room for so many connections: descriptors, and ports on loopback.

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are no connection: the runtime's, the store's, those of enrolment.
const OTHERS: u64 = 512;

/// The widest range of ports that Linux takes, for the message.
const WIDE: &str = "sysctl -w net.ipv4.ip_local_port_range='1024 65535'";

/// Raises the limit of descriptors for this process, and for the controller that it starts, as far as needed.
///
/// # Errors
/// There is no room; the message says how to make it.
pub(super) fn make(agents: usize) -> anyhow::Result<()> {
    let agents = u64::try_from(agents).context("so many agents cannot be counted")?;
    let need = agents + OTHERS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read `ulimit -n`")?;
    if soft < need {
        setrlimit(Resource::RLIMIT_NOFILE, need, hard.max(need)).with_context(|| {
            format!(
                "{agents} agents need {need} open files, and the limit is {hard}: type `ulimit -n {need}` as root first"
            )
        })?;
    }
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let range = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let ports = ports(&range).with_context(|| format!("{path} is not understood: {range}"))?;
    ensure!(
        agents <= ports / 2,
        "{agents} agents that come back at once need {} ports on loopback, and there are {ports}: type `{WIDE}` first",
        agents * 2
    );
    Ok(())
}

/// How many ports a range such as `32768 60999` holds.
fn ports(range: &str) -> Option<u64> {
    let (first, last) = range.trim().split_once(char::is_whitespace)?;
    let (first, last) = (first.parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
    (last + 1).checked_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_are_refused_with_what_to_type() {
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports("x"), None);
        assert!(make(10).is_ok());
        let said = format!("{:#}", make(40_000).unwrap_err());
        assert!(said.contains("ulimit -n") || said.contains(WIDE), "{said}");
    }
}
