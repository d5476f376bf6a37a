//! `tamer env apply`, `tamer env list`, `tamer env show`

use super::Context;
use crate::args::EnvCommand;
use crate::blobs;
use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::keys::{Keys, TeamKey};
use crate::repository::Repository;
use crate::views::environments;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tamer_core::environment::{Environment, MAX_ENVIRONMENT};
use tamer_core::id::EnvironmentName;
use tamer_kit::hash::sha256;
use tamer_kit::{clock, durable};
use tamer_proto::v1::{EnvironmentRow, ListEnvironmentsRequest, ListEnvironmentsResponse};
use tamer_release::trust::live::NewTarget;
use tamer_release::trust::names::environment_target;
use tamer_release::trust::{RepositoryName, Signer};

/// What expires sooner than this is signed anew, also when the file has not changed.
const SIGN_SOON_MS: u64 = 21 * 24 * 60 * 60 * 1000;

pub(super) async fn run(at: &Context<'_>, command: &EnvCommand) -> Result<Exit> {
    match command {
        EnvCommand::Apply { paths, check } => apply(at, paths, *check).await,
        EnvCommand::List => list(at).await,
        EnvCommand::Show { name } => show(at, name).await,
    }
}

/// An environment's file, read and found good.
#[derive(Debug)]
struct Given {
    name: EnvironmentName,
    text: String,
    environment: Environment,
}

#[derive(Serialize)]
struct Applied {
    environment: EnvironmentName,
    version: u64,
    changed: bool,
}

async fn apply(at: &Context<'_>, paths: &[PathBuf], check: bool) -> Result<Exit> {
    // All files are judged before any of them is signed.
    let given = read_all(paths)?;
    if check {
        for one in &given {
            at.printer.line(format!("✓ {}", one.name));
        }
        return Ok(Exit::Done);
    }
    let mut session = at.session().await?;
    let key = Keys::of(&at.home).usual(TeamKey::Environment, "sign environments")?;
    let mut applied = Vec::new();
    for one in &given {
        applied.push(apply_one(at, &mut session, &*key, one).await?);
    }
    at.printer.json(&applied);
    at.printer.next(invitation(&given));
    Ok(Exit::Done)
}

async fn apply_one(
    at: &Context<'_>,
    session: &mut Session,
    key: &dyn Signer,
    one: &Given,
) -> Result<Applied> {
    let name = RepositoryName::Environment(one.name.clone());
    let target = environment_target(&one.name);
    let mut repository = Repository::open(session, name, at.printer).await?;
    let digest = |verified: Option<&tamer_release::trust::Verified>| {
        verified
            .and_then(|verified| verified.target(&target))
            .map(|target| target.digest)
    };
    let signed = digest(repository.verified());
    let old = match signed {
        Some(_) => repository.fetch(&target, MAX_ENVIRONMENT).await?,
        None => Vec::new(),
    };
    let changed = old != one.text.as_bytes();
    let fresh = repository.targets_expire_ms() > clock::now().0.saturating_add(SIGN_SOON_MS);
    if !changed && fresh {
        let version = repository
            .verified()
            .map_or(0, |verified| verified.targets_version);
        at.printer.line(format!(
            "  {} is unchanged, signed version {version}",
            one.name
        ));
        return Ok(Applied {
            environment: one.name.clone(),
            version,
            changed: false,
        });
    }
    if signed.is_some() {
        let changes = environments::changes(&String::from_utf8_lossy(&old), &one.text);
        at.printer.lines(changes);
    }
    repository
        .ensure_root(session, &at.home, key.public())
        .await?;
    let bytes = one.text.as_bytes();
    blobs::upload(session, &sha256(bytes), bytes.to_vec()).await?;
    let additions = [NewTarget::environment(&one.name, bytes)];
    // What was shown above as changing must still be what changes.
    let version = repository
        .publish(session, &at.home, &additions, |now| digest(now) == signed)
        .await?;
    let word = match (signed.is_some(), changed) {
        (false, _) => "begins",
        (true, true) => "has changed",
        (true, false) => "is signed anew",
    };
    at.printer
        .line(format!("✓ {} {word}, signed version {version}", one.name));
    Ok(Applied {
        environment: one.name.clone(),
        version,
        changed,
    })
}

/// Reads every file, and tells all that is wrong at once.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Given>> {
    let mut given: Vec<Given> = Vec::new();
    let mut wrong = Vec::new();
    for path in expand(paths)? {
        match read(&path) {
            Ok(one) => match given.iter().find(|other| other.name == one.name) {
                Some(_) => wrong.push(format!("{}: `{}` is given twice", path.display(), one.name)),
                None => given.push(one),
            },
            Err(error) => wrong.push(error),
        }
    }
    match wrong.len() {
        0 => Ok(given),
        1 => Err(Error::usage(wrong.remove(0))),
        n => Err(Error::usage(format!(
            "{n} files are not as they should be:\n  {}",
            wrong.join("\n  ")
        ))),
    }
}

/// Files as they are, folders as the `.toml` files in them.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let doing = || format!("cannot list {}", path.display());
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).doing(Exit::Usage, doing)? {
            let file = entry.doing(Exit::Usage, doing)?.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(Error::usage(format!(
                "there is no NAME.toml in {}",
                path.display()
            )));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read(path: &Path) -> std::result::Result<Given, String> {
    let file = path.display().to_string();
    if path.extension().is_none_or(|extension| extension != "toml") {
        return Err(format!("{file}: an environment's file is named NAME.toml"));
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let name: EnvironmentName = name.parse().map_err(|e| format!("{file}: {e}"))?;
    let bytes = match durable::read_capped(path, MAX_ENVIRONMENT) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(format!("{file}: there is no such file")),
        Err(error) => return Err(format!("{error}: {}", error.source)),
    };
    let text = String::from_utf8(bytes).map_err(|_| format!("{file}: it is not UTF-8 text"))?;
    let environment = Environment::parse(&file, &text).map_err(|e| e.to_string())?;
    Ok(Given {
        name,
        text,
        environment,
    })
}

/// The invitation that fits the first place of the first environment.
fn invitation(given: &[Given]) -> String {
    let Some(first) = given.first() else {
        return "tamer env list".to_owned();
    };
    let labels = first.environment.place.values().next();
    let labels = labels.into_iter().flat_map(|selector| &selector.0);
    let labels: String = labels
        .map(|(key, value)| format!(" --label {key}={value}"))
        .collect();
    format!("tamer host invite --environment {}{labels}", first.name)
}

async fn rows(at: &Context<'_>) -> Result<ListEnvironmentsResponse> {
    let session = at.session().await?;
    let answer = session
        .operators()
        .list_environments(ListEnvironmentsRequest {})
        .await?;
    Ok(answer.into_inner())
}

async fn list(at: &Context<'_>) -> Result<Exit> {
    let answer = rows(at).await?;
    at.printer.json(&answer);
    if answer.environments.is_empty() {
        at.printer.line("There is no environment yet.");
        at.printer.next("tamer env apply environments/");
    } else {
        at.printer.lines(environments::list(&answer.environments));
    }
    Ok(Exit::Done)
}

async fn show(at: &Context<'_>, name: &EnvironmentName) -> Result<Exit> {
    let answer = rows(at).await?;
    let found = |row: &&EnvironmentRow| row.name == name.as_str();
    let Some(row) = answer.environments.iter().find(found) else {
        let known = answer.environments.iter().map(|row| row.name.as_str());
        let hint = match tamer_core::text::nearest(name.as_str(), known) {
            Some(near) => format!(": did you mean `{near}`?"),
            None => String::new(),
        };
        return Err(
            Error::usage(format!("there is no environment `{name}`{hint}")).next("tamer env list"),
        );
    };
    at.printer.json(row);
    at.printer.lines(environments::show(row));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[place]\n\"shop/web\" = { role = \"web\" }\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn a_folder_is_its_toml_files_and_suggests_an_invitation() {
        let dir = folder(&[
            ("staging.toml", GOOD),
            ("production.toml", ""),
            ("notes.md", "x"),
        ]);
        let given = read_all(&[dir.path().to_owned()]).unwrap();
        let names: Vec<_> = given.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["production", "staging"]);
        assert_eq!(
            invitation(&given[1..]),
            "tamer host invite --environment staging --label role=web"
        );
        let twice = [dir.path().to_owned(), dir.path().join("staging.toml")];
        assert!(
            read_all(&twice)
                .unwrap_err()
                .message
                .contains("`staging` is given twice")
        );
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let dir = folder(&[
            ("a.toml", "[polcy]\ncanary = 1\n"),
            ("b.toml", GOOD),
            ("c.toml", "[policy]\ncanary = 0\n"),
            ("Prod.toml", ""),
        ]);
        let error = read_all(&[dir.path().to_owned()]).unwrap_err();
        let said = error
            .message
            .replace(&format!("{}/", dir.path().display()), "");
        insta::assert_snapshot!(said);
    }
}
