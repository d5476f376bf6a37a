//! What holds a command together with everything that it starts, also with what leaves its session by
//! `setsid` or by forking twice.
//!
//! | enclosure | what is in it | what escapes |
//! |---|---|---|
//! | group | the command's process group | whatever leaves the group |
//! | marked | its session, and every process with its `TAMER_RUN` in the environment | what leaves the session *and* sheds its environment |
//! | scope | a scope of systemd, that is a control group | nothing |
//!
//! Reading the environment of another user's process takes `CAP_SYS_PTRACE`, which root has, but not in the
//! unit of the package: there hooks have scopes.

use super::PATH;
use super::start::find;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

/// The variable by which a run's processes are known.
pub const MARK: &str = "TAMER_RUN";

/// The longest environment that is looked through, in bytes: Linux allows 6 MiB for it and the arguments.
const MOST_ENVIRONMENT: u64 = 6 << 20;

/// What puts a command into a scope, and becomes the command then.
pub(super) const SCOPE_PROGRAM: &str = "systemd-run";

/// How long after KILL processes may take to be gone, and how long systemd may take beyond a grace.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name of one run of a command: of letters, digits and `-`, and no other run has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunName(String);

/// What holds a command together with what it starts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Enclosure {
    /// Its process group alone: for what is run often, and starts nothing that it leaves.
    #[default]
    Group,
    /// Its session, and whatever has this name in its environment.
    Marked(RunName),
    /// A scope of systemd with this name. Only root can have one.
    Scope(RunName),
}

/// A process of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) pid: i32,
    pub(super) name: String,
}

// === impl RunName ===

impl RunName {
    /// A name that no other run has: `what` and a random number.
    ///
    /// # Panics
    /// Never for a `what` of small letters, digits and `-`, at most 200 of them.
    pub fn unique(what: &str) -> Self {
        Self(format!("{what}-{:08x}", rand::random::<u32>()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunName {
    type Err = ();
    fn from_str(given: &str) -> Result<Self, ()> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = given.starts_with("tamer-hook-") && given.len() < 240;
        (fits && given.chars().all(plain))
            .then(|| Self(given.to_owned()))
            .ok_or(())
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether systemd runs this host, and the agent may have it start something.
pub fn scopes() -> bool {
    // The sign by which sd_booted(3) tells, too.
    let booted = Path::new("/run/systemd/system").is_dir();
    booted && nix::unistd::geteuid().is_root() && find(Path::new(SCOPE_PROGRAM)).is_ok()
}

// === impl Enclosure ===

impl Enclosure {
    /// The strongest that this host has: a scope where systemd runs the host and the agent is root.
    pub fn strongest(name: RunName) -> Self {
        match scopes() {
            true => Self::Scope(name),
            false => Self::Marked(name),
        }
    }

    /// The variable that marks its processes.
    pub(super) fn mark(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Group => None,
            Self::Marked(name) | Self::Scope(name) => Some((MARK, name.as_str())),
        }
    }

    /// Whether a leader that has ended and is not reaped yet had come into its scope. What else it may be
    /// in, it is.
    pub(super) fn holds(&self, leader: i32) -> bool {
        match self {
            // The scope's program becomes the next one as soon as systemd has given the scope. What a process
            // was last is known of the dead, too; version 1 of control groups does not tell it of them.
            Self::Scope(name) => {
                control_group(leader, name).is_some()
                    || Stat::of(leader).is_none_or(|it| it.name != SCOPE_PROGRAM)
            }
            Self::Group | Self::Marked(_) => true,
        }
    }

    /// What is in it beside the leader, which is not reaped yet; `None` if it cannot be told.
    pub(super) fn members(&self, leader: i32) -> Option<Vec<Member>> {
        match self {
            Self::Group => Some(Vec::new()),
            Self::Marked(name) => Some(marked(name, Some(leader))),
            Self::Scope(name) => {
                let procs = control_group(leader, name)?.join("cgroup.procs");
                let pids = match fs::read_to_string(procs) {
                    Ok(pids) => pids,
                    // A scope is gone as soon as nothing is in it.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
                    Err(_) => return None,
                };
                let member = |pid: i32| Some((pid, Stat::of(pid)?.name));
                let others = pids.lines().filter_map(|pid| pid.parse().ok());
                let others = others.filter(|pid| *pid != leader).filter_map(member);
                Some(others.map(|(pid, name)| Member { pid, name }).collect())
            }
        }
    }

    /// Asks everything in it to end, and does not wait for that.
    pub(super) fn terminate(&self, leader: i32) {
        match self {
            Self::Group => {}
            Self::Marked(name) => {
                for (_, process) in opened(name, Some(leader)) {
                    let _ = pidfd_send_signal(&process, Signal::TERM);
                }
            }
            Self::Scope(name) => {
                // systemd goes on to KILL by itself, after the scope's TimeoutStopSec.
                let scope = format!("{name}.scope");
                tokio::spawn(async move { systemctl(&["--no-block", "stop", &scope]).await });
            }
        }
    }

    /// Ends everything in it: TERM, and KILL after the grace. `leader` is the run's, if it is not reaped yet.
    pub(super) async fn end(&self, leader: Option<i32>, grace: Duration) {
        match self {
            Self::Group => {}
            Self::Marked(name) => {
                let asked = opened(name, leader);
                for (_, process) in &asked {
                    let _ = pidfd_send_signal(process, Signal::TERM);
                }
                gone(asked, Instant::now() + grace).await;
                let deadline = Instant::now() + PATIENCE;
                // One that forks faster than it is looked through is met again.
                while Instant::now() < deadline {
                    let left = opened(name, leader);
                    if left.is_empty() {
                        return;
                    }
                    for (_, process) in &left {
                        let _ = pidfd_send_signal(process, Signal::KILL);
                    }
                    gone(left, deadline).await;
                }
                tracing::error!(run = %name, "some processes of a hook could not be ended");
            }
            Self::Scope(name) => {
                let scope = format!("{name}.scope");
                let stop = ["stop", scope.as_str()];
                if timeout(grace + PATIENCE, systemctl(&stop)).await.is_err() {
                    tracing::error!(%scope, "systemd did not end the scope of a hook");
                    let _ = timeout(PATIENCE, systemctl(&["kill", "--signal=KILL", &scope])).await;
                }
            }
        }
    }
}

/// Waits until all these are gone, at the latest until `deadline`.
async fn gone(processes: Vec<(i32, OwnedFd)>, deadline: Instant) {
    for (_, process) in processes {
        #[expect(
            deprecated,
            reason = "unsound only for types whose descriptor may change, and its successor is unsafe"
        )]
        if let Ok(process) = AsyncFd::new(process) {
            let _ = timeout_at(deadline, process.readable()).await;
        }
    }
}

/// A scope that is not there (any more) is what was asked for, so nothing is made of the exit code.
async fn systemctl(words: &[&str]) {
    let Ok(program) = find(Path::new("systemctl")) else {
        return;
    };
    let ran = tokio::process::Command::new(program)
        .args(words)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    if let Err(error) = ran {
        tracing::error!(%error, "cannot run systemctl");
    }
}

/// The directory of the scope's control group, if the process is in it.
fn control_group(pid: i32, name: &RunName) -> Option<PathBuf> {
    let said = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    // systemd.io, "Control Group APIs": where both versions are in use, the second one is here.
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    let unified = match hybrid.is_dir() {
        true => hybrid,
        false => Path::new("/sys/fs/cgroup"),
    };
    parse_control_group(&said, &format!("{name}.scope"), unified)
}

/// Finds the scope among the lines of `/proc/PID/cgroup` (cgroups(7)); `unified` is where version 2 of
/// control groups is mounted. The process of a group that is gone
/// already has ` (deleted)` after the path.
fn parse_control_group(said: &str, scope: &str, unified: &Path) -> Option<PathBuf> {
    said.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let mount = match controllers {
            "" => unified,
            "name=systemd" => Path::new("/sys/fs/cgroup/systemd"),
            _ => return None,
        };
        let path = Path::new(path);
        (path.file_name()? == scope).then(|| {
            let relative = path.strip_prefix("/").unwrap_or(path);
            mount.join(relative)
        })
    })
}

/// The processes of a run, found by session and mark, beside its leader.
fn marked(name: &RunName, leader: Option<i32>) -> Vec<Member> {
    let session = session_of(leader);
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| Some(*pid) != leader)
        .filter_map(|pid| member(pid, name, session))
        .collect()
}

/// The same, each with a descriptor that stands for the process and not for its number.
fn opened(name: &RunName, leader: Option<i32>) -> Vec<(i32, OwnedFd)> {
    let session = session_of(leader);
    let open = |found: Member| {
        let process = pidfd_open(Pid::from_raw(found.pid)?, PidfdFlags::NONBLOCK).ok()?;
        // The number may have become somebody else's before it was opened; after that it cannot.
        member(found.pid, name, session).map(|it| (it.pid, process))
    };
    marked(name, leader).into_iter().filter_map(open).collect()
}

/// The session that a leader has made; one that it was only born into is somebody else's.
fn session_of(leader: Option<i32>) -> Option<i32> {
    leader.filter(|it| Stat::of(*it).is_some_and(|stat| stat.session == *it))
}

/// The process with this number, if it lives and belongs to the run.
fn member(pid: i32, name: &RunName, session: Option<i32>) -> Option<Member> {
    let stat = Stat::of(pid)?;
    let own = u32::try_from(pid).is_ok_and(|pid| pid == std::process::id());
    let ours = session == Some(stat.session) || is_marked(pid, name);
    (stat.lives && !own && ours).then_some(Member {
        pid,
        name: stat.name,
    })
}

fn is_marked(pid: i32, name: &RunName) -> bool {
    let mut environment = Vec::new();
    let read = File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(MOST_ENVIRONMENT).read_to_end(&mut environment));
    let mark = format!("{MARK}={name}");
    read.is_ok()
        && environment
            .split(|b| *b == 0)
            .any(|it| it == mark.as_bytes())
}

/// What `/proc/PID/stat` says (proc(5)).
struct Stat {
    name: String,
    session: i32,
    lives: bool,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(said: &str) -> Option<Self> {
        // A name may contain blanks and parentheses.
        let (before, rest) = said.rsplit_once(") ")?;
        let (_, name) = before.split_once('(')?;
        let mut fields = rest.split(' ');
        let state = fields.next()?;
        let session = fields.nth(2)?.parse().ok()?;
        Some(Self {
            name: name.to_owned(),
            session,
            lives: !matches!(state, "Z" | "X" | "x"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_found_in_both_versions_of_control_groups() {
        let unified = Path::new("/sys/fs/cgroup");
        let found = |said: &str| parse_control_group(said, "x.scope", unified);
        let two = PathBuf::from("/sys/fs/cgroup/tamer.slice/x.scope");
        assert_eq!(found("0::/tamer.slice/x.scope\n"), Some(two.clone()));
        assert_eq!(found("0::/tamer.slice/x.scope (deleted)\n"), Some(two));
        assert_eq!(
            found("12:pids:/x.scope\n1:name=systemd:/a/x.scope\n0::/\n"),
            Some("/sys/fs/cgroup/systemd/a/x.scope".into())
        );
        assert_eq!(found("0::/system.slice/tamer-agent.service\n"), None);
        assert_eq!(found("0::/x.scope/below\n"), None);
    }

    #[test]
    fn names_of_processes_may_be_anything() {
        let stat = Stat::parse("7 (a) b (c) S 1 7 6 0 -1").unwrap();
        assert_eq!((stat.name.as_str(), stat.session), ("a) b (c", 6));
        assert!(stat.lives && !Stat::parse("7 (x) Z 1 7 7 0").unwrap().lives);
    }

    #[test]
    fn names_of_runs_are_read_back_and_nothing_else_is() {
        let name = RunName::unique("tamer-hook-shop-web-pre-activate");
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        for bad in [
            "",
            "sshd",
            "tamer-hook-../x",
            "tamer-hook-a b",
            "tamer-hook-a.b",
        ] {
            assert!(bad.parse::<RunName>().is_err(), "{bad}");
        }
    }
}
