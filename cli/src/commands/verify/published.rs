//! What the controller has, verified from the team's root that is pinned here: releases, environments, evidence.

use super::{Named, Subject};
use crate::args::What;
use crate::client::Session;
use crate::commands::Context;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::repository::Repository;
use std::collections::BTreeSet;
use tamer_core::digest::Digest;
use tamer_core::environment::{Environment, MAX_ENVIRONMENT};
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName};
use tamer_core::text::nearest;
use tamer_core::version::Version;
use tamer_proto::v1::{ListEvidenceRequest, ListReleasesRequest};
use tamer_release::trust::RepositoryName;
use tamer_release::trust::names::{environment_target, release_target};

/// The releases of a published version, or the one of a component.
pub(super) async fn releases(
    at: &Context<'_>,
    application: Option<&ApplicationName>,
    what: &What,
) -> Result<Vec<Subject>> {
    let mut session = at.session().await?;
    let application = match application {
        Some(given) => given.clone(),
        None => only(&session).await?,
    };
    let name = RepositoryName::Application(application.clone());
    let repository = Repository::open(&mut session, name, at.printer).await?;
    let mut subjects = Vec::new();
    for (component, version, digest) in signed(&repository, &application, what).await? {
        let request = ListEvidenceRequest {
            manifest: digest.to_string(),
        };
        let answer = session.operators().list_evidence(request).await?;
        let bundles = answer.into_inner().bundles.into_iter().enumerate();
        subjects.push(Subject {
            name: format!("{application}/{component} {version}"),
            digest,
            bundles: bundles
                .map(|(n, bytes)| (format!("bundle {} of the controller", n + 1), bytes))
                .collect(),
        });
    }
    Ok(subjects)
}

async fn signed(
    repository: &Repository,
    application: &ApplicationName,
    what: &What,
) -> Result<Vec<(ComponentName, Version, Digest)>> {
    let missing = || {
        Error::usage(format!("{application} has no {what}"))
            .next(format!("tamer releases {application}"))
    };
    if let Some(component) = &what.component {
        let target = release_target(application, component, &what.version);
        let signed = repository.verified().and_then(|it| it.target(&target));
        let digest = signed.ok_or_else(missing)?.digest;
        return Ok(vec![(component.clone(), what.version.clone(), digest)]);
    }
    let version = repository.version(application, &what.version).await?;
    let components = version.ok_or_else(missing)?.components.into_iter();
    Ok(components
        .map(|(component, release)| (component, release.version, release.manifest))
        .collect())
}

/// The only application that is published.
async fn only(session: &Session) -> Result<ApplicationName> {
    let request = ListReleasesRequest::default();
    let answer = session.operators().list_releases(request).await?;
    let versions = answer.into_inner().versions;
    let names: BTreeSet<_> = versions.iter().map(|it| it.application.as_str()).collect();
    match Vec::from_iter(names)[..] {
        [] => Err(Error::usage("nothing is published yet").next("tamer publish 1.0.0")),
        [only] => only.parse().doing(Exit::Internal, || {
            "the controller answered wrongly".to_owned()
        }),
        ref several => Err(Error::usage(format!(
            "there are several applications, say which with --application: {}",
            several.join(", ")
        ))),
    }
}

/// An environment, by its name, as it was signed.
pub(super) async fn environment(at: &Context<'_>, given: &str) -> Result<Named> {
    let mut session = at.session().await?;
    let name: EnvironmentName = given
        .parse()
        .map_err(|why| Error::usage(format!("`{given}` is no environment and no file: {why}")))?;
    match read(at, &mut session, &name).await? {
        Some(environment) => Ok((given.to_owned(), environment)),
        None => {
            let known = names(&mut session).await?;
            let hint = match nearest(given, known.iter().map(|it| it.as_str())) {
                Some(near) => format!(": did you mean `{near}`?"),
                None => String::new(),
            };
            let why = format!("there is no environment `{given}`{hint}");
            Err(Error::usage(why).next("tamer env list"))
        }
    }
}

/// All environments, as they were signed.
pub(super) async fn environments(at: &Context<'_>) -> Result<Vec<Named>> {
    let mut session = at.session().await?;
    let mut all = Vec::new();
    for name in names(&mut session).await? {
        if let Some(environment) = read(at, &mut session, &name).await? {
            all.push((name.to_string(), environment));
        }
    }
    match all.is_empty() {
        true => {
            Err(Error::usage("there is no environment yet").next("tamer env apply environments/"))
        }
        false => Ok(all),
    }
}

async fn names(session: &mut Session) -> Result<Vec<EnvironmentName>> {
    let rows = session.published().await?.repositories;
    let names = rows.iter().filter_map(|row| row.name.strip_prefix("env/"));
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

async fn read(
    at: &Context<'_>,
    session: &mut Session,
    name: &EnvironmentName,
) -> Result<Option<Environment>> {
    let of = RepositoryName::Environment(name.clone());
    let repository = Repository::open(session, of, at.printer).await?;
    let target = environment_target(name);
    if repository
        .verified()
        .and_then(|it| it.target(&target))
        .is_none()
    {
        return Ok(None);
    }
    let what = || format!("cannot read the signed environment {name}");
    let bytes = repository.fetch(&target, MAX_ENVIRONMENT).await?;
    let text = String::from_utf8(bytes).doing(Exit::Internal, what)?;
    let parsed = Environment::parse(&target, &text).doing(Exit::Internal, what)?;
    Ok(Some(parsed))
}
