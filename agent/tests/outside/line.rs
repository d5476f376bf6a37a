//! The line to the controller.

use crate::world::{PATIENCE, Port};
use axum::Router;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tamer_agent::clock::ControllerClock;
use tamer_agent::identity::Shown;
use tamer_agent::link::Link;
use tamer_agent::metrics::Metrics;
use tamer_agent::transfer::Fetching;
use tamer_core::check::Results;
use tamer_core::desired::{ComponentReport, Desired, HostReport, Slot, Transfer};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::moment::Moment;
use tamer_kit::tls;
use tamer_proto::convert::take_transfers;
use tamer_proto::v1::controller_message::Kind;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn report(counter: u64) -> HostReport {
    HostReport {
        inspection: None,
        routes: vec![],
        generation: Generation { epoch: 1, counter },
        components: Vec::new(),
        checks: Results::new(),
    }
}

fn desired(counter: u64, environment: &str) -> Desired {
    Desired {
        inspect: None,
        routes: vec![],
        generation: Generation { epoch: 1, counter },
        environment: environment.parse().unwrap(),
        environment_version: 1,
        components: Vec::new(),
    }
}

/// An agent that is nothing but its line.
struct Agent {
    shown: watch::Sender<Shown>,
    reports: watch::Sender<HostReport>,
    fetching: watch::Sender<Fetching>,
    desired: watch::Receiver<Option<Desired>>,
    clock: Arc<ControllerClock>,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    fn start(port: &Port) -> Self {
        let keys = port.ca.keys();
        let (shown, certificate) = watch::channel(keys.shown().unwrap());
        let (reports, said) = watch::channel(report(1));
        let (wanted, desired) = watch::channel(None);
        let (fetching, told) = watch::channel(None);
        let (clock, metrics) = (Arc::new(ControllerClock::default()), Metrics::new());
        let stop = CancellationToken::new();
        let link = Link {
            welcomed: watch::channel(false).0,
            authorities: watch::channel(None).0,
            address: port.address.clone(),
            name: "web-1".parse().unwrap(),
            environment: "staging".parse().unwrap(),
            trust_root: Digest::new([5; 32]),
            shown: certificate,
            desired: wanted,
            reports: said,
            fetching: told,
            clock: Arc::clone(&clock),
            refused: Arc::default(),
            metrics: metrics.clone(),
        };
        let task = tokio::spawn(link.run(stop.clone()));
        Self {
            shown,
            reports,
            fetching,
            desired,
            clock,
            metrics,
            stop,
            task,
        }
    }

    async fn desired(&mut self) -> Desired {
        tokio::time::timeout(PATIENCE, self.desired.changed())
            .await
            .expect("desired state comes")
            .unwrap();
        self.desired.borrow_and_update().clone().unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn the_greeting_says_who_is_there_and_states_flow_both_ways() {
    let port = Port::open(Router::new()).await;
    let mut agent = Agent::start(&port);
    let mut line = port.line().await;
    assert_eq!(line.greeting.environment, "staging");
    assert_eq!(line.greeting.trust_root, [5; 32]);
    assert_eq!(
        (line.greeting.protocol_min, line.greeting.protocol_max),
        (1, 1)
    );
    assert_eq!(line.greeting.run_id.len(), 32);
    assert_eq!(line.greeting.report, Some((&report(1)).into()));
    assert_eq!(agent.metrics.connected.get(), 0);
    line.welcome(4_000_000_000_000).await;
    line.say(Kind::Desired((&desired(3, "staging")).into()))
        .await;
    assert_eq!(agent.desired().await, desired(3, "staging"));
    assert!(agent.clock.now() >= Moment(4_000_000_000_000));
    assert_eq!(agent.metrics.connected.get(), 1);
    // A hundred changes at once: the newest is what counts, and none is in its way.
    for n in 2..=100 {
        agent.reports.send_replace(report(n));
    }
    assert_eq!(line.report().await, Some((&report(100)).into()));
    agent.reports.send_replace(report(101));
    assert_eq!(line.report().await, Some((&report(101)).into()));
    agent.stop().await;
    assert_eq!(line.report().await, None, "a graceful end");
}

#[tokio::test]
async fn what_is_fetched_is_told_in_the_report_of_its_component() {
    let port = Port::open(Router::new()).await;
    let agent = Agent::start(&port);
    let mut line = port.line().await;
    line.welcome(1).await;
    let slot = Slot {
        application: "shop".parse().unwrap(),
        component: "web".parse().unwrap(),
        pool: Default::default(),
    };
    let with_web = HostReport {
        components: vec![ComponentReport {
            slot: slot.clone(),
            running: None,
            staged: Vec::new(),
            staging_failure: None,
            activation: None,
            checks: Results::new(),
            hold: None,
            drift: None,
            compared: true,
            repair: None,
            migration: None,
        }],
        ..report(2)
    };
    agent.reports.send_replace(with_web.clone());
    let plain: tamer_proto::v1::HostReport = (&with_web).into();
    while line.report().await.unwrap() != plain {}
    for done in [10, 20] {
        let transfer = Transfer {
            release: Digest::new([7; 32]),
            done,
            total: 20,
            rate: 5,
        };
        agent.fetching.send_replace(Some((slot.clone(), transfer)));
        let mut told = line.report().await.unwrap();
        let taken = take_transfers(&mut told).unwrap();
        assert_eq!(
            (taken, told),
            (vec![(slot.clone(), transfer)], plain.clone())
        );
    }
    agent.fetching.send_replace(None);
    assert_eq!(line.report().await.unwrap(), plain);
    agent.stop().await;
}

#[tokio::test]
async fn a_line_that_is_closed_is_made_anew_with_the_newest_report() {
    let port = Port::open(Router::new()).await;
    let agent = Agent::start(&port);
    let first = port.line().await;
    first.welcome(1).await;
    let run_id = first.greeting.run_id.clone();
    drop(first);
    let second = port.line().await;
    assert_eq!(second.greeting.run_id, run_id, "it is the same run");
    second.welcome(2).await;
    // Refused once: that is no reason to give up.
    port.answers.refuse.store(true, Ordering::SeqCst);
    agent.reports.send_replace(report(7));
    drop(second);
    let third = port.line().await;
    assert_eq!(third.greeting.report, Some((&report(7)).into()));
    assert!(!port.answers.refuse.load(Ordering::SeqCst));
    assert_eq!(agent.metrics.reconnects.get(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_new_certificate_makes_a_new_line() {
    let port = Port::open(Router::new()).await;
    let agent = Agent::start(&port);
    let first = port.line().await;
    first.welcome(1).await;
    let keys = port.ca.keys();
    agent.shown.send_replace(keys.shown().unwrap());
    let _second = port.line().await;
    let certificate = tls::first_certificate(&keys.identity).unwrap().to_vec();
    let shown = port.peers.lock().unwrap().clone();
    assert_eq!(shown.len(), 2);
    assert_ne!(shown[0], Some(certificate.clone()));
    assert_eq!(shown[1], Some(certificate));
    agent.stop().await;
}

#[tokio::test]
async fn desired_states_that_are_not_to_be_believed_are_counted() {
    let port = Port::open(Router::new()).await;
    let mut agent = Agent::start(&port);
    agent.reports.send_replace(report(5));
    let mut line = port.line().await;
    line.welcome(1).await;
    if line.greeting.report != Some((&report(5)).into()) {
        assert_eq!(line.report().await, Some((&report(5)).into()));
    }
    let mut malformed: tamer_proto::v1::Desired = (&desired(6, "staging")).into();
    malformed.environment = "../production".to_owned();
    line.say(Kind::Desired(malformed)).await;
    line.say(Kind::Desired((&desired(6, "production")).into()))
        .await;
    agent.desired().await;
    line.say(Kind::Desired((&desired(4, "staging")).into()))
        .await;
    agent.desired().await;
    line.say(Kind::Desired((&desired(6, "staging")).into()))
        .await;
    assert_eq!(agent.desired().await, desired(6, "staging"));
    let text = agent.metrics.text();
    for reason in ["malformed", "other_environment", "older"] {
        let series = format!("desired_states_refused_total{{result=\"{reason}\"}} 1");
        assert!(text.contains(&series), "{reason}: {text}");
    }
    assert!(
        text.contains("tamer_agent_desired_states_total 4"),
        "{text}"
    );
    agent.stop().await;
}
