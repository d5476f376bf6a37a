//! The release as an agent runs it: its hooks, in a root of their own, with a clean environment.

#![allow(clippy::unwrap_used, reason = "a test says best where it broke")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// A component's root on a server, with any number of releases.
struct Root {
    dir: tempfile::TempDir,
    port: u16,
    last: PathBuf,
}

impl Root {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("shared")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Self {
            last: dir.path().to_owned(),
            dir,
            port,
        }
    }

    /// Puts a release in place: the tree that is packed, with the program and this version in it.
    fn release(&mut self, version: &str) -> PathBuf {
        let to = self
            .dir
            .path()
            .join("releases")
            .join(format!("1-{version}-abc"));
        let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("app");
        fs::create_dir_all(to.join("bin")).unwrap();
        for name in ["bin/start", "bin/stop", "bin/validate", "shop.conf"] {
            fs::copy(app.join(name), to.join(name)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_shop"), to.join("bin/shop")).unwrap();
        fs::write(to.join("VERSION"), format!("{version}\n")).unwrap();
        self.last.clone_from(&to);
        to
    }

    fn hook(&self, release: &Path, name: &str) -> Output {
        let version = fs::read_to_string(release.join("VERSION")).unwrap();
        let shared = self.dir.path().join("shared");
        // The output goes to files: a daemon that kept a pipe open would hold us up here.
        let (out, err) = (shared.join("hook.out"), shared.join("hook.err"));
        let status = Command::new(release.join("bin").join(name))
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("TAMER_ROOT", self.dir.path())
            .env("TAMER_RELEASE", release)
            .env("TAMER_SHARED", &shared)
            .env("TAMER_VERSION", version.trim())
            .env("TAMER_VAR_PORT", self.port.to_string())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .status()
            .unwrap();
        Output {
            status,
            stdout: fs::read(out).unwrap(),
            stderr: fs::read(err).unwrap(),
        }
    }

    fn must(&self, release: &Path, name: &str) {
        let said = self.hook(release, name);
        assert!(
            said.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&said.stderr)
        );
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.path().join("shared/run/shop.pid")
    }

    /// The status and the body of an answer, if anybody answers.
    fn ask(&self, request: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        self.ask(&format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    fn order(&self, body: &str) -> u16 {
        let answer = self.ask(&format!(
            "POST /orders HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        answer.expect("an answer").0
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.last.join("bin/stop").exists() {
            self.hook(&self.last, "stop");
        }
    }
}

#[test]
fn one_release_takes_over_from_another_and_orders_survive() {
    let mut root = Root::new();
    let old = root.release("1.0.0");
    root.must(&old, "start");
    root.must(&old, "validate");
    assert_eq!(root.get("/version").unwrap(), (200, "1.0.0\n".to_owned()));
    assert_eq!(root.get("/health").unwrap(), (200, "well\n".to_owned()));
    assert_eq!(root.order("item=tea&name=%3Cb%3EAda"), 303);
    assert_eq!(root.order("item=&name=Ada"), 422);
    let page = root.get("/").unwrap().1;
    assert!(page.contains("version 1.0.0"), "{page}");
    assert!(page.contains("tea for &lt;b&gt;Ada"), "{page}");

    let new = root.release("1.1.0");
    root.must(&old, "stop");
    assert!(!root.pid_file().exists());
    assert!(root.get("/version").is_none(), "stopped is stopped");
    root.must(&new, "start");
    root.must(&new, "validate");
    let page = root.get("/").unwrap().1;
    assert!(
        page.contains("version 1.1.0") && page.contains("tea for"),
        "{page}"
    );
    assert!(
        !root.hook(&old, "validate").status.success(),
        "1.1.0 is not 1.0.0"
    );
    root.must(&new, "stop");
    root.must(&new, "stop");
}

#[test]
fn starting_twice_leaves_one_shop() {
    let mut root = Root::new();
    let release = root.release("1.0.0");
    root.must(&release, "start");
    let first = fs::read_to_string(root.pid_file()).unwrap();
    root.must(&release, "start");
    let second = fs::read_to_string(root.pid_file()).unwrap();
    assert_ne!(first, second);
    let exe = format!("/proc/{}/exe", first.trim());
    assert!(fs::read_link(exe).is_err(), "the first one is gone");
    assert_eq!(root.get("/version").unwrap().0, 200);
}

#[test]
fn a_missing_setting_starts_and_is_not_well() {
    let mut root = Root::new();
    let release = root.release("1.2.0");
    fs::write(release.join("shop.conf"), "title = Shop\n").unwrap();
    root.must(&release, "start");
    assert_eq!(
        root.get("/health").unwrap(),
        (
            500,
            "KeyError: 'payment_url' (shop.conf of 1.2.0)\n".to_owned()
        )
    );
    assert_eq!(root.order("item=tea&name=Ada"), 500);
    root.must(&release, "stop");
}

#[test]
fn a_shop_that_cannot_keep_orders_is_not_well() {
    let mut root = Root::new();
    let release = root.release("1.0.0");
    root.must(&release, "start");
    let data = root.dir.path().join("shared/data");
    fs::remove_dir_all(&data).unwrap();
    let (status, said) = root.get("/health").unwrap();
    assert_eq!(status, 500);
    assert!(said.starts_with("cannot keep orders: "), "{said}");
}

#[test]
fn a_port_that_is_taken_is_said_and_nothing_is_left() {
    let mut root = Root::new();
    let release = root.release("1.0.0");
    let other = TcpListener::bind(("127.0.0.1", root.port)).unwrap();
    let said = root.hook(&release, "start");
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("cannot listen on 127.0.0.1:"), "{said}");
    assert!(!root.pid_file().exists());
    drop(other);
}

#[test]
fn a_strangers_process_is_left_alone() {
    let mut root = Root::new();
    let release = root.release("1.0.0");
    let mut stranger = Command::new("sleep").arg("300").spawn().unwrap();
    fs::create_dir_all(root.pid_file().parent().unwrap()).unwrap();
    fs::write(root.pid_file(), format!("{}\n", stranger.id())).unwrap();
    root.must(&release, "stop");
    assert!(stranger.try_wait().unwrap().is_none(), "it was killed");
    assert!(!root.pid_file().exists());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}
