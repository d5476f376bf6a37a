//! The process runner against commands that hang, fork away, chatter, die and pry.

#![allow(clippy::unwrap_used, reason = "a test says best where it broke")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tamer_agent::process::{Command, Exit, Outcome, PATH, User, run};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args = vec!["-c".to_owned(), script.to_owned()];
    command.time_limit = Duration::from_secs(20);
    command
}

async fn outcome(command: Command) -> Outcome {
    run(command).await.expect("the command starts")
}

/// Waits, up to ten seconds, until nothing runs under this number any more.
async fn wait_gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process runs under this number. One that has ended and was not yet reaped does not.
fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        state != Some("Z") && state != Some("X")
    })
}

#[tokio::test]
async fn tells_exit_codes_from_signals() {
    let said = outcome(shell("echo out; echo err >&2; exit 75")).await;
    assert_eq!(said.status, Exit::Code(75));
    assert_eq!(said.output, "out\nerr\n");
    assert_eq!(
        outcome(shell("kill -USR1 $$")).await.status,
        Exit::Signal(10)
    );
    assert_eq!(outcome(Command::new("true")).await.status, Exit::Code(0));
}

#[tokio::test]
async fn a_hook_is_run_by_its_name_whatever_a_shell_would_make_of_it() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "start; touch planted",
        "$(touch planted)",
        "`touch planted`",
        "a && touch planted #",
        "* ? ~ $HOME ${IFS}",
        "two\nlines",
        "'\"\\",
        "-rf",
        "%n%h",
    ] {
        let file = dir.path().join(name);
        fs::write(&file, "#!/bin/sh\nprintf '%s' \"$1\"\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(file);
        command.args = vec![name.to_owned()];
        command.dir = dir.path().into();
        let said = outcome(command).await;
        assert_eq!(said.status, Exit::Code(0), "{name}");
        assert_eq!(said.output, name);
        assert!(!dir.path().join("planted").exists(), "{name}");
    }
}

#[tokio::test]
async fn what_cannot_start_is_an_error_that_names_it() {
    let said = run(Command::new("/no/such/hook")).await.unwrap_err();
    assert_eq!(said.to_string(), "there is no program /no/such/hook");
    let mut command = Command::new("true");
    command.dir = "/no/such/dir".into();
    let said = run(command).await.unwrap_err();
    assert_eq!(said.to_string(), "there is no directory /no/such/dir");
}

#[tokio::test]
async fn a_hang_is_killed_with_its_children_within_limit_and_grace() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    // Neither the leader nor its child heeds TERM.
    let mut command = shell(&format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >{0}; while :; do sleep 1; done' & \
         while :; do sleep 1; done",
        pids.display()
    ));
    command.time_limit = Duration::from_millis(300);
    command.grace = Duration::from_millis(200);
    let began = Instant::now();
    let said = outcome(command).await;
    assert_eq!(said.status, Exit::TimedOut);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    wait_gone(&fs::read_to_string(&pids).unwrap()).await;
}

#[tokio::test]
async fn term_comes_first_and_is_enough_for_the_polite() {
    let mut command =
        shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done");
    command.time_limit = Duration::from_millis(300);
    command.grace = Duration::from_secs(20);
    let began = Instant::now();
    let said = outcome(command).await;
    assert_eq!(said.status, Exit::TimedOut, "in time is in time");
    assert!(said.output.contains("bye"), "{}", said.output);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn what_forks_away_in_the_group_dies_and_holds_nothing_up() {
    let began = Instant::now();
    let said = outcome(shell("sleep 300 & echo $!")).await;
    assert_eq!(said.status, Exit::Code(0));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "the stray held the pipe"
    );
    wait_gone(&said.output).await;
}

#[tokio::test]
async fn a_daemon_in_its_own_session_survives_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    // The leader waits until the daemon has said that it runs; the daemon keeps the output open.
    let began = Instant::now();
    let said = outcome(shell(&format!(
        "setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec sleep 300' & \
         until test -e {0}; do sleep 0.02; done",
        pid.display()
    )))
    .await;
    assert_eq!(said.status, Exit::Code(0));
    assert!(began.elapsed() < Duration::from_secs(10));
    let pid = fs::read_to_string(&pid).unwrap();
    assert!(alive(&pid), "the daemon was killed");
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn dropping_the_run_kills_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!(
        "sleep 300 & echo $! >{0}.new; mv {0}.new {0}; wait",
        pid.display()
    );
    let running = tokio::spawn(run(shell(&script)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !pid.exists() {
        assert!(Instant::now() < deadline, "the command never started");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    wait_gone(&fs::read_to_string(&pid).unwrap()).await;
}

#[tokio::test]
async fn a_gibibyte_of_output_takes_no_memory_and_keeps_its_end() {
    let before = peak_memory();
    let mut command = shell("head -c 1073741824 /dev/zero; echo the end");
    command.time_limit = Duration::from_secs(120);
    let said = outcome(command).await;
    assert_eq!(said.status, Exit::Code(0));
    assert_eq!(said.output.len(), 4 << 10);
    assert!(said.output.ends_with("\0the end\n"));
    let grown = peak_memory() - before;
    assert!(grown < 64 << 10, "{grown} KiB");
}

/// The most memory this process has ever held, in KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_environment_is_clean() {
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "so there is something to hide"
    );
    let mut command = Command::new("env");
    command.env.insert("TAMER_HOST".into(), "web-01".into());
    let said = outcome(command).await.output;
    let seen: BTreeSet<&str> = said.lines().collect();
    let path = format!("PATH={PATH}");
    let mut expected = BTreeSet::from([path.as_str(), "LANG=C.UTF-8", "TAMER_HOST=web-01"]);
    // Every shell sets PWD; bash sets two more.
    let own: BTreeSet<&str> = ["PWD=/", "SHLVL=0", "_=/usr/bin/env"].into();
    expected.extend(seen.intersection(&own));
    assert_eq!(seen, expected);
}

/// Runs itself once more with descriptor 7 open, as whoever starts the agent may leave one open.
#[tokio::test]
async fn no_descriptor_is_inherited() {
    if std::env::var_os("WITH_DESCRIPTOR_7").is_none() {
        let again = std::process::Command::new("sh")
            .args(["-c", "exec 7</etc/passwd && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "no_descriptor_is_inherited"])
            .env("WITH_DESCRIPTOR_7", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(
            again.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    assert!(std::path::Path::new("/proc/self/fd/7").exists());
    let _own = fs::File::open("/etc/passwd").unwrap();
    let said = outcome(shell(
        "for fd in 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$fd && echo $fd; done; readlink /proc/$$/fd/0",
    ))
    .await;
    assert_eq!(said.output, "/dev/null\n");
}

#[tokio::test]
async fn umask_and_directory_are_as_demanded() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = shell("umask; pwd; touch made");
    command.umask = 0o077;
    command.dir = dir.path().to_owned();
    let said = outcome(command).await.output;
    assert_eq!(said, format!("0077\n{}\n", dir.path().display()));
    use std::os::unix::fs::MetadataExt;
    let mode = dir.path().join("made").metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn root_runs_a_command_as_somebody_else_for_good() {
    let nobody = User::named("nobody")
        .unwrap()
        .expect("every system has nobody");
    let mut command = shell("id -u; id -g; id -G; grep CapEff /proc/self/status");
    command.user = Some(User {
        groups: vec![nobody.gid, 12345],
        ..nobody.clone()
    });
    if !nix::unistd::geteuid().is_root() {
        let said = run(command).await.unwrap_err();
        assert_eq!(said.to_string(), "only root can run a command as nobody");
        return;
    }
    let said = outcome(command).await;
    assert_eq!(
        said.output,
        format!(
            "{0}\n{1}\n{1} 12345\nCapEff:\t0000000000000000\n",
            nobody.uid, nobody.gid
        )
    );
    assert!(User::named("no-such-user-here").unwrap().is_none());
}
