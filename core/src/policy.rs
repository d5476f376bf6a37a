//! How carefully an environment is changed. A policy is data, and is validated when it is read:
//! one that can never finish, or lets every host be down at once without saying so, is refused.

mod point;
mod quantity;

pub use point::Point;
pub use quantity::Quantity;

use crate::moment::Span;
use crate::selector::is_label;
use serde::{Deserialize, Serialize};

/// What happens when a rollout has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Every host that had moved goes back.
    #[default]
    Rollback,
    /// The rollout pauses and waits for a person.
    Pause,
}

/// What a release that was changed by hand on a server means for the next one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDrift {
    /// The next release is refused there until somebody repairs or adopts the drift.
    #[default]
    Block,
    /// It is named, and overwritten.
    Warn,
}

/// The policy of an environment, or of one component in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The first wave: how many hosts try the release first. Absent: no canary. At least one host.
    pub canary: Option<Quantity>,
    /// The waves after the canary, each as the number of hosts reached when it is done; the last is `"100%"`.
    pub steps: Vec<Quantity>,
    /// A label of hosts: no wave but the canary has hosts with two values of it, and one value comes after the other.
    pub by: Option<String>,
    /// How many hosts of a component may be out of service at once, hosts already down counted in;
    /// rounded down, at least one.
    pub max_parallel: Quantity,
    /// How many hosts may fetch and unpack a release at once, ahead of their turn: none of them is out of
    /// service meanwhile. Rounded down, at least one.
    pub max_staging: Quantity,
    /// Must be said where `max_parallel` lets every host be down at once.
    pub all_at_once: bool,
    /// How many hosts of a component may be away: with more, no rollout starts, and one that runs moves nobody forward.
    /// Rounded down. Absent: any number.
    pub max_unreachable: Option<Quantity>,
    /// How many hosts may fail before the rollout has failed; in the canary none.
    pub max_failures: Quantity,
    /// How long a host's checks must hold, and its unit stay up, without a break after the switch.
    pub min_healthy: Span,
    /// How long a host may take from the switch until its checks have held for `min_healthy`.
    pub healthy_deadline: Span,
    /// How long a wave may go without a host of it getting anywhere.
    pub progress_deadline: Span,
    /// How long each wave is watched before the next one starts.
    pub bake: Span,
    /// The waves after which a person must let the rollout go on (`tamer promote`): `"canary"`, or one of `steps`.
    pub approval: Vec<Point>,
    /// What happens when the rollout has failed.
    pub on_failure: OnFailure,
    /// What a release that was changed by hand on a server means for the next one there.
    pub on_drift: OnDrift,
}

impl Default for Policy {
    /// Careful without being asked: one canary host, a quarter at a time, no failure allowed, back on failure.
    fn default() -> Self {
        Self {
            canary: None,
            steps: vec![Quantity::Percent(100)],
            by: None,
            max_parallel: Quantity::Percent(25),
            // More fill the controller's line, and none of them is done sooner.
            max_staging: Quantity::Hosts(20),
            all_at_once: false,
            max_unreachable: None,
            max_failures: Quantity::Hosts(0),
            min_healthy: Span::secs(10),
            healthy_deadline: Span::secs(300),
            progress_deadline: Span::secs(600),
            bake: Span::secs(0),
            approval: vec![],
            on_failure: OnFailure::Rollback,
            on_drift: OnDrift::Block,
        }
    }
}

/// Why a policy was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy: {reason}")]
pub struct BadPolicy {
    /// The key of `[policy]` that it is about.
    pub key: &'static str,
    /// Why, and what to write instead.
    pub reason: &'static str,
}

impl Policy {
    /// Refuses a policy that can never finish or that hides a risk.
    ///
    /// # Errors
    /// [`BadPolicy`] with the reason and what to write instead.
    pub fn validate(&self) -> Result<(), BadPolicy> {
        let refuse = |key, reason| Err(BadPolicy { key, reason });
        if self.canary.is_some_and(Quantity::is_zero) {
            return refuse(
                "canary",
                "`canary` is 0, so no host would try the release first: leave it out, or write 1",
            );
        }
        if self.max_parallel.is_zero() {
            return refuse(
                "max_parallel",
                "`max_parallel` is 0, so no host could ever be changed: write 1 or more",
            );
        }
        if self.max_staging.is_zero() {
            return refuse(
                "max_staging",
                "`max_staging` is 0, so no host could ever fetch a release: write 1 or more",
            );
        }
        if self.max_parallel == Quantity::Percent(100) && !self.all_at_once {
            return refuse(
                "max_parallel",
                "`max_parallel = \"100%\"` lets every host be down at once: if that is meant, say `all_at_once = true`",
            );
        }
        if self.steps.last() != Some(&Quantity::Percent(100)) {
            return refuse(
                "steps",
                "the last of `steps` must be \"100%\", or the rollout would never reach every host",
            );
        }
        if self.by.as_deref().is_some_and(|by| !is_label(by)) {
            return refuse(
                "by",
                "`by` names a label of hosts, like \"zone\": letters, digits, `-`, `_` and `.`",
            );
        }
        if self.steps.iter().any(|step| step.is_zero()) {
            return refuse("steps", "a step of 0 hosts reaches nobody: leave it out");
        }
        let percents: Vec<u8> = self
            .steps
            .iter()
            .filter_map(|step| match step {
                Quantity::Percent(percent) => Some(*percent),
                Quantity::Hosts(_) => None,
            })
            .collect();
        if !percents.is_sorted_by(|a, b| a < b) {
            return refuse(
                "steps",
                "`steps` must rise: each says how many hosts are reached when it is done",
            );
        }
        if self.healthy_deadline <= self.min_healthy {
            return refuse(
                "healthy_deadline",
                "`healthy_deadline` must be longer than `min_healthy`, or no host could ever pass",
            );
        }
        if self.progress_deadline < self.healthy_deadline {
            return refuse(
                "progress_deadline",
                "`progress_deadline` must be at least `healthy_deadline`, or a slow host would be given up while it may still pass",
            );
        }
        self.validate_points()
    }

    fn validate_points(&self) -> Result<(), BadPolicy> {
        let refuse = |reason| {
            Err(BadPolicy {
                key: "approval",
                reason,
            })
        };
        for point in &self.approval {
            match point {
                Point::Canary if self.canary.is_none() => {
                    return refuse(
                        "`approval` names the canary, and there is none: write `canary = 1`",
                    );
                }
                Point::Reached(Quantity::Percent(100)) => {
                    return refuse(
                        "`approval` names \"100%\", after which nothing is left to approve",
                    );
                }
                Point::Reached(step) if !self.steps.contains(step) => {
                    return refuse("a point of `approval` is \"canary\" or one of `steps`");
                }
                Point::Canary | Point::Reached(_) => {}
            }
        }
        Ok(())
    }

    /// How many hosts are reached at each point of approval.
    pub fn points(&self, total: u32) -> Vec<u32> {
        let points = self.approval.iter().map(|point| match point {
            Point::Canary => self
                .canary
                .map_or(0, |canary| canary.rounded_up(total).max(1)),
            Point::Reached(step) => step.rounded_up(total),
        });
        points.collect()
    }

    /// How many of `total` hosts may be out of service at once: at least one, or nothing would move.
    pub fn parallel_of(&self, total: u32) -> u32 {
        self.max_parallel.rounded_down(total).max(1)
    }

    /// How many of `total` hosts may fetch a release at once: at least one, or nothing would move.
    pub fn staging_of(&self, total: u32) -> u32 {
        self.max_staging.rounded_down(total).max(1)
    }

    /// The size of each wave over `total` hosts; the sum is `total`, no wave is empty.
    pub fn wave_sizes(&self, total: u32) -> Vec<u32> {
        let canary = self.canary.map(|canary| canary.rounded_up(total).max(1));
        let mut reached = 0;
        let mut sizes = Vec::new();
        for goal in canary
            .into_iter()
            .chain(self.steps.iter().map(|step| step.rounded_up(total)))
        {
            if goal > reached && goal <= total {
                sizes.push(goal - reached);
                reached = goal;
            }
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        crate::text::parse("policy", text).unwrap()
    }

    #[test]
    fn waves_reach_every_host_once() {
        let careful = policy("canary = \"5%\"\nsteps = [\"25%\", \"100%\"]");
        assert_eq!(careful.wave_sizes(40), [2, 8, 30]);
        assert_eq!(careful.wave_sizes(1), [1]);
        assert_eq!(careful.wave_sizes(2), [1, 1]);
        assert_eq!(careful.wave_sizes(0), Vec::<u32>::new());
        assert_eq!(Policy::default().wave_sizes(7), [7]);
    }

    #[test]
    fn budgets_round_down_and_waves_round_up() {
        assert_eq!(Quantity::Percent(20).rounded_down(9), 1);
        assert_eq!(Quantity::Percent(20).rounded_up(9), 2);
        assert_eq!(policy("max_parallel = \"20%\"").parallel_of(3), 1);
    }

    #[test]
    fn impossible_policies_are_refused_with_the_reason() {
        for (text, word) in [
            ("canary = 0", "canary"),
            ("max_parallel = 0", "max_parallel"),
            ("max_staging = \"0%\"", "max_staging"),
            ("max_parallel = \"100%\"", "all_at_once"),
            ("steps = [\"50%\"]", "100%"),
            ("steps = []", "100%"),
            ("steps = [\"50%\", \"20%\", \"100%\"]", "rise"),
            ("min_healthy = \"5m\"", "healthy_deadline"),
            ("progress_deadline = \"1m\"", "progress_deadline"),
            ("by = \"zone=a\"", "like \"zone\""),
            ("approval = [\"canary\"]", "canary = 1"),
            ("approval = [\"100%\"]", "nothing is left"),
            ("approval = [\"50%\"]", "one of `steps`"),
        ] {
            let said = policy(text).validate().unwrap_err().to_string();
            assert!(said.contains(word), "{text}: {said}");
        }
        assert_eq!(
            policy("max_parallel = \"100%\"\nall_at_once = true").validate(),
            Ok(())
        );
    }
}
