//! `disk`: a file system has room for ordinary users.

use super::{Doing, Tried};
use rustix::fs::{StatVfs, statvfs};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tamer_core::check::Room;

/// Paths whose file system has been asked and has not answered yet. One that hangs (a network file
/// system without its server) holds one thread, not another one at every interval.
static ASKED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub(super) async fn try_it(path: &str, free: Room, doing: &Doing) -> Tried {
    doing.now(format!(
        "asking the file system of {path} for its free space"
    ));
    if !asked(|paths| paths.insert(path.to_owned())) {
        return Err(format!(
            "the file system of {path} has not answered since an earlier try"
        ));
    }
    let name = path.to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let answer = statvfs(name.as_str());
        asked(|paths| paths.remove(&name));
        answer
    });
    match answer.await {
        Ok(Ok(stat)) => judge(path, free, &Space::of(&stat)),
        Ok(Err(error)) => Err(format!(
            "cannot ask for the free space of {path}: {}",
            std::io::Error::from(error)
        )),
        Err(error) => Err(format!("cannot ask for the free space of {path}: {error}")),
    }
}

fn asked<T>(with: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
    with(&mut ASKED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A file system's size and what ordinary users may still take of it, in bytes.
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
        asked(|paths| paths.insert("/hangs".to_owned()));
        let said = try_it("/hangs", Room::Percent(0), &doing)
            .await
            .unwrap_err();
        assert!(said.contains("has not answered since"), "{said}");
        try_it("/", Room::Percent(0), &doing).await.unwrap();
        try_it("/", Room::Percent(0), &doing).await.unwrap();
    }
}
