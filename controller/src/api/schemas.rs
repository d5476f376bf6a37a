//! Databases: what a deployment would do to them, what was done, and what somebody has seen.

use super::deploying::by_whom;
use super::operator::{Answer, OperatorApi};
use super::{caller, operator, parse, parse_option, refused, stopped};
use crate::fleet::Fleet;
use crate::fleet::outlook::Outlook;
use crate::identity::registry::Role;
use crate::status;
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName, HostName, SchemaName};
use tamer_core::moment::Span;
use tamer_core::release::ReleaseRef;
use tamer_core::schema::record::Known;
use tamer_core::schema::{Record, What};
use tamer_core::version::Version;
use tamer_proto::v1;
use tonic::{Request, Response};

impl OperatorApi {
    pub(super) async fn outlook(
        &self,
        request: Request<v1::DeployRequest>,
    ) -> Answer<v1::PlanResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let environment: EnvironmentName = parse(&request.environment)?;
        let asked = Some(environment.clone());
        operator(&self.driver, &caller, asked, Role::Viewer).await?;
        let version: Version = parse(&request.version)?;
        let component: Option<ComponentName> = parse_option(&request.component)?;
        let application = self.application(&environment, &request.application).await?;
        let wanted = self
            .wanted(
                environment,
                application.clone(),
                component.as_ref(),
                version.clone(),
            )
            .await?;
        // It changes nothing but what is remembered of releases.
        let change = self
            .driver
            .change(move |fleet, now| fleet.outlook(&wanted, now));
        let outlook = change
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(plan(outlook, &application, &version)))
    }

    pub(super) async fn schemas(
        &self,
        request: Request<v1::ListSchemasRequest>,
    ) -> Answer<v1::ListSchemasResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let application: Option<ApplicationName> = parse_option(&request.application)?;
        let read = move |fleet: &Fleet| {
            let chosen = fleet.book.all().filter(|(place, of, ..)| {
                environment.as_ref().is_none_or(|only| only == *place)
                    && application.as_ref().is_none_or(|only| only == *of)
            });
            chosen
                .map(|(environment, application, schema, known)| v1::SchemaRow {
                    environment: environment.to_string(),
                    application: application.to_string(),
                    schema: schema.to_string(),
                    ..row(known)
                })
                .collect()
        };
        let schemas = self.driver.read(read).await.map_err(stopped)?;
        Ok(Response::new(v1::ListSchemasResponse { schemas }))
    }

    pub(super) async fn settle(
        &self,
        request: Request<v1::SettleSchemaRequest>,
    ) -> Answer<v1::SettleSchemaResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let environment: EnvironmentName = parse(&request.environment)?;
        let asked = Some(environment.clone());
        let by = operator(&self.driver, &caller, asked, Role::Deployer).await?;
        let application = self.application(&environment, &request.application).await?;
        let schema: Option<SchemaName> = parse_option(&request.schema)?;
        let by = by_whom(&by, &request.reason)?;
        let change = self.driver.change(move |fleet, now| {
            let site = (&environment, &application);
            fleet.settle_schema(site, schema.as_ref(), request.version, &by, now)
        });
        let (schema, deployment) = change
            .await
            .map_err(stopped)?
            .map_err(|error| refused(&error))?;
        Ok(Response::new(v1::SettleSchemaResponse {
            schema: schema.to_string(),
            deployment: deployment.map_or(0, |id| id.0),
        }))
    }
}

fn plan(outlook: Outlook, application: &ApplicationName, version: &Version) -> v1::PlanResponse {
    let named = |release: &ReleaseRef| release.version.to_string();
    let names = |hosts: &[HostName]| hosts.iter().map(ToString::to_string).collect();
    let rollouts = outlook.rollouts.iter().map(|ahead| v1::PlannedRollout {
        component: ahead.target.component.to_string(),
        pool: ahead.target.pool.to_string(),
        from: ahead.from.as_ref().map_or_else(String::new, named),
        to: named(&ahead.to),
        unchanged: ahead.unchanged,
        waves: ahead
            .waves
            .iter()
            .map(|(name, hosts)| v1::PlannedWave {
                name: name.clone(),
                hosts: names(hosts),
            })
            .collect(),
        left_out: names(&ahead.left_out),
        leaves: ahead
            .leaves
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        routers: names(&ahead.routers),
        promoted: ahead.promoted,
    });
    let unread = outlook.databases.iter().filter(|it| it.from.is_none());
    let notes = unread.map(|it| {
        format!(
            "what the database `{}` has is not known yet: the deployment reads it first, and stops there if it does not fit",
            it.schema
        )
    });
    v1::PlanResponse {
        application: application.to_string(),
        version: version.to_string(),
        rollouts: rollouts.collect(),
        notes: outlook.notes.into_iter().chain(notes).collect(),
        databases: outlook.databases.iter().map(status::database).collect(),
        obstacles: outlook.obstacles,
        least_ms: millis(outlook.least),
        usual: outlook.usual.map(|usual| v1::UsualTime {
            typical_ms: millis(usual.typical),
            shortest_ms: millis(usual.shortest),
            longest_ms: millis(usual.longest),
            of: usual.of as u32,
        }),
    }
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}

fn row(known: &Known) -> v1::SchemaRow {
    let open = known.open.as_ref();
    v1::SchemaRow {
        version: known.version.map(|(version, _)| version),
        known_ms: known.version.map_or(0, |(_, at)| at.0),
        open: open.map_or_else(String::new, |open| {
            let started = &open.started;
            let why = open.unknown.as_deref().unwrap_or("under way");
            format!(
                "{} from {} to {} on {} by deployment {}: {why}",
                started.task, started.from, started.to, started.host, started.deployment
            )
        }),
        unknown: open.is_some_and(|open| open.unknown.is_some()),
        past: known.past.iter().map(event).collect(),
        ..v1::SchemaRow::default()
    }
}

fn event(record: &Record) -> v1::SchemaEvent {
    let what = match &record.what {
        What::Read { version, host } => format!("{host} read {version}"),
        What::Started(started) => format!(
            "{} from {} to {} begun on {} by deployment {}, with the programs of {}",
            started.task,
            started.from,
            started.to,
            started.host,
            started.deployment,
            started.release.version
        ),
        What::Done { version, .. } => format!("done: {version}"),
        What::Failed { version, why, .. } => format!("failed, at {version}: {why}"),
        What::NotBegun { why, .. } => format!("not begun: {why}"),
        What::Unknown { version, why, .. } => match version {
            Some(version) => format!("how it ended is not known, {version} was read: {why}"),
            None => format!("how it ended is not known: {why}"),
        },
        What::Settled {
            version,
            by,
            reason,
        } => format!("{by} saw {version}: {reason}"),
    };
    v1::SchemaEvent {
        at_ms: record.at.0,
        what,
    }
}
