//! Going back: to what ran before, or to a version that somebody names.

use super::Fleet;
use super::deploy::{Asked, By, Control, Refused, Wanted};
use super::migrate::migration;
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::desired::Purpose;
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName, PoolName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::Illegal;
use tamer_core::rollout::deployment::{Deployment, DeploymentId, Ending, Step};
use tamer_core::schema::Task;
use tamer_core::version::Version;

/// What else is said of going back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct How {
    /// Bring databases down first, where that is needed.
    pub with_down: bool,
    /// Switch routers also to a pool that does not serve with all of its hosts.
    pub incomplete: bool,
    /// Have the routers of the component send to this pool, whatever they do now.
    pub pool: Option<PoolName>,
}

/// Targets, each with the release that it goes back to.
type Ends = Vec<(TargetKey, Option<ReleaseRef>)>;

impl Fleet {
    /// Goes back: turns a running deployment around, or takes back the last one that stands, or goes to
    /// the given releases.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn go_back(
        &mut self,
        site: (&EnvironmentName, &ApplicationName),
        component: Option<&ComponentName>,
        to: Option<&Wanted>,
        how: &How,
        by: &By,
        now: Moment,
    ) -> Result<Asked, Refused> {
        self.refuse_held()?;
        let (environment, application) = site;
        if let Some(to) = to {
            self.declare(&to.declared);
        }
        if !self.environments.contains_key(environment) {
            return Err(Refused::NoEnvironment(environment.clone()));
        }
        let running = self.running_in(environment, application);
        let plain = to.is_none() && component.is_none() && how.pool.is_none();
        if let Some(id) = running.filter(|_| plain) {
            let with_down = how.with_down;
            self.control(id, Control::Rollback { with_down }, by, now)?;
            return Ok(Asked::Started(id));
        }
        let steps: Ends = match (to, &how.pool) {
            (_, Some(pool)) => vec![self.pool_to_send_to(site, component, pool)?],
            (Some(to), None) => self.back_to(site, component, to)?,
            (None, None) => {
                self.refuse_unsettled(environment, application, component)?;
                self.last_standing(environment, application, component)?
            }
        };
        let keys: BTreeSet<TargetKey> = steps.iter().map(|(key, _)| key.clone()).collect();
        self.refuse_locked(&keys, now)?;
        for (key, release) in &steps {
            let bad = |release: &&ReleaseRef| {
                self.targets
                    .get(key)
                    .is_some_and(|t| t.bad.contains(&release.manifest))
            };
            if let Some(bad) = release.as_ref().filter(bad) {
                return Err(Illegal::KnownBad(bad.clone()).into());
            }
        }
        self.refuse_open(site)?;
        for (key, release) in &steps {
            let there = release
                .as_ref()
                .is_some_and(|release| self.is_there(key, release));
            if self.is_idle(key) && there || how.pool.is_some() {
                self.may_go_back_to(key, how.incomplete)?;
            }
        }
        let migrations: Vec<_> = self
            .way_down(site, &steps, how.with_down)?
            .into_iter()
            .map(|(schema, to, carrier)| migration(schema, Task::Down, to, carrier))
            .collect();
        let moves: Vec<_> = steps
            .iter()
            .filter(|(key, release)| {
                !release
                    .as_ref()
                    .is_some_and(|release| self.is_there(key, release))
            })
            .map(|(key, _)| key.clone())
            .collect();
        self.adopt(moves.iter(), now);
        let back = |(key, release): &(TargetKey, Option<ReleaseRef>)| match how.pool {
            // Also where routers do it already, as far as is known: each is told anew.
            Some(_) => Vec::from_iter(self.switch_to(key, release.as_ref(), Purpose::Back)),
            None => self.steps_to(key, release.as_ref(), Purpose::Back),
        };
        let steps: Vec<Step> = steps.iter().flat_map(back).collect();
        if steps.is_empty() {
            return Ok(Asked::NothingToDo);
        }
        let version = to
            .map(|to| to.version.clone())
            .or_else(|| match &steps[..] {
                [only] | [_, only] if how.pool.is_none() || only.is_switch() => {
                    only.release.as_ref().map(|release| release.version.clone())
                }
                _ => None,
            });
        Ok(Asked::Started(self.begin(
            Deployment {
                id: DeploymentId::default(),
                environment: environment.clone(),
                application: application.clone(),
                version,
                component: component.cloned(),
                purpose: Purpose::Back,
                by: by.who.clone(),
                reason: by.reason.clone(),
                started_at: now,
                override_freeze: false,
                on_failure: tamer_core::policy::OnFailure::Pause,
                steps,
                migrations,
                // Nothing goes back but to what was approved then.
                approval: None,
                ended: None,
            },
            // What this environment has accepted before needs none.
            Vec::new(),
            now,
        )))
    }

    /// Where a version that somebody names goes: to the pool that is idle, where there are pools.
    fn back_to(
        &self,
        (environment, application): (&EnvironmentName, &ApplicationName),
        component: Option<&ComponentName>,
        to: &Wanted,
    ) -> Result<Ends, Refused> {
        let named = to.releases.iter();
        let named = named.filter(|(name, _)| component.is_none_or(|only| only == name));
        let mut ends = Ends::new();
        for (name, release) in named {
            let key = self.key(environment, application, name);
            let key = self.goes_to(key, release)?;
            if self.targets.contains_key(&key) {
                ends.push((key, Some(release.clone())));
            }
        }
        Ok(ends)
    }

    /// The pool that somebody names, with what it runs.
    fn pool_to_send_to(
        &self,
        (environment, application): (&EnvironmentName, &ApplicationName),
        component: Option<&ComponentName>,
        pool: &PoolName,
    ) -> Result<(TargetKey, Option<ReleaseRef>), Refused> {
        let Some(component) = component else {
            let why = "say whose routers are meant with --component";
            return Err(Refused::Router(why.to_owned()));
        };
        let key = TargetKey {
            pool: pool.clone(),
            ..self.key(environment, application, component)
        };
        let router = self.router_of(&key).ok_or_else(|| {
            let why = format!("{application}/{component} has no routers in `{environment}`: `tamer env show {environment}` shows its file");
            Refused::Router(why)
        })?;
        if !router.settings.pools.contains(pool) {
            let pools: Vec<_> = router.settings.pools.iter().map(PoolName::as_str).collect();
            let why = format!(
                "`{pool}` is no pool of {application}/{component}: there are {}",
                pools.join(" and ")
            );
            return Err(Refused::Router(why));
        }
        let release = self
            .targets
            .get(&key)
            .and_then(|target| target.release.clone());
        Ok((key, release))
    }

    /// A version as the last deployment knew it that brought the whole of it here: going back to it needs
    /// nothing from the artifact store. `None` where none did, or where it left out what had not changed.
    pub fn deployed_before(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        version: &Version,
    ) -> Option<Wanted> {
        let of_it =
            |key: &TargetKey| (&key.environment, &key.application) == (environment, application);
        let parts = |keys: &mut dyn Iterator<Item = &TargetKey>| {
            let names: BTreeSet<ComponentName> = keys.map(|key| key.component.clone()).collect();
            names.len()
        };
        let all = parts(&mut self.targets.keys().filter(|key| of_it(key)));
        let brought_all = |it: &&Deployment| {
            it.purpose == Purpose::Forward
                && it.version.as_ref() == Some(version)
                && it.steps.first().is_some_and(|step| of_it(&step.target))
                && matches!(it.ended, Some((_, Ending::Succeeded | Ending::HostsAway)))
                && parts(&mut it.steps.iter().map(|step| &step.target)) == all
        };
        let known = self.deployments.values().rev().find(brought_all)?;
        let mut named = BTreeSet::new();
        // Of a component with pools both steps name the same release.
        let steps = known.steps.iter();
        let once = steps.filter(|step| named.insert(step.target.component.clone()));
        let releases = once.map(|step| {
            let release = step.release.clone()?;
            Some((step.target.component.clone(), release))
        });
        Some(Wanted {
            environment: environment.clone(),
            application: application.clone(),
            version: version.clone(),
            component: None,
            releases: releases.collect::<Option<_>>()?,
            evidence: BTreeMap::new(),
            declared: BTreeMap::new(),
            no_way_back: false,
            override_freeze: false,
            confirmed: false,
            wait: false,
        })
    }

    /// A controller that was restored does not know what ran before what runs.
    fn refuse_unsettled(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        component: Option<&ComponentName>,
    ) -> Result<(), Refused> {
        let unsettled = self.targets.values().find(|target| {
            target.unsettled
                && target.key.environment == *environment
                && target.key.application == *application
                && component.is_none_or(|only| *only == target.key.component)
        });
        match unsettled {
            None => Ok(()),
            Some(_) => Err(Refused::NothingBack {
                environment: environment.clone(),
                why: format!(
                    "the controller was restored from a backup, and does not know what ran before: \
                     name the version, `tamer rollback {environment} VERSION{}`",
                    self.application_option(environment, application)
                ),
            }),
        }
    }

    /// What the last deployment that still stands has changed, and from what.
    fn last_standing(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        component: Option<&ComponentName>,
    ) -> Result<Ends, Refused> {
        let nothing = |why: &str| Refused::NothingBack {
            environment: environment.clone(),
            why: why.to_owned(),
        };
        let concerns = |step: &&Step| {
            step.purpose == Purpose::Forward
                && (step.from != step.release || step.is_switch())
                && component.is_none_or(|only| *only == step.target.component)
        };
        let stands = |step: &Step| {
            self.targets.get(&step.target).is_some_and(|target| {
                target.release == step.release && !(step.is_switch() && self.is_idle(&step.target))
            })
        };
        for deployment in self.deployments.values().rev() {
            let ours = deployment.is_of(environment, application)
                && deployment.purpose == Purpose::Forward
                && deployment.ended.is_some();
            let steps: Vec<&Step> = deployment.steps.iter().filter(concerns).collect();
            if !ours || steps.is_empty() || !steps.iter().all(|step| stands(step)) {
                continue;
            }
            // A pool that routers have left is warm: they go back to it, and the other one stays as it is.
            let switched = |step: &Step| {
                let same = |other: &&&Step| other.is_switch() && other.target == step.target;
                !step.is_switch() && steps.iter().find(same).is_some()
            };
            let back = || steps.iter().filter(|step| !switched(step));
            if back().any(|step| step.from.is_none()) {
                return Err(nothing("the first release runs there"));
            }
            let mut ends = Ends::new();
            // In reverse: what needs another component goes back before it.
            for step in back().rev() {
                let mut key = step.target.clone();
                if let Some(left) = &step.leaves {
                    key.pool = left.clone();
                    let runs = self
                        .targets
                        .get(&key)
                        .and_then(|target| target.release.as_ref());
                    if runs != step.from.as_ref() {
                        let now = runs.map_or("nothing".to_owned(), ToString::to_string);
                        return Err(nothing(&format!(
                            "pool {left} of {} runs {now} now, and not what ran before; name a version",
                            key.component
                        )));
                    }
                }
                ends.push((key, step.from.clone()));
            }
            return Ok(ends);
        }
        Err(nothing(
            "no deployment stands that could be taken back; name a version",
        ))
    }
}
