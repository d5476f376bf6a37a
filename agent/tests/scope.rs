//! Commands in scopes: from a control group nothing escapes, whatever it does. Tried with systemd where that
//! runs the host, and otherwise with the little of it that is needed: two scripts in the place of `systemd-run`
//! and `systemctl`, in a mount namespace of their own, over real control groups.

#![allow(clippy::unwrap_used, reason = "a test says best where it broke")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tamer_agent::process::enclosure::{Enclosure, RunName};
use tamer_agent::process::outside::run_outside;
use tamer_agent::process::{Command, Exit, User, end_abandoned, run};
use tamer_core::limits::Limits;

/// Set where the scripts are in place.
const INSIDE: &str = "TAMER_TEST_SCOPES";

/// Puts itself into a group named after the scope, and becomes the command. A service begins with an environment of
/// its own.
const SYSTEMD_RUN: &str = "#!/bin/sh\n\
    echo \"$*\" >>GROUPS.run\n\
    case \"$*\" in *--scope*) ;; */hangs*) exec sleep 300 ;; *)\n\
    while [ \"$1\" != -- ]; do shift; done\n\
    shift; env -i PATH=\"$PATH\" \"$@\"; exit $? ;; esac\n\
    while [ \"$1\" != -- ]; do case $1 in --unit=*) name=${1#--unit=} ;; esac; shift; done\n\
    shift; mkdir -p GROUPS/$name && echo $$ >GROUPS/$name/cgroup.procs && exec \"$@\"\n";

/// `[--no-block] stop SCOPE`: TERM, and KILL half a second later, to all that is in the group.
const SYSTEMCTL: &str = "#!/bin/sh\n\
    [ \"$1\" = --no-block ] && shift; [ \"$1\" = stop ] || exit 1\n\
    group=GROUPS/$2; [ -d $group ] || exit 5\n\
    for signal in TERM KILL; do kill -$signal $(cat $group/cgroup.procs) 2>/dev/null; n=0\n\
    while [ -n \"$(cat $group/cgroup.procs)\" ] && [ $n -lt 10 ]; do sleep 0.05; n=$((n+1)); done; done\n\
    rmdir $group\n";

/// Where a test runs.
enum Place {
    /// This host can put commands into scopes.
    Here,
    /// It ran where that can be done, and systemd was asked for this there, a line each.
    Elsewhere(String),
    /// Not every container lets root make control groups.
    Nowhere,
}

/// Whether to go on here.
fn here(test: &str) -> bool {
    match place(test) {
        Place::Here => true,
        Place::Nowhere => false,
        Place::Elsewhere(asked) => {
            assert!(asked.contains("--scope"), "{asked}");
            assert!(asked.lines().all(|it| it.contains("--collect")), "{asked}");
            // What a command is to know is nobody else's to read.
            assert!(!asked.contains("hunter2"), "{asked}");
            false
        }
    }
}

/// Whether this host can put commands into scopes, or `test` was run again where it can.
fn place(test: &str) -> Place {
    if std::env::var_os(INSIDE).is_some() {
        return Place::Here;
    }
    let root = nix::unistd::geteuid().is_root();
    if root && Path::new("/run/systemd/system").is_dir() {
        return Place::Here;
    }
    if !root {
        return Place::Nowhere;
    }
    let groups = format!("/sys/fs/cgroup/tamer-test-{}", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in [("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)] {
        let path = dir.path().join(name);
        let log = dir.path().join("log").display().to_string();
        let script = script.replace("GROUPS.run", &log);
        fs::write(&path, script.replace("GROUPS", &groups)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let inside = "{ mount --bind \"$1\" /usr/local/sbin && \
        { [ -f /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 none /sys/fs/cgroup; } && \
        mkdir \"$2\"; } || exit 77; groups=$2; shift 2; \"$@\"; code=$?; \
        rmdir \"$groups\"/*/ \"$groups\" 2>/dev/null; exit $code";
    let again = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", inside, "sh"])
        .args([dir.path().as_os_str(), groups.as_ref()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[again.stdout, again.stderr].concat()).into_owned();
    let asked = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    if again.status.code() == Some(77) {
        return Place::Nowhere;
    }
    assert!(said.contains("1 passed"), "{said}\n{asked}");
    Place::Elsewhere(asked)
}

fn scoped(script: &str) -> (Command, RunName) {
    let name = RunName::unique("tamer-hook-shop-web-test");
    let mut command = Command::new("sh");
    command.args = vec!["-c".to_owned(), script.to_owned()];
    command.time_limit = Duration::from_secs(20);
    command.grace = Duration::from_millis(500);
    command.limits = Some(Limits::DEFAULT);
    command.enclosure = Enclosure::Scope(name.clone());
    (command, name)
}

/// Starts what leaves the session, forks twice, sheds its environment and heeds no TERM.
fn escapes(pid: &Path) -> String {
    format!(
        "(env -i setsid sh -c 'trap \"\" TERM; echo $$ >{0}.new; mv {0}.new {0}; \
         while :; do sleep 0.05; done' &); until test -e {0}; do sleep 0.02; done",
        pid.display()
    )
}

/// Whether a process runs under this number. One that has ended and was not yet reaped does not.
fn alive(pid: &Path) -> bool {
    let pid = fs::read_to_string(pid).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        state != Some("Z") && state != Some("X")
    })
}

#[tokio::test]
async fn a_command_in_a_scope_is_still_ours() {
    if !here("a_command_in_a_scope_is_still_ours") {
        return;
    }
    let nobody = User::named("nobody")
        .unwrap()
        .expect("every system has nobody");
    let (mut command, name) = scoped("id -u; umask; ulimit -Hn; cat /proc/self/cgroup; exit 75");
    command.user = Some(nobody.clone());
    command.umask = 0o027;
    let said = run(command).await.unwrap();
    assert_eq!(said.status, Exit::Code(75));
    let mut lines = said.output.lines();
    assert_eq!(lines.next(), Some(nobody.uid.to_string().as_str()));
    assert_eq!(lines.next(), Some("0027"));
    assert_eq!(lines.next(), Some("4096"));
    let group = format!("/{name}.scope");
    assert!(lines.any(|line| line.ends_with(&group)), "{}", said.output);
}

#[tokio::test]
async fn nothing_escapes_a_scope() {
    if !here("nothing_escapes_a_scope") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (end, status) in [("exit 0", Exit::Code(0)), ("exit 3", Exit::Code(3))] {
        let pid = dir.path().join(end.replace(' ', "-"));
        let (command, _) = scoped(&format!("{}; {end}", escapes(&pid)));
        let said = run(command).await.unwrap();
        assert_eq!(said.status, status);
        assert!(!alive(&pid), "{end}: it goes on");
        let number = fs::read_to_string(&pid).unwrap();
        let named = format!("sh ({})", number.trim());
        assert!(said.left.contains(&named), "{:?} {named}", said.left);
    }
}

#[tokio::test]
async fn a_hang_in_a_scope_is_ended_whole() {
    if !here("a_hang_in_a_scope_is_ended_whole") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let (mut command, _) = scoped(&format!("trap '' TERM; {}; sleep 300", escapes(&pid)));
    command.time_limit = Duration::from_secs(2);
    assert_eq!(run(command).await.unwrap().status, Exit::TimedOut);
    assert!(!alive(&pid), "it goes on");
}

#[tokio::test]
async fn a_daemon_stays_in_its_scope_and_is_found_by_its_name() {
    if !here("a_daemon_stays_in_its_scope_and_is_found_by_its_name") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let (mut command, name) = scoped(&escapes(&pid));
    command.may_leave = true;
    let said = run(command).await.unwrap();
    assert_eq!((said.status, said.left), (Exit::Code(0), vec![]));
    assert!(alive(&pid), "the daemon was ended");
    // As an agent does with what the one before it had under way.
    end_abandoned(&Enclosure::Scope(name), Duration::from_millis(500)).await;
    assert!(!alive(&pid), "it goes on");
}

/// The agent's binary, as the runner.
fn runner() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tamer-agent"))
}

#[tokio::test]
async fn what_is_run_outside_goes_as_it_would_inside() {
    if !here("what_is_run_outside_goes_as_it_would_inside") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let nobody = User::named("nobody").unwrap();
    let (mut command, name) = scoped("id -un; echo $SECRET; umask; cat /proc/self/cgroup; exit 75");
    command.user = nobody;
    command.umask = 0o027;
    command.env.insert("SECRET".into(), "hunter2".into());
    let said = run_outside(runner(), &command).await.unwrap();
    assert_eq!(said.status, Exit::Code(75), "{}", said.output);
    let mut lines = said.output.lines();
    assert_eq!(lines.next(), Some("nobody"));
    assert_eq!(lines.next(), Some("hunter2"));
    assert_eq!(lines.next(), Some("0027"));
    let group = format!("/{name}.scope");
    assert!(lines.any(|line| line.ends_with(&group)), "{}", said.output);

    // What it leaves is named and ended, or stays where it may.
    let (mut command, name) = scoped(&escapes(&pid));
    let said = run_outside(runner(), &command).await.unwrap();
    assert!(
        said.left.iter().any(|it| it.starts_with("sh (")),
        "{said:?}"
    );
    assert!(!alive(&pid), "it goes on");
    command.may_leave = true;
    fs::remove_file(&pid).unwrap();
    let said = run_outside(runner(), &command).await.unwrap();
    assert_eq!((said.status, said.left), (Exit::Code(0), vec![]));
    assert!(alive(&pid), "the daemon was ended with its runner");
    end_abandoned(&Enclosure::Scope(name), Duration::from_millis(500)).await;
    assert!(!alive(&pid), "it goes on");

    // A program that is not there is an error of the start.
    let (mut command, _) = scoped("");
    command.program = "no-such-program".into();
    let error = run_outside(runner(), &command).await.unwrap_err();
    assert!(error.to_string().contains("no-such-program"), "{error}");
}

#[tokio::test]
async fn whoever_gives_up_a_run_outside_ends_it() {
    if !here("whoever_gives_up_a_run_outside_ends_it") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let (command, _) = scoped(&format!("{}; sleep 300", escapes(&pid)));
    let under_way = tokio::spawn(async move { run_outside(runner(), &command).await });
    until(|| pid.exists()).await;
    under_way.abort();
    until(|| !alive(&pid)).await;
}

/// Where systemd hangs, a server must still go back.
#[tokio::test(start_paused = true)]
async fn a_systemd_that_does_not_answer_is_not_waited_for_without_end() {
    // It may hang before it says what it was asked.
    let test = "a_systemd_that_does_not_answer_is_not_waited_for_without_end";
    if !matches!(place(test), Place::Here) {
        return;
    }
    // Time passes where nothing else happens.
    let (command, _) = scoped("exit 0");
    let said = run_outside(Path::new("/hangs"), &command).await.unwrap();
    assert_eq!(said.status, Exit::NoScope);
    assert!(said.output.contains("30 s"), "{}", said.output);
}

/// Waits for a condition of a process that nobody tells of.
async fn until(wanted: impl Fn() -> bool) {
    let waits = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waits).await;
    waited.expect("it comes to that");
}

#[tokio::test]
async fn a_runner_that_systemd_does_not_start_is_told_from_a_run_that_failed() {
    let (command, _) = scoped("exit 3");
    if !here("a_runner_that_systemd_does_not_start_is_told_from_a_run_that_failed") {
        return;
    }
    assert_eq!(run(command.clone()).await.unwrap().status, Exit::Code(3));
    let missing = Path::new("/nonexistent/runner");
    let said = run_outside(missing, &command).await.unwrap();
    assert_eq!(said.status, Exit::NoScope);
    assert!(!said.output.is_empty(), "why not is said");
}
