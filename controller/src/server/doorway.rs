//! Who stands in the doorway: connections that have not said yet who they are, and strangers that were let in.
//!
//! Anybody can open connections, so places are few, and a newcomer does not wait for one: who has stood there
//! for long without getting on makes room, first of all where most come from one address. So somebody who
//! opens thousands of connections and says nothing keeps nobody out but himself.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Who has said nothing for so long may be asked to make room.
const SILENT: Duration = Duration::from_millis(250);
/// And who has begun to speak, for so long. A handshake of a fleet that comes back all at once takes a part of this.
const SPEAKING: Duration = Duration::from_secs(2);
/// How often one who waits for room looks again.
const LOOK: Duration = Duration::from_millis(50);

/// The places of half-open connections.
#[derive(Debug, Clone)]
pub(super) struct Doorway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: usize,
    standing: Mutex<Standing>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Standing {
    next: u64,
    /// In the order in which they came.
    all: BTreeMap<u64, Newcomer>,
}

#[derive(Debug)]
struct Newcomer {
    from: IpAddr,
    since: Instant,
    speaks: bool,
    away: CancellationToken,
}

/// A place in the doorway, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    doorway: Doorway,
    number: u64,
    /// Done when somebody else needs the place more.
    pub(super) away: CancellationToken,
}

/// How many connections each address has, of those that are counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of the crowd, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    crowd: Crowd,
    from: IpAddr,
}

/// What is counted as one address: of IPv6 the network, since whoever has one address there has 2^64.
pub(crate) fn one_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(it) => {
            let [a, b, c, d, ..] = it.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        it => it,
    }
}

// === impl Doorway ===

impl Doorway {
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Inner {
            places,
            standing: Mutex::default(),
            left: Notify::new(),
        }))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        let standing = self.0.standing.lock();
        standing.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more may come in: until somebody has left, or may be sent away.
    pub(super) async fn room(&self) {
        loop {
            let left = self.0.left.notified();
            if self.standing().make_room(self.0.places, Instant::now()) {
                return;
            }
            // Whoever stands there gets older, too.
            let _ = tokio::time::timeout(LOOK, left).await;
        }
    }

    /// Gives a place to a connection from there. [`Self::room`] comes first.
    pub(super) fn enter(&self, from: IpAddr) -> Place {
        let away = CancellationToken::new();
        let mut standing = self.standing();
        let number = standing.next;
        standing.next += 1;
        let newcomer = Newcomer {
            from: one_address(from),
            since: Instant::now(),
            speaks: false,
            away: away.clone(),
        };
        standing.all.insert(number, newcomer);
        drop(standing);
        Place {
            doorway: self.clone(),
            number,
            away,
        }
    }
}

impl Standing {
    /// Whether there is room, or is now.
    fn make_room(&mut self, places: usize, now: Instant) -> bool {
        if self.all.len() < places {
            return true;
        }
        let mut from: HashMap<IpAddr, usize> = HashMap::new();
        for newcomer in self.all.values() {
            *from.entry(newcomer.from).or_default() += 1;
        }
        let late = self.all.iter().filter(|(_, it)| {
            let patience = if it.speaks { SPEAKING } else { SILENT };
            now.duration_since(it.since) >= patience
        });
        // The silent before those that speak, the larger crowd before the smaller, the oldest first.
        let last = late.min_by_key(|(number, it)| {
            let crowd = from.get(&it.from).copied().unwrap_or_default();
            (it.speaks, usize::MAX - crowd, **number)
        });
        let Some(number) = last.map(|(number, _)| *number) else {
            return false;
        };
        if let Some(newcomer) = self.all.remove(&number) {
            newcomer.away.cancel();
        }
        true
    }
}

// === impl Place ===

impl Place {
    /// The first byte has come.
    pub(super) fn speaks(&self) {
        if let Some(newcomer) = self.doorway.standing().all.get_mut(&self.number) {
            newcomer.speaks = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.doorway.standing().all.remove(&self.number);
        self.doorway.0.left.notify_one();
    }
}

// === impl Crowd ===

impl Crowd {
    /// Counts one more from there, unless there are `most` already.
    pub(super) fn join(&self, from: IpAddr, most: usize) -> Option<Counted> {
        let from = one_address(from);
        let mut crowd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = crowd.entry(from).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted {
            crowd: self.clone(),
            from,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut crowd = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = crowd.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                crowd.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn comes(standing: &mut Standing, last: u8, since: Instant, speaks: bool) -> CancellationToken {
        let away = CancellationToken::new();
        let newcomer = Newcomer {
            from: address(last),
            since,
            speaks,
            away: away.clone(),
        };
        standing.all.insert(standing.next, newcomer);
        standing.next += 1;
        away
    }

    #[test]
    fn the_silent_of_the_largest_crowd_make_room_first_and_nobody_at_once() {
        let (mut standing, begun) = (Standing::default(), Instant::now());
        // Somebody who came first, a crowd of two, and one of the crowd that speaks.
        let first = [(1, false), (2, false), (2, false), (2, true)];
        let first = first.map(|(last, speaks)| comes(&mut standing, last, begun, speaks));
        assert!(standing.make_room(5, begun));
        assert!(!standing.make_room(4, begun));
        assert!(!standing.make_room(4, begun + SILENT - LOOK));
        let gone = || first.each_ref().map(CancellationToken::is_cancelled);
        assert_eq!(gone(), [false; 4]);
        for expected in [
            [false, true, false, false],
            [false, true, true, false],
            [true, true, true, false],
        ] {
            assert!(standing.make_room(4, begun + SILENT));
            assert_eq!(gone(), expected);
            // Newcomers that speak have longer.
            comes(&mut standing, 3, begun + SILENT, true);
        }
        assert!(!standing.make_room(4, begun + SILENT));
        assert!(standing.make_room(4, begun + SPEAKING));
        assert_eq!(gone(), [true; 4]);
    }

    #[tokio::test]
    async fn who_leaves_makes_room() {
        let doorway = Doorway::new(2);
        let (first, second) = (doorway.enter(address(1)), doorway.enter(address(1)));
        drop(first);
        doorway.room().await;
        assert!(!second.away.is_cancelled());
        second.speaks();
        let _third = doorway.enter(address(2));
        let waits = tokio::spawn({
            let doorway = doorway.clone();
            async move { doorway.room().await }
        });
        drop(second);
        waits.await.unwrap();
    }

    #[test]
    fn an_address_has_so_many_and_a_network_of_ipv6_is_one_address() {
        let crowd = Crowd::default();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = crowd.join(of("2001:db8::1"), 2).unwrap();
        let second = crowd.join(of("2001:db8::ffff:1"), 2).unwrap();
        assert!(crowd.join(of("2001:db8::2"), 2).is_none());
        assert!(crowd.join(of("2001:db8:0:1::1"), 2).is_some());
        drop(first);
        assert!(crowd.join(of("2001:db8::2"), 2).is_some());
        assert_eq!(one_address(of("::ffff:192.0.2.1")), address(1));
        // Who is gone is not remembered.
        drop(second);
        assert!(crowd.0.lock().unwrap().is_empty());
    }
}
