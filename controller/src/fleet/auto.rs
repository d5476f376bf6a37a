//! Environments that follow: what is remembered of an application's versions in each environment, what comes next by
//! itself, and its beginning, which is a deployment like any other.
//!
//! Deployments are the truth of what stands; beside them only that is stored which they do not say for ever: how long a
//! version stood undisturbed, and what was given up. So a controller that is killed between a decision and its
//! deployment decides again, and one that is killed after it finds the deployment.

mod standing;

use super::Fleet;
use super::deploy::{Asked, By, Wanted};
use super::persist::Object;
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::auto::{Auto, Decision, Question, Standing, Waiting, circle};
use tamer_core::calendar::{Opening, utc};
use tamer_core::id::{ApplicationName, EnvironmentName};
use tamer_core::moment::{Moment, Span};
use tamer_core::version::Version;

/// An application in an environment.
pub(super) type Site = (EnvironmentName, ApplicationName);

/// When something that was refused is tried again.
pub const AGAIN: Span = Span::secs(60);

/// A version that is to be deployed now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub application: ApplicationName,
    /// Which one.
    pub version: Version,
}

/// How far an environment is that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Following {
    /// This version is deployed now.
    Due(Version),
    /// Nothing is, and why, for people.
    Waits {
        /// `1.4.2 bakes in staging until 2026-11-30 14:05 UTC`
        why: String,
        /// When to look again although nothing has happened.
        until: Option<Moment>,
    },
}

/// Why something did not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PutOff {
    version: Version,
    why: String,
    again: Moment,
}

// === impl Due ===

impl Due {
    fn site(&self) -> Site {
        (self.environment.clone(), self.application.clone())
    }
}

// === impl Fleet ===

impl Fleet {
    /// What is to be deployed now by itself, and when to look again although nothing has happened.
    pub fn due(&self, now: Moment) -> (Vec<Due>, Option<Moment>) {
        let (mut due, mut wake) = (Vec::new(), None);
        for ((environment, application), following) in self.following(None, now) {
            match following {
                Following::Due(version) => {
                    due.push(Due {
                        environment,
                        application,
                        version,
                    });
                    // Whatever comes of it, it is looked at again.
                    wake = [wake, Some(now + AGAIN)].into_iter().flatten().min();
                }
                Following::Waits { until, .. } => {
                    wake = [wake, until].into_iter().flatten().min();
                }
            }
        }
        (due, wake)
    }

    /// How far every environment is that follows, or this one.
    pub fn following(
        &self,
        only: Option<&EnvironmentName>,
        now: Moment,
    ) -> BTreeMap<(EnvironmentName, ApplicationName), Following> {
        let mut all = BTreeMap::new();
        for (name, environment) in &self.environments {
            let Some(auto) = &environment.file.auto else {
                continue;
            };
            if only.is_some_and(|only| only != name) {
                continue;
            }
            for path in environment.file.place.keys() {
                let site = (name.clone(), path.application.clone());
                all.entry(site)
                    .or_insert_with_key(|site| self.how_far(auto, site, now));
            }
        }
        all
    }

    fn how_far(&self, auto: &Auto, site: &Site, now: Moment) -> Following {
        let waits = |why: String, until| Following::Waits { why, until };
        if self.held.is_some() {
            return waits("the controller is held".to_owned(), None);
        }
        let followed = auto
            .from
            .as_ref()
            .map(|from| (from.clone(), site.1.clone()));
        let sites = || std::iter::once(site).chain(&followed);
        let unsettled =
            sites().find(|it| self.sited((&it.0, &it.1)).any(|target| target.unsettled));
        if let Some((environment, _)) = unsettled {
            let why = format!("somebody to decide what runs in {environment} after the restore");
            return waits(format!("it waits for {why}"), None);
        }
        if let Some(from) = auto
            .from
            .as_ref()
            .filter(|it| !self.environments.contains_key(*it))
        {
            return waits(format!("there is no environment `{from}`"), None);
        }
        let mut hosts = sites()
            .flat_map(|it| self.sited((&it.0, &it.1)))
            .flat_map(|target| target.hosts.keys());
        if now < self.patient_until && hosts.any(|host| self.awaited.contains(host)) {
            let why = "it waits for hosts to come back after the controller's start".to_owned();
            return waits(why, Some(self.patient_until));
        }
        if let Some(id) = self.running_in(&site.0, &site.1) {
            return waits(format!("deployment {id} runs here"), None);
        }
        let (nothing, none) = (Standing::default(), BTreeSet::new());
        let published = self.published.get(&site.1).unwrap_or(&none);
        let question = Question {
            auto,
            published,
            followed: followed.as_ref().and_then(|it| self.standings.get(it)),
            here: self.standings.get(site).unwrap_or(&nothing),
            runs: self.runs(site),
        };
        let version = match question.answer(now) {
            Decision::Begin(version) => version,
            Decision::Wait(waiting) => return self.says(auto, site, waiting),
        };
        let put_off = self
            .put_off
            .get(site)
            .filter(|it| it.version == version && now < it.again);
        if let Some(put_off) = put_off {
            let why = format!("{version} cannot be deployed: {}", put_off.why);
            return waits(why, Some(put_off.again));
        }
        match self.calendar(&site.0, &site.1, false).at(now) {
            Opening::Closed { why, until } => waits(
                format!("{version} waits for {} to open: {why}", site.0),
                until,
            ),
            Opening::Open { .. } => Following::Due(version),
        }
    }

    fn says(&self, auto: &Auto, (environment, application): &Site, waiting: Waiting) -> Following {
        let from = auto
            .from
            .as_ref()
            .map_or("what is published", EnvironmentName::as_str);
        let option = self.application_option(environment, application);
        let by_hand = |version| format!("tamer deploy {environment} {version}{option}");
        let (why, until) = match waiting {
            Waiting::Nothing => ("there is nothing newer".to_owned(), None),
            Waiting::Bakes { version, until } => {
                let shown = self.shown(environment, until);
                (
                    format!("{version} bakes in {from} until {shown}"),
                    Some(until),
                )
            }
            Waiting::Troubled { version, why, bake } => (
                format!(
                    "{version} does not count in {from}: {why}; once that is settled it bakes anew, for {bake}: \
                     tamer status {from}"
                ),
                None,
            ),
            Waiting::GivenUp { version, why } => (
                format!(
                    "{version} does not come by itself, a newer one will: {why}: {}",
                    by_hand(version.clone())
                ),
                None,
            ),
            Waiting::TooMany {
                version,
                releases,
                most,
            } => (
                format!(
                    "{version} brings {releases} releases, and {most} are the most at once: {}",
                    by_hand(version.clone())
                ),
                None,
            ),
        };
        Following::Waits { why, until }
    }

    /// A moment as the clock shows it that the environment's calendar is read by.
    fn shown(&self, environment: &EnvironmentName, at: Moment) -> String {
        let place = self.environments.get(environment);
        let zone = place.and_then(|place| place.file.calendar().zone().cloned());
        zone.map_or_else(|| utc(at), |zone| zone.show(at))
    }

    /// Begins what is due, if it still is. Says why not, where it is refused.
    ///
    /// # Errors
    /// Why it is refused; it is tried again after [`AGAIN`].
    pub fn deploy_by_itself(
        &mut self,
        wanted: &Wanted,
        now: Moment,
    ) -> Result<Option<Asked>, String> {
        let due = Due {
            environment: wanted.environment.clone(),
            application: wanted.application.clone(),
            version: wanted.version.clone(),
        };
        let site = due.site();
        let environment = self.environments.get(&site.0);
        let Some(auto) = environment.and_then(|it| it.file.auto.clone()) else {
            return Ok(None);
        };
        if self.how_far(&auto, &site, now) != Following::Due(due.version.clone()) {
            return Ok(None);
        }
        let by = by(&auto, &due.version);
        // Whoever is asked to confirm is a person.
        let wanted = Wanted {
            confirmed: true,
            ..wanted.clone()
        };
        match self.deploy(&wanted, &by, now) {
            Ok(asked) => {
                self.put_off.remove(&site);
                if asked == Asked::NothingToDo {
                    let standing = self.standings.entry(site.clone()).or_default();
                    standing.changes_nothing(&due.version);
                    self.dirty.insert(Object::Standing(site.0, site.1));
                }
                Ok(Some(asked))
            }
            Err(refused) => {
                let why = refused.to_string();
                self.put_off(&due, why.clone(), now);
                Err(why)
            }
        }
    }

    /// Something that is due cannot be deployed now. It is said once, and tried again.
    pub fn put_off(&mut self, due: &Due, why: String, now: Moment) {
        let put_off = PutOff {
            version: due.version.clone(),
            why,
            again: now + AGAIN,
        };
        let known = self.put_off.get(&due.site());
        let told = known.is_some_and(|it| it.version == put_off.version && it.why == put_off.why);
        let environment = self.environments.get(&due.environment);
        if let Some(auto) = environment
            .and_then(|it| it.file.auto.clone())
            .filter(|_| !told)
        {
            let object = format!("{} {}@{}", due.environment, due.application, due.version);
            let by = by(&auto, &due.version);
            self.note_refused(now, &by.who, "deploy", object, (put_off.why.clone(), false));
        }
        self.put_off.insert(due.site(), put_off);
    }

    /// The circle that an environment would close if it followed that one.
    pub fn circle(
        &self,
        name: &EnvironmentName,
        from: &EnvironmentName,
    ) -> Option<Vec<EnvironmentName>> {
        let known = self.environments.iter();
        let known = known.filter_map(|(name, place)| {
            let from = place.file.auto.as_ref()?.from.clone()?;
            Some((name.clone(), from))
        });
        let mut follows: BTreeMap<_, _> = known.collect();
        follows.insert(name.clone(), from.clone());
        circle(&follows, name)
    }
}

/// As whom it is deployed. No operator has a name with a space.
fn by(auto: &Auto, version: &Version) -> By {
    match &auto.from {
        Some(from) => By {
            who: format!("auto from {from}"),
            reason: format!("{version} has stood in {from} for {}", auto.bake()),
        },
        None => By {
            who: "auto from what is published".to_owned(),
            reason: format!("{version} is published"),
        },
    }
}
