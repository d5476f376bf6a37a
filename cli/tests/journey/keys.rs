//! Keys that change hands, and changes that need several people.

use super::{Desk, with_trust};
use crate::support::Controller;
use tamer::drafts;
use tamer::exit::Exit;
use tamer_kit::clock;
use tamer_release::trust::document::Document;
use tamer_release::trust::draft::Draft;
use tamer_release::trust::editor::RoleKeys;
use tamer_release::trust::rotation::holders;
use tamer_release::trust::{PublicKey, PublishedTeam, RepositoryName, SigningKey};
use tough::schema::{RoleType, Root};

fn shop() -> RepositoryName {
    "app/shop".parse().unwrap()
}

/// The newest root of a repository.
fn root(controller: &Controller, name: &RepositoryName) -> Document<Root> {
    let mut inside = controller.inside();
    let repository = inside.repository(name);
    let read = |n: u64| repository.read(&format!("{n}.root.json")).unwrap();
    let newest = (1..).map_while(read).last().unwrap();
    Document::parse(newest, None).unwrap()
}

fn keys(controller: &Controller, name: &RepositoryName, role: RoleType) -> Vec<PublicKey> {
    RoleKeys::of(&root(controller, name), role).unwrap().keys
}

fn team(controller: &Controller) -> Document<Root> {
    let inside = controller.inside();
    let team: &PublishedTeam = &inside.team;
    team.current().unwrap().unwrap().current().clone()
}

fn public(desk: &Desk, name: &str) -> PublicKey {
    let key = SigningKey::load(&desk.path(&format!("home/keys/{name}.pem"))).unwrap();
    key.public().clone()
}

/// The only draft that waits at a desk, as another desk can read it.
fn draft(desk: &Desk) -> (String, Draft) {
    let folder = desk.path("home/drafts");
    let mut found = std::fs::read_dir(folder).unwrap();
    let path = found.next().unwrap().unwrap().path();
    assert!(found.next().is_none());
    (path.display().to_string(), drafts::read(&path).unwrap())
}

async fn with_release() -> (Controller, Desk) {
    let (controller, desk) = with_trust().await;
    desk.does("env apply @environments").await;
    desk.does("publish 1.0.0 --file @shop/tamer.toml").await;
    (controller, desk)
}

/// Publishes another version.
async fn publish(desk: &Desk, version: &str) {
    desk.write("shop/web/index.html", version);
    let line = format!("publish {version} --file @shop/tamer.toml");
    desk.does(&line).await;
}

#[tokio::test]
async fn a_release_key_is_rotated_and_the_old_one_publishes_nothing() {
    let (controller, desk) = with_release().await;
    let old = public(&desk, "release");
    let kept = desk.does("trust rotate release").await;
    assert!(kept.out.contains("✓ app/shop: version 2"), "{kept:?}");
    assert!(
        kept.out.contains("2 targets") || kept.out.contains("3 targets"),
        "{kept:?}"
    );
    let new = public(&desk, "release");
    assert_ne!(old, new);
    assert_eq!(keys(&controller, &shop(), RoleType::Targets), [new]);
    // An environment has another key, which stayed.
    let staging = "env/staging".parse().unwrap();
    assert_eq!(root(&controller, &staging).version(), 1);
    publish(&desk, "1.0.1").await;
    assert!(
        desk.path("home/drafts")
            .read_dir()
            .unwrap()
            .next()
            .is_none()
    );

    // Whoever has the old key alone gets nowhere.
    let kept = format!("home/keys/release-{}.pem", &old.id()[..8]);
    let pem = std::fs::read(desk.path(&kept)).unwrap();
    std::fs::write(desk.path("home/keys/release.pem"), pem).unwrap();
    desk.write("shop/web/index.html", "thief");
    let refused = desk.fails("publish 6.6.6 --file @shop/tamer.toml").await;
    assert_eq!(refused.exit, Exit::Approval, "{refused:?}");
    let refused = desk.fails("trust rotate release").await;
    assert!(
        refused.report().contains("none of the release keys"),
        "{}",
        refused.report()
    );
}

#[tokio::test]
async fn the_teams_root_key_is_rotated_in_every_repository_first() {
    let (controller, desk) = with_release().await;
    let old = public(&desk, "root");
    let kept = desk.does("trust rotate root").await;
    let order = [
        "✓ app/shop: version 2",
        "✓ env/staging: version 2",
        "✓ team: version 2",
    ];
    let at: Vec<_> = order
        .iter()
        .map(|line| kept.out.find(line).unwrap())
        .collect();
    assert!(at.is_sorted(), "{kept:?}");
    let new = public(&desk, "root");
    assert_eq!(keys(&controller, &shop(), RoleType::Root), [new]);
    std::fs::remove_file(desk.path(&format!("home/keys/root-{}.pem", &old.id()[..8]))).unwrap();
    publish(&desk, "1.0.1").await;
    // A new repository begins under the new key, and the pin is the first root still.
    desk.write("environments/production.toml", "[place]\n");
    desk.does("env apply @environments").await;
    desk.does("trust renew root").await;
    assert_eq!(team(&controller).version(), 3);
}

#[tokio::test]
async fn two_of_three_people_change_keys_with_a_draft_that_travels() {
    let (controller, desk) = with_release().await;
    let (anna, ben) = (Desk::new(), Desk::new());
    anna.does("trust key anna").await;
    ben.does("trust key ben").await;
    for (who, name) in [(&anna, "anna"), (&ben, "ben")] {
        let file = who.path(&format!("home/keys/{name}.pub"));
        let line = format!("trust add-key root {} --holder {name}", file.display());
        desk.does(&line).await;
    }
    // What wants two signatures from now on has two already.
    let waits = desk.fails("trust threshold root 2").await;
    assert_eq!(waits.exit, Exit::Approval, "{waits:?}");
    let (path, _) = draft(&desk);
    anna.does(&format!("trust sign {path}")).await;
    desk.does(&format!("trust publish {path}")).await;
    let root = team(&controller);
    assert_eq!(root.version(), 4);
    assert_eq!(holders(&root)[&public(&anna, "anna").id()], "anna");

    let waits = desk.fails("trust renew root").await;
    assert_eq!(waits.exit, Exit::Approval, "{waits:?}");
    let (path, half) = draft(&desk);
    assert!(!half.complete().unwrap());
    let early = desk.fails(&format!("trust publish {path}")).await;
    assert_eq!(early.exit, Exit::Approval);
    // Anna has never seen the controller, and needs none to sign.
    let kept = anna.does(&format!("trust sign {path}")).await;
    assert!(kept.out.contains("= valid until"), "{kept:?}");
    let twice = anna.fails(&format!("trust sign {path}")).await;
    assert_eq!(twice.exit, Exit::Usage);
    let (_, whole) = draft(&desk);
    assert!(whole.complete().unwrap());

    // Handing in was cut off after its first step.
    let first = &whole.steps[0];
    {
        let mut inside = controller.inside();
        let anchor = inside.team.current().unwrap().unwrap();
        let repository = inside.repository(first.repository.as_ref().unwrap());
        let root = first.root().unwrap().unwrap();
        repository
            .accept_root(&root, &anchor, clock::now())
            .unwrap();
    }
    let again = desk.path("again.draft");
    std::fs::copy(&path, &again).unwrap();
    let kept = desk.does(&format!("trust publish {path}")).await;
    assert!(kept.out.contains("is there already"), "{kept:?}");
    assert!(kept.out.contains("✓ team: version 5"), "{kept:?}");
    assert!(!std::path::Path::new(&path).exists());
    let kept = desk.does("trust publish @again.draft").await;
    assert!(
        kept.out.contains("team: version 5 is there already"),
        "{kept:?}"
    );
    // What was made before somebody else's change is not handed in after it.
    std::fs::copy(&again, desk.path("old.draft")).unwrap();
    desk.fails("trust renew root").await;
    let (path, _) = draft(&desk);
    ben.does(&format!("trust sign {path}")).await;
    desk.does(&format!("trust publish {path}")).await;
    let late = desk.fails("trust publish @old.draft").await;
    assert_eq!(late.exit, Exit::Locked, "{late:?}");
}

#[tokio::test]
async fn a_release_of_two_signatures_waits_for_the_second() {
    let (controller, desk) = with_release().await;
    let anna = Desk::new();
    anna.does("trust key anna").await;
    let file = anna.path("home/keys/anna.pub");
    let line = format!(
        "trust add-key release {} --repository app/shop",
        file.display()
    );
    desk.does(&line).await;
    // The threshold itself is met by one key until it holds: the targets need both already.
    let waits = desk
        .fails("trust threshold release 2 --repository app/shop")
        .await;
    assert_eq!(waits.exit, Exit::Approval, "{waits:?}");
    let (path, _) = draft(&desk);
    anna.does(&format!("trust sign {path}")).await;
    desk.does(&format!("trust publish {path}")).await;
    let before = controller.inside().repository(&shop()).targets().unwrap();

    desk.write("shop/web/index.html", "two");
    let waits = desk.fails("publish 1.1.0 --file @shop/tamer.toml").await;
    assert_eq!(waits.exit, Exit::Approval, "{waits:?}");
    let now = controller.inside().repository(&shop()).targets().unwrap();
    assert_eq!(before, now);
    let (path, _) = draft(&desk);
    let kept = anna.does(&format!("trust sign {path}")).await;
    assert!(kept.out.contains("shop/versions/1.1.0.json"), "{kept:?}");
    desk.does(&format!("trust publish {path}")).await;
    let now = controller.inside().repository(&shop()).targets().unwrap();
    assert!(
        String::from_utf8(now.unwrap())
            .unwrap()
            .contains("shop/versions/1.1.0.json")
    );
}

#[tokio::test]
async fn status_shows_whose_keys_sign_what() {
    let (_, desk) = with_release().await;
    desk.does("trust key ci").await;
    let file = desk.path("home/keys/ci.pub");
    let line = format!("trust add-key release {} --holder CI", file.display());
    desk.does(&line).await;
    let kept = desk.does("trust status").await;
    let ci = public(&desk, "ci").id();
    let line = kept
        .out
        .lines()
        .find(|line| line.contains("app/shop  ") && line.contains("targets"));
    let line = line.unwrap_or_else(|| panic!("{kept:?}"));
    assert!(
        line.contains("1 of 2") && line.contains(&format!("{} CI", &ci[..16])),
        "{line}"
    );
    assert!(kept.out.contains("version 1"), "{kept:?}");
}

#[tokio::test]
async fn a_key_under_a_passphrase_in_a_program_or_in_a_file_signs_alike() {
    let (controller, desk) = with_release().await;
    // OpenSSL signs in the place of a hardware key.
    let pem = desk.path("home/keys/release.pem");
    let away = desk.path("hardware.key");
    std::fs::copy(&pem, &away).unwrap();
    std::fs::remove_file(&pem).unwrap();
    let missing = desk.fails("publish 1.0.1 --file @shop/tamer.toml").await;
    assert_eq!(missing.exit, Exit::Usage);
    let public = std::fs::read_to_string(desk.path("home/keys/release.pub")).unwrap();
    let signer = |command: &str| {
        let text = format!("command = [{command}]\npublic = \"\"\"\n{public}\"\"\"\n");
        desk.write("home/keys/release.signer", &text);
    };
    let openssl = format!(
        "'openssl', 'dgst', '-sha256', '-sign', '{}'",
        away.display()
    );
    signer(&openssl);
    publish(&desk, "1.0.1").await;
    signer("'true'");
    desk.write("shop/web/index.html", "other");
    let refused = desk.fails("publish 1.0.2 --file @shop/tamer.toml").await;
    assert!(
        refused.report().contains("is not the signature of the key"),
        "{}",
        refused.report()
    );
    desk.write("home/keys/release.signer", "comand = []\n");
    let refused = desk.fails("publish 1.0.2 --file @shop/tamer.toml").await;
    assert!(refused.report().contains("command"), "{}", refused.report());
    assert_eq!(root(&controller, &shop()).version(), 1);
}

#[tokio::test]
async fn changes_that_make_no_sense_change_nothing() {
    let (controller, desk) = with_release().await;
    for (line, words) in [
        ("trust revoke-key root abc", "begins with abc"),
        ("trust threshold release 2", "2 of 1 keys cannot sign"),
        ("trust threshold root 0", "0 of 1 keys cannot sign"),
        (
            "trust add-key root @home/keys/root.pub",
            "one of them already",
        ),
        (
            "trust add-key release @home/keys/release.pem",
            "not a PEM public key",
        ),
        (
            "trust renew release --repository app/bank",
            "there is no repository app/bank",
        ),
        (
            "trust renew root --repository app/shop",
            "leave --repository out",
        ),
        ("trust sign @shop/tamer.toml", "not a draft"),
    ] {
        let error = desk.fails(line).await;
        assert_eq!(error.exit, Exit::Usage, "{line}: {error:?}");
        assert!(error.report().contains(words), "{line}: {}", error.report());
    }
    let id = public(&desk, "root").id();
    let error = desk
        .fails(&format!("trust revoke-key root {}", &id[..10]))
        .await;
    assert!(
        error.report().contains("0 keys would be left"),
        "{}",
        error.report()
    );
    let done = desk.does("trust rotate online").await;
    assert!(done.out.contains("nothing to do"), "{done:?}");
    assert_eq!(root(&controller, &shop()).version(), 1);
    assert_eq!(team(&controller).version(), 1);
    desk.does("trust renew release").await;
    assert_eq!(root(&controller, &shop()).version(), 1);
}
