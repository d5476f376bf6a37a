//! A release's unit is watched from its start on: what systemd is scripted to say here decides whether the
//! release stays. Real files and real journal; systemd itself is the lab's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use async_trait::async_trait;
use site::{Agent, Site, a_hosts_site, failure, status};
use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tamer_agent::host::services::Services;
use tamer_agent::host::unit::Observation;
use tamer_core::desired::{ActivationStatus, Failure, FailureKind, Purpose};

use ActivationStatus::{Done, Undone};
use Purpose::{Back, Forward};

const UNIT: &str = "service = \"shop-web.service\"\n";

/// systemd, as far as a unit goes: it says what is next in the script, and the last of it again and again.
#[derive(Default)]
struct Scripted {
    script: Mutex<VecDeque<Observation>>,
    done: Mutex<Vec<String>>,
}

impl Scripted {
    fn says(&self, script: &[Observation]) {
        *self.script.lock().unwrap() = script.iter().cloned().collect();
    }

    /// What was done to the unit since this was asked last.
    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.done.lock().unwrap())
    }

    fn note(&self, what: &str, unit: &str) {
        self.done.lock().unwrap().push(format!("{what} {unit}"));
    }
}

#[async_trait]
impl Services for Scripted {
    async fn restart(&self, unit: &str, _: Duration) -> Result<(), Failure> {
        self.note("restart", unit);
        Ok(())
    }
    async fn reload(&self, unit: &str, _: Duration) -> Result<(), Failure> {
        self.note("reload", unit);
        Ok(())
    }
    async fn stop(&self, unit: &str) -> Result<(), Failure> {
        self.note("stop", unit);
        Ok(())
    }
    async fn hand_over(&self, unit: &str) -> Result<(), Failure> {
        panic!("{unit} is not the agent's")
    }
    async fn look(&self, _: &str) -> Result<Observation, Failure> {
        let mut script = self.script.lock().unwrap();
        let next = match script.len() {
            1 => script.front().cloned(),
            _ => script.pop_front(),
        };
        Ok(next.expect("a script"))
    }
    async fn log(&self, unit: &str, invocation: &str) -> String {
        format!("{unit} said in its run {invocation}: out of tulips\n")
    }
}

fn unit(active: &str, sub: &str, run: &str, restarts: u32) -> Observation {
    Observation::parse(&format!(
        "LoadState=loaded\nActiveState={active}\nSubState={sub}\nType=notify\nResult=success\n\
         NRestarts={restarts}\nInvocationID={run}\nConditionResult=yes\n"
    ))
}

fn up(run: &str) -> Observation {
    unit("active", "running", run, 0)
}

/// A host, an agent on it and its systemd; `None` where the tests are not root's: a rootless agent has none.
async fn with_unit(more: &'static str) -> Option<(tempfile::TempDir, Site, Arc<Scripted>, Agent)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let (dir, mut site) = a_hosts_site();
    site.environment("[policy]\nmin_healthy = \"600ms\"\nhealthy_deadline = \"20s\"\n");
    site.more = more;
    let systemd = Arc::new(Scripted::default());
    let mut hands = site.hands();
    hands.services = Arc::clone(&systemd) as Arc<dyn Services>;
    let agent = Agent::start(hands).await;
    Some((dir, site, systemd, agent))
}

#[tokio::test]
async fn a_unit_that_dies_while_it_must_stay_up_takes_its_release_with_it() {
    let Some((_dir, site, systemd, mut agent)) = with_unit(UNIT).await else {
        return;
    };
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    systemd.says(&[unit("activating", "start", "a", 0), up("a")]);
    let report = agent.grant(1, Some(&one), Forward).await;
    assert_eq!(*status(&report), Done, "{report:?}");
    assert_eq!(systemd.done(), ["restart shop-web.service"]);
    // Up at first, and started again by systemd at the second look; the way back comes up after that.
    systemd.says(&[up("b"), unit("active", "running", "c", 1), up("d")]);
    let report = agent.grant(2, Some(&two), Forward).await;
    assert!(matches!(status(&report), Undone(_)), "{report:?}");
    let why = failure(&report);
    assert_eq!(why.kind, FailureKind::Service);
    assert_eq!(
        why.message,
        "shop-web.service ended by itself, and systemd has started it again"
    );
    assert!(
        why.output.contains("in its run b: out of tulips"),
        "{why:?}"
    );
    assert_eq!(systemd.done(), ["restart shop-web.service"; 2]);
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    agent.stop().await;
}

#[tokio::test]
async fn one_that_restarted_before_the_first_look_has_not_started() {
    let Some((_dir, site, systemd, mut agent)) = with_unit(UNIT).await else {
        return;
    };
    let one = site.publish("1.0.0", &[]);
    systemd.says(&[
        unit("active", "running", "b", 1),
        unit("inactive", "dead", "", 0),
    ]);
    let report = agent.grant(1, Some(&one), Forward).await;
    assert!(matches!(status(&report), Undone(_)), "{report:?}");
    // A first deploy is left stopped.
    let done = ["restart shop-web.service", "stop shop-web.service"];
    assert_eq!(systemd.done(), done);
    agent.stop().await;
}

#[tokio::test]
async fn going_back_forgives_a_death_on_the_way_up() {
    let Some((_dir, site, systemd, mut agent)) = with_unit(UNIT).await else {
        return;
    };
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    systemd.says(&[up("a")]);
    agent.grant(1, Some(&one), Forward).await;
    systemd.says(&[up("b")]);
    agent.grant(2, Some(&two), Forward).await;
    let wait = unit("activating", "auto-restart", "c", 0);
    systemd.says(&[wait, unit("active", "running", "d", 1)]);
    let report = agent.grant(3, Some(&one), Back).await;
    assert_eq!(*status(&report), Done, "{report:?}");
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
    agent.stop().await;
}

#[tokio::test]
async fn a_component_that_wants_it_is_reloaded_and_its_run_goes_on() {
    let more = "service = \"shop-web.service\"\nreload = true\n";
    let Some((_dir, site, systemd, mut agent)) = with_unit(more).await else {
        return;
    };
    let (one, two) = (site.publish("1.0.0", &[]), site.publish("2.0.0", &[]));
    // It had been restarted before: of no account, since nobody starts it now.
    systemd.says(&[unit("active", "running", "a", 3)]);
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    assert_eq!(*status(&agent.grant(2, Some(&two), Forward).await), Done);
    assert_eq!(systemd.done(), ["reload shop-web.service"; 2]);
    let said = fs::read_to_string(site.root().join("shared/running")).unwrap();
    assert_eq!(said, "2.0.0");
    agent.stop().await;
}
