//! How far the release has come that is being fetched: bytes are counted where they arrive, looked at now and then,
//! and told for people alone. No decision sees any of it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tamer_core::desired::{Slot, Transfer};
use tamer_core::digest::Digest;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Of a transfer that is over by then nothing is told: most are.
const FIRST: Duration = Duration::from_secs(1);

/// Progress is told no oftener than so, and once more when all has come: each time costs a report. 10,000 hosts that
/// fetch at once make 5,000 reports a second, which a controller reads without its driver hearing of them.
const EVERY: Duration = Duration::from_secs(2);

/// Over how long a time the rate is measured, once so much has passed: one request's pause must not show as none.
const WINDOW: Duration = Duration::from_secs(5);

/// How often bytes are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What this host fetches now: one release at a time, and nothing most of the time.
pub type Fetching = Option<(Slot, Transfer)>;

/// The bytes of one release, counted by whoever fetches them.
#[derive(Debug, Default)]
pub struct Count {
    total: AtomicU64,
    /// Those that an earlier try left.
    kept: AtomicU64,
    came: AtomicU64,
}

/// A count at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// What is fetched in all; 0 before that is known.
    pub total: u64,
    /// What an earlier try left.
    pub kept: u64,
    /// What has come since.
    pub came: u64,
}

impl Count {
    /// So many bytes more are needed, and so many of them are there already.
    pub fn begin(&self, bytes: u64, kept: u64) {
        self.kept.fetch_add(kept, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes came.
    pub fn came(&self, bytes: u64) {
        self.came.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many of those that came were of no use, and come again.
    pub fn lost(&self, bytes: u64) {
        self.came.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How it stands.
    pub fn bytes(&self) -> Bytes {
        Bytes {
            total: self.total.load(Ordering::Relaxed),
            kept: self.kept.load(Ordering::Relaxed),
            came: self.came.load(Ordering::Relaxed),
        }
    }
}

impl Bytes {
    /// What is there, of the total.
    pub fn done(self) -> u64 {
        (self.kept + self.came).min(self.total)
    }
}

/// Measures the rate, and says when there is something to tell.
#[derive(Debug, Default)]
struct Meter {
    /// When it was looked at last.
    looked: Option<Instant>,
    begun: Option<Instant>,
    /// What had come at each look; the first is the newest that is not younger than the window.
    looks: VecDeque<(Instant, u64)>,
    told: Option<(Instant, Bytes)>,
}

impl Meter {
    /// Looks at the bytes; gives the rate, in bytes a second, where it is time to tell them.
    fn look(&mut self, now: Instant, bytes: Bytes) -> Option<u64> {
        let before = self.looked.replace(now).unwrap_or(now);
        if bytes.total == 0 {
            return None;
        }
        // It began some time after the look before this one.
        let begun = *self.begun.get_or_insert_with(|| {
            self.looks.push_back((before, 0));
            before
        });
        self.looks.push_back((now, bytes.came));
        while self.looks.get(1).is_some_and(|it| now - it.0 >= WINDOW) {
            self.looks.pop_front();
        }
        let whole = |it: Bytes| it.done() == it.total;
        let due = match self.told {
            None => now - begun >= FIRST,
            Some((at, told)) => now - at >= EVERY || whole(bytes) && !whole(told),
        };
        if !due {
            return None;
        }
        self.told = Some((now, bytes));
        Some(self.rate(now, bytes.came))
    }

    fn rate(&self, now: Instant, came: u64) -> u64 {
        let Some((since, before)) = self.looks.front() else {
            return 0;
        };
        let millis = (now - *since).as_millis();
        // What was of no use is taken back.
        let bytes = u128::from(came.saturating_sub(*before)) * 1000;
        let rate = bytes.checked_div(millis).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

/// Tells how far a release has come, until this is dropped: then nothing is fetched any more.
pub(crate) async fn tell(
    to: &watch::Sender<Fetching>,
    slot: &Slot,
    release: Digest,
    count: &Count,
) -> Infallible {
    let _over = Over(to);
    let mut meter = Meter::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let bytes = count.bytes();
        if let Some(rate) = meter.look(Instant::now(), bytes) {
            let transfer = Transfer {
                release,
                done: bytes.done(),
                total: bytes.total,
                rate,
            };
            to.send_replace(Some((slot.clone(), transfer)));
        }
    }
}

/// Says that nothing is fetched any more, however that came.
struct Over<'a>(&'a watch::Sender<Fetching>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|told| told.take().is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(total: u64, came: u64) -> Bytes {
        Bytes {
            total,
            kept: 0,
            came,
        }
    }

    /// What is told of a transfer that is looked at twice a second, where so much came before each look: when, in
    /// milliseconds, and the rate.
    fn told(total: u64, came: &[u64]) -> Vec<(u64, u64)> {
        let (begun, mut meter, mut sum) = (Instant::now(), Meter::default(), 0);
        let mut all = Vec::new();
        for (n, more) in (0_u64..).zip(came) {
            sum += more;
            let at = n * 500;
            let now = begun + Duration::from_millis(at);
            all.extend(meter.look(now, bytes(total, sum)).map(|rate| (at, rate)));
        }
        all
    }

    #[test]
    fn a_steady_line_has_one_rate_and_a_dead_one_has_none() {
        let mut came = vec![0];
        came.extend([100; 12]);
        came.extend([0; 16]);
        assert_eq!(
            told(10_000, &came),
            [
                (1000, 200),
                (3000, 200),
                (5000, 200),
                // From here on nothing comes, and the window moves on.
                (7000, 160),
                (9000, 80),
                (11_000, 0),
                (13_000, 0)
            ]
        );
    }

    #[test]
    fn what_is_over_at_once_is_not_told_and_the_whole_is_told_when_it_has_come() {
        assert_eq!(told(100, &[0, 100]), []);
        assert_eq!(
            told(400, &[0, 100, 100, 100, 100]),
            [(1000, 200), (2000, 200)]
        );
    }

    #[test]
    fn what_an_earlier_try_left_is_there_and_did_not_come_now() {
        let (begun, mut meter) = (Instant::now(), Meter::default());
        let kept = |came| Bytes {
            total: 1000,
            kept: 600,
            came,
        };
        assert_eq!(meter.look(begun, kept(0)), None);
        let rate = meter.look(begun + FIRST, kept(100));
        assert_eq!((rate, kept(100).done()), (Some(100), 700));
        assert_eq!(kept(900).done(), 1000);
        let count = Count::default();
        count.begin(1000, 600);
        count.came(300);
        count.lost(200);
        assert_eq!(count.bytes(), kept(100));
    }

    proptest! {
        #[test]
        fn however_often_it_is_looked_at_little_is_told(
            looks in prop::collection::vec((0_u64..3_000, 0_u64..1_000), 1..200),
        ) {
            let (begun, mut meter) = (Instant::now(), Meter::default());
            let total = looks.iter().map(|(_, came)| came).sum::<u64>().max(1);
            let (mut at, mut came, mut times) = (0, 0, 0);
            for (later, more) in looks {
                at += later;
                came += more;
                let now = begun + Duration::from_millis(at);
                times += u64::from(meter.look(now, bytes(total, came)).is_some());
            }
            // One for each two seconds, the first, and the one when all has come.
            prop_assert!(times <= at / 2_000 + 2, "{times} in {at} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_it_is_over_nothing_is_fetched_any_more() {
        let (to, mut told) = watch::channel(None);
        let count = Count::default();
        let slot = Slot {
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        };
        let telling = tell(&to, &slot, Digest::new([1; 32]), &count);
        let fetching = async {
            count.begin(1000, 0);
            let mut seen = Vec::new();
            while seen.len() < 3 {
                count.came(250);
                told.changed().await.unwrap();
                let (_, transfer) = told.borrow_and_update().clone().unwrap();
                seen.push(transfer.done);
            }
            seen
        };
        tokio::select! {
            never = telling => match never {},
            seen = fetching => assert_eq!(seen, [250, 500, 750]),
        }
        assert_eq!(*told.borrow(), None);
    }
}
