//! Runs one command that is not trusted to end, to be quiet, or to clean up after itself:
//! hooks of releases and `command` checks.
//!
//! The command leads a session and a process group of its own, has no terminal, sees a clean environment
//! and nothing but descriptors 0, 1 and 2, and has until its limit. Then everything in its [`Enclosure`]
//! gets TERM, and after the grace KILL. When the leader is gone, whatever is left of it is ended too, and
//! named in the [`Outcome`]. A command that may leave something keeps what has left its process group
//! (`setsid`) once it has ended well; what stays must not count on the output: the pipe is closed once the
//! leader is gone.
//!
//! | module | what it holds |
//! |---|---|
//! | [`background`] | a thread that is in nobody's way |
//! | [`enclosure`] | what belongs to a run, and how it is ended |
//! | [`outside`] | other people's programs, outside of the agent's sandbox |
//! | `start` | how a command is started: user, limits, umask, session, scope |
//! | `tail` | the end of its output |

pub mod background;
pub mod enclosure;
pub mod outside;
mod start;
mod tail;

pub use start::close_inherited;

use enclosure::Enclosure;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Gid;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tail::Tail;
use tamer_core::limits::Limits;
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until, timeout};

/// Where programs without a `/` are looked for, and the `PATH` of every command that sets none.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long the pipe may stay silent once the leader is gone. All that the leader wrote is in the pipe
/// by then; only a stray that left the group can keep it open.
const DRAIN: Duration = Duration::from_millis(50);

/// How much is read from the pipe once the leader is gone, in bytes: more than any pipe holds.
const DRAIN_CAP: usize = 2 << 20;

/// A command to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// An absolute path, or a name that is looked for in [`PATH`].
    pub program: PathBuf,
    /// Its arguments, handed over as they are: no shell splits or expands them.
    pub args: Vec<String>,
    /// The directory it starts in.
    pub dir: PathBuf,
    /// Its whole environment; `PATH` and `LANG` are added where they are missing.
    pub env: BTreeMap<String, String>,
    /// Whom it runs as; `None` for the agent's own user. Only root can name another one.
    pub user: Option<User>,
    /// The permission bits that files it creates do not get.
    pub umask: u32,
    /// What it may use at most; `None` for what the agent may.
    pub limits: Option<Limits>,
    /// Whether a program that is setuid or setgid, or has capabilities, gives it more rights than its
    /// user has. Of no account for a command that runs as the agent's own user.
    pub new_privileges: bool,
    /// What holds it together with what it starts.
    pub enclosure: Enclosure,
    /// Whether what left its process group may stay, once it has ended well.
    pub may_leave: bool,
    /// How long it may run before the group gets TERM.
    pub time_limit: Duration,
    /// How long after TERM the group gets KILL.
    pub grace: Duration,
    /// How many bytes of the output's end are kept.
    pub output_cap: usize,
}

impl Command {
    /// A command in `/`, as the agent's own user, with a minute to run, five seconds of grace, and the
    /// last 4 KiB of output kept.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            dir: PathBuf::from("/"),
            env: BTreeMap::new(),
            user: None,
            umask: 0o022,
            limits: None,
            new_privileges: true,
            enclosure: Enclosure::Group,
            may_leave: false,
            time_limit: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            output_cap: 4 << 10,
        }
    }
}

/// A user of the system, as far as running commands goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
    /// The numbers of all groups.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: PathBuf,
}

impl User {
    /// Looks a user up in the system's databases. Blocks while they answer. `None` where there is none.
    ///
    /// # Errors
    /// The databases could not be read.
    pub fn named(name: &str) -> io::Result<Option<Self>> {
        let Some(user) = nix::unistd::User::from_name(name)? else {
            return Ok(None);
        };
        let groups = nix::unistd::getgrouplist(&CString::new(name)?, user.gid)?;
        Ok(Some(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: user.dir,
        }))
    }
}

/// How a command ended, and the end of what it printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How its leader ended.
    pub status: Exit,
    /// What it left running and what was ended then: `sleep (4711)`.
    pub left: Vec<String>,
    /// The last `output_cap` bytes of its standard output and standard error, in the order written;
    /// bytes that are not UTF-8 are replaced.
    pub output: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// It was ended because its time was up.
    TimedOut,
    /// It never began: systemd gave it no scope, or no runner. What systemd said is the output.
    NoScope,
}

/// Runs a command to its end. Dropping the future kills the whole group.
///
/// # Errors
/// The command could not be started: no such program or directory, not executable, a switch of user
/// that needs root. Whatever happens after the start is an [`Outcome`].
pub async fn run(command: Command) -> io::Result<Outcome> {
    let (reader, writer) = io::pipe()?;
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    let mut child = start::prepare(&command)?
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let Some(leader) = child.id().and_then(|id| i32::try_from(id).ok()) else {
        return Err(io::Error::other("the command has no process id"));
    };
    // Declared after `child` and so dropped before it: while the leader is not reaped, its number
    // cannot belong to a stranger's group.
    let group = Group(nix::unistd::Pid::from_raw(leader));
    let pid = rustix::process::Pid::from_raw(leader).ok_or_else(|| io::Error::other("pid 0"))?;
    #[expect(
        deprecated,
        reason = "unsound only for types whose descriptor may change, and its successor is unsafe"
    )]
    let gone = AsyncFd::new(pidfd_open(pid, PidfdFlags::empty())?)?;

    let mut tail = Tail::new(command.output_cap);
    let mut buffer = vec![0; 64 << 10];
    let mut open = true;
    let mut timed_out = false;
    let mut next = Instant::now() + command.time_limit;
    loop {
        tokio::select! {
            biased;
            ready = gone.readable() => { let _ = ready?; break }
            () = sleep_until(next) => {
                if timed_out {
                    group.signal(Signal::SIGKILL);
                } else {
                    group.signal(Signal::SIGTERM);
                    command.enclosure.terminate(leader);
                }
                timed_out = true;
                next = Instant::now() + command.grace;
            }
            read = output.read(&mut buffer), if open => match read {
                Ok(n) if n > 0 => tail.push(&buffer[..n]),
                _ => open = false,
            },
        }
    }
    // The leader is not reaped yet: its number still stands for its session and its scope.
    let well = !timed_out && ended_well(gone.get_ref().as_fd());
    let stays = command.may_leave && well;
    let in_scope = well || command.enclosure.holds(leader);
    let left = match stays {
        true => Some(Vec::new()),
        false => command.enclosure.members(leader),
    };
    drop(group);
    if left.as_ref().is_none_or(|left| !left.is_empty()) && in_scope {
        command.enclosure.end(Some(leader), command.grace).await;
    }
    let status = child.wait().await?;
    let mut room = DRAIN_CAP;
    while open && room > 0 {
        match timeout(DRAIN, output.read(&mut buffer)).await {
            Ok(Ok(n)) if n > 0 => {
                tail.push(&buffer[..n]);
                room = room.saturating_sub(n);
            }
            _ => open = false,
        }
    }
    let left = left.unwrap_or_default().into_iter();
    Ok(Outcome {
        status: match exit(status, timed_out) {
            Exit::Code(_) if !in_scope => Exit::NoScope,
            status => status,
        },
        left: left.map(|it| format!("{} ({})", it.name, it.pid)).collect(),
        output: tail.text(),
    })
}

/// Runs a command to its end: by a runner, where there is one, else as our own child. Where systemd starts no runner,
/// whoever wants a scope is told so ([`Exit::NoScope`]); all others are our own children then.
///
/// # Errors
/// Those of [`run`] and of [`outside::run_outside`].
pub async fn run_by(runner: Option<&Path>, command: &Command) -> io::Result<Outcome> {
    if let Some(runner) = runner {
        let outcome = outside::run_outside(runner, command).await?;
        if outcome.status != Exit::NoScope || command.enclosure != Enclosure::Group {
            return Ok(outcome);
        }
        let said = outcome.output.trim();
        tracing::warn!(program = %command.program.display(), said, "systemd started no runner");
    }
    run(command.clone()).await
}

/// Ends what a run has left that nobody watches any more, because the agent died meanwhile.
pub async fn end_abandoned(enclosure: &Enclosure, grace: Duration) {
    enclosure.end(None, grace).await;
}

/// Whether a process that has ended and is not reaped yet has ended with exit code 0.
fn ended_well(process: BorrowedFd<'_>) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::PidFd(process), look);
    matches!(status, Ok(Some(status)) if status.exit_status() == Some(0))
}

fn exit(status: ExitStatus, timed_out: bool) -> Exit {
    match (timed_out, status.code(), status.signal()) {
        (true, ..) => Exit::TimedOut,
        (false, Some(code), _) => Exit::Code(code),
        (false, None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}

/// A process group that does not outlive this value.
struct Group(nix::unistd::Pid);

impl Group {
    /// Sends a signal to every member. That there is no member any more is fine.
    fn signal(&self, signal: Signal) {
        // In its first moment the leader has no group of its own yet.
        if killpg(self.0, signal).is_err() {
            let _ = kill(self.0, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
