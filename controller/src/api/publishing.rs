//! What operators publish: roots, releases, environment files. The controller verifies, keeps and
//! vouches; it cannot make any of it.

use super::operator::OperatorApi;
use super::{internal, not_found, operator, operator_anywhere, parse, stopped};
use crate::fleet::Fleet;
use crate::identity::peer::Caller;
use crate::identity::registry::Role;
use crate::{following, status};
use tamer_core::auto;
use tamer_core::environment::Environment;
use tamer_core::id::{ApplicationName, EnvironmentName, OperatorName};
use tamer_core::text::BadText;
use tamer_kit::clock;
use tamer_kit::hash::sha256;
use tamer_proto::v1;
use tamer_release::trust::names::environment_target;
use tamer_release::trust::{PublicationError, RepositoryName};
use tonic::Status;

impl OperatorApi {
    pub(super) async fn trust(&self) -> Result<v1::GetTrustResponse, Status> {
        let root = self
            .publications
            .first_team_root()
            .await
            .map_err(publication)?;
        let (team, repositories) = self.publications.glance().await.map_err(publication)?;
        let [snapshot_key, timestamp_key] = self.online_keys.clone();
        Ok(v1::GetTrustResponse {
            team_root: root.map_or_else(String::new, |root| sha256(&root).to_string()),
            snapshot_key,
            timestamp_key,
            repositories: repositories
                .into_iter()
                .map(|glance| {
                    let [
                        root_expires,
                        targets_expires,
                        snapshot_expires,
                        timestamp_expires,
                    ] = glance.expires;
                    v1::RepositoryStatus {
                        name: glance.name,
                        root_version: glance.root,
                        targets_version: glance.targets,
                        root_expires,
                        targets_expires,
                        snapshot_expires,
                        timestamp_expires,
                    }
                })
                .collect(),
            team_root_version: team.root,
            team_root_expires: {
                let [root, ..] = team.expires;
                root
            },
        })
    }

    /// The operator who calls, if they may publish into this repository: into an environment's whoever is deployer
    /// there; into an application's whoever is one anywhere, for what is published runs nowhere before somebody deploys
    /// it there. What is published is signed besides, by keys that no role gives.
    pub(super) async fn publisher(
        &self,
        caller: &Caller,
        repository: &str,
    ) -> Result<OperatorName, Status> {
        match repository.parse() {
            Ok(RepositoryName::Environment(environment)) => {
                operator(&self.driver, caller, Some(environment), Role::Deployer).await
            }
            Ok(RepositoryName::Application(_)) => {
                operator_anywhere(&self.driver, caller, Role::Deployer).await
            }
            _ => operator(&self.driver, caller, None, Role::Deployer).await,
        }
    }

    pub(super) async fn register_team(
        &self,
        by: OperatorName,
        request: v1::RegisterTeamRootRequest,
    ) -> Result<v1::RegisterTeamRootResponse, Status> {
        let digest = sha256(&request.root).to_string();
        self.publications
            .register_team_root(request.root, clock::now())
            .await
            .map_err(publication)?;
        self.mirror.published().await;
        self.note(by, "trust.root", "team".to_owned()).await?;
        Ok(v1::RegisterTeamRootResponse { digest })
    }

    pub(super) async fn publish_new_root(
        &self,
        by: OperatorName,
        request: v1::PublishRootRequest,
    ) -> Result<v1::PublishRootResponse, Status> {
        let name: RepositoryName = parse(&request.repository)?;
        let with_targets = !request.targets.is_empty();
        let targets = with_targets.then_some((request.targets, request.expected));
        let version = self
            .publications
            .publish_root(name.clone(), request.root, targets, clock::now())
            .await
            .map_err(publication)?;
        self.mirror.published().await;
        if with_targets && let RepositoryName::Environment(environment) = &name {
            // The same file under a later signed version: what agents are told goes along.
            let signed = self.catalog.environment(environment).await;
            if let Some((version, text, file)) = signed.map_err(|error| not_found(&error))? {
                let environment = environment.clone();
                let change = self.driver.change(move |fleet, now| {
                    fleet.set_environment(&environment, version, text, file, now);
                });
                change.await.map_err(stopped)?;
            }
        }
        self.note(
            by,
            "trust.root",
            format!("{} version {version}", request.repository),
        )
        .await?;
        Ok(v1::PublishRootResponse { version })
    }

    pub(super) async fn publish_new_targets(
        &self,
        by: OperatorName,
        request: v1::PublishTargetsRequest,
    ) -> Result<v1::PublishTargetsResponse, Status> {
        let name: RepositoryName = parse(&request.repository)?;
        let now = clock::now();
        let offered = self.publications.check_targets(
            name.clone(),
            request.targets.clone(),
            request.expected,
            now,
        );
        let offered = offered.await.map_err(publication)?;
        let mut environment: Option<(String, Environment)> = None;
        for (target, described) in &offered {
            match self
                .catalog
                .blobs
                .head(&described.digest)
                .await
                .map_err(|error| internal(&error))?
            {
                Some(length) if length == described.length => {}
                _ => {
                    return Err(Status::failed_precondition(format!(
                        "{target}: its content must be uploaded first"
                    )));
                }
            }
            if matches!(name, RepositoryName::Environment(_)) {
                let file = self.catalog.environment_file(target, described).await;
                environment = Some(file.map_err(|error| not_found(&error))?);
            }
        }
        if let (RepositoryName::Environment(name), Some((text, file))) = (&name, &environment) {
            self.refuse_circle(name, text, file).await?;
        }
        let version = self
            .publications
            .publish_targets(name.clone(), request.targets, request.expected, now)
            .await
            .map_err(publication)?;
        self.mirror.published().await;
        if let (RepositoryName::Environment(environment_name), Some((text, file))) =
            (&name, environment)
        {
            let environment_name = environment_name.clone();
            let change = self.driver.change(move |fleet, now| {
                fleet.set_environment(&environment_name, version, text, file, now);
            });
            change.await.map_err(stopped)?;
        }
        if let RepositoryName::Application(application) = &name {
            following::take_in(&self.driver, &self.catalog, application.clone()).await;
        }
        self.note(by, "publish", format!("{name} version {version}"))
            .await?;
        Ok(v1::PublishTargetsResponse { version })
    }

    /// Refuses an environment file with which environments would follow one another in a circle.
    async fn refuse_circle(
        &self,
        name: &EnvironmentName,
        text: &str,
        file: &Environment,
    ) -> Result<(), Status> {
        let Some(from) = file.auto.as_ref().and_then(|auto| auto.from.clone()) else {
            return Ok(());
        };
        let asked = name.clone();
        let read = move |fleet: &Fleet| fleet.circle(&asked, &from);
        let Some(way) = self.driver.read(read).await.map_err(stopped)? else {
            return Ok(());
        };
        let reason = BadText::about(
            &environment_target(name),
            text,
            &["auto", "from"],
            auto::in_a_circle(&way),
        );
        Err(Status::invalid_argument(reason.to_string()))
    }

    pub(super) async fn releases(
        &self,
        application: Option<ApplicationName>,
    ) -> Result<v1::ListReleasesResponse, Status> {
        let names = match application {
            Some(application) => vec![application],
            None => self.applications().await,
        };
        let whereabouts = self
            .driver
            .read(status::whereabouts)
            .await
            .map_err(stopped)?;
        let mut versions = Vec::new();
        for application in names {
            for version in self
                .catalog
                .versions(&application)
                .await
                .map_err(|error| not_found(&error))?
            {
                let mut row = v1::VersionRow {
                    application: application.to_string(),
                    version: version.version.to_string(),
                    ..v1::VersionRow::default()
                };
                for (component, release) in &version.components {
                    if let Some((running, bad)) = whereabouts.get(&release.manifest) {
                        row.running_in.extend(running.iter().cloned());
                        row.bad_in.extend(bad.iter().cloned());
                    }
                    row.components.push(v1::ComponentRow {
                        component: component.to_string(),
                        version: release.version.to_string(),
                        manifest: release.manifest.to_string(),
                    });
                }
                for list in [&mut row.running_in, &mut row.bad_in] {
                    list.sort();
                    list.dedup();
                }
                versions.push(row);
            }
        }
        Ok(v1::ListReleasesResponse { versions })
    }

    async fn applications(&self) -> Vec<ApplicationName> {
        let names = self.publications.names().await.into_iter();
        let application = |name| match name {
            RepositoryName::Application(name) => Some(name),
            RepositoryName::Environment(_) => None,
        };
        names.filter_map(application).collect()
    }

    pub(super) async fn note(
        &self,
        by: OperatorName,
        action: &'static str,
        object: String,
    ) -> Result<(), Status> {
        let change = self.driver.change(move |fleet, now| {
            fleet.note(now, by.as_str(), action, object, "");
        });
        change.await.map_err(stopped)
    }
}

/// Why something was not published, as the exit codes want it: what is not to be trusted is refused,
/// what somebody else did first is a conflict.
fn publication(error: PublicationError) -> Status {
    let message = tamer_kit::cause::chain(&error);
    match error {
        PublicationError::Conflict { .. } => Status::aborted(message),
        PublicationError::Refused { .. }
        | PublicationError::Stranger { .. }
        | PublicationError::Immutable(_)
        | PublicationError::NoRoot(_)
        | PublicationError::Unsigned(_)
        | PublicationError::NotTheSame(_)
        | PublicationError::NotAnchored(_)
        | PublicationError::NotOurKeys(_) => Status::failed_precondition(message),
        PublicationError::Damaged { .. }
        | PublicationError::Edit(_)
        | PublicationError::File(_) => internal(&error),
    }
}
