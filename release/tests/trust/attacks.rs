//! Wrong keys, wrong roots, wrong names: attacks on who says it, and of what.

use crate::world::{NOW, World, forge, forge_plain, in_days, key, production, role, said, shop};
use serde_json::json;
use tamer_release::trust::editor::{self, RepositoryRoles, RoleKeys};
use tamer_release::trust::{NewTarget, RepositoryName};
use tough::schema::{Root, Targets, Timestamp};

#[tokio::test]
async fn documents_signed_by_strangers_are_refused() {
    let stranger = key();
    let world = World::with_shop();
    world.replace::<Timestamp>("timestamp.json", |_| (), &stranger);
    world
        .refused("a", "timestamp.json is refused: its signatures")
        .await;

    let mut world = World::with_shop();
    let online = std::mem::replace(&mut world.online, key());
    world.vouch(&shop(), 1, 1, 1);
    let bytes = world.net.get("app/shop", "timestamp.json");
    world.net.put(
        "app/shop",
        "timestamp.json",
        forge::<Timestamp>(&bytes, |_| (), &[&online]),
    );
    world
        .refused("b", "1.snapshot.json is refused: its signatures")
        .await;

    let world = World::with_shop();
    world.replace::<Targets>("1.targets.json", |_| (), &stranger);
    world.vouch(&shop(), 1, 1, 1);
    world
        .refused("c", "1.targets.json is refused: its signatures")
        .await;
}

#[tokio::test]
async fn a_role_does_not_sign_for_another() {
    // The online key, in the wrong hands, signs targets.
    let world = World::with_shop();
    world.replace::<Targets>("1.targets.json", |_| (), &world.online);
    world.vouch(&shop(), 1, 1, 1);
    world
        .refused("a", "1.targets.json is refused: its signatures")
        .await;

    // A snapshot served as a timestamp, both signed by the one online key.
    let world = World::with_shop();
    let snapshot = world.net.get("app/shop", "1.snapshot.json");
    world.net.put("app/shop", "timestamp.json", snapshot);
    world
        .refused(
            "b",
            "timestamp.json is refused: it is not a timestamp document",
        )
        .await;
}

#[tokio::test]
async fn a_threshold_that_is_not_met_is_refused() {
    let world = World::with_shop();
    let one = |bytes: Vec<u8>| forge::<Root>(&bytes, |_| (), &[&world.team[2]]);
    world.net.change("app/shop", "1.root.json", one);
    world
        .refused("a", "1.root.json is refused: its signatures")
        .await;

    // One key's signature, twice.
    let world = World::with_shop();
    world.net.change("app/shop", "1.root.json", |bytes| {
        let bytes = forge::<Root>(&bytes, |_| (), &[&world.team[0]]);
        let mut document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let signature = document["signatures"][0].clone();
        document["signatures"]
            .as_array_mut()
            .unwrap()
            .push(signature);
        serde_json::to_vec(&document).unwrap()
    });
    world
        .refused("b", "1.root.json is refused: its signatures")
        .await;
}

#[tokio::test]
async fn one_key_under_two_ids_does_not_meet_a_threshold_of_two() {
    let world = World::with_shop();
    world.net.change("app/shop", "1.root.json", |bytes| {
        let twice = |signed: &mut serde_json::Value| {
            let id = signed["roles"]["targets"]["keyids"][0]
                .as_str()
                .unwrap()
                .to_owned();
            let mut key = signed["keys"][&id].clone();
            key["note"] = json!("the same key");
            let parsed: tough::schema::key::Key = serde_json::from_value(key.clone()).unwrap();
            let other = hex::encode(parsed.key_id().unwrap());
            signed["keys"][&other] = key;
            // Two different keys stand among them, but the one under two ids could do it alone.
            let online = signed["roles"]["timestamp"]["keyids"][0].clone();
            signed["roles"]["targets"] = json!({ "keyids": [id, other, online], "threshold": 2 });
        };
        forge::<Root>(&bytes, twice, &[&world.team[0], &world.team[1]])
    });
    world
        .refused("a", "as many different keys for each role")
        .await;
}

#[tokio::test]
async fn a_root_signed_by_a_stranger_is_refused_and_leaves_no_trace() {
    let world = World::with_shop();
    let real = world.net.snapshot();
    let strangers = [key(), key()];
    let mut roles: RepositoryRoles = world.roles();
    roles.root = role(&strangers, 2);
    let signers: Vec<_> = strangers.iter().collect();
    let root = editor::repository_root(&shop(), &roles, 1, in_days(365), &signers).unwrap();
    world.net.put("app/shop", "1.root.json", root);
    world
        .refused("a", "do not meet the threshold of the team's root keys")
        .await;
    world.net.restore(real);
    world.host("a").refresh(&shop(), NOW).await.unwrap();
}

#[tokio::test]
async fn a_root_of_the_team_that_is_not_the_pinned_one_is_refused() {
    let world = World::with_shop();
    let strangers = [key()];
    let root = editor::team_root(&role(&strangers, 1), 1, in_days(365), &[&strangers[0]]).unwrap();
    world.net.put("team", "1.root.json", root);
    world
        .refused("a", "team: 1.root.json is refused: its SHA-256")
        .await;
}

#[tokio::test]
async fn roots_come_one_by_one() {
    let world = World::with_shop();
    world.host("a").refresh(&shop(), NOW).await.unwrap();
    for (served, found) in [(world.root(&shop(), 1), 1), (world.root(&shop(), 3), 3)] {
        world.net.put("app/shop", "2.root.json", served);
        let words = format!("it is version {found}, and version 2 is needed");
        world.refused("a", &words).await;
    }
    let strangers = [key(), key()];
    let mut roles = world.roles();
    roles.root = role(&strangers, 2);
    let signers: Vec<_> = strangers.iter().collect();
    let root = editor::repository_root(&shop(), &roles, 2, in_days(365), &signers).unwrap();
    world.net.put("app/shop", "2.root.json", root);
    world
        .refused("a", "do not meet the threshold of the previous root keys")
        .await;
}

#[tokio::test]
async fn only_a_definite_no_ends_the_chain_of_roots() {
    let world = World::with_shop();
    for of in ["team", "app/shop"] {
        world.host("a").refresh(&shop(), NOW).await.unwrap();
        *world.net.broken.lock().unwrap() = vec![(of.to_owned(), "2.root.json".to_owned())];
        world
            .refused("a", &format!("{of}: cannot fetch 2.root.json"))
            .await;
        world
            .refused("new", &format!("{of}: cannot fetch 2.root.json"))
            .await;
        world.net.broken.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn a_tampered_or_outgrown_target_is_refused() {
    let world = World::with_shop();
    let host = world.host("a");
    let verified = host.refresh(&shop(), NOW).await.unwrap();
    let name = "shop/releases/web/1.0.0.json";
    let digest = verified.target(name).unwrap().digest;
    let real = world.net.blobs.lock().unwrap()[&digest].clone();
    for served in [
        b"the manifest of web 6.6.6".to_vec(),
        [&real[..], b" "].concat(),
        real[1..].to_vec(),
    ] {
        world.net.blobs.lock().unwrap().insert(digest, served);
        let error = host.fetch(&verified, name, 1000).await.unwrap_err();
        assert!(said(&error).contains("are not the signed ones"), "{error}");
    }
    let error = host.fetch(&verified, name, 24).await.unwrap_err();
    assert!(
        said(&error).contains("has 25 bytes, more than the 24 that are read"),
        "{error}"
    );
    world.net.blobs.lock().unwrap().clear();
    let error = host.fetch(&verified, name, 1000).await.unwrap_err();
    assert!(
        said(&error).contains("cannot fetch shop/releases/web/1.0.0.json"),
        "{error}"
    );
    let error = host
        .fetch(&verified, "shop/releases/web/9.9.9.json", 1000)
        .await
        .unwrap_err();
    assert!(said(&error).contains("no signed target"), "{error}");
}

#[tokio::test]
async fn a_file_signed_under_another_environments_name_is_not_this_ones() {
    let world = World::new();
    world.put_root(&production());
    let staging: tamer_core::id::EnvironmentName = "staging".parse().unwrap();
    let made = tamer_release::trust::targets_with(
        &production(),
        None,
        vec![NewTarget::environment(&staging, b"lax")],
        &[],
        in_days(90),
        &[&world.release],
    );
    assert!(
        made.unwrap_err()
            .to_string()
            .contains("does not belong to env/production")
    );

    // Made by other tools, it is still no file of production.
    world.publish(
        &production(),
        vec![NewTarget::environment(
            &"production".parse().unwrap(),
            b"strict",
        )],
        1,
    );
    world
        .net
        .change("env/production", "1.targets.json", |bytes| {
            let rename = |signed: &mut serde_json::Value| {
                let file = signed["targets"]["environments/production.toml"].clone();
                signed["targets"] = json!({ "environments/staging.toml": file });
            };
            forge::<Targets>(&bytes, rename, &[&world.release])
        });
    world.vouch(&production(), 1, 1, 1);
    let host = world.host("a");
    let verified = host.refresh(&production(), NOW).await.unwrap();
    for environment in ["production", "staging"] {
        let asked = host
            .environment(&verified, &environment.parse().unwrap())
            .await;
        assert!(said(&asked.unwrap_err()).contains("no signed target"));
    }
}

#[tokio::test]
async fn another_repositorys_documents_are_refused_whole_or_in_part() {
    let world = World::with_shop();
    let bank: RepositoryName = "app/bank".parse().unwrap();
    world.put_root(&bank);
    world.publish(&bank, vec![], 1);
    let real = world.net.snapshot();
    let swap = |file: &str| {
        let bytes = world.net.get("app/bank", file);
        world.net.put("app/shop", file, bytes);
    };
    swap("1.root.json");
    world
        .refused("a", "it is signed for app/bank, not for app/shop")
        .await;
    world.net.restore(real);
    // All signed by the same keys, under shop's own root.
    for file in ["1.targets.json", "1.snapshot.json", "timestamp.json"] {
        swap(file);
    }
    world
        .refused(
            "a",
            "timestamp.json is refused: it is signed for app/bank, not for app/shop",
        )
        .await;
}

#[tokio::test]
async fn a_repositorys_root_is_no_root_of_the_team() {
    let world = World::with_shop();
    world.net.put("team", "2.root.json", world.root(&shop(), 2));
    world
        .refused("a", "it is signed for app/shop, not for team")
        .await;
    let world = World::with_shop();
    let signers = [&world.team[0], &world.team[1]];
    let team = editor::team_root(&role(&world.team, 2), 2, in_days(365), &signers).unwrap();
    world.net.put("app/shop", "2.root.json", team);
    world
        .refused("a", "it is signed for team, not for app/shop")
        .await;
}

#[tokio::test]
async fn a_root_without_enough_keys_is_refused() {
    let world = World::with_shop();
    let none = RoleKeys {
        keys: vec![],
        threshold: 1,
    };
    let mut roles = world.roles();
    roles.online = none;
    assert!(editor::repository_root(&shop(), &roles, 1, in_days(1), &[&world.release]).is_err());
    world.net.change("app/shop", "1.root.json", |bytes| {
        let lower =
            |signed: &mut serde_json::Value| signed["roles"]["targets"]["threshold"] = json!(2);
        forge::<Root>(&bytes, lower, &[&world.team[0], &world.team[1]])
    });
    world
        .refused("a", "as many different keys for each role")
        .await;
}

#[tokio::test]
async fn what_this_client_does_not_work_with_is_refused_by_name() {
    let root = |edit: fn(&mut serde_json::Value)| {
        let world = World::with_shop();
        let signers = [&world.team[0], &world.team[1]];
        let bytes = forge::<Root>(&world.net.get("app/shop", "1.root.json"), edit, &signers);
        world.net.put("app/shop", "1.root.json", bytes);
        world
    };
    root(|signed| signed["consistent_snapshot"] = json!(false))
        .refused("a", "its snapshots are not consistent")
        .await;
    // Not even our own editor signs this one.
    let world = World::with_shop();
    world.net.change("app/shop", "timestamp.json", |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace("\"1.0.", "\"2.0.").into_bytes()
    });
    world
        .refused("a", "another major version of the TUF specification")
        .await;
    let world = World::with_shop();
    let delegate = |signed: &mut serde_json::Value| {
        let role = json!({ "name": "b", "keyids": [], "threshold": 1, "paths": ["*"], "terminating": false });
        signed["delegations"] = json!({ "keys": {}, "roles": [role] });
    };
    world.replace::<Targets>("1.targets.json", delegate, &world.release);
    world.vouch(&shop(), 1, 1, 1);
    world
        .refused(
            "a",
            "1.targets.json is refused: it delegates to other roles",
        )
        .await;
}

#[tokio::test]
async fn a_target_whose_name_leads_out_of_a_directory_is_refused() {
    for name in [
        "../shop/versions/1.0.0.json",
        "shop/../../x",
        "/etc/passwd",
        "shop//x",
        ".",
        "",
    ] {
        let world = World::with_shop();
        let rename = |signed: &mut serde_json::Value| {
            let file = signed["targets"]["shop/releases/web/1.0.0.json"].clone();
            signed["targets"] = json!({ name: file });
        };
        let bytes = world.net.get("app/shop", "1.targets.json");
        let bytes = forge_plain(&bytes, rename, &world.release);
        world.net.put("app/shop", "1.targets.json", bytes.clone());
        // Our own editor does not read it, so only its version is announced.
        world.announce_versions_alone();
        world
            .refused("a", "it has a target whose name leads out of a directory")
            .await;
    }
}

#[tokio::test]
async fn a_version_of_targets_is_what_it_is() {
    let world = World::with_shop();
    world.host("a").refresh(&shop(), NOW).await.unwrap();
    let real = world.net.get("app/shop", "1.targets.json");
    // Signed by the right key, announced by a newer snapshot: but it is not the version 1 that was seen.
    world.replace::<Targets>(
        "1.targets.json",
        |signed| signed["targets"] = json!({}),
        &world.release,
    );
    world.vouch(&shop(), 1, 2, 2);
    world
        .refused("a", "version 1 was accepted before with other bytes")
        .await;
    // The real one, or another version, is taken.
    world.net.put("app/shop", "1.targets.json", real);
    world.vouch(&shop(), 1, 3, 3);
    world.host("a").refresh(&shop(), NOW).await.unwrap();
}

#[tokio::test]
async fn a_timestamp_of_the_same_version_changes_nothing() {
    let world = World::with_shop();
    let host = world.host("a");
    let before = host.refresh(&shop(), NOW).await.unwrap();
    let stored = std::fs::read(world.store("a").path(Some(&shop()))).unwrap();
    // It announces a snapshot that says more, under the same version.
    world.net.change("app/shop", "timestamp.json", |bytes| {
        let further = |signed: &mut serde_json::Value| {
            signed["meta"]["snapshot.json"] = json!({ "version": 9 });
            signed["expires"] = json!("2099-01-01T00:00:00Z");
        };
        forge::<Timestamp>(&bytes, further, &[&world.online])
    });
    assert_eq!(host.refresh(&shop(), NOW).await.unwrap(), before);
    let after = std::fs::read(world.store("a").path(Some(&shop()))).unwrap();
    assert!(stored == after);
    // And it does not live longer for it.
    world
        .refused_at("a", in_days(2), "timestamp.json is refused: it expired on")
        .await;
}

#[tokio::test]
async fn a_bad_repository_does_not_disturb_another() {
    let world = World::with_shop();
    let bank: RepositoryName = "app/bank".parse().unwrap();
    world.put_root(&bank);
    world.publish(&bank, vec![], 1);
    let host = world.host("a");
    host.refresh(&shop(), NOW).await.unwrap();
    world
        .net
        .put("app/shop", "2.root.json", b"garbage".to_vec());
    world.net.remove("app/shop", "timestamp.json");
    world.refused("a", "2.root.json is refused").await;
    host.refresh(&bank, NOW).await.unwrap();
    std::fs::write(world.store("a").path(Some(&shop())), b"").unwrap();
    world.refused("a", "the trust store is damaged").await;
    assert_eq!(host.refresh(&bank, NOW).await.unwrap().targets_version, 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_drips_ends_and_holds_up_nobody_else() {
    let world = World::with_shop();
    let bank: RepositoryName = "app/bank".parse().unwrap();
    world.put_root(&bank);
    world.publish(&bank, vec![], 1);
    let host = world.host("a");
    let drip = ("app/shop".to_owned(), "timestamp.json".to_owned());
    world.net.dripping.lock().unwrap().push(drip);
    let shop = shop();
    let waits = host.refresh(&shop, NOW);
    tokio::pin!(waits);
    // It is polled until it waits for the file, and then left waiting.
    let asked = || world.net.asked.lock().unwrap().last().cloned();
    while asked().as_deref() != Some("app/shop/timestamp.json") {
        tokio::select! {
            biased;
            done = &mut waits => panic!("{done:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    host.refresh(&bank, NOW).await.unwrap();
    let error = waits.await.unwrap_err();
    assert!(
        said(&error).contains(
            "cannot fetch timestamp.json: the transport failed: it was not whole after 120 s"
        ),
        "{}",
        said(&error)
    );
}
