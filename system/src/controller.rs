//! The controller: a process that is started, killed and started again on the same address.

use crate::clock::Clock;
use crate::process::{Daemon, Said, Typed, bound};
use crate::programs::program;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// A controller and its directory.
#[derive(Debug)]
pub struct Controller {
    dir: PathBuf,
    address: SocketAddr,
    metrics: SocketAddr,
    clock: Option<Clock>,
    /// The process.
    pub daemon: Daemon,
}

impl Controller {
    /// A new one below `dir`, running, with these tables in its configuration; and the login line of
    /// its first admin.
    pub(crate) fn new(dir: &Path, tables: &str) -> (Self, String) {
        let (address, metrics) = (free_address(), free_address());
        let dir = dir.join("controller");
        std::fs::create_dir(&dir).unwrap();
        let daemon = Daemon::new("the controller", dir.join("log"));
        let mut controller = Self {
            dir,
            address,
            metrics,
            clock: None,
            daemon,
        };
        controller.configure(tables);
        let said = controller.types(&["init", "--admin", "anna"]).ends(0);
        let token = said
            .out
            .lines()
            .find_map(|line| line.trim().strip_prefix("tamer login <<< "))
            .expect("init prints a login line")
            .to_owned();
        controller.start();
        (controller, token)
    }

    /// Writes its configuration, with these tables; for the next start.
    pub fn configure(&self, tables: &str) {
        let (address, metrics) = (self.address, self.metrics);
        let config = format!(
            "listen = \"{address}\"\nmetrics = \"{metrics}\"\npublic = \"{address}\"\nnames = [\"{}\"]\ndata = \"data\"\n\
             [backups]\ndirectory = \"backups\"\n{tables}",
            address.ip()
        );
        std::fs::write(self.dir.join("controller.toml"), config).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = bound(&program("tamer-controller"));
        command.args(words);
        command
            .arg("--config")
            .arg(self.dir.join("controller.toml"));
        command
    }

    /// Types a command of `tamer-controller`.
    pub fn types(&self, words: &[&str]) -> Said {
        let line = format!("tamer-controller {}", words.join(" "));
        Typed::begin(self.command(words), line).end()
    }

    /// Starts it, and waits until it serves.
    pub fn start(&mut self) {
        let mut command = self.command(&["serve"]);
        command.env("TAMER_LOG", "info");
        if let Some(clock) = &self.clock {
            clock.seen_by(&mut command);
        }
        self.daemon.start(command);
        self.daemon.logs("\"message\":\"serving\"");
    }

    /// Starts it anew with a clock that can be set.
    pub fn restart_with_clock(&mut self) {
        self.daemon.stop();
        self.clock = Some(Clock::right(&self.dir));
        self.start();
    }

    /// Sets the clock that it sees, also while it runs: `+1d` is a day ahead, `+0` is right.
    ///
    /// # Panics
    /// It was not started with [`Controller::restart_with_clock`].
    pub fn set_clock(&self, offset: &str) {
        let clock = self.clock.as_ref();
        clock.expect("it has a clock of its own").set(offset);
    }

    /// A file or directory below its data directory.
    pub fn data(&self, path: &str) -> PathBuf {
        self.dir.join("data").join(path)
    }

    /// Where it shows its metrics.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// What it has counted since its start: one of its metrics, without labels.
    pub fn counted(&self, metric: &str) -> u64 {
        let mut line = TcpStream::connect(self.metrics).unwrap();
        write!(line, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        line.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(metric));
        let value = value.unwrap_or_else(|| panic!("no {metric} in {text}"));
        value.trim().parse().unwrap()
    }

    /// Its machine is lost: what is left is a copy of the directory of its backups, as it was just then.
    pub fn lose(&mut self) -> PathBuf {
        self.daemon.kill();
        let copy = self.dir.with_file_name("elsewhere");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.dir.join("backups"))
            .arg(&copy)
            .status();
        assert!(copied.unwrap().success());
        std::fs::remove_dir_all(&self.dir).unwrap();
        std::fs::create_dir(&self.dir).unwrap();
        copy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An address that nobody else uses, also while nobody listens on it: the port is the kernel's choice,
/// on a loopback address of this test's own, which no other process gets a port on by accident.
///
/// # Panics
/// There is none.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // 127.0.0.0/16 is left to those who want localhost.
    let address = Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}
