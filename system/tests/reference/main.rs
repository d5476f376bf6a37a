//! The reference in `docs/reference/` is made from the programs and their sources, and committed so
//! that it can be read without either. This test makes it anew and compares;
//! `TAMER_REGENERATE=1 cargo test -p tamer-system --test reference` writes it.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot go on has failed"
)]

mod find;
mod help;
mod monitoring;
mod pages;
mod source;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_system::{ENVIRONMENT, Fleet, HostOptions, LIMIT, program};

/// Where the book is.
fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Compares a page with what it should be, or writes it.
#[track_caller]
fn is_current(page: &str, body: &str) {
    let path = docs().join("reference").join(page);
    let fresh = format!(
        "<!-- Generated: TAMER_REGENERATE=1 cargo test -p tamer-system --test reference -->\n\n{body}"
    );
    if std::env::var_os("TAMER_REGENERATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = committed
        .lines()
        .zip(fresh.lines())
        .find(|(old, new)| old != new)
        .map_or_else(String::new, |(old, new)| format!("\n- {old}\n+ {new}"));
    assert!(
        committed == fresh,
        "docs/reference/{page} is not what the code says: run \
         TAMER_REGENERATE=1 cargo test -p tamer-system --test reference{differs}"
    );
}

/// Runs one of the programs with nothing of this test's environment.
#[track_caller]
fn types(name: &str, words: &[&str], dir: &Path) -> String {
    let output = Command::new(program(name))
        .args(words)
        .env_clear()
        .env("HOME", dir)
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {words:?}: {said}{failed}");
    said
}

#[test]
fn commands() {
    for (name, page) in [
        ("tamer", "cli.md"),
        ("tamer-controller", "controller.md"),
        ("tamer-agent", "agent.md"),
    ] {
        is_current(page, &help::page(name));
    }
}

#[test]
fn configuration() {
    let fleet = Fleet::new(ENVIRONMENT);
    let desk = fleet.desk("written");
    let shop = desk.join("shop");
    fs::create_dir_all(shop.join("dist")).unwrap();
    types("tamer", &["init"], &shop);
    let tamer = fs::read_to_string(shop.join("tamer.toml")).unwrap();

    let file = desk.join("agent.toml");
    let state = desk.join("state");
    let (file, state) = (file.to_str().unwrap(), state.to_str().unwrap());
    let kept = desk.join("token");
    fs::write(&kept, fleet.invite(&[])).unwrap();
    let kept = kept.to_str().unwrap();
    let words = [
        "enroll", "--config", file, "--state", state, "--name", "web-1",
    ];
    types(
        "tamer-agent",
        &[&words[..], &["--token-file", kept]].concat(),
        &desk,
    );
    let agent = fs::read_to_string(file)
        .unwrap()
        .replace(state, "/var/lib/tamer/agent")
        .replace(
            &fleet.controller.address().to_string(),
            "controller.example:7400",
        );

    let file = desk.join("controller.toml");
    let data = desk.join("controller");
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    types(
        "tamer-controller",
        &["init", "--config", file, "--data", data],
        &desk,
    );
    let controller = fs::read_to_string(file).unwrap().replace(
        &format!("data = \"{data}\""),
        "# data = \"/var/lib/tamer/controller\"",
    );

    let config = source::Source::read("controller/src/config/file.rs");
    let mut keys = config.keys("ConfigFile");
    keys.extend(config.keys("BackupsFile"));
    let place = source::Source::read("controller/src/artifacts/place.rs");
    keys.extend(place.keys("PlaceFile"));
    for key in keys {
        let (set, table) = (format!("{} = ", key.name), format!("[{}]", key.name));
        let quoted = format!("`{}`", key.name);
        let named = |line: &str| {
            let line = line.trim_start_matches("# ");
            line.starts_with(&set) || line == table || line.contains(&quoted)
        };
        assert!(
            controller.lines().any(named),
            "controller.toml lacks `{}`",
            key.name
        );
    }
    is_current(
        "configuration.md",
        &pages::configuration(&tamer, &agent, &controller),
    );
}

/// A public key, ECDSA P-256.
const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

/// What the tables say can be written is taken by the program, and nothing else is.
#[test]
fn documented_keys_are_taken() {
    let sample = |key: &source::Key| match key.default.as_deref() {
        Some(default) if !default.is_empty() => default.to_owned(),
        _ => match key.value.as_str() {
            "number" => "200".to_owned(),
            "text" if key.name == "by" => "\"zone\"".to_owned(),
            value if value.starts_with("list of: text") => "[\"true\"]".to_owned(),
            value if value.starts_with("list of: [point]") => "[]".to_owned(),
            value if value.starts_with("list of: [evidence]") => "[\"build\"]".to_owned(),
            value if value.starts_with("[hosts]") => "1".to_owned(),
            value if value.starts_with("[time]") => "\"1h\"".to_owned(),
            value if value.starts_with("table: [evidence]") => "{ build = \"1h\" }".to_owned(),
            "public key" => format!("\"{KEY}\""),
            "day" => "\"2099-12-31\"".to_owned(),
            _ => "\"10%\"".to_owned(),
        },
    };
    let table = |keys: &[source::Key]| -> String {
        // Tables of tables are written as such.
        let keys = keys
            .iter()
            .filter(|key| !key.value.starts_with("table: name = table"));
        keys.map(|key| format!("{} = {}\n", key_name(key), sample(key)))
            .collect()
    };
    let policy = source::Source::read("core/src/policy.rs").keys("Policy");
    let evidence = source::Source::read("core/src/evidence.rs");
    let check = source::Source::read("core/src/check.rs");
    let mut text = format!(
        "[policy]\n{}[evidence]\n{}[evidence.keys.ci]\n{}",
        table(&policy),
        table(&evidence.keys("Demanded")),
        table(&evidence.keys("EvidenceKey")),
    );
    for kind in check.variants("CheckKind") {
        let (word, keys) = (&kind.word, table(&kind.keys));
        text += &format!("[checks.{word}]\ntype = \"{word}\"\n{keys}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("production.toml");
    let words = ["env", "apply", "production.toml", "--check"];
    fs::write(&file, &text).unwrap();
    types("tamer", &words, dir.path());
    fs::write(&file, text + "unheard_of = 1\n").unwrap();
    let refused = std::panic::catch_unwind(|| types("tamer", &words, dir.path()));
    assert!(refused.is_err(), "an unknown key was taken");
}

fn key_name(key: &source::Key) -> &str {
    &key.name
}

#[test]
fn check_types() {
    is_current("checks.md", &pages::checks());
}

#[test]
fn exit_codes() {
    is_current("exit-codes.md", &pages::exit_codes());
}

#[test]
fn lifetimes() {
    is_current("lifetimes.md", &pages::lifetimes());
}

#[test]
fn metrics() {
    is_current("metrics.md", &pages::metrics());
}

/// What the sources seem to say, held against what the programs really serve.
#[test]
fn metrics_are_those_that_the_programs_serve() {
    let mut fleet = Fleet::new(ENVIRONMENT);
    let addresses = [fleet.controller.metrics(), free_address()];
    let more = HostOptions {
        more: format!("metrics = \"{}\"\n", addresses[1]),
        ..HostOptions::default()
    };
    fleet.add("web-1", &more);
    fleet.all_connected();
    for ((program, file), address) in pages::METRICS.into_iter().zip(addresses) {
        let text = get(address, "/metrics");
        let known: BTreeSet<(String, String)> = pages::metrics_of(file)
            .into_iter()
            .map(|it| (it.name.trim_end_matches("_total").to_owned(), it.kind))
            .collect();
        let real: BTreeSet<(String, String)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect();
        assert!(real.len() > 3, "{program}: {text}");
        let strange: Vec<_> = real.difference(&known).collect();
        assert!(
            strange.is_empty(),
            "{program} serves what {file} hides: {strange:?}"
        );
    }
}

/// A port of the kernel's choice that nobody listens on.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The answer to a request, with its head.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
