//! How often one address may offer tokens that are of no use. A secret of 32 random bytes is not guessed anyway;
//! whoever tries all the same is slow, and cannot keep the controller busy with it.

use std::collections::HashMap;
use std::net::IpAddr;
use tamer_core::moment::{Moment, Span};

/// So many tokens of no use may an address offer within [`WINDOW`].
pub const MOST: u32 = 10;
/// Counted from the first of them.
pub const WINDOW: Span = Span::secs(60);
/// So many addresses are remembered at once. With more than that the newest are not: the places of strangers are few
/// in any case.
const ADDRESSES: usize = 10_000;

/// What was tried lately.
#[derive(Debug, Default)]
pub struct Attempts(HashMap<IpAddr, Failed>);

#[derive(Debug)]
struct Failed {
    first: Moment,
    times: u32,
}

impl Failed {
    fn counts(&self, now: Moment) -> bool {
        // A clock that was set back ends nobody's window later than it would have been.
        self.first <= now && now < self.first + WINDOW
    }
}

impl Attempts {
    /// Whether this address may offer a token now.
    ///
    /// # Errors
    /// It has to wait so long.
    pub fn may(&self, from: IpAddr, now: Moment) -> Result<(), Span> {
        match self.0.get(&from) {
            Some(it) if it.times >= MOST && it.counts(now) => {
                let over = it.first + WINDOW;
                Err(Span::millis(over.0.saturating_sub(now.0)))
            }
            _ => Ok(()),
        }
    }

    /// Takes in that it offered one of no use.
    pub fn failed(&mut self, from: IpAddr, now: Moment) {
        self.0.retain(|_, it| it.counts(now));
        if self.0.len() < ADDRESSES || self.0.contains_key(&from) {
            let first = || Failed {
                first: now,
                times: 0,
            };
            self.0.entry(from).or_insert_with(first).times += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 1_795_000_000_000;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(n).into()
    }

    #[test]
    fn who_guesses_waits_and_nobody_else_does() {
        let mut attempts = Attempts::default();
        let at = |millis: u64| Moment(BASE + millis);
        for n in 0..u64::from(MOST) {
            attempts.may(address(1), at(n)).unwrap();
            attempts.failed(address(1), at(n));
        }
        let wait = attempts.may(address(1), at(1000)).unwrap_err();
        assert_eq!(wait, Span::secs(59));
        attempts.may(address(2), at(1000)).unwrap();
        attempts.may(address(1), at(60_000)).unwrap();
        // From then on all of it begins anew, and what is over is forgotten.
        attempts.failed(address(2), at(60_000));
        assert_eq!(attempts.0.len(), 1);
        attempts.may(address(1), at(60_001)).unwrap();
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut attempts = Attempts::default();
        for n in 0..20_000 {
            attempts.failed(address(n), Moment(BASE));
        }
        assert_eq!(attempts.0.len(), ADDRESSES);
        attempts.failed(address(0), Moment(BASE));
        assert_eq!(attempts.0[&address(0)].times, 2);
    }
}
