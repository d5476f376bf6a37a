//! The agent exchanges itself, under a systemd in miniature: the real `agent-trial`, the real journal and
//! `current`, and an agent that is started anew from whatever `current` leads to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::restarts::Restarts;
use site::{Agent, Site, failure, granted, status};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tamer_agent::allowed::AGENT_UNIT;
use tamer_agent::config::Allowed;
use tamer_agent::own::Own;
use tamer_core::desired::{ActivationStatus, ComponentReport, FailureKind, Purpose};
use tamer_core::release::ReleaseRef;
use tokio::sync::watch;

use ActivationStatus::{Done, Refused, Undone, Working};
use Purpose::{Back, Forward};

/// A host whose agent is a component of its own.
struct Host {
    site: Site,
    _dir: tempfile::TempDir,
    /// How often the unit was started.
    starts: u32,
}

/// How a run of the agent ended.
enum Ended {
    /// It asked to be restarted.
    Restart,
    /// The grant has ended.
    Final(Box<ComponentReport>),
}

impl Host {
    /// `None` where the tests do not run as root: only root's directories are good enough.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir_in("/root").unwrap();
        let mut site = Site::at(dir.path());
        site.environment(site::QUICK);
        site.install_root = format!("{}/agent", dir.path().display());
        site.config.rootless = false;
        site.config.root_prefix = None;
        site.config.applications = [(
            "shop".parse().unwrap(),
            Allowed {
                roots: vec![dir.path().to_owned()],
                users: vec!["root".to_owned()],
                units: vec![AGENT_UNIT.to_owned()],
                new_privileges: false,
                capabilities: Default::default(),
            },
        )]
        .into();
        site.agent = true;
        site.user = Some("root");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self {
            site,
            _dir: dir,
            starts: 0,
        })
    }

    fn trial(&self) -> PathBuf {
        self.site.config.state.join("trial")
    }

    /// What systemd runs around the agent.
    fn agent_trial(&self, what: &str, result: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("package/agent-trial");
        let done = Command::new(script)
            .arg(what)
            .env("TAMER_AGENT_STATE", &self.site.config.state)
            .env("SERVICE_RESULT", result)
            .status();
        assert!(done.unwrap().success(), "agent-trial {what}");
    }

    /// The version that `current` leads to, read as systemd's start script would.
    fn version(&self) -> Option<String> {
        let page = self.site.root().join("current/page.html");
        let text = fs::read_to_string(page).ok()?;
        Some(text.trim().trim_start_matches("shop ").to_owned())
    }

    /// Starts the agent that is there, as the unit does. It is welcomed unless `silent`.
    async fn start(&mut self, silent: bool) -> (Agent, watch::Receiver<bool>) {
        self.agent_trial("begin", "");
        self.starts += 1;
        let current = fs::canonicalize(self.site.root().join("current"));
        let program = current.map_or("/usr/bin".into(), |it| it.join("bin"));
        let (restart, restarted) = watch::channel(false);
        let mut hands = self.site.hands();
        let own = Own::unit(
            program.join("tamer-agent"),
            &self.site.config.state,
            watch::channel(!silent).1,
        );
        hands.own = Arc::new(own);
        hands.services = Arc::new(Restarts(restart));
        (Agent::start(hands).await, restarted)
    }

    /// Runs the agent until it wants to be restarted or the grant has ended.
    async fn run(&mut self, counter: u64, run: &ReleaseRef, purpose: Purpose) -> Ended {
        let (mut agent, mut restarted) = self.start(false).await;
        agent
            .desired
            .send_replace(Some(granted(counter, Some(run), purpose)));
        let ended = tokio::select! {
            report = agent.ended(counter) => Ended::Final(Box::new(report)),
            _ = restarted.wait_for(|it| *it) => Ended::Restart,
        };
        agent.stop().await;
        if matches!(ended, Ended::Restart) {
            self.agent_trial("settle", "success");
        }
        ended
    }

    /// Gives a grant, restarts the agent as often as it wants, and gives the report of the end.
    async fn grant(&mut self, counter: u64, run: &ReleaseRef, purpose: Purpose) -> ComponentReport {
        for _ in 0..10 {
            if let Ended::Final(report) = self.run(counter, run, purpose).await {
                return *report;
            }
        }
        panic!("it is restarted for ever")
    }

    fn no_trial_is_left(&self) {
        let left = fs::read_dir(self.trial()).into_iter().flatten().count();
        assert_eq!(left, 0, "files of the trial");
    }
}

#[tokio::test]
async fn a_new_agent_takes_over_and_goes_back_when_asked() {
    let Some(mut host) = Host::new() else { return };
    let one = host.site.publish("1.0.0", &[]);
    let two = host.site.publish("2.0.0", &[]);
    // The first one takes over from the package.
    assert_eq!(*status(&host.grant(1, &one, Forward).await), Done);
    assert_eq!((host.version(), host.starts), (Some("1.0.0".into()), 2));
    assert_eq!(*status(&host.grant(2, &two, Forward).await), Done);
    assert_eq!((host.version(), host.starts), (Some("2.0.0".into()), 4));
    host.no_trial_is_left();
    let report = host.grant(3, &one, Back).await;
    assert_eq!(*status(&report), Done);
    assert_eq!((host.version(), host.starts), (Some("1.0.0".into()), 6));
    assert_eq!(report.running, Some(one));
    host.no_trial_is_left();
}

#[tokio::test]
async fn an_agent_that_dies_or_stays_silent_is_taken_back_by_systemd_alone() {
    let Some(mut host) = Host::new() else { return };
    let one = host.site.publish("1.0.0", &[]);
    assert_eq!(*status(&host.grant(1, &one, Forward).await), Done);
    for (counter, result, silent, word) in [
        (2, "exit-code", false, "it ended by itself: exit-code"),
        (3, "timeout", true, "did not check in"),
        (4, "watchdog", true, "it ended by itself: watchdog"),
    ] {
        let bad = host.site.publish(&format!("{counter}.0.0"), &[]);
        assert!(matches!(
            host.run(counter, &bad, Forward).await,
            Ended::Restart
        ));
        if silent {
            let (mut agent, _) = host.start(true).await;
            agent
                .until("waiting to be welcomed", |it| {
                    let activation = it.activation.as_ref();
                    activation.is_some_and(|it| it.status == Working("check-in".to_owned()))
                })
                .await;
            assert!(host.trial().join("running").exists());
            agent.stop().await;
        } else {
            // It never came so far as to do anything.
            host.agent_trial("begin", "");
        }
        assert_eq!(host.version(), Some(format!("{counter}.0.0")));
        host.agent_trial("settle", result);
        assert_eq!(host.version().as_deref(), Some("1.0.0"), "{result}");
        let report = host.grant(counter, &bad, Forward).await;
        assert!(matches!(status(&report), Undone(_)), "{report:?}");
        let why = failure(&report);
        assert_eq!(why.kind, FailureKind::Service);
        assert!(why.message.contains(word), "{why}");
        assert_eq!(why.output, "its last words");
        assert_eq!(report.running.as_ref(), Some(&one));
        host.no_trial_is_left();
    }
}

#[tokio::test]
async fn the_first_one_that_fails_leaves_the_agent_of_the_package() {
    let Some(mut host) = Host::new() else { return };
    let bad = host.site.publish("1.0.0", &[]);
    assert!(matches!(host.run(1, &bad, Forward).await, Ended::Restart));
    // The power fails during the trial: that counts against it too.
    host.agent_trial("begin", "");
    let report = host.grant(1, &bad, Forward).await;
    assert!(failure(&report).message.contains("the server went down"));
    assert_eq!((host.version(), report.running), (None, None));
    host.no_trial_is_left();
}

#[tokio::test]
async fn a_new_agent_whose_own_look_at_the_host_fails_hands_back() {
    let Some(mut host) = Host::new() else { return };
    let one = host.site.publish("1.0.0", &[]);
    assert_eq!(*status(&host.grant(1, &one, Forward).await), Done);
    let script = "#!/bin/sh\necho 'it does not work here'\nexit 1\n";
    let bad = host.site.publish("2.0.0", &[("bin/validate", script)]);
    let report = host.grant(2, &bad, Forward).await;
    assert!(matches!(status(&report), Undone(_)), "{report:?}");
    assert!(
        failure(&report).output.contains("does not work here"),
        "{report:?}"
    );
    assert_eq!((host.version(), host.starts), (Some("1.0.0".into()), 5));
    host.no_trial_is_left();
}

/// One that nobody could take back is not exchanged at all, and does not say that it was.
#[tokio::test]
async fn an_agent_that_systemd_does_not_watch_over_refuses_to_be_exchanged() {
    let Some(host) = Host::new() else { return };
    let one = host.site.publish("1.0.0", &[]);
    let mut hands = host.site.hands();
    let why = "it was started by hand".to_owned();
    hands.own = Arc::new(Own::alone(why, &host.site.config.state));
    let mut agent = Agent::start(hands).await;
    let report = agent.grant(1, Some(&one), Forward).await;
    let Refused(why) = status(&report) else {
        panic!("{report:?}")
    };
    assert_eq!(why.kind, FailureKind::NotAllowed);
    assert!(why.message.contains("it was started by hand"), "{why}");
    assert_eq!((host.version(), report.running), (None, None));
    agent.stop().await;
    host.no_trial_is_left();
}

#[tokio::test]
async fn it_takes_no_hooks_that_stop_or_start_it() {
    let Some(mut host) = Host::new() else { return };
    host.site.agent = false;
    let text = format!("root\"\nservice = \"{}", AGENT_UNIT);
    host.site.user = Some(Box::leak(text.into_boxed_str()));
    let bad = host.site.publish("1.0.0", &[]);
    let report = host.grant(1, &bad, Forward).await;
    let Refused(why) = status(&report) else {
        panic!("{report:?}")
    };
    assert!(why.message.contains("it can have no `drain` hook"), "{why}");
}

/// Stopped or without power at every step in turn, with or without systemd's last word: one whole release
/// runs in the end, the journal agrees, and no trial is left.
#[tokio::test]
async fn kill_the_agent_at_every_step_of_its_own_exchange() {
    for power_fails in [false, true] {
        for at in 1..40 {
            let Some(mut host) = Host::new() else { return };
            let one = host.site.publish("1.0.0", &[]);
            assert_eq!(*status(&host.grant(1, &one, Forward).await), Done);
            let two = host.site.publish("2.0.0", &[]);
            let whole = run_killed(&mut host, &two, at, power_fails).await;
            let report = host.grant(2, &two, Forward).await;
            let running = host.version();
            match status(&report) {
                Done => assert_eq!(running.as_deref(), Some("2.0.0")),
                Undone(_) | Refused(_) => assert_eq!(running.as_deref(), Some("1.0.0")),
                other => panic!("{at}: {other:?}"),
            }
            assert_eq!(
                report.running.map(|it| it.version.to_string()),
                running,
                "{at}"
            );
            host.no_trial_is_left();
            if whole {
                break;
            }
            assert!(at < 39, "it never ends");
        }
    }
}

/// Runs until the `at`-th report, then kills. Says whether it had ended before that.
async fn run_killed(host: &mut Host, run: &ReleaseRef, at: u32, power_fails: bool) -> bool {
    let mut seen = 0;
    loop {
        let (mut agent, mut restarted) = host.start(false).await;
        agent
            .desired
            .send_replace(Some(granted(2, Some(run), Forward)));
        loop {
            let ended = agent
                .reports
                .borrow_and_update()
                .components
                .iter()
                .any(|it| {
                    let activation = it.activation.as_ref();
                    activation.is_some_and(|it| it.grant.counter == 2 && it.status.is_final())
                });
            seen += 1;
            if ended || seen >= at {
                agent.stop().await;
                if !power_fails {
                    host.agent_trial("settle", "signal");
                }
                return ended;
            }
            tokio::select! {
                _ = agent.reports.changed() => {}
                _ = restarted.wait_for(|it| *it) => break,
            }
        }
        agent.stop().await;
        host.agent_trial("settle", "success");
    }
}
