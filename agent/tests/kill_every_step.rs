//! The agent is killed before and after every step of a first deploy, a deploy, a deploy that fails and
//! a rollback: with real processes, real files and real hooks. At each such moment `current` leads to
//! one whole release, the old or the new one, and the next start ends where it should and says so.
//!
//! The killed agent is this test's own program, run again as the test [`child`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::{Agent, QUICK, Site, granted};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use tamer_core::desired::{ActivationStatus, ComponentReport, Desired, FailureKind, Purpose};
use tamer_core::release::ReleaseRef;

/// Where the child finds its site. Without it the test [`child`] has nothing to do.
const SITE: &str = "TAMER_TEST_SITE";

#[tokio::test]
async fn child() {
    let Ok(dir) = std::env::var(SITE) else { return };
    let site = Site::at(Path::new(&dir));
    let text = fs::read(site.dir.join("desired.json")).unwrap();
    let desired: Desired = serde_json::from_slice(&text).unwrap();
    let counter = desired.generation.counter;
    let mut agent = Agent::start(site.hands()).await;
    agent.desired.send_replace(Some(desired));
    let report = agent.ended(counter).await;
    fs::write(
        site.dir.join("report.json"),
        serde_json::to_vec(&report).unwrap(),
    )
    .unwrap();
    agent.stop().await;
}

/// A site as it is before the scenario, to begin from again and again.
struct Scenario {
    site: Site,
    _dir: tempfile::TempDir,
    good: [ReleaseRef; 2],
    bad: ReleaseRef,
}

fn cp(from: &Path, to: &Path) {
    if to.exists() {
        // Releases are read-only, and only root may remove from such directories.
        let opened = Command::new("chmod").arg("-R").arg("u+w").arg(to).status();
        assert!(opened.unwrap().success());
        fs::remove_dir_all(to).unwrap();
    }
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

impl Scenario {
    /// Two good releases and a bad one in the store; the first `deployed` good ones have been run.
    fn new(deployed: usize) -> Self {
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

    fn reset(&self) {
        cp(&self.site.dir.join("before"), &self.site.dir.join("host"));
        let _ = fs::remove_file(self.site.dir.join("report.json"));
    }

    /// Runs an agent until the grant has ended, or until it dies at the failpoint.
    fn run(&self, desired: &Desired, failpoint: Option<&str>) -> ExitStatus {
        let text = serde_json::to_vec(desired).unwrap();
        fs::write(self.site.dir.join("desired.json"), text).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child", "--quiet"])
            .env(SITE, &self.site.dir)
            .env_remove("TAMER_FAILPOINT");
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

    fn report(&self) -> ComponentReport {
        serde_json::from_slice(&fs::read(self.site.dir.join("report.json")).unwrap()).unwrap()
    }

    /// Kills the agent before and after each of `steps`, looks, starts it again, and looks again.
    fn kill_everywhere(
        &self,
        desired: &Desired,
        steps: &[&str],
        between: &[Option<&str>],
        end: Option<&str>,
        ended: impl Fn(&ActivationStatus) -> bool,
    ) {
        for step in steps {
            for side in ["before", "after"] {
                let at = format!("{step}:{side}");
                self.reset();
                let status = self.run(desired, Some(&at));
                assert_eq!(status.signal(), Some(9), "{at} was never reached");
                let running = self.site.running();
                assert!(between.contains(&running.as_deref()), "{at}: {running:?}");
                assert!(self.run(desired, None).success());
                self.check(&at, end, &ended);
            }
        }
    }

    /// Disk, journal, report and what the hooks left agree.
    fn check(&self, at: &str, end: Option<&str>, ended: &impl Fn(&ActivationStatus) -> bool) {
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
            assert!(!name.starts_with('.'), "{at}: {name} was left");
        }
    }
}

const STAGE: [&str; 4] = ["verify", "fetch", "unpack", "link-shared"];
const BEFORE: [&str; 2] = ["pre-checks", "pre-activate"];
const LEAVE: [&str; 2] = ["drain", "stop"];
const CHANGE: [&str; 5] = ["switch", "start", "validate", "admit", "commit"];

fn done(status: &ActivationStatus) -> bool {
    *status == ActivationStatus::Done
}

#[test]
fn kill_at_every_step_of_a_first_deploy() {
    let scenario = Scenario::new(0);
    let desired = granted(1, Some(&scenario.good[0]), Purpose::Forward);
    let steps = [&STAGE[..], &BEFORE, &CHANGE].concat();
    let between = [None, Some("1.0.0")];
    scenario.kill_everywhere(&desired, &steps, &between, Some("1.0.0"), done);
}

#[test]
fn kill_at_every_step_of_a_deploy() {
    let scenario = Scenario::new(1);
    let desired = granted(2, Some(&scenario.good[1]), Purpose::Forward);
    let steps = [&STAGE[..], &BEFORE, &LEAVE, &CHANGE].concat();
    let between = [Some("1.0.0"), Some("2.0.0")];
    scenario.kill_everywhere(&desired, &steps, &between, Some("2.0.0"), done);
}

#[test]
fn kill_at_every_step_of_a_rollback() {
    let scenario = Scenario::new(2);
    let desired = granted(3, Some(&scenario.good[0]), Purpose::Back);
    let steps = [&LEAVE[..], &CHANGE].concat();
    let between = [Some("1.0.0"), Some("2.0.0")];
    scenario.kill_everywhere(&desired, &steps, &between, Some("1.0.0"), done);
    // Going back has nothing better to go to: it is taken up however often it is interrupted.
    scenario.reset();
    for _ in 0..4 {
        assert_eq!(
            scenario.run(&desired, Some("start:before")).signal(),
            Some(9)
        );
    }
    assert!(scenario.run(&desired, None).success());
    scenario.check("start:before, four times", Some("1.0.0"), &done);
}

#[test]
fn kill_at_every_step_of_a_deploy_that_fails_and_goes_back() {
    let scenario = Scenario::new(1);
    let desired = granted(2, Some(&scenario.bad), Purpose::Forward);
    let steps = [
        "validate",
        "undo-stop",
        "undo-switch",
        "undo-start",
        "undo-validate",
        "undo-admit",
        "undo-commit",
    ];
    let between = [Some("1.0.0"), Some("3.0.0")];
    let undone = |status: &ActivationStatus| matches!(status, ActivationStatus::Undone(why) if why.kind == FailureKind::Check);
    // `validate` fails, so there is no mark after it.
    let at = "validate:before";
    scenario.reset();
    assert_eq!(scenario.run(&desired, Some(at)).signal(), Some(9));
    assert!(scenario.run(&desired, None).success());
    scenario.check(at, Some("1.0.0"), &undone);
    scenario.kill_everywhere(&desired, &steps[1..], &between, Some("1.0.0"), undone);
}

#[test]
fn kill_twice_is_undone_and_never_tried_again() {
    for (deployed, end) in [(1, Some("1.0.0")), (0, None)] {
        let scenario = Scenario::new(deployed);
        let desired = granted(2, Some(&scenario.good[1]), Purpose::Forward);
        for at in ["switch:after", "start:after"] {
            assert_eq!(scenario.run(&desired, Some(at)).signal(), Some(9));
        }
        let undone = |status: &ActivationStatus| {
            matches!(status, ActivationStatus::Undone(why)
                if why.kind == FailureKind::Interrupted && why.message.contains("after step `start`"))
        };
        for _ in 0..2 {
            assert!(scenario.run(&desired, None).success());
            scenario.check("twice", end, &undone);
        }
    }
}
