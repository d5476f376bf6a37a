//! Every door that there is, by the list in the protocol itself, tried by those who may not pass: a call that somebody
//! adds is shut for them until this test is told why it is not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_system::{Fleet, HostOptions};

/// Refusals, as gRPC numbers them.
const PERMISSION_DENIED: u32 = 7;
const UNAUTHENTICATED: u32 = 16;

/// All that a viewer may ask for.
const LOOKS: &[&str] = &[
    "WhoAmI",
    "GetTrust",
    "ListReleases",
    "ListEnvironments",
    "ListEvidence",
    "ListHosts",
    "InspectDrift",
    "Plan",
    "GetStatus",
    "Watch",
    "History",
    "ListSchemas",
];

/// Every call of every service: `tamer.v1.Operators/Deploy`.
fn calls() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto/tamer/v1");
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut service = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.trim_end_matches(['{', ' ']).to_owned();
            } else if let Some(rest) = line.strip_prefix("rpc ") {
                let call = rest.split('(').next().unwrap();
                all.push(format!("tamer.v1.{service}/{call}"));
            }
        }
    }
    assert!(all.len() > 20, "{all:?}");
    all
}

/// What a call needs to have in it before it is asked who calls: whose environment it is about.
fn fields(call: &str) -> Vec<u8> {
    let text = |field: u8, text: &str| {
        let head = [field << 3 | 2, u8::try_from(text.len()).unwrap()];
        [&head[..], text.as_bytes()].concat()
    };
    match call.rsplit('/').next().unwrap() {
        "Deploy" | "Plan" | "Rollback" => {
            [text(1, "production"), text(2, "shop"), text(4, "1.0.0")].concat()
        }
        "Control" => [vec![1 << 3, 1], text(3, "pause")].concat(),
        "SettleSchema" => [text(1, "production"), text(2, "shop")].concat(),
        "SettleDrift" => {
            let place = [text(1, "web-1"), text(2, "shop"), text(3, "web")].concat();
            let drift = text(5, &"0".repeat(64));
            [place, drift, text(6, "repair")].concat()
        }
        _ => Vec::new(),
    }
}

/// Somebody who knocks, with a certificate and its key in one file, or with none.
struct Knocks<'a> {
    fleet: &'a Fleet,
    ca: PathBuf,
    identity: Option<PathBuf>,
}

impl Knocks<'_> {
    /// Calls, and gives the gRPC status.
    fn at(&self, call: &str) -> u32 {
        let fields = fields(call);
        let mut message = vec![0, 0, 0, 0, u8::try_from(fields.len()).unwrap()];
        message.extend(fields);
        let file = self.fleet.desk("message");
        fs::write(&file, message).unwrap();
        let mut command = Command::new("curl");
        // By HTTP/1.1, in which a refusal is a whole answer: where an HTTP/2 stream is closed before all of the message
        // was taken, curl says nothing else.
        // A stream that is let in stays open: what it began with is enough.
        command.args([
            "--silent",
            "--show-error",
            "--http1.1",
            "--max-time",
            "3",
            "--dump-header",
            "-",
        ]);
        command.args([
            "--output",
            "/dev/null",
            "--header",
            "content-type: application/grpc",
        ]);
        command.args(["--header", "te: trailers", "--data-binary"]);
        command.arg(format!("@{}", file.display()));
        command.arg("--cacert").arg(&self.ca);
        if let Some(identity) = &self.identity {
            command
                .arg("--cert")
                .arg(identity)
                .arg("--key")
                .arg(identity);
        }
        let address = self.fleet.controller.address();
        let output = command.arg(format!("https://{address}/{call}")).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("HTTP/1.1 200"), "{call}: {said} {why}");
        let status = said
            .lines()
            .find_map(|line| line.strip_prefix("grpc-status:"));
        status.map_or(0, |status| status.trim().parse().unwrap())
    }

    #[track_caller]
    fn stays_out(&self, call: &str) {
        let status = self.at(call);
        let out = [PERMISSION_DENIED, UNAUTHENTICATED].contains(&status);
        assert!(out, "{call} answers with {status}");
    }

    #[track_caller]
    fn is_heard(&self, call: &str) {
        let status = self.at(call);
        let out = [PERMISSION_DENIED, UNAUTHENTICATED].contains(&status);
        assert!(!out, "{call} answers with {status}");
    }
}

/// The folder of a login at the desk, under this home.
fn login(fleet: &Fleet, home: &str) -> PathBuf {
    let folders = fs::read_dir(fleet.desk(home)).unwrap();
    let mut folders = folders.map(|entry| entry.unwrap().path());
    folders.find(|it| it.join("identity.pem").exists()).unwrap()
}

#[test]
fn nobody_without_a_certificate_passes_any_door_but_the_one_for_tokens() {
    let fleet = Fleet::with_hosts(0);
    let nobody = Knocks {
        fleet: &fleet,
        ca: login(&fleet, "home").join("ca.pem"),
        identity: None,
    };
    for call in calls() {
        match call.as_str() {
            "tamer.v1.Enrolment/Join" => nobody.is_heard(&call),
            _ => nobody.stays_out(&call),
        }
    }
}

#[test]
fn a_host_passes_no_door_of_operators_and_an_operator_none_of_hosts() {
    let mut fleet = Fleet::with_hosts(0);
    let host = fleet.add("web-1", &HostOptions::default());
    host.daemon.kill();
    let identity = host.dir().join("state/identity");
    let host = Knocks {
        fleet: &fleet,
        ca: identity.join("ca.pem"),
        identity: Some(identity.join("identity.pem")),
    };
    let folder = login(&fleet, "home");
    let admin = Knocks {
        fleet: &fleet,
        ca: folder.join("ca.pem"),
        identity: Some(folder.join("identity.pem")),
    };
    for call in calls() {
        let (service, _) = call.split_once('/').unwrap();
        match service {
            "tamer.v1.Operators" => host.stays_out(&call),
            "tamer.v1.Agents" => admin.stays_out(&call),
            _ => assert_eq!(service, "tamer.v1.Enrolment"),
        }
    }
}

#[test]
fn a_viewer_looks_and_changes_nothing() {
    let fleet = Fleet::that_runs(1);
    let said = fleet
        .tamer(&["operator", "invite", "ben", "--role", "viewer"])
        .ends(0);
    let token = said.out.trim().rsplit(' ').next().unwrap();
    let home = fleet.desk("ben");
    let home = home.to_str().unwrap();
    fleet.tamer(&["login", token, "--home", home]).ends(0);
    let folder = login(&fleet, "ben");
    let viewer = Knocks {
        fleet: &fleet,
        ca: folder.join("ca.pem"),
        identity: Some(folder.join("identity.pem")),
    };
    for call in calls() {
        if let Some(name) = call.strip_prefix("tamer.v1.Operators/") {
            match LOOKS.contains(&name) {
                true => viewer.is_heard(&call),
                false => viewer.stays_out(&call),
            }
        }
    }
    fleet.all_run("1.0.0");
}
