//! When rollouts may move hosts forward: freezes and locks that people set, and what the environment file says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, until};

/// Closes production for a while.
const FREEZE: [&str; 6] = [
    "freeze",
    "production",
    "--until",
    "2h",
    "--reason",
    "the sale",
];

/// Waits in its `start` hook until somebody puts `go` on the host.
const WAITS: &str = "[ -e \"$TAMER_SHARED/run/go\" ] || exit 75";

#[test]
fn a_freeze_in_the_middle_of_a_rollout_stops_it_where_it_is_and_not_the_way_back() {
    let fleet = Fleet::that_runs(3);
    fleet.publish(&App::version("1.1.0").and_then(WAITS));
    let watching = fleet.begins(&["deploy", "production", "1.1.0", "--wait"]);
    fleet.component_says(1, "/state", "working: start");
    fleet
        .tamer(&FREEZE)
        .ends(0)
        .says(&["production is frozen until", "tamer unfreeze production"]);
    // A host under way ends what it has begun, and nobody else begins; what is staged is staged.
    fleet.host(1).share("go");
    fleet.host(1).will_run("1.1.0");
    let status = fleet.newest_is("closed");
    assert_eq!(status["exit_code"], 4, "{status}");
    assert_eq!(status["rollouts"][0]["staged"], 3, "{status}");
    fleet.tamer(&["status", "production"]).ends(0).says(&[
        "closed",
        "waits for the environment to open: production is frozen by anna: the sale; opens",
        "the sale: tamer unfreeze production",
    ]);
    assert_eq!(fleet.host(2).runs().as_deref(), Some("1.0.0"));
    // Going back is stopped by nothing.
    fleet
        .tamer(&["rollback", "production", "--reason", "pages are blank"])
        .ends(6);
    watching.end().ends(6);
    fleet.all_run("1.0.0");
}

#[test]
fn a_closed_environment_refuses_at_once_and_goes_on_by_itself_when_it_opens() {
    let fleet = Fleet::that_runs(2);
    fleet.publish(&App::version("1.1.0"));
    fleet.tamer(&FREEZE).ends(0);
    fleet.deploy("1.1.0").ends(4).says(&[
        "`production` is closed: production is frozen by anna: the sale; opens",
        "--wait",
        "--override-freeze",
    ]);
    fleet
        .tamer(&["plan", "production", "1.1.0"])
        .ends(0)
        .says(&["`production` is closed"]);
    let mut watching = fleet.begins(&["deploy", "production", "1.1.0", "--wait"]);
    fleet.newest_is("closed");
    until("all hosts to have staged it", || {
        let (_, status) = fleet.newest();
        (status["rollouts"][0]["staged"] == 2).then_some(())
    });
    assert!(watching.is_running());
    fleet.all_run("1.0.0");
    fleet.tamer(&["unfreeze", "production"]).ends(0);
    watching.end().ends(0);
    fleet.all_run("1.1.0");
    fleet
        .tamer(&["unfreeze", "production"])
        .ends(2)
        .says(&["no freeze that a person set"]);
}

#[test]
fn an_admin_with_a_reason_overrides_a_freeze_and_the_audit_log_says_so_and_a_lock_holds() {
    let fleet = Fleet::that_runs(1);
    fleet.publish(&App::version("1.1.0"));
    let frozen = format!(
        "{ENVIRONMENT}[[freeze]]\nfrom = 2000-01-01\nto = 2000-12-31\nzone = \"UTC\"\nreason = \"long ago\"\n\
         [[window]]\nzone = \"UTC\"\n"
    );
    fleet.environment("production", &frozen);
    fleet.tamer(&FREEZE).ends(0);
    let over = ["deploy", "production", "1.1.0", "--override-freeze"];
    fleet.tamer(&over).ends(2).says(&["--reason"]);
    let why = ["--reason", "orders are lost"];
    fleet
        .tamer(&["lock", "shop", "--reason", "an incident"])
        .ends(0);
    fleet
        .tamer(&[&over[..], &why].concat())
        .ends(4)
        .says(&["shop is locked by anna: an incident", "tamer unlock"]);
    fleet.tamer(&["unlock", "shop"]).ends(0);
    fleet.tamer(&[&over[..], &why].concat()).ends(0);
    fleet.all_run("1.1.0");
    fleet.tamer(&["audit"]).ends(0).says(&[
        "freeze.override",
        "production is frozen by anna: the sale",
        "orders are lost",
        "unlock",
    ]);
}

#[test]
fn a_rollout_waits_at_its_points_for_somebody_else_than_who_asked() {
    let fleet = Fleet::that_runs(3);
    let points = ENVIRONMENT.replace(
        "[policy]",
        "[approval]\nfour_eyes = true\n[policy]\napproval = [\"canary\"]",
    );
    fleet.environment("production", &points);
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(8).says(&[
        "waits for somebody to promote it after canary",
        "tamer promote 2",
    ]);
    fleet.host(1).will_run("1.1.0");
    assert_eq!(fleet.host(2).runs().as_deref(), Some("1.0.0"));
    fleet
        .tamer(&["promote", "2"])
        .ends(3)
        .says(&["anna asked for deployment 2", "four_eyes"]);
    let ben = fleet.operator("ben", "deployer");
    let watching = fleet.begins(&["deploy", "production", "1.1.0", "--wait"]);
    fleet
        .tamer(&["--home", &ben, "promote", "2", "--reason", "looks right"])
        .ends(0);
    watching.end().ends(0);
    fleet.all_run("1.1.0");
    fleet
        .tamer(&["audit"])
        .ends(0)
        .says(&["promote", "looks right"]);
}

#[test]
fn where_it_must_be_confirmed_a_script_says_yes_and_a_dry_run_changes_nothing() {
    let fleet = Fleet::that_runs(1);
    fleet.environment("production", &format!("confirm = true\n{ENVIRONMENT}"));
    fleet.publish(&App::version("1.1.0"));
    fleet
        .deploy("1.1.0")
        .ends(2)
        .says(&["wants a deployment confirmed", "--yes"]);
    let dry = ["deploy", "production", "1.1.0", "--dry-run"];
    fleet
        .tamer(&dry)
        .ends(0)
        .says(&["tamer deploy production 1.1.0"]);
    fleet.all_run("1.0.0");
    fleet
        .tamer(&["deploy", "production", "1.1.0", "--yes"])
        .ends(0);
    fleet.all_run("1.1.0");
}

#[test]
fn whoever_is_at_a_terminal_is_asked_and_only_a_yes_begins_it() {
    let fleet = Fleet::that_runs(1);
    fleet.environment("production", &format!("confirm = true\n{ENVIRONMENT}"));
    fleet.publish(&App::version("1.1.0"));
    let answers = |answer: &str| {
        let mut asking = fleet.begins_at_a_terminal(&["deploy", "production", "1.1.0"]);
        until("the question", || {
            let asked = asking.so_far().contains("Deploy this to production? [y/N]");
            asked.then_some(())
        });
        asking.types(answer);
        asking.end()
    };
    for no in ["n", "", "yesterday"] {
        answers(no)
            .ends(3)
            .says(&["1.0.0 → 1.1.0", "not confirmed: nothing was done"]);
    }
    fleet.all_run("1.0.0");
    let (number, _) = fleet.newest();
    assert_eq!(number, "1", "nothing began");
    answers("y").ends(0);
    fleet.all_run("1.1.0");
}

#[test]
fn a_database_is_not_brought_up_while_it_is_closed_and_is_once_it_opens() {
    let mut fleet = Fleet::new(ENVIRONMENT);
    fleet.add("web-1", &HostOptions::default());
    let dir = fleet.desk("database");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("version"), "0\n").unwrap();
    let calls = || fs::read_to_string(dir.join("calls")).unwrap();
    fleet.publish(&App::version("1.0.0").database(&dir, 1, "1..=2"));
    fleet.all_connected();
    fleet.deploy("1.0.0").ends(0);
    fleet.publish(&App::version("1.1.0").database(&dir, 2, "1..=2"));
    fleet.tamer(&FREEZE).ends(0);
    let mut watching = fleet.begins(&["deploy", "production", "1.1.0", "--wait"]);
    let status = fleet.newest_is("closed");
    assert_eq!(status["exit_code"], 4, "{status}");
    fleet
        .tamer(&["status", "production"])
        .ends(0)
        .says(&["the environment to open: production is frozen by anna: the sale"]);
    assert!(watching.is_running());
    assert_eq!(calls(), "up 0 1\n", "it was read, and is as it was");
    fleet.all_run("1.0.0");
    fleet.tamer(&["unfreeze", "production"]).ends(0);
    watching.end().ends(0).says(&["database 1 → 2"]);
    assert_eq!(calls(), "up 0 1\nup 1 2\n");
    fleet.all_run("1.1.0");
}

#[test]
fn with_more_hosts_away_than_may_be_nothing_begins_and_nobody_moves_but_back() {
    let mut fleet = Fleet::that_runs(2);
    let strict = ENVIRONMENT.replace("max_parallel = 1", "max_parallel = 2\nmax_unreachable = 0");
    fleet.environment("production", &strict);
    fleet.publish(&App::version("1.1.0").and_then(WAITS));
    // One that runs: who goes while the canary is at it is waited for.
    let watching = fleet.begins(&["deploy", "production", "1.1.0"]);
    fleet.component_says(1, "/state", "working: start");
    fleet.host_mut(2).daemon.kill();
    fleet.host_is(2, "away");
    fleet.host(1).share("go");
    fleet.host(2).share("go");
    until("it to wait for web-2", || {
        let said = watching.so_far();
        said.contains("waits for web-2 to come back: 0 may be away")
            .then_some(())
    });
    fleet.host_mut(2).start();
    watching.end().ends(0);
    fleet.all_run("1.1.0");
    // One that would: it names who is away, and changes nothing.
    fleet.host_mut(2).daemon.kill();
    fleet.host_is(2, "away");
    fleet.publish(&App::version("1.2.0"));
    fleet.deploy("1.2.0").ends(9).says(&[
        "1 away, and the policy's `max_unreachable` allows 0: web-2",
        "tamer hosts --environment production",
    ]);
    fleet.all_run("1.1.0");
    // Going back waits for nobody; who was away follows.
    fleet.tamer(&["rollback", "production"]).ends(9);
    fleet.host(1).will_run("1.0.0");
    fleet.host_mut(2).start();
    fleet.host(2).will_run("1.0.0");
}

#[test]
fn whoever_may_not_do_it_neither_closes_nor_opens_nor_overrides() {
    let fleet = Fleet::that_runs(1);
    fleet.publish(&App::version("1.1.0"));
    let (ben, carla) = (
        fleet.operator("ben", "deployer"),
        fleet.operator("carla", "viewer"),
    );
    let as_ = |home: &str, words: &[&str]| fleet.tamer(&[&["--home", home], words].concat());
    as_(&carla, &FREEZE).ends(3);
    fleet.tamer(&FREEZE).ends(0);
    as_(&ben, &["unfreeze", "production"])
        .ends(3)
        .says(&["the freeze of production is anna's"]);
    let over = [
        "deploy",
        "production",
        "1.1.0",
        "--override-freeze",
        "--reason",
        "now",
    ];
    as_(&ben, &over).ends(3);
    as_(&ben, &["lock", "production", "--reason", "mine"]).ends(0);
    as_(&ben, &["unlock", "production"]).ends(0);
    fleet.all_run("1.0.0");
}
