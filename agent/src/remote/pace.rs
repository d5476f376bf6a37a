//! How fast archives are fetched, and how hosts that begin at once keep out of each other's way.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A transfer of fewer bytes begins at once: that is what updates are, and most first releases. The wait would
/// take as long as they do.
const SMALL: u64 = 32 << 20;

/// The wait before a larger one grows with what is beyond that, up to so much for each MiB.
const PER_MIB: Duration = Duration::from_millis(20);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(3);

/// How long to wait before so many bytes are fetched, so that hosts that were told at once do not ask at once.
/// `random` is between 0 and 1.
pub(super) fn jitter(bytes: u64, random: f64) -> Duration {
    let mibs = u32::try_from(bytes.saturating_sub(SMALL) >> 20).unwrap_or(u32::MAX);
    let most = PER_MIB.saturating_mul(mibs).min(LONGEST);
    most.mul_f64(random.clamp(0.0, 1.0))
}

/// The limit of all transfers of this host together.
#[derive(Debug, Default)]
pub struct Pace {
    /// Bytes a second; none: as fast as they come.
    limit: Option<NonZeroU64>,
    /// When all that came so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most so many bytes a second, over any time that is long against a second.
    pub fn new(limit: Option<NonZeroU64>) -> Self {
        Self {
            limit,
            paid: Mutex::default(),
        }
    }

    /// So many bytes came: waits until as many more may.
    pub(super) async fn spent(&self, bytes: u64) {
        let Some(limit) = self.limit else {
            return;
        };
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let until = paid_for(*paid, Instant::now(), bytes, limit);
            *paid = Some(until);
            until
        };
        tokio::time::sleep_until(until).await;
    }
}

/// When `bytes` more are paid for, if all before were at `paid`. Time in which nothing was fetched is not saved up.
fn paid_for(paid: Option<Instant>, now: Instant, bytes: u64, limit: NonZeroU64) -> Instant {
    let from = paid.map_or(now, |paid| paid.max(now));
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(limit.get());
    from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn so_many_bytes_never_take_less_time(
            chunks in prop::collection::vec((1_u64..1_000_000, 0_u64..3_000), 1..40),
            limit in 1_u64..10_000_000,
        ) {
            let limit = NonZeroU64::new(limit).unwrap();
            let begin = Instant::now();
            let (mut now, mut paid, mut all) = (begin, None, 0);
            for (bytes, idle) in chunks {
                now += Duration::from_millis(idle);
                let until = paid_for(paid, now, bytes, limit);
                paid = Some(until);
                now = now.max(until);
                all += bytes;
            }
            let least = all as f64 / limit.get() as f64;
            prop_assert!((now - begin).as_secs_f64() >= least * 0.999 - 1e-6);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn several_transfers_share_the_limit() {
        let pace = Pace::new(NonZeroU64::new(1000));
        let begin = Instant::now();
        tokio::join!(pace.spent(2000), pace.spent(3000));
        assert_eq!(begin.elapsed().as_secs(), 5);
        Pace::default().spent(u64::MAX).await;
        assert_eq!(begin.elapsed().as_secs(), 5);
    }

    #[test]
    fn only_large_transfers_wait_and_none_for_long() {
        assert_eq!(jitter(32 << 20, 1.0), Duration::ZERO);
        assert_eq!(jitter(42 << 20, 0.5), Duration::from_millis(100));
        assert_eq!(jitter(u64::MAX, 1.0), Duration::from_secs(3));
    }
}
