//! Random sequences of changes of keys, with real clients: who was away for any number of them
//! follows, and what a revoked key signs is worth nothing.

use crate::publication::Published;
use crate::world::{NOW, in_days, key, said, shop};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use tamer_core::digest::Digest;
use tamer_kit::hash::sha256;
use tamer_release::trust::document::Document;
use tamer_release::trust::draft::{Draft, Step};
use tamer_release::trust::editor::{self, RepositoryRoles, RoleKeys};
use tamer_release::trust::rotation::{KeyRole, NextRoot};
use tamer_release::trust::{
    Client, NewTarget, PublicationError, PublishedRepository, PublishedTeam, SigningKey,
    TrustStore, targets_with, walk,
};
use tempfile::TempDir;
use tough::schema::Root;

/// A change of keys.
#[derive(Debug, Clone, Copy)]
enum Change {
    Add(KeyRole),
    Revoke(KeyRole, usize),
    Replace(KeyRole, usize),
    Threshold(KeyRole, u64),
    Publish,
}

fn change() -> impl Strategy<Value = Change> {
    let role = prop_oneof![Just(KeyRole::Root), Just(KeyRole::Targets)];
    prop_oneof![
        role.clone().prop_map(Change::Add),
        (role.clone(), 0..4_usize).prop_map(|(role, n)| Change::Revoke(role, n)),
        (role.clone(), 0..4_usize).prop_map(|(role, n)| Change::Replace(role, n)),
        (role, 1..4_u64).prop_map(|(role, n)| Change::Threshold(role, n)),
        Just(Change::Publish),
    ]
}

/// A team whose every key is known to the test, and its controller.
struct Team {
    dir: TempDir,
    pin: Digest,
    keys: Vec<SigningKey>,
    team: PublishedTeam,
    repository: PublishedRepository,
    online: Arc<SigningKey>,
    /// Ids of keys that were in force and are not any more.
    gone: Vec<String>,
    published: u64,
}

impl Team {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, release, online) = (key(), key(), Arc::new(key()));
        let first = NextRoot::first(RoleKeys::one(root.public()));
        let mut bytes = first.write(in_days(365)).unwrap();
        bytes = editor::cosign::<Root>(&bytes, &root).unwrap();
        let mut team = PublishedTeam::new(dir.path());
        team.accept_root(&bytes, NOW).unwrap();
        let roles = RepositoryRoles {
            root: RoleKeys::one(root.public()),
            targets: RoleKeys::one(release.public()),
            online: RoleKeys::one(online.public()),
        };
        let own = editor::repository_root(&shop(), &roles, 1, in_days(365), &[&root]).unwrap();
        let mut repository = PublishedRepository::new(dir.path(), shop(), vec![online.clone()]);
        let anchor = team.current().unwrap().unwrap();
        repository.accept_root(&own, &anchor, NOW).unwrap();
        let mut this = Self {
            pin: sha256(&bytes),
            keys: vec![root, release],
            team,
            repository,
            online,
            gone: Vec::new(),
            published: 0,
            dir,
        };
        this.publish().unwrap();
        this
    }

    fn served(&self) -> Published {
        Published(self.dir.path().to_owned())
    }

    fn host(&self, name: &str) -> Client {
        let store = TrustStore::new(&self.dir.path().join("hosts").join(name), self.pin);
        Client::new(store, Arc::new(self.served()))
    }

    /// The newest roots: the team's, and the repository's.
    async fn roots(&self) -> (Document<Root>, Document<Root>) {
        let served = self.served();
        let team = walk::team(&served, &self.pin).await.unwrap();
        let own = walk::repository(&served, &shop(), &team).await.unwrap();
        (team.current().clone(), own.unwrap().current().clone())
    }

    fn signers(&self, of: &RoleKeys) -> Vec<&SigningKey> {
        let named = |key: &&SigningKey| of.keys.contains(key.public());
        self.keys.iter().filter(named).collect()
    }

    /// The next targets, by these keys; the same ones where nothing is added.
    fn targets(&self, of: &RoleKeys, new: bool) -> Vec<u8> {
        let previous = self.repository.targets().unwrap();
        let (app, web) = ("shop".parse().unwrap(), "web".parse().unwrap());
        let version = format!("1.{}.0", self.published).parse().unwrap();
        let more = new.then(|| NewTarget::release(&app, &web, &version, b"a manifest"));
        let signers = self.signers(of);
        let more = more.into_iter().collect();
        targets_with(
            &shop(),
            previous.as_deref(),
            more,
            &[],
            in_days(90),
            &signers,
        )
        .unwrap()
    }

    fn version(&self) -> u64 {
        let targets = self.repository.targets().unwrap();
        targets.map_or(0, |bytes| {
            let document = Document::<tough::schema::Targets>::parse(bytes, None).unwrap();
            document.version()
        })
    }

    fn publish(&mut self) -> Result<u64, PublicationError> {
        let base = self.dir.path().join("app/shop");
        let newest = (1..).take_while(|n| base.join(format!("{n}.root.json")).exists());
        let path = base.join(format!("{}.root.json", newest.last().unwrap()));
        let own = Document::parse(std::fs::read(path).unwrap(), None).unwrap();
        let keys = RoleKeys::of(&own, tough::schema::RoleType::Targets).unwrap();
        self.published += 1;
        let bytes = self.targets(&keys, true);
        self.repository.accept_targets(&bytes, self.version(), NOW)
    }

    /// Carries a change out as the command does: a draft, signed by every key there is, handed in
    /// from the first step to the last. `false` for a change that makes no sense.
    async fn carry_out(&mut self, change: Change) -> bool {
        let (team, own) = self.roots().await;
        let next_team = NextRoot::after(None, &team).unwrap();
        let mut next_own = NextRoot::after(Some(shop()), &own).unwrap();
        let role = match change {
            Change::Publish => return self.publish().is_ok(),
            Change::Add(role)
            | Change::Revoke(role, _)
            | Change::Replace(role, _)
            | Change::Threshold(role, _) => role,
        };
        let mut next = match role {
            KeyRole::Root => next_team.clone(),
            _ => next_own.clone(),
        };
        let pick = |n: usize| {
            let keys = &next.role(role).keys;
            keys[n % keys.len()].id()
        };
        let done = match change {
            Change::Add(_) | Change::Replace(..) => {
                self.keys.push(key());
                let new = self.keys.last().unwrap().public().clone();
                match change {
                    Change::Replace(_, n) => {
                        let id = pick(n);
                        next.replace(role, &id, &new)
                            .map(|old| self.gone.push(old.id()))
                    }
                    _ => next.add(role, &new),
                }
            }
            Change::Revoke(_, n) => {
                let id = pick(n);
                next.revoke(role, &id).map(|old| self.gone.push(old.id()))
            }
            Change::Threshold(_, n) => next.threshold(role, n),
            Change::Publish => unreachable!(),
        };
        if done.is_err() {
            return false;
        }
        let mut steps = Vec::new();
        match role {
            KeyRole::Root => next_own.set(KeyRole::Root, next.role(KeyRole::Root).clone()),
            _ => next_own = next.clone(),
        }
        let root = next_own.write(in_days(365)).unwrap();
        let targets = match role {
            KeyRole::Targets => {
                let bytes = self.targets(next_own.role(KeyRole::Targets), false);
                Some((bytes, self.version()))
            }
            _ => None,
        };
        let targets = targets
            .as_ref()
            .map(|(bytes, version)| (&bytes[..], *version));
        steps.push(Step::new(Some(shop()), Some(&own), Some(&root), targets).unwrap());
        if role == KeyRole::Root {
            let root = next.write(in_days(365)).unwrap();
            steps.push(Step::new(None, Some(&team), Some(&root), None).unwrap());
        }
        let mut draft = Draft::new("a change".to_owned(), Some(&team), steps).unwrap();
        // It travels.
        draft = Draft::parse(&draft.write().unwrap()).unwrap();
        for key in &self.keys {
            draft.sign(key).unwrap();
        }
        assert!(draft.complete().unwrap());
        for step in &draft.steps {
            let root = step.root().unwrap().unwrap();
            match step.repository {
                None => {
                    let next = self.team.check_root(&root, NOW).unwrap().unwrap();
                    self.repository.anchored(&next).unwrap();
                    self.team.accept_root(&root, NOW).unwrap();
                }
                Some(_) => {
                    let anchor = self.team.current().unwrap().unwrap();
                    let targets = step.targets().unwrap();
                    let targets = targets.as_deref().map(|bytes| (bytes, step.expected));
                    let repository = &mut self.repository;
                    repository
                        .accept_root_with(&root, targets, &anchor, NOW)
                        .unwrap();
                }
            }
        }
        true
    }
}

/// Every file that is published, to be served again by a thief.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

async fn one_sequence(changes: Vec<Change>, away: usize) {
    let mut team = Team::new();
    let far = team.host("away");
    for (at, change) in changes.iter().enumerate() {
        team.carry_out(*change).await;
        if at == away {
            far.refresh(&shop(), NOW).await.unwrap();
        }
        // Somebody who comes to the team at this moment can begin.
        let new = team.host(&format!("new-{at}"));
        let verified = new.refresh(&shop(), NOW).await.unwrap();
        assert_eq!(verified.targets_version, team.version());
    }
    for host in [far, team.host("never")] {
        let verified = host.refresh(&shop(), NOW).await.unwrap();
        assert_eq!(verified.targets_version, team.version());
    }
    // All keys that are gone, together, and the controller's: still nothing follows from them.
    let (current, own) = team.roots().await;
    let thief: Vec<_> = team
        .keys
        .iter()
        .filter(|key| team.gone.contains(&key.public().id()))
        .collect();
    if thief.is_empty() {
        return;
    }
    let base = team.dir.path().join("thief");
    for part in ["team", "app"] {
        copy(&team.dir.path().join(part), &base.join(part));
    }
    let mut next = NextRoot::after(Some(shop()), &own).unwrap();
    let keys = RoleKeys::one(thief[0].public());
    next.set(KeyRole::Root, keys.clone());
    next.set(KeyRole::Targets, keys);
    let mut bytes = next.write(in_days(365)).unwrap();
    for key in &thief {
        bytes = editor::cosign::<Root>(&bytes, *key).unwrap();
    }
    let file = format!("{}.root.json", own.version() + 1);
    let file = base.join("app/shop").join(file);
    std::fs::write(&file, &bytes).unwrap();
    let store = TrustStore::new(&team.dir.path().join("hosts/victim"), team.pin);
    let victim = Client::new(store, Arc::new(Published(base.clone())));
    let error = victim.refresh(&shop(), NOW).await.unwrap_err();
    assert!(said(&error).contains("signatures do not meet"), "{error}");
    // The controller does not take it either, nor what the keys that are gone publish.
    std::fs::remove_file(&file).unwrap();
    let mut repository = PublishedRepository::new(&base, shop(), vec![team.online.clone()]);
    let anchor = PublishedTeam::new(&base).current().unwrap().unwrap();
    assert_eq!(anchor.current().version(), current.version());
    assert!(repository.accept_root(&bytes, &anchor, NOW).is_err());
    let targets = team.targets(&RoleKeys::one(thief[0].public()), true);
    assert!(
        repository
            .accept_targets(&targets, team.version(), NOW)
            .is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whoever_was_away_follows_and_what_is_revoked_stays_revoked(
        changes in proptest::collection::vec(change(), 1..12),
        away in 0..12_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(one_sequence(changes, away));
    }
}

#[tokio::test]
async fn a_root_that_leaves_targets_or_repositories_behind_is_refused() {
    let mut team = Team::new();
    let (old_team, own) = team.roots().await;
    team.keys.push(key());
    let new = team.keys[2].public().clone();
    let anchor = team.team.current().unwrap().unwrap();
    // Another publishing key, and the targets stay as they were.
    let mut next = NextRoot::after(Some(shop()), &own).unwrap();
    next.set(KeyRole::Targets, RoleKeys::one(&new));
    let root = next.write(in_days(365)).unwrap();
    let root = editor::cosign::<Root>(&root, &team.keys[0]).unwrap();
    let error = team
        .repository
        .accept_root(&root, &anchor, NOW)
        .unwrap_err();
    assert!(matches!(error, PublicationError::Unsigned(_)), "{error}");
    // With targets that bring something new along.
    let more = team.targets(&RoleKeys::one(&new), true);
    let with = Some((&more[..], team.version()));
    let repository = &mut team.repository;
    let error = repository
        .accept_root_with(&root, with, &anchor, NOW)
        .unwrap_err();
    assert!(matches!(error, PublicationError::NotTheSame(_)), "{error}");
    // With targets that somebody else has overtaken meanwhile.
    let same = team.targets(&RoleKeys::one(&new), false);
    let with = Some((&same[..], team.version() - 1));
    let repository = &mut team.repository;
    let error = repository
        .accept_root_with(&root, with, &anchor, NOW)
        .unwrap_err();
    assert!(
        matches!(error, PublicationError::Conflict { .. }),
        "{error}"
    );
    assert_eq!(team.repository.read("2.root.json").unwrap(), None);

    // A team's root that no repository follows yet.
    let mut next = NextRoot::after(None, &old_team).unwrap();
    next.replace(KeyRole::Root, &team.keys[0].public().id(), &new)
        .unwrap();
    let mut root = next.write(in_days(365)).unwrap();
    for signer in [0, 2] {
        root = editor::cosign::<Root>(&root, &team.keys[signer]).unwrap();
    }
    let next = team.team.check_root(&root, NOW).unwrap().unwrap();
    let error = team.repository.anchored(&next).unwrap_err();
    assert!(matches!(error, PublicationError::NotAnchored(_)), "{error}");

    // After a crash between the root and its targets, the same offer goes on.
    let mut next = NextRoot::after(Some(shop()), &own).unwrap();
    next.set(KeyRole::Targets, RoleKeys::one(&new));
    let root = editor::cosign::<Root>(&next.write(in_days(365)).unwrap(), &team.keys[0]).unwrap();
    std::fs::write(team.dir.path().join("app/shop/2.root.json"), &root).unwrap();
    assert!(team.host("between").refresh(&shop(), NOW).await.is_err());
    let with = Some((&same[..], team.version()));
    let repository = &mut team.repository;
    assert_eq!(
        repository
            .accept_root_with(&root, with, &anchor, NOW)
            .unwrap(),
        2
    );
    let verified = team.host("between").refresh(&shop(), NOW).await.unwrap();
    assert_eq!((verified.root, verified.targets_version), (2, 2));
}
