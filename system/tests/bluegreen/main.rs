//! Two pools of the example shop behind real routers, under a constant load: not one request fails while releases are
//! deployed, routers are switched, switched back and taken back, and agents are killed.
//!
//! Needs HAProxy with socat, or nginx with curl; says so loudly where they are not there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stderr,
    reason = "what is not tested is said, and how many requests there were"
)]

mod load;
mod routers;

use load::Load;
use nix::sys::signal::Signal;
use routers::{Kind, Router};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_system::{Fleet, HostOptions, free_address, program, until};

const POLICY: &str = r#"
[place]
"shop/web" = { role = "web" }
[policy]
canary = 1
max_parallel = 1
min_healthy = "100ms"
healthy_deadline = "10s"
progress_deadline = "30s"
[pools."shop/web"]
blue = { pool = "blue" }
green = { pool = "green" }
"#;

/// A fleet with four shops in two pools and two routers, and the requests that go through these.
struct Street {
    fleet: Fleet,
    routers: Vec<Router>,
    load: Option<Load>,
}

impl Street {
    /// 1.0.0 is deployed, and the load begins.
    fn new(kind: Kind) -> Self {
        let mut fleet = Fleet::new(&format!("{POLICY}{}", kind.environment()));
        let mut shops = Vec::new();
        for (name, pool) in [
            ("web-1", "blue"),
            ("web-2", "blue"),
            ("web-3", "green"),
            ("web-4", "green"),
        ] {
            // The shop listens on 127.0.0.1.
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            shops.push((pool, port));
            let options = HostOptions {
                more: format!("[variables]\nport = \"{port}\""),
                ..HostOptions::default()
            };
            fleet.add_labelled(name, &["role=web", &format!("pool={pool}")], &options);
        }
        let mut routers = Vec::new();
        for name in ["lb-1", "lb-2"] {
            let dir = fleet.desk(name);
            fs::create_dir(&dir).unwrap();
            let router = Router::start(kind, &dir, free_address(), free_address(), &shops);
            let options = HostOptions {
                more: router.variables(),
                ..HostOptions::default()
            };
            fleet.add_labelled(name, &["role=lb"], &options);
            routers.push(router);
        }
        fleet.all_connected();
        let mut street = Self {
            fleet,
            routers,
            load: None,
        };
        street.publish("1.0.0");
        // They send to blue, where nothing is: it goes to green.
        street.fleet.deploy("1.0.0").ends(0).says(&["web routers"]);
        street.all_send_to("green");
        street.load = Some(Load::on(street.routers.iter().map(|it| it.address)));
        street
    }

    /// The example shop, as this version.
    fn publish(&self, version: &str) {
        let example = repository().join("examples/shop");
        let desk = self.fleet.desk("shop");
        let _ = fs::remove_dir_all(&desk);
        fs::create_dir_all(&desk).unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .args([example.join("app"), example.join("tamer.toml")])
            .arg(&desk)
            .status();
        assert!(copied.unwrap().success());
        fs::copy(program("shop"), desk.join("app/bin/shop")).unwrap();
        fs::write(desk.join("app/VERSION"), format!("{version}\n")).unwrap();
        self.fleet.tamer(&["publish", version]).ends(0);
    }

    fn all_send_to(&self, pool: &str) {
        for router in &self.routers {
            assert_eq!(router.active(), pool, "{:?}", router.address);
        }
    }

    /// Waits until visitors have met this version so often since just now.
    fn is_met(&self, version: &str) {
        let load = self.load.as_ref().unwrap();
        let before = load.count(version);
        until(&format!("visitors to meet {version}"), || {
            (load.count(version) >= before + 50).then_some(())
        });
    }

    /// What the controller says of the routers.
    fn status(&self) -> serde_json::Value {
        self.fleet.json(&["status", "production"])["routers"][0].clone()
    }
}

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap().to_owned()
}

fn no_request_fails(kind: Kind) {
    if !kind.is_there() {
        return;
    }
    let mut street = Street::new(kind);
    street.is_met("1.0.0");

    // Forward: into the idle pool, all of it at once, and then the switch.
    street.publish("1.1.0");
    let plan = street.fleet.tamer(&["plan", "production", "1.1.0"]).ends(0);
    plan.says(&[
        "web/blue nothing → 1.1.0 · 2 hosts",
        "lb-1, lb-2: from green to blue",
    ]);
    street.fleet.deploy("1.1.0").ends(0);
    street.all_send_to("blue");
    street.is_met("1.1.0");

    // Back, in one command: no host is touched.
    let back = street
        .fleet
        .tamer(&["rollback", "production", "--reason", "orders are lost"]);
    back.ends(0).says(&["production is back at shop 1.0.0"]);
    street.all_send_to("green");
    street.is_met("1.0.0");
    let pools = street.status()["pools"].clone();
    assert_eq!(
        (&pools[0]["version"], &pools[1]["version"]),
        (&"1.1.0".into(), &"1.0.0".into()),
        "{pools}"
    );

    // An agent dies while its router is being switched, and another one takes that up.
    street.publish("1.2.0");
    street.routers[1].hold();
    let watching = street.fleet.begins(&["deploy", "production", "1.2.0"]);
    street.routers[1].is_held();
    street.fleet.host_mut(6).daemon.kill();
    street.fleet.host_is(6, "away");
    street.routers[1].let_go();
    street.fleet.host_mut(6).start();
    watching.end().ends(0);
    street.all_send_to("blue");
    street.is_met("1.2.0");

    // A router that fails half-way: all of them go back, and the idle pool to what it ran.
    street.publish("1.3.0");
    street.routers[1].fails(true);
    street
        .fleet
        .deploy("1.3.0")
        .ends(6)
        .says(&["lb-2", "the switch is broken", "rolled back"]);
    street.all_send_to("blue");
    let pools = street.status()["pools"].clone();
    assert_eq!(
        (&pools[0]["version"], &pools[1]["version"]),
        (&"1.2.0".into(), &"1.0.0".into()),
        "{pools}"
    );
    street.routers[1].fails(false);
    // What some met for a moment, nobody meets any more.
    let load = street.load.as_ref().unwrap();
    let before = load.count("1.3.0");
    street.is_met("1.2.0");
    assert_eq!(load.count("1.3.0"), before);

    // A pool that is not accepted is never used.
    street.publish("1.4.0");
    street.routers[0].refuses(true);
    street
        .fleet
        .deploy("1.4.0")
        .ends(6)
        .says(&["check `wanted` fails"]);
    street.routers[0].refuses(false);
    street.all_send_to("blue");

    // And on, once somebody has looked at it and lets it happen.
    let environment = format!("{POLICY}{}", kind.environment());
    let asks = environment.replace("\nswitch ", "\napproval = true\nswitch ");
    street.fleet.environment("production", &asks);
    street.fleet.deploy("1.4.0").ends(8).says(&[
        "somebody to promote it: pool green is accepted",
        "tamer promote 7",
    ]);
    street.all_send_to("blue");
    street
        .fleet
        .tamer(&["promote", "7", "--reason", "it looks right"])
        .ends(0);
    street
        .fleet
        .tamer(&["deploy", "production", "1.4.0", "--wait"])
        .ends(0);
    street.all_send_to("green");
    street.is_met("1.4.0");

    let told = street.load.take().unwrap().end();
    eprintln!("{kind:?}: {told}");
    assert_eq!(told.failed, Vec::<String>::new(), "{told}");
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.4.0"] {
        assert!(told.met.contains_key(version), "{told}");
    }
    assert!(told.is_whole(), "a request has no end: {told}");
}

#[test]
fn no_request_fails_behind_haproxy() {
    no_request_fails(Kind::HaProxy);
}

#[test]
fn no_request_fails_behind_nginx() {
    no_request_fails(Kind::Nginx);
}

#[test]
fn what_somebody_does_to_a_router_by_hand_is_shown_and_one_command_ends_it() {
    if !Kind::HaProxy.is_there() {
        return;
    }
    let street = Street::new(Kind::HaProxy);
    street.routers[0].by_hand("blue");
    let seen = until("the router to be noticed", || {
        let problem = street.status()["hosts"][0]["problem"].clone();
        (problem != "").then_some(problem)
    });
    assert_eq!(seen, "sends to blue: it was changed by hand");
    let words = [
        "router of shop/web",
        "wanted      green",
        "sends to    blue, since ",
    ];
    street.fleet.host(5).types(&["status"]).ends(0).says(&words);
    street
        .fleet
        .tamer(&["status", "production"])
        .ends(0)
        .says(&[
            "pool green is used",
            "✗ router lb-1",
            "tamer rollback production --application shop --component web --pool green",
        ]);
    street.publish("1.1.0");
    street
        .fleet
        .deploy("1.1.0")
        .ends(3)
        .says(&["pool blue is not idle: the router lb-1 sends to blue"]);
    let words = [
        "rollback",
        "production",
        "--component",
        "web",
        "--pool",
        "green",
    ];
    street.fleet.tamer(&words).ends(0);
    street.all_send_to("green");
    street.fleet.deploy("1.1.0").ends(0);
    street.all_send_to("blue");
}

/// A reload has new workers answer while old ones still do: the switch ends when none of these takes a request any more.
#[test]
fn a_switch_of_nginx_ends_when_its_old_workers_take_no_request_any_more() {
    if !Kind::Nginx.is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Nobody visits them.
    let shops = [("blue", 9), ("blue", 9), ("green", 9), ("green", 9)];
    let (visitors, inside) = (free_address(), free_address());
    let router = Router::start(Kind::Nginx, dir.path(), visitors, inside, &shops);
    let before = router.workers();
    let mut switch = router.begins_by_hand("green");
    while router.workers() == before {
        std::thread::yield_now();
    }
    // Stopped here, its old workers hear nothing of the reload.
    router.signal(Signal::SIGSTOP);
    let mut met = 0;
    until("new workers to answer", || {
        met += usize::from(router.active() == "green");
        (met >= 40).then_some(())
    });
    let ended = switch.try_wait().unwrap();
    router.signal(Signal::SIGCONT);
    assert!(ended.is_none(), "it ended while old workers answer");
    assert!(switch.wait().unwrap().success());
    for _ in 0..40 {
        assert_eq!(router.active(), "green");
    }
}
