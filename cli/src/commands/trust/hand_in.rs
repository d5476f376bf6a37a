//! `tamer trust sign`, `tamer trust publish`: a draft is signed, and handed in step by step. A step
//! that is there already is left out, so a hand-in that was cut off goes on where it stopped.

use super::super::Context;
use crate::client::Session;
use crate::drafts;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::repository::{Http, refused};
use std::path::Path;
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;
use tamer_proto::v1::{PublishRootRequest, PublishTargetsRequest, RegisterTeamRootRequest};
use tamer_release::trust::document::Document;
use tamer_release::trust::draft::{Draft, Step};
use tamer_release::trust::walk;
use tough::schema::Root;

pub(super) fn sign(at: &Context<'_>, path: &Path) -> Result<Exit> {
    let mut draft = drafts::read(path)?;
    show(at, &draft)?;
    let signed = drafts::sign(&at.home, &mut draft)?;
    if signed.is_empty() {
        return Err(Error::usage(
            "none of the keys on this machine is asked for, or they have signed already",
        )
        .next(format!("the keys here: ls {}", at.home.keys().display())));
    }
    drafts::write(path, &draft)?;
    for id in signed {
        at.printer.line(format!("✓ signed with {}", &id[..16]));
    }
    let lacking = drafts::lacking(&draft)?;
    if lacking.is_empty() {
        at.printer
            .next(format!("tamer trust publish {}", path.display()));
    } else {
        at.printer
            .lines(lacking.iter().map(|line| format!("  {line}")));
        at.printer.next(format!(
            "tamer trust sign {}, where these keys are",
            path.display()
        ));
    }
    Ok(Exit::Done)
}

pub(super) async fn publish(at: &Context<'_>, path: &Path) -> Result<Exit> {
    let draft = drafts::read(path)?;
    let lacking = drafts::lacking(&draft)?;
    if !lacking.is_empty() {
        return Err(drafts::waits(&draft, path, &lacking));
    }
    show(at, &draft)?;
    let mut session = at.session().await?;
    hand_in(at, &mut session, &draft).await?;
    if path.parent() == Some(&at.home.drafts()) {
        std::fs::remove_file(path).doing(Exit::Internal, || {
            format!("it is done, but {} could not be removed", path.display())
        })?;
    }
    Ok(Exit::Done)
}

/// What a draft changes.
pub(super) fn show(at: &Context<'_>, draft: &Draft) -> Result<()> {
    at.printer.line(format!("to {}", draft.asked));
    for step in &draft.steps {
        let changes = step.changes();
        let changes = changes.doing(Exit::Usage, || "cannot use the draft".to_owned())?;
        at.printer.line(format!("  {}", step.label()));
        at.printer
            .lines(changes.iter().map(|line| format!("    {line}")));
    }
    Ok(())
}

/// Signs with the keys at hand and hands in what is complete; what is not is kept for others.
pub(super) async fn carry_out(
    at: &Context<'_>,
    session: &mut Session,
    mut draft: Draft,
) -> Result<Exit> {
    if draft.steps.is_empty() {
        at.printer.line(format!("nothing to do to {}", draft.asked));
        return Ok(Exit::Done);
    }
    show(at, &draft)?;
    drafts::sign(&at.home, &mut draft)?;
    // Before anything is handed in: if this is cut off, `tamer trust publish` goes on with it.
    let path = drafts::keep(&at.home, &draft)?;
    let lacking = drafts::lacking(&draft)?;
    if !lacking.is_empty() {
        return Err(drafts::waits(&draft, &path, &lacking));
    }
    let done = hand_in(at, session, &draft).await;
    done.map_err(|error| error.next(format!("tamer trust publish {} goes on", path.display())))?;
    std::fs::remove_file(&path).doing(Exit::Internal, || {
        format!("it is done, but {} could not be removed", path.display())
    })?;
    Ok(Exit::Done)
}

async fn hand_in(at: &Context<'_>, session: &mut Session, draft: &Draft) -> Result<()> {
    for step in &draft.steps {
        let label = step.label();
        let doing = || format!("cannot hand in {label}");
        let (_, root, _) = step.documents().doing(Exit::Usage, doing)?;
        let there = match &root {
            Some(root) => there(at, session, step, root).await?,
            None => true,
        };
        let bytes = step.root().doing(Exit::Usage, doing)?.unwrap_or_default();
        let targets = step.targets().doing(Exit::Usage, doing)?;
        match &step.repository {
            None if there => {}
            None => register(session, bytes).await?,
            Some(name) if !there => {
                let request = PublishRootRequest {
                    repository: name.to_string(),
                    root: bytes,
                    targets: targets.unwrap_or_default(),
                    expected: step.expected,
                };
                session.operators().publish_root(request).await?;
            }
            Some(name) => {
                let rows = session.published().await?.repositories;
                let row = rows.iter().find(|row| row.name == label);
                let behind = row.is_none_or(|row| row.targets_version <= step.expected);
                if let Some(targets) = targets.filter(|_| behind) {
                    let request = PublishTargetsRequest {
                        repository: name.to_string(),
                        targets,
                        expected: step.expected,
                    };
                    session.operators().publish_targets(request).await?;
                }
            }
        }
        let version = root.map_or(step.expected + 1, |root| root.version());
        at.printer.line(match there {
            true if step.root().is_ok_and(|root| root.is_some()) => {
                format!("  {label}: version {version} is there already")
            }
            _ => format!("✓ {label}: version {version}"),
        });
    }
    Ok(())
}

/// Whether a root is in force already, or one that follows it.
async fn there(
    at: &Context<'_>,
    session: &mut Session,
    step: &Step,
    root: &Document<Root>,
) -> Result<bool> {
    let label = step.label();
    let trust = session.published().await?;
    if trust.team_root.is_empty() {
        return Ok(false);
    }
    let pin = session.trust_root(at.printer).await?;
    let transport = Http::new(session);
    let what = || format!("cannot see which root of {label} is in force");
    let team = walk::team(&transport, &pin).await;
    let team = team.map_err(|error| refused(error, what()))?;
    let current = match &step.repository {
        None => Some(team.current().clone()),
        Some(name) => {
            let chain = walk::repository(&transport, name, &team).await;
            let chain = chain.map_err(|error| refused(error, what()))?;
            chain.map(|chain| chain.current().clone())
        }
    };
    let Some(current) = current else {
        return Ok(false);
    };
    if current.version() < root.version() {
        return Ok(false);
    }
    // The signatures may be others', and are verified: what counts is what they sign.
    if current.version() == root.version() && signed(&current) == signed(root) {
        return Ok(true);
    }
    Err(Error::new(
        Exit::Locked,
        format!(
            "{label} has another root of version {} already: somebody else made a change meanwhile",
            current.version()
        ),
    )
    .next("make this change anew: it builds on the other one"))
}

fn signed(root: &Document<Root>) -> Option<serde_json::Value> {
    let json: serde_json::Value = serde_json::from_slice(root.bytes()).ok()?;
    json.get("signed").cloned()
}

async fn register(session: &mut Session, root: Vec<u8>) -> Result<()> {
    let digest = sha256(&root);
    let first = session.published().await?.team_root.is_empty();
    let request = RegisterTeamRootRequest { root };
    let answer = session
        .operators()
        .register_team_root(request)
        .await?
        .into_inner();
    same(digest, &answer.digest)?;
    if first {
        session.login.pin(digest)?;
    }
    Ok(())
}

fn same(sent: Digest, registered: &str) -> Result<()> {
    if registered == sent.to_string() {
        return Ok(());
    }
    Err(Error::new(
        Exit::Internal,
        format!("the controller registered {registered} instead of {sent}"),
    ))
}
