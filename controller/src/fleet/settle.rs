//! What nobody knows of a database, a person says after having looked.

use super::Fleet;
use super::deploy::{By, Refused};
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::id::{ApplicationName, EnvironmentName, SchemaName};
use tamer_core::moment::Moment;
use tamer_core::rollout::deployment::DeploymentId;
use tamer_core::schema::migration::State;
use tamer_core::schema::{Migration, What};

impl Fleet {
    /// Somebody has looked at a database of which it is not known how a migration ended, and says which
    /// version it has. Gives the database, and the deployment that goes on.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn settle_schema(
        &mut self,
        site: (&EnvironmentName, &ApplicationName),
        schema: Option<&SchemaName>,
        version: u64,
        by: &By,
        now: Moment,
    ) -> Result<(SchemaName, Option<DeploymentId>), Refused> {
        let wanted = |name: &SchemaName| schema.is_none_or(|only| only == name);
        let open = self.known(site).find_map(|(name, known)| {
            let open = known.open.as_ref().filter(|_| wanted(name))?;
            Some((name.clone(), open.clone()))
        });
        let Some((name, open)) = open else {
            return Err(Refused::NoDeployment(format!(
                "nothing is unsettled there: `tamer schema list {}` shows what is known",
                site.0
            )));
        };
        let host = &open.started.host;
        let seat = self.seats.get(host);
        if open.unknown.is_none() && seat.is_some_and(|seat| seat.session.is_some()) {
            return Err(Refused::Schema(format!(
                "{host} is connected and still at it, since {}: wait for its answer, or stop it there first",
                now.since(open.at).as_secs()
            )));
        }
        let what = What::Settled {
            version,
            by: by.who.clone(),
            reason: by.reason.clone(),
        };
        self.write_down(site, &name, what, now);
        let object = format!("{} {} `{name}` has {version}", site.0, site.1);
        self.note(now, &by.who, "schema.settle", object, &by.reason);
        let mut goes_on = None;
        let mut changes = Vec::new();
        for (id, deployment) in &self.deployments {
            if !deployment.is_of(site.0, site.1) || deployment.ended.is_some() {
                continue;
            }
            for (number, it) in deployment.migrations.iter().enumerate() {
                if it.schema == name && matches!(it.state, State::Asks { .. } | State::Ordered(_)) {
                    let state = settled(it, version, by);
                    changes.push((*id, number, state));
                    goes_on = Some(*id);
                }
            }
        }
        for (id, number, state) in changes {
            self.become_(id, number, state);
            self.free(id, now);
        }
        Ok((name, goes_on))
    }
}

/// What a migration is once somebody has said which version the database has: nothing is begun again by
/// that; who wants it tried again deploys again.
fn settled(migration: &Migration, version: u64, by: &By) -> State {
    if version == migration.to {
        return State::Done;
    }
    let why = format!("{} has looked, and says that it has {version}", by.who);
    State::Failed {
        version: Some(version),
        failure: Failure::seen(FailureKind::Migration, why),
    }
}
