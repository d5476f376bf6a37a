//! Whether a deployment is possible over the database as it is, in what order, and how far back is safe
//! from there.
//!
//! The rule is one: at every moment everything that runs works with the version that the database has.
//! A host that is away runs what it ran, for as long as nobody knows better; so it counts like the others,
//! and nothing replaces its release.

use super::range::VersionRange;
use super::spec::SchemaSpec;
use crate::id::{ComponentName, HostName, SchemaName};
use crate::release::ReleaseRef;
use std::collections::BTreeMap;
use std::fmt;

/// A release of a component, and what it works with; `None`: nothing is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The component.
    pub component: ComponentName,
    /// The release.
    pub release: ReleaseRef,
    /// The versions of the database that it works with.
    pub range: Option<VersionRange>,
}

/// A release that runs on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// The host.
    pub host: HostName,
    /// What runs there.
    pub needs: Needs,
    /// Whether no rollout replaces it: the host is away or held.
    pub stays: bool,
}

/// What is asked before a deployment, of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Which database.
    pub schema: SchemaName,
    /// The version that it has.
    pub now: u64,
    /// The version that the deployment brings it to, and the number of the rollout whose release
    /// carries the programs; `None` where no rollout of it carries them.
    pub target: Option<(u64, usize)>,
    /// The rollouts, in order.
    pub rollouts: Vec<Needs>,
    /// Everything that runs.
    pub running: Vec<Runs>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In front of which rollout the database is brought up; `None`: it stays as it is.
    pub up_before: Option<usize>,
    /// What stands in the way; empty: the deployment is possible.
    pub obstacles: Vec<Obstacle>,
}

/// What stands in the way of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Which database.
    pub schema: SchemaName,
    /// The version that it has, or will have.
    pub version: u64,
    /// The release that does not work with it, or of which nothing is known.
    pub needs: Needs,
    /// Where it runs; empty: it is to be deployed.
    pub hosts: Vec<HostName>,
    /// Whether it runs there until its host comes back.
    pub stays: bool,
}

/// How far back is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Every former release down to this one works with the database.
    To(ReleaseRef),
    /// The release before does not.
    Nowhere(Needs),
    /// There is no former release.
    Nothing,
}

/// What going back needs of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// Nothing: everything works with it as it is.
    Nothing,
    /// It must be brought down to this version first.
    Down(u64),
    /// It is not possible.
    Impossible(String),
}

// === impl Question ===

impl Question {
    /// Whether the deployment is possible, and where in it the database is brought up: as late as can be,
    /// for as long as the database stays as it is, everything before works.
    pub fn answer(&self) -> Answer {
        let (target, carrier) = match self.target {
            Some((target, carrier)) if target > self.now => (target, carrier),
            _ => {
                return Answer {
                    up_before: None,
                    obstacles: self.without_migration(),
                };
            }
        };
        let possible = (0..=carrier)
            .rev()
            .find(|before| self.obstacles(*before, target).is_empty());
        // Where nothing is possible, what stands in the way of the place that people would choose.
        let before = possible.unwrap_or_else(|| {
            let needs_it = |needs: &Needs| !works(needs, self.now);
            let first = self.rollouts.iter().position(needs_it);
            first.map_or(carrier, |first| first.min(carrier))
        });
        Answer {
            up_before: Some(before),
            obstacles: self.obstacles(before, target),
        }
    }

    fn without_migration(&self) -> Vec<Obstacle> {
        let unfit = self.rollouts.iter().filter(|needs| !works(needs, self.now));
        unfit
            .map(|needs| self.obstacle(needs, self.now, None, false))
            .collect()
    }

    /// What stands in the way of bringing the database up in front of the rollout number `before`.
    fn obstacles(&self, before: usize, target: u64) -> Vec<Obstacle> {
        let mut found = Vec::new();
        for (number, needs) in self.rollouts.iter().enumerate() {
            if number < before && !works(needs, self.now) {
                found.push(self.obstacle(needs, self.now, None, false));
            } else if !works(needs, target) {
                found.push(self.obstacle(needs, target, None, false));
            }
        }
        let replaced = |runs: &Runs| {
            let earlier = &self.rollouts[..before];
            let rollout = earlier
                .iter()
                .any(|it| it.component == runs.needs.component);
            rollout && !runs.stays
        };
        let mut unfit: BTreeMap<(&ComponentName, &ReleaseRef, bool), Obstacle> = BTreeMap::new();
        for runs in &self.running {
            if works(&runs.needs, target) || replaced(runs) {
                continue;
            }
            unfit
                .entry((&runs.needs.component, &runs.needs.release, runs.stays))
                .or_insert_with(|| self.obstacle(&runs.needs, target, None, runs.stays))
                .hosts
                .push(runs.host.clone());
        }
        found.extend(unfit.into_values());
        found
    }

    fn obstacle(
        &self,
        needs: &Needs,
        version: u64,
        host: Option<&HostName>,
        stays: bool,
    ) -> Obstacle {
        Obstacle {
            schema: self.schema.clone(),
            version,
            needs: needs.clone(),
            hosts: host.into_iter().cloned().collect(),
            stays,
        }
    }
}

/// Whether a release is known to work with a version.
fn works(needs: &Needs, version: u64) -> bool {
    needs.range.is_some_and(|range| range.contains(version))
}

// === impl Obstacle ===

impl Obstacle {
    /// Whether a person may decide to go on all the same: what runs will not work until it is replaced,
    /// and nothing leads back. What never will work, or is not known, nobody may decide.
    pub fn may_be_crossed(&self) -> bool {
        !self.hosts.is_empty() && !self.stays && self.needs.range.is_some()
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            schema, version, ..
        } = self;
        let Needs {
            component, release, ..
        } = &self.needs;
        let what = format!("{component} {}", release.version);
        match self.needs.range {
            None => write!(f, "nothing is known of what {what} works with")?,
            Some(range) => write!(f, "{what} works with {schema} {range}, not with {version}")?,
        }
        let hosts: Vec<_> = self.hosts.iter().take(3).map(HostName::as_str).collect();
        let more = match self.hosts.len() {
            0..=3 => String::new(),
            n => format!(" and {} more", n - 3),
        };
        let hosts = format!("{}{more}", hosts.join(", "));
        if self.hosts.is_empty() {
            Ok(())
        } else if self.stays {
            write!(
                f,
                ", and is on {hosts}, which cannot be moved: bring it back, or `tamer host remove` it"
            )
        } else {
            write!(
                f,
                ", and runs on {hosts} until it is replaced: first deploy a {component} that works with {version} as well"
            )
        }
    }
}

/// How far back is safe for a component while the database has `version`. `former` are the releases that
/// may come back, the newest first.
pub fn reach<'a>(version: u64, former: impl IntoIterator<Item = &'a Needs>) -> Reach {
    let mut reach = Reach::Nothing;
    for needs in former {
        if !works(needs, version) {
            return match reach {
                Reach::Nothing => Reach::Nowhere(needs.clone()),
                reach => reach,
            };
        }
        reach = Reach::To(needs.release.clone());
    }
    reach
}

/// What going back needs: `afterwards` is everything that will run then, `programs` the database as the
/// release describes it that is to bring it down.
pub fn back(
    schema: &SchemaName,
    now: u64,
    afterwards: &[Needs],
    programs: Option<&SchemaSpec>,
) -> Back {
    let mut common = VersionRange::ALL;
    let mut unfit = Vec::new();
    for needs in afterwards {
        let what = format!("{} {}", needs.component, needs.release.version);
        let Some(range) = needs.range else {
            return Back::Impossible(format!("nothing is known of what {what} works with"));
        };
        if !range.contains(now) {
            unfit.push(format!("{what} works with {schema} {range}"));
        }
        match common.and(range) {
            Some(both) => common = both,
            None => {
                return Back::Impossible(format!(
                    "no version of {schema} suits all of it: {what} works with {range}, the rest with {common}"
                ));
            }
        }
    }
    if unfit.is_empty() {
        return Back::Nothing;
    }
    let why = format!("{}, and the database has {now}", unfit.join(", "));
    let Some(to) = common.highest_up_to(now) else {
        return Back::Impossible(format!("{why}: it would have to go up, not down"));
    };
    let no_way = match programs {
        None => Some("no release on a host that can be reached carries the programs".to_owned()),
        Some(spec) => spec.no_way_down(now, to),
    };
    match no_way {
        Some(no_way) => Back::Impossible(format!("{why}: {no_way}")),
        None => Back::Down(to),
    }
}
