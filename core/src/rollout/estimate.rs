//! How long a deployment takes: at least, by its policy, and usually, by those before it. Nothing is promised: a host that
//! is away, or a person who is asked, takes as long as it takes.

use super::deployment::Deployment;
use crate::desired::Purpose;
use crate::id::ComponentName;
use crate::moment::Span;
use crate::policy::Policy;
use std::collections::BTreeSet;

/// How many of those before are looked at, the newest ones.
pub const LAST: usize = 5;

/// How long those before took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usual {
    /// The one in the middle; of an even number, the longer one.
    pub typical: Span,
    /// The shortest.
    pub shortest: Span,
    /// The longest.
    pub longest: Span,
    /// Of how many, at most [`LAST`].
    pub of: usize,
}

impl Usual {
    /// Of these, the newest first; `None`: there are none.
    pub fn of(newest_first: impl IntoIterator<Item = Span>) -> Option<Self> {
        let mut all: Vec<Span> = newest_first.into_iter().take(LAST).collect();
        all.sort_unstable();
        Some(Self {
            typical: *all.get(all.len() / 2)?,
            shortest: *all.first()?,
            longest: *all.last()?,
            of: all.len(),
        })
    }
}

/// The shortest time in which a rollout can be done, by its policy alone: each wave has so many hosts, and `total` are
/// of the target. In every wave hosts switch in turns, each turn is watched for `min_healthy`, and then the wave bakes.
/// What hosts need to fetch, stop and start comes on top.
pub fn least(policy: &Policy, total: u32, waves: &[u32]) -> Span {
    let at_once = policy.parallel_of(total).max(1);
    let wave = |hosts: &u32| {
        let turns = hosts.div_ceil(at_once);
        policy.min_healthy.0.saturating_mul(turns) + policy.bake.0
    };
    Span(waves.iter().map(wave).sum())
}

impl Deployment {
    /// The components whose release it changes, forward, in whichever pool.
    pub fn changes(&self) -> BTreeSet<&ComponentName> {
        let steps = self.steps.iter();
        let forward = steps.filter(|it| {
            !it.is_switch() && it.purpose == Purpose::Forward && it.from != it.release
        });
        forward.map(|it| &it.target.component).collect()
    }

    /// How long it took, if it went forward to its end as it was asked for. Where people had to approve it, from the last
    /// approval on; whatever else it waited for counts.
    pub fn took(&self) -> Option<Span> {
        let (ended, _) = self.ended.filter(|_| self.is_as_asked())?;
        if self.purpose == Purpose::Back {
            return None;
        }
        let given = self.approval.iter().flat_map(|it| it.given.values());
        let begun = given.map(|it| it.at).fold(self.started_at, Ord::max);
        Some(Span(ended.since(begun)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Quantity;
    use proptest::prelude::*;

    proptest! {
        /// So many hands, each at a host for `min_healthy`; a wave begins when all of the one before are done and it has
        /// baked.
        #[test]
        fn it_is_what_hosts_would_take_that_do_nothing_but_be_watched(
            at_once in 1..6u32, healthy in 0..100u64, bake in 0..1000u64,
            waves in proptest::collection::vec(1..20u32, 1..5)
        ) {
            let policy = Policy {
                max_parallel: Quantity::Hosts(at_once),
                min_healthy: Span::secs(healthy),
                bake: Span::secs(bake),
                ..Policy::default()
            };
            let mut now = 0;
            for wave in &waves {
                let mut free_at = vec![now; at_once as usize];
                for _ in 0..*wave {
                    let hand = free_at.iter_mut().min().unwrap();
                    *hand += healthy;
                }
                now = free_at.into_iter().max().unwrap() + bake;
            }
            let total = waves.iter().sum();
            prop_assert_eq!(least(&policy, total, &waves), Span::secs(now));
        }
    }

    #[test]
    fn what_is_usual_is_of_the_last_ones_alone() {
        let minutes = |all: &[u64]| Usual::of(all.iter().map(|n| Span::secs(n * 60)));
        assert_eq!(minutes(&[]), None);
        let usual = |typical: u64, shortest: u64, longest: u64, of| Usual {
            typical: Span::secs(typical * 60),
            shortest: Span::secs(shortest * 60),
            longest: Span::secs(longest * 60),
            of,
        };
        assert_eq!(minutes(&[7]), Some(usual(7, 7, 7, 1)));
        assert_eq!(minutes(&[12, 9]), Some(usual(12, 9, 12, 2)));
        assert_eq!(
            minutes(&[12, 9, 14, 10, 13, 600]),
            Some(usual(12, 9, 14, 5))
        );
    }
}
