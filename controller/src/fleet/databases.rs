//! An application's databases: what is known of them, what a deployment over them is to be asked, and how
//! far back is safe. Nothing here changes anything but what is remembered of releases.

use super::Fleet;
use super::deploy::Refused;
use super::persist::Object;
use std::collections::BTreeMap;
use tamer_core::digest::Digest;
use tamer_core::id::{ApplicationName, EnvironmentName, SchemaName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::Target;
use tamer_core::rollout::deployment::{Deployment, Step, StepStatus};
use tamer_core::schema::plan::{Back, Needs, Question, Reach, Runs, back, reach};
use tamer_core::schema::record::Known;
use tamer_core::schema::{Declared, Record, SchemaSpec, VersionRange, What};

/// A release that carries the programs of a database.
#[derive(Debug, Clone)]
pub(super) struct Carrier {
    pub(super) key: TargetKey,
    pub(super) release: ReleaseRef,
    pub(super) spec: SchemaSpec,
}

/// Where an application lives.
pub(super) type Site<'a> = (&'a EnvironmentName, &'a ApplicationName);

impl Fleet {
    /// Remembers what releases say of databases.
    pub fn declare(&mut self, declared: &BTreeMap<Digest, Declared>) {
        for (digest, said) in declared {
            if self.declared.get(digest) != Some(said) {
                self.declared.insert(*digest, said.clone());
                self.dirty.insert(Object::Declared(*digest));
            }
        }
    }

    /// Writes down what happened to a database: from here on it is known, and it is durable before
    /// anything else is.
    pub(super) fn write_down(
        &mut self,
        site: Site<'_>,
        schema: &SchemaName,
        what: What,
        at: Moment,
    ) {
        let record = Record {
            at,
            environment: site.0.clone(),
            application: site.1.clone(),
            schema: schema.clone(),
            what,
        };
        self.book.apply(&record);
        self.records.push(record);
        let ours = self.sited(site).map(|target| target.key.clone());
        let ours: Vec<TargetKey> = ours.collect();
        self.restless.extend(ours);
    }

    /// What happened to databases since the last call: to be written down before anything is sent.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// Takes in what was written down.
    pub fn remember(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.book.apply(record));
    }

    /// What is known of an application's databases.
    pub(super) fn known(&self, site: Site<'_>) -> impl Iterator<Item = (&SchemaName, &Known)> {
        self.book.of(site.0, site.1).into_iter().flatten()
    }

    /// The targets of an application in an environment.
    pub(super) fn sited<'a>(&'a self, site: Site<'a>) -> impl Iterator<Item = &'a Target> {
        self.targets.values().filter(move |target| {
            (&target.key.environment, &target.key.application) == (site.0, site.1)
        })
    }

    pub(super) fn needs(
        &self,
        key: &TargetKey,
        release: &ReleaseRef,
        schema: &SchemaName,
    ) -> Needs {
        Needs {
            component: key.component.clone(),
            release: release.clone(),
            range: self.range(release, schema),
        }
    }

    fn range(&self, release: &ReleaseRef, schema: &SchemaName) -> Option<VersionRange> {
        let declared = self.declared.get(&release.manifest)?;
        Some(declared.range(schema))
    }

    /// The databases of an application, each with the release that carries its programs when the targets in
    /// `then` run these releases, and the others what they run.
    pub(super) fn carriers(
        &self,
        site: Site<'_>,
        then: &[(TargetKey, ReleaseRef)],
    ) -> BTreeMap<SchemaName, Carrier> {
        let mut all = BTreeMap::new();
        let named = |key: &TargetKey| then.iter().find(|(named, _)| named == key);
        let rest = self
            .sited(site)
            .filter(|target| named(&target.key).is_none())
            .filter_map(|target| Some((&target.key, target.release.as_ref()?)));
        // What is named comes last, and prevails.
        for (key, release) in rest.chain(then.iter().map(|(key, release)| (key, release))) {
            let Some(declared) = self.declared.get(&release.manifest) else {
                continue;
            };
            for (schema, spec) in &declared.schemas {
                let carrier = Carrier {
                    key: key.clone(),
                    release: release.clone(),
                    spec: spec.clone(),
                };
                all.insert(schema.clone(), carrier);
            }
        }
        all
    }

    /// What is to be asked before these rollouts, of a database that has the version `now`.
    pub(super) fn question(
        &self,
        site: Site<'_>,
        schema: &SchemaName,
        now: u64,
        rollouts: &[(TargetKey, ReleaseRef)],
        carrier: &Carrier,
    ) -> Question {
        let running = self.sited(site).flat_map(|target| {
            target.hosts.iter().filter_map(|(name, host)| {
                Some(Runs {
                    host: name.clone(),
                    needs: self.needs(&target.key, host.running.as_ref()?, schema),
                    stays: !host.is_connected() || host.hold.is_some(),
                })
            })
        });
        let at = rollouts.iter().position(|(key, _)| *key == carrier.key);
        // Programs that are there already serve in front of any of the rollouts.
        let at = at.or_else(|| rollouts.len().checked_sub(1));
        Question {
            schema: schema.clone(),
            now,
            target: at.map(|at| (carrier.spec.target, at)),
            rollouts: rollouts
                .iter()
                .map(|(key, release)| self.needs(key, release, schema))
                .collect(),
            running: running.collect(),
        }
    }

    /// Why a release may not be brought to a target: it does not work with a database as that is now.
    pub(super) fn crosses_line(&self, key: &TargetKey, release: &ReleaseRef) -> Option<String> {
        let site = (&key.environment, &key.application);
        self.known(site).find_map(|(schema, known)| {
            let (version, _) = known.version?;
            let what = format!("{} {}", key.component, release.version);
            match self.range(release, schema) {
                Some(range) if range.contains(version) => None,
                Some(range) => Some(format!(
                    "{what} works with {schema} {range}, and the database has {version}"
                )),
                None => Some(format!(
                    "nothing is known of what {what} works with, and the database `{schema}` has {version}"
                )),
            }
        })
    }

    /// How far back is safe from a deployment while a database has `version`: what may be gone back to, as
    /// people read it, and why not even the release before is safe.
    pub(crate) fn safe_back(
        &self,
        schema: &SchemaName,
        version: u64,
        steps: &[(TargetKey, Option<ReleaseRef>)],
    ) -> (String, String) {
        let (mut safe, mut why) = (Vec::new(), Vec::new());
        for (key, from) in steps {
            let Some(from) = from else { continue };
            let mut former = vec![self.needs(key, from, schema)];
            for (release, bad) in self.former(key) {
                if !bad && former.iter().all(|known| known.release != *release) {
                    former.push(self.needs(key, release, schema));
                }
            }
            match reach(version, &former) {
                Reach::To(release) => safe.push((&key.component, release.version)),
                Reach::Nothing => {}
                Reach::Nowhere(needs) => why.push(match needs.range {
                    Some(range) => format!(
                        "{} {} works with {schema} {range}",
                        needs.component, needs.release.version
                    ),
                    None => format!(
                        "nothing is known of what {} {} works with",
                        needs.component, needs.release.version
                    ),
                }),
            }
        }
        let same = safe.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let text = match &safe[..] {
            [] => String::new(),
            [(_, version), ..] if same => version.to_string(),
            several => several
                .iter()
                .map(|(component, version)| format!("{component} {version}"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        if why.is_empty() {
            (text, String::new())
        } else {
            (String::new(), why.join(", "))
        }
    }

    /// The former releases of a target that lie before what it runs, the newest first, and whether each
    /// was found bad.
    fn former(&self, key: &TargetKey) -> impl Iterator<Item = (&ReleaseRef, bool)> {
        let target = self.targets.get(key);
        target.into_iter().flat_map(|target| {
            let bad = |release: &ReleaseRef| target.bad.contains(&release.manifest);
            target
                .history
                .iter()
                .rev()
                .map(move |release| (release, bad(release)))
        })
    }

    /// What must be done to databases before the targets in `then` may run these releases again: down to
    /// which version, and by which release's programs.
    ///
    /// # Errors
    /// A sentence: it is not possible, or (without `with_down`) nobody has said that it may be done.
    pub(super) fn way_down(
        &self,
        site: Site<'_>,
        then: &[(TargetKey, Option<ReleaseRef>)],
        with_down: bool,
    ) -> Result<Vec<(SchemaName, u64, Carrier)>, Refused> {
        let mut all = Vec::new();
        for (schema, known) in self.known(site) {
            let Some((now, _)) = known.version else {
                continue;
            };
            let afterwards: Vec<Needs> = self
                .sited(site)
                .filter_map(|target| {
                    let named = then.iter().find(|(key, _)| *key == target.key);
                    let release = match named {
                        Some((_, release)) => release.as_ref()?,
                        None => target.release.as_ref()?,
                    };
                    Some(self.needs(&target.key, release, schema))
                })
                .collect();
            let carrier = self.knows_the_way_down(site, schema, known);
            let environment = site.0;
            let application = self.application_option(site.0, site.1);
            match back(
                schema,
                now,
                &afterwards,
                carrier.as_ref().map(|it| &it.spec),
            ) {
                Back::Nothing => {}
                Back::Impossible(why) => {
                    return Err(Refused::Schema(format!(
                        "this is further back than the database `{schema}` allows: {why}. Deploy a version that works with {now} instead"
                    )));
                }
                Back::Down(to) if !with_down => {
                    return Err(Refused::Schema(format!(
                        "the database `{schema}` has {now}, and what would run again needs {to}: \
                         `tamer rollback {environment}{application} --with-down --reason TEXT` brings it down first, and what only {now} can hold is lost"
                    )));
                }
                Back::Down(to) => {
                    all.extend(carrier.map(|carrier| (schema.clone(), to, carrier)));
                }
            }
        }
        Ok(all)
    }

    /// A release that can bring a database down from where it is. An older one than that which brought it there
    /// would not know the steps, and a migration tool may take that for having nothing to do.
    fn knows_the_way_down(
        &self,
        site: Site<'_>,
        schema: &SchemaName,
        known: &Known,
    ) -> Option<Carrier> {
        let (now, _) = known.version?;
        let here = self.carriers(site, &[]).remove(schema);
        if let Some(carrier) = here.filter(|it| it.spec.target >= now) {
            return Some(carrier);
        }
        let (brought, release) = known.brought_by.clone()?;
        let spec = self.declared.get(&release.manifest)?.schemas.get(schema)?;
        let carrier = Carrier {
            key: self.key(site.0, site.1, spec.component.as_ref()?),
            release,
            spec: spec.clone(),
        };
        (brought >= now).then_some(carrier)
    }

    /// Refuses to go on while it is not known how a migration ended.
    pub(super) fn refuse_open(&self, site: Site<'_>) -> Result<(), Refused> {
        let open = self
            .known(site)
            .find_map(|(schema, known)| Some((schema, known.open.as_ref()?)));
        match open {
            None => Ok(()),
            Some((schema, open)) => {
                let started = &open.started;
                let why = open
                    .unknown
                    .as_deref()
                    .unwrap_or("it has not said how it ended");
                Err(Refused::Open(format!(
                    "`{}` of the database `{schema}` from {} to {} was begun on {} by deployment {}, and how it ended is not known: {why}. \
                     Look at the database, then say which version it has: `tamer schema settle {}{} VERSION --reason TEXT`",
                    started.task,
                    started.from,
                    started.to,
                    started.host,
                    started.deployment,
                    site.0,
                    self.application_option(site.0, site.1),
                )))
            }
        }
    }

    /// The rollouts of a deployment that have not begun.
    pub(super) fn to_come(deployment: &Deployment) -> Vec<(TargetKey, ReleaseRef)> {
        let waits = |step: &&Step| step.status == StepStatus::Waiting;
        let steps = deployment.steps.iter().filter(waits);
        steps
            .filter_map(|step| Some((step.target.clone(), step.release.clone()?)))
            .collect()
    }
}
