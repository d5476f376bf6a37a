//! When a release holds, what hooks may do, and what a person does on the server itself: in one process,
//! with real files and real hooks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::{Agent, QUICK, a_site, failure, granted, log, slot, status};
use std::fs;
use tamer_agent::converge::{Request, rollback_locally};
use tamer_core::desired::{ActivationStatus, FailureKind, Purpose};
use tamer_kit::durable;
use tokio::sync::oneshot;

use ActivationStatus::{Done, Refused, Undone};
use Purpose::Forward;

const HOLDS_ONCE: &str =
    "#!/bin/sh\necho >> $TAMER_SHARED/tries\ntest $(wc -l < $TAMER_SHARED/tries) -eq 1\n";
const NOW_AND_THEN: &str =
    "#!/bin/sh\necho >> $TAMER_SHARED/tries\ntest $(($(wc -l < $TAMER_SHARED/tries) % 2)) -eq 1\n";

#[tokio::test]
async fn a_rollback_on_the_server_holds_until_it_is_released() {
    let (_dir, site) = a_site();
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
async fn a_release_must_hold_without_a_break() {
    for check in [HOLDS_ONCE, NOW_AND_THEN] {
        let (_dir, site) = a_site();
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
    let (_dir, site) = a_site();
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
    let (_dir, mut site) = a_site();
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
    let (_dir, site) = a_site();
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
