//! What a command starts is ended with it, also what leaves its process group and heeds no TERM; and it gets
//! no more of the host than it is given. With real processes.

#![allow(clippy::unwrap_used, reason = "a test says best where it broke")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tamer_agent::process::enclosure::{Enclosure, RunName};
use tamer_agent::process::{Command, Exit, Outcome, User, end_abandoned, run};
use tamer_core::limits::{Limits, Size};

fn name() -> RunName {
    RunName::unique("tamer-hook-shop-web-test")
}

/// A script whose run is marked, with little grace.
fn marked(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args = vec!["-c".to_owned(), script.to_owned()];
    command.time_limit = Duration::from_secs(20);
    command.grace = Duration::from_millis(200);
    command.enclosure = Enclosure::Marked(name());
    command
}

/// Starts what leaves the session, forks twice and heeds no TERM, and waits until it has noted its number.
fn escapes(pid: &Path) -> String {
    format!(
        "setsid sh -c '(trap \"\" TERM; echo $(exec sh -c \"echo \\$PPID\") >{0}.new; mv {0}.new {0}; \
         while :; do sleep 0.05; done) &' & until test -e {0}; do sleep 0.02; done",
        pid.display()
    )
}

async fn outcome(command: Command) -> Outcome {
    run(command).await.expect("the command starts")
}

/// Whether a process runs under this number. One that has ended and was not yet reaped does not.
fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        state != Some("Z") && state != Some("X")
    })
}

fn kill(pid: &str) {
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn what_leaves_the_session_is_ended_with_the_command_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let began = Instant::now();
    let said = outcome(marked(&escapes(&pid))).await;
    assert_eq!(said.status, Exit::Code(0));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it was waited for"
    );
    let pid = fs::read_to_string(&pid).unwrap();
    assert!(!alive(&pid), "it goes on");
    let named = format!("sh ({})", pid.trim());
    assert!(said.left.contains(&named), "{:?} {named}", said.left);
}

#[tokio::test]
async fn a_hang_is_ended_within_its_limit_and_grace_with_what_left_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let hangs = format!(
        "trap '' TERM; {}; while :; do sleep 0.05; done",
        escapes(&pid)
    );
    let mut command = marked(&hangs);
    command.time_limit = Duration::from_secs(2);
    let said = outcome(command).await;
    assert_eq!(said.status, Exit::TimedOut);
    assert!(!alive(&fs::read_to_string(&pid).unwrap()));
}

#[tokio::test]
async fn what_may_stay_stays_only_if_all_went_well() {
    let dir = tempfile::tempdir().unwrap();
    for (end, stays) in [("exit 0", true), ("exit 1", false)] {
        let pid = dir.path().join(end.replace(' ', "-"));
        let mut command = marked(&format!("{}; {end}", escapes(&pid)));
        command.may_leave = true;
        let said = outcome(command).await;
        let pid = fs::read_to_string(&pid).unwrap();
        assert_eq!(alive(&pid), stays, "{end}: {said:?}");
        if stays {
            assert!(said.left.is_empty());
            kill(&pid);
        }
    }
}

/// What the manual says of hosts without systemd: this is what is not found there.
#[tokio::test]
async fn what_leaves_the_session_and_sheds_its_environment_escapes_a_mark() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let said = outcome(marked(&format!(
        "env -i setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec sleep 300' & \
         until test -e {0}; do sleep 0.02; done",
        pid.display()
    )))
    .await;
    assert_eq!(said.status, Exit::Code(0));
    let pid = fs::read_to_string(&pid).unwrap();
    assert!(alive(&pid), "then the manual can promise more");
    kill(&pid);
}

#[tokio::test]
async fn what_an_agent_that_died_has_left_is_found_by_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let mut command = marked(&format!("{}; exec sleep 300", escapes(&pid)));
    let name = name();
    command.enclosure = Enclosure::Marked(name.clone());
    let running = tokio::spawn(run(command));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !pid.exists() {
        assert!(Instant::now() < deadline, "the command never started");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Dropping a run kills its group; what has left that goes on.
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let pid = fs::read_to_string(&pid).unwrap();
    assert!(alive(&pid));
    end_abandoned(&Enclosure::Marked(name), Duration::from_millis(200)).await;
    assert!(!alive(&pid));
}

#[tokio::test]
async fn limits_are_set_for_good_and_no_core_is_dumped() {
    let mut command = marked("cat /proc/self/limits");
    command.limits = Some(Limits {
        open_files: Some(100),
        processes: Some(1000),
        file_size: Some(Size(1 << 20)),
        address_space: Some(Size(1 << 30)),
    });
    let said = outcome(command).await.output;
    let of = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values[0], values[1], "the soft and the hard limit");
        values[0].to_owned()
    };
    assert_eq!(of("Max open files"), "100");
    assert_eq!(of("Max processes"), "1000");
    assert_eq!(of("Max file size"), (1 << 20).to_string());
    assert_eq!(of("Max address space"), (1 << 30).to_string());
    assert_eq!(of("Max core file size"), "0");
}

#[tokio::test]
async fn a_file_that_grows_beyond_its_limit_ends_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = marked("exec head -c 9000 /dev/zero >big");
    command.dir = dir.path().to_owned();
    command.limits = Some(Limits {
        file_size: Some(Size(4096)),
        ..Limits::DEFAULT
    });
    assert_eq!(outcome(command).await.status, Exit::Signal(25));
    assert_eq!(fs::metadata(dir.path().join("big")).unwrap().len(), 4096);
}

#[tokio::test]
async fn the_command_leads_a_session_without_a_terminal() {
    let said = outcome(marked("echo $$; cat /proc/$$/stat")).await.output;
    let (pid, stat) = said.split_once('\n').unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // State, parent, group, session, terminal.
    assert_eq!(fields[2..5], [pid, pid, "0"]);
}

#[tokio::test]
async fn nobody_becomes_more_than_their_user() {
    let nobody = User::named("nobody")
        .unwrap()
        .expect("every system has nobody");
    if !nix::unistd::geteuid().is_root() {
        return; // Only root can become somebody else.
    }
    for (allowed, said) in [(false, "NoNewPrivs:\t1\n"), (true, "NoNewPrivs:\t0\n")] {
        let mut command = marked("grep NoNewPrivs /proc/self/status");
        command.user = Some(nobody.clone());
        command.new_privileges = allowed;
        assert_eq!(outcome(command).await.output, said);
    }
}

/// Where systemd is installed and does not run the host, as in a container.
#[tokio::test]
async fn a_scope_that_systemd_does_not_give_is_told_from_the_commands_own_end() {
    let booted = Path::new("/run/systemd/system").exists();
    if booted || !Path::new("/usr/bin/systemd-run").exists() {
        return;
    }
    let mut command = marked("exit 1");
    command.enclosure = Enclosure::Scope(name());
    let said = outcome(command).await;
    assert_eq!(said.status, Exit::NoScope);
    assert!(!said.output.is_empty(), "what systemd said");
}
