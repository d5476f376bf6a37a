//! What stands where: read off deployments and targets, and remembered ([`Standing`](tamer_core::auto::Standing)).

use super::Site;
use crate::fleet::Fleet;
use crate::fleet::persist::Object;
use std::collections::BTreeSet;
use tamer_core::auto::{Auto, Seen};
use tamer_core::desired::Purpose;
use tamer_core::id::{ApplicationName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::deployment::{Deployment, DeploymentId, Ending};
use tamer_core::version::Version;

impl Fleet {
    /// Takes in which versions of an application are published and live.
    pub fn set_published(&mut self, application: ApplicationName, versions: BTreeSet<Version>) {
        self.published.insert(application, versions);
    }

    /// Has a site looked at again before this turn is over.
    pub(in crate::fleet) fn look_again(&mut self, key: &TargetKey) {
        let site = (key.environment.clone(), key.application.clone());
        self.unlooked.insert(site);
    }

    /// Remembers how versions stand where something has changed.
    pub(in crate::fleet) fn look_at_standings(&mut self, now: Moment) {
        for site in std::mem::take(&mut self.unlooked) {
            let seen = self.seen(&site);
            if seen.stands.is_none() && !self.standings.contains_key(&site) {
                continue;
            }
            let standing = self.standings.entry(site.clone()).or_default();
            if standing.observe(&seen, now) {
                self.dirty.insert(Object::Standing(site.0, site.1));
            }
        }
    }

    fn seen(&self, site: &Site) -> Seen {
        let stands = self.stands(site);
        let follows = |auto: &Auto| auto.from.as_ref() == Some(&site.0);
        let mut all = self.environments.values();
        // Nobody else wants to know, and it takes a look at every host.
        let followed = all.any(|it| it.file.auto.as_ref().is_some_and(follows));
        let trouble = match stands {
            Some(_) if followed => self.trouble(site),
            _ => None,
        };
        Seen { stands, trouble }
    }

    /// The version that stands there whole, and since when nothing was done to it. What failed and was taken back has
    /// left what was there before.
    fn stands(&self, site: &Site) -> Option<(Version, Moment)> {
        let mut touched = Moment(0);
        for deployment in self.deployments.values().rev() {
            if !deployment.is_of(&site.0, &site.1) {
                continue;
            }
            let (at, ending) = deployment.ended?;
            touched = touched.max(at);
            if deployment.purpose == Purpose::Back {
                return None;
            }
            if deployment.is_as_asked() {
                let whole = deployment.component.is_none();
                let version = deployment.version.clone().filter(|_| whole)?;
                return Some((version, touched));
            }
            if matches!(ending, Ending::NotRolledBack | Ending::Aborted) {
                return None;
            }
        }
        // The deployment that brought it is so old that it was forgotten.
        let known = self.standings.get(site)?;
        Some((known.stands.clone()?, known.since().unwrap_or(touched)))
    }

    /// Why what runs there is not what was deployed, or is not well. Until every host has been heard of and has looked,
    /// what was known before counts.
    fn trouble(&self, site: &Site) -> Option<String> {
        let mut known = true;
        for target in self.sited((&site.0, &site.1)) {
            let component = &target.key.component;
            for (name, host) in &target.hosts {
                let said = self.heard(name, &target.key);
                known &= said.is_some_and(|said| said.compared);
                if said.is_some_and(|said| said.drift.is_some()) {
                    return Some(format!("{component} was changed by hand on {name}"));
                }
                if host.hold.is_some() {
                    return Some(format!("{component} is held on {name}"));
                }
                if host.unhealthy.is_some() {
                    return Some(format!("a check of {component} fails on {name}"));
                }
            }
        }
        let before = self.standings.get(site).filter(|_| !known)?;
        before.trouble.clone()
    }

    /// The newest version of which something is to run there, in pools that are used.
    pub(super) fn runs<'a>(&'a self, site: &'a Site) -> Option<&'a Version> {
        let used = self
            .sited((&site.0, &site.1))
            .filter(|target| !self.is_idle(&target.key));
        let releases = used.filter_map(|target| target.release.as_ref());
        releases.map(|release| &release.version).max()
    }

    /// A deployment begins: what this says of what comes by itself.
    pub(in crate::fleet) fn decided(&mut self, deployment: &Deployment) {
        let site = site_of(deployment);
        let runs = self.runs(&site).cloned();
        let standing = self.standings.entry(site.clone()).or_default();
        let back = match (deployment.purpose, &deployment.version, &runs) {
            (Purpose::Back, ..) => true,
            (Purpose::Forward, Some(version), Some(runs)) => version < runs,
            _ => false,
        };
        if back {
            standing.taken_back(deployment.version.as_ref());
            if let Some(runs) = &runs {
                standing.give_up(runs, format!("{} went back from it", deployment.by));
            }
        } else {
            standing.let_go();
        }
        self.unlooked.insert(site.clone());
        self.dirty.insert(Object::Standing(site.0, site.1));
    }

    /// A deployment has ended: what came to nothing is not tried again by itself.
    pub(in crate::fleet) fn came_to(&mut self, id: DeploymentId) {
        let Some(deployment) = self.deployments.get(&id) else {
            return;
        };
        let site = site_of(deployment);
        let failed = deployment.purpose == Purpose::Forward && !deployment.is_as_asked();
        if let (true, Some(version), Some((_, ending))) =
            (failed, &deployment.version, deployment.ended)
        {
            let why = match ending {
                Ending::Refused => "refused",
                Ending::PreChecksFailed => "stopped by a check before its switch",
                Ending::Drifted => "stopped by what was changed by hand",
                Ending::Aborted => "aborted",
                Ending::NotRolledBack => "not wholly taken back",
                Ending::HostsAway => "stopped, for its hosts were away,",
                _ => "taken back",
            };
            let why = format!("deployment {id} of it was {why} here");
            let standing = self.standings.entry(site.clone()).or_default();
            standing.give_up(version, why);
            let (environment, application) = site.clone();
            self.dirty
                .insert(Object::Standing(environment, application));
        }
        self.unlooked.insert(site);
    }
}

fn site_of(deployment: &Deployment) -> Site {
    let Deployment {
        environment,
        application,
        ..
    } = deployment;
    (environment.clone(), application.clone())
}
