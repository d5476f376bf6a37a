//! The binary: joins, runs, is alone, and ends.

use crate::world::{PATIENCE, Port};
use axum::Router;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::Stdio;
use tamer_agent::config::Config;
use tamer_kit::token::JoinToken;
use tokio::process::Command;

async fn agent(state: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tamer-agent"))
        .arg("--state")
        .arg(state)
        .args(args)
        .output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .expect("it ends")
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

async fn enroll(state: &Path, token: &JoinToken) -> (i32, String) {
    let (file, root) = (state.with_extension("token"), state.join("root"));
    std::fs::write(&file, token.to_string()).unwrap();
    let (file, root) = (file.to_str().unwrap(), root.to_str().unwrap());
    let args = [
        "enroll",
        "--token-file",
        file,
        "--name",
        "web-1",
        "--rootless",
        "--root-prefix",
        root,
    ];
    agent(state, &args).await
}

#[tokio::test]
async fn a_host_joins_runs_alone_and_stops() {
    let port = Port::open(Router::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (code, said) = agent(&state, &["run"]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("tamer host invite"), "{said}");
    let (code, said) = enroll(&state, &port.token()).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("web-1 has joined") && said.contains("next: tamer-agent run"),
        "{said}"
    );
    let config = Config::load(&state.join("agent.toml")).unwrap();
    assert_eq!(config.environment.as_str(), "staging");
    assert!(config.rootless);
    let (code, said) = enroll(&state, &port.token()).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--force"), "{said}");

    // Whoever starts it leaves a file open.
    let mut running = Command::new("sh")
        .args(["-c", "exec 8</etc/passwd && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_tamer-agent"))
        .arg("--state")
        .arg(&state)
        .arg("run")
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = port.line().await;
    assert_eq!(line.greeting.environment, "staging");
    line.welcome(1).await;
    let (code, said) = agent(&state, &["run"]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("another tamer-agent uses"), "{said}");
    let (code, said) = agent(&state, &["status"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("agent       runs"), "{said}");
    let (code, said) = agent(&state, &["rollback"]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("nothing was ever deployed"), "{said}");

    let pid = i32::try_from(running.id().unwrap()).unwrap();
    for open in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let what = std::fs::read_link(open.unwrap().path()).unwrap_or_default();
        assert_ne!(what, Path::new("/etc/passwd"), "it reaches no hook");
    }
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, running.wait()).await;
    assert!(ended.expect("it stops").unwrap().success());
    let (_, said) = agent(&state, &["status"]).await;
    assert!(said.contains("does not run"), "{said}");
    // Another environment in the configuration than the one that was joined.
    let text = std::fs::read_to_string(state.join("agent.toml")).unwrap();
    std::fs::write(
        state.join("agent.toml"),
        text.replace("\"staging\"", "\"production\""),
    )
    .unwrap();
    let (code, said) = agent(&state, &["run"]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("joined as web-1 in staging"), "{said}");
}
