//! An environment that follows another one: what has stood in staging comes to production by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, until};

/// Is not what it should be once it has started.
const BROKEN: &str = "[component.web.checks.home]\ntype = \"command\"\nrun = [\"/bin/false\"]\n";

/// `web-1` in production, which follows staging after this bake, and `staging-1`. Nothing runs yet.
fn follows(bake: &str) -> Fleet {
    let mut fleet = Fleet::with_hosts(1);
    fleet.environment("staging", ENVIRONMENT);
    let staging = HostOptions::default();
    fleet.add_to("staging", "staging-1", &["role=web"], &staging);
    fleet.all_connected();
    bakes(&fleet, bake);
    fleet
}

fn bakes(fleet: &Fleet, bake: &str) {
    let auto = format!("{ENVIRONMENT}[auto]\nfrom = \"staging\"\nbake = \"{bake}\"\n");
    fleet.environment("production", &auto);
}

/// The deployments of production, the newest first.
fn deployments(fleet: &Fleet) -> Vec<Value> {
    let history = fleet.json(&["history", "production"]);
    history["deployments"].as_array().unwrap().clone()
}

/// Waits until `tamer status production` says this.
fn status_says(fleet: &Fleet, word: &str) {
    until(&format!("the status to say `{word}`"), || {
        let said = fleet.tamer(&["status", "production"]);
        said.out.contains(word).then_some(())
    });
}

#[test]
fn what_has_stood_in_staging_comes_to_production_and_nobody_is_overruled() {
    let fleet = follows("1s");
    fleet.tamer(&["deploy", "staging", "1.0.0"]).ends(0);
    fleet.host(1).will_run("1.0.0");
    status_says(&fleet, "production follows staging: there is nothing newer");
    fleet.tamer(&["audit"]).ends(0).says(&[
        "auto from staging",
        "production shop@1.0.0",
        "1.0.0 has stood in staging for 1s",
    ]);
    // What staging takes back never comes, and neither does one component of it.
    fleet.publish(&App::version("1.1.0").with(BROKEN));
    fleet.tamer(&["deploy", "staging", "1.1.0"]).ends(6);
    status_says(&fleet, "there is nothing newer");
    fleet.publish(&App::version("1.2.0"));
    fleet.tamer(&["deploy", "staging", "1.2.0"]).ends(0);
    fleet.host(1).will_run("1.2.0");
    fleet.newest_is("succeeded");
    // A person goes back: that is respected until something newer has stood.
    fleet
        .tamer(&["rollback", "production", "--reason", "pages are blank"])
        .ends(0);
    fleet.host(1).will_run("1.0.0");
    status_says(
        &fleet,
        "1.2.0 does not come by itself, a newer one will: anna went back from it",
    );
    fleet.publish(&App::version("1.3.0"));
    fleet.tamer(&["deploy", "staging", "1.3.0"]).ends(0);
    fleet.host(1).will_run("1.3.0");
    let by = |it: &Value| it["by"].as_str().unwrap().to_owned();
    let all: Vec<String> = deployments(&fleet).iter().map(by).collect();
    assert_eq!(
        all,
        [
            "auto from staging",
            "anna",
            "auto from staging",
            "auto from staging"
        ]
    );
}

#[test]
fn kill_the_controller_in_a_bake_and_the_version_comes_once() {
    let mut fleet = follows("1h");
    fleet.tamer(&["deploy", "staging", "1.0.0"]).ends(0);
    status_says(
        &fleet,
        "production follows staging: 1.0.0 bakes in staging until ",
    );
    fleet
        .tamer(&["env", "show", "production"])
        .ends(0)
        .says(&["1.0.0 bakes in staging until "]);
    fleet.controller.daemon.kill();
    fleet.controller.start();
    fleet.all_connected();
    status_says(&fleet, "1.0.0 bakes in staging until ");
    assert_eq!(fleet.host(1).runs(), None);
    // It has stood for that long already.
    bakes(&fleet, "1ms");
    fleet.host(1).will_run("1.0.0");
    fleet.controller.daemon.kill();
    fleet.controller.start();
    fleet.all_connected();
    fleet.newest_is("succeeded");
    status_says(&fleet, "there is nothing newer");
    assert_eq!(deployments(&fleet).len(), 1);
}

#[test]
fn environments_that_follow_one_another_in_a_circle_are_refused() {
    let fleet = follows("1h");
    let file = fleet.desk("environments/staging.toml");
    let circle = format!("{ENVIRONMENT}[auto]\nfrom = \"production\"\n");
    std::fs::write(&file, circle).unwrap();
    fleet
        .tamer(&["env", "apply", file.to_str().unwrap()])
        .ends(2)
        .says(&[
            "staging.toml:11:8",
            "in a circle",
            "staging follows production follows staging",
            "Take `from` out of one of them",
        ]);
}
