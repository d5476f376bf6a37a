//! What is remembered of an application's versions in an environment: which stood there, and which are not tried again.

use crate::moment::{Moment, Span};
use crate::version::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many versions are remembered, the highest ones: about as many are live.
pub const MOST: usize = 200;

/// How an application stands in an environment, as far as those who follow want to know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// The versions that stood there and were not taken back.
    pub stood: BTreeMap<Version, Stood>,
    /// The one of them that stands there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands: Option<Version>,
    /// Why that does not count as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Set after something was taken back: nothing comes by itself but what is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Versions that were begun and came to nothing: none of them comes by itself again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tried: BTreeSet<Version>,
    /// What was begun last and changed nothing: as good as if it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Version>,
}

/// How long a version stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stood {
    /// Since when it stands without trouble; `None`: it does not.
    pub since: Option<Moment>,
    /// The longest time for which it did before.
    pub longest: Duration,
}

/// Why nothing comes by itself but what is newer than a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Than which one.
    pub version: Version,
    /// Why: `anna went back`.
    pub why: String,
}

/// What is seen of an application in an environment at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The version that stands there, whole, and since when nothing has touched it.
    pub stands: Option<(Version, Moment)>,
    /// Why it does not count as it is: a host drifts, is held, or fails a check.
    pub trouble: Option<String>,
}

impl Standing {
    /// Takes in what is seen now, and says whether anything is remembered otherwise.
    pub fn observe(&mut self, seen: &Seen, now: Moment) -> bool {
        let before = self.clone();
        let stands = seen.stands.as_ref().map(|(version, _)| version);
        for (version, stood) in &mut self.stood {
            if Some(version) != stands {
                stood.rest(now);
            }
        }
        if let Some((version, at)) = &seen.stands {
            let stood = self.stood.entry(version.clone()).or_default();
            match &seen.trouble {
                // What it has stood for is not what would come elsewhere.
                Some(_) => *stood = Stood::default(),
                None if stood.since.is_none() => {
                    let troubled = self.trouble.is_some();
                    stood.since = Some(if troubled { now } else { *at });
                }
                None => {}
            }
            while self.stood.len() > MOST {
                self.stood.pop_first();
            }
        }
        self.stands = stands.cloned();
        self.trouble = seen.trouble.clone().filter(|_| seen.stands.is_some());
        *self != before
    }

    /// Something goes back there, to this version where it is known: what is newer has not stood.
    pub fn taken_back(&mut self, to: Option<&Version>) {
        if let Some(stands) = self.stands.take() {
            self.stood.remove(&stands);
        }
        self.stood
            .retain(|version, _| to.is_none_or(|to| version <= to));
        self.trouble = None;
        self.level = None;
    }

    /// A version was taken back here, or came to nothing.
    pub fn give_up(&mut self, version: &Version, why: String) {
        self.never_again(version);
        if self
            .hold
            .as_ref()
            .is_none_or(|hold| hold.version <= *version)
        {
            let version = version.clone();
            self.hold = Some(Hold { version, why });
        }
    }

    /// A version was begun here, and there was nothing to do.
    pub fn changes_nothing(&mut self, version: &Version) {
        self.level = self.level.take().max(Some(version.clone()));
    }

    fn never_again(&mut self, version: &Version) {
        self.tried.insert(version.clone());
        while self.tried.len() > MOST {
            self.tried.pop_first();
        }
    }

    /// Something newer, or what a person chose, begins: what was given up before is not waited for any more.
    pub fn let_go(&mut self) {
        self.hold = None;
    }

    /// Whether a version may come here by itself.
    pub fn lets(&self, version: &Version) -> bool {
        let held = self.hold.as_ref().is_some_and(|it| *version <= it.version);
        !held && !self.tried.contains(version)
    }

    /// The versions that have stood for so long.
    pub fn accepted(&self, bake: Span, now: Moment) -> impl Iterator<Item = &Version> {
        let long = move |stood: &Stood| {
            let stands = stood.since.is_some_and(|since| since + bake <= now);
            stands || !stood.longest.is_zero() && stood.longest >= bake.0
        };
        let all = self.stood.iter().filter(move |(_, stood)| long(stood));
        all.map(|(version, _)| version)
    }

    /// Since when the version that stands now does so without trouble.
    pub fn since(&self) -> Option<Moment> {
        self.stood.get(self.stands.as_ref()?)?.since
    }
}

impl Stood {
    /// It does not stand any more.
    fn rest(&mut self, now: Moment) {
        if let Some(since) = self.since.take() {
            self.longest = self.longest.max(now.since(since));
        }
    }
}
