//! Keys that change hands: targets keys, online keys after an attack, and the team's own.

use crate::world::{NOW, World, forge, in_days, key, role, shop};
use serde_json::json;
use tamer_release::trust::editor::{self, RoleKeys};
use tough::schema::{Root, Snapshot};

#[tokio::test]
async fn a_new_root_takes_the_release_key_from_one_hand_to_another() {
    let mut world = World::with_shop();
    let accepted = world.host("a").refresh(&shop(), NOW).await.unwrap();
    let old = std::mem::replace(&mut world.release, key());
    world
        .net
        .put("app/shop", "2.root.json", world.root(&shop(), 2));
    world
        .refused("a", "1.targets.json is refused: its signatures")
        .await;
    // Going back still rests on what was accepted under the old root.
    assert_eq!(world.host("a").cached(&shop()).unwrap(), Some(accepted));

    let new = std::mem::replace(&mut world.release, old);
    world.publish(&shop(), vec![world.release_blob("1.1.0")], 2);
    world
        .refused("a", "2.targets.json is refused: its signatures")
        .await;
    world.release = new;
    world.publish(&shop(), vec![world.release_blob("1.1.0")], 2);
    world.vouch(&shop(), 2, 3, 3);
    for host in ["a", "new"] {
        let verified = world.host(host).refresh(&shop(), NOW).await.unwrap();
        assert_eq!((verified.root, verified.targets_version), (2, 2));
    }
}

#[tokio::test]
async fn versions_that_a_thief_raised_out_of_reach_come_back_with_new_keys() {
    let mut world = World::with_shop();
    // The thief has the online key.
    let far = |signed: &mut serde_json::Value| signed["version"] = json!(1_000_000);
    let stolen = |file: &str| world.net.get("app/shop", file);
    let snapshot = forge::<Snapshot>(&stolen("1.snapshot.json"), far, &[&world.online]);
    world
        .net
        .put("app/shop", "1000000.snapshot.json", snapshot.clone());
    let document = tamer_release::trust::document::Document::parse(snapshot, None).unwrap();
    let bytes = editor::timestamp(
        "app/shop",
        &document,
        1_000_000,
        in_days(1),
        &[&world.online],
    )
    .unwrap();
    world.net.put("app/shop", "timestamp.json", bytes);
    let verified = world.host("a").refresh(&shop(), NOW).await.unwrap();
    assert_eq!(verified.timestamp, 1_000_000);
    world.vouch(&shop(), 1, 2, 2);
    world
        .refused("a", "takes the timestamp back from version 1000000 to 2")
        .await;

    world.online = key();
    world
        .net
        .put("app/shop", "2.root.json", world.root(&shop(), 2));
    world.vouch(&shop(), 1, 3, 3);
    let verified = world.host("a").refresh(&shop(), NOW).await.unwrap();
    assert_eq!(
        (verified.root, verified.timestamp, verified.snapshot),
        (2, 3, 3)
    );
}

#[tokio::test]
async fn keys_that_are_only_joined_by_others_forget_nothing() {
    let world = World::with_shop();
    world.publish(&shop(), vec![], 2);
    world.host("a").refresh(&shop(), NOW).await.unwrap();
    let mut roles = world.roles();
    roles.online = RoleKeys {
        keys: vec![world.online.public().clone(), key().public().clone()],
        threshold: 1,
    };
    let signers = [&world.team[0], &world.team[1]];
    let root = editor::repository_root(&shop(), &roles, 2, in_days(365), &signers).unwrap();
    world.net.put("app/shop", "2.root.json", root);
    world.vouch(&shop(), 1, 1, 1);
    world
        .refused("a", "takes the timestamp back from version 2 to 1")
        .await;
}

#[tokio::test]
async fn the_teams_own_keys_rotate_and_the_old_ones_lose_their_power() {
    let mut world = World::with_shop();
    world.host("a").refresh(&shop(), NOW).await.unwrap();
    let before = world.net.snapshot();
    let old = std::mem::replace(&mut world.team, vec![key(), key()]);
    let [a, b] = [&world.team[0], &world.team[1]];

    // The repository first, signed by old and new keys: it holds under both.
    let both = world.roles();
    let signers = [&old[0], &old[1], a, b];
    let root = editor::repository_root(&shop(), &both, 2, in_days(365), &signers).unwrap();
    world.net.put("app/shop", "2.root.json", root.clone());
    for host in ["a", "between"] {
        assert_eq!(
            world.host(host).refresh(&shop(), NOW).await.unwrap().root,
            2
        );
    }
    // Then the team.
    let team = editor::team_root(&role(&world.team, 2), 2, in_days(365), &[&old[0], a]).unwrap();
    let team = editor::cosign::<Root>(&team, &old[2]).unwrap();
    world.net.put("team", "2.root.json", team.clone());
    world
        .refused("a", "do not meet the threshold of the root keys")
        .await;
    let team = editor::cosign::<Root>(&team, b).unwrap();
    world.net.put("team", "2.root.json", team.clone());
    for host in ["a", "between", "new"] {
        world.host(host).refresh(&shop(), NOW).await.unwrap();
    }

    // A host that has the team's new root takes no repository that ends with the old keys.
    world.net.restore(before);
    world.net.put("team", "2.root.json", team.clone());
    world
        .refused("later", "do not meet the threshold of the team's root keys")
        .await;
    // And what was refused is not kept either.
    world.net.put("app/shop", "2.root.json", root);
    world.host("later").refresh(&shop(), NOW).await.unwrap();
    // The old team's root is not asked for again: whoever has version 2 keeps it.
    world.net.remove("team", "2.root.json");
    world.host("later").refresh(&shop(), NOW).await.unwrap();
}

#[tokio::test]
async fn an_expired_root_on_the_way_does_not_matter_but_the_last_does() {
    let world = World::with_shop();
    let signers = [&world.team[0], &world.team[1]];
    let root = |version, days| {
        editor::repository_root(&shop(), &world.roles(), version, in_days(days), &signers).unwrap()
    };
    world.net.put("app/shop", "2.root.json", root(2, 0));
    world
        .refused("a", "2.root.json is refused: it expired")
        .await;
    world.net.put("app/shop", "3.root.json", root(3, 365));
    assert_eq!(world.host("a").refresh(&shop(), NOW).await.unwrap().root, 3);
}
