//! A database is being migrated: what its programs print is told to people and goes into no log, and the agent is not
//! exchanged meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::restarts::Restarts;
use site::{Agent, DATABASE, QUICK, Site, a_site, granted, noted};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tamer_agent::allowed::AGENT_UNIT;
use tamer_agent::own::Own;
use tamer_core::desired::{Desired, HostReport, Purpose};
use tamer_core::drift::Inspect;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::schema::{MigrationOrder, MigrationStatus, Task};
use tokio::sync::watch;

/// Desired state number `counter`: the first component's database is to be brought from 41 to 42.
fn migrating(counter: u64, by: &ReleaseRef) -> Desired {
    let mut desired = granted(counter, None, Purpose::Forward);
    let id = desired.generation;
    let component = &mut desired.components[0];
    component.grant = None;
    component.stage = vec![by.clone()];
    component.migrate = Some(MigrationOrder {
        id,
        schema: "main".parse().unwrap(),
        task: Task::Up,
        release: by.clone(),
        from: 41,
        to: 42,
        start_by: Moment(site::now().0 + 600_000),
    });
    desired
}

#[tokio::test]
async fn what_a_migration_prints_is_told_to_people_and_goes_into_no_log() {
    noted::begin();
    let (_dir, mut site) = a_site();
    site.schema = true;
    const SECRET: &str = "postgres://shop:hunter2@db";
    let ends = [
        "exit 1",
        "kill -9 $$",
        "echo $TAMER_SCHEMA_TARGET > $TAMER_SHARED/version",
    ];
    for (n, end) in (1..).zip(ends) {
        let up = format!("#!/bin/sh\necho {SECRET}\necho {SECRET} >&2\n{end}\n");
        let version = format!("1.0.{n}");
        let release = site.publish(&version, &[DATABASE[0], ("bin/up", &up)]);
        let mut agent = Agent::start(site.hands()).await;
        agent.desired.send_replace(Some(migrating(n, &release)));
        let report = agent.migrated(n).await;
        match report.migration.unwrap().status {
            MigrationStatus::Done(42) => assert_eq!(n, 3),
            MigrationStatus::Failed { failure, .. } | MigrationStatus::Unknown { failure, .. } => {
                assert!(failure.output.contains(SECRET), "{failure:?}");
                assert!(!failure.message.contains(SECRET), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
        agent.stop().await;
    }
    let text = noted::text();
    assert!(text.contains("migration ended"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// Waits for a report of the whole host.
async fn until(agent: &mut Agent, what: &str, wanted: impl Fn(&HostReport) -> bool) -> HostReport {
    let all = agent.reports.clone();
    let waited = tokio::time::timeout(site::PATIENCE, agent.reports.wait_for(wanted)).await;
    match waited {
        Ok(report) => report.expect("the agent is alive").clone(),
        Err(_) => panic!("not {what} in time: {:#?}", *all.borrow()),
    }
}

/// Its restart would end the migration in the middle.
#[tokio::test]
async fn the_agent_is_exchanged_only_when_the_migration_has_ended() {
    if !nix::unistd::geteuid().is_root() {
        return; // Only root's agent is a component of its own.
    }
    let dir = tempfile::tempdir_in("/root").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut site = Site::at(dir.path());
    site.environment(QUICK);
    site.config.rootless = false;
    site.config.root_prefix = None;
    let allowed = format!(
        "roots = [\"{}\"]\nusers = [\"root\"]\nunits = [\"{AGENT_UNIT}\"]\n",
        dir.path().display()
    );
    let allowed = tamer_core::text::parse("allowed", &allowed).unwrap();
    site.config
        .applications
        .insert(site::slot().application, allowed);
    site.user = Some("root");
    site.install_root = format!("{}/web", dir.path().display());
    (site.bare, site.schema) = (true, true);
    let waits = "#!/bin/sh\nuntil [ -e $TAMER_SHARED/go ]; do sleep 0.05; done\necho $TAMER_SCHEMA_TARGET > $TAMER_SHARED/version\n";
    let shop = site.publish("1.0.0", &[DATABASE[0], ("bin/up", waits)]);
    let shared = site.root().join("shared");
    (site.bare, site.schema, site.agent) = (false, false, true);
    site.component = "agent";
    site.install_root = format!("{}/agent", dir.path().display());
    let own = site.publish("2.0.0", &[]);

    let (restart, mut restarted) = watch::channel(false);
    let mut hands = site.hands();
    let program = "/usr/bin/tamer-agent".into();
    hands.own = Arc::new(Own::unit(
        program,
        &site.config.state,
        watch::channel(true).1,
    ));
    hands.services = Arc::new(Restarts(restart));
    let mut agent = Agent::start(hands).await;
    let migrates = migrating(1, &shop);
    agent.desired.send_replace(Some(migrates.clone()));
    let status = |report: &HostReport| {
        let web = report.components.iter().find(|it| it.slot == site::slot());
        web.and_then(|it| it.migration.clone()).map(|it| it.status)
    };
    until(&mut agent, "migrating", |it| {
        status(it) == Some(MigrationStatus::Working)
    })
    .await;
    // The exchange of the agent is granted, everything for it is ready, and a further round goes by.
    let mut desired = granted(2, Some(&own), Purpose::Forward);
    desired.components[0].slot.component = "agent".parse().unwrap();
    let slot = desired.components[0].slot.clone();
    desired.components.extend(migrates.components);
    agent.desired.send_replace(Some(desired.clone()));
    let of_agent = |report: &HostReport| {
        let mut all = report.components.iter();
        all.find(|it| it.slot == slot).cloned()
    };
    until(&mut agent, "staged", |it| {
        of_agent(it).is_some_and(|it| it.staged.contains(&own.manifest))
    })
    .await;
    for counter in [3, 4] {
        desired.generation.counter = counter;
        desired.inspect = Some(Inspect {
            id: counter,
            full: false,
        });
        agent.desired.send_replace(Some(desired.clone()));
        let report = until(&mut agent, "taken in", |it| {
            it.generation.counter == counter
        })
        .await;
        assert_eq!(status(&report), Some(MigrationStatus::Working));
        assert_eq!(of_agent(&report).unwrap().activation, None);
    }
    assert!(!*restarted.borrow());
    fs::write(shared.join("go"), "").unwrap();
    until(&mut agent, "migrated", |it| {
        status(it) == Some(MigrationStatus::Done(42))
    })
    .await;
    let handed = tokio::time::timeout(site::PATIENCE, restarted.wait_for(|it| *it));
    handed.await.expect("it is exchanged afterwards").unwrap();
    agent.stop().await;
}
