//! Going back: to what ran before, or to a version that somebody names.

use super::Fleet;
use super::deploy::{Asked, By, Control, Refused, Wanted};
use super::migrate::migration;
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::desired::Purpose;
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::Illegal;
use tamer_core::rollout::deployment::{Deployment, DeploymentId, Ending, Step};
use tamer_core::schema::Task;
use tamer_core::version::Version;

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
        with_down: bool,
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
        if let Some(id) = running.filter(|_| to.is_none() && component.is_none()) {
            self.control(id, Control::Rollback { with_down }, by, now)?;
            return Ok(Asked::Started(id));
        }
        let steps: Vec<(TargetKey, Option<ReleaseRef>)> = match to {
            Some(to) => to
                .releases
                .iter()
                .filter(|(name, _)| component.is_none_or(|only| only == name))
                .map(|(name, release)| {
                    (
                        self.key(environment, application, name),
                        Some(release.clone()),
                    )
                })
                .filter(|(key, _)| self.targets.contains_key(key))
                .collect(),
            None => {
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
        let migrations: Vec<_> = self
            .way_down(site, &steps, with_down)?
            .into_iter()
            .map(|(schema, to, carrier)| migration(schema, Task::Down, to, carrier))
            .collect();
        let steps: Vec<_> = steps
            .into_iter()
            .filter(|(key, release)| {
                !release
                    .as_ref()
                    .is_some_and(|release| self.is_there(key, release))
            })
            .collect();
        self.adopt(steps.iter().map(|(key, _)| key), now);
        let steps: Vec<Step> = steps
            .into_iter()
            .map(|(key, release)| self.step(key, release, Purpose::Back))
            .collect();
        if steps.is_empty() {
            return Ok(Asked::NothingToDo);
        }
        let version = to
            .map(|to| to.version.clone())
            .or_else(|| match &steps[..] {
                [only] => only.release.as_ref().map(|release| release.version.clone()),
                _ => None,
            });
        Ok(Asked::Started(self.begin(
            Deployment {
                id: DeploymentId::default(),
                environment: environment.clone(),
                application: application.clone(),
                version,
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
        let all = self.targets.keys().filter(|key| of_it(key)).count();
        let brought_all = |it: &&Deployment| {
            it.purpose == Purpose::Forward
                && it.version.as_ref() == Some(version)
                && it.steps.first().is_some_and(|step| of_it(&step.target))
                && matches!(it.ended, Some((_, Ending::Succeeded | Ending::HostsAway)))
                && it.steps.len() == all
        };
        let known = self.deployments.values().rev().find(brought_all)?;
        let releases = known.steps.iter().map(|step| {
            let release = step.release.clone()?;
            Some((step.target.component.clone(), release))
        });
        Some(Wanted {
            environment: environment.clone(),
            application: application.clone(),
            version: version.clone(),
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
    ) -> Result<Vec<(TargetKey, Option<ReleaseRef>)>, Refused> {
        let nothing = |why: &str| Refused::NothingBack {
            environment: environment.clone(),
            why: why.to_owned(),
        };
        let concerns = |step: &&Step| {
            step.purpose == Purpose::Forward
                && step.from != step.release
                && component.is_none_or(|only| *only == step.target.component)
        };
        let stands = |step: &Step| {
            self.targets
                .get(&step.target)
                .is_some_and(|target| target.release == step.release)
        };
        for deployment in self.deployments.values().rev() {
            let ours = deployment.environment == *environment
                && deployment.application == *application
                && deployment.purpose == Purpose::Forward
                && deployment.ended.is_some();
            let steps: Vec<&Step> = deployment.steps.iter().filter(concerns).collect();
            if !ours || steps.is_empty() || !steps.iter().all(|step| stands(step)) {
                continue;
            }
            if steps.iter().any(|step| step.from.is_none()) {
                return Err(nothing("the first release runs there"));
            }
            // In reverse: what needs another component goes back before it.
            return Ok(steps
                .iter()
                .rev()
                .map(|step| (step.target.clone(), step.from.clone()))
                .collect());
        }
        Err(nothing(
            "no deployment stands that could be taken back; name a version",
        ))
    }
}
