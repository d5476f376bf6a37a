//! The controller's side, and hosts that read straight from what it published.

use crate::world::{NOW, World, forge, in_days, key, role, said, shop};
use async_trait::async_trait;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use tamer_core::digest::Digest;
use tamer_core::moment::{Moment, Span};
use tamer_release::trust::editor;
use tamer_release::trust::{
    Client, NewTarget, PublicationError, PublishedRepository, PublishedTeam, RepositoryName,
    SigningKey, Transport, TransportError, targets_with,
};
use tough::schema::Targets;

/// What the controller serves, from its files.
pub(crate) struct Published(pub(crate) PathBuf);

#[async_trait]
impl Transport for Published {
    async fn metadata(
        &self,
        repository: Option<&RepositoryName>,
        file: &str,
        _max: u64,
    ) -> Result<Option<Vec<u8>>, TransportError> {
        let read = match repository {
            None => PublishedTeam::new(&self.0).read(file),
            Some(name) => PublishedRepository::new(&self.0, name.clone(), vec![]).read(file),
        };
        read.map_err(TransportError::new)
    }

    async fn blob(&self, _digest: &Digest, _max: u64) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::new("no blobs here"))
    }
}

/// A controller with the team's root and shop's root registered.
struct Controller {
    world: World,
    base: PathBuf,
    team: PublishedTeam,
    repository: PublishedRepository,
    online: Arc<SigningKey>,
}

fn controller() -> Controller {
    let mut world = World::new();
    let online = Arc::new(std::mem::replace(&mut world.online, key()));
    let pem = online.to_pem();
    world.online = SigningKey::from_pem(&pem).unwrap();
    let base = world.dir.path().join("published");
    let mut team = PublishedTeam::new(&base);
    let root = world.net.get("team", "1.root.json");
    assert!(team.current().unwrap().is_none());
    assert_eq!(team.accept_root(&root, NOW).unwrap(), 1);
    assert_eq!(team.accept_root(&root, NOW).unwrap(), 1);
    let mut repository = PublishedRepository::new(&base, shop(), vec![Arc::clone(&online)]);
    let anchor = team.current().unwrap().unwrap();
    let root = world.root(&shop(), 1);
    assert_eq!(repository.accept_root(&root, &anchor, NOW).unwrap(), 1);
    Controller {
        world,
        base,
        team,
        repository,
        online,
    }
}

impl Controller {
    fn targets(&self, additions: Vec<NewTarget>) -> Vec<u8> {
        let previous = self.repository.targets().unwrap();
        let signers = [&self.world.release];
        targets_with(
            &shop(),
            previous.as_deref(),
            additions,
            &[],
            in_days(90),
            &signers,
        )
        .unwrap()
    }

    fn publish(&mut self, additions: Vec<NewTarget>) -> u64 {
        let bytes = self.targets(additions);
        let previous = match self.repository.targets().unwrap() {
            Some(bytes) => {
                serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["signed"]["version"]
                    .as_u64()
                    .unwrap()
            }
            None => 0,
        };
        self.repository
            .accept_targets(&bytes, previous, NOW)
            .unwrap()
    }

    fn host(&self) -> Client {
        Client::new(
            self.world.store("host"),
            Arc::new(Published(self.base.clone())),
        )
    }
}

#[tokio::test]
async fn what_is_published_reaches_a_host() {
    let mut c = controller();
    let text = said(&c.host().refresh(&shop(), NOW).await.unwrap_err());
    assert!(text.contains("there is no timestamp.json"), "{text}");
    let release = c.world.release_blob("1.0.0");
    assert_eq!(c.publish(vec![release]), 1);
    assert_eq!(
        c.host()
            .refresh(&shop(), NOW)
            .await
            .unwrap()
            .targets()
            .count(),
        1
    );
    let release = c.world.release_blob("1.1.0");
    assert_eq!(c.publish(vec![release]), 2);
    let verified = c.host().refresh(&shop(), NOW).await.unwrap();
    assert_eq!(
        (verified.targets_version, verified.targets().count()),
        (2, 2)
    );
    // A second writer of the same directory sees the same.
    let other = PublishedRepository::new(&c.base, shop(), vec![Arc::clone(&c.online)]);
    assert_eq!(other.targets().unwrap(), c.repository.targets().unwrap());
}

#[tokio::test]
async fn of_two_publishers_at_once_one_is_told() {
    let mut c = controller();
    let (mine, yours) = (c.world.release_blob("1.0.0"), c.world.release_blob("1.0.1"));
    let (mine, yours) = (c.targets(vec![mine]), c.targets(vec![yours]));
    assert_eq!(c.repository.check_targets(&yours, 0, NOW).unwrap().len(), 1);
    assert_eq!(c.repository.accept_targets(&mine, 0, NOW).unwrap(), 1);
    let error = c.repository.accept_targets(&yours, 0, NOW).unwrap_err();
    assert!(
        matches!(
            error,
            PublicationError::Conflict {
                expected: 0,
                current: 1,
                ..
            }
        ),
        "{error}"
    );
    // The first, who never got the answer, asks again.
    assert_eq!(c.repository.accept_targets(&mine, 0, NOW).unwrap(), 1);
    let verified = c.host().refresh(&shop(), NOW).await.unwrap();
    assert!(verified.target("shop/releases/web/1.0.0.json").is_some());
    assert_eq!(verified.timestamp, 1);
}

#[tokio::test]
async fn targets_that_are_not_the_teams_are_refused() {
    let mut c = controller();
    let release = c.world.release_blob("1.0.0");
    c.publish(vec![release]);
    let current = c.repository.targets().unwrap().unwrap();
    let next = |edit: fn(&mut serde_json::Value), signer: &SigningKey| {
        let edit = |signed: &mut serde_json::Value| {
            signed["version"] = json!(2);
            edit(signed);
        };
        forge::<Targets>(&current, edit, &[signer])
    };
    let foreign: fn(&mut serde_json::Value) = |s| {
        s["targets"]["bank/versions/1.0.0.json"] =
            s["targets"]["shop/releases/web/1.0.0.json"].clone();
    };
    let changed: fn(&mut serde_json::Value) =
        |s| s["targets"]["shop/releases/web/1.0.0.json"]["length"] = json!(1);
    let skipped: fn(&mut serde_json::Value) = |s| s["version"] = json!(3);
    let expired: fn(&mut serde_json::Value) = |s| s["expires"] = json!("2026-01-01T00:00:00Z");
    let other: fn(&mut serde_json::Value) = |s| s["x-tamer-repository"] = json!("app/bank");
    let (ours, stranger) = (&c.world.release, key());
    for (offered, words) in [
        (next(|_| (), &stranger), "its signatures do not meet"),
        (next(|_| (), &c.world.online), "its signatures do not meet"),
        (
            next(foreign, ours),
            "bank/versions/1.0.0.json does not belong here",
        ),
        (
            next(changed, ours),
            "is published already, with other content",
        ),
        (
            next(skipped, ours),
            "it is version 3, and version 2 is needed",
        ),
        (next(expired, ours), "it expired on 2026"),
        (next(other, ours), "it is signed for app/bank"),
        (b"{}".to_vec(), "it is not a targets document"),
        (vec![b' '; 5_000_001], "it is larger than 5000000 bytes"),
    ] {
        let error = c.repository.accept_targets(&offered, 1, NOW).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let text = format!("{error}: {}", source.unwrap_or_default());
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(c.repository.targets().unwrap().unwrap(), current);
    let same = c.world.release_blob("1.0.0");
    assert_eq!(c.publish(vec![same]), 2);
    let (shop, web) = ("shop".parse().unwrap(), "web".parse().unwrap());
    let other = NewTarget::release(&shop, &web, &"1.0.0".parse().unwrap(), b"other content");
    let made = targets_with(
        &crate::world::shop(),
        Some(&current),
        vec![other],
        &[],
        NOW,
        &[&c.world.release],
    );
    assert!(made.unwrap_err().to_string().contains("published already"));
}

#[tokio::test]
async fn roots_need_the_team_and_our_own_keys() {
    let mut c = controller();
    let anchor = c.team.current().unwrap().unwrap();
    let mut stranger = World::new();
    stranger.online = SigningKey::from_pem(&c.online.to_pem()).unwrap();
    let bank: RepositoryName = "app/bank".parse().unwrap();
    let mut fresh = PublishedRepository::new(&c.base, bank.clone(), vec![Arc::clone(&c.online)]);
    for (root, words) in [
        (stranger.root(&bank, 1), "refused"),
        (c.world.root(&shop(), 1), "refused"),
        (c.world.root(&bank, 2), "refused"),
    ] {
        let error = fresh.accept_root(&root, &anchor, NOW).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(matches!(
        fresh.accept_targets(b"", 0, NOW),
        Err(PublicationError::NoRoot(_))
    ));
    c.world.online = key();
    let error = fresh
        .accept_root(&c.world.root(&bank, 1), &anchor, NOW)
        .unwrap_err();
    assert!(matches!(error, PublicationError::NotOurKeys(_)), "{error}");
    assert_eq!(fresh.read("1.root.json").unwrap(), None);
    let error = c
        .team
        .accept_root(&stranger.net.get("team", "1.root.json"), NOW)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("team: the offered root is refused"),
        "{error}"
    );
}

#[tokio::test]
async fn a_new_root_with_new_online_keys_is_vouched_for_at_once() {
    let mut c = controller();
    c.publish(vec![]);
    let before = c.host().refresh(&shop(), NOW).await.unwrap();
    let new = Arc::new(key());
    c.world.online = SigningKey::from_pem(&new.to_pem()).unwrap();
    let mut both = PublishedRepository::new(&c.base, shop(), vec![Arc::clone(&c.online), new]);
    let anchor = c.team.current().unwrap().unwrap();
    assert_eq!(
        both.accept_root(&c.world.root(&shop(), 2), &anchor, NOW)
            .unwrap(),
        2
    );
    let after = c.host().refresh(&shop(), NOW).await.unwrap();
    assert_eq!((after.root, after.timestamp), (2, before.timestamp + 1));
    // The old key alone no longer can.
    let later = NOW + Span::secs(80_000);
    assert!(matches!(
        c.repository.resign(later),
        Err(PublicationError::NotOurKeys(_))
    ));
    assert!(both.resign(later).unwrap());
}

#[tokio::test]
async fn online_documents_are_renewed_at_half_their_life() {
    let mut c = controller();
    assert!(!c.repository.resign(NOW).unwrap());
    c.publish(vec![]);
    let hour = |n: u64| NOW + Span::secs(n * 3600);
    assert!(!c.repository.resign(hour(12)).unwrap());
    assert!(c.repository.resign(hour(13)).unwrap());
    let verified = c.host().refresh(&shop(), hour(36)).await.unwrap();
    assert_eq!((verified.timestamp, verified.snapshot), (2, 1));
    assert!(c.repository.resign(hour(24 * 4)).unwrap());
    let verified = c.host().refresh(&shop(), hour(24 * 4)).await.unwrap();
    assert_eq!((verified.timestamp, verified.snapshot), (3, 2));
    // A clock that ran ahead and came back does not leave a timestamp for years.
    assert!(c.repository.resign(in_days(20_000)).unwrap());
    assert!(c.repository.resign(hour(24 * 4)).unwrap());
    let verified = c.host().refresh(&shop(), hour(24 * 4)).await.unwrap();
    assert_eq!(verified.expires, hour(24 * 5));
}

#[tokio::test]
async fn a_crash_half_way_leaves_the_old_set_and_the_next_try_works() {
    let mut c = controller();
    c.publish(vec![]);
    let old = c.host().refresh(&shop(), NOW).await.unwrap();
    let release = c.world.release_blob("1.1.0");
    let lost = c.targets(vec![release]);
    // The files that a publication writes before its timestamp.
    let dir = c.base.join("app/shop");
    std::fs::write(dir.join("2.targets.json"), &lost[..100]).unwrap();
    std::fs::write(dir.join("2.snapshot.json"), b"torn").unwrap();
    assert_eq!(c.host().refresh(&shop(), NOW).await.unwrap(), old);
    assert_eq!(c.repository.accept_targets(&lost, 1, NOW).unwrap(), 2);
    assert_eq!(
        c.host()
            .refresh(&shop(), NOW)
            .await
            .unwrap()
            .targets_version,
        2
    );
}

#[test]
fn damaged_files_are_named_and_names_are_read_strictly() {
    let mut c = controller();
    c.publish(vec![]);
    for bad in [
        "../../team/1.root.json",
        "1.root.json/..",
        "/etc/passwd",
        "",
        "01.root.json",
        "root.json",
    ] {
        assert_eq!(c.repository.read(bad).unwrap(), None, "{bad}");
        assert_eq!(c.team.read(bad).unwrap(), None, "{bad}");
    }
    let path = c.base.join("app/shop/1.snapshot.json");
    for damage in [&b"{"[..], b""] {
        std::fs::write(&path, damage).unwrap();
        let error = c.repository.resign(Moment(NOW.0 + 1)).unwrap_err();
        assert!(
            error.to_string().contains("1.snapshot.json is damaged"),
            "{error}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    assert!(c.repository.resign(NOW).is_err());
    let root = editor::team_root(
        &role(&c.world.team, 2),
        2,
        NOW,
        &[&c.world.team[0], &c.world.team[1]],
    );
    assert!(c.team.accept_root(&root.unwrap(), NOW).is_err(), "expired");
}
