//! `tamer build`: releases from a commit, the same ones every time, with evidence of how.

mod runner;

use super::attest::BUILDER;
use super::{Context, blocking, publish};
use crate::args::{Build, Publish};
use crate::blobs;
use crate::error::{Context as _, Error, Result};
use crate::evidence::{self, Packed};
use crate::exit::Exit;
use crate::git::Git;
use crate::keys::Keys;
use runner::{Made, Runner};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::release::{EntryKind, Manifest};
use tamer_kit::{clock, durable};
use tamer_release::attest::statement::Build as Provenance;
use tamer_release::attest::{Claim, CommitId, Statement};

/// How many files that differ are named.
const NAMED: usize = 20;

#[derive(Serialize)]
struct Built {
    version: tamer_core::version::Version,
    commit: CommitId,
    twice: bool,
    folder: PathBuf,
    releases: Vec<Row>,
    evidence: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    release: String,
    manifest: Digest,
}

pub(super) async fn run(at: &Context<'_>, args: &Build) -> Result<Exit> {
    let folder = match args.file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let git = Git::at(folder);
    let commit = git.commit(&args.commit)?;
    refuse_changes(&git, &args.commit)?;
    // Everything that could be missing at the end is looked for before the work.
    let key = Keys::of(&at.home).evidence(args.key.key.as_deref())?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => git.own("tamer")?.join(args.version.to_string()),
    };
    let runner = Runner::new(&git, &commit, args, at.printer.clone())?;

    let first = tempfile::tempdir().doing(Exit::Internal, || "cannot build".to_owned())?;
    let started = clock::now();
    let made = {
        let (runner, place) = (runner.clone(), first.path().to_owned());
        blocking("building", move || runner.build(&place)).await?
    };
    if args.twice {
        let second = tempfile::tempdir().doing(Exit::Internal, || "cannot build".to_owned())?;
        let (runner, place) = (runner.clone(), second.path().join("again"));
        let again = blocking("building", move || runner.build(&place)).await?;
        demand_the_same(&made, &again)?;
        at.printer.note("✓ built twice, and both are the same");
    }
    let finished = clock::now();

    let releases = keep(&made, &out, &args.version)?;
    let provenance = Provenance {
        commit: commit.clone(),
        source: git.source(),
        authors: git.authors(&commit)?,
        commands: runner.commands(),
        environment: runner.environment(),
        builder: BUILDER.to_owned(),
        started,
        finished,
    };
    let claims = std::iter::once(Claim::Build(provenance));
    let claims = claims.chain(made.runs.iter().cloned().map(Claim::Run));
    let mut files = Vec::new();
    for claim in claims {
        let statement = Statement {
            subjects: releases.iter().map(Packed::subject).collect(),
            claim,
        };
        files.extend(evidence::attach(&statement, &*key, &releases)?);
    }
    for review in git.reviews(&commit) {
        for release in &releases {
            files.push(evidence::put(&release.folder, "review", &review)?);
        }
    }
    show(at, args, &commit, &releases, &files, &out);
    if args.offline {
        let manifest = releases
            .first()
            .map(|release| release.folder.with_extension("manifest.json"));
        let manifest = manifest.unwrap_or(out);
        at.printer.next(format!(
            "tamer verify {} -e environments/NAME.toml",
            manifest.display()
        ));
        return Ok(Exit::Done);
    }
    let publication = Publish {
        version: args.version.clone(),
        components: Vec::new(),
        file: args.file.clone(),
    };
    // The very checkout that was built is packed again: the same bytes, as packing is repeatable.
    publish::publish(at, &publication, made.project).await?;
    send(at, &releases).await
}

/// Hands the evidence to the controller. A component that is unchanged stays the release that it was, and that has
/// evidence of its own.
async fn send(at: &Context<'_>, releases: &[Packed]) -> Result<Exit> {
    let session = at.session().await?;
    for release in releases {
        if !blobs::is_there(&session, &release.digest).await? {
            let name = &release.manifest.component;
            at.printer
                .note(format!("{name} is unchanged, and so is its evidence"));
            continue;
        }
        let bundles = evidence::bundles(&release.folder)?.into_iter();
        let new = evidence::send(&session, release, bundles.map(|it| it.1).collect()).await?;
        at.printer.note(format!(
            "✓ {}: the controller has {new} more statements",
            release.name()
        ));
    }
    Ok(Exit::Done)
}

fn refuse_changes(git: &Git, commit: &str) -> Result<()> {
    if commit != "HEAD" {
        // What is checked out is not what is built.
        return Ok(());
    }
    let changes = git.changes()?;
    let Some(first) = changes.first() else {
        return Ok(());
    };
    let more = match changes.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Err(Error::usage(format!(
        "there are changes that no commit has: {}{more}",
        first.trim()
    ))
    .next("git commit, or git stash --include-untracked")
    .next("to build a commit without them: --commit $(git rev-parse HEAD)"))
}

/// Puts archives and manifests where they stay.
fn keep(made: &Made, out: &Path, version: &tamer_core::version::Version) -> Result<Vec<Packed>> {
    let doing = || format!("cannot write to {}", out.display());
    durable::create_dir_all(out, 0o755).doing(Exit::Usage, doing)?;
    let mut releases = Vec::new();
    for (component, packed) in &made.packed {
        let stem = format!(
            "{}-{component}-{version}",
            made.project.application.application
        );
        let archive = out.join(format!("{stem}.tar.zst"));
        std::fs::copy(&packed.archive, &archive).doing(Exit::Usage, doing)?;
        let manifest = out.join(format!("{stem}.manifest.json"));
        durable::replace_with(&manifest, 0o644, |file| {
            tamer_release::manifest::write(&packed.packed.manifest, file)
        })
        .doing(Exit::Usage, doing)?;
        releases.push(Packed::read(&manifest)?);
    }
    Ok(releases)
}

fn demand_the_same(one: &Made, other: &Made) -> Result<()> {
    let mut differ = Vec::new();
    for (component, packed) in &one.packed {
        let again = other.packed.get(component);
        if again.is_some_and(|again| again.packed.digest == packed.packed.digest) {
            continue;
        }
        let files = again.map_or_else(Vec::new, |again| {
            differences(&packed.packed.manifest, &again.packed.manifest)
        });
        differ.push(match files.len() {
            0 => format!("{component}: its description or its archive"),
            n if n > NAMED => format!(
                "{component}: {} and {} more",
                files[..NAMED].join(", "),
                n - NAMED
            ),
            _ => format!("{component}: {}", files.join(", ")),
        });
    }
    if differ.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Exit::Refused,
        format!("the second build differs from the first in {}", differ.join("; ")),
    )
    .next("look for times, paths and random order in these files; SOURCE_DATE_EPOCH is set for the build"))
}

/// The paths that differ, in order.
fn differences(one: &Manifest, other: &Manifest) -> Vec<String> {
    fn table(manifest: &Manifest) -> BTreeMap<String, &EntryKind> {
        let entries = manifest.files.iter();
        entries.map(|it| (it.path.to_string(), &it.kind)).collect()
    }
    let (one, other) = (table(one), table(other));
    let all: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = all
        .into_iter()
        .filter(|path| one.get(*path) != other.get(*path));
    differ.cloned().collect()
}

fn show(
    at: &Context<'_>,
    args: &Build,
    commit: &CommitId,
    releases: &[Packed],
    files: &[PathBuf],
    out: &Path,
) {
    let row = |release: &Packed| Row {
        release: release.name(),
        manifest: release.digest,
    };
    let built = Built {
        version: args.version.clone(),
        commit: commit.clone(),
        twice: args.twice,
        folder: out.to_owned(),
        releases: releases.iter().map(row).collect(),
        evidence: files.to_vec(),
    };
    for row in &built.releases {
        at.printer.line(format!(
            "✓ {} ({}) is built from commit {}",
            row.release,
            row.manifest.short(),
            commit.short()
        ));
    }
    at.printer
        .note(format!("{} statements, in {}", files.len(), out.display()));
    // One object a command: publishing has its own.
    if args.offline {
        at.printer.json(&built);
    }
}
