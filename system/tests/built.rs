//! From a commit to running: `tamer build` publishes exactly what it stated.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use tamer_system::{ENVIRONMENT, Fleet};

#[test]
fn what_is_built_from_a_commit_is_what_is_published_and_runs() {
    let fleet = Fleet::that_runs(1);
    let shop = fleet.desk("shop");
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=Ben", "-c", "user.email=ben@shop.example"];
        let mut command = Command::new("git");
        let done = command
            .current_dir(&shop)
            .args(identity)
            .args(words)
            .status()
            .unwrap();
        assert!(done.success(), "git {words:?}");
    };
    let file = shop.join("tamer.toml");
    let files = "app";
    let text = fs::read_to_string(&file).unwrap();
    let build = format!(
        "[build]\ntest = \"test -d {files}\"\nbuild = \"printf 1.1.0 > {files}/VERSION\"\n"
    );
    fs::write(&file, format!("{text}\n{build}")).unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "one line more"]);
    fleet.tamer(&["attest", "key"]).ends(0);
    // A change that no commit has ends it before anything is published.
    fs::write(shop.join("stray"), "x").unwrap();
    fleet
        .tamer(&["build", "1.1.0"])
        .ends(2)
        .says(&["changes that no commit has: ?? stray"]);
    fs::remove_file(shop.join("stray")).unwrap();
    let out = fleet.desk("out");
    let out = out.to_str().unwrap();
    fleet
        .tamer(&["build", "1.1.0", "--twice", "--out", out])
        .ends(0)
        .says(&["shop 1.1.0 is published", "built twice"]);
    let stated = fs::read(fleet.desk("out/shop-web-1.1.0.manifest.json")).unwrap();
    let listed = fleet.json(&["releases", "shop"]).to_string();
    let packed = fleet.json(&[
        "verify",
        &format!("{out}/shop-web-1.1.0.manifest.json"),
        "-e",
        fleet.desk("environments/production.toml").to_str().unwrap(),
    ]);
    assert!(!stated.is_empty());
    let digest = packed["manifest"].as_str().unwrap();
    assert!(listed.contains(digest), "{digest} is not in {listed}");
    // What the controller has of it, in every environment.
    let published = fleet.json(&["verify", "1.1.0"]);
    assert_eq!(published["manifest"], packed["manifest"]);
    assert_eq!(published["environments"][0]["environment"], "production");
    fleet
        .tamer(&["verify", "web@1.2.0", "-e", "prodction"])
        .ends(2)
        .says(&["shop has no web@1.2.0", "tamer releases shop"]);
    fleet
        .tamer(&["verify", "web@1.1.0", "-e", "prodction"])
        .ends(2)
        .says(&["did you mean `production`?"]);
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}

#[test]
fn what_nobody_tested_does_not_run_and_what_was_built_and_reviewed_does() {
    let fleet = Fleet::that_runs(1);
    let shop = fleet.desk("shop");
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=Ben", "-c", "user.email=ben@shop.example"];
        let mut command = Command::new("git");
        let command = command.current_dir(&shop).args(identity).args(words);
        assert!(command.status().unwrap().success(), "git {words:?}");
    };
    let file = shop.join("tamer.toml");
    let text = fs::read_to_string(&file).unwrap();
    let build = "[build]\ntest = \"test -d app\"\nbuild = \"printf 1.1.0 > app/VERSION\"\n";
    fs::write(&file, format!("{text}\n{build}")).unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "one line more"]);
    let key = |name: &str| {
        let path = fleet.desk(name);
        let path = path.to_str().unwrap();
        let said = fleet.json(&["attest", "key", "--key", path]);
        (path.to_owned(), said["key"].as_str().unwrap().to_owned())
    };
    let (ci, anna) = (key("ci.pem"), key("anna.pem"));
    let demands = format!(
        "{ENVIRONMENT}[evidence]\nrequire = [\"build\", \"test\", \"review\"]\n\
         [evidence.keys.ci]\nkey = \"{}\"\nstates = [\"build\", \"test\"]\n\
         [evidence.keys.anna]\nkey = \"{}\"\nstates = [\"review\"]\nperson = \"anna@shop.example\"\n",
        ci.1, anna.1
    );
    fleet.environment("production", &demands);
    let out = fleet.desk("out");
    let out = out.to_str().unwrap();
    let manifest = format!("{out}/shop-web-1.1.0.manifest.json");
    fleet
        .tamer(&["build", "1.1.0", "--out", out, "--key", &ci.0])
        .ends(0)
        .says(&["2 more statements"]);
    fleet
        .deploy("1.1.0")
        .ends(3)
        .says(&["does not have: review", "tamer review approve"]);
    fleet.all_run("1.0.0");
    // What the controller has of it, asked from anywhere.
    let elsewhere = fleet.tamer(&["verify", "1.1.0", "-e", "production"]);
    elsewhere
        .ends(3)
        .says(&["✓ test", "✗ review      nothing states it"]);
    let review = [
        "review",
        "approve",
        "HEAD",
        "--person",
        "anna@shop.example",
        "--key",
        &anna.0,
    ];
    fleet.tamer(&review).ends(0);
    fleet
        .tamer(&["attest", "send", &manifest])
        .ends(0)
        .says(&["3 sent, 1 of them new"]);
    fleet
        .tamer(&["verify", "1.1.0"])
        .ends(0)
        .says(&["✓ review"]);
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}
