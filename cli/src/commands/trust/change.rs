//! `tamer trust rotate`, `add-key`, `revoke-key`, `threshold`, `renew`: each makes the next roots of
//! all that it concerns. Of the team's keys, that is every repository, and then the team's own root.

use super::super::Context;
use super::hand_in;
use crate::args::{KeyRoleName, OfRole, TrustCommand};
use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::keys::{self, Keys, TeamKey};
use crate::repository::{Http, online_keys, refused, unsigned_targets};
use std::sync::Arc;
use tamer_core::moment::Moment;
use tamer_kit::clock;
use tamer_proto::v1::GetTrustResponse;
use tamer_release::trust::document::Document;
use tamer_release::trust::draft::{Draft, Step};
use tamer_release::trust::editor::{ROOT_LIFE, RoleKeys};
use tamer_release::trust::rotation::{KeyRole, NextRoot, RotationError};
use tamer_release::trust::{Client, PublicKey, RepositoryName, TeamRoot, walk};
use tough::schema::Root;

/// What is in force.
struct InForce {
    trust: GetTrustResponse,
    team: TeamRoot,
    /// Those that the change concerns.
    repositories: Vec<(RepositoryName, Document<Root>)>,
    client: Client,
}

pub(super) async fn run(at: &Context<'_>, command: &TrustCommand) -> Result<Exit> {
    let mut session = at.session().await?;
    let (of, asked) = match command {
        TrustCommand::Rotate { of, .. } => (of, format!("rotate the {} key", of.role.word())),
        TrustCommand::AddKey { of, file, .. } => (
            of,
            format!("add {} to the {} keys", file.display(), of.role.word()),
        ),
        TrustCommand::RevokeKey { of, id } => {
            (of, format!("revoke the {} key {id}", of.role.word()))
        }
        TrustCommand::Threshold { of, number } => {
            (of, format!("have {number} {} keys sign", of.role.word()))
        }
        TrustCommand::Renew { of } => (of, format!("renew what the {} keys sign", of.role.word())),
        _ => return Err(Error::new(Exit::Internal, "not a change of keys")),
    };
    let asked = match &of.repository {
        Some(name) => format!("{asked} of {name}"),
        None => asked,
    };
    let before = InForce::load(at, &mut session, of).await?;
    let draft = before.draft(at, command, of, asked).await?;
    hand_in::carry_out(at, &mut session, draft).await
}

impl InForce {
    async fn load(at: &Context<'_>, session: &mut Session, of: &OfRole) -> Result<Self> {
        let pin = session.trust_root(at.printer).await?;
        let trust = session.published().await?;
        let transport = Http::new(session);
        let what = || "cannot see which keys are in force".to_owned();
        let team = walk::team(&transport, &pin).await;
        let team = team.map_err(|error| refused(error, what()))?;
        if of.role == KeyRoleName::Root && of.repository.is_some() {
            return Err(Error::usage(
                "the root keys are the team's: leave --repository out",
            ));
        }
        let mut repositories = Vec::new();
        for row in &trust.repositories {
            let name: RepositoryName = row.name.parse().doing(Exit::Internal, what)?;
            let meant = match &of.repository {
                Some(wanted) => *wanted == name,
                None => of.role.concerns(&name),
            };
            if !meant {
                continue;
            }
            let chain = walk::repository(&transport, &name, &team).await;
            if let Some(chain) = chain.map_err(|error| refused(error, what()))? {
                repositories.push((name, chain.current().clone()));
            }
        }
        if let (Some(name), true) = (&of.repository, repositories.is_empty()) {
            return Err(
                Error::usage(format!("there is no repository {name}")).next("tamer trust status")
            );
        }
        if let Some(name) = of
            .repository
            .as_ref()
            .filter(|name| !of.role.concerns(name))
        {
            let word = of.role.word();
            return Err(Error::usage(format!("{name} has no {word} keys")));
        }
        Ok(Self {
            trust,
            team,
            repositories,
            client: Client::new(session.login.trust_store(pin), Arc::new(transport)),
        })
    }

    async fn draft(
        &self,
        at: &Context<'_>,
        command: &TrustCommand,
        of: &OfRole,
        asked: String,
    ) -> Result<Draft> {
        let doing = || format!("cannot {asked}");
        let role = of.role.role();
        let new = self.new_key(at, command, of)?;
        let mut steps = Vec::new();
        let mut team = NextRoot::after(None, self.team.current()).doing(Exit::Internal, doing)?;
        if role == KeyRole::Root {
            let old = old_key(at, command, team.role(role), &doing)?;
            change(&mut team, command, role, new.as_ref(), old).doing(Exit::Usage, doing)?;
        }
        let mut last = None;
        for (name, root) in &self.repositories {
            let mut next =
                NextRoot::after(Some(name.clone()), root).doing(Exit::Internal, doing)?;
            let renewing = matches!(command, TrustCommand::Renew { .. });
            let mut with_targets = false;
            match role {
                KeyRole::Root => {
                    next.set(role, team.role(role).clone());
                    next.hold_as(&team);
                }
                KeyRole::Online if matches!(command, TrustCommand::Rotate { .. }) => {
                    let keys = online_keys(&self.trust)?;
                    if keys.keys == next.role(role).keys {
                        continue;
                    }
                    next.set(role, keys);
                }
                KeyRole::Online => {
                    return Err(Error::usage(
                        "the online keys are the controller's: they are rotated, nothing else",
                    )
                    .next("tamer-controller rotate-online-keys, then tamer trust rotate online"));
                }
                KeyRole::Targets if renewing => with_targets = true,
                KeyRole::Targets => {
                    let old = old_key(at, command, next.role(role), &doing)?;
                    match change(&mut next, command, role, new.as_ref(), old) {
                        // Meant for all, and not all have the key.
                        Err(error @ (RotationError::Unknown(_) | RotationError::There(_)))
                            if of.repository.is_none() =>
                        {
                            last = Some(error);
                            continue;
                        }
                        done => done.doing(Exit::Usage, doing)?,
                    }
                    with_targets = true;
                }
            }
            let targets = match with_targets {
                true => self.targets(name).await?,
                false => None,
            };
            let bytes = next
                .write(clock::now() + ROOT_LIFE)
                .doing(Exit::Internal, doing)?;
            let bytes = (!(renewing && role == KeyRole::Targets)).then_some(&bytes[..]);
            let targets = targets
                .as_ref()
                .map(|(bytes, version)| (&bytes[..], *version));
            if bytes.is_none() && targets.is_none() {
                continue;
            }
            let step = Step::new(Some(name.clone()), Some(root), bytes, targets);
            steps.push(step.doing(Exit::Internal, doing)?);
        }
        if role == KeyRole::Root {
            let bytes = team
                .write(clock::now() + ROOT_LIFE)
                .doing(Exit::Internal, doing)?;
            let step = Step::new(None, Some(self.team.current()), Some(&bytes), None);
            steps.push(step.doing(Exit::Internal, doing)?);
        }
        if let (Some(error), true) = (last, steps.is_empty()) {
            return Err(error).doing(Exit::Usage, doing);
        }
        Draft::new(asked.clone(), Some(self.team.current()), steps).doing(Exit::Internal, doing)
    }

    /// The current targets as the next version, for the new keys to sign; none before the first.
    async fn targets(&self, name: &RepositoryName) -> Result<Option<(Vec<u8>, u64)>> {
        let what = || format!("what the controller serves as {name} cannot be trusted");
        let published = self.trust.repositories.iter();
        let published = published.filter(|row| row.targets_version > 0);
        if !published
            .map(|row| &row.name)
            .any(|row| *row == name.to_string())
        {
            return Ok(None);
        }
        // What has expired is signed anew as well: nothing is too old for that.
        let verified = self.client.refresh(name, Moment(0)).await;
        let verified = verified.map_err(|error| refused(error, what()))?;
        let previous = self.client.accepted_targets(name);
        let previous = previous.map_err(|error| refused(error, what()))?;
        let targets = unsigned_targets(name, previous.as_deref(), &[]);
        let targets = targets.doing(Exit::Internal, || format!("cannot sign {name} anew"))?;
        Ok(Some((targets, verified.targets_version)))
    }

    /// The key that comes in.
    fn new_key(
        &self,
        at: &Context<'_>,
        command: &TrustCommand,
        of: &OfRole,
    ) -> Result<Option<PublicKey>> {
        match command {
            TrustCommand::AddKey { file, .. }
            | TrustCommand::Rotate {
                with: Some(file), ..
            } => Ok(Some(keys::public(file)?)),
            TrustCommand::Rotate { .. } => {
                let Some(which) = of.role.key() else {
                    return Ok(None);
                };
                let role = of.role.role();
                let team = (role == KeyRole::Root).then(|| self.team.current());
                let roots = self.repositories.iter().map(|(_, root)| root);
                let roots = roots.chain(team);
                let mut known = Vec::new();
                for root in roots {
                    let root = NextRoot::after(None, root);
                    let root = root.doing(Exit::Internal, || "cannot rotate".to_owned())?;
                    known.extend(root.role(role).keys.clone());
                }
                let keys = Keys::of(&at.home);
                if keys.among(&known)?.is_empty() {
                    let word = which.word();
                    return Err(Error::usage(format!(
                        "none of the {word} keys is on this machine, so none can be rotated here"
                    ))
                    .next("tamer trust add-key and tamer trust revoke-key do it in two steps"));
                }
                let new = keys.renewed(which, |key| known.contains(key))?;
                Ok(Some(new.public().clone()))
            }
            _ => Ok(None),
        }
    }
}

/// The key that goes out when one is rotated: the one that was named, or the only one at hand.
fn old_key(
    at: &Context<'_>,
    command: &TrustCommand,
    keys: &RoleKeys,
    doing: &impl Fn() -> String,
) -> Result<Option<String>> {
    let TrustCommand::Rotate { key, .. } = command else {
        return Ok(None);
    };
    if let Some(id) = key {
        return Ok(Some(id.clone()));
    }
    let at_hand = Keys::of(&at.home).among(&keys.keys)?;
    match &at_hand[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.public().id())),
        several => {
            let ids: Vec<_> = several
                .iter()
                .map(|key| key.public().id()[..16].to_owned())
                .collect();
            let message = format!("{}: several of its keys are on this machine", doing());
            Err(Error::usage(message).next(format!("--key, with one of {}", ids.join(", "))))
        }
    }
}

/// Makes the change to one root. `old` is the key that goes out when one is rotated.
fn change(
    next: &mut NextRoot,
    command: &TrustCommand,
    role: KeyRole,
    new: Option<&PublicKey>,
    old: Option<String>,
) -> std::result::Result<(), RotationError> {
    match (command, new) {
        (TrustCommand::Rotate { .. }, Some(new)) => {
            let Some(old) = old else {
                let here = "any of those on this machine".to_owned();
                return Err(RotationError::Unknown(here));
            };
            let old = next.replace(role, &old, new)?;
            if let Some(holder) = next.holder(&old.id()).map(str::to_owned) {
                next.held_by(new, &holder)?;
            }
        }
        (TrustCommand::AddKey { holder, .. }, Some(new)) => {
            next.add(role, new)?;
            if let Some(holder) = holder {
                next.held_by(new, holder)?;
            }
        }
        (TrustCommand::RevokeKey { id, .. }, _) => drop(next.revoke(role, id)?),
        (TrustCommand::Threshold { number, .. }, _) => next.threshold(role, *number)?,
        _ => {}
    }
    Ok(())
}

impl KeyRoleName {
    fn role(self) -> KeyRole {
        match self {
            Self::Root => KeyRole::Root,
            Self::Release | Self::Environment => KeyRole::Targets,
            Self::Online => KeyRole::Online,
        }
    }

    fn key(self) -> Option<TeamKey> {
        match self {
            Self::Root => Some(TeamKey::Root),
            Self::Release => Some(TeamKey::Release),
            Self::Environment => Some(TeamKey::Environment),
            Self::Online => None,
        }
    }

    fn concerns(self, name: &RepositoryName) -> bool {
        match self {
            Self::Root | Self::Online => true,
            Self::Release => matches!(name, RepositoryName::Application(_)),
            Self::Environment => matches!(name, RepositoryName::Environment(_)),
        }
    }
}
