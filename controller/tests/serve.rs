//! The binary, serving: started, asked, stopped.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tamer_controller::config::Config;
use tamer_controller::identity::ca::Ca;
use tamer_controller::store::backup;
use tamer_kit::{http, tls};

/// Far above what anything here takes; whoever waits so long has hung.
const LIMIT: Duration = Duration::from_secs(60);

fn command(file: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tamer-controller"));
    command.args(args).arg("--config").arg(file);
    command.env("TAMER_LOG", "info");
    command
}

fn output(file: &Path, args: &[&str]) -> Output {
    command(file, args).output().unwrap()
}

/// A controller on ports that the kernel chose.
fn new_controller() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("controller.toml");
    let data = dir.path().join("data");
    let init = output(
        &file,
        &[
            "init",
            "--listen=127.0.0.1:0",
            "--public=localhost:7400",
            "--metrics=127.0.0.1:0",
            "--data",
            data.to_str().unwrap(),
        ],
    );
    let said = String::from_utf8_lossy(&init.stderr);
    assert!(init.status.success(), "{said}");
    (dir, file)
}

struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Serving {
    /// Starts it, and reads its log until both addresses are known.
    fn start(file: &Path) -> Self {
        let mut child = command(file, &["serve"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut address, mut metrics, mut all) = (None, None, String::new());
        while address.is_none() || metrics.is_none() {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended: {all}");
            all.push_str(&line);
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let at = || line["address"].as_str().unwrap().parse().unwrap();
            match line["message"].as_str() {
                Some("serving") => address = Some(at()),
                Some("serving metrics") => metrics = Some(at()),
                _ => {}
            }
        }
        let (address, metrics) = (address.unwrap(), metrics.unwrap());
        Self {
            child,
            log,
            address,
            metrics,
        }
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    fn ended(&mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < LIMIT, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (status, rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn plain(address: SocketAddr, path: &str) -> String {
    let mut line = TcpStream::connect(address).unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    line.write_all(ask.as_bytes()).unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).unwrap();
    answer
}

fn backups(file: &Path) -> usize {
    let directory = Config::load(file).unwrap().backups.directory;
    backup::list(&directory).unwrap().len()
}

#[test]
fn it_serves_answers_and_stops_when_it_is_told() {
    let (_dir, file) = new_controller();
    let mut serving = Serving::start(&file);
    assert!(plain(serving.metrics, "/healthz").starts_with("HTTP/1.1 200"));
    let shown = plain(serving.metrics, "/metrics");
    assert!(
        shown.contains("tamer_controller_agents_connected 0"),
        "{shown}"
    );

    // Whoever knows the CA reaches the one port, and as a stranger gets nothing.
    let ca = Ca::load(&Config::load(&file).unwrap().paths().ca).unwrap();
    let client = http::client(tls::client_config(ca.certificate_pem(), None).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for path in [
        format!("/blobs/{}", "0".repeat(64)),
        "/trust/team/1.root.json".to_owned(),
    ] {
        let url = format!("https://{}{path}", serving.address);
        let answer = runtime.block_on(async { client.get(url).send().await });
        let answer = answer.unwrap();
        assert_eq!(answer.status().as_u16(), 401, "{path}");
    }
    // Its connections end with it, so that the stop has none to wait for.
    drop((client, runtime));

    let second = output(&file, &["serve"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    let stopped_first = output(&file, &["backup"]);
    assert_eq!(stopped_first.status.code(), Some(1));

    serving.signal(nix::sys::signal::Signal::SIGTERM);
    let (status, log) = serving.ended();
    assert!(status.success(), "{status}: {log}");
    assert!(backups(&file) >= 1, "the first automatic backup: {log}");
    assert!(
        output(&file, &["backup"]).status.success(),
        "nothing is locked any more"
    );
}

#[test]
fn a_killed_controller_starts_again_and_an_interrupt_stops_it() {
    let (_dir, file) = new_controller();
    let mut serving = Serving::start(&file);
    serving.signal(nix::sys::signal::Signal::SIGKILL);
    serving.ended();
    let mut serving = Serving::start(&file);
    serving.signal(nix::sys::signal::Signal::SIGINT);
    let (status, log) = serving.ended();
    assert!(status.success(), "{status}: {log}");
    assert!(output(&file, &["check"]).status.success());
}

#[test]
fn without_init_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("controller.toml");
    std::fs::write(&file, "data = \"data\"\n").unwrap();
    let refused = output(&file, &["serve"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("tamer-controller init"), "{said}");
}
