//! `tamer attest`: statements about releases, from JUnit files, exit codes and git.

use super::Context;
use crate::args::{AttestBuild, AttestCommand, AttestKey, AttestRun, AttestSend, EvidenceKeyFile};
use crate::error::{Context as _, Error, Result};
use crate::evidence::{self, Packed};
use crate::exit::Exit;
use crate::git::Git;
use crate::junit::{MAX_JUNIT, Tests};
use crate::keys::Keys;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tamer_core::evidence::EvidenceKind;
use tamer_kit::{clock, durable};
use tamer_release::attest::bundle::verifying_key;
use tamer_release::attest::statement::{Build, Run};
use tamer_release::attest::{Claim, Statement};

/// Who builds, where nobody else is named.
pub(super) const BUILDER: &str = "urn:x-tamer:builder:tamer-build";
/// Who built, of whom nothing is known but the key.
const SOMEBODY: &str = "urn:x-tamer:builder:other";

#[derive(Serialize)]
struct Attested {
    kind: EvidenceKind,
    said: String,
    files: Vec<PathBuf>,
}

pub(super) async fn run(at: &Context<'_>, command: &AttestCommand) -> Result<Exit> {
    match command {
        AttestCommand::Key(args) => key(at, args),
        AttestCommand::Build(args) => build(at, args),
        AttestCommand::Lint(args) => result(at, EvidenceKind::Lint, args),
        AttestCommand::Test(args) => result(at, EvidenceKind::Test, args),
        AttestCommand::Unit(args) => result(at, EvidenceKind::Unit, args),
        AttestCommand::Functional(args) => result(at, EvidenceKind::Functional, args),
        AttestCommand::Acceptance(args) => result(at, EvidenceKind::Acceptance, args),
        AttestCommand::Send(args) => send(at, args).await,
    }
}

/// Makes the key where it is not there yet, and says what an environment file says about it.
fn key(at: &Context<'_>, args: &AttestKey) -> Result<Exit> {
    let keys = Keys::of(&at.home);
    let given = args.key.key.as_deref();
    let key = match keys.has_evidence(given) {
        true => keys.evidence(given)?,
        false => {
            let path = keys.make_evidence(given, args.passphrase)?;
            at.printer.note(format!("made {}", path.display()));
            keys.evidence(Some(&path))?
        }
    };
    let public = verifying_key(key.public())
        .ok_or_else(|| Error::usage("evidence is signed with ECDSA P-256, and this key is not"))?;
    at.printer
        .json(&BTreeMap::from([("key", public.to_string())]));
    at.printer.line("[evidence.keys.NAME]");
    at.printer.line(format!("key    = \"{public}\""));
    at.printer.line("states = [\"build\", \"lint\", \"test\"]");
    at.printer
        .note("for a reviewer: states = [\"review\"] and person = \"YOU@EXAMPLE\"");
    at.printer
        .next("put it into environments/NAME.toml, then tamer env apply environments/");
    Ok(Exit::Done)
}

/// Reads the manifests of the releases that a statement is about.
fn releases(paths: &[PathBuf]) -> Result<Vec<Packed>> {
    paths.iter().map(|path| Packed::read(path)).collect()
}

fn build(at: &Context<'_>, args: &AttestBuild) -> Result<Exit> {
    let releases = releases(&args.manifests)?;
    let git = Git::at(Path::new("."));
    let commit = git.commit(&args.commit)?;
    let now = clock::now();
    let command = args
        .command
        .iter()
        .map(|line| ("build".to_owned(), line.clone()));
    let claim = Claim::Build(Build {
        authors: git.authors(&commit)?,
        source: git.source(),
        commands: command.collect(),
        environment: BTreeMap::new(),
        builder: SOMEBODY.to_owned(),
        commit,
        started: now,
        finished: now,
    });
    state(at, claim, &args.key, &releases).map(|()| Exit::Done)
}

fn result(at: &Context<'_>, kind: EvidenceKind, args: &AttestRun) -> Result<Exit> {
    let releases = releases(&args.manifests)?;
    let tests = counted(&args.junit)?;
    let now = clock::now();
    let run = ended(
        kind,
        args.command.clone(),
        tests,
        args.exit_code.unwrap_or(0),
        (now, now),
    );
    let passed = run.passed;
    state(at, Claim::Run(run), &args.key, &releases)?;
    match passed {
        true => Ok(Exit::Done),
        // It was stated, and it is no good news: scripts must not go on.
        false => Ok(Exit::Refused),
    }
}

#[derive(Serialize)]
struct Sent {
    release: String,
    sent: usize,
    new: u32,
}

async fn send(at: &Context<'_>, args: &AttestSend) -> Result<Exit> {
    let releases = releases(&args.manifests)?;
    // Without a repository there are no notes, and what is beside the releases is sent all the same.
    let git = Git::at(Path::new("."));
    let commit = git.commit(&args.commit).ok();
    let reviews = commit.map_or_else(Vec::new, |commit| git.reviews(&commit));
    let session = at.session().await?;
    for release in &releases {
        let beside = evidence::bundles(&release.folder)?;
        let mut bundles: Vec<_> = beside.into_iter().map(|(_, bytes)| bytes).collect();
        bundles.extend(reviews.iter().cloned());
        if bundles.is_empty() {
            return Err(Error::usage(format!(
                "there is no evidence in {}, and git has no review of {}",
                release.folder.display(),
                args.commit
            ))
            .next("tamer attest test --help"));
        }
        let sent = bundles.len();
        let new = evidence::send(&session, release, bundles).await?;
        let release = release.name();
        at.printer
            .line(format!("{release}: {sent} sent, {new} of them new"));
        at.printer.json(&Sent { release, sent, new });
    }
    Ok(Exit::Done)
}

/// What JUnit files say together; `None` without any.
pub(super) fn counted(files: &[PathBuf]) -> Result<Option<Tests>> {
    let mut all: Option<Tests> = None;
    for file in files {
        let doing = || format!("cannot count the tests in {}", file.display());
        let bytes = durable::read_capped(file, MAX_JUNIT).doing(Exit::Usage, doing)?;
        let bytes = bytes.ok_or_else(|| Error::usage(format!("there is no {}", file.display())))?;
        let tests = Tests::read(&bytes).doing(Exit::Usage, doing)?;
        match &mut all {
            Some(all) => all.add(tests),
            None => all = Some(tests),
        }
    }
    Ok(all)
}

/// How a run ended: it passed if its command ended with 0, and no test failed.
pub(super) fn ended(
    kind: EvidenceKind,
    command: Option<String>,
    tests: Option<Tests>,
    code: i32,
    (started, finished): (tamer_core::moment::Moment, tamer_core::moment::Moment),
) -> Run {
    let counts = tests.as_ref().map(|tests| tests.counts);
    Run {
        kind,
        passed: code == 0 && counts.is_none_or(|counts| counts.failed == 0),
        command,
        counts,
        failed: tests.map(|tests| tests.failed).unwrap_or_default(),
        started,
        finished,
    }
}

fn state(at: &Context<'_>, claim: Claim, key: &EvidenceKeyFile, releases: &[Packed]) -> Result<()> {
    let key = Keys::of(&at.home).evidence(key.key.as_deref())?;
    let statement = Statement {
        subjects: releases.iter().map(Packed::subject).collect(),
        claim,
    };
    let files = evidence::attach(&statement, &*key, releases)?;
    let Some(kind) = statement.kind() else {
        return Ok(());
    };
    let said = statement.claim.to_string();
    for (release, file) in releases.iter().zip(&files) {
        let name = release.name();
        at.printer
            .line(format!("{name}: {kind} {said}\n  {}", file.display()));
    }
    at.printer.json(&Attested { kind, said, files });
    Ok(())
}
