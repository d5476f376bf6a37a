//! `tamer verify`: what is proven of a release, by whom, and what each environment still lacks.

mod published;

use super::Context;
use crate::args::{self, Verify};
use crate::error::{Context as _, Error, Result};
use crate::evidence::{self, Packed};
use crate::exit::Exit;
use crate::git::Git;
use crate::printer::Printer;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::environment::{Environment, MAX_ENVIRONMENT};
use tamer_core::evidence::EvidenceKind;
use tamer_core::id::KeyName;
use tamer_kit::{clock, durable};
use tamer_release::attest::judge;

#[derive(Serialize)]
struct Verified {
    release: String,
    manifest: Digest,
    environments: Vec<Place>,
}

#[derive(Serialize)]
struct Place {
    environment: String,
    enough: bool,
    proven: Vec<Proven>,
    lacking: Vec<EvidenceKind>,
    set_aside: Vec<Aside>,
}

#[derive(Serialize)]
struct Proven {
    kind: EvidenceKind,
    demanded: bool,
    key: KeyName,
    person: Option<String>,
    said: String,
}

#[derive(Serialize)]
struct Aside {
    file: String,
    kind: Option<EvidenceKind>,
    why: String,
}

/// A release, and what is said about it.
#[derive(Debug)]
struct Subject {
    name: String,
    digest: Digest,
    bundles: Vec<(String, Vec<u8>)>,
}

pub(super) async fn run(at: &Context<'_>, args: &Verify) -> Result<Exit> {
    let mut subjects = match what(&args.release)? {
        What::File(path) => {
            let release = Packed::read(&path)?;
            vec![Subject {
                name: release.name(),
                digest: release.digest,
                bundles: evidence::bundles(&release.folder)?,
            }]
        }
        What::Published(what) => published::releases(at, args.application.as_ref(), &what).await?,
    };
    for path in &args.evidence {
        if !path.exists() {
            return Err(Error::usage(format!("there is no {}", path.display())));
        }
        let more = evidence::bundles(path)?;
        for subject in &mut subjects {
            subject.bundles.extend(more.clone());
        }
    }
    let mut environments = Vec::new();
    for given in &args.environments {
        environments.push(match is_file(given) {
            true => from_file(Path::new(given))?,
            false => published::environment(at, given).await?,
        });
    }
    if environments.is_empty() {
        environments = published::environments(at).await?;
    }
    let mut enough = true;
    for subject in subjects {
        let places = environments.iter().map(|it| place(it, &subject));
        let verified = Verified {
            environments: places.collect(),
            release: subject.name,
            manifest: subject.digest,
        };
        enough &= verified.environments.iter().all(|place| place.enough);
        show(&verified, at.printer);
        at.printer.json(&verified);
    }
    match enough {
        true => Ok(Exit::Done),
        false => Ok(Exit::Refused),
    }
}

/// What is to be verified.
enum What {
    File(PathBuf),
    Published(args::What),
}

fn what(given: &str) -> Result<What> {
    if is_file(given) {
        return Ok(What::File(given.into()));
    }
    let what = given.parse().map_err(|why| {
        Error::usage(format!(
            "`{given}` is no file, no VERSION and no COMPONENT@VERSION: {why}"
        ))
    })?;
    Ok(What::Published(what))
}

/// Whether this means a file: the names of versions, components and environments have no slash, and none of them
/// ends like a file of ours.
fn is_file(given: &str) -> bool {
    let path = Path::new(given);
    let ends_so = path
        .extension()
        .is_some_and(|end| end == "json" || end == "toml");
    given.contains('/') || ends_so || path.exists()
}

/// An environment and its name.
type Named = (String, Environment);

fn from_file(file: &Path) -> Result<Named> {
    let name = file.display().to_string();
    let doing = || format!("cannot read {name}");
    let bytes = durable::read_capped(file, MAX_ENVIRONMENT).doing(Exit::Usage, doing)?;
    let bytes = bytes.ok_or_else(|| Error::usage(format!("there is no {name}")))?;
    let text = String::from_utf8(bytes).doing(Exit::Usage, doing)?;
    let environment =
        Environment::parse(&name, &text).map_err(|error| Error::usage(error.to_string()))?;
    let stem = file.file_stem().unwrap_or_default();
    Ok((stem.to_string_lossy().into_owned(), environment))
}

fn place((name, environment): &Named, release: &Subject) -> Place {
    let (demanded, now) = (&environment.evidence, clock::now());

    let mut bundles = release.bundles.clone();
    let judge = |bundles: &[(String, Vec<u8>)]| {
        let bytes: Vec<_> = bundles.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        judge(demanded, &release.digest, &bytes, now)
    };
    let mut judged = judge(&bundles);
    // Which commit it is of is known only now: reviews of it lie in git's notes, where there is a repository.
    if let Some(commit) = judged.commit() {
        let notes = Git::at(Path::new(".")).reviews(commit);
        let named = |(n, bytes): (usize, _)| (format!("git note {}", n + 1), bytes);
        bundles.extend(notes.into_iter().enumerate().map(named));
        judged = judge(&bundles);
    }
    let proven = judged.proven.iter().map(|(kind, proof)| Proven {
        kind: *kind,
        demanded: demanded.require.contains(kind),
        key: proof.key.clone(),
        person: proof.person.clone(),
        said: proof.to_string(),
    });
    let set_aside = judged.set_aside.iter().map(|it| Aside {
        file: bundles
            .get(it.index)
            .map_or_else(String::new, |(name, _)| name.clone()),
        kind: it.claimed,
        why: it.why.to_string(),
    });
    Place {
        environment: name.clone(),
        enough: judged.is_enough(),
        proven: proven.collect(),
        lacking: judged.lacking.iter().copied().collect(),
        set_aside: set_aside.collect(),
    }
}

fn show(verified: &Verified, printer: &Printer) {
    printer.line(format!(
        "{} ({})",
        verified.release,
        verified.manifest.short()
    ));
    for place in &verified.environments {
        printer.line(format!(
            "{} {}",
            place.environment,
            match place.enough {
                true => "has all the evidence that it demands",
                false => "lacks evidence",
            }
        ));
        for proven in &place.proven {
            let note = if proven.demanded {
                ""
            } else {
                " (not demanded here)"
            };
            printer.line(format!("  ✓ {:<10}  {}{note}", proven.kind, proven.said));
        }
        for kind in &place.lacking {
            let aside = place
                .set_aside
                .iter()
                .filter(|it| it.kind == Some(*kind))
                .count();
            let why = match aside {
                0 => "nothing states it",
                1 => "what states it does not count, see below",
                _ => "nothing that states it counts, see below",
            };
            printer.line(format!("  ✗ {kind:<10}  {why}"));
        }
        for aside in &place.set_aside {
            printer.line(format!("  - {}: {}", aside.file, aside.why));
        }
    }
}
