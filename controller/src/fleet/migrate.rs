//! Databases of deployments, read and migrated on hosts: who has the lease, what it was ordered to do, and
//! what follows from its answer. An order is written down before it is sent; the lease never passes on by
//! itself, but from a host that was only to read.

use super::Fleet;
use super::databases::Carrier;
use super::observation::short;
use super::persist::Object;
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::generation::Generation;
use tamer_core::id::{ApplicationName, EnvironmentName, HostName, SchemaName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::Event;
use tamer_core::rollout::deployment::DeploymentId;
use tamer_core::schema::migration::{Follows, Lease, START_WITHIN, State};
use tamer_core::schema::record::Started;
use tamer_core::schema::{Migration, MigrationOrder, Task, What};

/// What one host is told of databases: which component's release it must have, and the order if it has one.
pub(super) type Told = (HostName, TargetKey, ReleaseRef, Option<MigrationOrder>);

impl Fleet {
    /// What a deployment is to do to each database: to read it first, then to bring it up.
    pub(super) fn migrations(
        &self,
        site: (&EnvironmentName, &ApplicationName),
        steps: &[(TargetKey, ReleaseRef)],
        no_way_back: bool,
    ) -> Vec<Migration> {
        let carriers = self.carriers(site, steps).into_iter();
        carriers
            .map(|(schema, carrier)| Migration {
                no_way_back,
                ..migration(schema, Task::Up, carrier.spec.target, carrier)
            })
            .collect()
    }

    /// Everything that hosts are told of databases now.
    pub(super) fn told_of_databases(&self) -> Vec<Told> {
        let running = self.deployments.values().filter(|it| it.ended.is_none());
        let migrations = running.flat_map(|it| &it.migrations);
        migrations
            .filter_map(|it| {
                let order = it.order().map(|(_, order)| order);
                Some((
                    it.host()?.clone(),
                    it.carrier.clone(),
                    it.release.clone(),
                    order,
                ))
            })
            .collect()
    }

    /// Takes a deployment's migration one step further. Says whether anything has changed.
    pub(super) fn migrate(&mut self, id: DeploymentId, number: usize, now: Moment) -> bool {
        let Some(migration) = self.migration(id, number).cloned() else {
            return false;
        };
        let next = match &migration.state {
            State::Waiting => self.choose(&migration).map(State::Chosen),
            State::Chosen(host) => self.order(id, &migration, host, now),
            State::Ordered(lease) => return self.hear(id, number, &migration, lease, now),
            _ => None,
        };
        match next {
            None => false,
            Some(state) => {
                self.become_(id, number, state);
                true
            }
        }
    }

    fn migration(&self, id: DeploymentId, number: usize) -> Option<&Migration> {
        self.deployments.get(&id)?.migrations.get(number)
    }

    pub(super) fn become_(&mut self, id: DeploymentId, number: usize, state: State) {
        let Some(deployment) = self.deployments.get_mut(&id) else {
            return;
        };
        let Some(migration) = deployment.migrations.get_mut(number) else {
            return;
        };
        self.stale.extend(migration.host().cloned());
        migration.state = state;
        self.stale.extend(migration.host().cloned());
        self.dirty.insert(Object::Deployment(id));
    }

    /// A host that can run the programs: one that has them already, rather than one that must fetch them.
    fn choose(&self, migration: &Migration) -> Option<HostName> {
        let target = self.targets.get(&migration.carrier)?;
        let able = target
            .hosts
            .keys()
            .filter(|name| self.is_able(migration, name));
        able.min_by_key(|name| !target.hosts[*name].has(Some(&migration.release)))
            .cloned()
    }

    fn is_able(&self, migration: &Migration, name: &HostName) -> bool {
        let target = self.targets.get(&migration.carrier);
        let host = target.and_then(|target| target.hosts.get(name));
        host.is_some_and(|host| host.is_connected() && host.known && host.hold.is_none())
    }

    /// Gives the host its order once it has the release.
    fn order(
        &mut self,
        id: DeploymentId,
        migration: &Migration,
        name: &HostName,
        now: Moment,
    ) -> Option<State> {
        if !self.is_able(migration, name) {
            return Some(State::Waiting);
        }
        let target = self.targets.get(&migration.carrier)?;
        let seat = self.seats.get(name)?;
        let told = seat.desired.as_ref().map(|it| it.generation);
        let told = told.unwrap_or_default();
        if !target.hosts[name].has(Some(&migration.release)) {
            let said = seat.components.iter().find(|said| {
                super::hosts::is_of(&said.slot, &migration.carrier) && seat.generation == told
            });
            // A line that is cut heals by itself, and then the release comes.
            let failure = said
                .and_then(|said| said.staging_failure.as_ref())
                .filter(|failure| failure.kind != FailureKind::Fetch)?;
            return Some(State::Failed {
                version: None,
                failure: short(failure),
            });
        }
        // The number of the state that it will be told in.
        let order = told.max(seat.generation).next(self.epoch);
        let task = migration.next_task();
        let site = (
            migration.carrier.environment.clone(),
            migration.carrier.application.clone(),
        );
        if task != Task::Read {
            if let Some(state) = self.another_is_open(id, migration, now) {
                return Some(state);
            }
            let started = Started {
                id: order,
                deployment: id,
                host: name.clone(),
                release: migration.release.clone(),
                task,
                from: migration.from.unwrap_or_default(),
                to: migration.to,
            };
            let what = What::Started(started);
            self.write_down((&site.0, &site.1), &migration.schema, what, now);
            let object = format!("{} {} `{}`", site.0, site.1, migration.schema);
            let what = format!(
                "{name} brings it {task} from {} to {}",
                migration.from.unwrap_or_default(),
                migration.to
            );
            self.note(now, "controller", "schema.migrate", object, &what);
        }
        Some(State::Ordered(Lease {
            host: name.clone(),
            incarnation: self.incarnation(name),
            id: order,
            task,
            since: now,
            start_by: now + START_WITHIN,
        }))
    }

    /// An order that was written down and that no deployment knows of. One of this deployment, in this
    /// epoch, was never sent: an order is sent only after the deployment knows of it. Of all others a
    /// person must say what became of them.
    fn another_is_open(
        &mut self,
        id: DeploymentId,
        migration: &Migration,
        now: Moment,
    ) -> Option<State> {
        let key = &migration.carrier;
        let (environment, application) = (key.environment.clone(), key.application.clone());
        let known = self
            .book
            .get(&environment, &application, &migration.schema)?;
        let open = known.open.clone()?;
        let started = &open.started;
        if started.deployment == id && started.id.epoch == self.epoch && open.unknown.is_none() {
            let why = "the controller stopped before it was sent".to_owned();
            let what = What::NotBegun {
                id: started.id,
                why,
            };
            self.write_down((&environment, &application), &migration.schema, what, now);
            return None;
        }
        let why = format!(
            "`{}` from {} to {} was begun on {} by deployment {}, and how it ended is not known",
            started.task, started.from, started.to, started.host, started.deployment
        );
        Some(State::Asks {
            host: started.host.clone(),
            failure: Failure::seen(FailureKind::Interrupted, why),
        })
    }

    fn incarnation(&self, name: &HostName) -> u32 {
        let host = self.registry.hosts.get(name);
        host.map_or(0, |host| host.incarnation)
    }

    /// What the leased host says of its order, and what follows from that.
    fn hear(
        &mut self,
        id: DeploymentId,
        number: usize,
        migration: &Migration,
        lease: &Lease,
        now: Moment,
    ) -> bool {
        let gone = self.incarnation(&lease.host) != lease.incarnation
            || !self.is_placed(&migration.carrier, &lease.host);
        let away = !self.is_able(migration, &lease.host);
        if lease.task == Task::Read && (gone || away) {
            // Reading changes nothing: anybody may do it.
            self.become_(id, number, State::Waiting);
            return true;
        }
        let follows = match self.said(migration, lease) {
            Some(follows) => follows,
            None if gone => {
                let why = format!("{} left the fleet while it had the order", lease.host);
                Follows::Asks(None, Failure::seen(FailureKind::Interrupted, why))
            }
            None => return false,
        };
        self.follow(id, number, migration, lease, follows, now)
    }

    fn is_placed(&self, key: &TargetKey, name: &HostName) -> bool {
        let target = self.targets.get(key);
        target.is_some_and(|target| target.hosts.contains_key(name))
    }

    fn said(&self, migration: &Migration, lease: &Lease) -> Option<Follows> {
        let seat = self.seats.get(&lease.host)?;
        let mut said = seat.components.iter();
        let said = said.find(|said| super::hosts::is_of(&said.slot, &migration.carrier))?;
        let report = said.migration.as_ref().filter(|it| it.id == lease.id)?;
        Some(Migration::follows(lease, &report.status))
    }

    fn follow(
        &mut self,
        id: DeploymentId,
        number: usize,
        migration: &Migration,
        lease: &Lease,
        follows: Follows,
        now: Moment,
    ) -> bool {
        let order = lease.id;
        let begun = lease.task != Task::Read;
        let (what, state) = match follows {
            Follows::Nothing => return false,
            Follows::Read(version) => {
                let host = lease.host.clone();
                let state = self.after_reading(id, number, migration, version);
                (Some(What::Read { version, host }), state)
            }
            Follows::Done(version) if version == migration.to => {
                (Some(What::Done { id: order, version }), State::Done)
            }
            Follows::Done(version) => {
                let why = format!("it has {version}, and was to have {}", migration.to);
                let failure = Failure::seen(FailureKind::Migration, why);
                failed(order, version, failure)
            }
            Follows::Failed(version, failure) => failed(order, version, short(&failure)),
            Follows::Again(failure) => (begun.then(|| not_begun(order, &failure)), State::Waiting),
            Follows::NotBegun(_, failure) => {
                let failure = short(&failure);
                let what = begun.then(|| not_begun(order, &failure));
                (
                    what,
                    State::Failed {
                        version: None,
                        failure,
                    },
                )
            }
            Follows::Asks(version, failure) => {
                let failure = short(&failure);
                let what = What::Unknown {
                    id: order,
                    version,
                    why: failure.message.clone(),
                };
                let host = lease.host.clone();
                (Some(what), State::Asks { host, failure })
            }
        };
        let key = &migration.carrier;
        if let Some(what) = what {
            let site = (key.environment.clone(), key.application.clone());
            self.write_down((&site.0, &site.1), &migration.schema, what, now);
        }
        self.become_(id, number, state);
        self.free(id, now);
        true
    }

    /// The database was read: now it is known whether all of it is possible, and in what order.
    fn after_reading(
        &mut self,
        id: DeploymentId,
        number: usize,
        migration: &Migration,
        version: u64,
    ) -> State {
        let Some(deployment) = self.deployments.get(&id) else {
            return State::Done;
        };
        let site = (&deployment.environment, &deployment.application);
        let spec = self.declared.get(&migration.release.manifest);
        let spec = spec.and_then(|it| it.schemas.get(&migration.schema));
        let (before, state) = match (migration.task, spec) {
            (_, None) => {
                let why = "nothing is known any more of its programs".to_owned();
                (None, State::Refused(why))
            }
            (Task::Down, Some(_)) if version <= migration.to => (None, State::Done),
            (Task::Down, Some(spec)) => {
                let state = match spec.no_way_down(version, migration.to) {
                    Some(why) => State::Refused(format!("the database has {version}: {why}")),
                    None => State::Waiting,
                };
                (Some(0), state)
            }
            (_, Some(spec)) => {
                let carrier = Carrier {
                    key: migration.carrier.clone(),
                    release: migration.release.clone(),
                    spec: spec.clone(),
                };
                let steps = Self::to_come(deployment);
                let question = self.question(site, &migration.schema, version, &steps, &carrier);
                let answer = question.answer();
                let mut obstacles = answer.obstacles;
                obstacles.retain(|it| !(migration.no_way_back && it.may_be_crossed()));
                let said: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
                let state = match answer.up_before {
                    _ if !said.is_empty() => State::Refused(said.join("; ")),
                    None => State::Done,
                    Some(_) => State::Waiting,
                };
                (answer.up_before, state)
            }
        };
        let deployment = self.deployments.get_mut(&id);
        if let Some(migration) = deployment.and_then(|it| it.migrations.get_mut(number)) {
            migration.from = Some(version);
            migration.before = before.unwrap_or(0);
            if state == State::Done {
                migration.to = version;
            }
        }
        state
    }

    /// A rollout that is frozen goes back once the database is where that is possible.
    pub(super) fn free(&mut self, id: DeploymentId, now: Moment) {
        let Some(deployment) = self.deployments.get(&id) else {
            return;
        };
        let mut frees = deployment
            .migrations
            .iter()
            .filter_map(|it| Some((it.frees.as_ref()?, &it.state)))
            .peekable();
        let Some((asked, _)) = frees.peek() else {
            return;
        };
        let asked = (*asked).clone();
        if frees.any(|(_, state)| *state != State::Done) {
            return;
        }
        self.draw_line(&asked.target, now);
        let event = Event::RollbackAsked {
            by: asked.by,
            reason: asked.reason,
        };
        // It may have been turned around or ended meanwhile; then there is nothing to ask for.
        let _ = self.apply(&asked.target, &event, now);
    }

    /// Has a target know whether its release works with the databases as they are.
    pub(super) fn draw_line(&mut self, key: &TargetKey, now: Moment) {
        let Some(target) = self.targets.get(key) else {
            return;
        };
        let release = target.release.as_ref();
        let line = release.and_then(|release| self.crosses_line(key, release));
        if line != target.line {
            // Never refused.
            let _ = self.apply(key, &Event::Line(line), now);
        }
    }
}

fn failed(id: Generation, version: u64, failure: Failure) -> (Option<What>, State) {
    let what = What::Failed {
        id,
        version,
        why: failure.message.clone(),
    };
    let version = Some(version);
    (Some(what), State::Failed { version, failure })
}

fn not_begun(id: Generation, failure: &Failure) -> What {
    What::NotBegun {
        id,
        why: short(failure).message,
    }
}

/// A migration that has not begun.
pub(super) fn migration(schema: SchemaName, task: Task, to: u64, carrier: Carrier) -> Migration {
    Migration {
        schema,
        carrier: carrier.key,
        release: carrier.release,
        task,
        from: None,
        to,
        before: 0,
        no_way_back: false,
        frees: None,
        state: State::Waiting,
    }
}
