//! A change that waits for signatures: one file that travels between those who hold the keys.
//!
//! It holds the new documents, with the signatures that they have so far, and the roots in force
//! when it was made, so that whoever signs sees what changes without reaching the controller. It is
//! handed in from the first step to the last: the repositories' roots before the team's own.

use super::document::{Document, Refused, Signable, TEAM};
use super::editor::{self, EditError, RoleKeys};
use super::names::RepositoryName;
use super::rotation::{self, Demand, KeyRole, NextRoot};
use super::signer::Signer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tough::schema::{RoleType, Root, Targets};

/// The largest draft that is read, in bytes.
pub const MAX_DRAFT: u64 = 64 << 20;

/// What a draft file begins with.
const FORMAT: &str = "tamer-draft-1";

/// Why a draft cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Not a draft of this version of Tamer.
    #[error("it is not a draft of a change of keys")]
    Format(#[source] serde_json::Error),
    /// Another format.
    #[error("it is a draft in the format {0:?}, and this version of tamer knows {FORMAT:?}")]
    Version(String),
    /// A document in it is refused.
    #[error("{repository}: its {what} is refused")]
    Refused {
        /// `team`, or the repository.
        repository: String,
        /// Which document.
        what: &'static str,
        /// Why.
        #[source]
        reason: Refused,
    },
    /// A document could not be made or signed.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    format: String,
    /// What was asked for, in words; it decides nothing.
    pub asked: String,
    /// The team's root in force when it was made; none where it is about to be registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    team: Option<Value>,
    /// In the order in which they are handed in.
    pub steps: Vec<Step>,
}

/// What is handed in for one repository, at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// `None`: the team's own root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// The root in force when it was made; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    /// The next root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<Value>,
    /// The next targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    targets: Option<Value>,
    /// The version of the targets that these follow.
    #[serde(default)]
    pub expected: u64,
}

impl Draft {
    /// A change, of which nothing is signed.
    ///
    /// # Errors
    /// The team's root is no JSON, which a verified one always is.
    pub fn new(
        asked: String,
        team: Option<&Document<Root>>,
        steps: Vec<Step>,
    ) -> Result<Self, DraftError> {
        Ok(Self {
            format: FORMAT.to_owned(),
            asked,
            team: team.map(|team| value(team.bytes())).transpose()?,
            steps,
        })
    }

    /// Reads a draft and all that is in it. Nothing in it is believed: what it is handed to verifies
    /// everything.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DraftError> {
        let draft: Self = serde_json::from_slice(bytes).map_err(DraftError::Format)?;
        if draft.format != FORMAT {
            return Err(DraftError::Version(draft.format));
        }
        for step in &draft.steps {
            draft.demands(step)?;
        }
        Ok(draft)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn write(&self) -> Result<Vec<u8>, DraftError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(DraftError::Format)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The team's roots that hosts may know when they meet a repository's new root: today's, and
    /// the one that this draft makes.
    fn teams(&self) -> Result<Vec<Document<Root>>, DraftError> {
        let next = self.steps.iter().find(|step| step.repository.is_none());
        let next = next.and_then(|step| step.root.as_ref());
        let both = self.team.iter().chain(next);
        both.map(|json| read(json, None, "root")).collect()
    }

    /// Whose signatures a step needs, and which it has: for its root, then for its targets.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn demands(&self, step: &Step) -> Result<Vec<(&'static str, Demand)>, DraftError> {
        let (before, root, targets) = step.documents()?;
        let teams = match step.repository {
            None => Vec::new(),
            Some(_) => self.teams()?,
        };
        let mut all = Vec::new();
        if let Some(root) = &root {
            let demands =
                rotation::demands(root, before.as_ref(), &teams.iter().collect::<Vec<_>>())?;
            all.extend(demands.into_iter().map(|demand| ("root", demand)));
        }
        if let Some(targets) = &targets {
            let by = root.as_ref().or(before.as_ref());
            let by =
                by.ok_or_else(|| step.refused("targets", Refused::OutOfOrder("their root")))?;
            let keys = RoleKeys::of(by, RoleType::Targets).map_err(EditError::from)?;
            let demand = Demand::of("the keys that publish", keys, targets)?;
            all.push(("targets", demand));
        }
        Ok(all)
    }

    /// Signs whatever needs this key and lacks its signature; how many documents that were.
    ///
    /// # Errors
    /// [`DraftError`]; the draft is as it was.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<usize, DraftError> {
        let id = signer.public().id();
        let mut signed = self.clone();
        let mut count = 0;
        for at in 0..self.steps.len() {
            let wanted = |kind: &str, demands: &[(&str, Demand)]| {
                demands.iter().any(|(of, demand)| {
                    *of == kind
                        && demand.keys.keys.iter().any(|key| key.id() == id)
                        && !demand.signed.contains(&id)
                })
            };
            let demands = self.demands(&self.steps[at])?;
            let step = &mut signed.steps[at];
            if wanted("root", &demands) {
                step.root = cosign::<Root>(step.root.as_ref(), signer)?;
                count += 1;
            }
            if wanted("targets", &demands) {
                step.targets = cosign::<Targets>(step.targets.as_ref(), signer)?;
                count += 1;
            }
        }
        *self = signed;
        Ok(count)
    }

    /// Whether every step has all signatures that it needs.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn complete(&self) -> Result<bool, DraftError> {
        for step in &self.steps {
            let demands = self.demands(step)?;
            if demands.iter().any(|(_, demand)| demand.missing() > 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The root before, the root, and the targets.
type Documents = (
    Option<Document<Root>>,
    Option<Document<Root>>,
    Option<Document<Targets>>,
);

impl Step {
    /// The next root of the team, or of a repository, and with it targets that hold under it.
    ///
    /// # Errors
    /// A document is no JSON, which none that was made here is.
    pub fn new(
        repository: Option<RepositoryName>,
        before: Option<&Document<Root>>,
        root: Option<&[u8]>,
        targets: Option<(&[u8], u64)>,
    ) -> Result<Self, DraftError> {
        Ok(Self {
            repository,
            before: before.map(|before| value(before.bytes())).transpose()?,
            root: root.map(value).transpose()?,
            targets: targets.map(|(bytes, _)| value(bytes)).transpose()?,
            expected: targets.map_or(0, |(_, expected)| expected),
        })
    }

    /// `team`, or the repository.
    pub fn label(&self) -> String {
        match &self.repository {
            None => TEAM.to_owned(),
            Some(name) => name.to_string(),
        }
    }

    /// The next root's bytes, as they are handed in.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn root(&self) -> Result<Option<Vec<u8>>, DraftError> {
        Ok(self.root.as_ref().map(bytes).transpose()?)
    }

    /// The next targets' bytes, as they are handed in.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn targets(&self) -> Result<Option<Vec<u8>>, DraftError> {
        Ok(self.targets.as_ref().map(bytes).transpose()?)
    }

    /// Its documents, read.
    ///
    /// # Errors
    /// [`DraftError::Refused`].
    pub fn documents(&self) -> Result<Documents, DraftError> {
        let label = self.label();
        let before: Option<Document<Root>> = match &self.before {
            Some(json) => Some(read(json, Some(&label), "root")?),
            None => None,
        };
        let root: Option<Document<Root>> = match &self.root {
            Some(json) => Some(read(json, Some(&label), "next root")?),
            None => None,
        };
        if let Some(root) = &root {
            root.sound()
                .map_err(|reason| self.refused("next root", reason))?;
            let expected = before.as_ref().map_or(1, |before| before.version() + 1);
            if root.version() != expected {
                let found = root.version();
                return Err(self.refused("next root", Refused::Version { expected, found }));
            }
        }
        let targets = match &self.targets {
            Some(json) => Some(read(json, Some(&label), "targets")?),
            None => None,
        };
        Ok((before, root, targets))
    }

    /// What the new root changes, a line each: `+` a key, `-` a key, `=` a threshold or an end.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn changes(&self) -> Result<Vec<String>, DraftError> {
        let (before, root, targets) = self.documents()?;
        let mut lines = Vec::new();
        if let Some(root) = &root {
            let next = |of| NextRoot::after(self.repository.clone(), of).map_err(EditError::from);
            let new = next(root)?;
            let old = before.as_ref().map(next).transpose()?;
            let roles: &[(KeyRole, &str)] = match self.repository {
                None => &[(KeyRole::Root, "root")],
                Some(_) => &[
                    (KeyRole::Root, "root"),
                    (KeyRole::Targets, "publishing"),
                    (KeyRole::Online, "online"),
                ],
            };
            for (role, name) in roles {
                let to = new.role(*role);
                let from = old.as_ref().map(|old| old.role(*role));
                let line = |sign: char, key: &super::PublicKey, of: &NextRoot| {
                    let id = key.id();
                    let holder = of.holder(&id).map(|h| format!("  {h}")).unwrap_or_default();
                    format!("{sign} {name} key {}{holder}", &id[..16])
                };
                let known =
                    |keys: Option<&RoleKeys>, key| keys.is_some_and(|k| k.keys.contains(key));
                let added = to.keys.iter().filter(|key| !known(from, key));
                lines.extend(added.map(|key| line('+', key, &new)));
                if let (Some(from), Some(old)) = (from, &old) {
                    let gone = from.keys.iter().filter(|key| !to.keys.contains(key));
                    lines.extend(gone.map(|key| line('-', key, old)));
                }
                if from.is_none_or(|f| (f.threshold, f.keys.len()) != (to.threshold, to.keys.len()))
                {
                    let of = to.keys.len();
                    lines.push(format!("= {} of {of} {name} keys must sign", to.threshold));
                }
            }
            lines.push(format!("= valid until {}", root.content().expires));
        }
        if let Some(targets) = &targets {
            let (version, count) = (targets.version(), targets.content().targets.len());
            lines.push(format!("= {count} targets, version {version}, signed anew"));
        }
        Ok(lines)
    }

    fn refused(&self, what: &'static str, reason: Refused) -> DraftError {
        let repository = self.label();
        DraftError::Refused {
            repository,
            what,
            reason,
        }
    }
}

fn read<T: Signable>(
    json: &Value,
    label: Option<&str>,
    what: &'static str,
) -> Result<Document<T>, DraftError> {
    Document::parse(bytes(json)?, label).map_err(|reason| DraftError::Refused {
        repository: label.unwrap_or(TEAM).to_owned(),
        what,
        reason,
    })
}

fn cosign<T: Signable>(
    json: Option<&Value>,
    signer: &dyn Signer,
) -> Result<Option<Value>, DraftError> {
    let Some(json) = json else { return Ok(None) };
    Ok(Some(value(&editor::cosign::<T>(&bytes(json)?, signer)?)?))
}

fn value(bytes: &[u8]) -> Result<Value, DraftError> {
    serde_json::from_slice(bytes).map_err(DraftError::Format)
}

/// As [`super::editor`] writes documents.
fn bytes(json: &Value) -> Result<Vec<u8>, EditError> {
    let mut bytes = serde_json::to_vec_pretty(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}
