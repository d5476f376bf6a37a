//! Other people's programs, outside of the agent's sandbox.
//!
//! The unit of the agent takes from it whatever it has no use for, and whoever it forks inherits that, also in a scope
//! of its own. So where systemd runs the host, a hook, a migration and the command of a check are run by the *runner*:
//! the agent's own binary once more, which systemd starts as a service for that one command. What is to be run, with
//! its environment, comes over standard input, so no secret stands in an argument or a property; how it went goes over
//! standard output; and an end of the input means that the agent is gone, or wants nothing more of it.
//!
//! ```text
//! agent ── systemd-run ──▶ systemd ──▶ runner ──▶ scope: the command
//! ```

use super::enclosure::SCOPE_PROGRAM;
use super::start::{LIMITS, find};
use super::{Command, Exit, Outcome, PATH, end_abandoned, run};
use rustix::process::getrlimit;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

/// The agent's command that is the runner.
pub const RUNNER: &str = "run-program";

/// The longest request and the longest answer, in bytes: both hold an environment or an output, not more.
const MOST: u64 = 8 << 20;

/// What the runner says before the command is started: from then on it is never tried another way.
const BEGUN: &[u8] = b"begun\n";

/// How long systemd may take until the runner is there.
const START: Duration = Duration::from_secs(30);

/// How long beyond a command's own limit its runner may take.
const BEYOND: Duration = Duration::from_secs(60);

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ended(Outcome),
    NotStarted(String),
}

/// Runs a command to its end by a runner. Dropping the future ends the command and all that is in its enclosure.
///
/// # Errors
/// Those of [`run`]; and the runner died in the middle, or is silent beyond the command's limit.
pub async fn run_outside(runner: &Path, command: &Command) -> io::Result<Outcome> {
    let mut request = serde_json::to_vec(command)?;
    request.push(b'\n');
    let mut child = tokio::process::Command::new(find(Path::new(SCOPE_PROGRAM))?)
        .args(service(command))
        .arg("--")
        .arg(runner)
        .arg(RUNNER)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut input), Some(output), Some(errors)) = (input, output, errors) else {
        return Err(io::Error::other("the runner has no pipes"));
    };
    let (mut output, mut errors) = (output.take(MOST), errors.take(64 << 10));
    let begins = async {
        // One that was never started does not read it.
        let _ = input.write_all(&request).await;
        let mut first = [0; BEGUN.len()];
        Ok(output.read_exact(&mut first).await.is_ok() && first == BEGUN)
    };
    let began: io::Result<bool> = match timeout(START, begins).await {
        Ok(began) => began,
        // Its input ends with this, and one that comes late runs nothing.
        Err(_) => return Ok(no_runner(format!("no runner within {} s", START.as_secs()))),
    };
    let (mut said, mut complaints) = (Vec::new(), Vec::new());
    let ends = async {
        tokio::try_join!(
            output.read_to_end(&mut said),
            errors.read_to_end(&mut complaints)
        )?;
        child.wait().await
    };
    if timeout(limit(command), ends).await.is_err() {
        return Err(io::Error::other("its runner is silent"));
    }
    drop(input);
    let complaints = String::from_utf8_lossy(&complaints).trim().to_owned();
    if !began? {
        return Ok(no_runner(complaints));
    }
    match serde_json::from_slice(&said) {
        Ok(Answer::Ended(outcome)) => Ok(outcome),
        Ok(Answer::NotStarted(why)) => Err(io::Error::other(why)),
        Err(_) => Err(io::Error::other(format!(
            "its runner died in the middle of it: {complaints}"
        ))),
    }
}

/// How long the runner of a command may take for all of it.
fn limit(command: &Command) -> Duration {
    command.time_limit + 2 * command.grace + BEYOND
}

fn no_runner(why: String) -> Outcome {
    Outcome {
        status: Exit::NoScope,
        left: Vec::new(),
        output: why,
    }
}

/// The service that the runner is, in words for systemd-run.
fn service(command: &Command) -> Vec<String> {
    let millis = |time: Duration| format!("{}ms", time.as_millis().max(1));
    let name = format!("tamer-run-{:016x}.service", rand::random::<u64>());
    let mut words = vec![
        "--pipe".to_owned(),
        "--wait".to_owned(),
        "--quiet".to_owned(),
        "--collect".to_owned(),
        "--service-type=exec".to_owned(),
        format!("--unit={name}"),
        "--slice=tamer-hooks.slice".to_owned(),
        "--description=The Tamer agent has a program run".to_owned(),
        format!("--property=RuntimeMaxSec={}", millis(limit(command))),
        format!("--property=TimeoutStopSec={}", millis(command.grace)),
        // The command's scope has its own bound.
        "--property=TasksMax=infinity".to_owned(),
        // Of one check every half minute nobody wants to read.
        "--property=LogLevelMax=notice".to_owned(),
    ];
    for (option, resource) in LIMITS {
        // No more than the host's owner gave the agent.
        let most = getrlimit(resource).maximum;
        let most = most.map_or_else(|| "infinity".to_owned(), |most| most.to_string());
        let option = option.to_uppercase();
        words.push(format!("--property=Limit{option}={most}"));
    }
    words
}

/// The runner: reads one command, runs it, and says how that went.
///
/// # Errors
/// What came is no command, or the answer could not be given.
pub async fn serve(
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut request = Vec::new();
    (&mut input)
        .take(MOST)
        .read_until(b'\n', &mut request)
        .await?;
    let command: Command = serde_json::from_slice(&request)?;
    let (enclosure, grace) = (command.enclosure.clone(), command.grace);
    output.write_all(BEGUN).await?;
    output.flush().await?;
    let answer = tokio::select! {
        outcome = run(command) => match outcome {
            Ok(outcome) => Answer::Ended(outcome),
            Err(error) => Answer::NotStarted(error.to_string()),
        },
        // Dropping the run has killed the group.
        () = ended(&mut input) => {
            end_abandoned(&enclosure, grace).await;
            return Ok(());
        }
    };
    output.write_all(&serde_json::to_vec(&answer)?).await?;
    output.flush().await
}

/// Waits for the end of the input, whatever else may come.
async fn ended(input: &mut (impl AsyncRead + Unpin)) {
    let mut nothing = [0; 256];
    while matches!(input.read(&mut nothing).await, Ok(n) if n > 0) {}
}
