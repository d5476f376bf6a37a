//! Times, medians, and the table that they are printed as.

use anyhow::{Context as _, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// What something took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// By the clock.
    pub wall: Duration,
    /// Of all cores together, in user mode and in the kernel.
    pub cpu: Duration,
}

/// Runs a command to its end, which must be a good one. Its CPU time is that of all processes that it
/// waited for. Nobody else may wait for a child of this process meanwhile.
///
/// # Errors
/// It does not start, or fails.
pub fn run(command: &mut Command) -> anyhow::Result<Cost> {
    let said = || format!("{command:?}");
    let what = said();
    let before = children()?;
    let begun = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot run {what}"))?;
    let wall = begun.elapsed();
    ensure!(status.success(), "{what}: {status}");
    let cpu = children()?.saturating_sub(before);
    Ok(Cost { wall, cpu })
}

/// The CPU time of all children that were waited for.
fn children() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the CPU time")?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    let micros = time.tv_sec().saturating_mul(1_000_000) + time.tv_usec();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// The value in the middle; of an even number the lower one.
///
/// # Errors
/// There are none.
pub fn median<T: Ord + Copy>(values: &[T]) -> anyhow::Result<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len().saturating_sub(1) / 2;
    sorted.get(middle).copied().context("nothing was measured")
}

/// Times in the middle, with the shortest and the longest: `0.081 s (0.077 to 0.120)`.
///
/// # Errors
/// There are none.
pub fn spread(values: &[Duration]) -> anyhow::Result<String> {
    let seconds = |time: &Duration| format!("{:.3}", time.as_secs_f64());
    let (low, high) = (values.iter().min(), values.iter().max());
    Ok(format!(
        "{} s ({} to {})",
        seconds(&median(values)?),
        low.map(seconds).unwrap_or_default(),
        high.map(seconds).unwrap_or_default()
    ))
}

/// Bytes as MB, of a million bytes.
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// Bytes as MiB.
pub fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Begins a table, with its columns' names.
///
/// # Errors
/// Standard output is gone.
pub fn head(columns: &[&str]) -> anyhow::Result<()> {
    row(columns)?;
    row(&vec!["---"; columns.len()])
}

/// Prints a table's row.
///
/// # Errors
/// Standard output is gone.
pub fn row(cells: &[&str]) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "| {} |", cells.join(" | ")).context("cannot print")
}

/// Says what is going on.
pub fn note(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(median(&[9, 1, 5]).unwrap(), 5);
        assert_eq!(median(&[9, 1, 5, 3]).unwrap(), 3);
        assert!(median::<u8>(&[]).is_err());
    }

    #[test]
    fn a_command_s_time_is_its_own_and_its_children_s() {
        let burn = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let cost = run(Command::new("sh").args(["-c", &format!("sh -c '{burn}'; true")])).unwrap();
        assert!(cost.cpu > Duration::ZERO && cost.wall > Duration::ZERO);
        assert!(run(Command::new("sh").args(["-c", "exit 3"])).is_err());
    }
}
