//! Routers of Debian's packages, each with a directory and ports of its own. They are switched by the scripts of
//! `examples/routers`, which the tests call through one that can be made to wait and to fail.

use super::repository;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tamer_system::until;

/// Which router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    HaProxy,
    Nginx,
}

const COMMON: &str = r#"
[router."shop/web"]
hosts    = { role = "lb" }
switch   = ["/bin/sh", "-c", "exec \"$TAMER_VAR_BOX/switch\""]
active   = ["/bin/sh", "-c", "exec \"$TAMER_VAR_BOX/active\""]
interval = "200ms"
deadline = "30s"
bake     = "500ms"

[acceptance."shop/web".home]
type     = "http"
url      = "http://{inside}/{pool}/health"
interval = "3s"

[acceptance."shop/web".wanted]
type     = "command"
run      = ["/bin/sh", "-c", "test ! -e \"$TAMER_VAR_BOX/refuses\""]
interval = "300ms"
"#;

impl Kind {
    /// Whether its programs are there.
    pub(crate) fn is_there(self) -> bool {
        let needed = match self {
            Self::HaProxy => ["haproxy", "socat"],
            Self::Nginx => ["nginx", "curl"],
        };
        let missing = needed.iter().find(|it| find(it).is_none());
        if let Some(missing) = missing {
            eprintln!(
                "SKIPPED: {missing} is not there; apt-get install haproxy socat nginx-light curl"
            );
        }
        missing.is_none()
    }

    /// The router's part of the environment file.
    pub(crate) fn environment(self) -> &'static str {
        COMMON
    }

    fn scripts(self) -> PathBuf {
        repository().join("examples/routers").join(match self {
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
        })
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let mut found = places.iter().map(|place| Path::new(place).join(program));
    found.find(|path| path.is_file())
}

/// A router that runs.
pub(crate) struct Router {
    dir: PathBuf,
    process: Child,
    /// Where visitors come.
    pub(crate) address: SocketAddr,
    inside: SocketAddr,
}

impl Router {
    /// One in front of these shops, by pool and port, that sends to `blue`.
    pub(crate) fn start(
        kind: Kind,
        dir: &Path,
        address: SocketAddr,
        inside: SocketAddr,
        shops: &[(&str, u16)],
    ) -> Self {
        let text = fs::read_to_string(kind.scripts().join(match kind {
            Kind::HaProxy => "haproxy.cfg",
            Kind::Nginx => "nginx.conf",
        }));
        let mut text = text.unwrap();
        for (n, (_, port)) in shops.iter().enumerate() {
            text = text.replace(&format!("web-{}:8000", n + 1), &format!("127.0.0.1:{port}"));
        }
        let (here, visitors, asked) = (dir.display(), address.to_string(), inside.to_string());
        let config = dir.join("config");
        let (ours, command) = match kind {
            Kind::HaProxy => {
                fs::write(dir.join("pool"), "pool blue\n").unwrap();
                let text = text
                    .replace("/run/haproxy/admin.sock", &format!("{here}/socket"))
                    .replace("/etc/haproxy/pool.map", &format!("{here}/pool"))
                    .replace("bind :80", &format!("bind {visitors}"))
                    .replace("127.0.0.1:8404", &asked);
                let mut command = Command::new("/usr/sbin/haproxy");
                command.arg("-db").arg("-f").arg(&config);
                (text, command)
            }
            Kind::Nginx => {
                fs::write(
                    dir.join("pool"),
                    "map $host $tamer_pool { default blue; }\n",
                )
                .unwrap();
                let text = text
                    .replace("/etc/nginx/tamer-pool.conf", &format!("{here}/pool"))
                    .replace("listen 80;", &format!("listen {visitors};"))
                    .replace("127.0.0.1:8404", &asked);
                // What Debian's package says beside it, but in this directory.
                let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
                let places = places
                    .map(|it| format!("{it}_temp_path {here}/{it};"))
                    .concat();
                let head = format!(
                    "pid {here}/pid; error_log {here}/error.log; daemon off; worker_processes 2;\n"
                );
                let http = format!("http {{ access_log off; {places}\n");
                let mut command = Command::new("/usr/sbin/nginx");
                command
                    .arg("-c")
                    .arg(&config)
                    .arg("-e")
                    .arg(dir.join("error.log"));
                (head + &text.replace("http {\n", &http), command)
            }
        };
        fs::write(&config, ours).unwrap();
        let scripts = kind.scripts();
        let (scripts, socket) = (scripts.display(), dir.join("socket"));
        let (switch, active) = match kind {
            Kind::HaProxy => {
                let words = format!("{} {here}/pool", socket.display());
                (
                    format!("{scripts}/switch {words}"),
                    format!("{scripts}/active {words}"),
                )
            }
            Kind::Nginx => {
                let url = format!("http://{inside}/pool");
                let options = format!("-c {here}/config -e {here}/error.log");
                (
                    format!("{scripts}/switch {here}/pool {url} {options}"),
                    format!("{scripts}/active {url}"),
                )
            }
        };
        script(&dir.join("active"), &format!("exec {active}"));
        script(
            &dir.join("switch"),
            &format!(
                "if [ -e {here}/fails ]; then echo the switch is broken; exit 3; fi\n\
                 if [ -e {here}/hold ]; then touch {here}/held; while [ -e {here}/hold ]; do sleep 0.05; done; fi\n\
                 exec {switch}"
            ),
        );
        let log = fs::File::create(dir.join("log")).unwrap();
        // Ended with this test, even if the test is killed.
        let mut bound = Command::new("setpriv");
        bound
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        bound
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let router = Self {
            dir: dir.to_owned(),
            process: bound.spawn().unwrap(),
            address,
            inside,
        };
        until("the router to answer", || {
            let asked = Command::new(router.dir.join("active")).output().unwrap();
            (asked.status.success() && asked.stdout == b"blue\n").then_some(())
        });
        router
    }

    /// The lines of `agent.toml` for its host.
    pub(crate) fn variables(&self) -> String {
        format!(
            "[variables]\nbox = \"{}\"\ninside = \"{}\"",
            self.dir.display(),
            self.inside
        )
    }

    /// The pool that it sends to.
    pub(crate) fn active(&self) -> String {
        let asked = Command::new(self.dir.join("active")).output().unwrap();
        String::from_utf8(asked.stdout).unwrap().trim().to_owned()
    }

    /// Somebody switches it.
    pub(crate) fn by_hand(&self, pool: &str) {
        let done = Command::new(self.dir.join("switch"))
            .env("TAMER_POOL", pool)
            .status();
        assert!(done.unwrap().success());
    }

    /// Somebody begins to.
    pub(crate) fn begins_by_hand(&self, pool: &str) -> Child {
        let mut switch = Command::new(self.dir.join("switch"));
        switch.env("TAMER_POOL", pool).spawn().unwrap()
    }

    /// How many processes it has that work for it.
    pub(crate) fn workers(&self) -> usize {
        let master = self.process.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        children.unwrap().split_whitespace().count()
    }

    /// Sends a signal to its first process.
    pub(crate) fn signal(&self, signal: Signal) {
        let master = Pid::from_raw(self.process.id() as i32);
        nix::sys::signal::kill(master, signal).unwrap();
    }

    /// Its next switch waits.
    pub(crate) fn hold(&self) {
        fs::write(self.dir.join("hold"), "").unwrap();
    }

    /// Waits until it does.
    pub(crate) fn is_held(&self) {
        until("the switch to begin", || {
            self.dir.join("held").exists().then_some(())
        });
    }

    /// It waits no more.
    pub(crate) fn let_go(&self) {
        fs::remove_file(self.dir.join("hold")).unwrap();
    }

    /// Its switches fail, or do so no more.
    pub(crate) fn fails(&self, fails: bool) {
        self.mark("fails", fails);
    }

    /// It accepts no pool, or does so again.
    pub(crate) fn refuses(&self, refuses: bool) {
        self.mark("refuses", refuses);
    }

    fn mark(&self, name: &str, there: bool) {
        match there {
            true => fs::write(self.dir.join(name), "").unwrap(),
            false => fs::remove_file(self.dir.join(name)).unwrap(),
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // Its workers end with it.
        let master = Pid::from_raw(self.process.id() as i32);
        let _ = nix::sys::signal::kill(master, Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\nset -eu\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
