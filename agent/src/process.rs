//! Runs one command that is not trusted to end, to be quiet, or to clean up after itself:
//! hooks of releases and `command` checks.
//!
//! The command leads a process group of its own, sees a clean environment and nothing but descriptors
//! 0, 1 and 2 (the agent's own are closed on exec; of those that an ancestor left open to the agent
//! itself, the trampoline closes 3 to 9), and has until its limit. Then the whole group gets TERM, and after the grace KILL. When
//! the leader is gone, whatever is left of its group is killed too, so a child left in the background
//! does not outlive it. A daemon that is meant to stay must leave the group (`setsid`), and must not
//! count on the output: the pipe is closed once the leader is gone.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Uid, geteuid};
use rustix::process::{PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
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

/// Sets the umask, closes what an ancestor of the agent may have left open, and becomes the command:
/// both need a call between fork and exec, which is `unsafe` in Rust and plain in a shell.
const TRAMPOLINE: &str =
    r#"umask "$1" && shift && exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- && exec "$@""#;

/// A command to run.
#[derive(Debug, Clone)]
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
            time_limit: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            output_cap: 4 << 10,
        }
    }
}

/// A user of the system, as far as running commands goes.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How its leader ended.
    pub status: Exit,
    /// The last `output_cap` bytes of its standard output and standard error, in the order written;
    /// bytes that are not UTF-8 are replaced.
    pub output: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// It was ended because its time was up.
    TimedOut,
}

/// Runs a command to its end. Dropping the future kills the whole group.
///
/// # Errors
/// The command could not be started: no such program or directory, not executable, a switch of user
/// that needs root. Whatever happens after the start is an [`Outcome`].
pub async fn run(command: Command) -> io::Result<Outcome> {
    let (reader, writer) = io::pipe()?;
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    let mut child = prepare(&command)?
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
                group.signal(if timed_out { Signal::SIGKILL } else { Signal::SIGTERM });
                timed_out = true;
                next = Instant::now() + command.grace;
            }
            read = output.read(&mut buffer), if open => match read {
                Ok(n) if n > 0 => tail.push(&buffer[..n]),
                _ => open = false,
            },
        }
    }
    drop(group);
    let status = child.wait().await?;
    let mut left = DRAIN_CAP;
    while open && left > 0 {
        match timeout(DRAIN, output.read(&mut buffer)).await {
            Ok(Ok(n)) if n > 0 => {
                tail.push(&buffer[..n]);
                left = left.saturating_sub(n);
            }
            _ => open = false,
        }
    }
    Ok(Outcome {
        status: exit(status, timed_out),
        output: tail.text(),
    })
}

fn exit(status: ExitStatus, timed_out: bool) -> Exit {
    match (timed_out, status.code(), status.signal()) {
        (true, ..) => Exit::TimedOut,
        (false, Some(code), _) => Exit::Code(code),
        (false, None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}

/// The command as the system starts it: trampoline, switch of user, program, arguments.
fn prepare(command: &Command) -> io::Result<tokio::process::Command> {
    let program = find(&command.program)?;
    if !command.dir.is_dir() {
        return Err(not_found(&command.dir, "directory"));
    }
    let mut start = tokio::process::Command::new("/bin/sh");
    start.args(["-c", TRAMPOLINE, "sh", &format!("{:04o}", command.umask)]);
    if let Some(user) = &command.user {
        start.args(switch_user(user)?);
    }
    start
        .arg(program)
        .args(&command.args)
        .current_dir(&command.dir)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .envs(&command.env)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    Ok(start)
}

/// The prefix that gives up root for good: setpriv is part of util-linux, which every distribution's
/// base has. Empty where nothing needs to be given up.
fn switch_user(user: &User) -> io::Result<Vec<String>> {
    if geteuid() == Uid::from_raw(user.uid) {
        return Ok(Vec::new());
    }
    if !geteuid().is_root() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("only root can run a command as {}", user.name),
        ));
    }
    let setpriv = find(Path::new("setpriv"))?;
    let groups: Vec<_> = user.groups.iter().map(u32::to_string).collect();
    Ok(vec![
        setpriv.display().to_string(),
        format!("--reuid={}", user.uid),
        format!("--regid={}", user.gid),
        if groups.is_empty() {
            "--clear-groups".to_owned()
        } else {
            format!("--groups={}", groups.join(","))
        },
        "--inh-caps=-all".to_owned(),
        "--".to_owned(),
    ])
}

/// The program as an absolute path, so that one which is not there is an error of the start and not
/// an exit code of the trampoline.
fn find(program: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let bare = program.components().count() == 1 && program.is_relative();
    if !bare && program.is_relative() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is neither absolute nor a bare name", program.display()),
        ));
    }
    let mut found = None;
    for dir in PATH.split(':') {
        let candidate = Path::new(dir).join(program); // An absolute program replaces `dir`.
        match candidate.metadata() {
            Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => {
                return Ok(candidate);
            }
            Ok(_) => found = Some(candidate),
            Err(_) => {}
        }
    }
    Err(match found {
        Some(file) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is not executable", file.display()),
        ),
        None => not_found(program, "program"),
    })
}

fn not_found(path: &Path, what: &str) -> io::Error {
    let said = format!("there is no {what} {}", path.display());
    io::Error::new(io::ErrorKind::NotFound, said)
}

/// A process group that does not outlive this value.
struct Group(nix::unistd::Pid);

impl Group {
    /// Sends a signal to every member. That there is no member any more is fine.
    fn signal(&self, signal: Signal) {
        let _ = killpg(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// The last bytes of a stream, in bounded memory.
struct Tail {
    bytes: Vec<u8>,
    cap: usize,
}

impl Tail {
    fn new(cap: usize) -> Self {
        Self {
            bytes: Vec::new(),
            cap,
        }
    }

    fn push(&mut self, more: &[u8]) {
        self.bytes
            .extend_from_slice(&more[more.len().saturating_sub(self.cap)..]);
        // Cutting at twice the cap and not at every push keeps the cost per byte constant.
        if self.bytes.len() > 2 * self.cap {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.bytes.len().saturating_sub(self.cap);
        self.bytes.drain(..surplus);
    }

    fn text(mut self) -> String {
        self.cut();
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_tail_is_the_end_of_everything(
            parts in prop::collection::vec(prop::collection::vec(b'a'..=b'z', 0..40), 0..40),
            cap in 0usize..60,
        ) {
            let mut tail = Tail::new(cap);
            for part in &parts {
                tail.push(part);
                prop_assert!(tail.bytes.len() <= 2 * cap);
            }
            let whole = String::from_utf8(parts.concat()).unwrap();
            let text = tail.text();
            prop_assert!(whole.ends_with(&text));
            prop_assert_eq!(text.len(), whole.len().min(cap));
        }
    }

    #[test]
    fn programs_are_found_before_anything_starts() {
        assert!(find(Path::new("sh")).unwrap().is_absolute());
        let said = |path: &str| find(Path::new(path)).unwrap_err().to_string();
        assert_eq!(said("no-such-thing"), "there is no program no-such-thing");
        assert_eq!(said("/etc/passwd"), "/etc/passwd is not executable");
        assert_eq!(said("bin/x"), "bin/x is neither absolute nor a bare name");
    }
}
