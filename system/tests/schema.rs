//! A database under a fleet: brought up once, on one host; how far back is safe; what nobody knows, a
//! person decides. The database is a file, and the programs are scripts that note each call.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use tamer_system::{App, Fleet, until};

/// A fleet of two whose 1.0.0 works with 1, and runs; and the database's directory.
fn with_database() -> (Fleet, PathBuf) {
    let mut fleet = Fleet::new(tamer_system::ENVIRONMENT);
    for n in 1..=2 {
        fleet.add(&format!("web-{n}"), &Default::default());
    }
    let dir = fleet.desk("database");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("version"), "0\n").unwrap();
    fleet.publish(&App::version("1.0.0").database(&dir, 1, "1"));
    fleet.all_connected();
    fleet.deploy("1.0.0").ends(0).says(&["database 0 → 1"]);
    fleet.all_run("1.0.0");
    (fleet, dir)
}

fn calls(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn version(dir: &Path) -> String {
    fs::read_to_string(dir.join("version"))
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn goes_up_once_and_back_only_as_far_as_is_safe() {
    let (fleet, dir) = with_database();
    assert_eq!(calls(&dir), ["up 0 1"]);
    // What runs does not work with 2: the plan says so, and so does the deployment.
    fleet.publish(&App::version("1.1.0").database(&dir, 2, "1..=2"));
    let said =
        "web 1.0.0 works with main 1, not with 2, and runs on web-1, web-2 until it is replaced";
    fleet
        .tamer(&["plan", "production", "1.1.0"])
        .ends(3)
        .says(&[said]);
    fleet.deploy("1.1.0").ends(3).says(&[said]);
    assert_eq!(calls(&dir), ["up 0 1"]);
    // A release in between works with both.
    fleet.publish(&App::version("1.0.1").database(&dir, 1, "1..=2"));
    fleet.deploy("1.0.1").ends(0);
    fleet
        .tamer(&["plan", "production", "1.1.0"])
        .ends(0)
        .says(&["database 1 → 2, safe back to 1.0.1"]);
    fleet
        .deploy("1.1.0")
        .ends(0)
        .says(&["database 1 → 2, safe back to 1.0.1"]);
    fleet.all_run("1.1.0");
    assert_eq!(calls(&dir), ["up 0 1", "up 1 2"]);
    // Inside the range nothing is done to the database; forward again neither.
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.0.1");
    fleet.deploy("1.1.0").ends(0);
    assert_eq!(calls(&dir), ["up 0 1", "up 1 2"]);
    // Further back it must go down, and somebody must say so.
    fleet
        .tamer(&["rollback", "production", "1.0.0"])
        .ends(3)
        .says(&["has 2, and what would run again needs 1", "--with-down"]);
    let down = [
        "rollback",
        "production",
        "1.0.0",
        "--with-down",
        "--reason",
        "the new one loses orders",
    ];
    fleet.tamer(&down).ends(0);
    fleet.all_run("1.0.0");
    assert_eq!(calls(&dir), ["up 0 1", "up 1 2", "down 2 1"]);
    let said = fleet.tamer(&["schema", "list"]).ends(0);
    said.says(&["shop/main", "down from 2 to 1 begun on web-"]);
    let past = fleet.json(&["history"])["migrations"].clone();
    let told = |n: usize, key: &str| past[n][key].to_string();
    assert_eq!(
        (told(0, "task"), told(0, "to")),
        ("\"down\"".into(), "1".into())
    );
    assert_eq!((told(1, "from"), told(1, "to")), ("1".into(), "2".into()));
    assert_eq!(told(1, "state"), "\"done\"");
    fleet
        .tamer(&["history"])
        .ends(0)
        .says(&["2 → 1", "1 → 2", "0 → 1"]);
}

#[test]
fn a_rollback_by_itself_freezes_at_the_line() {
    let (fleet, dir) = with_database();
    let app = App::version("1.1.0")
        .database(&dir, 2, "2")
        .and_then("exit 3");
    fleet.publish(&app);
    let words = ["deploy", "production", "1.1.0"];
    fleet.tamer(&words).ends(3);
    let crossing = [
        &words[..],
        &["--no-way-back", "--reason", "a window at night"],
    ]
    .concat();
    fleet.tamer(&crossing).ends(7).says(&[
        "no way back: web 1.0.0 works with main 1",
        "hook `start` of 1.1.0 ended with exit code 3",
        "it does not go back, for web 1.0.0 works with main 1, and the database has 2",
        "tamer rollback production --with-down --reason TEXT",
    ]);
    assert_eq!(fleet.newest().1["state"], "frozen");
    assert_eq!(version(&dir), "2");
    // Without a word on the database it stays frozen.
    fleet
        .tamer(&["rollback", "production"])
        .ends(3)
        .says(&["--with-down"]);
    let down = [
        "rollback",
        "production",
        "--with-down",
        "--reason",
        "nothing was written yet",
    ];
    fleet.tamer(&down).ends(6);
    fleet.all_run("1.0.0");
    assert_eq!(calls(&dir), ["up 0 1", "up 1 2", "down 2 1"]);
}

#[test]
fn an_up_that_fails_changes_nothing_else() {
    let (fleet, dir) = with_database();
    fs::write(dir.join("broken"), "").unwrap();
    fleet.publish(&App::version("1.1.0").database(&dir, 2, "1..=2"));
    fleet.publish(&App::version("1.0.1").database(&dir, 1, "1..=2"));
    fleet.deploy("1.0.1").ends(0);
    fleet.deploy("1.1.0").ends(5).says(&[
        "`up` of schema `main` ended with exit code 3",
        "the disk is full",
    ]);
    fleet.all_run("1.0.1");
    // It ended by itself, and the database says what it has: another try is another deployment.
    fs::remove_file(dir.join("broken")).unwrap();
    fleet.deploy("1.1.0").ends(0);
    assert_eq!(calls(&dir), ["up 0 1", "up 1 2", "up 1 2"]);
}

#[test]
fn kill_the_agent_in_the_middle_of_up_and_a_person_is_asked() {
    let (mut fleet, dir) = with_database();
    fleet.publish(&App::version("1.0.1").database(&dir, 1, "1..=2"));
    fleet.deploy("1.0.1").ends(0);
    fs::write(dir.join("wait"), "").unwrap();
    fleet.publish(&App::version("1.1.0").database(&dir, 2, "1..=2"));
    let watching = fleet.begins(&["deploy", "production", "1.1.0"]);
    until("`up` to begin", || (calls(&dir).len() == 2).then_some(()));
    let (_, status) = fleet.newest();
    let host = status["databases"][0]["host"].as_str().unwrap().to_owned();
    let number: usize = host.strip_prefix("web-").unwrap().parse().unwrap();
    fleet.host_mut(number).daemon.kill();
    fleet.host_is(number, "away");
    // The lease does not pass on; nobody may say what became of it while it may still go on.
    assert_eq!(fleet.newest().1["databases"][0]["state"], "up");
    fleet.host_mut(number).start();
    watching.end().ends(7).says(&[
        "the agent or the server stopped in the middle of `up` of schema `main`, from 1 to 2",
        "tamer schema settle production VERSION --reason TEXT",
    ]);
    fleet.all_run("1.0.1");
    fleet.deploy("1.1.0").ends(4);
    // What was cut off from its agent was ended by the next one, before it said what the database has:
    // nothing goes on in it behind a person's back.
    fs::remove_file(dir.join("wait")).unwrap();
    assert_eq!(version(&dir), "1");
    fs::write(dir.join("version"), "2").unwrap();
    let settle = [
        "schema",
        "settle",
        "production",
        "2",
        "--reason",
        "all of it is there",
    ];
    fleet.tamer(&settle).ends(0);
    fleet.tamer(&["watch"]).ends(0);
    fleet.all_run("1.1.0");
    assert_eq!(calls(&dir), ["up 0 1", "up 1 2"]);
    let settled = fleet.json(&["history"])["migrations"][0].clone();
    assert_eq!(settled["state"], "settled");
    assert_eq!(settled["reason"], "all of it is there");
    assert!(
        settled["by"].as_str().is_some_and(|by| !by.is_empty()),
        "{settled}"
    );
}

#[test]
fn kill_the_controller_in_the_middle_of_up_and_it_runs_once() {
    let (mut fleet, dir) = with_database();
    fleet.publish(&App::version("1.0.1").database(&dir, 1, "1..=2"));
    fleet.deploy("1.0.1").ends(0);
    fs::write(dir.join("wait"), "").unwrap();
    fleet.publish(&App::version("1.1.0").database(&dir, 2, "1..=2"));
    let watching = fleet.begins(&["deploy", "production", "1.1.0"]);
    until("`up` to begin", || (calls(&dir).len() == 2).then_some(()));
    fleet.controller.daemon.kill();
    fs::remove_file(dir.join("wait")).unwrap();
    until("`up` to end", || (version(&dir) == "2").then_some(()));
    fleet.controller.start();
    watching.end().ends(0);
    fleet.all_run("1.1.0");
    assert_eq!(calls(&dir), ["up 0 1", "up 1 2"]);
}
