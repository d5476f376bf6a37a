//! The line to the controller: it is greeted, what it wants is passed on, and what the host says of
//! itself is sent whenever that has changed. A line that is lost is made anew, for ever.

mod session;
mod trouble;

use crate::clock::ControllerClock;
use crate::identity::Shown;
use crate::identity::authorities::Told;
use crate::metrics::Metrics;
use crate::transfer::Fetching;
use session::{End, Session};
use std::sync::Arc;
use std::time::Duration;
use tamer_core::desired::{Desired, HostReport};
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, HostName};
use tamer_kit::address::Address;
use tamer_kit::backoff::share_of_absence;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trouble::Trouble;

/// What a line that is gone counts to be gone for at least and at most: how long to wait is a share of that.
const WAIT: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(30));

/// A session that lasted so long was a good one: only from its end on the line counts as gone.
const STABLE: Duration = Duration::from_secs(20);

/// The line to the controller.
#[derive(Debug)]
pub struct Link {
    /// Where the controller listens.
    pub address: Address,
    /// This host's name, for messages to people.
    pub name: HostName,
    /// The environment that this host belongs to.
    pub environment: EnvironmentName,
    /// The team's root that this host pins.
    pub trust_root: Digest,
    /// The certificate to show; a new one makes a new line.
    pub shown: watch::Receiver<Shown>,
    /// Where to put what the controller says of its CAs.
    pub authorities: watch::Sender<Option<Told>>,
    /// Where to put what the host should be.
    pub desired: watch::Sender<Option<Desired>>,
    /// What the host says of itself.
    pub reports: watch::Receiver<HostReport>,
    /// What it fetches now.
    pub fetching: watch::Receiver<Fetching>,
    /// Set by the controller's welcome.
    pub clock: Arc<ControllerClock>,
    /// Set once the controller has welcomed this agent.
    pub welcomed: watch::Sender<bool>,
    /// Told when the controller does not take the certificate for its time: one of the two clocks was set.
    pub refused: Arc<Notify>,
    /// What to count.
    pub metrics: Metrics,
}

impl Link {
    /// Keeps the line until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let run_id = format!("{:032x}", rand::random::<u128>());
        let mut gone_since = Instant::now();
        let mut last: Option<Trouble> = None;
        let mut off = None;
        loop {
            let begun = Instant::now();
            let session = Session {
                link: &mut self,
                run_id: &run_id,
                welcomed: false,
                off: &mut off,
            };
            let (end, welcomed) = tokio::select! {
                ended = session.run() => ended,
                () = stop.cancelled() => return self.metrics_down(),
            };
            self.metrics_down();
            if welcomed {
                last = None;
                self.metrics.reconnects.inc();
            }
            if welcomed && begun.elapsed() >= STABLE {
                gone_since = Instant::now();
            }
            match end {
                End::Renewed => {
                    tracing::debug!("a new certificate: the line is made anew");
                    continue;
                }
                End::Gone => return,
                End::ClockSet => {
                    tracing::debug!("this host's clock was set: it is told anew");
                    continue;
                }
                End::Trouble(trouble) => {
                    trouble.tell(last.as_ref(), &self);
                    if trouble.is_of_time() {
                        self.refused.notify_one();
                    }
                    last = Some(trouble);
                }
            }
            let wait = share_of_absence(gone_since.elapsed(), WAIT.0, WAIT.1, rand::random());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // A new certificate may be just what was missing.
                Ok(()) = self.shown.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Says that this host's clock is off, or right again, where that is news.
    fn tell_clock(&self, last: &mut Option<crate::clock::Off>) -> bool {
        let off = self.clock.off(tamer_kit::clock::now());
        self.metrics
            .clock_offset
            .set(off.map_or(0, |off| off.seconds()));
        let news = match (*last, off) {
            (Some(last), Some(off)) => !last.like(off),
            (last, off) => last.is_some() != off.is_some(),
        };
        if !news {
            return false;
        }
        match off {
            Some(off) => tracing::warn!(
                next = "set the one that is wrong right; on this host: timedatectl",
                "this host's clock is {off}: until they agree, news may count as expired or come too early"
            ),
            None => tracing::info!("this host's clock agrees with the controller's again"),
        }
        *last = off;
        true
    }

    fn metrics_down(&self) {
        self.metrics.connected.set(0);
    }
}
