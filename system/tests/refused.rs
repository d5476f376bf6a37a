//! What is refused before anything begins, and what the person is told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, until};

#[test]
fn refuses_what_does_not_exist() {
    let fleet = Fleet::new(ENVIRONMENT);
    fleet.publish(&App::version("1.0.0"));
    fleet
        .deploy("1.0.1")
        .ends(2)
        .says(&["shop has no version 1.0.1", "did you mean 1.0.0?"]);
    fleet
        .tamer(&["deploy", "production", "api@1.0.0"])
        .ends(2)
        .says(&["shop has no api@1.0.0"]);
    fleet
        .tamer(&["deploy", "production", "wep@1.0.0"])
        .ends(2)
        .says(&["did you mean web@1.0.0?"]);
    fleet
        .tamer(&["deploy", "prodution", "1.0.0"])
        .ends(2)
        .says(&["no environment `prodution`", "tamer env list"]);
    // There is everything but a host.
    fleet.deploy("1.0.0").ends(2).says(&[
        "no host of `production`",
        "shop/web",
        "tamer host invite",
    ]);
    fleet
        .tamer(&["status", "7"])
        .ends(2)
        .says(&["no deployment 7"]);
    fleet
        .tamer(&["pause", "7"])
        .ends(2)
        .says(&["no deployment 7"]);
    fleet
        .tamer(&["rollback", "production"])
        .ends(3)
        .says(&["nothing to go back to"]);
}

#[test]
fn refuses_used_expired_and_foreign_tokens() {
    let fleet = Fleet::new(ENVIRONMENT);
    let options = HostOptions::default();
    let token = fleet.invite(&[]);
    let first = fleet.stranger("web-1", &options);
    first.enroll(&token).ends(0);
    let second = fleet.stranger("web-2", &options);
    second.enroll(&token).ends(1).says(&["used"]);
    let expired = fleet.invite(&["--valid", "1ms"]);
    second.enroll(&expired).ends(1).says(&["expired"]);
    // Another secret under the right names: nothing that the controller has given out.
    let other = Fleet::new(ENVIRONMENT);
    let foreign = other.invite(&[]);
    second
        .enroll_with(
            &foreign,
            &[
                "--controller",
                &format!("https://{}", fleet.controller.address()),
            ],
        )
        .ends(1);
    let rows = fleet.json(&["hosts"])["hosts"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    // A person's token makes no host, and is not used up by the attempt.
    let token = fleet.invite_operator("bob", &[]);
    second.enroll(&token).ends(2).says(&["tamer login"]);
    second.enroll(&fleet.invite(&[])).ends(0);
    let third = fleet.stranger("web-3", &options);
    // Who guesses on is not listened to for a while, whatever comes then: that is not used up either.
    let guesses = |token: &str| third.enroll(token).ends(1).all();
    let heard = (0..20).find(|_| guesses(&expired).contains("try again in"));
    assert!(heard.is_some());
    assert!(guesses(&fleet.invite(&[])).contains("try again in"));
}

#[test]
fn shuts_out_an_agent_with_another_fleet_s_certificate() {
    let mut fleet = Fleet::new(ENVIRONMENT);
    let mut other = Fleet::new(ENVIRONMENT);
    let options = HostOptions::default();
    fleet.add("web-1", &options);
    fleet.host_is(1, "connected");
    fleet.host_mut(1).daemon.stop();
    // The same name, the same environment, and a certificate of the other fleet's CA.
    other.add("web-1", &options);
    other.host_is(1, "connected");
    other.host_mut(1).daemon.stop();
    let identity = "state/identity/identity.pem";
    let theirs = fs::read(other.host(1).dir().join(identity)).unwrap();
    let ours = fs::read(fleet.host(1).dir().join(identity)).unwrap();
    fs::write(fleet.host(1).dir().join(identity), theirs).unwrap();
    fleet.host_mut(1).start();
    fleet.host_mut(1).daemon.logs("no line to the controller");
    assert_ne!(fleet.row("web-1")["state"], "connected");
    // With its own it is at home again.
    fleet.host_mut(1).daemon.kill();
    fs::write(fleet.host(1).dir().join(identity), ours).unwrap();
    fleet.host_mut(1).start();
    fleet.host_is(1, "connected");
}

#[test]
fn who_is_removed_is_out_at_once_and_the_last_admin_stays() {
    let fleet = Fleet::with_hosts(1);
    let home = &fleet.operator("ben", "deployer")[..];
    let again = fleet.invite_operator("ben", &["--role", "deployer"]);
    let held = "[ -e \"$TAMER_SHARED/run/go\" ] || exit 75";
    fleet.publish(&App::version("1.1.0").and_then(held));
    let watches = fleet.begins(&["deploy", "production", "1.1.0", "--home", home]);
    fleet.component_says(1, "/state", "working: start");
    let left = ["operator", "remove", "ben", "--reason", "left the team"];
    fleet.tamer(&left).ends(0);
    watches.end().says(&["ben has been revoked"]);
    fleet
        .tamer(&["abort", "1", "--home", home])
        .ends(3)
        .says(&["ben has been revoked"]);
    // Nor by an invitation of before.
    let refused = fleet.login(&again, &["--home", home]);
    refused.ends(3).says(&["this token is not known here"]);
    let listed = fleet.tamer(&["operator", "list"]).ends(0);
    listed.says(&["nothing: removed", "admin"]);
    fleet
        .tamer(&["operator", "remove", "anna"])
        .ends(3)
        .says(&["anna is the last admin"]);
    fleet.tamer(&["operator", "remove", "nobody"]).ends(2);
}

#[test]
fn who_has_several_roles_has_each_where_it_holds_and_loses_one_at_a_time() {
    let fleet = Fleet::new(ENVIRONMENT);
    let home = fleet.desk("ben");
    let home = home.to_str().unwrap();
    let invited = |words: &[&str]| {
        let token = fleet.invite_operator("ben", words);
        fleet.login(&token, &["--home", home]).ends(0);
    };
    let is = |roles: &str| drop(fleet.tamer(&["operator", "list"]).ends(0).says(&[roles]));
    let goes_back = || {
        fleet
            .tamer(&["rollback", "production", "--home", home])
            .ends(3)
    };
    invited(&["--role", "deployer", "--environment", "staging"]);
    goes_back().says(&["ben", "deployer in staging"]);
    invited(&["--role", "deployer", "--environment", "production"]);
    is("deployer in production, deployer in staging");
    goes_back().says(&["nothing to go back to"]);
    // A new key alone.
    invited(&[]);
    is("deployer in production, deployer in staging");
    let takes = ["operator", "remove", "ben", "--environment", "production"];
    fleet
        .tamer(&takes)
        .ends(0)
        .says(&["no role of its own in production"]);
    goes_back().says(&["ben", "deployer in staging"]);
    fleet.tamer(&takes).ends(3).says(&["tamer operator list"]);
    let last = ["operator", "remove", "ben", "--environment", "staging"];
    fleet
        .tamer(&last)
        .ends(3)
        .says(&["`tamer operator remove ben`"]);
    fleet
        .tamer(&["audit"])
        .ends(0)
        .says(&["operator.role.remove"]);
}

#[test]
fn says_who_is_in_the_way_and_waits_if_it_is_told_to() {
    let fleet = Fleet::with_hosts(1);
    fleet.publish(&App::version("1.1.0"));
    let held = "[ -e \"$TAMER_SHARED/run/go\" ] || exit 75";
    fleet.publish(&App::version("1.2.0").and_then(held));
    fleet.deploy("1.0.0").ends(0);
    let mut first = fleet.begins(&["deploy", "production", "1.2.0"]);
    fleet.component_says(1, "/state", "working: start");
    let mut second = fleet.begins(&["deploy", "production", "1.1.0", "--wait"]);
    // By the time that one which does not wait has had its answer, that one waits.
    fleet.deploy("1.1.0").ends(4).says(&[
        "shop 1.2.0 to production",
        "by anna",
        "is running since",
        "--wait",
    ]);
    assert!(first.is_running() && second.is_running());
    fleet.host(1).share("go");
    first.end().ends(0);
    second.end().ends(0);
    fleet.all_run("1.1.0");
    let past = fleet.json(&["history"])["deployments"].clone();
    let versions: Vec<_> = past
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["version"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(versions, ["1.1.0", "1.2.0", "1.0.0"]);
    until("nothing to be under way", || {
        let said = fleet.tamer(&["watch"]).ends(0);
        said.out.contains("Nothing is under way").then_some(())
    });
}

/// A public key whose other half nobody has.
const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

#[test]
fn demands_what_the_environment_and_the_role_demand() {
    let fleet = Fleet::with_hosts(1);
    let evidence = format!(
        "{ENVIRONMENT}[evidence]\nrequire = [\"review\"]\n[evidence.keys.all]\nkey = \"{KEY}\"\n\
         states = [\"build\", \"review\"]\nperson = \"anna@shop.example\"\n"
    );
    fleet.environment("production", &evidence);
    fleet.deploy("1.0.0").ends(3).says(&[
        "production demands evidence that shop/web 1.0.0 does not have: review",
        "tamer review approve",
    ]);
    let minimum = format!("{ENVIRONMENT}[minimum]\n\"shop/web\" = \"1.1.0\"\n");
    fleet.environment("production", &minimum);
    fleet
        .deploy("1.0.0")
        .ends(3)
        .says(&["below the environment's signed minimum 1.1.0"]);
    fleet.environment("production", ENVIRONMENT);
    // Somebody who may only look, at a desk of their own.
    let home = fleet.operator("bob", "viewer");
    let bob = |words: &[&str]| fleet.tamer(&[&["--home", &home[..]], words].concat());
    bob(&["hosts"]).ends(0).says(&["web-1"]);
    bob(&["deploy", "production", "1.0.0"])
        .ends(3)
        .says(&["bob"]);
    bob(&["host", "invite", "-e", "production"]).ends(3);
    assert_eq!(fleet.host(1).runs(), None, "nothing has moved");
}

/// What people write goes into logs and stores whose lines have an end.
#[test]
fn refuses_a_reason_without_end_and_goes_on() {
    let fleet = Fleet::that_runs(1);
    let endless = "x".repeat(100_000);
    for words in [
        &["host", "remove", "web-1", "--reason", &endless][..],
        &["deploy", "production", "1.0.0", "--reason", &endless],
        &["rollback", "production", "--reason", &endless],
    ] {
        let said = fleet.tamer(words);
        said.ends(2).says(&["the reason has 100000 bytes"]);
    }
    let longest = "y".repeat(4096);
    fleet
        .tamer(&["host", "remove", "web-1", "--reason", &longest])
        .ends(0);
    fleet.tamer(&["hosts"]).ends(0);
}

#[test]
fn shuts_out_hosts_that_left_or_claim_what_they_are_not() {
    let mut fleet = Fleet::that_runs(2);
    // A host belongs to the environment that it joined, whatever its file says.
    fleet.host_mut(1).daemon.stop();
    let file = fleet.host(1).dir().join("agent.toml");
    let honest = fs::read_to_string(&file).unwrap();
    fs::write(&file, honest.replace("production", "staging")).unwrap();
    fleet
        .host(1)
        .types(&["run"])
        .ends(2)
        .says(&["web-1 in staging", "web-1 in production"]);
    fs::write(&file, &honest).unwrap();
    fleet.host_mut(1).start();
    fleet.all_connected();
    // One state directory is for one agent.
    fleet
        .host(1)
        .types(&["run"])
        .ends(2)
        .says(&["another tamer-agent"]);
    // A host that was taken out is a stranger at once; what runs there goes on running.
    fleet
        .tamer(&["host", "remove", "web-2", "--reason", "broken disk"])
        .ends(0);
    fleet.host_mut(2).daemon.logs("tamer host invite --replace");
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(0);
    assert_eq!(fleet.host(1).runs().as_deref(), Some("1.1.0"));
    assert_eq!(fleet.host(2).runs().as_deref(), Some("1.0.0"));
    // Rebuilt, it gets its name back, and follows.
    fleet.host_mut(2).daemon.stop();
    let token = fleet.invite(&["--replace", "web-2"]);
    fleet.host(2).enroll_with(&token, &["--force"]).ends(0);
    fleet.host_mut(2).start();
    fleet.host(2).will_run("1.1.0");
}
