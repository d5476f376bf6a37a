//! `tamer publish`

use super::project::Project;
use super::reuse::{newest_release, newest_version, same_content};
use super::{Context, blocking};
use crate::args::Publish;
use crate::blobs;
use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::keys::{Keys, TeamKey};
use crate::repository::Repository;
use crate::views::human::bytes;
use crate::views::table::Table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tamer_core::digest::Digest;
use tamer_core::environment::AGENTS;
use tamer_core::id::{ApplicationName, ComponentName};
use tamer_core::release::{ApplicationVersion, FORMAT, MAX_MANIFEST, ReleaseRef};
use tamer_core::version::Version;
use tamer_kit::durable::FileError;
use tamer_proto::v1::ListEnvironmentsRequest;
use tamer_release::manifest;
use tamer_release::pack::Packed;
use tamer_release::trust::RepositoryName;
use tamer_release::trust::live::NewTarget;
use tamer_release::trust::names::release_target;

#[derive(Serialize)]
struct Published {
    application: ApplicationName,
    version: Version,
    components: Vec<Component>,
}

#[derive(Serialize)]
struct Component {
    component: ComponentName,
    version: Version,
    manifest: Digest,
    new: bool,
    archive_bytes: Option<u64>,
}

pub(super) async fn run(at: &Context<'_>, args: &Publish) -> Result<Exit> {
    publish(at, args, Project::load(&args.file)?).await
}

/// Publishes what the project's folder holds now.
pub(super) async fn publish(at: &Context<'_>, args: &Publish, project: Project) -> Result<Exit> {
    let application = project.application.application.clone();
    let chosen = project.chosen(&args.components)?;
    let mut session = at.session().await?;
    let to = format!("sign {application} {}", args.version);
    let key = Keys::of(&at.home).usual(TeamKey::Release, &to)?;
    let name = RepositoryName::Application(application.clone());
    let repository = Repository::open(&mut session, name, at.printer).await?;
    let existing = repository.version(&application, &args.version).await?;
    let mut work = Work {
        application,
        version: args.version.clone(),
        existing,
        repository,
    };
    let releases = work.kept(&project, &chosen).await?;

    let room = tempfile::tempdir().map(Room);
    let room = room.doing(Exit::Internal, || "cannot pack".to_owned())?;
    let mut plan = Plan {
        releases,
        new: BTreeMap::new(),
    };
    for component in chosen {
        let archive = room.archive(&component);
        let packed = {
            let (project, component, version) =
                (project.clone(), component.clone(), args.version.clone());
            blocking("packing", move || {
                project.pack(&component, &version, &archive)
            })
            .await?
        };
        work.decide(&session, &room, component, packed, &mut plan)
            .await?;
    }
    let version = ApplicationVersion {
        format: FORMAT,
        application: work.application.clone(),
        version: work.version.clone(),
        components: plan.releases.clone(),
    };
    let already = work.existing.is_some();
    if !already {
        work.repository
            .ensure_root(&session, &at.home, key.public())
            .await?;
        let additions = work.upload(at, &session, &room, &plan, &version).await?;
        work.repository
            .publish(&session, &at.home, &additions, |verified| {
                let taken = |new: &NewTarget| {
                    let there = verified.and_then(|verified| verified.target(new.name()));
                    there.is_some_and(|there| there.digest != new.target().digest)
                };
                !additions.iter().any(taken)
            })
            .await?;
    }
    report(at, &session, &version, &plan.new, already).await;
    Ok(Exit::Done)
}

/// The releases that the version consists of, and those of them that are new.
struct Plan {
    releases: BTreeMap<ComponentName, ReleaseRef>,
    new: BTreeMap<ComponentName, New>,
}

/// A release that is new. Its archive and its manifest lie in files: the manifest of very many files is most of what
/// this command would hold.
struct New {
    manifest: Digest,
    manifest_bytes: u64,
    archive: Digest,
    archive_bytes: u64,
}

/// Where archives and manifests lie until they are uploaded.
struct Room(tempfile::TempDir);

impl Room {
    fn archive(&self, component: &ComponentName) -> PathBuf {
        self.0.path().join(component.as_str())
    }

    fn manifest(&self, component: &ComponentName) -> PathBuf {
        self.0.path().join(format!("{component}.json"))
    }

    /// The manifest of the release that was published before.
    fn published(&self, component: &ComponentName) -> PathBuf {
        self.0.path().join(format!("{component}.published.json"))
    }
}

struct Work {
    application: ApplicationName,
    version: Version,
    /// The version as it was published before: it can only be published again as it is.
    existing: Option<ApplicationVersion>,
    repository: Repository,
}

impl Work {
    /// The releases of the components that are not packed now: those of the newest version.
    async fn kept(
        &self,
        project: &Project,
        chosen: &[ComponentName],
    ) -> Result<BTreeMap<ComponentName, ReleaseRef>> {
        let all = project.application.components.keys();
        let others: Vec<_> = all.filter(|name| !chosen.contains(name)).collect();
        if others.is_empty() {
            return Ok(BTreeMap::new());
        }
        let newest = match &self.existing {
            Some(existing) => Some(existing.clone()),
            None => {
                let verified = self.repository.verified();
                match verified.and_then(|verified| newest_version(verified, &self.application)) {
                    Some(newest) => self.repository.version(&self.application, &newest).await?,
                    None => None,
                }
            }
        };
        let mut kept = BTreeMap::new();
        for name in others {
            let release = newest
                .as_ref()
                .and_then(|newest| newest.components.get(name));
            let release = release.ok_or_else(|| {
                Error::usage(format!(
                    "component `{name}` has no release yet, so it cannot stay as it is"
                ))
                .next(format!("tamer publish {}", self.version))
            })?;
            kept.insert(name.clone(), release.clone());
        }
        Ok(kept)
    }

    /// Takes the published release where its content is the same, and the packed one where not.
    async fn decide(
        &self,
        session: &Session,
        room: &Room,
        component: ComponentName,
        packed: Packed,
        plan: &mut Plan,
    ) -> Result<()> {
        let packed = Arc::new(packed);
        let reference = match &self.existing {
            Some(existing) => existing
                .components
                .get(&component)
                .map(|release| release.version.clone()),
            None => {
                let verified = self.repository.verified();
                verified
                    .and_then(|verified| newest_release(verified, &self.application, &component))
            }
        };
        if let Some(version) = reference {
            let name = release_target(&self.application, &component, &version);
            let path = room.published(&component);
            let fetched = self
                .repository
                .fetch_to(session, &name, MAX_MANIFEST, &path);
            let manifest = fetched.await?;
            let ours = Arc::clone(&packed);
            let same = blocking("comparing", move || {
                same_content(|| File::open(&path), &ours.manifest)
                    .doing(Exit::Internal, || format!("cannot read the signed {name}"))
            });
            if same.await? {
                let release = ReleaseRef { version, manifest };
                plan.releases.insert(component, release);
                return Ok(());
            }
        }
        if self.existing.is_some() {
            return Err(Error::usage(format!(
                "{} {} is published already, and its component `{component}` has other content: a version never changes, choose a new one",
                self.application, self.version
            ))
            .next(format!("tamer releases {}", self.application)));
        }
        let release = ReleaseRef {
            version: self.version.clone(),
            manifest: packed.digest,
        };
        plan.releases.insert(component.clone(), release);
        let path = room.manifest(&component);
        let new = blocking("writing", move || {
            let written = File::create_new(&path).and_then(|file| {
                manifest::write(&packed.manifest, &file)?;
                file.metadata()
            });
            let written = written.map_err(FileError::new("write", &path));
            let archive = &packed.manifest.archive;
            Ok(New {
                manifest: packed.digest,
                manifest_bytes: written
                    .doing(Exit::Internal, || "cannot pack".to_owned())?
                    .len(),
                archive: archive.sha256,
                archive_bytes: archive.length,
            })
        });
        plan.new.insert(component, new.await?);
        Ok(())
    }

    /// Uploads everything that the new targets name: nothing is signed before its bytes are there.
    async fn upload(
        &self,
        at: &Context<'_>,
        session: &Session,
        room: &Room,
        plan: &Plan,
        version: &ApplicationVersion,
    ) -> Result<Vec<NewTarget>> {
        let mut additions = Vec::new();
        for (component, new) in &plan.new {
            let manifest = format!("{component}: manifest");
            for (digest, path, length, title) in [
                (
                    &new.archive,
                    room.archive(component),
                    new.archive_bytes,
                    component.as_str(),
                ),
                (
                    &new.manifest,
                    room.manifest(component),
                    new.manifest_bytes,
                    &manifest,
                ),
            ] {
                blobs::upload_file(session, digest, &path, length, title, at.printer).await?;
            }
            additions.push(NewTarget::release_by_digest(
                &self.application,
                component,
                &self.version,
                new.manifest,
                new.manifest_bytes,
            ));
        }
        let described = NewTarget::version(version);
        let (target, bytes) =
            described.doing(Exit::Internal, || "cannot describe the version".to_owned())?;
        blobs::upload(session, &target.target().digest, bytes).await?;
        additions.push(target);
        Ok(additions)
    }
}

async fn report(
    at: &Context<'_>,
    session: &Session,
    version: &ApplicationVersion,
    new: &BTreeMap<ComponentName, New>,
    already: bool,
) {
    let components = version
        .components
        .iter()
        .map(|(component, release)| Component {
            component: component.clone(),
            version: release.version.clone(),
            manifest: release.manifest,
            new: new.contains_key(component),
            archive_bytes: new.get(component).map(|new| new.archive_bytes),
        });
    let published = Published {
        application: version.application.clone(),
        version: version.version.clone(),
        components: components.collect(),
    };
    at.printer.json(&published);
    let mut table = Table::new(&["COMPONENT", "RELEASE", "MANIFEST", ""]);
    for row in &published.components {
        table.row([
            row.component.to_string(),
            row.version.to_string(),
            row.manifest.short(),
            row.archive_bytes
                .map_or_else(|| "unchanged".to_owned(), |n| format!("new, {}", bytes(n))),
        ]);
    }
    at.printer.lines(table.lines());
    let (application, version) = (&published.application, &published.version);
    at.printer.line(match already {
        true => format!("✓ {application} {version} is published already, as it is"),
        false => format!("✓ {application} {version} is published"),
    });
    let environment = somewhere(session, application).await;
    let mut command = format!("{} {environment} {version}", deploy_command());
    if application.as_str() == AGENTS {
        // Not what is meant where no application is named.
        command.push_str(" --application tamer");
    }
    at.printer.next(command);
}

/// An environment that places the application, for the hint.
async fn somewhere(session: &Session, application: &ApplicationName) -> String {
    let answer = session
        .operators()
        .list_environments(ListEnvironmentsRequest {})
        .await;
    let rows = answer
        .map(|answer| answer.into_inner().environments)
        .unwrap_or_default();
    let places = |text: &str| {
        tamer_core::environment::Environment::parse("", text).is_ok_and(|environment| {
            environment
                .place
                .keys()
                .any(|path| path.application == *application)
        })
    };
    let mut names: Vec<_> = rows
        .into_iter()
        .filter(|row| places(&row.text))
        .map(|row| row.name)
        .collect();
    // Nobody's first deployment should go to production because of the alphabet.
    names.sort_by_key(|name| name.starts_with("prod"));
    names
        .into_iter()
        .next()
        .unwrap_or_else(|| "ENVIRONMENT".to_owned())
}

fn deploy_command() -> &'static str {
    if Path::new("deploy-scripts/deploy").is_file() {
        "deploy-scripts/deploy"
    } else {
        "tamer deploy"
    }
}
