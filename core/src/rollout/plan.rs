//! Plans: which hosts, in which waves. Made once, when a rollout starts, and immutable from then on.

use super::state::{Rollout, RolloutId, Stage, Target, Wave};
use crate::desired::Purpose;
use crate::id::HostName;
use crate::moment::Moment;
use crate::policy::{Policy, Quantity};
use crate::release::ReleaseRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rollout that is about to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRollout {
    /// The rollout, at its first wave.
    pub rollout: Rollout,
    /// The wave of each host that takes part.
    pub waves: BTreeMap<HostName, u32>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// The target has no hosts.
    #[error("no host is placed there")]
    NoHosts,
    /// It has hosts, and none can be reached.
    #[error("none of its {0} hosts can be reached or is free to move")]
    NoneReachable(usize),
    /// More are away than the policy allows.
    #[error("{} away, and the policy's `max_unreachable` allows {allowed}: {}", .away.len(), named(.away))]
    TooManyAway {
        /// Those that are.
        away: Vec<HostName>,
        /// How many may be.
        allowed: u32,
    },
}

/// How many hosts are named before only their number is said.
const NAMED: usize = 5;

fn named(hosts: &[HostName]) -> String {
    let names: Vec<_> = hosts.iter().take(NAMED).map(ToString::to_string).collect();
    match hosts.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

impl Target {
    /// Plans to bring `release` to every host that can be reached; the healthy ones first, then by name. See
    /// [`Target::plan_by`]; here no host has labels.
    ///
    /// # Errors
    /// [`NoPlan`] when nothing could be done.
    pub fn plan(
        &self,
        id: RolloutId,
        release: Option<ReleaseRef>,
        purpose: Purpose,
        at: Moment,
    ) -> Result<NewRollout, NoPlan> {
        self.plan_by(&BTreeMap::new(), id, release, purpose, at)
    }

    /// The same, where these hosts have these values of the label that the policy divides hosts by. One value comes after
    /// the other, in their own order, and hosts without the label last; every wave but the canary ends where a value
    /// does. The canary is a few hosts that allow no failure: it takes the first ones, whatever their values.
    ///
    /// Hosts that are away or held are left out: they follow when they are back. Going back has one
    /// wave, no canary and no bake.
    ///
    /// # Errors
    /// [`NoPlan`] when nothing could be done.
    pub fn plan_by(
        &self,
        values: &BTreeMap<HostName, String>,
        id: RolloutId,
        release: Option<ReleaseRef>,
        purpose: Purpose,
        at: Moment,
    ) -> Result<NewRollout, NoPlan> {
        if self.hosts.is_empty() {
            return Err(NoPlan::NoHosts);
        }
        let (taking_part, left_out): (Vec<_>, Vec<_>) = self
            .hosts
            .iter()
            .partition(|(_, host)| host.is_connected() && host.known && host.hold.is_none());
        if taking_part.is_empty() {
            return Err(NoPlan::NoneReachable(self.hosts.len()));
        }
        if let Some((away, allowed)) = self.too_many_away(&self.policy)
            && purpose == Purpose::Forward
        {
            return Err(NoPlan::TooManyAway { away, allowed });
        }
        let mut order: Vec<&HostName> = taking_part.iter().map(|(name, _)| *name).collect();
        order.sort_by_key(|name| {
            let value = values.get(*name);
            let ill = self.hosts[*name].unhealthy.is_some();
            (value.is_none(), value, ill, (*name).clone())
        });
        let mut waves = waves(&self.policy, purpose, order.len() as u32);
        if let Some(by) = self
            .policy
            .by
            .as_deref()
            .filter(|_| purpose == Purpose::Forward)
        {
            let values: Vec<_> = order.iter().map(|name| values.get(*name)).collect();
            waves = cut(waves, by, &values);
        }
        let mut of_host = BTreeMap::new();
        let mut hosts = order.into_iter();
        for (number, (_, size)) in waves.iter().enumerate() {
            for name in hosts.by_ref().take(*size as usize) {
                of_host.insert(name.clone(), number as u32);
            }
        }
        Ok(NewRollout {
            rollout: Rollout {
                id,
                release,
                from: self.release.clone(),
                purpose,
                policy: self.policy.clone(),
                waves: waves.into_iter().map(|(wave, _)| wave).collect(),
                total: of_host.len() as u32,
                left_out: left_out.len() as u32,
                stage: Stage::Rolling { wave: 0 },
                awaits: None,
                paused: None,
                promoted: None,
                forgiven: 0,
                progress_at: at,
                started_at: at,
            },
            waves: of_host,
        })
    }
}

impl Target {
    /// The hosts that are away, and how many may be, where that is more than a policy allows.
    pub(super) fn too_many_away(&self, policy: &Policy) -> Option<(Vec<HostName>, u32)> {
        let allowed = policy
            .max_unreachable?
            .rounded_down(self.hosts.len() as u32);
        let away = self.hosts.iter().filter(|(_, host)| !host.is_connected());
        let away: Vec<HostName> = away.map(|(name, _)| name.clone()).collect();
        (away.len() as u32 > allowed).then_some((away, allowed))
    }
}

fn waves(policy: &Policy, purpose: Purpose, total: u32) -> Vec<(Wave, u32)> {
    if purpose == Purpose::Back {
        return vec![(
            Wave {
                name: "all".to_owned(),
                canary: false,
                point: false,
            },
            total,
        )];
    }
    let sizes = policy.wave_sizes(total);
    let points = policy.points(total);
    let mut reached = 0;
    let last = sizes.len().saturating_sub(1);
    sizes
        .into_iter()
        .enumerate()
        .map(|(number, size)| {
            let before = reached;
            reached += size;
            // A step that an earlier wave has reached already has no wave of its own.
            let at = |it: &u32| before < *it && *it <= reached;
            let point = number != last && points.iter().any(at);
            let canary = number == 0 && policy.canary.is_some();
            let name = if canary {
                "canary".to_owned()
            } else if number == last {
                Quantity::Percent(100).to_string()
            } else {
                Quantity::Percent((u64::from(reached) * 100 / u64::from(total)) as u8).to_string()
            };
            (
                Wave {
                    name,
                    canary,
                    point,
                },
                size,
            )
        })
        .collect()
}

/// Waves, each ended where the next host has another value of the label; the last piece of one is its point of approval.
fn cut(waves: Vec<(Wave, u32)>, by: &str, values: &[Option<&String>]) -> Vec<(Wave, u32)> {
    let mut pieces = Vec::new();
    let mut rest = values;
    for (wave, size) in waves {
        let (here, after) = rest.split_at(rest.len().min(size as usize));
        rest = after;
        if wave.canary {
            pieces.push((wave, size));
            continue;
        }
        let mut same = here.chunk_by(|one, next| one == next).peekable();
        while let Some(piece) = same.next() {
            let value = match piece {
                [Some(value), ..] => format!("{by}={value}"),
                _ => format!("without {by}"),
            };
            let wave = Wave {
                name: format!("{} {value}", wave.name),
                point: wave.point && same.peek().is_none(),
                ..wave
            };
            pieces.push((wave, piece.len() as u32));
        }
    }
    pieces
}
