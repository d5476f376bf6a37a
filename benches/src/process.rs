//! What a running process takes, as the kernel says.

use anyhow::{Context as _, anyhow};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::time::Duration;

/// The CPU time that a process has used so far, threads that ended counted in, to the nanosecond.
/// Its children's is their own.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid).context("no process id")?);
    let what = || format!("cannot read the CPU time of process {pid}");
    let clock = clock_getcpuclockid(pid).with_context(what)?;
    clock_gettime(clock).map(Into::into).with_context(what)
}

/// The memory of a process that lies in RAM, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// All of it.
    pub all: u64,
    /// What is its own, neither program nor file.
    pub own: u64,
}

/// Reads what a process has in RAM.
///
/// # Errors
/// There is no such process.
pub fn resident(pid: u32) -> anyhow::Result<Resident> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&text).with_context(|| format!("cannot understand {path}"))
}

/// The most that a process ever had in RAM since it started or since [`forget_peak`], in bytes.
///
/// # Errors
/// There is no such process.
pub fn peak(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    field(&text, "VmHWM:").with_context(|| format!("cannot understand {path}"))
}

/// Begins to look for the peak anew (`man 5 proc_pid_clear_refs`).
///
/// # Errors
/// There is no such process, or it is another user's.
pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    std::fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

fn parse(text: &str) -> anyhow::Result<Resident> {
    Ok(Resident {
        all: field(text, "VmRSS:")?,
        own: field(text, "RssAnon:")?,
    })
}

/// A line `NAME: 123 kB`, in bytes.
fn field(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .ok_or_else(|| anyhow!("there is no {name}"))?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let text = "Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t     200 kB\n";
        let read = parse(text).unwrap();
        assert_eq!((read.all, read.own), (1234 * 1024, 200 * 1024));
        assert!(parse("Name:\tx\n").is_err());
        let own = resident(std::process::id()).unwrap();
        assert!(own.all >= own.own && own.own > 0);
        assert!(peak(std::process::id()).unwrap() >= own.all);
        let large = vec![1_u8; 64 << 20];
        assert!(peak(std::process::id()).unwrap() >= own.all + (60 << 20));
        drop(large);
        forget_peak(std::process::id()).unwrap();
        assert!(peak(std::process::id()).unwrap() < own.all + (60 << 20));
        assert!(cpu(std::process::id()).unwrap() > Duration::ZERO);
        assert!(cpu(u32::MAX).is_err());
    }
}
