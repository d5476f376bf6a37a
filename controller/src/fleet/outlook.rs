//! What a deployment would do, and what is known of databases, for people to see before and while it
//! happens.

use super::Fleet;
use super::deploy::{Refused, Wanted};
use tamer_core::desired::{Failure, Purpose};
use tamer_core::id::{ComponentName, HostName, PoolName, SchemaName, TargetKey};
use tamer_core::moment::{Moment, Span};
use tamer_core::policy::OnDrift;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::RolloutId;
use tamer_core::rollout::deployment::Deployment;
use tamer_core::rollout::estimate::{Usual, least};
use tamer_core::schema::Task;
use tamer_core::schema::migration::State;

/// What a deployment would do.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// Its rollouts, in order.
    pub rollouts: Vec<Ahead>,
    /// What it does to databases.
    pub databases: Vec<Database>,
    /// What stands in the way.
    pub obstacles: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
    /// The shortest time that it can take, by waves and bakes.
    pub least: Span,
    /// How long those before it took that changed the same components here; `None`: there are none.
    pub usual: Option<Usual>,
}

/// A rollout that would run.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// Where.
    pub target: TargetKey,
    /// From which release.
    pub from: Option<ReleaseRef>,
    /// To which release.
    pub to: ReleaseRef,
    /// Whether it is there already.
    pub unchanged: bool,
    /// Its waves, by name, with their hosts.
    pub waves: Vec<(String, Vec<HostName>)>,
    /// Hosts that are away or held.
    pub left_out: Vec<HostName>,
    /// The pool that routers then leave; `None`: they are not switched.
    pub leaves: Option<PoolName>,
    /// The routers that are then switched.
    pub routers: Vec<HostName>,
    /// Whether a person lets that happen.
    pub promoted: bool,
}

/// A database in a deployment.
#[derive(Debug, Clone)]
pub struct Database {
    /// Which one.
    pub schema: SchemaName,
    /// The version that it has; `None`: it is not known yet.
    pub from: Option<u64>,
    /// The version that it is to have.
    pub to: u64,
    /// How far back is safe then: `1.4.0`.
    pub safe_back: String,
    /// Why not even the release before is.
    pub no_way_back: String,
    /// How far it is, in a word.
    pub state: &'static str,
    /// Which host has the lease, and since when.
    pub host: Option<(HostName, Moment)>,
    /// In front of which component's rollout it comes.
    pub before: Option<ComponentName>,
    /// What failed.
    pub failure: Option<Failure>,
}

impl Fleet {
    /// What deploying this would do, as far as it is known without asking a host.
    ///
    /// # Errors
    /// [`Refused`]: it would be refused at once.
    pub fn outlook(&mut self, wanted: &Wanted, now: Moment) -> Result<Outlook, Refused> {
        self.declare(&wanted.declared);
        let steps = self.rollouts(wanted, now)?;
        let site = (&wanted.environment, &wanted.application);
        let mut outlook = Outlook::default();
        for (component, release) in &wanted.releases {
            let key = self.key(&wanted.environment, &wanted.application, component);
            let key = self.goes_to(key, release)?;
            let Some(target) = self.targets.get(&key) else {
                continue;
            };
            let unchanged = !steps.iter().any(|(step, _)| *step == key);
            let router = self.router_of(&key).filter(|_| self.is_idle(&key));
            let routers = router.map(|it| it.hosts.keys().cloned().collect());
            let mut ahead = Ahead {
                from: target.release.clone(),
                to: release.clone(),
                unchanged,
                waves: Vec::new(),
                left_out: Vec::new(),
                leaves: router.and_then(|it| it.active.clone()),
                routers: routers.unwrap_or_default(),
                promoted: router.is_some_and(|it| it.settings.approval),
                target: key,
            };
            if !unchanged
                && let Ok(new) = self.plan(
                    target,
                    RolloutId(0),
                    Some(release.clone()),
                    Purpose::Forward,
                    now,
                )
            {
                let waves = new.rollout.waves.iter();
                ahead.waves = waves.map(|wave| (wave.name.clone(), Vec::new())).collect();
                for (host, wave) in &new.waves {
                    if let Some((_, hosts)) = ahead.waves.get_mut(*wave as usize) {
                        hosts.push(host.clone());
                    }
                }
                let sizes: Vec<u32> = ahead.waves.iter().map(|it| it.1.len() as u32).collect();
                let mut takes = least(&new.rollout.policy, target.hosts.len() as u32, &sizes).0;
                takes += router.map_or_else(Default::default, |it| it.settings.bake.0);
                outlook.least.0 += takes;
                let away = target.hosts.keys();
                let away = away.filter(|name| !new.waves.contains_key(*name));
                ahead.left_out = away.cloned().collect();
            }
            if !unchanged && target.policy.on_drift == OnDrift::Block {
                let drifted: Vec<&HostName> = self.drifted(target).collect();
                if !drifted.is_empty() {
                    outlook.notes.push(format!(
                        "{component} was changed by hand on {}, and is refused there: tamer drift {}",
                        crate::notes::names(&drifted),
                        wanted.environment
                    ));
                }
            }
            outlook.rollouts.push(ahead);
        }
        let place = self.environments.get(&wanted.environment);
        let needed = place.map_or(0, |place| place.file.approval.needed);
        if needed > 0 && !steps.is_empty() {
            outlook.notes.push(format!(
                "{needed} must approve it (`tamer approve`): until then it is staged, and nothing is activated"
            ));
        }
        if steps.is_empty() {
            return Ok(outlook);
        }
        let same = steps.iter().map(|(key, _)| &key.component).collect();
        let before = self.deployments.values().rev();
        let alike = before.filter(|it| it.is_of(site.0, site.1) && it.changes() == same);
        outlook.usual = Usual::of(alike.filter_map(Deployment::took));
        if let Err(closed) = self.refuse_closed(site, false, now) {
            outlook.notes.push(closed.to_string());
        }
        let from: Vec<_> = steps
            .iter()
            .map(|(key, _)| {
                let target = self.targets.get(key);
                (key.clone(), target.and_then(|it| it.release.clone()))
            })
            .collect();
        for (schema, carrier) in self.carriers(site, &steps) {
            let known = self.book.get(site.0, site.1, &schema);
            let now_has = known.and_then(|it| it.version).map(|(version, _)| version);
            let to = now_has.unwrap_or_default().max(carrier.spec.target);
            let mut before = None;
            if let Some(version) = now_has {
                let question = self.question(site, &schema, version, &steps, &carrier);
                let answer = question.answer();
                before = answer
                    .up_before
                    .and_then(|at| steps.get(at))
                    .map(|(key, _)| key.component.clone());
                let said = answer.obstacles.iter().map(ToString::to_string);
                outlook.obstacles.extend(said);
            }
            let (safe_back, no_way_back) = self.safe_back(&schema, to, &from);
            outlook.databases.push(Database {
                schema,
                from: now_has,
                to,
                safe_back,
                no_way_back,
                state: "planned",
                host: None,
                before,
                failure: None,
            });
        }
        Ok(outlook)
    }

    /// The databases of a deployment, as they stand.
    pub fn databases(&self, deployment: &Deployment) -> Vec<Database> {
        let from: Vec<_> = deployment
            .steps
            .iter()
            .filter(|step| {
                !step.is_switch() && step.purpose == Purpose::Forward && step.from != step.release
            })
            .map(|step| (step.target.clone(), step.from.clone()))
            .collect();
        let databases = deployment.migrations.iter().map(|it| {
            let forward = it.task == Task::Up;
            let (safe_back, no_way_back) = match forward {
                true => self.safe_back(&it.schema, it.to, &from),
                false => Default::default(),
            };
            let (state, host, failure) = match &it.state {
                State::Waiting => ("waiting", None, None),
                State::Chosen(host) => {
                    ("waiting", Some((host.clone(), deployment.started_at)), None)
                }
                State::Ordered(lease) => {
                    let word = match lease.task {
                        Task::Read => "reading",
                        Task::Up => "up",
                        Task::Down => "down",
                    };
                    (word, Some((lease.host.clone(), lease.since)), None)
                }
                State::Asks { host, failure } => (
                    "unknown",
                    Some((host.clone(), Moment(0))),
                    Some(failure.clone()),
                ),
                State::Done => ("done", None, None),
                State::Failed { failure, .. } => ("failed", None, Some(failure.clone())),
                State::Refused(why) => {
                    let kind = tamer_core::desired::FailureKind::Migration;
                    ("refused", None, Some(Failure::seen(kind, why.clone())))
                }
            };
            let before = deployment.steps.get(it.before).filter(|_| forward);
            Database {
                schema: it.schema.clone(),
                from: it.from,
                to: it.to,
                safe_back,
                no_way_back,
                state,
                host,
                before: before.map(|step| step.target.component.clone()),
                failure,
            }
        });
        databases.collect()
    }
}
