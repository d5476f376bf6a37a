//! `tamer trust init`, `tamer trust status`

use super::Context;
use crate::args::TrustCommand;
use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::repository::TeamKey;
use crate::views;
use std::path::Path;
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;
use tamer_kit::{clock, durable};
use tamer_proto::v1::{GetTrustRequest, RegisterTeamRootRequest, RegisterTeamRootResponse};
use tamer_release::trust::SigningKey;
use tamer_release::trust::editor::{ROOT_LIFE, RoleKeys, team_root};

/// The team's root as it was made here, kept beside the keys: a lost answer of the controller must
/// not leave anyone wondering whose root is registered.
const ROOT_FILE: &str = "team.1.root.json";

/// The largest root that is read, in bytes.
const MAX_ROOT: u64 = 1 << 20;

pub(super) async fn run(at: &Context<'_>, command: &TrustCommand) -> Result<Exit> {
    match command {
        TrustCommand::Init => init(at).await,
        TrustCommand::Status => status(at).await,
    }
}

async fn init(at: &Context<'_>) -> Result<Exit> {
    let mut session = at.session().await?;
    let trust = session
        .operators()
        .get_trust(GetTrustRequest {})
        .await?
        .into_inner();
    let keys = at.home.keys();
    let path = keys.join(ROOT_FILE);
    let doing = || "cannot make the team's root".to_owned();
    let made = durable::read_capped(&path, MAX_ROOT).doing(Exit::Internal, doing)?;
    let root = match (made, trust.team_root.as_str()) {
        (Some(made), "") => made,
        (None, "") => {
            let root = make(&keys)?;
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

/// Makes those of the three keys that are not there yet, and the root that names the first.
fn make(keys: &Path) -> Result<Vec<u8>> {
    let doing = || "cannot make the team's keys".to_owned();
    durable::create_dir_all(keys, 0o700).doing(Exit::Internal, doing)?;
    let key = |which: TeamKey| -> Result<SigningKey> {
        let path = keys.join(which.file());
        if path.exists() {
            return SigningKey::load(&path).doing(Exit::Usage, doing);
        }
        let key = SigningKey::generate().doing(Exit::Internal, doing)?;
        key.save(&path).doing(Exit::Internal, doing)?;
        Ok(key)
    };
    let root = key(TeamKey::Root)?;
    key(TeamKey::Release)?;
    key(TeamKey::Environment)?;
    let roles = RoleKeys::one(root.public());
    team_root(&roles, 1, clock::now() + ROOT_LIFE, &[&root]).doing(Exit::Internal, doing)
}

async fn status(at: &Context<'_>) -> Result<Exit> {
    let session = at.session().await?;
    let trust = session
        .operators()
        .get_trust(GetTrustRequest {})
        .await?
        .into_inner();
    at.printer.json(&trust);
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
    if trust.team_root.is_empty() {
        at.printer.next("tamer trust init");
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_release::trust::TeamRoot;

    #[test]
    fn keys_are_made_once_and_the_root_is_sound() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let root = make(&keys).unwrap();
        let team = TeamRoot::pinned(&sha256(&root), root).unwrap();
        assert_eq!(team.current().version(), 1);
        let before = std::fs::read(keys.join("root.pem")).unwrap();
        make(&keys).unwrap();
        assert_eq!(std::fs::read(keys.join("root.pem")).unwrap(), before);
        for which in [TeamKey::Release, TeamKey::Environment] {
            SigningKey::load(&keys.join(which.file())).unwrap();
        }
    }
}
