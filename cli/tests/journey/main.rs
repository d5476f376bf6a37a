//! The first ten minutes against a controller in the same process, and what may go wrong in them.

#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

mod keys;
mod support;

use clap::Parser;
use std::path::Path;
use std::time::Duration;
use support::Controller;
use tamer::args::Cli;
use tamer::commands;
use tamer::error::Error;
use tamer::exit::Exit;
use tamer::printer::{Kept, Output, Printer};
use tamer_kit::clock;
use tamer_proto::v1::{DeploymentStatus, RolloutStatus};
use tamer_release::trust::SigningKey;
use tamer_release::trust::editor::TARGETS_LIFE;
use tamer_release::trust::live::{NewTarget, targets_with};
use tonic::Status;

/// An engineer's machine.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The command that logs in with this token.
    fn login(&self, token: &str) -> String {
        self.write("token", token);
        "login --token-file @token".to_owned()
    }

    /// Types a command; `@` at the beginning of a word stands for the desk's folder.
    async fn types(&self, line: &str) -> (Result<Exit, Error>, Kept) {
        let folder = format!("{}/", self.dir.path().display());
        let words = line.split_whitespace();
        let words = words.map(|word| match word.strip_prefix('@') {
            Some(path) => format!("{folder}{path}"),
            None => word.to_owned(),
        });
        let home = self.path("home").display().to_string();
        let all = ["tamer".to_owned(), "--home".to_owned(), home]
            .into_iter()
            .chain(words);
        let cli = Cli::try_parse_from(all).unwrap();
        let (printer, kept) = Printer::keeping(cli.global.output);
        let running = tokio::time::timeout(Duration::from_secs(60), commands::run(cli, &printer));
        let outcome = running.await.expect("a command that never ends");
        let kept = kept.lock().unwrap().clone();
        (outcome, kept)
    }

    /// Types a command that must succeed; gives what it printed.
    async fn does(&self, line: &str) -> Kept {
        let (outcome, kept) = self.types(line).await;
        match outcome {
            Ok(Exit::Done) => kept,
            other => panic!("{line}: {other:?}\n{kept:?}"),
        }
    }

    /// Types a command that must fail; gives why.
    async fn fails(&self, line: &str) -> Error {
        match self.types(line).await.0 {
            Err(error) => error,
            Ok(exit) => panic!("{line}: {exit:?}"),
        }
    }
}

const TOML: &str = "application = \"shop\"\n[component.web]\nfiles = \"web\"\nroot = \"/srv/shop/web\"\n[component.worker]\nfiles = \"worker\"\nroot = \"/srv/shop/worker\"\n";

async fn with_trust() -> (Controller, Desk) {
    let controller = Controller::start().await;
    let desk = Desk::new();
    desk.does(&desk.login(&controller.token)).await;
    desk.does("trust init").await;
    desk.write("shop/tamer.toml", TOML);
    desk.write("shop/web/index.html", "one");
    desk.write("shop/worker/run", "one");
    desk.write(
        "environments/staging.toml",
        "[place]\n\"shop/web\" = { role = \"web\" }\n",
    );
    (controller, desk)
}

#[tokio::test]
async fn each_command_leads_to_the_next() {
    let controller = Controller::start().await;
    let desk = Desk::new();
    let lost = desk.fails("status").await;
    assert!(lost.next[0].starts_with("tamer login"), "{lost:?}");
    let kept = desk.does(&desk.login(&controller.token)).await;
    assert!(kept.err.contains("next: tamer trust init"), "{kept:?}");
    assert!(
        desk.does("whoami")
            .await
            .out
            .starts_with("anna (admin) at https://127.0.0.1:")
    );
    let kept = desk.does("trust init").await;
    assert!(kept.err.contains("next: tamer env apply"), "{kept:?}");
    desk.write(
        "environments/staging.toml",
        "[place]\n\"shop/web\" = { role = \"web\" }\n",
    );
    let kept = desk.does("env apply @environments").await;
    assert!(
        kept.out.contains("staging begins, signed version 1"),
        "{kept:?}"
    );
    assert!(
        kept.err
            .contains("next: tamer host invite --environment staging --label role=web")
    );
    let kept = desk
        .does("host invite --environment staging --label role=web")
        .await;
    assert!(
        kept.out.starts_with("./install-agent <<< host-staging-"),
        "{kept:?}"
    );
    assert_eq!(
        kept.out.lines().count(),
        1,
        "a line to paste, and nothing else"
    );
    desk.write("shop/web/index.html", "one");
    let kept = desk.does("init @shop").await;
    assert!(kept.err.contains("next: tamer publish 1.0.0"));
    let kept = desk.does("publish 1.0.0 --file @shop/tamer.toml").await;
    assert!(kept.out.contains("✓ shop 1.0.0 is published"), "{kept:?}");
    assert!(
        kept.err.contains("next: tamer deploy staging 1.0.0"),
        "{kept:?}"
    );
    assert!(desk.does("trust status").await.out.contains("app/shop"));
}

#[tokio::test]
async fn a_token_of_another_controller_and_a_used_one_are_refused() {
    let (one, two) = (Controller::start().await, Controller::start().await);
    let desk = Desk::new();
    let address = |token: &str| {
        token
            .parse::<tamer_kit::token::JoinToken>()
            .unwrap()
            .controller
    };
    let line = format!("{} {}", desk.login(&one.token), address(&two.token));
    let refused = desk.fails(&line).await;
    assert_eq!(refused.exit, Exit::Refused);
    assert!(refused.report().contains("another CA than the token pins"));
    let mut used: tamer_kit::token::JoinToken = one.token.parse().unwrap();
    used.secret = tamer_kit::token::Secret::new([8; 32]);
    let refused = desk.fails(&desk.login(&used.to_string())).await;
    assert_eq!(
        (refused.exit, refused.message.as_str()),
        (Exit::Refused, "the token was used already")
    );
    assert!(
        !desk.path("home").exists(),
        "nothing is kept of a login that failed"
    );
}

#[tokio::test]
async fn a_certificate_past_half_its_life_is_renewed_on_the_way() {
    let controller = Controller::start().await;
    controller.inside().age = Duration::from_secs(3700);
    let desk = Desk::new();
    desk.does(&desk.login(&controller.token)).await;
    desk.does("whoami").await;
    assert_eq!(controller.inside().renewed, 1);
    desk.does("whoami").await;
    assert_eq!(controller.inside().renewed, 1, "the new one is young");
}

#[tokio::test]
async fn trust_begins_once() {
    let (controller, desk) = with_trust().await;
    desk.does("trust init").await;
    let other = Desk::new();
    let login = other.does(&other.login(&controller.token)).await;
    assert!(
        login.err.contains("next: tamer status"),
        "the root is pinned by the login"
    );
    let refused = other.fails("trust init").await;
    assert!(
        refused.exit == Exit::Usage && refused.message.contains("already"),
        "{refused:?}"
    );
    other.write("environments/staging.toml", "");
    let refused = other.fails("env apply @environments").await;
    assert!(
        refused.report().contains("environment.pem"),
        "{}",
        refused.report()
    );
}

#[tokio::test]
async fn environments_are_signed_when_they_change() {
    let (controller, desk) = with_trust().await;
    desk.does("env apply @environments").await;
    let kept = desk.does("env apply @environments").await;
    assert!(
        kept.out.contains("staging is unchanged, signed version 1"),
        "{kept:?}"
    );
    desk.write(
        "environments/staging.toml",
        "[place]\n\"shop/web\" = { role = \"www\" }\n",
    );
    let kept = desk.does("env apply @environments --output json").await;
    assert_eq!(
        kept.out,
        "[{\"environment\":\"staging\",\"version\":2,\"changed\":true}]\n"
    );
    desk.write(
        "environments/staging.toml",
        "[place]\n\"shop/web\" = { role = \"web\" }\n",
    );
    let kept = desk.does("env apply @environments").await;
    assert!(
        kept.out.contains("- \"shop/web\" = { role = \"www\" }"),
        "{kept:?}"
    );

    // Somebody else signs another file at the very same time.
    desk.write("environments/staging.toml", "[place]\n");
    let key = SigningKey::load(&desk.path("home/keys/environment.pem")).unwrap();
    controller.inside().meanwhile = Some(Box::new(move |inside| {
        let (name, file) = ("env/staging".parse().unwrap(), b"# theirs");
        let repository = inside.repository(&name);
        let previous = repository.targets().unwrap();
        let new = NewTarget::environment(&"staging".parse().unwrap(), file);
        let now = clock::now();
        let theirs = targets_with(
            &name,
            previous.as_deref(),
            vec![new],
            &[],
            now + TARGETS_LIFE,
            &[&key],
        );
        repository.accept_targets(&theirs.unwrap(), 3, now).unwrap();
    }));
    let overtaken = desk.fails("env apply @environments").await;
    assert_eq!(overtaken.exit, Exit::Locked, "{overtaken:?}");
    assert!(overtaken.message.contains("nothing was published"));
}

#[tokio::test]
async fn a_controller_in_the_wrong_hands_gets_no_signature() {
    let (controller, desk) = with_trust().await;
    desk.does("env apply @environments").await;
    desk.write("environments/staging.toml", "[place]\n");
    controller.inside().forget();
    let refused = desk.fails("env apply @environments").await;
    assert_eq!(refused.exit, Exit::Refused);
    assert!(
        refused.message.contains("version 1 was seen here"),
        "{refused:?}"
    );

    // Another team root than the pinned one.
    let folder = std::fs::read_dir(desk.path("home")).unwrap();
    let mut files = folder.map(|entry| entry.unwrap().path().join("controller.toml"));
    let file = files.find(|file| file.exists()).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once("trust_root").unwrap();
    let other = "0".repeat(64);
    std::fs::write(&file, format!("{before}trust_root = \"{other}\"\n")).unwrap();
    for line in [
        "env apply @environments",
        "trust status",
        "publish 1.0.0 --file @shop/tamer.toml",
    ] {
        assert_eq!(desk.fails(line).await.exit, Exit::Refused, "{line}");
    }
}

#[tokio::test]
async fn what_has_not_changed_keeps_its_release() {
    let (controller, desk) = with_trust().await;
    desk.does("publish 1.0.0 --file @shop/tamer.toml").await;
    let blobs = controller.inside().blobs.len();
    assert_eq!(blobs, 5, "two archives, two manifests, one version");
    desk.write("shop/web/index.html", "two");
    let kept = desk
        .does("publish 1.1.0 --file @shop/tamer.toml --output json")
        .await;
    let published: serde_json::Value = serde_json::from_str(&kept.out).unwrap();
    let of = |n: usize, key: &str| published["components"][n][key].clone();
    assert_eq!(
        (of(0, "component"), of(0, "version"), of(0, "new")),
        ("web".into(), "1.1.0".into(), true.into())
    );
    assert_eq!(
        (of(1, "component"), of(1, "version"), of(1, "new")),
        ("worker".into(), "1.0.0".into(), false.into())
    );
    assert_eq!(controller.inside().blobs.len(), blobs + 3);

    // The same version again: fine as it is, refused with other content.
    let kept = desk.does("publish 1.1.0 --file @shop/tamer.toml").await;
    assert!(
        kept.out
            .contains("shop 1.1.0 is published already, as it is"),
        "{kept:?}"
    );
    let refused = desk.fails("publish 1.0.0 --file @shop/tamer.toml").await;
    assert_eq!(refused.exit, Exit::Usage);
    assert!(
        refused.message.contains("`web` has other content"),
        "{refused:?}"
    );
    assert_eq!(
        controller.inside().blobs.len(),
        blobs + 3,
        "nothing was uploaded for nothing"
    );

    // One component alone: the other stays as it was, though its files are other ones now.
    desk.write("shop/web/index.html", "three");
    desk.write("shop/worker/run", "three");
    let kept = desk
        .does("publish 1.2.0 --component web --file @shop/tamer.toml")
        .await;
    assert!(
        kept.out
            .lines()
            .any(|line| line.starts_with("worker     1.0.0")),
        "{kept:?}"
    );
    assert!(
        kept.out
            .lines()
            .any(|line| line.starts_with("web        1.2.0")),
        "{kept:?}"
    );
}

#[tokio::test]
async fn a_deployment_is_followed_through_a_lost_line_to_its_own_exit_code() {
    let (controller, desk) = with_trust().await;
    let status = |state: &str, ended: u64, code: u32| DeploymentStatus {
        id: 318,
        environment: "staging".to_owned(),
        application: "shop".to_owned(),
        version: "1.0.0".to_owned(),
        state: state.to_owned(),
        started_ms: 1000,
        ended_ms: ended,
        exit_code: code,
        rollouts: vec![RolloutStatus {
            cause: if code == 0 { "" } else { "no" }.to_owned(),
            total: 3,
            ..RolloutStatus::default()
        }],
        ..DeploymentStatus::default()
    };
    controller.inside().watches = vec![
        vec![
            Ok(status("running", 0, 0)),
            Err(Status::unavailable("restarts")),
        ],
        vec![
            Ok(status("running", 0, 0)),
            Ok(status("rolled back", 3000, 6)),
        ],
        vec![Ok(status("succeeded", 3000, 0))],
    ];
    let (outcome, kept) = desk
        .types("deploy staging web@1.0.0 --reason because")
        .await;
    assert_eq!(outcome.unwrap(), Exit::RolledBack);
    assert!(kept.err.contains("trying again"), "{kept:?}");
    assert!(
        kept.out
            .contains("✗ shop 1.0.0 → staging: rolled back after 2 s"),
        "{kept:?}"
    );
    let asked = controller.inside().deployed.remove(0);
    assert_eq!(
        (&*asked.component, &*asked.version, &*asked.reason),
        ("web", "1.0.0", "because")
    );
    assert!(
        desk.does("watch 318")
            .await
            .out
            .contains("✓ shop 1.0.0 runs in staging: 3 hosts, 2 s")
    );
    let kept = desk.does("deploy staging 1.0.0 --detach").await;
    assert!(kept.err.contains("next: tamer watch 318"), "{kept:?}");
    assert_eq!(desk.fails("deploy staging 9.9.9").await.exit, Exit::Locked);
    assert_eq!(desk.fails("watch 9").await.exit, Exit::Usage);
    assert_eq!(
        desk.does("rollback staging").await.out,
        "staging is there already\n"
    );
}

#[tokio::test]
async fn packing_twice_gives_the_same_bytes() {
    let desk = Desk::new();
    desk.write("shop/tamer.toml", TOML);
    desk.write("shop/web/index.html", "one");
    desk.write("shop/worker/run", "one");
    let printed = |kept: Kept| {
        let rows: serde_json::Value = serde_json::from_str(&kept.out).unwrap();
        rows[0]["digest"].clone()
    };
    let line = "pack 1.0.0 --component web --file @shop/tamer.toml --output json --out";
    let one = printed(desk.does(&format!("{line} @a")).await);
    let two = printed(desk.does(&format!("{line} @b")).await);
    assert_eq!(one, two);
    let read =
        |folder: &str| std::fs::read(desk.path(folder).join("shop-web-1.0.0.tar.zst")).unwrap();
    assert_eq!(read("a"), read("b"));
    assert!(Path::new(&desk.path("a/shop-web-1.0.0.manifest.json")).is_file());
    let bad = desk.fails(&format!("{line} @c --component wbe")).await;
    assert!(bad.message.contains("did you mean `web`?"), "{bad:?}");
}

#[tokio::test]
async fn bad_environment_files_are_told_without_a_controller() {
    let desk = Desk::new();
    desk.write(
        "environments/production.toml",
        "[policy]\nmax_paralel = 1\n",
    );
    let bad = desk.fails("env apply @environments").await;
    assert_eq!(bad.exit, Exit::Usage);
    assert!(
        bad.message.ends_with(
            "production.toml:2:1: unknown key `max_paralel`: did you mean `max_parallel`?"
        ),
        "{bad:?}"
    );
    desk.write(
        "environments/production.toml",
        "[policy]\nmax_parallel = 1\n",
    );
    assert_eq!(
        desk.does("env apply @environments --check").await.out,
        "✓ production\n"
    );
}

#[test]
fn completions_need_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let cli = Cli::try_parse_from(["tamer", "completions", "bash"]).unwrap();
    let (printer, kept) = Printer::keeping(Output::Text);
    assert_eq!(
        runtime.block_on(commands::run(cli, &printer)).unwrap(),
        Exit::Done
    );
    assert!(kept.lock().unwrap().out.contains("rollback"));
}
