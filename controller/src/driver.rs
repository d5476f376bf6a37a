//! The only writer. Everything that changes the fleet comes here, in order; what changed is made
//! durable first, and only then sent, answered or shown. Many changes share one commit.
//!
//! ```text
//! change ─▶ fleet ─▶ what follows ─▶ commit ─▶ dispatch, answers, reads
//! ```

use crate::acting;
use crate::audit::AuditLog;
use crate::fleet::Fleet;
use crate::fleet::turn::Turn;
use crate::metrics::Metrics;
use crate::migrations::Migrations;
use crate::mirror::Mirror;
use crate::revocations::Revocations;
use crate::server::Connections;
use crate::sessions::Sessions;
use crate::store::{Store, epoch};
use anyhow::Context as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tamer_core::moment::Moment;
use tamer_kit::clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How many changes share one commit at most.
const GROUP: usize = 4096;

/// How many changes may wait; who has more waits itself.
const QUEUE: usize = 16 * 1024;

/// How far the wall clock may move against the one that nobody sets before agents are told the time anew.
const STEP: Duration = Duration::from_secs(5);

type After = Box<dyn FnOnce() + Send>;
type Change = Box<dyn FnOnce(&mut Fleet, Moment) -> After + Send>;
type Read = Box<dyn FnOnce(&Fleet) + Send>;

enum Command {
    Change(Change),
    Read(Read),
}

/// The way to the driver; cheap to clone.
#[derive(Clone)]
pub struct Driver {
    commands: mpsc::Sender<Command>,
    changed: watch::Receiver<u64>,
    audited: watch::Receiver<u64>,
}

/// The driver has stopped: the controller is going down, or could not make a change durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller is stopping")]
pub struct Stopped;

/// What the driver works with.
pub struct Parts {
    /// The state.
    pub fleet: Fleet,
    /// Where it is kept.
    pub store: Arc<dyn Store>,
    /// Where people's doings are kept.
    pub audit: AuditLog,
    /// Where revoked keys are kept.
    pub revocations: Revocations,
    /// Where it is kept what was done to databases.
    pub migrations: Migrations,
    /// Where the epoch is kept, and which one is there.
    pub epoch: (PathBuf, u64),
    /// The copy of these.
    pub mirror: Mirror,
    /// Whom to send to.
    pub sessions: Arc<Sessions>,
    /// What to close when a key is revoked.
    pub connections: Connections,
    /// What to count.
    pub metrics: Metrics,
}

// === impl Driver ===

impl Driver {
    /// A driver, and the future that is its work; it ends when `stop` is cancelled, or with an error
    /// when a change could not be made durable.
    pub fn new(
        parts: Parts,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = anyhow::Result<()>>) {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (revision, changed) = watch::channel(0);
        let (length, audited) = watch::channel(parts.audit.length());
        let way = Self {
            commands,
            changed,
            audited,
        };
        (way, run(parts, queue, (revision, length), stop))
    }

    /// Changes the fleet, and answers when the change is durable.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Fleet, Moment) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let acting = acting::current();
        let change: Change = Box::new(move |fleet, now| {
            fleet.acts(acting);
            let result = change(fleet, now);
            fleet.acts(None);
            // Nobody may be waiting any more.
            Box::new(move || drop(answer.send(result)))
        });
        self.commands
            .send(Command::Change(change))
            .await
            .map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Changes the fleet without waiting for it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn cast(
        &self,
        change: impl FnOnce(&mut Fleet, Moment) + Send + 'static,
    ) -> Result<(), Stopped> {
        let change: Change = Box::new(move |fleet, now| {
            change(fleet, now);
            Box::new(|| ())
        });
        self.commands
            .send(Command::Change(change))
            .await
            .map_err(|_| Stopped)
    }

    /// Looks at the fleet as it is durable.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Fleet) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |fleet| drop(answer.send(read(fleet))));
        self.commands
            .send(Command::Read(read))
            .await
            .map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Rises whenever something has changed durably.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// The length of the audit log, in bytes, as far as it is durable.
    pub fn audited(&self) -> watch::Receiver<u64> {
        self.audited.clone()
    }
}

async fn run(
    mut parts: Parts,
    mut queue: mpsc::Receiver<Command>,
    (changed, audited): (watch::Sender<u64>, watch::Sender<u64>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut commands = Vec::with_capacity(GROUP);
    let mut clock_since = (clock::now(), Instant::now());
    loop {
        let now = clock::now();
        let pause = parts
            .fleet
            .next_wake()
            .map_or(Duration::from_secs(3600), |at| at.since(now));
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            received = queue.recv_many(&mut commands, GROUP) => if received == 0 { return Ok(()) },
            () = tokio::time::sleep(pause) => {}
        }
        let now = clock::now();
        if was_set(clock_since, (now, Instant::now())) {
            // Agents hold their grants against this clock as it was when they greeted: they greet again.
            tracing::warn!("the clock of this machine was set: agents are asked to connect anew");
            parts.sessions.close_all();
            clock_since = (now, Instant::now());
        }
        let mut after: Vec<After> = Vec::new();
        let mut reads: Vec<Read> = Vec::new();
        for command in commands.drain(..) {
            match command {
                Command::Change(change) => after.push(change(&mut parts.fleet, now)),
                Command::Read(read) => reads.push(read),
            }
        }
        let mut turn = parts
            .fleet
            .turn(now)
            .context("cannot store what has changed")?;
        let dirty = !turn.batches.is_empty();
        parts.commit(&mut turn).await?;
        audited.send_if_modified(|length| {
            let now = parts.audit.length();
            std::mem::replace(length, now) != now
        });
        if dirty {
            parts.metrics.observe_fleet(&parts.fleet);
            changed.send_modify(|revision| *revision += 1);
        }
        for (host, desired) in turn.messages {
            parts.metrics.desired_sent();
            parts.sessions.send(&host, desired);
        }
        for revocation in turn.shut_out {
            parts.connections.close(revocation.key);
        }
        for answer in after {
            answer();
        }
        for read in reads {
            read(&parts.fleet);
        }
    }
}

/// Whether the wall clock was set between two moments, each also by the clock that nobody sets.
fn was_set(before: (Moment, Instant), after: (Moment, Instant)) -> bool {
    let really = after.1.saturating_duration_since(before.1);
    let shown = after.0.since(before.0);
    let back = before.0.since(after.0);
    back > STEP || shown.abs_diff(really) > STEP
}

// === impl Parts ===

impl Parts {
    /// Makes everything durable: revoked keys and what people did in their logs, the rest in the store.
    async fn commit(&mut self, turn: &mut Turn) -> anyhow::Result<()> {
        let risen = turn.epoch > self.epoch.1;
        // A few lines and one fsync, seldom: people are slow.
        if !turn.shut_out.is_empty() {
            self.revocations
                .append(&turn.shut_out)
                .context("cannot write down what was revoked")?;
        }
        // Before the order is sent that it speaks of, and before the deployment knows of it.
        if !turn.records.is_empty() {
            self.migrations
                .append(&turn.records)
                .context("cannot write down what is done to a database")?;
            self.metrics.recorded(&turn.records);
        }
        if !turn.audit.is_empty() {
            self.audit
                .append(&turn.audit)
                .context("cannot write the audit log")?;
        }
        if risen {
            epoch::raise(&self.epoch.0, turn.epoch).context("cannot note the epoch")?;
            self.epoch.1 = turn.epoch;
        }
        let quiet = turn.shut_out.is_empty() && turn.audit.is_empty() && turn.records.is_empty();
        if risen || !quiet {
            self.mirror.records().await;
        }
        self.fleet.mirror_trouble = self.mirror.trouble();
        if turn.batches.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let mut tickets = Vec::with_capacity(turn.batches.len());
        for (revision, batch) in (self.store.revision()..).zip(turn.batches.drain(..)) {
            tickets.push(self.store.submit(revision, batch));
        }
        for ticket in tickets {
            ticket.await.context("cannot make a change durable")?;
        }
        self.metrics.committed(started.elapsed());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_runs() {
        let begun = Instant::now();
        let at = |shown: u64, really: u64| (Moment(shown), begun + Duration::from_millis(really));
        let since = at(1_000_000, 0);
        for (shown, really, set) in [
            (1_000_000, 0, false),
            (1_000_000 + 86_400_000, 86_400_000, false),
            (1_004_000, 0, false),
            (996_000, 0, false),
            (1_006_000, 0, true),
            (994_000, 0, true),
            (1_000_000, 10_000, true),
            (900_000, 10_000, true),
        ] {
            assert_eq!(was_set(since, at(shown, really)), set, "{shown} {really}");
        }
    }
}
