//! What was changed by hand on a server: recorded, named, adopted and put back, by agents with real files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::edited::{answered, change_unseen, told};
use site::scenario::Scenario;
use site::{Agent, QUICK, Site, a_site, failure, granted, status};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;
use tamer_core::desired::ActivationStatus::{Done, Refused};
use tamer_core::desired::{ComponentReport, Desired, FailureKind, Purpose};
use tamer_core::digest::Digest;
use tamer_core::drift::{CURRENT, Change, Inspect, NAMED};

#[tokio::test]
async fn child() {
    site::scenario::child().await;
}

/// Edits what runs, so that its size stays.
fn edit(site: &Site, with: u8) {
    let page = site.root().join("current/page.html");
    fs::set_permissions(&page, fs::Permissions::from_mode(0o644)).unwrap();
    let size = fs::metadata(&page).unwrap().len();
    fs::write(&page, vec![with; size as usize]).unwrap();
}

fn digest(report: &ComponentReport) -> Digest {
    report.drift.as_ref().unwrap().digest
}

/// Every second it is looked.
fn an_attentive_site() -> (tempfile::TempDir, Site) {
    let (dir, mut site) = a_site();
    site.config.drift_interval = tamer_core::moment::Span::secs(1);
    (dir, site)
}

fn records(site: &Site) -> Vec<PathBuf> {
    let dir = site.config.state.join("records/shop.web.main");
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn a_release_is_recorded_and_a_damaged_record_is_made_anew() {
    let (_dir, site) = a_site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    let recorded = records(&site);
    assert_eq!(recorded.len(), 1);
    agent.stop().await;
    for damage in ["", "damaged"] {
        match damage {
            "" => fs::remove_file(&recorded[0]).unwrap(),
            damage => fs::write(&recorded[0], damage).unwrap(),
        }
        let mut agent = Agent::start(site.hands()).await;
        let report = agent.until("looked", |it| it.compared).await;
        assert_eq!(
            report.drift, None,
            "what Tamer links and writes is no drift"
        );
        agent.stop().await;
        let made = fs::read(&recorded[0]).unwrap();
        assert!(made.starts_with(b"tamer-record 1 "));
    }
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(
        *status(&agent.grant(2, Some(&two), Purpose::Forward).await),
        Done
    );
    agent.stop().await;
    assert_eq!(records(&site).len(), 2);
}

#[tokio::test]
async fn a_drift_that_was_adopted_is_overwritten_and_a_further_one_is_not() {
    let (_dir, site) = an_attentive_site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    edit(&site, b'a');
    let adopted = digest(&agent.until("seen", |it| it.drift.is_some()).await);
    edit(&site, b'b');
    let desired = told(2, &two, |it| it.components[0].adopted = Some(adopted));
    agent.desired.send_replace(Some(desired));
    let report = agent.ended(2).await;
    assert!(matches!(status(&report), Refused(_)));
    let said = &failure(&report).message;
    assert!(
        said.starts_with("edited on the server: page.html"),
        "{said}"
    );
    assert_eq!(failure(&report).kind, FailureKind::Drift);
    assert!(said.contains("Next: tamer drift --host web-1, "), "{said}");
    edit(&site, b'a');
    let desired = told(3, &two, |it| it.components[0].adopted = Some(adopted));
    agent.desired.send_replace(Some(desired));
    assert_eq!(*status(&agent.ended(3).await), Done);
    agent.stop().await;
}

/// The interval is an hour.
#[tokio::test]
async fn a_release_that_was_edited_before_it_ran_does_not_run_and_is_made_anew() {
    let (_dir, site) = a_site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    let desired = told(1, &one, |it| it.components[0].stage = vec![two.clone()]);
    agent.desired.send_replace(Some(desired));
    agent.ended(1).await;
    agent
        .until("staged", |it| it.staged.contains(&two.manifest))
        .await;
    let releases = fs::read_dir(site.root().join("releases")).unwrap();
    let mut releases = releases.map(|it| it.unwrap().path());
    let ahead = releases
        .find(|it| it.to_str().unwrap().contains("-2.0.0-"))
        .unwrap();
    let page = ahead.join("page.html");
    let deployed = fs::read(&page).unwrap();
    fs::set_permissions(&page, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&page, "by hand").unwrap();
    let report = agent.grant(2, Some(&two), Purpose::Forward).await;
    assert!(
        matches!(status(&report), Refused(why) if why.message.contains("page.html")),
        "{report:?}"
    );
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    let report = agent.grant(3, Some(&two), Purpose::Forward).await;
    assert_eq!(*status(&report), Done);
    let page = site.root().join("current/page.html");
    assert_eq!(fs::read(page).unwrap(), deployed);
    agent.stop().await;
}

/// Nobody asks for it, and nobody waits for it.
#[tokio::test]
async fn what_is_kept_and_what_the_agent_adds_are_looked_at_again_and_made_again() {
    let (_dir, site) = an_attentive_site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    let kept = fs::canonicalize(site.root().join("current")).unwrap();
    let desired = told(2, &two, |it| it.components[0].keep = vec![one.manifest]);
    agent.desired.send_replace(Some(desired));
    agent.ended(2).await;
    let (page, own) = (kept.join("page.html"), ".tamer/environment");
    let deployed = fs::read(&page).unwrap();
    fs::set_permissions(&page, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&page, "by hand").unwrap();
    let running = fs::canonicalize(site.root().join("current")).unwrap();
    let told = fs::read(running.join(own)).unwrap();
    fs::write(running.join(own), "TAMER_VERSION=9").unwrap();
    let releases = site.root().join("releases");
    let again = || {
        let mut pages = fs::read_dir(&releases).unwrap().flatten();
        let one = pages.find(|it| it.file_name().to_string_lossy().contains("-1.0.0-"));
        let page = one.map(|it| it.path().join("page.html"));
        page.is_some_and(|page| fs::read(page).is_ok_and(|it| it == deployed))
            && fs::read(running.join(own)).unwrap() == told
    };
    tamer_system::until("both to be made again", || again().then_some(()));
    fs::remove_file(running.join(own)).unwrap();
    tamer_system::until("it to be made again", || {
        running.join(own).exists().then_some(())
    });
    assert_eq!(site.running().as_deref(), Some("2.0.0"));
    agent.stop().await;
}

/// The interval is an hour. Going back waits for no look; `current` was touched, so it is looked afterwards.
#[tokio::test]
async fn what_was_gone_back_to_is_looked_at_at_once() {
    let (_dir, site) = a_site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    let page = fs::canonicalize(site.root().join("current/page.html")).unwrap();
    agent.grant(2, Some(&two), Purpose::Forward).await;
    fs::set_permissions(&page, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&page, "by hand").unwrap();
    let report = agent.grant(3, Some(&one), Purpose::Back).await;
    assert_eq!(*status(&report), Done);
    agent.until("seen", |it| it.drift.is_some()).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_is_touched_is_looked_at_at_once() {
    let (_dir, site) = a_site();
    let one = site.publish("1.0.0", &[]);
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    agent.until("looked", |it| it.compared).await;
    edit(&site, b'a');
    let report = agent.until("heard", |it| it.drift.is_some()).await;
    assert_eq!(report.drift.unwrap().differences[0].path, "page.html");
    fs::remove_file(site.root().join("current")).unwrap();
    agent
        .until("seen to be gone", |it| it.running.is_none())
        .await;
    agent.stop().await;
}

/// Nothing that a person put in the place of `current` is overwritten: it is named, and led back when that is asked for.
#[tokio::test]
async fn a_current_that_leads_elsewhere_is_named_and_led_back_and_what_was_there_is_kept() {
    let (_dir, site) = a_site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    let (current, aside) = (
        site.root().join("current"),
        site.root().join("current.by-hand"),
    );
    for (counter, change) in [(2, Change::Target), (5, Change::Kind)] {
        fs::remove_file(&current).unwrap();
        match change {
            Change::Target => std::os::unix::fs::symlink("/tmp", &current).unwrap(),
            _ => fs::create_dir(&current).unwrap(),
        }
        let report = agent.grant(counter, Some(&two), Purpose::Forward).await;
        assert!(matches!(status(&report), Refused(_)), "{report:?}");
        let said = &failure(&report).message;
        assert!(
            said.starts_with("edited on the server: `current` is "),
            "{said}"
        );
        let mut desired = told(counter + 1, &one, |it| it.components[0].grant = None);
        desired.inspect = Some(Inspect {
            id: counter,
            full: false,
        });
        agent.desired.send_replace(Some(desired));
        assert_eq!(answered(&mut agent, counter).await, [CURRENT]);
        let report = agent.until("named", |it| it.drift.is_some()).await;
        let drift = report.drift.as_ref().unwrap();
        assert!(drift.is_of_current() && drift.differences[0].change == change);
        let desired = told(counter + 2, &one, |it| {
            it.components[0].grant = None;
            it.components[0].repair = Some(drift.digest);
        });
        agent.desired.send_replace(Some(desired));
        agent
            .until("led back", |it| it.drift.is_none() && it.running.is_some())
            .await;
        assert_eq!(site.running().as_deref(), Some("1.0.0"));
        match change {
            Change::Target => fs::remove_file(&aside).unwrap(),
            _ => fs::remove_dir(&aside).unwrap(),
        }
    }
    let report = agent.grant(8, Some(&two), Purpose::Forward).await;
    assert_eq!(*status(&report), Done);
    // Going back is not kept away by it.
    fs::remove_file(&current).unwrap();
    fs::create_dir(&current).unwrap();
    let report = agent.grant(9, Some(&one), Purpose::Back).await;
    assert_eq!(*status(&report), Done);
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    assert!(aside.is_dir());
    agent.stop().await;
}

#[tokio::test]
async fn a_policy_may_only_warn() {
    let (_dir, site) = a_site();
    site.environment(&format!("{QUICK}on_drift = \"warn\"\n"));
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    edit(&site, b'a');
    assert_eq!(
        *status(&agent.grant(2, Some(&two), Purpose::Forward).await),
        Done
    );
    agent.stop().await;
}

#[tokio::test]
async fn what_was_deployed_is_put_back_and_nothing_that_nobody_has_seen() {
    let (_dir, site) = an_attentive_site();
    let one = site.publish("1.0.0", &[]);
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    let inode = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(site.root().join("current").join(path))
            .unwrap()
            .ino()
    };
    let directory = inode(".");
    edit(&site, b'a');
    let seen = digest(&agent.until("seen", |it| it.drift.is_some()).await);
    let repair = |counter, digest| {
        let desired = told(counter, &one, |it| {
            it.components[0].grant = None;
            it.components[0].repair = Some(digest);
        });
        agent.desired.send_replace(Some(desired));
    };
    repair(2, seen);
    agent
        .until("put back", |it| it.compared && it.drift.is_none())
        .await;
    assert_eq!(site.running().as_deref(), Some("1.0.0"), "it is whole");
    assert_eq!(
        inode("."),
        directory,
        "who works there goes on working there"
    );
    // Another change, of which nobody has spoken.
    edit(&site, b'c');
    let other = agent.until("seen again", |it| it.drift.is_some()).await;
    assert_ne!(digest(&other), seen);
    // The store is gone: the failure is told, and asking again tries again.
    let store = site.dir.join("store");
    let away = site.dir.join("away");
    tamer_kit::durable::rename(&store, &away).unwrap();
    let desired = told(3, &one, |it| {
        it.components[0].grant = None;
        it.components[0].repair = Some(digest(&other));
    });
    agent.desired.send_replace(Some(desired));
    let report = agent.until("not put back", |it| it.repair.is_some()).await;
    assert_eq!(report.repair.unwrap().drift, digest(&other));
    tamer_kit::durable::rename(&away, &store).unwrap();
    let desired = told(4, &one, |it| {
        it.components[0].grant = None;
        it.components[0].repair = Some(digest(&other));
    });
    agent.desired.send_replace(Some(desired));
    let report = agent
        .until("put back", |it| it.compared && it.drift.is_none())
        .await;
    assert_eq!(report.repair, None);
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    // What was changed behind a manifest that was changed is seen only when that is right, and waits for a word
    // of its own.
    edit(&site, b'd');
    let manifest = site.root().join("current/.tamer/manifest.json");
    fs::set_permissions(&manifest, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&manifest, "{}").unwrap();
    let names = |report: &ComponentReport, path: &str| {
        let drift = report.drift.as_ref();
        drift.is_some_and(|it| it.differences.iter().any(|it| it.path == path))
    };
    let hiding = agent
        .until("seen", |it| names(it, ".tamer/manifest.json"))
        .await;
    let desired = told(5, &one, |it| {
        it.components[0].grant = None;
        it.components[0].repair = Some(digest(&hiding));
    });
    agent.desired.send_replace(Some(desired));
    agent
        .until("what was hidden", |it| names(it, "page.html"))
        .await;
    let page = fs::read(site.root().join("current/page.html")).unwrap();
    assert!(page.iter().all(|it| *it == b'd'), "nobody has seen that");
    agent.stop().await;
}

#[tokio::test]
async fn whoever_asks_is_told_all_of_it_as_it_is_now() {
    let (_dir, site) = a_site();
    let one = site.publish("1.0.0", &[]);
    let mut agent = Agent::start(site.hands()).await;
    let mut counter = 0;
    let mut asks = |agent: &Agent, id: Option<u64>| {
        counter += 1;
        let mut desired = granted(counter, Some(&one), Purpose::Forward);
        desired.inspect = id.map(|id| Inspect { id, full: false });
        agent.desired.send_replace(Some(desired));
    };
    // Before anything runs there is nothing to differ.
    asks(&agent, Some(7));
    agent.ended(1).await;
    assert_eq!(answered(&mut agent, 7).await, Vec::<String>::new());
    for n in 0..50 {
        fs::write(site.root().join(format!("current/{n:02}")), "x").unwrap();
    }
    // What was answered is not answered again, so another number is another wish.
    asks(&agent, Some(8));
    let named = answered(&mut agent, 8).await;
    assert_eq!(named.len(), 50, "{named:?}");
    edit(&site, b'x');
    asks(&agent, Some(9));
    assert!(
        answered(&mut agent, 9)
            .await
            .contains(&"page.html".to_owned())
    );
    let report = agent.until("seen", |it| it.drift.is_some()).await;
    let drift = report.drift.unwrap();
    assert_eq!(
        drift.differences.len(),
        NAMED,
        "an ordinary report is short"
    );
    assert!(drift.total > 50);
    asks(&agent, None);
    agent
        .reports
        .wait_for(|it| it.inspection.is_none())
        .await
        .unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn what_the_file_system_does_not_tell_is_found_by_reading_all_of_it() {
    let (_dir, mut site) = a_site();
    let one = site.publish("1.0.0", &[]);
    let mut agent = Agent::start(site.hands()).await;
    agent.grant(1, Some(&one), Purpose::Forward).await;
    agent.stop().await;
    change_unseen(&site, &["page.html"]);
    let asks = |counter, id, full| {
        let mut desired = granted(counter, Some(&one), Purpose::Forward);
        desired.inspect = Some(Inspect { id, full });
        Some(desired)
    };
    // The full pass is due tomorrow.
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.until("looked", |it| it.compared).await;
    assert_eq!(report.drift, None, "the fast pass cannot see it");
    agent.desired.send_replace(asks(2, 1, false));
    assert_eq!(answered(&mut agent, 1).await, Vec::<String>::new());
    agent.desired.send_replace(asks(3, 2, true));
    assert_eq!(answered(&mut agent, 2).await, ["page.html"]);
    agent.stop().await;
    // The same by itself.
    change_unseen(&site, &["page.html"]);
    site.config.drift_full_interval = tamer_core::moment::Span::secs(1);
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.until("read", |it| it.drift.is_some()).await;
    assert_eq!(report.drift.unwrap().differences[0].path, "page.html");
    agent.stop().await;
}

/// Whenever an agent dies in a repair, the release can be deployed over, and nothing is left of the repair.
#[test]
fn kill_at_every_step_of_a_repair() {
    let scenario = Scenario::new(1);
    let site = &scenario.site;
    for at in ["repair:before", "repair:unpacked", "repair:after"] {
        scenario.reset();
        edit(site, b'a');
        let seen = digest(&seen_by_a_start(site));
        let desired = told(2, &scenario.good[0], |it| {
            it.components[0].grant = None;
            it.components[0].repair = Some(seen);
        });
        assert_eq!(scenario.run(&desired, Some(at)).signal(), Some(9), "{at}");
        // It goes on by itself: the desired state is in the journal.
        assert_eq!(seen_by_a_start(site).drift, None, "{at}");
        assert_eq!(site.running().as_deref(), Some("1.0.0"), "{at}");
        for entry in fs::read_dir(site.root().join("releases")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "{at}: {name} was left");
        }
    }
}

/// A release that is kept and was edited is there until the one that takes its place is, whole.
#[test]
fn kill_at_every_step_of_making_a_kept_release_anew() {
    let scenario = Scenario::new(2);
    let site = &scenario.site;
    let kept = || {
        let releases = fs::read_dir(site.root().join("releases")).unwrap();
        let paths = releases.map(|it| it.unwrap().path());
        let mut ones = paths.filter(|it| {
            it.file_name()
                .unwrap()
                .to_string_lossy()
                .contains("-1.0.0-")
        });
        let one = ones.next().expect("the kept release is gone");
        assert_eq!(ones.next(), None);
        one.join("page.html")
    };
    let deployed = fs::read(kept()).unwrap();
    let desired = told(3, &scenario.good[1], |it| {
        it.components[0].grant = None;
        it.components[0].stage = vec![scenario.good[0].clone()];
    });
    for step in ["verify", "unpack", "link-shared", "exchange"] {
        for side in ["before", "after"] {
            let at = format!("{step}:{side}");
            scenario.reset();
            fs::set_permissions(kept(), fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(kept(), "by hand").unwrap();
            assert_eq!(scenario.run(&desired, Some(&at)).signal(), Some(9), "{at}");
            let exchanged = at == "exchange:after";
            let there = fs::read(kept()).unwrap();
            assert_eq!(there == deployed, exchanged, "{at}");
            assert!(exchanged || there == b"by hand", "{at}");
            made_by_a_start(site, &desired, &|| fs::read(kept()).unwrap() == deployed);
        }
    }
}

/// Runs it on this thread alone.
fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

/// Starts an agent, and tells it again what is desired, as a controller does: it is written with what is written next,
/// so one that was killed soon may not have it. Until something is made.
fn made_by_a_start(site: &Site, desired: &Desired, made: &dyn Fn() -> bool) {
    on_this_thread(async {
        let mut agent = Agent::start(site.hands()).await;
        agent.desired.send_replace(Some(desired.clone()));
        agent.until("looked", |it| it.compared).await;
        // Not blocking: the agent works on this thread.
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let made = async {
            while !made() {
                looks.tick().await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(45), made).await;
        done.expect("it is not made");
        agent.stop().await;
    });
}

/// What an agent reports once it has looked and, where it was asked to, has put back.
fn seen_by_a_start(site: &Site) -> ComponentReport {
    on_this_thread(async {
        let mut agent = Agent::start(site.hands()).await;
        let asked = fs::read_to_string(site.config.state.join("journal")).unwrap();
        let asked = asked.contains("\"repair\"");
        let report = agent
            .until("looked", |it| it.compared && (!asked || it.drift.is_none()))
            .await;
        agent.stop().await;
        report
    })
}
