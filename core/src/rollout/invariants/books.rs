//! The witness's books of one rollout.

use super::{Broken, broken, share_of};
use crate::desired::{ActivationStatus, Purpose};
use crate::id::HostName;
use crate::moment::Moment;
use crate::policy::{OnFailure, Point, Policy, Quantity};
use crate::release::ReleaseRef;
use crate::rollout::event::Event;
use crate::rollout::plan::NewRollout;
use crate::rollout::state::{Cause, Outcome, Presence, Target};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub(super) struct Books {
    pub(super) release: Option<ReleaseRef>,
    pub(super) before: Option<ReleaseRef>,
    pub(super) purpose: Purpose,
    pub(super) policy: Policy,
    pub(super) waves: BTreeMap<HostName, u32>,
    canary: bool,
    /// The number of its waves.
    of_waves: u32,
    pub(super) wave: u32,
    /// Waves after which somebody has to let it go on, and those after which somebody did.
    points: BTreeSet<u32>,
    pub(super) promoted: BTreeSet<u32>,
    /// When it started, or granted something last.
    stirred: Moment,
    /// Hosts that are through, and when.
    pub(super) through: BTreeMap<HostName, Moment>,
    /// Hosts that this rollout failed on or gave up.
    pub(super) failures: BTreeSet<HostName>,
    /// Hosts whose switch to the release failed: none is asked twice by one rollout.
    pub(super) tried: BTreeSet<HostName>,
    /// Hosts that ran the release and were found unfit.
    pub(super) unfit: BTreeSet<HostName>,
    /// Hosts that the release was brought to.
    pub(super) moved: BTreeSet<HostName>,
    pub(super) forgiven: usize,
    pub(super) paused: bool,
    pub(super) going_back: bool,
}

impl Books {
    pub(super) fn open(before: &Target, new: &NewRollout, now: Moment) -> Self {
        let rollout = &new.rollout;
        let there = |host: &&HostName| {
            let host = &before.hosts[*host];
            // Whoever is on the way to something else may still get there.
            let leaves = host.grant.as_ref().map(|grant| &grant.release);
            host.running == rollout.release && leaves.is_none_or(|to| *to == rollout.release)
        };
        let through = new.waves.keys().filter(there);
        Self {
            release: rollout.release.clone(),
            before: before.release.clone(),
            purpose: rollout.purpose,
            policy: rollout.policy.clone(),
            canary: rollout.waves.first().is_some_and(|wave| wave.canary),
            of_waves: rollout.waves.len() as u32,
            wave: 0,
            points: points(new),
            promoted: BTreeSet::new(),
            stirred: now,
            through: through.map(|host| (host.clone(), now)).collect(),
            waves: new.waves.clone(),
            failures: BTreeSet::new(),
            tried: BTreeSet::new(),
            unfit: BTreeSet::new(),
            moved: BTreeSet::new(),
            forgiven: 0,
            paused: false,
            going_back: false,
        }
    }

    /// A removed host counts for nothing any more.
    pub(super) fn forget(&mut self, name: &HostName) {
        self.failures.remove(name);
        self.unfit.remove(name);
        self.moved.remove(name);
    }

    pub(super) fn note_answer(&mut self, name: &HostName, status: &ActivationStatus, now: Moment) {
        match status {
            ActivationStatus::Working(_) | ActivationStatus::Expired => return,
            ActivationStatus::Done => {
                self.moved.insert(name.clone());
                self.failures.remove(name);
            }
            ActivationStatus::Refused(_) => {
                self.failures.insert(name.clone());
            }
            ActivationStatus::Undone(_) => {
                self.failures.insert(name.clone());
                self.unfit.insert(name.clone());
            }
            ActivationStatus::Stuck(_) => {
                self.moved.insert(name.clone());
                self.failures.insert(name.clone());
                self.unfit.insert(name.clone());
            }
        }
        if !matches!(status, ActivationStatus::Done) {
            self.tried.insert(name.clone());
        }
        self.through.entry(name.clone()).or_insert(now);
    }

    pub(super) fn judge_grant(
        &self,
        name: &HostName,
        release: Option<&ReleaseRef>,
        purpose: Purpose,
    ) -> Result<(), Broken> {
        if self.paused {
            return broken(format!("{name} was granted a switch in a paused rollout"));
        }
        if self.going_back {
            return if release != self.before.as_ref() || purpose != Purpose::Back {
                broken(format!(
                    "{name} goes to something else than what the target ran before"
                ))
            } else if !self.moved.contains(name) {
                broken(format!("{name} goes back and had never moved"))
            } else {
                Ok(())
            };
        }
        let Some(wave) = self.waves.get(name) else {
            return broken(format!("{name} has no part in the rollout"));
        };
        if *wave > self.wave {
            return broken(format!(
                "{name} of wave {wave} was granted a switch in wave {}",
                self.wave
            ));
        }
        if release != self.release.as_ref() {
            return broken(format!(
                "{name} was granted another release than the rollout's"
            ));
        }
        if self.tried.contains(name) {
            return broken(format!(
                "{name} was granted the release again after it failed there"
            ));
        }
        if self.has_failed() {
            return broken(format!(
                "{name} was granted a switch after too many failures"
            ));
        }
        Ok(())
    }

    /// Whether more hosts have failed than may: in the canary none, and going back is stopped by nothing.
    fn has_failed(&self) -> bool {
        let counts = |host: &&HostName| self.waves.get(*host).is_some_and(|of| *of <= self.wave);
        let counted = self.failures.iter().filter(counts).count();
        let most = if self.canary && self.wave == 0 {
            0
        } else {
            share_of(self.policy.max_failures, self.waves.len())
        };
        self.purpose == Purpose::Forward && counted > most.max(self.forgiven)
    }

    /// Every host up to this wave is through, and its last ones were watched.
    pub(super) fn judge_watched(
        &self,
        before: &Target,
        wave: u32,
        now: Moment,
    ) -> Result<(), Broken> {
        let bake = match self.purpose {
            Purpose::Forward => self.policy.bake.0,
            Purpose::Back => std::time::Duration::ZERO,
        };
        let concerned = |name: &HostName, of: u32| of <= wave && before.hosts.contains_key(name);
        for (name, of) in self.waves.iter().filter(|(name, of)| concerned(name, **of)) {
            match self.through.get(name) {
                None => {
                    return broken(format!("wave {wave} was left while {name} was not through"));
                }
                Some(at) if now.since(*at) < bake && *of == wave => {
                    return broken(format!("wave {wave} was left before {name} was watched"));
                }
                Some(_) => {}
            }
        }
        if self.paused || self.going_back {
            return broken("a rollout that is paused or goes back went on");
        }
        if self.has_failed() {
            return broken("a rollout went on after too many failures");
        }
        Ok(())
    }

    pub(super) fn start_wave(
        &mut self,
        before: &Target,
        wave: u32,
        now: Moment,
    ) -> Result<(), Broken> {
        if wave != self.wave + 1 || wave >= self.of_waves {
            return broken(format!("wave {wave} followed wave {}", self.wave));
        }
        self.judge_watched(before, self.wave, now)?;
        if self.points.contains(&self.wave) && !self.promoted.contains(&self.wave) {
            return broken(format!("wave {wave} started and nobody had let it"));
        }
        self.wave = wave;
        self.stirred = now;
        Ok(())
    }

    pub(super) fn note_grant(&mut self, now: Moment) {
        self.stirred = now;
    }

    /// Nothing goes forward while more are away than may be.
    pub(super) fn judge_away(&self, before: &Target, name: &HostName) -> Result<(), Broken> {
        let Some(most) = self.policy.max_unreachable else {
            return Ok(());
        };
        let hosts = before.hosts.values();
        let away = hosts.filter(|host| host.presence != Presence::Connected);
        let (away, most) = (away.count(), share_of(most, before.hosts.len()));
        if away > most {
            return broken(format!(
                "{name} was moved forward while {away} were away, and {most} may be"
            ));
        }
        Ok(())
    }

    /// Nobody who could still get there is given up.
    pub(super) fn judge_impatience(&self, name: &HostName, now: Moment) -> Result<(), Broken> {
        if now.since(self.stirred) < self.policy.progress_deadline.0 {
            return broken(format!("{name} was given up before its time"));
        }
        Ok(())
    }

    /// A rollout fails by itself only when it has failed, and then as its policy says.
    pub(super) fn judge_failing(&self, event: &Event) -> Result<(), Broken> {
        let as_agreed = match event {
            Event::TurnedBack(Cause::Asked { .. }) => return Ok(()),
            Event::TurnedBack(_) | Event::Frozen(_) => {
                self.policy.on_failure == OnFailure::Rollback
            }
            _ => self.policy.on_failure == OnFailure::Pause,
        };
        if !as_agreed {
            return broken(format!("{event:?} is not what the policy says"));
        }
        if !self.has_failed() {
            return broken(format!("{event:?}, and no more hosts had failed than may"));
        }
        Ok(())
    }

    pub(super) fn judge_end(
        &self,
        before: &Target,
        outcome: &Outcome,
        open: bool,
        now: Moment,
    ) -> Result<(), Broken> {
        match outcome {
            Outcome::Succeeded if self.wave + 1 < self.of_waves => {
                broken("it succeeded before its last wave")
            }
            Outcome::Succeeded => self.judge_watched(before, self.wave, now),
            Outcome::RolledBack(_) => {
                let left = self.moved.iter().find(|name| {
                    before
                        .hosts
                        .get(*name)
                        .is_some_and(|host| host.running != self.before)
                });
                match left {
                    Some(name) => broken(format!("it went back, it says, and {name} has not")),
                    None if open => broken("it went back, it says, and a host may still switch"),
                    None => Ok(()),
                }
            }
            Outcome::NotRolledBack(_) | Outcome::Aborted { .. } => Ok(()),
        }
    }
}

/// The waves after which the policy wants a person to decide: counted off host by host, for a step may be reached by the
/// wave of an earlier one.
fn points(new: &NewRollout) -> BTreeSet<u32> {
    let policy = &new.rollout.policy;
    let total = new.waves.len();
    if new.rollout.purpose == Purpose::Back {
        return BTreeSet::new();
    }
    let mut order: Vec<u32> = new.waves.values().copied().collect();
    order.sort_unstable();
    let last = order.last().copied();
    let at = policy.approval.iter().filter_map(|point| {
        let hosts = match point {
            Point::Canary => policy.canary?,
            Point::Reached(step) => *step,
        };
        let reached = (1..=total).find(|n| match hosts {
            Quantity::Hosts(hosts) => *n == total.min((hosts as usize).max(1)),
            Quantity::Percent(percent) => n * 100 >= total * usize::from(percent),
        });
        order.get(reached? - 1).copied()
    });
    at.filter(|wave| Some(*wave) != last).collect()
}
