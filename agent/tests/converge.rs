//! The whole of the agent's hands, in one process, with real files and real hooks: what a controller
//! asks for and what it is told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::{Agent, PATIENCE, QUICK, Site, granted, slot};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tamer_agent::converge::{Request, rollback_locally};
use tamer_core::desired::{ActivationStatus, ComponentReport, Failure, FailureKind, Purpose};
use tamer_kit::durable;
use tokio::sync::oneshot;

use ActivationStatus::{Done, Refused, Stuck, Undone};
use Purpose::{Back, Forward};

fn status(report: &ComponentReport) -> &ActivationStatus {
    &report.activation.as_ref().unwrap().status
}

fn failure(report: &ComponentReport) -> &Failure {
    match status(report) {
        Refused(failure) | Undone(failure) | Stuck(failure) => failure,
        other => panic!("no failure but {other:?}"),
    }
}

fn site() -> (tempfile::TempDir, Site) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::at(dir.path());
    site.environment(QUICK);
    (dir, site)
}

fn log(site: &Site) -> Vec<String> {
    let log = site.shared("log").unwrap_or_default();
    let _ = fs::remove_file(site.root().join("shared/log"));
    log.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn forward_and_back_run_the_right_hooks_of_the_right_release() {
    let (_dir, site) = site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    assert_eq!(
        log(&site),
        [
            "pre-activate 1.0.0",
            "start 1.0.0",
            "validate 1.0.0",
            "admit 1.0.0"
        ]
    );
    assert_eq!(*status(&agent.grant(2, Some(&two), Forward).await), Done);
    assert_eq!(
        log(&site),
        [
            "pre-activate 2.0.0",
            "drain 1.0.0",
            "stop 1.0.0",
            "start 2.0.0",
            "validate 2.0.0",
            "admit 2.0.0"
        ]
    );
    assert_eq!(*status(&agent.grant(3, Some(&one), Back).await), Done);
    assert_eq!(
        log(&site),
        [
            "drain 2.0.0",
            "stop 2.0.0",
            "start 1.0.0",
            "validate 1.0.0",
            "admit 1.0.0"
        ]
    );
    let report = agent
        .until("checked at rest", |it| {
            it.checks.values().any(|it| it.passed())
        })
        .await;
    assert_eq!(report.running, Some(one));
    // Removed: stopped, and no `current`.
    assert_eq!(*status(&agent.grant(4, None, Forward).await), Done);
    assert_eq!(log(&site), ["drain 1.0.0", "stop 1.0.0"]);
    assert_eq!(site.running(), None);
    agent.stop().await;
}

#[tokio::test]
async fn staging_needs_no_grant_and_switching_does() {
    let (_dir, site) = site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    let mut desired = granted(1, Some(&one), Forward);
    desired.components[0].grant = None;
    desired.components[0].stage = vec![two.clone()];
    agent.desired.send_replace(Some(desired));
    let report = agent.until("staged", |it| it.staged.len() == 2).await;
    assert_eq!((report.running, report.activation), (None, None));
    assert_eq!(site.running(), None);
    assert_eq!(
        fs::read_dir(site.dir.join("host/state/downloads"))
            .unwrap()
            .count(),
        0
    );
    // The store is gone: what is staged is activated all the same, also after a restart.
    fs::remove_dir_all(site.dir.join("store")).unwrap();
    agent.stop().await;
    site.environment_gone();
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(2, Some(&one), Back).await), Done);
    agent.stop().await;
}

#[tokio::test]
async fn a_host_that_cannot_do_what_its_environment_demands_is_refused_untouched() {
    let (_dir, site) = site();
    let one = site.publish("1.0.0", &[]);
    let two = site.publish("2.0.0", &[]);
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Forward).await;
    agent.stop().await;
    log(&site);
    site.environment(&format!(
        "{QUICK}[checks.mail]\ntype = \"command\"\nrun = [\"/bin/false\"]\n"
    ));
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(2, Some(&two), Forward).await;
    assert!(matches!(status(&report), Refused(_)));
    assert_eq!(failure(&report).kind, FailureKind::PreCheck);
    assert_eq!(failure(&report).check, Some("mail".parse().unwrap()));
    assert_eq!(log(&site), [""; 0]);
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    // Going back is not held up by it.
    assert_eq!(*status(&agent.grant(3, Some(&two), Back).await), Done);
    agent.stop().await;
}

#[tokio::test]
async fn a_failed_release_is_undone_once_and_for_all() {
    let (_dir, site) = site();
    let one = site.publish("1.0.0", &[]);
    let broken = site.publish(
        "2.0.0",
        &[("bin/start", "#!/bin/sh\necho no such table >&2\nexit 3\n")],
    );
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Forward).await;
    let report = agent.grant(2, Some(&broken), Forward).await;
    assert!(matches!(status(&report), Undone(_)));
    assert_eq!(failure(&report).kind, FailureKind::Hook);
    assert_eq!(failure(&report).output, "no such table\n");
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    assert_eq!(site.shared("running").as_deref(), Some("1.0.0"));
    log(&site);
    // The same grant again, in a newer message, and after a restart: final is final.
    let mut again = granted(2, Some(&broken), Forward);
    again.generation.counter = 3;
    agent.desired.send_replace(Some(again));
    let mut reports = agent.reports.clone();
    let seen = reports.wait_for(|it| it.generation.counter == 3);
    tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap();
    agent.stop().await;
    let mut agent = Agent::start(site.hands()).await;
    agent.ended(2).await;
    assert_eq!(log(&site), [""; 0]);
    // A new grant tries it again.
    let report = agent.grant(4, Some(&broken), Forward).await;
    assert!(matches!(status(&report), Undone(_)));
    assert!(log(&site).contains(&"pre-activate 2.0.0".to_owned()));
    agent.stop().await;
}

#[tokio::test]
async fn an_edit_on_the_server_is_named_and_blocks_forward_but_not_back() {
    let (_dir, site) = site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Forward).await;
    let page = site.root().join("current/page.html");
    fs::set_permissions(&page, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&page, "hand-made").unwrap();
    let report = agent.grant(2, Some(&two), Forward).await;
    assert!(matches!(status(&report), Refused(_)));
    let said = &failure(&report).message;
    assert!(
        said.starts_with("edited on the server: page.html"),
        "{said}"
    );
    agent.stop().await;
    // A start compares what runs.
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.until("drift seen", |it| !it.drift.is_empty()).await;
    assert_eq!(report.drift, ["page.html: changed"]);
    assert_eq!(*status(&agent.grant(3, Some(&two), Back).await), Done);
    agent.stop().await;
}

#[tokio::test]
async fn a_rollback_on_the_server_holds_until_it_is_released() {
    let (_dir, site) = site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Forward).await;
    agent.grant(2, Some(&two), Forward).await;
    let busy = rollback_locally(site.hands(), &slot(), "pages are blank".into()).await;
    assert!(busy.unwrap_err().contains("another tamer-agent"));
    agent.stop().await;
    // Nobody is there but the person: no agent, no controller, no store.
    durable::rename(&site.dir.join("store"), &site.dir.join("away")).unwrap();
    let said = rollback_locally(site.hands(), &slot(), "pages are blank".into()).await;
    assert!(said.unwrap().contains("1.0.0"));
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    let further = rollback_locally(site.hands(), &slot(), "more".into()).await;
    assert!(further.unwrap_err().contains("no other release"));
    durable::rename(&site.dir.join("away"), &site.dir.join("store")).unwrap();
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(3, Some(&two), Forward).await;
    assert_eq!(report.hold.as_deref(), Some("pages are blank"));
    assert!(matches!(status(&report), Refused(_)));
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    let (reply, said) = oneshot::channel();
    let request = Request::Release {
        slot: slot(),
        reply,
    };
    agent.requests.send(request).await.unwrap();
    assert_eq!(said.await.unwrap(), Ok(true));
    assert_eq!(*status(&agent.grant(4, Some(&two), Forward).await), Done);
    // And with the agent there: the request is its to answer.
    let (reply, said) = oneshot::channel();
    let request = Request::Rollback {
        slot: slot(),
        reason: "slow".into(),
        reply,
    };
    agent.requests.send(request).await.unwrap();
    said.await.unwrap().unwrap();
    let report = agent
        .until("back", |it| it.running.as_ref() == Some(&one))
        .await;
    assert_eq!(report.hold.as_deref(), Some("slow"));
    agent.stop().await;
}

#[tokio::test]
async fn tampered_archives_and_foreign_manifests_leave_nothing_behind() {
    let (_dir, site) = site();
    let one = site.publish("1.0.0", &[]);
    let archive = site.dir.join(format!("store/{}.tar.zst", one.manifest));
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(1, Some(&one), Forward).await;
    assert!(matches!(status(&report), Refused(_)));
    assert_eq!(failure(&report).kind, FailureKind::Trust);
    assert_eq!(
        fs::read_dir(site.root().join("releases")).unwrap().count(),
        0
    );
    // A manifest that is not the one asked for.
    let two = site.publish("2.0.0", &[]);
    let store = site.dir.join("store");
    fs::copy(
        store.join(format!("{}.json", one.manifest)),
        store.join(format!("{}.json", two.manifest)),
    )
    .unwrap();
    let report = agent.grant(2, Some(&two), Forward).await;
    assert_eq!(failure(&report).kind, FailureKind::Trust);
    agent.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_the_release_and_the_old_one_serves_on() {
    let (_dir, mut site) = site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Forward).await;
    agent.stop().await;
    site.config.disk_reserve = tamer_core::check::Room::Percent(100);
    let mut agent = Agent::start(site.hands()).await;
    agent
        .desired
        .send_replace(Some(granted(2, Some(&two), Forward)));
    let report = agent
        .until("refused to stage", |it| it.staging_failure.is_some())
        .await;
    assert_eq!(report.staging_failure.unwrap().kind, FailureKind::Disk);
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    agent.stop().await;
}

#[tokio::test]
async fn a_release_under_test_is_left_at_once_when_another_is_wanted() {
    let (_dir, site) = site();
    site.environment(
        "[policy]\nmin_healthy = \"0s\"\nhealthy_deadline = \"10m\"\nprogress_deadline = \"20m\"\n",
    );
    let one = site.publish("1.0.0", &[]);
    let slow = site.publish("2.0.0", &[("bin/check", "#!/bin/sh\nexit 1\n")]);
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Forward).await;
    agent
        .desired
        .send_replace(Some(granted(2, Some(&slow), Forward)));
    let validating = ActivationStatus::Working("validate".into());
    agent
        .until("validating", |it| {
            it.activation
                .as_ref()
                .is_some_and(|it| it.status == validating)
        })
        .await;
    let report = agent.grant(3, Some(&one), Back).await;
    assert_eq!(report.running, Some(one));
    assert_eq!(site.shared("running").as_deref(), Some("1.0.0"));
    agent.stop().await;
}

#[tokio::test]
async fn old_releases_leave_and_the_way_back_stays() {
    let (_dir, site) = site();
    let mut agent = Agent::start(site.hands()).await;
    let mut all = Vec::new();
    for n in 1..=8 {
        let release = site.publish(&format!("{n}.0.0"), &[]);
        assert_eq!(
            *status(&agent.grant(n, Some(&release), Forward).await),
            Done
        );
        all.push(release);
    }
    let report = agent.until("pruned", |it| it.staged.len() == 5).await;
    for kept in &all[3..] {
        assert!(report.staged.contains(&kept.manifest));
    }
    let dirs = || fs::read_dir(site.root().join("releases")).unwrap().count();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while dirs() != 5 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{} are left",
            dirs()
        );
        tokio::task::yield_now().await;
    }
    agent.stop().await;
}

const HOLDS_ONCE: &str =
    "#!/bin/sh\necho >> $TAMER_SHARED/tries\ntest $(wc -l < $TAMER_SHARED/tries) -eq 1\n";
const NOW_AND_THEN: &str =
    "#!/bin/sh\necho >> $TAMER_SHARED/tries\ntest $(($(wc -l < $TAMER_SHARED/tries) % 2)) -eq 1\n";

#[tokio::test]
async fn a_release_must_hold_without_a_break() {
    for check in [HOLDS_ONCE, NOW_AND_THEN] {
        let (_dir, site) = site();
        site.environment("[policy]\nmin_healthy = \"200ms\"\nhealthy_deadline = \"1s\"\n");
        let one = site.publish("1.0.0", &[]);
        let two = site.publish("2.0.0", &[("bin/check", check)]);
        let mut agent = Agent::start(site.hands()).await;
        assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
        let report = agent.grant(2, Some(&two), Forward).await;
        assert!(matches!(status(&report), Undone(_)), "{check}");
        assert_eq!(failure(&report).kind, FailureKind::Check);
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_release_that_breaks_its_environment_is_undone() {
    let (_dir, site) = site();
    let flag = site.dir.join("flag");
    site.environment(&format!(
        "{QUICK}[checks.mail]\ntype = \"command\"\nrun = [\"/bin/sh\", \"-c\", \"test ! -e {}\"]\n",
        flag.display()
    ));
    let one = site.publish("1.0.0", &[]);
    let start = format!(
        "#!/bin/sh\nprintf 2.0.0 > $TAMER_SHARED/running\ntouch {}\n",
        flag.display()
    );
    let stop = format!("#!/bin/sh\nrm -f {}\n", flag.display());
    let two = site.publish("2.0.0", &[("bin/start", &start), ("bin/stop", &stop)]);
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    let report = agent.grant(2, Some(&two), Forward).await;
    assert!(matches!(status(&report), Undone(_)));
    assert_eq!(failure(&report).check, Some("mail".parse().unwrap()));
    assert_eq!(site.shared("running").as_deref(), Some("1.0.0"));
    agent.stop().await;
}

#[tokio::test]
async fn hooks_may_ask_for_a_moment_and_must_not_hang() {
    let (_dir, mut site) = site();
    let again = "#!/bin/sh\necho >> $TAMER_SHARED/asked\nprintf $TAMER_VERSION > $TAMER_SHARED/running\ntest $(wc -l < $TAMER_SHARED/asked) -ge 2 || exit 75\n";
    let one = site.publish("1.0.0", &[("bin/start", again)]);
    site.hook_timeout = "300ms";
    let hangs = site.publish("2.0.0", &[("bin/admit", "#!/bin/sh\nsleep 1000\n")]);
    let asks = site.publish("3.0.0", &[("bin/admit", "#!/bin/sh\nexit 75\n")]);
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    assert_eq!(site.shared("asked").unwrap().lines().count(), 2);
    for (counter, release, word) in [
        (2, hangs, "did not end within"),
        (3, asks, "run again later"),
    ] {
        let report = agent.grant(counter, Some(&release), Forward).await;
        assert!(matches!(status(&report), Undone(_)));
        assert!(
            failure(&report).message.contains(word),
            "{}",
            failure(&report)
        );
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_recovered_journal_knows_what_runs_and_voids_what_was_granted() {
    let (_dir, site) = site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Forward).await;
    agent.stop().await;
    log(&site);
    fs::write(site.dir.join("host/state/journal"), "torn").unwrap();
    let journal = tamer_agent::converge::recover_state(&site.config).unwrap();
    assert_eq!(journal.slots[0].committed, Some(one.clone()));
    let mut agent = Agent::start(site.hands()).await;
    // It may have failed before: nobody knows.
    agent
        .desired
        .send_replace(Some(granted(2, Some(&two), Forward)));
    let report = agent
        .until("staged", |it| it.staged.contains(&two.manifest))
        .await;
    assert_eq!((report.running, report.activation), (Some(one), None));
    assert_eq!(*status(&agent.grant(3, Some(&two), Forward).await), Done);
    agent.stop().await;
}

#[tokio::test]
async fn as_root_the_component_runs_as_its_user_and_cannot_touch_its_release() {
    let nobody = tamer_agent::process::User::named("nobody").unwrap();
    let (true, Some(nobody)) = (nix::unistd::geteuid().is_root(), nobody) else {
        return; // Only root can become somebody else.
    };
    let (_dir, mut site) = site();
    // /tmp is everybody's, and so no place for a root agent's releases.
    let home = tempfile::tempdir_in("/var/lib").unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    site.config.rootless = false;
    site.config.root_prefix = None;
    site.install_root = home.path().join("web").display().to_string();
    let bad = site.publish("1.0.0", &[]);
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(1, Some(&bad), Forward).await;
    assert_eq!(failure(&report).kind, FailureKind::NotAllowed);
    agent.stop().await;
    let allowed = format!(
        "roots = [\"{}\"]\nusers = [\"nobody\", \"shop\"]\n",
        home.path().display()
    );
    let allowed = tamer_core::text::parse("allowed", &allowed).unwrap();
    site.config.applications.insert(slot().application, allowed);
    site.user = Some("nobody");
    let start = "#!/bin/sh\nid -un > $TAMER_SHARED/who\nprintf 2.0.0 > $TAMER_SHARED/running\nrm -f $TAMER_RELEASE/page.html $TAMER_ROOT/current 2>/dev/null\ntrue\n";
    let two = site.publish("2.0.0", &[("bin/start", start)]);
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(2, Some(&two), Forward).await;
    assert_eq!(*status(&report), Done, "{report:?}");
    assert_eq!(site.shared("who").unwrap().trim(), nobody.name);
    assert_eq!(site.running().as_deref(), Some("2.0.0"));
    agent.stop().await;
}
