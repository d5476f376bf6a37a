//! A grant that an agent of its own process carries out, again and again from the same beginning.

use super::{Agent, DATABASE, QUICK, Site, granted};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use tamer_core::desired::{ActivationStatus, ComponentReport, Desired, Purpose};
use tamer_core::release::ReleaseRef;

/// Where the child finds its site. Without it the test `child` has nothing to do.
const SITE: &str = "TAMER_TEST_SITE";

/// What the test `child` of a program does that uses a [`Scenario`]: it is that program, run again.
pub(crate) async fn child() {
    let Ok(dir) = std::env::var(SITE) else { return };
    let site = Site::at(Path::new(&dir));
    let text = fs::read(site.dir.join("desired.json")).unwrap();
    let desired: Desired = serde_json::from_slice(&text).unwrap();
    carry_out(&site, desired).await;
}

/// Runs an agent in this process until the grant has ended and what was taken back has left the disk, and
/// keeps its report.
pub(crate) async fn carry_out(site: &Site, desired: Desired) {
    let counter = desired.generation.counter;
    let mut agent = Agent::start(site.hands()).await;
    let migrates = desired.components[0].migrate.is_some();
    let grant = desired.components[0].grant.as_ref();
    let goes_back = grant.is_some_and(|grant| grant.purpose == Purpose::Back);
    let repairs = desired.components[0].repair.is_some();
    agent.desired.send_replace(Some(desired));
    let report = if migrates {
        agent.migrated(counter).await
    } else if repairs {
        agent
            .until("put back", |it| it.compared && it.drift.is_none())
            .await
    } else {
        agent.ended(counter).await
    };
    fs::write(
        site.dir.join("report.json"),
        serde_json::to_vec(&report).unwrap(),
    )
    .unwrap();
    if goes_back {
        let releases = site.root().join("releases");
        tamer_system::until("what was taken back to be pruned", || {
            (fs::read_dir(&releases).unwrap().count() == 1).then_some(())
        });
    }
    agent.stop().await;
}

/// A site as it is before the scenario, to begin from again and again.
pub(crate) struct Scenario {
    pub(crate) site: Site,
    _dir: tempfile::TempDir,
    pub(crate) good: [ReleaseRef; 2],
    pub(crate) bad: ReleaseRef,
}

pub(crate) fn cp(from: &Path, to: &Path) {
    clear(to);
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

/// Removes a directory, if it is there.
pub(crate) fn clear(dir: &Path) {
    if dir.exists() {
        // Releases are read-only, and only root may remove from such directories.
        let opened = Command::new("chmod").arg("-R").arg("u+w").arg(dir).status();
        assert!(opened.unwrap().success());
        fs::remove_dir_all(dir).unwrap();
    }
}

impl Scenario {
    /// Two good releases and a bad one in the store; the first `deployed` good ones have been run.
    pub(crate) fn new(deployed: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::at(dir.path());
        site.environment(QUICK);
        let good = ["1.0.0", "2.0.0"].map(|version| site.publish(version, &[]));
        let bad = site.publish("3.0.0", &[("bin/check", "#!/bin/sh\nexit 1\n")]);
        let this = Self {
            site,
            _dir: dir,
            good,
            bad,
        };
        for (n, release) in this.good.iter().take(deployed).enumerate() {
            let desired = granted(n as u64 + 1, Some(release), Purpose::Forward);
            assert!(this.run(&desired, None).success());
            assert_eq!(
                this.report().activation.unwrap().status,
                ActivationStatus::Done
            );
        }
        cp(&this.site.dir.join("host"), &this.site.dir.join("before"));
        this
    }

    /// A release in the store that carries the programs of a database; nothing has been run.
    pub(crate) fn with_database() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut site = Site::at(dir.path());
        site.environment(QUICK);
        site.schema = true;
        let release = site.publish("1.0.0", &DATABASE);
        cp(&site.dir.join("host"), &site.dir.join("before"));
        Self {
            site,
            _dir: dir,
            good: [release.clone(), release.clone()],
            bad: release,
        }
    }

    pub(crate) fn reset(&self) {
        cp(&self.site.dir.join("before"), &self.site.dir.join("host"));
        let _ = fs::remove_file(self.site.dir.join("report.json"));
    }

    /// What runs an agent until the grant has ended.
    pub(crate) fn command(&self, desired: &Desired) -> Command {
        let text = serde_json::to_vec(desired).unwrap();
        fs::write(self.site.dir.join("desired.json"), text).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child", "--quiet"])
            .env(SITE, &self.site.dir)
            .env_remove("TAMER_FAILPOINT");
        command
    }

    /// Runs an agent until the grant has ended, or until it dies at the failpoint.
    pub(crate) fn run(&self, desired: &Desired, failpoint: Option<&str>) -> ExitStatus {
        let mut command = self.command(desired);
        if let Some(failpoint) = failpoint {
            command.env("TAMER_FAILPOINT", failpoint);
        }
        let output = command.output().unwrap();
        let died = output.status.signal() == Some(9);
        if !output.status.success() && !died {
            panic!("{}", String::from_utf8_lossy(&output.stdout));
        }
        output.status
    }

    pub(crate) fn report(&self) -> ComponentReport {
        serde_json::from_slice(&fs::read(self.site.dir.join("report.json")).unwrap()).unwrap()
    }

    /// Disk, journal, report and what the hooks left agree.
    pub(crate) fn check(
        &self,
        at: &str,
        end: Option<&str>,
        ended: &impl Fn(&ActivationStatus) -> bool,
    ) {
        let report = self.report();
        let status = report.activation.unwrap().status;
        assert!(ended(&status), "{at}: {status:?}");
        assert_eq!(self.site.running().as_deref(), end, "{at}: current");
        assert_eq!(
            self.site.shared("running").as_deref(),
            end,
            "{at}: what was started"
        );
        let said = report.running.map(|it| it.version.to_string());
        assert_eq!(said.as_deref(), end, "{at}: report");
        let journal = fs::read_to_string(self.site.config.state.join("journal")).unwrap();
        let json: serde_json::Value =
            serde_json::from_str(journal.split_once('\n').unwrap().1).unwrap();
        let slot = &json["slots"][0];
        assert!(slot["activation"].is_null(), "{at}: {slot}");
        assert_eq!(slot["committed"]["version"].as_str(), end, "{at}: journal");
        for entry in fs::read_dir(self.site.root().join("releases")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // What is not kept is removed after the report, and at the latest at the next start.
            if name.starts_with(".gone-") {
                continue;
            }
            assert!(!name.starts_with('.'), "{at}: {name} was left");
        }
    }
}
