//! Durable commits of the store, in events per second: 64 committers at once, each handing over one
//! event of 300 bytes and waiting until it is durable. The writer groups what waits.
//!
//! `cargo run --release -p tamer-bench --bin store_commit [DIRECTORY]`: on tmpfs (the default is
//! `/dev/shm`) it measures the store, on a disk the disk's fsync.

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use tamer_bench::measure::{head, median, row};
use tamer_controller::store::sled::SledStore;
use tamer_controller::store::{Batch, Key, Store};

const RUNS: usize = 7;
const COMMITTERS: usize = 64;
const EVENTS: u64 = 40_000;
const EVENT: usize = 300;

fn main() -> anyhow::Result<()> {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(|| "/dev/shm".into(), PathBuf::from);
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        rates.push(run(&parent)?);
    }
    rates.sort_unstable();
    let what = format!(
        "{EVENTS} events of {EVENT} bytes from {COMMITTERS} committers at once, on {}",
        medium(&parent)?
    );
    let figure = format!("{} ({} to {})", median(&rates)?, rates[0], rates[RUNS - 1]);
    head(&["what", "durable events/s"])?;
    row(&[&what, &figure])
}

fn medium(parent: &Path) -> anyhow::Result<&'static str> {
    let kind = statfs(parent)?.filesystem_type();
    Ok(if kind == TMPFS_MAGIC {
        "tmpfs"
    } else {
        "a disk"
    })
}

fn run(parent: &Path) -> anyhow::Result<u64> {
    let dir = tempfile::tempdir_in(parent)?;
    let store = SledStore::create(&dir.path().join("store"))?;
    let next = Mutex::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = (0..COMMITTERS)
            .map(|_| scope.spawn(|| committer(&store, &next)))
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a committer panicked"))??;
        }
        Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    anyhow::ensure!(store.revision() == EVENTS, "events are missing");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate, rounded"
    )]
    #[expect(clippy::cast_precision_loss, reason = "40,000 is exact")]
    Ok((EVENTS as f64 / seconds) as u64)
}

/// Takes the next revision and hands over its event while nobody else can: as the driver does.
fn committer(store: &SledStore, next: &Mutex<u64>) -> anyhow::Result<()> {
    loop {
        let ticket = {
            let mut next = next
                .lock()
                .map_err(|_| anyhow::anyhow!("a committer panicked"))?;
            if *next == EVENTS {
                return Ok(());
            }
            let mut batch = Batch::default();
            let byte = next.to_le_bytes()[0];
            batch.put(Key::numbered("event", *next)?, vec![byte; EVENT])?;
            let ticket = store.submit(*next, batch);
            *next += 1;
            ticket
        };
        ticket.wait()?;
    }
}
