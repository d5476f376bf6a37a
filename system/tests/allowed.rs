//! What a release may touch, and what it gets: `agent.toml` and the disk decide.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, LIMIT, is_root};

/// Not by `eprintln!`, which a test that passes keeps to itself.
fn skipped(why: &str) {
    io::stderr()
        .write_all(format!("SKIPPED: {why}\n").as_bytes())
        .unwrap();
}

#[test]
fn refuses_a_unit_where_the_agent_restarts_none() {
    let fleet = Fleet::that_runs(2);
    fleet.publish(&App::version("1.1.0").with("service = \"shop-web.service\""));
    fleet
        .deploy("1.1.0")
        .ends(3)
        .says(&["names the unit `shop-web.service`", "rootless"]);
    fleet.all_run("1.0.0");
}

#[test]
fn refuses_roots_users_and_units_that_agent_toml_does_not_name() {
    if !is_root() {
        return skipped("what an agent that is root may touch needs root");
    }
    let mut fleet = Fleet::of_root(ENVIRONMENT);
    let base = fleet.desk("../srv");
    let root = base.join("web").to_str().unwrap().replace("desk/../", "");
    let base = root.trim_end_matches("/web").to_owned();
    std::fs::create_dir(&base).unwrap();
    let options = HostOptions {
        as_root: true,
        more: format!(
            "[application.shop]\nroots = [\"{base}\"]\nusers = [\"nobody\"]\nunits = [\"shop-*.service\"]"
        ),
        ..HostOptions::default()
    };
    fleet.add("web-1", &options).lives_in(Path::new(&root));
    fleet.all_connected();
    let app = |version: &str| {
        App::version(version)
            .without_hooks()
            .with("user = \"nobody\"")
    };
    fleet.publish(&app("1.0.0").root(&root));
    fleet.deploy("1.0.0").ends(0);
    let before = fleet.host(1).releases();
    let elsewhere = fleet.desk("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    for (version, refused, words) in [
        ("1.1.0", app("1.1.0").root(elsewhere), "wants to live in"),
        (
            "1.2.0",
            App::version("1.2.0")
                .without_hooks()
                .with("user = \"daemon\"")
                .root(&root),
            "wants to run as `daemon`: agent.toml would need",
        ),
        (
            "1.3.0",
            app("1.3.0").with("service = \"cron.service\"").root(&root),
            "wants to restart `cron.service`: agent.toml would need",
        ),
    ] {
        fleet.publish(&refused);
        fleet.deploy(version).ends(3).says(&["web-1", words]);
        fleet.all_run("1.0.0");
        assert_eq!(fleet.host(1).releases(), before, "{version} left something");
    }
    assert!(!Path::new(elsewhere).exists());
}

/// A small file system in memory, gone when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, options: &str) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tamer-test"])
            .arg(at)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn serves_on_when_the_disk_is_full_while_unpacking() {
    let mut fleet = Fleet::new(ENVIRONMENT);
    let small = fleet.desk("small");
    std::fs::create_dir_all(&small).unwrap();
    let Some(_disk) = Small::mount(&small, "size=64m,mode=755") else {
        return skipped("a full disk needs root, to mount a small tmpfs");
    };
    // Slow enough for the disk to be filled meanwhile.
    let slow = HostOptions {
        more: "fetch_limit = \"8MiB\"\n".to_owned(),
        ..HostOptions::default()
    };
    fleet.add("web-1", &slow);
    let root = fleet.host(1).dir().join("root");
    std::os::unix::fs::symlink(&small, &root).unwrap();
    fleet.all_connected();
    fleet.publish(&App::version("1.0.0"));
    fleet.deploy("1.0.0").ends(0);
    let before = fleet.host(1).releases();
    // There is room for it when it begins; then somebody else takes what is left.
    fleet.publish(&large("1.1.0"));
    let releases = fleet.host(1).root().join("releases");
    let deploying = fleet.begins(&["deploy", "production", "1.1.0"]);
    until_at_once(|| std::fs::read_dir(&releases).unwrap().count() > before.len());
    let filler = small.join("filler");
    fill(&filler);
    deploying
        .end()
        .ends(5)
        .says(&["web-1", "1.1.0", "No space left on device"]);
    fleet.all_run("1.0.0");
    assert_eq!(fleet.host(1).releases(), before, "nothing is left of it");
    // With the room back, the same release can be had.
    std::fs::remove_file(&filler).unwrap();
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}

/// A version with 24 MB in many files that no compression makes smaller.
fn large(version: &str) -> App {
    let mut state = 1_u64;
    let mut noise = || {
        // A linear congruential generator (Knuth, MMIX): all that is asked of it is not to repeat.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..240).fold(App::version(version), |app, n| {
        app.file(
            &format!("file-{n}"),
            (0..100_000).map(|_| noise()).collect(),
        )
    })
}

/// Waits without a pause, for what lasts only a moment.
fn until_at_once(mut there: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !there() {
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} in vain");
        std::thread::yield_now();
    }
}

/// Takes all the room that is left on the file system of this file.
fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).unwrap();
    let block = vec![1; 1 << 20];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&[1; 512]).is_ok() {}
}
