//! Deployments: asking for them.

use super::Fleet;
use super::persist::Object;
pub use super::refused::Refused;
pub use super::steer::Control;
use crate::audit::{MAX_BY, MAX_PROVEN, Proven, cut};
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::calendar::Opening;
use tamer_core::desired::Purpose;
use tamer_core::digest::Digest;
use tamer_core::evidence::{Demanded, EvidenceKind};
use tamer_core::id::{
    ApplicationName, ComponentName, ComponentPath, EnvironmentName, HostName, PoolName, TargetKey,
};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::ToApprove;
use tamer_core::rollout::deployment::{Deployment, DeploymentId, Step, StepStatus};
use tamer_core::rollout::switching::RouterKey;
use tamer_core::rollout::{NewRollout, NoPlan, RolloutId, Target};
use tamer_core::schema::Declared;
use tamer_core::version::Version;
use tamer_release::attest::{Judged, SetAside};

/// How many ended deployments are kept, for history and for going back.
pub const KEPT: usize = 500;

/// What is to be deployed, looked up in the signed metadata already.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub application: ApplicationName,
    /// The version that was asked for.
    pub version: Version,
    /// The one component that was asked for; `None`: the application.
    pub component: Option<ComponentName>,
    /// The releases that it consists of, in the order in which they roll out.
    pub releases: Vec<(ComponentName, ReleaseRef)>,
    /// What their evidence proves, by manifest; nothing is proven of one that is not in it.
    pub evidence: BTreeMap<Digest, Evidence>,
    /// What they say of databases, by manifest.
    pub declared: BTreeMap<Digest, Declared>,
    /// Whether the database may be brought to where what runs does not work with it: nothing leads back then.
    pub no_way_back: bool,
    /// Whether windows and freezes are passed over: an admin's to say.
    pub override_freeze: bool,
    /// Whether whoever asks has seen what it would do, where the environment wants that.
    pub confirmed: bool,
    /// Whether it begins although it is closed, and waits.
    pub wait: bool,
}

/// What the evidence of a release proves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What is proven.
    pub proven: BTreeSet<EvidenceKind>,
    /// By which key each is, for the audit log: `build by ci`.
    pub by: Vec<String>,
    /// Why the rest does not count, a sentence each.
    pub aside: Vec<String>,
}

/// Who asks for something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The operator.
    pub who: String,
    /// The reason they gave; may be empty.
    pub reason: String,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A deployment has started, or was turned around.
    Started(DeploymentId),
    /// Everything is as it should be already.
    NothingToDo,
}

impl Fleet {
    /// Starts a deployment.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn deploy(&mut self, wanted: &Wanted, by: &By, now: Moment) -> Result<Asked, Refused> {
        self.declare(&wanted.declared);
        let steps = self.rollouts(wanted, now)?;
        let (environment, application) = (&wanted.environment, &wanted.application);
        let site = (environment, application);
        let confirm = self
            .environments
            .get(environment)
            .is_some_and(|it| it.file.confirm);
        if confirm && !wanted.confirmed && !steps.is_empty() {
            return Err(Refused::Confirm(environment.clone()));
        }
        if !steps.is_empty() && !wanted.wait {
            self.refuse_closed(site, wanted.override_freeze, now)?;
        }
        let migrations = self.migrations(site, &steps, wanted.no_way_back);
        let place = self.environments.get(environment);
        let on_failure = place.map_or_else(Default::default, |place| place.file.policy.on_failure);
        let approved = place.is_some_and(|place| place.file.approval.needed > 0);
        self.adopt(steps.iter().map(|(key, _)| key), now);
        let steps: Vec<Step> = steps
            .into_iter()
            .flat_map(|(target, release)| self.steps_to(&target, Some(&release), Purpose::Forward))
            .collect();
        if steps.is_empty() {
            return Ok(Asked::NothingToDo);
        }
        if wanted.override_freeze {
            let closed = self.calendar(environment, application, false).at(now);
            let object = match closed {
                Opening::Closed { why, .. } => format!("{environment}: {why}"),
                Opening::Open { .. } => format!("{environment}: it is open"),
            };
            self.note(now, &by.who, "freeze.override", object, &by.reason);
        }
        Ok(Asked::Started(self.begin(
            Deployment {
                id: DeploymentId::default(),
                environment: environment.clone(),
                application: wanted.application.clone(),
                version: Some(wanted.version.clone()),
                component: wanted.component.clone(),
                purpose: Purpose::Forward,
                by: by.who.clone(),
                reason: by.reason.clone(),
                started_at: now,
                override_freeze: wanted.override_freeze,
                on_failure,
                steps,
                migrations,
                approval: approved.then(Default::default),
                ended: None,
            },
            wanted.shown(),
            now,
        )))
    }

    /// The rollouts that a version takes here: none where everything is there already.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn rollouts(
        &self,
        wanted: &Wanted,
        now: Moment,
    ) -> Result<Vec<(TargetKey, ReleaseRef)>, Refused> {
        self.refuse_held()?;
        let environment = &wanted.environment;
        let place = self
            .environments
            .get(environment)
            .ok_or_else(|| Refused::NoEnvironment(environment.clone()))?;
        let mut steps = Vec::new();
        for (component, release) in &wanted.releases {
            let path = ComponentPath {
                application: wanted.application.clone(),
                component: component.clone(),
            };
            if !place.file.place.contains_key(&path) {
                continue;
            }
            place
                .file
                .admits(&path, &release.version, &release.manifest)?;
            let key = self.key(environment, &wanted.application, component);
            let router = self.router_of(&key);
            if router.is_some_and(|router| router.running().is_some()) {
                // No pool is idle then: it matters who is in the way, and that may be waited for.
                self.refuse_locked(&[key.clone()].into(), now)?;
            }
            steps.push((self.goes_to(key, release)?, release.clone()));
        }
        if steps.is_empty() {
            let what = wanted.application.to_string();
            return Err(Refused::NoPlace {
                environment: environment.clone(),
                what,
            });
        }
        for (key, release) in &steps {
            // What every host runs already was accepted by each of them, and is not touched.
            if !self.is_there(key, release) {
                proven(&place.file.evidence, wanted, key, release)?;
            }
        }
        let mut keys: BTreeSet<TargetKey> = steps.iter().map(|(key, _)| key.clone()).collect();
        let site = (environment, &wanted.application);
        if !self.carriers(site, &steps).is_empty() {
            // A database is everybody's who uses it.
            keys.extend(self.sited(site).map(|target| target.key.clone()));
        }
        self.refuse_locked(&keys, now)?;
        self.refuse_open(site)?;
        for (key, _) in &steps {
            if self
                .targets
                .get(key)
                .is_none_or(|target| target.hosts.is_empty())
            {
                let what = format!("{}/{}", key.application, key.component);
                return Err(Refused::NoHosts {
                    environment: environment.clone(),
                    what,
                });
            }
        }
        for (key, release) in &steps {
            let plan = |target: &Target| {
                let release = Some(release.clone());
                self.plan(target, RolloutId(0), release, Purpose::Forward, now)
            };
            if let Some(Err(why)) = self.targets.get(key).map(plan) {
                let what = format!("{}/{}", key.application, key.component);
                let environment = environment.clone();
                return Err(Refused::Unreachable {
                    environment,
                    what,
                    why,
                });
            }
        }
        steps.retain(|(key, release)| !self.is_there(key, release) || self.is_idle(key));
        Ok(steps)
    }

    /// The plan of a rollout, with its waves by the label that the policy names.
    ///
    /// # Errors
    /// [`NoPlan`].
    pub(super) fn plan(
        &self,
        target: &Target,
        id: RolloutId,
        release: Option<ReleaseRef>,
        purpose: Purpose,
        now: Moment,
    ) -> Result<NewRollout, NoPlan> {
        let value = |name: &HostName| {
            let labels = &self.registry.hosts.get(name)?.labels;
            labels.get(target.policy.by.as_deref()?).cloned()
        };
        let hosts = target.hosts.keys();
        let values = hosts.filter_map(|name| Some((name.clone(), value(name)?)));
        target.plan_by(&values.collect(), id, release, purpose, now)
    }

    /// The deployment that runs for an application in an environment.
    pub fn running_in(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> Option<DeploymentId> {
        let here = |d: &&Deployment| d.ended.is_none() && d.is_of(environment, application);
        self.deployments
            .values()
            .rev()
            .find(here)
            .map(|deployment| deployment.id)
    }

    /// The only application that an environment places, where there is just one.
    pub fn only_application(&self, environment: &EnvironmentName) -> Option<ApplicationName> {
        let place = self.environments.get(environment)?;
        place.file.only_application().cloned()
    }

    /// What names an application in a command, with a space before it; nothing where it is the only one of its
    /// environment, and need not be named.
    pub fn application_option(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> String {
        match self.only_application(environment) {
            Some(only) if only == *application => String::new(),
            _ => format!(" --application {application}"),
        }
    }

    pub(super) fn key(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        component: &ComponentName,
    ) -> TargetKey {
        TargetKey {
            environment: environment.clone(),
            application: application.clone(),
            component: component.clone(),
            pool: PoolName::default(),
        }
    }

    /// Whether a release is the target's, and on every host that can be reached, and it stays so.
    pub(super) fn is_there(&self, key: &TargetKey, release: &ReleaseRef) -> bool {
        self.targets.get(key).is_some_and(|target| {
            target.converges()
                && target.release.as_ref() == Some(release)
                && target
                    .hosts
                    .values()
                    .all(|host| !host.is_connected() || host.running.as_ref() == Some(release))
        })
    }

    pub(super) fn step(
        &self,
        target: TargetKey,
        release: Option<ReleaseRef>,
        purpose: Purpose,
    ) -> Step {
        let from = self
            .targets
            .get(&target)
            .and_then(|target| target.release.clone());
        Step {
            target,
            leaves: None,
            release,
            from,
            purpose,
            status: StepStatus::Waiting,
        }
    }

    pub(super) fn begin(
        &mut self,
        deployment: Deployment,
        evidence: Vec<Proven>,
        now: Moment,
    ) -> DeploymentId {
        self.numbers.deployment += 1;
        let id = DeploymentId(self.numbers.deployment);
        let version = deployment
            .version
            .as_ref()
            .map_or("what ran before".to_owned(), ToString::to_string);
        let object = format!(
            "{} {}@{version}",
            deployment.environment, deployment.application
        );
        let action = if deployment.purpose == Purpose::Forward {
            "deploy"
        } else {
            "rollback"
        };
        let (by, reason) = (deployment.by.clone(), deployment.reason.clone());
        let deployment = Deployment { id, ..deployment };
        self.decided(&deployment);
        let plan = plan(&deployment);
        let entry = self.note(now, &by, action, object, &reason);
        entry.plan = Some(plan);
        entry.evidence = evidence;
        self.deployments.insert(id, deployment);
        self.dirty.insert(Object::Deployment(id));
        let ended: Vec<DeploymentId> = self
            .deployments
            .iter()
            .filter(|(_, d)| d.ended.is_some())
            .map(|(id, _)| *id)
            .collect();
        for old in ended.iter().take(ended.len().saturating_sub(KEPT)) {
            self.deployments.remove(old);
            self.dirty.insert(Object::Deployment(*old));
        }
        id
    }

    pub(super) fn refuse_held(&self) -> Result<(), Refused> {
        match &self.held {
            Some(why) => Err(Refused::Held(why.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn refuse_locked(
        &self,
        keys: &BTreeSet<TargetKey>,
        now: Moment,
    ) -> Result<(), Refused> {
        // Whatever the pool: both are the component's.
        let components: BTreeSet<RouterKey> = keys.iter().map(RouterKey::from).collect();
        let in_the_way = self.deployments.values().find(|deployment| {
            deployment.ended.is_none()
                && deployment
                    .steps
                    .iter()
                    .any(|step| components.contains(&RouterKey::from(&step.target)))
        });
        match in_the_way {
            None => Ok(()),
            Some(deployment) => {
                let version = deployment
                    .version
                    .as_ref()
                    .map_or(String::new(), |version| format!(" {version}"));
                let seconds = now.since(deployment.started_at).as_secs();
                Err(Refused::Locked {
                    id: deployment.id,
                    what: format!(
                        "{}{version} to {}",
                        deployment.application, deployment.environment
                    ),
                    by: deployment.by.clone(),
                    since: tamer_core::moment::Span::secs(seconds).to_string(),
                })
            }
        }
    }
}

/// SHA-256 of a deployment's plan, the one that approvals name.
fn plan(deployment: &Deployment) -> Digest {
    tamer_kit::hash::sha256(&ToApprove::from(deployment).to_json())
}

/// How many bundles that do not count a message names.
const NAMED: usize = 3;

/// Refuses a release of which less is proven than is demanded. Nothing overrides that.
fn proven(
    demanded: &Demanded,
    wanted: &Wanted,
    key: &TargetKey,
    release: &ReleaseRef,
) -> Result<(), Refused> {
    let nothing = Evidence::default();
    let evidence = wanted.evidence.get(&release.manifest).unwrap_or(&nothing);
    let missing = demanded.missing(&evidence.proven);
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.into_iter().map(|kind| {
        let keys = demanded.keys.iter();
        let keys = keys.filter(|(_, key)| key.states.contains(&kind));
        let keys: Vec<_> = keys.map(|(name, _)| format!("`{name}`")).collect();
        format!("{kind} (by key {})", keys.join(" or "))
    });
    let aside = evidence.aside.iter().take(NAMED);
    Err(Refused::Evidence {
        environment: wanted.environment.clone(),
        what: format!("{}/{} {}", key.application, key.component, release.version),
        missing: missing.collect::<Vec<_>>().join(", "),
        aside: aside.map(|why| format!("; {why}")).collect(),
    })
}

// === impl Wanted ===

impl Wanted {
    /// What is proven of each release, as the audit log has it.
    fn shown(&self) -> Vec<Proven> {
        let releases = self.releases.iter().take(MAX_PROVEN);
        let of = releases.filter_map(|(_, release)| {
            let evidence = self.evidence.get(&release.manifest)?;
            Some(Proven {
                manifest: release.manifest,
                proven: cut(evidence.by.join(", "), MAX_BY),
            })
        });
        of.filter(|it| !it.proven.is_empty()).collect()
    }
}

// === impl Evidence ===

impl From<&Judged> for Evidence {
    fn from(judged: &Judged) -> Self {
        let said = |it: &SetAside| {
            let what = it.claimed.map_or("a bundle", EvidenceKind::name);
            format!("{what} does not count: {}", it.why)
        };
        Self {
            proven: judged.kinds(),
            by: judged
                .proven
                .iter()
                .map(|(kind, proof)| format!("{kind} by {}", proof.key))
                .collect(),
            aside: judged.set_aside.iter().map(said).collect(),
        }
    }
}
