//! `disk`: a file system has room for ordinary users.

use super::{Doing, Tried};
use rustix::fs::{StatVfs, statvfs};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tamer_core::check::Room;
use tokio::sync::watch;

/// What a file system answered; `None` while it has not.
type Answer = Option<Result<Space, Errno>>;

/// Questions under way, by path. Tries at the same time share one: a file system that hangs (of a
/// network, without its server) holds one thread, not another one at every interval.
static UNDER_WAY: Mutex<BTreeMap<String, watch::Receiver<Answer>>> = Mutex::new(BTreeMap::new());

pub(super) async fn try_it(path: &str, free: Room, doing: &Doing) -> Tried {
    doing.now(format!(
        "asking the file system of {path} for its free space"
    ));
    let mut answer = ask(path);
    let answer = answer.wait_for(Option::is_some).await.map(|answer| *answer);
    match answer {
        Ok(Some(Ok(space))) => judge(path, free, &space),
        Ok(Some(Err(error))) => Err(format!(
            "cannot ask for the free space of {path}: {}",
            std::io::Error::from(error)
        )),
        Ok(None) | Err(_) => Err(format!(
            "cannot ask for the free space of {path}: nobody answered"
        )),
    }
}

/// Joins the question about this path that is under way, or asks.
fn ask(path: &str) -> watch::Receiver<Answer> {
    let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = under_way.get(path) {
        return answer.clone();
    }
    let (answered, answer) = watch::channel(None);
    under_way.insert(path.to_owned(), answer.clone());
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let said = statvfs(path.as_str()).map(|stat| Space::of(&stat));
        UNDER_WAY
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&path);
        // Nobody may be waiting any more.
        answered.send_replace(Some(said));
    });
    answer
}

/// A file system's size and what ordinary users may still take of it, in bytes.
#[derive(Clone, Copy)]
struct Space {
    whole: u64,
    free: u64,
}

impl Space {
    fn of(stat: &StatVfs) -> Self {
        Self {
            whole: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        }
    }

    /// The free share in whole percent, rounded down; everything is free where there is nothing.
    fn percent(&self) -> u64 {
        match self.whole {
            0 => 100,
            whole => (u128::from(self.free) * 100 / u128::from(whole)) as u64,
        }
    }
}

fn judge(path: &str, expected: Room, space: &Space) -> Tried {
    match expected {
        Room::Bytes(least) if space.free < least => Err(format!(
            "{path} has {} free of {} (expected at least {})",
            human(space.free),
            human(space.whole),
            human(least)
        )),
        Room::Percent(least) if space.percent() < u64::from(least) => Err(format!(
            "{path} has {} % free, {} of {} (expected at least {least} %)",
            space.percent(),
            human(space.free),
            human(space.whole)
        )),
        Room::Bytes(_) | Room::Percent(_) => Ok(()),
    }
}

/// `512 B`, `3.2 GiB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while amount >= 1023.95 {
        let Some(larger) = units.next() else { break };
        amount /= 1024.0;
        unit = Some(larger);
    }
    format!("{amount:.1} {}", unit.unwrap_or(&"B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[tokio::test]
    async fn tries_at_the_same_time_share_one_answer() {
        let doing = Doing::default();
        let tries = (0..16).map(|_| try_it("/", Room::Bytes(0), &doing));
        let ended = futures_util::future::join_all(tries).await;
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert!(!UNDER_WAY.lock().unwrap().contains_key("/"));
    }

    fn said(expected: Room, free: u64, whole: u64) -> String {
        judge("/srv", expected, &Space { whole, free })
            .err()
            .unwrap_or_default()
    }

    #[test]
    fn bytes_are_enough_or_named() {
        assert_eq!(said(Room::Bytes(5 * GIB), 5 * GIB, 80 * GIB), "");
        assert_eq!(
            said(Room::Bytes(5 * GIB), 5 * GIB - 1, 80 * GIB),
            "/srv has 5.0 GiB free of 80.0 GiB (expected at least 5.0 GiB)"
        );
    }

    #[test]
    fn shares_are_of_the_whole() {
        assert_eq!(said(Room::Percent(10), 8 * GIB, 80 * GIB), "");
        assert_eq!(
            said(Room::Percent(10), 8 * GIB - 1, 80 * GIB),
            "/srv has 9 % free, 8.0 GiB of 80.0 GiB (expected at least 10 %)"
        );
        assert_eq!(said(Room::Percent(100), 0, 0), "", "/proc has no blocks");
        assert_eq!(said(Room::Percent(99), u64::MAX, u64::MAX), "");
    }

    #[test]
    fn amounts_read_like_spoken() {
        let all = [0, 1023, 1024, 1536, GIB - 1, GIB, 5 << 40, u64::MAX].map(human);
        let read = [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "1.5 KiB",
            "1.0 GiB",
            "1.0 GiB",
            "5.0 TiB",
            "16384.0 PiB",
        ];
        assert_eq!(all, read);
    }

    #[tokio::test]
    async fn a_path_that_has_not_answered_is_not_asked_again() {
        let doing = Doing::default();
        let (answered, answer) = watch::channel(None);
        UNDER_WAY
            .lock()
            .unwrap()
            .insert("/hangs".to_owned(), answer);
        let mut waits = Box::pin(try_it("/hangs", Room::Percent(0), &doing));
        assert!(futures_util::poll!(&mut waits).is_pending());
        answered.send_replace(Some(Err(Errno::IO)));
        let said = waits.await.unwrap_err();
        assert!(said.contains("Input/output error"), "{said}");
        UNDER_WAY.lock().unwrap().remove("/hangs");
    }
}
