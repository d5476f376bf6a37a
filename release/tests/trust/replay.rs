//! Rollback, freeze, mix-and-match, endless data: attacks with documents that are properly signed.

use crate::world::{NOW, World, forge, in_days, role, said, shop};
use serde_json::json;
use tamer_release::trust::document::cap;
use tamer_release::trust::editor;
use tough::schema::{Snapshot, Targets};

#[tokio::test]
async fn nothing_goes_back() {
    let world = World::with_shop();
    let old = world.net.snapshot();
    world.publish(&shop(), vec![world.release_blob("1.1.0")], 2);
    let new = world.net.snapshot();
    world.host("a").refresh(&shop(), NOW).await.unwrap();

    // The timestamp.
    world.net.restore(old);
    world
        .refused("a", "takes the timestamp back from version 2 to 1")
        .await;
    // The snapshot, announced by a newer timestamp.
    world.net.restore(new.clone());
    world.vouch(&shop(), 2, 1, 3);
    world
        .refused("a", "takes the snapshot back from version 2 to 1")
        .await;
    // The targets, listed in a newer snapshot.
    world.net.restore(new.clone());
    world.vouch(&shop(), 1, 3, 3);
    world
        .refused("a", "takes the targets back from version 2 to 1")
        .await;
    // The targets, no longer listed. The timestamp has moved on meanwhile.
    world.net.restore(new.clone());
    let empty = |signed: &mut serde_json::Value| {
        signed["meta"] = json!({});
        signed["version"] = json!(4);
    };
    let bytes = forge::<Snapshot>(
        &world.net.get("app/shop", "2.snapshot.json"),
        empty,
        &[&world.online],
    );
    world.net.put("app/shop", "4.snapshot.json", bytes.clone());
    let document = tamer_release::trust::document::Document::parse(bytes, None).unwrap();
    let bytes = editor::timestamp("app/shop", &document, 4, in_days(1), &[&world.online]).unwrap();
    world.net.put("app/shop", "timestamp.json", bytes);
    world
        .refused("a", "it does not say all that the trusted snapshot listed")
        .await;
    // What was accepted is still there, and versions that are high enough are taken.
    assert_eq!(
        world
            .host("a")
            .cached(&shop())
            .unwrap()
            .unwrap()
            .targets_version,
        2
    );
    world.net.restore(new);
    world.vouch(&shop(), 2, 5, 5);
    world.host("a").refresh(&shop(), NOW).await.unwrap();
}

#[tokio::test]
async fn what_was_seen_half_way_is_not_forgotten() {
    let world = World::with_shop();
    world.host("a").refresh(&shop(), NOW).await.unwrap();
    world.publish(&shop(), vec![], 2);
    let second = world.net.get("app/shop", "timestamp.json");
    world.publish(&shop(), vec![], 3);
    world.net.remove("app/shop", "3.snapshot.json");
    world.refused("a", "there is no 3.snapshot.json").await;
    world.net.put("app/shop", "timestamp.json", second);
    world
        .refused("a", "takes the timestamp back from version 3 to 2")
        .await;
    assert_eq!(
        world.host("a").cached(&shop()).unwrap().unwrap().timestamp,
        1
    );
}

#[tokio::test]
async fn expired_documents_are_refused_one_by_one() {
    for (days, words) in [
        (1, "timestamp.json"),
        (7, "1.snapshot.json"),
        (90, "1.targets.json"),
        (365, "1.root.json"),
    ] {
        let world = World::with_shop();
        let soon =
            |signed: &mut serde_json::Value| signed["expires"] = json!("2099-01-01T00:00:00Z");
        // Everything above the one document lives on.
        if days > 1 {
            let file = "1.targets.json";
            if days > 90 {
                world.replace::<Targets>(file, soon, &world.release);
            }
            let targets = tamer_release::trust::document::Document::parse(
                world.net.get("app/shop", file),
                None,
            )
            .unwrap();
            let long = in_days(if days > 7 { 4000 } else { 7 });
            let bytes = editor::snapshot("app/shop", &targets, 1, long, &[&world.online]).unwrap();
            world.net.put("app/shop", "1.snapshot.json", bytes.clone());
            let snapshot = tamer_release::trust::document::Document::parse(bytes, None).unwrap();
            let bytes =
                editor::timestamp("app/shop", &snapshot, 1, in_days(4000), &[&world.online])
                    .unwrap();
            world.net.put("app/shop", "timestamp.json", bytes);
        }
        let just_before = tamer_core::moment::Moment(in_days(days).0 - 1);
        let accepted = world.host("a").refresh(&shop(), just_before).await.unwrap();
        for host in ["a", "new"] {
            let error = world
                .host(host)
                .refresh(&shop(), in_days(days))
                .await
                .unwrap_err();
            let text = said(&error);
            assert!(
                text.contains(&format!("{words} is refused: it expired on 20")),
                "{text}"
            );
        }
        assert_eq!(world.host("a").cached(&shop()).unwrap(), Some(accepted));
    }
}

#[tokio::test]
async fn documents_that_do_not_belong_together_are_refused() {
    let world = World::with_shop();
    let old = world.net.snapshot();
    world.publish(&shop(), vec![world.release_blob("1.1.0")], 2);
    let swap = |from: &str, to: &str| {
        let bytes = old[&("app/shop".to_owned(), from.to_owned())].clone();
        world.net.put("app/shop", to, bytes);
    };
    let new = world.net.snapshot();
    swap("1.snapshot.json", "2.snapshot.json");
    world.refused("a", "2.snapshot.json is refused: it").await;
    world.net.restore(new);
    swap("1.targets.json", "2.targets.json");
    world
        .refused("a", "2.targets.json is refused: it has")
        .await;

    // The same length and version, properly signed, but not the announced bytes.
    for file in ["1.targets.json", "1.snapshot.json"] {
        let world = World::with_shop();
        world.net.change("app/shop", file, |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace("\"signed\": ", "\"signed\":\n").into_bytes()
        });
        let words = format!("{file} is refused: its SHA-256 is not the signed one");
        world.refused("a", &words).await;
    }
    // A snapshot without hashes still binds the version.
    let world = World::with_shop();
    let later = |signed: &mut serde_json::Value| signed["version"] = json!(7);
    world.replace::<Targets>("1.targets.json", later, &world.release);
    world.announce_versions_alone();
    world
        .refused(
            "a",
            "1.targets.json is refused: it is version 7, and version 1 is needed",
        )
        .await;
}

#[tokio::test]
async fn endless_data_end() {
    for (file, max) in [
        ("1.root.json", cap::ROOT),
        ("2.root.json", cap::ROOT),
        ("timestamp.json", cap::TIMESTAMP),
    ] {
        let world = World::with_shop();
        world.net.put(
            "app/shop",
            file,
            vec![b' '; usize::try_from(max).unwrap() + 1],
        );
        world
            .refused(
                "a",
                &format!("{file} is refused: it is larger than {max} bytes"),
            )
            .await;
    }
    // The others have a signed length.
    for file in ["1.snapshot.json", "1.targets.json"] {
        let world = World::with_shop();
        let max = world.net.get("app/shop", file).len();
        world.net.change("app/shop", file, |mut bytes| {
            bytes.push(b' ');
            bytes
        });
        world
            .refused(
                "a",
                &format!("{file} is refused: it is larger than {max} bytes"),
            )
            .await;
    }
}

#[tokio::test]
async fn an_endless_chain_of_roots_ends() {
    let mut world = World::with_shop();
    world.team.truncate(1);
    let team = role(&world.team, 1);
    for version in 1..=258 {
        let root = editor::team_root(&team, version, in_days(365), &[&world.team[0]]).unwrap();
        if version == 1 {
            world.pin = tamer_kit::hash::sha256(&root);
        }
        world.net.put("team", &format!("{version}.root.json"), root);
    }
    world
        .refused("a", "team: more than 256 new roots in a row")
        .await;
}
