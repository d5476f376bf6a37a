//! What a service tells systemd: that it is ready, what it is at, and that it is alive.
//!
//! Where no systemd listens (`NOTIFY_SOCKET` is not set) all of this does nothing. The protocol is that
//! of sd_notify(3).

use sd_notify::NotifyState;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Whether a supervisor waits to be told: this process is a unit's, of `Type=notify`.
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The service does its work from now on.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The service is ending, in its own time.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Says that the service is alive, twice in each of the unit's `WatchdogSec`, as long as `alive` answers
/// with `true`: it must ask what does the work, for a process can run and its work stand still. Ends with
/// `stop`, and at once where the unit has no watchdog.
pub async fn watchdog<F: Future<Output = bool>>(alive: impl Fn() -> F, stop: CancellationToken) {
    let Some(interval) = interval() else { return };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval / 2) => {}
        }
        // One that does not answer gets no excuse: systemd's patience is the limit.
        let answered = tokio::select! {
            () = stop.cancelled() => return,
            answered = alive() => answered,
        };
        if answered {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The unit's `WatchdogSec`, if it has one for this process.
fn interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
