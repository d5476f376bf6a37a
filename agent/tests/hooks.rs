//! Hooks of releases, run by the whole of the agent's hands: what they see, what they may use, what becomes of
//! what they leave, and what the unit is told.
//!
//! The agent that is killed is this test's own program, run again as the test [`child`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::{Agent, Site, a_hosts_site, a_site, failure, granted, log, status};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use tamer_core::desired::{ActivationStatus, Desired, FailureKind, Purpose};

use ActivationStatus::{Done, Undone};
use Purpose::Forward;

/// Where the child finds its site. Without it the test [`child`] has nothing to do.
const SITE: &str = "TAMER_TEST_SITE";

/// Leaves something that has left the session and heeds no TERM, its number in `shared/stray`.
const STRAY: &str = "setsid sh -c 'trap \"\" TERM; echo $$ >$TAMER_SHARED/stray.new; \
    mv $TAMER_SHARED/stray.new $TAMER_SHARED/stray; while :; do sleep 0.05; done' &\n\
    until test -e $TAMER_SHARED/stray; do sleep 0.02; done\n";

fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        state != Some("Z") && state != Some("X")
    })
}

#[tokio::test]
async fn a_hook_sees_what_it_is_promised_and_nothing_else() {
    let (_dir, mut site) = a_hosts_site();
    site.more = "umask = \"0077\"\nlimits = { open_files = 100 }\n";
    site.config.variables.insert("port".into(), "8000".into());
    let start = "#!/bin/sh\ncd $TAMER_SHARED\numask >umask; ulimit -Hn >files; id -u >user; \
                 id -G >groups; env | cut -d= -f1 | sort >names; readlink /proc/$$/fd/0 >stdin\n\
                 ls /proc/$$/fd >descriptors; grep NoNewPrivs /proc/self/status >privileges\n\
                 printf %s $TAMER_VERSION >running\n";
    let one = site.publish("1.0.0", &[("bin/start", start)]);
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(1, Some(&one), Forward).await;
    assert_eq!(*status(&report), Done, "{report:?}");
    let said = |name: &str| site.shared(name).unwrap().trim().to_owned();
    assert_eq!(
        (said("umask").as_str(), said("files").as_str()),
        ("0077", "100")
    );
    assert_eq!(said("stdin"), "/dev/null");
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "so there is something to hide"
    );
    // What a shell sets by itself, and the mark of the run.
    let own = ["OLDPWD", "PWD", "SHLVL", "_", "TAMER_RUN"];
    let names = said("names");
    let names: Vec<&str> = names.lines().filter(|it| !own.contains(it)).collect();
    let mut expected = vec!["LANG", "PATH"];
    let tamer = [
        "APPLICATION",
        "COMPONENT",
        "ENVIRONMENT",
        "HOOK",
        "HOST",
        "PREVIOUS",
        "RELEASE",
        "ROOT",
        "SHARED",
        "VAR_PORT",
        "VERSION",
    ]
    .map(|name| format!("TAMER_{name}"));
    expected.extend(tamer.iter().map(String::as_str));
    if site.user.is_some() {
        expected.extend(["HOME", "LOGNAME", "USER"]);
        let nobody = tamer_agent::process::User::named("nobody")
            .unwrap()
            .unwrap();
        assert_eq!(said("user"), nobody.uid.to_string());
        let groups: Vec<String> = nobody.groups.iter().map(u32::to_string).collect();
        assert_eq!(said("groups"), groups.join(" "));
        assert_eq!(said("privileges"), "NoNewPrivs:\t1");
    }
    expected.sort_unstable();
    assert_eq!(names, expected);
    // From 10 on they are the shell's own, or what started these tests has left them open.
    let descriptors = said("descriptors");
    let low: Vec<&str> = descriptors.lines().filter(|it| it.len() == 1).collect();
    assert_eq!(low, ["0", "1", "2"]);
    agent.stop().await;
}

#[tokio::test]
async fn what_a_hook_leaves_is_ended_and_said_and_only_a_daemon_stays() {
    let (_dir, site) = a_hosts_site();
    let leaves = format!("#!/bin/sh\n{STRAY}");
    let one = site.publish("1.0.0", &[("bin/validate", leaves.as_str())]);
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    let left = site.shared("stray").unwrap();
    assert!(!alive(&left), "it goes on");
    fs::remove_file(site.root().join("shared/stray")).unwrap();
    // One that fails says what it had left.
    let fails = format!("#!/bin/sh\n{STRAY}echo no such table\nexit 3\n");
    let two = site.publish("2.0.0", &[("bin/start", fails.as_str())]);
    let report = agent.grant(2, Some(&two), Forward).await;
    assert!(matches!(status(&report), Undone(_)));
    let left = site.shared("stray").unwrap();
    assert!(!alive(&left), "it goes on");
    let said = &failure(&report).output;
    assert!(said.starts_with("no such table\n"), "{said}");
    let named = format!("sh ({})", left.trim());
    assert!(
        said.contains("left behind") && said.contains(&named),
        "{said}"
    );
    fs::remove_file(site.root().join("shared/stray")).unwrap();
    // A component without a unit is what its `start` leaves.
    let daemon = format!("#!/bin/sh\nprintf %s $TAMER_VERSION >$TAMER_SHARED/running\n{STRAY}");
    let three = site.publish("3.0.0", &[("bin/start", daemon.as_str())]);
    assert_eq!(*status(&agent.grant(3, Some(&three), Forward).await), Done);
    let left = site.shared("stray").unwrap();
    assert!(alive(&left), "the daemon was ended");
    agent.stop().await;
    assert!(alive(&left), "the daemon was ended with the agent");
    // The next agent finds no hook under way.
    Agent::start(site.hands()).await.stop().await;
    assert!(alive(&left), "the daemon was ended by the next agent");
    let pid = nix::unistd::Pid::from_raw(left.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Whoever leaves is drained and stopped by its own hooks, also on the way back.
#[tokio::test]
async fn what_may_be_in_service_is_drained_before_it_is_taken_back() {
    let (_dir, site) = a_site();
    let one = site.publish("1.0.0", &[]);
    let refuses = "#!/bin/sh\necho admit $TAMER_VERSION >>$TAMER_SHARED/log\nexit 1\n";
    let two = site.publish("2.0.0", &[("bin/admit", refuses)]);
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    log(&site);
    let report = agent.grant(2, Some(&two), Forward).await;
    assert!(matches!(status(&report), Undone(_)), "{report:?}");
    let forward = [
        "pre-activate 2.0.0",
        "drain 1.0.0",
        "stop 1.0.0",
        "start 2.0.0",
        "validate 2.0.0",
        "admit 2.0.0",
    ];
    let back = ["drain 2.0.0", "stop 2.0.0", "start 1.0.0", "admit 1.0.0"];
    assert_eq!(log(&site), [&forward[..], &back].concat());
    agent.stop().await;
}

#[tokio::test]
async fn child() {
    let Ok(dir) = std::env::var(SITE) else { return };
    let site = Site::at(Path::new(&dir));
    let text = fs::read(site.dir.join("desired.json")).unwrap();
    let desired: Desired = serde_json::from_slice(&text).unwrap();
    let counter = desired.generation.counter;
    let mut agent = Agent::start(site.hands()).await;
    agent.desired.send_replace(Some(desired));
    let report = agent.ended(counter).await;
    assert_eq!(*status(&report), Done, "{report:?}");
    agent.stop().await;
}

#[tokio::test]
async fn what_the_hook_of_a_killed_agent_left_is_ended_before_anything_is_done_again() {
    let (_dir, site) = a_site();
    // The first time it kills the agent, whose child it is; the second time it looks what is left.
    let start = format!(
        "#!/bin/sh\nif test -e $TAMER_SHARED/stray; then\n\
         grep -s State: /proc/$(cat $TAMER_SHARED/stray)/status | grep -qv zombie && exit 1\n\
         printf %s $TAMER_VERSION >$TAMER_SHARED/running; exit 0\nfi\n{STRAY}\
         kill -9 $PPID; exec sleep 300\n"
    );
    let one = site.publish("1.0.0", &[("bin/start", start.as_str())]);
    let desired = granted(1, Some(&one), Forward);
    let text = serde_json::to_vec(&desired).unwrap();
    fs::write(site.dir.join("desired.json"), text).unwrap();
    let agent = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--quiet"])
            .env(SITE, &site.dir)
            .output()
            .unwrap()
    };
    assert_eq!(agent().status.signal(), Some(9));
    let left = site.shared("stray").unwrap();
    assert!(alive(&left), "there is something to end");
    let notes = || {
        fs::read_dir(site.config.state.join("hooks"))
            .unwrap()
            .count()
    };
    assert_eq!(notes(), 1);
    let again = agent();
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success(), "{said}");
    assert!(!alive(&left));
    assert_eq!((notes(), site.running().as_deref()), (0, Some("1.0.0")));
}

#[tokio::test]
async fn the_unit_is_told_by_a_file_in_the_release() {
    let (_dir, mut site) = a_hosts_site();
    site.config
        .variables
        .insert("motto".into(), "5 $ \"net\"".into());
    let one = site.publish("1.0.0", &[]);
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    agent.stop().await;
    let file = site.root().join("current/.tamer/environment");
    let read = || {
        let said = Command::new("sh")
            .args([
                "-c",
                ". \"$1\"; echo $TAMER_VERSION $TAMER_RELEASE; echo \"$TAMER_VAR_MOTTO\"",
                "sh",
            ])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    let release = fs::canonicalize(site.root().join("current")).unwrap();
    let dir = site
        .root()
        .join("releases")
        .join(release.file_name().unwrap());
    assert_eq!(read(), format!("1.0.0 {}\n5 $ \"net\"\n", dir.display()));
    let about = fs::metadata(&file).unwrap();
    assert_eq!(about.mode() & 0o7777, 0o640);
    if site.user.is_some() {
        let nobody = tamer_agent::process::User::named("nobody")
            .unwrap()
            .unwrap();
        assert_eq!((about.uid(), about.gid()), (0, nobody.gid));
    }
    // What agent.toml says later is told at the agent's next start, and is no change by hand.
    site.config.variables.insert("motto".into(), "gross".into());
    Agent::start(site.hands()).await.stop().await;
    assert!(read().ends_with("\ngross\n"), "{}", read());
    assert_eq!(site.running().as_deref(), Some("1.0.0"));
}

#[tokio::test]
async fn a_hook_that_writes_too_much_is_told_which_limit_it_met() {
    let (_dir, mut site) = a_site();
    site.more = "limits = { file_size = \"4KiB\" }\n";
    let start = "#!/bin/sh\nexec head -c 9000 /dev/zero >$TAMER_SHARED/big\n";
    let one = site.publish("1.0.0", &[("bin/start", start)]);
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(1, Some(&one), Forward).await;
    assert_eq!(failure(&report).kind, FailureKind::Hook);
    let said = &failure(&report).message;
    assert!(said.contains("`file_size` of its limits"), "{said}");
    agent.stop().await;
}
