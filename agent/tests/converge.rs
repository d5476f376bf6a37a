//! The whole of the agent's hands, in one process, with real files and real hooks: what a controller
//! asks for and what it is told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use async_trait::async_trait;
use site::{Agent, PATIENCE, QUICK, a_site, failure, granted, log, slot, status};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tamer_agent::checks::Surroundings;
use tamer_agent::source::{Probe, Real};
use tamer_core::check::{CheckResult, Checks, Results};
use tamer_core::desired::{ActivationStatus, FailureKind, Purpose, Slot};

use ActivationStatus::{Done, Refused, Undone};
use Purpose::{Back, Forward};

#[tokio::test]
async fn forward_and_back_run_the_right_hooks_of_the_right_release() {
    let (_dir, site) = a_site();
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
    // A restart does not forget how it ended.
    let journal = fs::read_to_string(site.config.state.join("journal")).unwrap();
    assert!(journal.contains("\"status\":\"done\""));
    agent.stop().await;
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.ended(3).await), Done);
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
    let (_dir, site) = a_site();
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
    let (_dir, site) = a_site();
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

/// Without that, the next agent would take up again what was undone.
#[tokio::test]
async fn what_was_undone_has_not_ended_before_the_journal_says_so() {
    let (_dir, site) = a_site();
    let one = site.publish("1.0.0", &[]);
    let in_the_way = site.config.state.join(".journal.new");
    let start = format!("#!/bin/sh\nmkdir {}\nexit 3\n", in_the_way.display());
    let broken = site.publish("2.0.0", &[("bin/start", &start)]);
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Forward).await;
    let desired = granted(2, Some(&broken), Forward);
    agent.desired.send_replace(Some(desired.clone()));
    let unwritten = ActivationStatus::Working("end: the journal cannot be written".to_owned());
    let said = |it: &tamer_core::desired::ComponentReport| {
        (it.activation.as_ref()).is_some_and(|it| it.status == unwritten)
    };
    agent.until("unwritten", said).await;
    assert_eq!(site.running().as_deref(), Some("1.0.0"), "it is back");
    fs::remove_dir(&in_the_way).unwrap();
    // Whatever makes the agent look again.
    agent.desired.send_modify(|_| ());
    assert!(matches!(status(&agent.ended(2).await), Undone(_)));
    agent.stop().await;
    log(&site);
    let mut agent = Agent::start(site.hands()).await;
    agent.desired.send_replace(Some(desired));
    assert!(matches!(status(&agent.ended(2).await), Undone(_)));
    assert_eq!(log(&site), [""; 0], "nothing is done again");
    agent.stop().await;
}

#[tokio::test]
async fn a_failed_release_is_undone_once_and_for_all() {
    let (_dir, site) = a_site();
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
    let (_dir, site) = a_site();
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
    let report = agent.until("drift seen", |it| it.drift.is_some()).await;
    let drift = report.drift.unwrap();
    // Of another content, and writable.
    assert_eq!(
        drift.to_string(),
        "page.html: changed, page.html: of another mode"
    );
    assert_eq!(drift.total, 2);
    assert_eq!(*status(&agent.grant(3, Some(&two), Back).await), Done);
    agent.stop().await;
}

#[tokio::test]
async fn tampered_archives_and_foreign_manifests_leave_nothing_behind() {
    let (_dir, site) = a_site();
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
    // Another release's manifest, genuine, in place of the one asked for.
    let (two, three) = (site.publish("2.0.0", &[]), site.publish("3.0.0", &[]));
    let store = site.dir.join("store");
    fs::copy(
        store.join(format!("{}.json", three.manifest)),
        store.join(format!("{}.json", two.manifest)),
    )
    .unwrap();
    let report = agent.grant(2, Some(&two), Forward).await;
    assert_eq!(failure(&report).kind, FailureKind::Trust);
    agent.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_the_release_and_the_old_one_serves_on() {
    let (_dir, mut site) = a_site();
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
    let (_dir, site) = a_site();
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
    let (_dir, site) = a_site();
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

#[tokio::test]
async fn as_root_the_component_runs_as_its_user_and_cannot_touch_its_release() {
    let nobody = tamer_agent::process::User::named("nobody").unwrap();
    let (true, Some(nobody)) = (nix::unistd::geteuid().is_root(), nobody) else {
        return; // Only root can become somebody else.
    };
    let (_dir, mut site) = a_site();
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

#[tokio::test]
async fn without_hooks_and_checks_a_switch_is_a_flip() {
    let (_dir, mut site) = a_site();
    site.bare = true;
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    assert_eq!(*status(&agent.grant(2, Some(&two), Forward).await), Done);
    assert_eq!(*status(&agent.grant(3, Some(&one), Back).await), Done);
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    assert_eq!(log(&site), [""; 0]);
    agent.stop().await;
}

/// The checks of this host, except that the second try of all fails.
#[derive(Default)]
struct Flaky(AtomicU32);

#[async_trait]
impl Probe for Flaky {
    async fn run(&self, checks: &Checks, around: &Surroundings) -> Results {
        let mut results = Real.run(checks, around).await;
        if !checks.is_empty() && self.0.fetch_add(1, Ordering::SeqCst) == 1 {
            for result in results.values_mut() {
                *result = CheckResult::Failed("a packet was lost".to_owned());
            }
        }
        results
    }
}

#[tokio::test]
async fn one_lost_packet_at_rest_is_not_reported() {
    let (_dir, site) = a_site();
    let one = site.publish("1.0.0", &[]);
    let probe = Arc::new(Flaky::default());
    let mut hands = site.hands();
    hands.probe = Arc::clone(&probe) as Arc<dyn Probe>;
    let mut agent = Agent::start(hands).await;
    // The first try is the one after the switch.
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    let report = agent
        .until("checked at rest", |it| !it.checks.is_empty())
        .await;
    let home = &report.checks[&"home".parse().unwrap()];
    assert_eq!(*home, CheckResult::Passed);
    assert_eq!(probe.0.load(Ordering::SeqCst), 3);
    agent.stop().await;
}

#[tokio::test]
async fn a_host_that_comes_into_another_pool_keeps_what_it_runs() {
    let (_dir, site) = a_site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("1.1.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    let green = Slot {
        pool: "green".parse().unwrap(),
        ..slot()
    };
    let told = |counter, run: &_, grant: bool| {
        let mut desired = granted(counter, Some(run), Purpose::Forward);
        desired.components[0].slot = green.clone();
        if !grant {
            desired.components[0].grant = None;
        }
        desired
    };
    agent.desired.send_replace(Some(told(2, &one, false)));
    let moved = |report: &tamer_core::desired::HostReport, to: &_| {
        report.components.len() == 1
            && report.components[0].slot == green
            && report.components[0].running.as_ref() == Some(to)
    };
    let seen = agent.reports.wait_for(|report| moved(report, &one));
    tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap();
    // And goes on from there, in the same place.
    agent.desired.send_replace(Some(told(3, &two, true)));
    let seen = agent.reports.wait_for(|report| moved(report, &two));
    tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap();
    assert_eq!(site.running().as_deref(), Some("1.1.0"));
    agent.stop().await;
}
