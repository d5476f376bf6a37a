//! How a command is started: through small programs of the base system, each of which does one thing and
//! becomes the next. What they do needs calls between fork and exec, which are `unsafe` in Rust.
//!
//! ```text
//! setsid        a session of its own: no controlling terminal, and the leader of a process group
//! sh            the umask; what an ancestor left open is closed
//! systemd-run   a scope of its own, where one is asked for
//! prlimit       limits
//! setpriv       user, groups, no capabilities, no new privileges
//! the command
//! ```

use super::enclosure::{Enclosure, SCOPE_PROGRAM};
use super::{Command, PATH, User};
use nix::unistd::{Uid, geteuid};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tamer_core::limits::Limits;

/// Sets the umask, closes what an ancestor of the agent may have left open, and becomes the next one.
const TRAMPOLINE: &str =
    r#"umask "$1" && shift && exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- && exec "$@""#;

/// Closes every descriptor but standard input, output and error. For the very beginning of a program:
/// whatever it was started with is nobody's then, and must reach no hook.
pub fn close_inherited() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<i32> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // The one of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
}

/// The command as the system starts it.
pub(super) fn prepare(command: &Command) -> io::Result<tokio::process::Command> {
    let program = find(&command.program)?;
    if !command.dir.is_dir() {
        return Err(not_found(&command.dir, "directory"));
    }
    let mut start = tokio::process::Command::new(find(Path::new("setsid"))?);
    start.args(["/bin/sh", "-c", TRAMPOLINE, "sh"]);
    start.arg(format!("{:04o}", command.umask));
    if let Enclosure::Scope(name) = &command.enclosure {
        start.args(scope(name.as_str(), command)?);
    }
    if let Some(limits) = &command.limits {
        start.args(limited(limits)?);
    }
    if let Some(user) = &command.user {
        start.args(switch_user(user, command.new_privileges)?);
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
        .kill_on_drop(true);
    if let Some((name, value)) = command.enclosure.mark() {
        start.env(name, value);
    }
    Ok(start)
}

/// The prefix that puts the command into a scope of its own. A scope and not a service: the command stays
/// our child, with its exit code, its output and its environment, which would be readable to everybody as
/// a service's property; and what it leaves behind can be told from itself.
fn scope(name: &str, command: &Command) -> io::Result<Vec<String>> {
    let millis = |time: std::time::Duration| format!("{}ms", time.as_millis().max(1));
    let mut words = vec![
        find(Path::new(SCOPE_PROGRAM))?.display().to_string(),
        "--scope".to_owned(),
        "--quiet".to_owned(),
        "--collect".to_owned(),
        format!("--unit={name}.scope"),
        "--slice=tamer-hooks.slice".to_owned(),
        format!("--description=A hook that the Tamer agent runs: {name}"),
        "--property=KillMode=control-group".to_owned(),
        format!("--property=TimeoutStopSec={}", millis(command.grace)),
    ];
    if let Some(most) = command.limits.and_then(|it| it.processes) {
        words.push(format!("--property=TasksMax={most}"));
    }
    if !command.may_leave {
        // For an agent that dies meanwhile; one that lives ends the command itself, earlier.
        let most = command.time_limit + 2 * command.grace;
        words.push(format!("--property=RuntimeMaxSec={}", millis(most)));
    }
    words.push("--".to_owned());
    Ok(words)
}

/// The limits that a command may have, by prlimit's options; systemd's properties are named alike.
pub(super) const LIMITS: [(&str, Resource); 5] = [
    ("core", Resource::Core),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("fsize", Resource::Fsize),
    ("as", Resource::As),
];

/// The prefix that sets limits, none above what the agent itself may have: only a host's owner can raise
/// those, in the agent's unit.
fn limited(limits: &Limits) -> io::Result<Vec<String>> {
    let mut words = vec![find(Path::new("prlimit"))?.display().to_string()];
    let wanted = [
        Some(0),
        limits.open_files,
        limits.processes,
        limits.file_size.map(|it| it.0),
        limits.address_space.map(|it| it.0),
    ];
    for ((option, resource), wanted) in LIMITS.into_iter().zip(wanted) {
        let most = getrlimit(resource).maximum;
        if let Some(wanted) = wanted {
            let given = most.map_or(wanted, |most| wanted.min(most));
            words.push(format!("--{option}={given}:{given}"));
        }
    }
    words.push("--".to_owned());
    Ok(words)
}

/// The prefix that gives up root for good: setpriv is part of util-linux, which every distribution's
/// base has. Empty where nothing needs to be given up.
fn switch_user(user: &User, new_privileges: bool) -> io::Result<Vec<String>> {
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
    let mut words = vec![
        setpriv.display().to_string(),
        format!("--reuid={}", user.uid),
        format!("--regid={}", user.gid),
        if groups.is_empty() {
            "--clear-groups".to_owned()
        } else {
            format!("--groups={}", groups.join(","))
        },
        "--inh-caps=-all".to_owned(),
    ];
    if !new_privileges {
        words.push("--no-new-privs".to_owned());
    }
    words.push("--".to_owned());
    Ok(words)
}

/// The program as an absolute path, so that one which is not there is an error of the start and not
/// an exit code of the trampoline.
pub(super) fn find(program: &Path) -> io::Result<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_before_anything_starts() {
        assert!(find(Path::new("sh")).unwrap().is_absolute());
        let said = |path: &str| find(Path::new(path)).unwrap_err().to_string();
        assert_eq!(said("no-such-thing"), "there is no program no-such-thing");
        assert_eq!(said("/etc/passwd"), "/etc/passwd is not executable");
        assert_eq!(said("bin/x"), "bin/x is neither absolute nor a bare name");
    }

    #[test]
    fn a_scope_is_bounded_unless_something_may_stay_in_it() {
        if find(Path::new(SCOPE_PROGRAM)).is_err() {
            return; // Nothing to put a command into on this host.
        }
        let mut command = Command::new("true");
        command.limits = Some(Limits::DEFAULT);
        let words = scope("tamer-hook-shop-web-stop-1", &command).unwrap();
        let said = words.join(" ");
        assert!(said.contains("--unit=tamer-hook-shop-web-stop-1.scope"));
        assert!(said.contains("TasksMax=4096") && said.contains("RuntimeMaxSec=70000ms"));
        // What stands in a word must not be taken for a variable by systemd-run.
        assert!(!said.contains('$') && said.ends_with(" --"));
        command.may_leave = true;
        let words = scope("x", &command).unwrap();
        assert!(!words.join(" ").contains("RuntimeMaxSec"));
    }
}
