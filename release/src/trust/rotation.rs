//! The next root: whose keys may sign what from now on, and whose signatures that itself needs.
//! Pure: changes are made to [`NextRoot`], [`demands`] says who must sign it.

use super::document::{Document, Readable, Refused, Signable, TEAM};
use super::editor::{self, EditError, HOLDERS_FIELD, RoleKeys};
use super::keys::{PublicKey, SigningKey};
use super::names::RepositoryName;
use serde_json::Value;
use std::collections::BTreeMap;
use tamer_core::moment::Moment;
use tough::schema::{RoleType, Root, Signed};

/// The longest word about a key's holder, in characters.
pub const MAX_HOLDER: usize = 80;

/// Whose keys change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRole {
    /// The team's root keys: they say who may sign what.
    Root,
    /// The keys that sign a repository's targets: releases, or the environment's file.
    Targets,
    /// The controller's keys for snapshot and timestamp.
    Online,
}

/// Why a change of keys makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RotationError {
    /// It has the key already.
    #[error("the key {0} is one of them already")]
    There(String),
    /// No key's id begins so.
    #[error("none of the keys has an id that begins with {0}")]
    Unknown(String),
    /// Several keys' ids begin so.
    #[error("several of the keys have an id that begins with {0}: give more of it")]
    Ambiguous(String),
    /// Fewer keys would be left than must sign.
    #[error(
        "{left} keys would be left, and {threshold} must sign: lower the threshold or add a key first"
    )]
    TooFew {
        /// How many keys would be left.
        left: usize,
        /// How many must sign.
        threshold: u64,
    },
    /// A threshold of none, or of more keys than there are.
    #[error(
        "{threshold} of {keys} keys cannot sign: a threshold is at least 1 and at most the number of keys"
    )]
    Threshold {
        /// The threshold asked for.
        threshold: u64,
        /// How many keys there are.
        keys: usize,
    },
    /// Not one line of plain text.
    #[error("the holder is a line of at most {MAX_HOLDER} characters, without control characters")]
    Holder,
}

/// A root that is not written yet.
#[derive(Debug, Clone)]
pub struct NextRoot {
    repository: Option<RepositoryName>,
    version: u64,
    root: RoleKeys,
    targets: RoleKeys,
    online: RoleKeys,
    holders: BTreeMap<String, String>,
}

impl NextRoot {
    /// The team's first root.
    pub fn first(root: RoleKeys) -> Self {
        Self {
            repository: None,
            version: 1,
            targets: root.clone(),
            online: root.clone(),
            root,
            holders: BTreeMap::new(),
        }
    }

    /// A repository's first root.
    pub fn first_of(
        repository: &RepositoryName,
        root: RoleKeys,
        targets: RoleKeys,
        online: RoleKeys,
    ) -> Self {
        Self {
            repository: Some(repository.clone()),
            version: 1,
            root,
            targets,
            online,
            holders: BTreeMap::new(),
        }
    }

    /// What follows a root: the same keys, one version further. `None` for the team's.
    ///
    /// # Errors
    /// It lacks a role's keys.
    pub fn after(
        repository: Option<RepositoryName>,
        root: &Document<Root>,
    ) -> Result<Self, Refused> {
        Ok(Self {
            repository,
            version: root.version() + 1,
            root: RoleKeys::of(root, RoleType::Root)?,
            targets: RoleKeys::of(root, RoleType::Targets)?,
            online: RoleKeys::of(root, RoleType::Timestamp)?,
            holders: holders(root),
        })
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The keys of a role.
    pub fn role(&self, role: KeyRole) -> &RoleKeys {
        match role {
            KeyRole::Root => &self.root,
            KeyRole::Targets => &self.targets,
            KeyRole::Online => &self.online,
        }
    }

    fn role_mut(&mut self, role: KeyRole) -> &mut RoleKeys {
        match role {
            KeyRole::Root => &mut self.root,
            KeyRole::Targets => &mut self.targets,
            KeyRole::Online => &mut self.online,
        }
    }

    /// Who holds a key, as the team wrote it down.
    pub fn holder(&self, id: &str) -> Option<&str> {
        self.holders.get(id).map(String::as_str)
    }

    /// Gives a role all its keys anew.
    pub fn set(&mut self, role: KeyRole, keys: RoleKeys) {
        *self.role_mut(role) = keys;
    }

    /// Writes down who holds a key; it is signed with the root, and decides nothing.
    ///
    /// # Errors
    /// [`RotationError::Holder`].
    pub fn held_by(&mut self, key: &PublicKey, holder: &str) -> Result<(), RotationError> {
        let plain = !holder.trim().is_empty() && !holder.chars().any(char::is_control);
        if !plain || holder.chars().count() > MAX_HOLDER {
            return Err(RotationError::Holder);
        }
        self.holders.insert(key.id(), holder.trim().to_owned());
        Ok(())
    }

    /// Takes over who holds which key.
    pub fn hold_as(&mut self, other: &Self) {
        self.holders.extend(other.holders.clone());
    }

    /// One key more.
    ///
    /// # Errors
    /// [`RotationError::There`].
    pub fn add(&mut self, role: KeyRole, key: &PublicKey) -> Result<(), RotationError> {
        let keys = &mut self.role_mut(role).keys;
        if keys.contains(key) {
            return Err(RotationError::There(key.id()));
        }
        keys.push(key.clone());
        Ok(())
    }

    /// One key less, by its id or the beginning of it; the threshold stays.
    ///
    /// # Errors
    /// No such key, or too few are left.
    pub fn revoke(&mut self, role: KeyRole, id: &str) -> Result<PublicKey, RotationError> {
        let RoleKeys { keys, threshold } = self.role_mut(role);
        let at = find(keys, id)?;
        if ((keys.len() - 1) as u64) < *threshold {
            let (left, threshold) = (keys.len() - 1, *threshold);
            return Err(RotationError::TooFew { left, threshold });
        }
        Ok(keys.remove(at))
    }

    /// Another key in the place of one.
    ///
    /// # Errors
    /// No such key, or the other one is there already.
    pub fn replace(
        &mut self,
        role: KeyRole,
        id: &str,
        by: &PublicKey,
    ) -> Result<PublicKey, RotationError> {
        let keys = &mut self.role_mut(role).keys;
        let at = find(keys, id)?;
        if keys.contains(by) {
            return Err(RotationError::There(by.id()));
        }
        Ok(std::mem::replace(&mut keys[at], by.clone()))
    }

    /// How many must sign.
    ///
    /// # Errors
    /// [`RotationError::Threshold`].
    pub fn threshold(&mut self, role: KeyRole, threshold: u64) -> Result<(), RotationError> {
        let of = self.role_mut(role);
        if threshold == 0 || threshold > of.keys.len() as u64 {
            let keys = of.keys.len();
            return Err(RotationError::Threshold { threshold, keys });
        }
        of.threshold = threshold;
        Ok(())
    }

    /// The root, which nobody has signed yet.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn write(&self, expires: Moment) -> Result<Vec<u8>, EditError> {
        let label = match &self.repository {
            None => TEAM.to_owned(),
            Some(name) => name.to_string(),
        };
        // The specification wants all four roles named; only `root` of the team's is ever used.
        let roles = match self.repository {
            None => [&self.root; 4],
            Some(_) => [&self.root, &self.targets, &self.online, &self.online],
        };
        // Only holders of keys that are in it.
        let named = |id: &str| {
            roles
                .iter()
                .any(|r| r.keys.iter().any(|key| key.id() == id))
        };
        let holders = self.holders.iter().filter(|(id, _)| named(id));
        let holders = holders.map(|(id, of)| (id.clone(), of.clone())).collect();
        editor::root::<SigningKey>(&label, roles, self.version, expires, &holders, &[])
    }
}

fn find(keys: &[PublicKey], id: &str) -> Result<usize, RotationError> {
    let mut found = keys
        .iter()
        .enumerate()
        .filter(|(_, key)| key.id().starts_with(id));
    match (found.next(), found.next()) {
        (Some((at, _)), None) if !id.is_empty() => Ok(at),
        (Some(_), _) => Err(RotationError::Ambiguous(id.to_owned())),
        (None, _) => Err(RotationError::Unknown(id.to_owned())),
    }
}

/// Who holds which key by a root's word: by key id. It decides nothing.
pub fn holders(root: &Document<Root>) -> BTreeMap<String, String> {
    let written = root
        .content()
        .extra()
        .get(HOLDERS_FIELD)
        .and_then(Value::as_object);
    let lines = written.into_iter().flatten().filter_map(|(id, holder)| {
        let holder: String = holder
            .as_str()?
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        Some((id.clone(), holder.chars().take(MAX_HOLDER).collect()))
    });
    lines.collect()
}

/// Signatures that a document needs: so many, of these keys.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Whose keys, in words.
    pub by: &'static str,
    /// Any of these.
    pub keys: RoleKeys,
    /// The ids of those that have signed.
    pub signed: Vec<String>,
}

impl Demand {
    /// How many signatures are missing still.
    pub fn missing(&self) -> u64 {
        self.keys.threshold.saturating_sub(self.signed.len() as u64)
    }

    /// Holds a document against keys.
    ///
    /// # Errors
    /// It has no canonical form.
    pub fn of<T: Signable>(
        by_words: &'static str,
        keys: RoleKeys,
        document: &Document<T>,
    ) -> Result<Self, EditError> {
        let all: Signed<T> = serde_json::from_slice(document.bytes())?;
        let message = all.signed.canonical_form();
        let message = message.map_err(|source| EditError::Canonical(Box::new(source)))?;
        let has = |key: &&PublicKey| {
            let id = key.id();
            let mut of = all
                .signatures
                .iter()
                .filter(|s| hex::encode(&s.keyid) == id);
            of.any(|s| key.verify(&message, &s.sig))
        };
        let signed = keys.keys.iter().filter(has).map(PublicKey::id).collect();
        Ok(Self {
            by: by_words,
            keys,
            signed,
        })
    }
}

/// Whose signatures a root needs: those of the root before it, its own, and for a repository's root
/// those of each team's root that hosts may know when they meet it.
///
/// # Errors
/// A role without keys, or no canonical form.
pub fn demands(
    root: &Document<Root>,
    before: Option<&Document<Root>>,
    team: &[&Document<Root>],
) -> Result<Vec<Demand>, EditError> {
    let mut demands: Vec<Demand> = Vec::new();
    let all = before
        .iter()
        .map(|before| ("the root keys until now", *before))
        .chain([("the root keys from now on", root)])
        .chain(team.iter().map(|team| ("the team's root keys", *team)));
    for (by, of) in all {
        let keys = RoleKeys::of(of, RoleType::Root)?;
        let same = |known: &Demand| {
            known.keys.threshold == keys.threshold
                && known.keys.keys.len() == keys.keys.len()
                && known.keys.keys.iter().all(|key| keys.keys.contains(key))
        };
        if !demands.iter().any(same) {
            demands.push(Demand::of(by, keys, root)?);
        }
    }
    Ok(demands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_make_no_sense_are_refused_and_change_nothing() {
        let keys: Vec<_> = (0..3).map(|_| SigningKey::generate().unwrap()).collect();
        let [a, b, c] = [0, 1, 2].map(|n| keys[n].public().clone());
        let root = RoleKeys {
            keys: vec![a.clone(), b.clone()],
            threshold: 2,
        };
        let mut next = NextRoot::first(root);
        let role = KeyRole::Root;
        assert_eq!(next.add(role, &a), Err(RotationError::There(a.id())));
        let few = RotationError::TooFew {
            left: 1,
            threshold: 2,
        };
        assert_eq!(next.revoke(role, &a.id()), Err(few));
        assert_eq!(
            next.revoke(role, ""),
            Err(RotationError::Ambiguous(String::new()))
        );
        assert_eq!(
            next.revoke(role, "xyz"),
            Err(RotationError::Unknown("xyz".into()))
        );
        let there = RotationError::There(b.id());
        assert_eq!(next.replace(role, &a.id(), &b), Err(there));
        for threshold in [0, 3] {
            let error = RotationError::Threshold { threshold, keys: 2 };
            assert_eq!(next.threshold(role, threshold), Err(error));
        }
        for holder in ["", "  ", "two\nlines", &"x".repeat(81)] {
            assert_eq!(next.held_by(&a, holder), Err(RotationError::Holder));
        }
        assert_eq!(next.role(role).keys, [a.clone(), b.clone()]);

        next.add(role, &c).unwrap();
        next.held_by(&c, "carla").unwrap();
        next.held_by(&a, "anna").unwrap();
        next.revoke(role, &a.id()[..20]).unwrap();
        let bytes = next.write(Moment(1_900_000_000_000)).unwrap();
        let root = Document::<Root>::parse(bytes, Some(TEAM)).unwrap();
        root.sound().unwrap();
        // Whoever is out is not named any more.
        assert_eq!(
            holders(&root),
            BTreeMap::from([(c.id(), "carla".to_owned())])
        );
    }

    #[test]
    fn a_root_needs_the_old_keys_the_new_ones_and_the_teams() {
        let keys: Vec<_> = (0..3).map(|_| SigningKey::generate().unwrap()).collect();
        let end = Moment(1_900_000_000_000);
        let mut next = NextRoot::first(RoleKeys::one(keys[0].public()));
        let first = next.write(end).unwrap();
        let first = Document::<Root>::parse(first, None).unwrap();
        next = NextRoot::after(None, &first).unwrap();
        next.add(KeyRole::Root, keys[1].public()).unwrap();
        next.threshold(KeyRole::Root, 2).unwrap();
        let signed = editor::cosign::<Root>(&next.write(end).unwrap(), &keys[1]).unwrap();
        let root = Document::<Root>::parse(signed.clone(), None).unwrap();
        let missing = |root: &Document<Root>, team: &[&Document<Root>]| -> Vec<_> {
            let demands = demands(root, Some(&first), team).unwrap();
            demands.iter().map(|d| (d.by, d.missing())).collect()
        };
        let old = "the root keys until now";
        let new = "the root keys from now on";
        assert_eq!(missing(&root, &[]), [(old, 1), (new, 1)]);
        // A signature by somebody else is none.
        let forged = String::from_utf8(signed).unwrap();
        let forged = forged.replace(&keys[1].public().id(), &keys[0].public().id());
        if let Ok(root) = Document::<Root>::parse(forged.into_bytes(), None) {
            assert_eq!(missing(&root, &[])[0], (old, 1));
        }
        let both = editor::cosign::<Root>(root.bytes(), &keys[0]).unwrap();
        let both = Document::<Root>::parse(both, None).unwrap();
        assert_eq!(missing(&both, &[&first]), [(old, 0), (new, 0)]);
        let stranger = NextRoot::first(RoleKeys::one(keys[2].public()));
        let stranger = Document::<Root>::parse(stranger.write(end).unwrap(), None).unwrap();
        let team = ("the team's root keys", 1);
        assert_eq!(missing(&both, &[&stranger]), [(old, 0), (new, 0), team]);
    }
}
