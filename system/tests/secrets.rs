//! No secret reaches a log, a list of processes, the output of a command or a file that others can read; and a hook
//! cannot read what is the agent's.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what was not tried"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, Said, Store, files, is_root, program};

const PASSPHRASE: &str = "correct-horse-battery-staple-71";
const PASSWORD: &str = "planted-password-of-the-database-93";
/// What [`Store::s3`] wants.
const S3: &str = "not-a-secret";

/// The command lines of all processes, again and again until the end.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn begin() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !ends.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").unwrap().flatten() {
                    let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    // The store of the tests is told its secret so, and is none of ours.
                    if !line.contains("s3s-fs") {
                        seen.insert(line);
                    }
                }
            }
            seen
        });
        Self { over, thread }
    }

    fn end(self) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What must be seen nowhere: a name for it, and the text.
#[derive(Default)]
struct Secrets(BTreeMap<String, BTreeSet<String>>);

impl Secrets {
    fn add(&mut self, name: &str, text: &str) {
        let all = self.0.entry(name.to_owned()).or_default();
        all.insert(text.to_owned());
    }

    /// Every line of every private key below a directory.
    fn add_keys(&mut self, dir: &Path) -> usize {
        let mut found = 0;
        for file in files(dir) {
            let text = fs::read(&file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let mut parts = text.split("PRIVATE KEY-----\n").skip(1).step_by(2);
            if let Some(key) = parts.next() {
                found += 1;
                // All keys of one kind begin alike: the last lines are its own.
                let own = key.lines().filter(|line| !line.starts_with('-')).skip(1);
                own.for_each(|line| self.add(&file.display().to_string(), line));
            }
        }
        found
    }

    /// The names of those that stand in a text.
    fn in_text(&self, text: &[u8]) -> Vec<&str> {
        let text = String::from_utf8_lossy(text);
        let stands = |it: &&String| it.len() >= 8 && text.contains(it.as_str());
        let found = self
            .0
            .iter()
            .filter(|(_, all)| all.iter().any(|it| stands(&it)));
        found.map(|(name, _)| name.as_str()).collect()
    }
}

/// The files below `dir` that anybody on the machine can read. The directory itself counts as open.
fn readable_by_all(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::symlink_metadata(&path).unwrap();
        let mode = about.permissions().mode();
        if about.is_dir() && mode & 0o001 != 0 {
            found.extend(readable_by_all(&path));
        } else if about.is_file() && mode & 0o004 != 0 {
            found.push(path);
        }
    }
    found
}

/// What was found where: nothing, if all is well.
fn leaks(secrets: &Secrets, dir: &Path, told: &[String], lines: &BTreeSet<String>) -> Vec<String> {
    let mut all = Vec::new();
    let mut look = |place: String, text: &[u8]| {
        let found = secrets.in_text(text);
        all.extend(found.iter().map(|name| format!("{name} in {place}")));
    };
    for said in told {
        look(format!("what was said: {said}"), said.as_bytes());
    }
    for line in lines {
        look(format!("a command line: {line}"), line.as_bytes());
    }
    for file in readable_by_all(dir) {
        let text = fs::read(&file).unwrap();
        look(format!("{}, which all can read", file.display()), &text);
    }
    // Logs may be private, and are read by more people than the secrets are for.
    for file in files(dir) {
        let name = file.file_name().unwrap();
        if name == "log" || name.to_string_lossy().contains("audit") {
            look(
                format!("the log {}", file.display()),
                &fs::read(&file).unwrap(),
            );
        }
    }
    all
}

/// Whatever a command said.
fn keep(told: &mut Vec<String>, said: &Said) {
    told.push(said.all());
}

#[test]
fn no_secret_is_logged_shown_listed_or_readable_by_others() {
    let store = Store::s3();
    let table = store.as_ref().map_or(String::new(), |store| {
        format!(
            "[artifacts]\nurl = \"s3://releases/tamer\"\nendpoint = \"http://{}\"\nregion = \"us-east-1\"\n\
             credentials = \"{}\"\ndirect = \"presigned\"\n",
            store.address,
            store.beside("s3.toml").display()
        )
    });
    let watch = Watch::begin();
    let mut fleet = Fleet::with_store(ENVIRONMENT, &table);
    let dir = fleet.desk("..").canonicalize().unwrap();
    let (mut secrets, mut told) = (Secrets::default(), Vec::new());
    secrets.add("the password of a database", PASSWORD);
    secrets.add("a passphrase", PASSPHRASE);
    secrets.add("the credentials of the store", S3);

    // Tokens are no words of a command.
    for name in ["web-1", "web-2"] {
        let token = fleet.invite(&[]);
        let host = fleet.add_with_token(name, &token);
        let shared = host.root().join("shared/run");
        fs::create_dir_all(&shared).unwrap();
        let file = shared.join("local.env");
        fs::write(&file, format!("PASSWORD={PASSWORD}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        secrets.add("a join token", &token);
        // Once more, while the agent runs: both want the directory, and one at a time has it.
        fleet.all_connected();
        let again = fleet.host(1).enroll_with(&token, &["--force"]);
        keep(&mut told, &again);
    }
    let reads =
        ". \"$TAMER_SHARED/run/local.env\"; export PASSWORD; [ -n \"$PASSWORD\" ] || exit 1";
    fleet.publish(&App::version("1.0.0").and_then(reads));
    fleet.all_connected();
    keep(&mut told, &fleet.deploy("1.0.0").ends(0));
    let fails = format!("{reads}\necho 'cannot connect to the database'; exit 3");
    fleet.publish(&App::version("1.1.0").and_then(&fails));
    keep(
        &mut told,
        &fleet.deploy("1.1.0").ends(6).says(&["cannot connect"]),
    );
    fleet.publish(&App::version("1.2.0").and_then(reads));
    keep(&mut told, &fleet.deploy("1.2.0").ends(0));
    keep(&mut told, &fleet.tamer(&["rollback", "production"]).ends(0));

    // Keys: one under a passphrase, tried with a wrong one as well; others renewed and rotated.
    for (file, text) in [
        ("right", PASSPHRASE),
        ("wrong", "planted-and-wrong-passphrase"),
    ] {
        fs::write(dir.join(file), text).unwrap();
        fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    secrets.add("a wrong passphrase", "planted-and-wrong-passphrase");
    let with = |passphrase: &str, words: &[&str]| {
        let mut command = Command::new(program("tamer"));
        command.args(words).current_dir(fleet.desk("shop"));
        command.env("TAMER_HOME", fleet.desk("home"));
        command.env("TAMER_KEY_PASSPHRASE_FILE", dir.join(passphrase));
        let done = command.output().unwrap();
        [done.stdout, done.stderr].concat()
    };
    for (passphrase, words) in [
        ("right", &["trust", "rotate", "release", "--passphrase"][..]),
        ("right", &["trust", "key", "berta", "--passphrase"]),
        ("wrong", &["publish", "1.3.0"]),
        ("right", &["publish", "1.3.0"]),
        ("right", &["trust", "rotate", "environment"]),
        ("right", &["trust", "renew", "root"]),
    ] {
        told.push(String::from_utf8(with(passphrase, words)).unwrap());
    }
    for words in [
        &["trust", "status"][..],
        &["hosts", "--output", "json"],
        &["status", "--output", "json"],
        &["history"],
        &["doctor"],
        &["whoami"],
    ] {
        keep(&mut told, &fleet.tamer(words));
    }
    for words in [&["check"][..], &["audit", "verify"]] {
        keep(&mut told, &fleet.controller.types(words));
    }
    // Agents and controller read all of theirs anew.
    fleet.host_mut(1).daemon.kill();
    fleet.host_mut(1).start();
    fleet.controller.daemon.stop();
    fleet.controller.start();
    fleet.all_connected();
    let keys = secrets.add_keys(&dir);
    assert!(keys >= 8, "only {keys} private keys were found");
    let lines = watch.end();
    assert!(
        lines.iter().any(|line| line.contains("tamer deploy")),
        "nothing was watched"
    );
    let found = leaks(&secrets, &dir, &told, &lines);
    assert!(found.is_empty(), "{}", found.join("\n"));
    if store.is_none() {
        eprintln!("SKIPPED: the credentials of an S3 store were not looked for");
    }

    // And what leaks is found, in each of the places.
    let key = files(&dir.join("web-1")).into_iter();
    let mut key = key.filter(|it| it.ends_with("identity/identity.pem"));
    let key = key.next().unwrap();
    let text = fs::read_to_string(key).unwrap();
    let open = dir.join("notes");
    fs::write(&open, &text).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let line = BTreeSet::from([format!("psql password={PASSWORD}")]);
    let found = leaks(&secrets, &dir, &[format!("wrong: {PASSPHRASE}")], &line);
    for place in ["all can read", "a command line", "what was said"] {
        assert!(
            found.iter().any(|it| it.contains(place)),
            "{place}: {found:?}"
        );
    }
}

#[test]
fn a_hook_cannot_read_what_is_the_agents() {
    if !is_root() {
        return eprintln!("SKIPPED: what an agent that is root keeps from hooks needs root");
    }
    let mut fleet = Fleet::of_root(ENVIRONMENT);
    let dir = fleet.desk("..").canonicalize().unwrap();
    // Nothing but the agent's own modes keeps anybody out.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let root = dir.join("srv/web");
    fs::create_dir(dir.join("srv")).unwrap();
    let options = HostOptions {
        as_root: true,
        more: format!(
            "[application.shop]\nroots = [\"{}\"]\nusers = [\"nobody\"]",
            dir.join("srv").display()
        ),
        ..HostOptions::default()
    };
    let host = fleet.add("web-1", &options);
    host.lives_in(&root);
    let state = host.dir().join("state");
    fs::set_permissions(host.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fleet.all_connected();
    let tries = format!(
        "exec >\"$TAMER_SHARED/run/seen\" 2>\"$TAMER_SHARED/run/refused\"\n\
         id -un >\"$TAMER_SHARED/run/who\"\n\
         cat {state}/identity/identity.pem\nls {state}\ncat /proc/$PPID/environ\ncat {state}/journal* /proc/$PPID/fd/*\n\
         ln -s {state}/identity/identity.pem \"$TAMER_SHARED/run/link\"\ncat \"$TAMER_SHARED/run/link\"\ntrue",
        state = state.display()
    );
    let app = App::version("1.0.0")
        .root(root.to_str().unwrap())
        .with("user = \"nobody\"");
    fleet.publish(&app.and_then(&tries));
    fleet.deploy("1.0.0").ends(0);
    let read = |name: &str| fs::read_to_string(root.join("shared/run").join(name)).unwrap();
    assert_eq!(read("who").trim(), "nobody");
    assert_eq!(read("seen"), "", "a hook has read what is the agent's");
    let refused = read("refused");
    assert!(
        refused.matches("Permission denied").count() >= 4,
        "{refused}"
    );
    assert!(state.join("identity/identity.pem").is_file());
}
