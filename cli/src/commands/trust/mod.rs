//! `tamer trust …`: the team's keys and roots.

mod change;
mod hand_in;

use super::Context;
use crate::args::TrustCommand;
use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::home::Home;
use crate::keys::{self, Keys, TeamKey};
use crate::repository::{Http, refused};
use crate::views::trust::{Holds, Signing};
use crate::{drafts, views};
use std::path::PathBuf;
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;
use tamer_kit::{clock, durable};
use tamer_proto::v1::{GetTrustResponse, RegisterTeamRootRequest, RegisterTeamRootResponse};
use tamer_release::trust::document::Document;
use tamer_release::trust::draft::{Draft, Step};
use tamer_release::trust::editor::{ROOT_LIFE, RoleKeys};
use tamer_release::trust::rotation::{KeyRole, NextRoot};
use tamer_release::trust::{PublicKey, RepositoryName, walk};
use tough::schema::Root;

/// The team's root as it was made here, kept beside the keys: a lost answer of the controller must
/// not leave anyone wondering whose root is registered.
const ROOT_FILE: &str = "team.1.root.json";

/// The largest root that is read, in bytes.
const MAX_ROOT: u64 = 1 << 20;

pub(super) async fn run(at: &Context<'_>, command: &TrustCommand) -> Result<Exit> {
    match command {
        TrustCommand::Init {
            root_keys,
            threshold,
            passphrase,
        } => init(at, root_keys, *threshold, *passphrase).await,
        TrustCommand::Status => status(at).await,
        TrustCommand::Key { name, passphrase } => key(at, name.as_str(), *passphrase),
        TrustCommand::Sign { draft } => hand_in::sign(at, draft),
        TrustCommand::Publish { draft } => hand_in::publish(at, draft).await,
        change => change::run(at, change).await,
    }
}

fn key(at: &Context<'_>, name: &str, sealed: bool) -> Result<Exit> {
    let keys = Keys::of(&at.home);
    let key = keys.make(name, sealed)?;
    at.printer.line(format!("key {}", key.public().id()));
    at.printer
        .line(format!("for others: {}", keys.public_file(name).display()));
    Ok(Exit::Done)
}

async fn init(at: &Context<'_>, others: &[PathBuf], threshold: u64, sealed: bool) -> Result<Exit> {
    let mut session = at.session().await?;
    let trust = session.published().await?;
    let keys = at.home.keys();
    let path = keys.join(ROOT_FILE);
    let doing = || "cannot make the team's root".to_owned();
    let made = durable::read_capped(&path, MAX_ROOT).doing(Exit::Internal, doing)?;
    let root = match (made, trust.team_root.as_str()) {
        (Some(made), "") => made,
        (None, "") => {
            let root = make(&at.home, others, threshold, sealed)?;
            durable::replace(&path, &root, 0o600).doing(Exit::Internal, doing)?;
            root
        }
        // An earlier run whose answer was lost.
        (Some(made), registered) if sha256(&made).to_string() == registered => {
            return done(at, &mut session, sha256(&made));
        }
        (_, registered) => {
            return Err(Error::usage(format!(
                "there is a team root already, {registered}, made by somebody else"
            ))
            .next("tamer trust status"));
        }
    };
    let digest = sha256(&root);
    let answer = session
        .operators()
        .register_team_root(RegisterTeamRootRequest { root })
        .await?
        .into_inner();
    if answer.digest != digest.to_string() {
        return Err(Error::new(
            Exit::Internal,
            format!(
                "the controller registered {} instead of {digest}",
                answer.digest
            ),
        ));
    }
    done(at, &mut session, digest)
}

fn done(at: &Context<'_>, session: &mut Session, digest: Digest) -> Result<Exit> {
    session.login.pin(digest)?;
    at.printer.json(&RegisterTeamRootResponse {
        digest: digest.to_string(),
    });
    at.printer.line(format!("team root {digest}"));
    at.printer
        .line(format!("keys in   {}", at.home.keys().display()));
    at.printer.note(
        "Copy root.pem to a place offline: whoever has it decides what your servers trust, and without it nothing new can ever be trusted.",
    );
    at.printer.next("tamer env apply environments/");
    Ok(Exit::Done)
}

/// Makes those of the three keys that are not there yet, and the root that names the first, and the
/// others'. Where others must sign it too, it is a draft first.
fn make(home: &Home, others: &[PathBuf], threshold: u64, sealed: bool) -> Result<Vec<u8>> {
    let doing = || "cannot make the team's root".to_owned();
    let keys = Keys::of(home);
    for which in TeamKey::ALL {
        if !keys.dir().join(which.file()).exists() {
            keys.make(which.word(), sealed)?;
        }
    }
    let own = keys.usual(TeamKey::Root, "make the team's root")?;
    let mut next = NextRoot::first(RoleKeys::one(own.public()));
    for file in others {
        let key = keys::public(file)?;
        next.add(KeyRole::Root, &key).doing(Exit::Usage, doing)?;
        if let Some(holder) = file.file_stem().and_then(|stem| stem.to_str()) {
            next.held_by(&key, holder).doing(Exit::Usage, doing)?;
        }
    }
    next.threshold(KeyRole::Root, threshold)
        .doing(Exit::Usage, doing)?;
    let bytes = next.write(clock::now() + ROOT_LIFE);
    let bytes = bytes.doing(Exit::Internal, doing)?;
    let step = Step::new(None, None, Some(&bytes), None);
    let steps = vec![step.doing(Exit::Internal, doing)?];
    let draft = Draft::new("begin the team's root".to_owned(), None, steps);
    let draft = drafts::signed_or_kept(home, draft.doing(Exit::Internal, doing)?)?;
    let root = draft.steps[0].root().doing(Exit::Internal, doing)?;
    Ok(root.unwrap_or_default())
}

async fn status(at: &Context<'_>) -> Result<Exit> {
    let mut session = at.session().await?;
    let trust = session.published().await?;
    at.printer
        .lines(views::trust::status(&trust, clock::now().0));
    match session.login.known.trust_root {
        Some(pinned) if !trust.team_root.is_empty() && trust.team_root != pinned.to_string() => {
            return Err(Error::new(
                Exit::Refused,
                format!(
                    "{pinned} is pinned here: do not go on before you know why the controller has another team root"
                ),
            ));
        }
        _ => {}
    }
    let signing = match trust.team_root.is_empty() {
        true => Vec::new(),
        false => whose(at, &mut session, &trust).await?,
    };
    at.printer.json(&views::trust::Status {
        trust: &trust,
        signing: &signing,
    });
    if trust.team_root.is_empty() {
        at.printer.next("tamer trust init");
        return Ok(Exit::Done);
    }
    at.printer.lines(views::trust::keys(&signing));
    for (path, draft) in drafts::waiting(&at.home)? {
        let path = path.display();
        at.printer
            .line(format!("\na draft waits here, to {}: {path}", draft.asked));
        let lacking = drafts::lacking(&draft)?;
        at.printer
            .lines(lacking.iter().map(|line| format!("  {line}")));
    }
    Ok(Exit::Done)
}

/// Whose keys sign what, from verified roots.
async fn whose(
    at: &Context<'_>,
    session: &mut Session,
    trust: &GetTrustResponse,
) -> Result<Vec<Signing>> {
    let pin = session.trust_root(at.printer).await?;
    let transport = Http::new(session);
    let what = || "cannot see whose keys sign".to_owned();
    let team = walk::team(&transport, &pin).await;
    let team = team.map_err(|error| refused(error, what()))?;
    let signing = |repository: &str, root: &Document<Root>, role: KeyRole, signs| {
        let now = NextRoot::after(None, root).doing(Exit::Internal, what)?;
        let of = now.role(role);
        let holds = |key: &PublicKey| Holds {
            id: key.id(),
            holder: now.holder(&key.id()).map(str::to_owned),
        };
        Ok::<_, Error>(Signing {
            repository: repository.to_owned(),
            signs,
            threshold: of.threshold,
            keys: of.keys.iter().map(holds).collect(),
        })
    };
    let mut all = vec![signing("team", team.current(), KeyRole::Root, "roots")?];
    for row in &trust.repositories {
        let name: RepositoryName = row.name.parse().doing(Exit::Internal, what)?;
        let chain = walk::repository(&transport, &name, &team).await;
        let Some(chain) = chain.map_err(|error| refused(error, what()))? else {
            continue;
        };
        let root = chain.current();
        all.push(signing(&row.name, root, KeyRole::Targets, "targets")?);
        all.push(signing(&row.name, root, KeyRole::Online, "snapshots")?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_release::trust::{SigningKey, TeamRoot};

    #[test]
    fn keys_are_made_once_and_the_root_is_sound() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        let keys = home.keys();
        let root = make(&home, &[], 1, false).unwrap();
        let team = TeamRoot::pinned(&sha256(&root), root).unwrap();
        assert_eq!(team.current().version(), 1);
        let before = std::fs::read(keys.join("root.pem")).unwrap();
        make(&home, &[], 1, false).unwrap();
        assert_eq!(std::fs::read(keys.join("root.pem")).unwrap(), before);
        for which in TeamKey::ALL {
            SigningKey::load(&keys.join(which.file())).unwrap();
        }
    }

    #[test]
    fn a_root_of_several_waits_for_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let home = |name: &str| Home::find(Some(&dir.path().join(name))).unwrap();
        let (mine, hers) = (home("mine"), home("hers"));
        Keys::of(&hers).make("anna", false).unwrap();
        let file = Keys::of(&hers).public_file("anna");
        let waits = make(&mine, std::slice::from_ref(&file), 2, false).unwrap_err();
        assert_eq!(waits.exit, Exit::Approval);
        let [(path, mut draft)] = <[_; 1]>::try_from(drafts::waiting(&mine).unwrap()).unwrap();
        assert_eq!(drafts::sign(&hers, &mut draft).unwrap().len(), 1);
        assert!(draft.complete().unwrap());
        // A second time nothing is asked of anybody.
        assert!(drafts::sign(&hers, &mut draft).unwrap().is_empty());
        assert!(path.exists());
        let more = make(&mine, &[file], 3, false).unwrap_err();
        assert_eq!(more.exit, Exit::Usage);
    }
}
