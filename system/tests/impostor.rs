//! A host in the wrong hands: its real certificate, and a program that says over it whatever the protocol allows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use tamer_system::wire::{self, Line, count, generation, message, request, within};
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, until};

const CONNECT: &str = "/tamer.v1.Agents/Connect";
const RENEW: &str = "/tamer.v1.Enrolment/Renew";

/// Far more than the controller has told anybody in a test.
const GENERATIONS: u64 = 60;

/// Something else belongs on other hosts.
fn environment() -> String {
    let vault = "\"bank/web\" = { role = \"vault\" }\n[policy]";
    ENVIRONMENT.replacen("[policy]", vault, 1)
}

/// The key and certificate of a host whose agent does not run any more.
fn identity(fleet: &mut Fleet, number: usize) -> PathBuf {
    fleet.host_mut(number).daemon.kill();
    fleet.host(number).dir().join("state/identity/identity.pem")
}

/// Whether these bytes hold this text.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|it| it == text.as_bytes())
}

/// The digest of a release's manifest, as bytes.
fn manifest(fleet: &Fleet, version: &str) -> Vec<u8> {
    let releases = fleet.json(&["releases"]).to_string();
    let (_, after) = releases.split_once(version).unwrap();
    let digest = after
        .split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() == 64)
        .unwrap_or_else(|| panic!("no manifest of {version} in {releases}"));
    (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&digest[at..at + 2], 16).unwrap())
        .collect()
}

/// A report that `bank/web` runs this release, has ended every activation with `counter`, and sends to every pool.
fn lie(counter: u64, version: &str, manifest: &[u8]) -> Vec<u8> {
    let release = [within(1, version.as_bytes()), within(2, manifest)].concat();
    // Of the epoch of a controller that was never restored: what is above that shuts a host out.
    let told = generation(0, counter);
    let done = [within(1, &told), within(2, &release), within(4, &[])].concat();
    let migrated = [within(1, &told), within(3, &count(1, 7))].concat();
    let component = [
        within(1, &wire::slot("bank", "web")),
        within(2, &release),
        within(3, manifest),
        within(5, &done),
        within(9, &migrated),
        count(10, 1),
    ];
    let route = [
        within(1, b"bank"),
        within(2, b"web"),
        within(3, &told),
        within(4, b"green"),
    ];
    [
        within(1, &told),
        within(2, &component.concat()),
        within(5, &route.concat()),
    ]
    .concat()
}

/// A request for a certificate of this host, for a new key.
fn signing_request(fleet: &Fleet, name: &str) -> Vec<u8> {
    let (csr, key) = (fleet.desk("csr.pem"), fleet.desk("csr-key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    openssl.args(["-nodes", "-subj", &format!("/CN={name}"), "-addext"]);
    openssl.arg(format!(
        "subjectAltName=URI:tamer://host/production/{name}?incarnation=1"
    ));
    let made = openssl
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&csr)
        .output();
    assert!(made.unwrap().status.success());
    message(&within(1, &fs::read(&csr).unwrap()))
}

/// The names in the certificates of a text.
fn names(pem: &Path) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]);
    let done = command.arg(pem).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_host_neither_speaks_for_another_one_nor_hears_what_that_should_be() {
    let mut fleet = Fleet::new(&environment());
    fleet.environment("staging", &environment());
    fleet.add("web-1", &HostOptions::default());
    fleet.add_labelled("vault-1", &["role=vault"], &HostOptions::default());
    let vault = fleet.host(2).dir().join("root/srv/bank/web");
    fleet.host_mut(2).lives_in(&vault);
    fleet.all_connected();
    fleet.publish(&App::version("1.0.0"));
    let deploy = |fleet: &Fleet, version: &str, application: &str| {
        fleet.begins(&[
            "deploy",
            "production",
            version,
            "--application",
            application,
        ])
    };
    deploy(&fleet, "1.0.0", "shop").end().ends(0);
    let bank = |version: &str| App::version(version).of("bank");
    fleet.publish(&bank("1.0.0"));
    deploy(&fleet, "1.0.0", "bank").end().ends(0);
    let held = "[ -e \"$TAMER_SHARED/run/go\" ] || exit 75";
    fleet.publish(&bank("1.1.0").and_then(held));
    let stolen = identity(&mut fleet, 1);
    let address = fleet.controller.address();

    // The vault has leave to switch, and has not ended it: whoever spoke for it now would end the rollout.
    let mut rollout = deploy(&fleet, "1.1.0", "bank");
    let before = fleet.component_says(2, "/state", "working: start");
    let forged = manifest(&fleet, "1.1.0");
    let reports = "tamer_controller_reports_total";
    let quiet = fleet.controller.counted(reports);
    let over = std::sync::atomic::AtomicBool::new(false);
    let mut line = Line::open(address, Some(&stolen));
    line.sends(&request(1, CONNECT));
    // There is no place for a name in a greeting: it is put wherever one could be.
    let mut hello = wire::greeting_with("production", "vault-1", &lie(1, "1.1.0", &forged));
    hello.extend(within(15, b"vault-1"));
    assert!(line.sends_data(&message(&hello), &over));
    for counter in 1..=GENERATIONS {
        let report = within(2, &lie(counter, "1.1.0", &forged));
        assert!(line.sends_data(&message(&report), &over));
    }
    until("the lies to be read", || {
        (fleet.controller.counted(reports) >= quiet + GENERATIONS).then_some(())
    });
    assert!(rollout.is_running(), "{}", rollout.so_far());
    let after = fleet.component_says(2, "/state", "working: start");
    assert_eq!(before, after, "the vault's state was touched");
    assert_eq!(fleet.row("vault-1")["state"], "connected");
    let told = line.heard();
    assert!(holds(&told, "shop"), "it hears what it should be itself");
    assert!(
        !holds(&told, "bank"),
        "it heard what another host should be"
    );

    // The vault goes on, and ends its switch itself.
    fleet.host(2).share("go");
    rollout.end().ends(0);
    fleet.host(2).will_run("1.1.0");

    // Neither under the name of another environment,
    let mut elsewhere = Line::open(address, Some(&stolen));
    elsewhere.sends(&request(1, CONNECT));
    elsewhere.sends_data(&message(&wire::greeting("staging")), &over);
    until("the greeting to be refused", || {
        elsewhere.is_over().then_some(())
    });
    assert_eq!(elsewhere.heard(), b"");
    // nor with a certificate for which it asks in another name.
    let mut renewal = Line::open(address, Some(&stolen));
    renewal.sends(&request(1, RENEW));
    renewal.sends_data(&signing_request(&fleet, "vault-1"), &over);
    renewal.ends_data();
    until("an answer", || renewal.is_over().then_some(()));
    let answer = fleet.desk("answer.pem");
    let heard = renewal.heard();
    let begins = heard.windows(10).position(|it| it == b"-----BEGIN");
    fs::write(&answer, &heard[begins.expect("a certificate")..]).unwrap();
    let names = names(&answer);
    assert!(names.contains("host/production/web-1?"), "{names}");
    assert!(!names.contains("vault"), "{names}");
}

#[test]
fn a_host_that_is_removed_is_out_at_once_and_does_not_come_back_with_its_certificate() {
    let mut fleet = Fleet::that_runs(2);
    let stolen = identity(&mut fleet, 2);
    let address = fleet.controller.address();
    let over = std::sync::atomic::AtomicBool::new(false);
    let open = |path: &str, say: &[u8]| {
        let mut line = Line::open(address, Some(&stolen));
        line.sends(&request(1, path));
        line.sends_data(say, &over);
        line
    };
    let greeting = message(&wire::greeting("production"));
    let line = open(CONNECT, &greeting);
    until("it to hear what it should be", || {
        holds(&line.heard(), "shop").then_some(())
    });
    assert!(!line.is_over());
    let remove = |name: &str| {
        let words = [
            "host",
            "remove",
            name,
            "--reason",
            "the disk went to repair",
        ];
        fleet.tamer(&words).ends(0);
    };
    remove("web-2");
    until("its session to end", || line.is_over().then_some(()));
    for (path, say) in [
        (CONNECT, greeting),
        (RENEW, signing_request(&fleet, "web-2")),
    ] {
        let mut line = open(path, &say);
        line.ends_data();
        until("it to be refused", || line.is_over().then_some(()));
        assert_eq!(line.heard(), b"", "{path}");
    }

    // A whole agent says why, and what to do; what it runs goes on.
    remove("web-1");
    let words = [
        "web-1 has been revoked",
        "tamer host invite --replace web-1",
    ];
    for word in words {
        fleet.host_mut(1).daemon.logs(word);
    }
    fleet.controller.daemon.stop();
    fleet.controller.start();
    fleet.host_mut(1).daemon.stop();
    fleet.host_mut(1).start();
    for word in words {
        fleet.host_mut(1).daemon.logs(word);
    }
    assert!(fleet.host_mut(1).daemon.is_running());
    assert_eq!(fleet.host(1).runs().as_deref(), Some("1.0.0"));
    // With a new key it is in again.
    let token = fleet.invite(&["--replace", "web-1"]);
    fleet.host_mut(1).daemon.stop();
    fleet.host(1).enroll_with(&token, &["--force"]).ends(0);
    fleet.host_mut(1).start();
    fleet.host_is(1, "connected");
}

#[test]
fn a_host_that_heard_another_controller_is_shown_and_taken_back() {
    let mut fleet = Fleet::that_runs(1);
    let stolen = identity(&mut fleet, 1);
    let address = fleet.controller.address();
    let over = std::sync::atomic::AtomicBool::new(false);
    // What an agent says to which a liar, with the stolen keys of the controller, has spoken.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let epoch = now.as_secs() + 3600;
    let report = within(1, &generation(epoch, 3));
    let mut line = Line::open(address, Some(&stolen));
    line.sends(&request(1, CONNECT));
    let hello = wire::greeting_with("production", "another-run", &report);
    line.sends_data(&message(&hello), &over);
    until("it to be refused", || line.is_over().then_some(()));
    fleet.host_mut(1).start();
    fleet.host_mut(1).daemon.logs("tamer host take-back web-1");
    fleet.host_is(1, "quarantined");
    let take_back = |name: &str| fleet.tamer(&["host", "take-back", name, "--reason", "it is off"]);
    let noted = format!("web-1 has heard of generation {epoch}.3");
    fleet
        .tamer(&["status"])
        .ends(0)
        .says(&[&noted, "tamer host take-back web-1"]);
    take_back("web-9").ends(3);
    take_back("web-1").ends(0).says(&[&(epoch + 1).to_string()]);
    take_back("web-1").ends(3).says(&["nothing to take back"]);
    fleet.host_is(1, "connected");
    fleet
        .tamer(&["audit"])
        .ends(0)
        .says(&["host.take-back", "it is off"]);
    // What it is told now is above what it had heard, also after a restart, which is no restore.
    fleet.publish(&App::version("1.1.0"));
    fleet.deploy("1.1.0").ends(0);
    fleet.controller.daemon.stop();
    fleet.controller.start();
    fleet.host_is(1, "connected");
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.0.0");
    let told = fleet.host(1).types(&["status"]).ends(0).all();
    assert!(
        told.contains(&format!("generation {}.", epoch + 1)),
        "{told}"
    );
}
