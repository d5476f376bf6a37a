//! Routers: real commands of a signed environment file, run once for each order, and what is said of them.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

mod site;

use site::{Agent, PATIENCE, QUICK, Site, a_site, granted};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tamer_agent::converge::{Request, RouteStanding};
use tamer_core::check::CheckResult;
use tamer_core::desired::{Desired, FailureKind, Purpose};
use tamer_core::generation::Generation;
use tamer_core::router::{DesiredRoute, RouteOrder, RouteReport};

/// A router that is a file: `switch` writes the pool into it, and a line into `runs`.
struct Box_ {
    _dir: tempfile::TempDir,
    site: Site,
    dir: PathBuf,
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Box_ {
    fn new(acceptance: &str) -> Self {
        let (_dir, mut site) = a_site();
        let dir = site.dir.join("router");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("pool"), "blue\n").unwrap();
        script(&dir.join("active"), "cat $TAMER_VAR_BOX/pool");
        let this = Self { _dir, dir, site };
        this.switch_does("echo $TAMER_POOL > $1/pool");
        let text = this.dir.display().to_string();
        site = this.site;
        site.config.variables.insert("box".to_owned(), text.clone());
        site.environment(&format!(
            "{QUICK}[place]\n\"shop/web\" = {{}}\n[pools.\"shop/web\"]\nblue = {{ pool = \"blue\" }}\n\
             green = {{ pool = \"green\" }}\n[router.\"shop/web\"]\nhosts = {{ role = \"lb\" }}\n\
             switch = [\"{text}/switch\", \"{{box}}\"]\nactive = [\"{text}/active\"]\ninterval = \"100ms\"\n{acceptance}"
        ));
        Self { site, ..this }
    }

    fn switch_does(&self, what: &str) {
        let note =
            "echo $TAMER_POOL $TAMER_ENVIRONMENT $TAMER_APPLICATION/$TAMER_COMPONENT >> $1/runs";
        script(&self.dir.join("switch"), &format!("{note}\n{what}"));
    }

    fn by_hand(&self, pool: &str) {
        fs::write(self.dir.join("pool"), pool).unwrap();
    }

    fn runs(&self) -> Vec<String> {
        let runs = fs::read_to_string(self.dir.join("runs")).unwrap_or_default();
        runs.lines().map(str::to_owned).collect()
    }

    async fn agent(&self) -> Agent {
        Agent::start(self.site.hands()).await
    }
}

fn order(id: u64, pool: &str) -> Option<RouteOrder> {
    Some(RouteOrder {
        id: Generation {
            epoch: 1,
            counter: id,
        },
        pool: pool.parse().unwrap(),
    })
}

fn told(counter: u64, send: Option<RouteOrder>, accept: Option<RouteOrder>) -> Desired {
    let route = DesiredRoute {
        component: "shop/web".parse().unwrap(),
        send,
        accept,
    };
    Desired {
        components: vec![],
        routes: vec![route],
        ..granted(counter, None, Purpose::Forward)
    }
}

async fn until(
    agent: &mut Agent,
    what: &str,
    wanted: impl Fn(&RouteReport) -> bool,
) -> RouteReport {
    let all = agent.reports.clone();
    let found = agent
        .reports
        .wait_for(|report| report.routes.first().is_some_and(&wanted));
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(report) => report.unwrap().routes[0].clone(),
        Err(_) => panic!("not {what} in time: {:#?}", *all.borrow()),
    }
}

fn sends(report: &RouteReport) -> Option<&str> {
    report
        .sends_to
        .as_ref()
        .map(tamer_core::id::PoolName::as_str)
}

#[tokio::test]
async fn a_router_is_switched_once_for_an_order_also_across_a_restart() {
    let it = Box_::new("");
    let mut agent = it.agent().await;
    agent.desired.send_replace(Some(told(1, None, None)));
    let seen = until(&mut agent, "looked at", |_| true).await;
    assert_eq!((sends(&seen), seen.answered.counter), (Some("blue"), 0));
    agent
        .desired
        .send_replace(Some(told(2, order(5, "green"), None)));
    let seen = until(&mut agent, "switched", |it| it.answered.counter == 5).await;
    assert_eq!((sends(&seen), &seen.failure), (Some("green"), &None));
    // Older orders are not acted on any more, nor is this one again.
    agent
        .desired
        .send_replace(Some(told(3, order(4, "blue"), None)));
    agent.stop().await;
    let mut agent = it.agent().await;
    agent
        .desired
        .send_replace(Some(told(4, order(5, "green"), None)));
    until(&mut agent, "looked at", |it| sends(it) == Some("green")).await;
    agent
        .desired
        .send_replace(Some(told(5, order(6, "green"), None)));
    let seen = until(&mut agent, "answered", |it| it.answered.counter == 6).await;
    assert_eq!(sends(&seen), Some("green"));
    assert_eq!(
        it.runs(),
        ["green staging shop/web"],
        "it sent there already"
    );
    agent.stop().await;
}

#[tokio::test]
async fn what_somebody_changes_by_hand_is_said_and_left_alone() {
    let it = Box_::new("");
    let mut agent = it.agent().await;
    agent
        .desired
        .send_replace(Some(told(1, order(1, "green"), None)));
    until(&mut agent, "switched", |it| sends(it) == Some("green")).await;
    it.by_hand("blue");
    let seen = until(&mut agent, "seen", |it| sends(it) == Some("blue")).await;
    assert_eq!((seen.answered.counter, seen.failure), (1, None));
    it.by_hand("Blue, mostly");
    let seen = until(&mut agent, "lost", |it| sends(it).is_none()).await;
    let why = seen.failure.unwrap().message;
    assert_eq!(
        why,
        "the router's `active` printed `Blue, mostly`, which is neither of blue and green"
    );
    assert_eq!(it.runs().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_switch_that_fails_is_not_tried_again_until_it_is_ordered_anew() {
    let it = Box_::new("");
    it.switch_does("echo the socket is gone; exit 3");
    let mut agent = it.agent().await;
    agent
        .desired
        .send_replace(Some(told(1, order(1, "green"), None)));
    let seen = until(&mut agent, "failed", |it| it.failure.is_some()).await;
    assert_eq!((sends(&seen), seen.answered.counter), (Some("blue"), 1));
    let failure = seen.failure.unwrap();
    assert!(
        failure.message.ends_with("ended with exit code 3"),
        "{failure}"
    );
    assert_eq!(failure.output, "the socket is gone\n");
    agent.stop().await;
    let mut agent = it.agent().await;
    agent
        .desired
        .send_replace(Some(told(2, order(1, "green"), None)));
    until(&mut agent, "looked at", |it| sends(it) == Some("blue")).await;
    assert_eq!(it.runs().len(), 1, "not even by another start");
    // One that ends well and does nothing is found out.
    it.switch_does("true");
    agent
        .desired
        .send_replace(Some(told(3, order(2, "green"), None)));
    let seen = until(&mut agent, "failed", |it| it.answered.counter == 2).await;
    let why = seen.failure.unwrap().message;
    assert_eq!(
        why,
        "the router's `switch` ended well, and it still sends to blue"
    );
    it.switch_does("echo $TAMER_POOL > $1/pool");
    agent
        .desired
        .send_replace(Some(told(4, order(3, "green"), None)));
    until(&mut agent, "switched", |it| sends(it) == Some("green")).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_pool_that_nobody_signed_is_refused_and_nothing_is_run() {
    let it = Box_::new("");
    let mut agent = it.agent().await;
    let evil = order(1, "evil");
    agent
        .desired
        .send_replace(Some(told(1, evil.clone(), evil)));
    let seen = until(&mut agent, "refused", |it| it.answered.counter == 1).await;
    let failure = seen.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Trust);
    assert_eq!(
        failure.message,
        "the environment's signed file has no pool `evil` of shop/web"
    );
    assert!(seen.acceptance.unwrap().failure.is_some());
    assert_eq!(it.runs(), [""; 0]);
    it.site.environment(QUICK);
    agent.stop().await;
    let mut agent = it.agent().await;
    agent
        .desired
        .send_replace(Some(told(2, order(2, "green"), None)));
    let seen = until(&mut agent, "refused", |it| it.failure.is_some()).await;
    assert!(
        seen.failure
            .unwrap()
            .message
            .ends_with("has no router of shop/web")
    );
    assert_eq!(it.runs(), [""; 0]);
    agent.stop().await;
}

/// What a person on the server is told of the one component that is routed for.
async fn standing(agent: &Agent) -> RouteStanding {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let asked = agent.requests.send(Request::Routes { reply }).await;
    asked.unwrap();
    let mut all = answer.await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test]
async fn a_person_on_the_server_is_told_what_is_wanted_what_is_so_since_when_and_what_failed() {
    let it = Box_::new("");
    let begun = tamer_kit::clock::now();
    let mut agent = it.agent().await;
    agent.desired.send_replace(Some(told(1, None, None)));
    until(&mut agent, "looked at", |it| sends(it) == Some("blue")).await;
    let first = standing(&agent).await;
    assert_eq!((&first.wanted, &first.failed), (&None, &None));
    assert_eq!(first.sends_to, Some("blue".parse().unwrap()));
    assert!(first.since.unwrap() >= begun);
    // A switch that fails leaves it where it was, since then.
    it.switch_does("echo the socket is gone; exit 3");
    let green = Some(told(2, order(1, "green"), None));
    agent.desired.send_replace(green.clone());
    until(&mut agent, "failed", |it| it.failure.is_some()).await;
    let failed = standing(&agent).await;
    assert_eq!(failed.wanted, Some("green".parse().unwrap()));
    assert_eq!(
        (&failed.sends_to, failed.since),
        (&first.sends_to, first.since)
    );
    let (at, why) = failed.failed.clone().unwrap();
    assert!(at >= first.since.unwrap());
    assert_eq!(why.output, "the socket is gone\n");
    // Another start knows of it by the journal.
    agent.stop().await;
    let mut agent = it.agent().await;
    agent.desired.send_replace(green);
    until(&mut agent, "looked at", |it| sends(it) == Some("blue")).await;
    assert_eq!(standing(&agent).await.failed, failed.failed);
    // One that ends well: since then, for another start, too.
    it.switch_does("echo $TAMER_POOL > $1/pool");
    let again = Some(told(3, order(2, "green"), None));
    agent.desired.send_replace(again.clone());
    until(&mut agent, "switched", |it| sends(it) == Some("green")).await;
    let switched = standing(&agent).await;
    assert_eq!(switched.sends_to, switched.wanted);
    assert!(switched.since.unwrap() >= at);
    agent.stop().await;
    let stopped = tamer_kit::clock::now();
    let mut agent = it.agent().await;
    agent.desired.send_replace(again);
    until(&mut agent, "looked at", |it| sends(it) == Some("green")).await;
    let later = standing(&agent).await;
    assert!(switched.since <= later.since && later.since.unwrap() <= stopped);
    // A person takes it elsewhere.
    it.by_hand("blue");
    until(&mut agent, "seen", |it| sends(it) == Some("blue")).await;
    let by_hand = standing(&agent).await;
    assert_eq!(by_hand.wanted, Some("green".parse().unwrap()));
    assert!(by_hand.since.unwrap() >= stopped);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_stops_in_the_middle_switches_again() {
    let it = Box_::new("");
    it.switch_does(
        "test -e $1/again || { touch $1/again; exec sleep 1000; }\necho $TAMER_POOL > $1/pool",
    );
    let mut agent = it.agent().await;
    agent
        .desired
        .send_replace(Some(told(1, order(1, "green"), None)));
    let begun = async {
        while !it.dir.join("again").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
    assert!(
        agent
            .reports
            .borrow_and_update()
            .routes
            .iter()
            .all(|it| it.answered.counter == 0)
    );
    agent.stop().await;
    // Without a word from the controller: what it wants is known.
    let mut agent = it.agent().await;
    let seen = until(&mut agent, "switched", |it| it.answered.counter == 1).await;
    assert_eq!((sends(&seen), &seen.failure), (Some("green"), &None));
    assert_eq!(it.runs().len(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn acceptance_checks_are_tried_on_the_pool_that_is_named() {
    let it = Box_::new(
        "[acceptance.\"shop/web\".home]\ntype = \"command\"\nrun = [\"/bin/test\", \"{pool}\", \"=\", \"green\"]\ninterval = \"30ms\"\n\
         [acceptance.\"shop/web\".told]\ntype = \"command\"\nrun = [\"/bin/sh\", \"-c\", \"test $TAMER_POOL = green\"]\ninterval = \"30ms\"\n",
    );
    let mut agent = it.agent().await;
    agent
        .desired
        .send_replace(Some(told(1, None, order(3, "green"))));
    let tried = |report: &RouteReport| report.acceptance.as_ref().map(|it| it.id.counter);
    let seen = until(&mut agent, "accepted", |it| tried(it) == Some(3)).await;
    let results = seen.acceptance.unwrap().results;
    assert_eq!(results.len(), 2);
    assert!(results.values().all(CheckResult::passed), "{results:?}");
    agent
        .desired
        .send_replace(Some(told(2, None, order(4, "blue"))));
    let seen = until(&mut agent, "refused", |it| tried(it) == Some(4)).await;
    let results = seen.acceptance.unwrap().results;
    assert!(!results.values().any(CheckResult::passed), "{results:?}");
    assert_eq!(it.runs(), [""; 0]);
    agent.stop().await;
}
