//! What an environment deploys next by itself, or why it does not.

use super::{Auto, Standing};
use crate::moment::{Moment, Span};
use crate::version::Version;
use std::collections::BTreeSet;

/// All that the decision is made from, of one application.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What the environment file says.
    pub auto: &'a Auto,
    /// The versions that are published and live.
    pub published: &'a BTreeSet<Version>,
    /// What is remembered of the environment that is followed; `None`: nothing, or none is.
    pub followed: Option<&'a Standing>,
    /// What is remembered here.
    pub here: &'a Standing,
    /// The newest version of which something is to run here; `None`: nothing is.
    pub runs: Option<&'a Version>,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This version is deployed.
    Begin(Version),
    /// Nothing is.
    Wait(Waiting),
}

/// Why nothing is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// There is nothing newer.
    Nothing,
    /// A version has not stood long enough.
    Bakes {
        /// Which one.
        version: Version,
        /// Until when.
        until: Moment,
    },
    /// A version stands and does not count as it is; once that is settled, its bake begins anew.
    Troubled {
        /// Which one.
        version: Version,
        /// Why.
        why: String,
        /// How long it bakes then.
        bake: Span,
    },
    /// What there is was given up here.
    GivenUp {
        /// Which version.
        version: Version,
        /// Why.
        why: String,
    },
    /// The next version would bring more than is wanted at once.
    TooMany {
        /// Which one.
        version: Version,
        /// How many published versions' changes it brings.
        releases: usize,
        /// How many are wanted at most.
        most: u32,
    },
}

impl Question<'_> {
    /// What happens next. A version begins only if it is published, newer than what runs, not given up here, has stood
    /// for the bake where one is followed, and brings no more published versions' changes than are wanted.
    pub fn answer(&self, now: Moment) -> Decision {
        let bake = self.auto.bake();
        let accepted: BTreeSet<&Version> = match (&self.auto.from, self.followed) {
            (Some(_), Some(followed)) => followed.accepted(bake, now).collect(),
            (Some(_), None) => BTreeSet::new(),
            (None, _) => self.published.iter().collect(),
        };
        let news = accepted.into_iter().filter(|version| self.is_news(version));
        let (fit, past): (Vec<_>, Vec<_>) = news.partition(|version| self.here.lets(version));
        if let Some(first) = fit.first() {
            let few = |version: &&Version| {
                let releases = self.releases_to(version);
                let most = self.auto.max_releases_at_once;
                most.is_none_or(|most| releases <= most as usize)
            };
            // Where nothing runs there is no change that could be too large.
            let next = fit.iter().rev().find(|it| self.runs.is_none() || few(it));
            return match (next, self.auto.max_releases_at_once) {
                (Some(next), _) => Decision::Begin((**next).clone()),
                (None, most) => Decision::Wait(Waiting::TooMany {
                    version: (*first).clone(),
                    releases: self.releases_to(first),
                    most: most.unwrap_or_default(),
                }),
            };
        }
        let baking = self.followed.and_then(|followed| self.baking(followed));
        let past = past.last().map(|version| Waiting::GivenUp {
            version: (*version).clone(),
            why: self.why_given_up(version),
        });
        Decision::Wait(baking.or(past).unwrap_or(Waiting::Nothing))
    }

    /// What stands where one is followed and would come here once its bake is over.
    fn baking(&self, followed: &Standing) -> Option<Waiting> {
        let version = followed.stands.clone()?;
        if !self.is_news(&version) || !self.here.lets(&version) {
            return None;
        }
        let bake = self.auto.bake();
        if let Some(why) = followed.trouble.clone() {
            return Some(Waiting::Troubled { version, why, bake });
        }
        let until = followed.since()? + bake;
        Some(Waiting::Bakes { version, until })
    }

    /// Up to which version this is done here.
    fn level(&self) -> Option<&Version> {
        self.runs.max(self.here.level.as_ref())
    }

    /// Whether a version is live, and newer than what runs here.
    fn is_news(&self, version: &Version) -> bool {
        self.published.contains(version) && Some(version) > self.level()
    }

    /// How many published versions' changes it brings.
    fn releases_to(&self, version: &Version) -> usize {
        let between = |it: &&Version| *it <= version && Some(*it) > self.level();
        self.published.iter().filter(between).count()
    }

    fn why_given_up(&self, version: &Version) -> String {
        match &self.here.hold {
            Some(hold) if *version <= hold.version => hold.why.clone(),
            _ => "it was tried here before".to_owned(),
        }
    }
}
