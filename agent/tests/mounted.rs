//! Something is mounted in a release: neither pruning nor making it anew empties that. Needs root, to mount.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::{Agent, Site, a_site, granted, noted, status};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_core::desired::ActivationStatus::{Done, Refused};
use tamer_core::desired::Purpose;
use tamer_core::drift::Inspect;

/// A file system in memory with a file in it, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tamer-test"])
            .arg(at)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            fs::write(at.join("mine"), "precious").unwrap();
            return Some(Self(at.to_owned()));
        }
        let said = b"SKIPPED: needs root, to mount a small tmpfs\n";
        std::io::stderr().write_all(said).unwrap();
        None
    }

    fn is_whole(&self) -> bool {
        fs::read(self.0.join("mine")).is_ok_and(|it| it == b"precious")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The directory of a release.
fn release(site: &Site, version: &str) -> PathBuf {
    let all = fs::read_dir(site.root().join("releases")).unwrap();
    let mut all = all.map(|it| it.unwrap().path());
    all.find(|it| it.to_str().unwrap().contains(&format!("-{version}-")))
        .unwrap()
}

#[tokio::test]
async fn what_is_mounted_in_a_release_survives_its_pruning() {
    noted::begin();
    let (_dir, mut site) = a_site();
    site.config.keep = 1;
    let all = ["1.0.0", "2.0.0", "3.0.0"].map(|it| site.publish(it, &[]));
    let mut agent = Agent::start(site.hands()).await;
    for (counter, run) in (1..).zip(&all[..2]) {
        agent.grant(counter, Some(run), Purpose::Forward).await;
    }
    let old = release(&site, "1.0.0");
    let Some(mounted) = Mounted::at(&old.join("bin")) else {
        return;
    };
    let report = agent.grant(3, Some(&all[2]), Purpose::Forward).await;
    assert_eq!(*status(&report), Done);
    let refusals = || {
        let text = noted::text();
        let lines = text.lines().filter(|it| it.contains("cannot prune"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let said = tamer_system::until("it to be refused", || refusals().pop());
    let named = format!(
        "{0} is mounted there. Next: umount {0}",
        mounted.0.display()
    );
    assert!(said.contains(&named), "{said}");
    // It is tried again after a while, and not in every round.
    for id in 4..54 {
        let mut desired = granted(id, Some(&all[2]), Purpose::Forward);
        desired.components[0].grant = None;
        desired.inspect = Some(Inspect { id, full: false });
        agent.desired.send_replace(Some(desired));
        agent.inspected(id).await;
    }
    assert!(refusals().len() < 25, "{}", refusals().len());
    assert!(mounted.is_whole());
    drop(mounted);
    tamer_system::until("it to be pruned", || (!old.exists()).then_some(()));
    agent.stop().await;
}

#[tokio::test]
async fn a_release_in_which_something_is_mounted_is_not_made_anew_and_says_why() {
    let (_dir, site) = a_site();
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    let mut agent = Agent::start(site.hands()).await;
    let mut desired = granted(1, Some(&one), Purpose::Forward);
    desired.components[0].stage = vec![two.clone()];
    agent.desired.send_replace(Some(desired));
    agent.ended(1).await;
    agent
        .until("staged", |it| it.staged.contains(&two.manifest))
        .await;
    let ahead = release(&site, "2.0.0");
    let Some(mounted) = Mounted::at(&ahead.join("bin")) else {
        return;
    };
    let page = ahead.join("page.html");
    fs::set_permissions(&page, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&page, "by hand").unwrap();
    let report = agent.grant(2, Some(&two), Purpose::Forward).await;
    assert!(matches!(status(&report), Refused(_)), "{report:?}");
    let named = format!(
        "{0} is mounted there. Next: umount {0}",
        mounted.0.display()
    );
    let said = |report: &tamer_core::desired::ComponentReport| {
        let staging = report.staging_failure.as_ref();
        staging.is_some_and(|it| it.message.contains(&named))
    };
    agent.until("refused by name", said).await;
    assert!(mounted.is_whole());
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    drop(mounted);
    agent
        .until("made anew", |it| it.staged.contains(&two.manifest))
        .await;
    let report = agent.grant(3, Some(&two), Purpose::Forward).await;
    assert_eq!(*status(&report), Done);
    assert_eq!(site.running().as_deref(), Some("2.0.0"));
    agent.stop().await;
}
