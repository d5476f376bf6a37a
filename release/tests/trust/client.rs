//! What must work: first contact, updates, going back without network, and being offline a while.

use crate::world::{NOW, World, in_days, production, said, shop};
use std::collections::BTreeSet;
use tamer_core::moment::Moment;
use tamer_core::release::{ApplicationVersion, FORMAT, ReleaseRef};
use tamer_release::trust::document::Document;
use tamer_release::trust::editor::RoleKeys;
use tamer_release::trust::{NewTarget, PublicKey, SigningKey, TrustError};
use tough::schema::{RoleType, Root};

const WEB_1: &str = "shop/releases/web/1.0.0.json";

#[tokio::test]
async fn a_new_host_comes_to_the_signed_bytes() {
    let world = World::with_shop();
    let host = world.host("a");
    assert_eq!(host.cached(&shop()).unwrap(), None);
    let verified = host.refresh(&shop(), NOW).await.unwrap();
    assert_eq!(
        (
            verified.root,
            verified.timestamp,
            verified.snapshot,
            verified.targets_version
        ),
        (1, 1, 1, 1)
    );
    assert_eq!(verified.expires, in_days(1));
    assert_eq!(
        verified.targets().map(|(name, _)| name).collect::<Vec<_>>(),
        [WEB_1]
    );
    let manifest = host.fetch(&verified, WEB_1, 1000).await.unwrap();
    assert_eq!(manifest, b"the manifest of web 1.0.0");
    assert_eq!(host.cached(&shop()).unwrap(), Some(verified));
    let targets = world.net.get("app/shop", "1.targets.json");
    assert_eq!(host.accepted_targets(&shop()).unwrap(), Some(targets));
}

#[test]
fn the_keys_of_a_root_can_be_read_back_for_the_next_one() {
    let world = World::with_shop();
    let root = Document::<Root>::parse(world.net.get("app/shop", "1.root.json"), None).unwrap();
    let of = |role| {
        let keys = RoleKeys::of(&root, role).unwrap();
        let ids: BTreeSet<_> = keys.keys.iter().map(PublicKey::id).collect();
        (ids, keys.threshold)
    };
    let ids = |keys: &[&SigningKey]| keys.iter().map(|key| key.public().id()).collect();
    let team: Vec<_> = world.team.iter().collect();
    assert_eq!(of(RoleType::Root), (ids(&team), 2));
    assert_eq!(of(RoleType::Targets), (ids(&[&world.release]), 1));
    assert_eq!(of(RoleType::Timestamp), (ids(&[&world.online]), 1));
}

#[tokio::test]
async fn an_environment_gives_its_own_file_and_no_other() {
    let world = World::new();
    world.put_root(&production());
    let file = b"[policy]\ncanary = \"5%\"\n";
    world.blob(file);
    let name = "production".parse().unwrap();
    world.publish(&production(), vec![NewTarget::environment(&name, file)], 1);
    let host = world.host("a");
    let verified = host.refresh(&production(), NOW).await.unwrap();
    assert_eq!(host.environment(&verified, &name).await.unwrap(), file);

    let staging = "staging".parse().unwrap();
    let error = host.environment(&verified, &staging).await.unwrap_err();
    assert!(matches!(error, TrustError::NoTarget { .. }), "{error}");
}

#[tokio::test]
async fn news_is_taken_and_what_is_at_hand_is_not_fetched_again() {
    let world = World::with_shop();
    let host = world.host("a");
    host.refresh(&shop(), NOW).await.unwrap();
    world.publish(&shop(), vec![world.release_blob("1.1.0")], 2);
    let verified = host.refresh(&shop(), NOW).await.unwrap();
    assert_eq!(verified.targets_version, 2);
    assert_eq!(verified.targets().count(), 2);

    world.net.asked.lock().unwrap().clear();
    assert_eq!(host.refresh(&shop(), NOW).await.unwrap(), verified);
    assert_eq!(
        *world.net.asked.lock().unwrap(),
        [
            "team/2.root.json",
            "app/shop/2.root.json",
            "app/shop/timestamp.json"
        ]
    );
}

#[tokio::test]
async fn going_back_needs_no_network_and_no_freshness() {
    let world = World::with_shop();
    let verified = world.host("a").refresh(&shop(), NOW).await.unwrap();
    world.net.restore(Default::default());
    let host = world.host("a");
    let error = host.refresh(&shop(), in_days(4000)).await.unwrap_err();
    assert!(
        said(&error).contains("team: 1.root.json is refused: it expired on"),
        "{}",
        said(&error)
    );
    assert_eq!(host.cached(&shop()).unwrap(), Some(verified));
}

#[tokio::test]
async fn one_wrong_reading_of_the_clock_locks_nothing() {
    let world = World::with_shop();
    let host = world.host("a");
    host.refresh(&shop(), in_days(27_000)).await.unwrap_err();
    host.refresh(&shop(), NOW).await.unwrap();
    host.refresh(&shop(), in_days(27_000)).await.unwrap_err();
    host.refresh(&shop(), Moment(0)).await.unwrap();
    host.refresh(&shop(), NOW).await.unwrap();
}

#[tokio::test]
async fn the_releases_of_a_live_version_come_with_it() {
    let world = World::with_shop();
    let verified = world.host("a").refresh(&shop(), NOW).await.unwrap();
    let release = ReleaseRef {
        version: "1.0.0".parse().unwrap(),
        manifest: verified.target(WEB_1).unwrap().digest,
    };
    let version = ApplicationVersion {
        format: FORMAT,
        application: "shop".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        components: [("web".parse().unwrap(), release)].into(),
    };
    let (target, bytes) = NewTarget::version(&version).unwrap();
    world.blob(&bytes);
    world.publish(&shop(), vec![target], 2);
    let host = world.host("a");
    let verified = host.refresh(&shop(), NOW).await.unwrap();
    let bytes = host
        .fetch(&verified, "shop/versions/1.0.0.json", 10_000)
        .await
        .unwrap();
    assert_eq!(
        serde_json::from_slice::<ApplicationVersion>(&bytes).unwrap(),
        version
    );
}
