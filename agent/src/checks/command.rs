//! `command`: a program ends with exit code 0.

use super::{Doing, MAX_FILE, Surroundings, Tried, user_named};
use crate::process::{Command, Exit, User, run, run_by};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long after TERM a command that is over its time gets KILL.
const GRACE: Duration = Duration::from_millis(500);

/// How long reading a file as somebody else may take.
const READ_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn try_it(
    line: &[String],
    user: Option<&str>,
    around: &Surroundings,
    limit: Duration,
    doing: &Doing,
) -> Tried {
    let Some((program, args)) = line.split_first() else {
        return Err("`run` names no program".to_owned());
    };
    let name = line.join(" ");
    let user = match user {
        Some(user) => user_named(user, around).await?,
        None => around.user.clone(),
    };
    let mut command = Command::new(located(program, &around.dir));
    command.args = args.to_vec();
    if !around.dir.as_os_str().is_empty() {
        command.dir.clone_from(&around.dir);
    }
    command.env.clone_from(&around.env);
    if let Some(user) = &user {
        introduce(user, &mut command);
    }
    command.user = user;
    // The whole try has `limit`: the command gets its TERM early enough to say why it took so long.
    command.time_limit = limit.saturating_sub(2 * GRACE).max(limit / 2);
    command.grace = GRACE.min(limit / 4);
    doing.now(format!("running `{name}`"));
    let within = command.time_limit;
    let outcome = run_by(around.runner.as_deref(), &command)
        .await
        .map_err(|error| format!("cannot run `{name}`: {error}"))?;
    let ended = match outcome.status {
        Exit::Code(0) => return Ok(()),
        Exit::Code(code) => format!("`{name}` ended with exit code {code} (expected 0)"),
        Exit::Signal(signal) => {
            format!("`{name}` was ended by signal {signal} (expected exit code 0)")
        }
        Exit::TimedOut => format!("`{name}` did not end within {}", super::seconds(within)),
        Exit::NoScope => format!("`{name}` was not started"),
    };
    Err(match last_line(&outcome.output) {
        Some(line) => format!("{ended}: {line}"),
        None => ended,
    })
}

/// Reads a file with the rights of `user`, who is somebody else: the kernel judges, not we.
pub(super) async fn read_as(user: &User, path: &str) -> Result<String, String> {
    let mut command = Command::new("cat");
    command.args = vec!["--".to_owned(), path.to_owned()];
    command.user = Some(user.clone());
    command.time_limit = READ_LIMIT;
    command.output_cap = MAX_FILE + 1;
    let outcome = run(command).await.map_err(|error| error.to_string())?;
    if outcome.status != Exit::Code(0) {
        let why = last_line(&outcome.output).unwrap_or("it cannot be opened");
        return Err(format!("as {}: {why}", user.name));
    }
    if outcome.output.len() > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes"));
    }
    Ok(outcome.output)
}

/// A program of the release by its relative path, or one of the system.
fn located(program: &str, dir: &Path) -> PathBuf {
    if program.contains('/') {
        dir.join(program)
    } else {
        PathBuf::from(program)
    }
}

/// What programs expect to know of the user whom they run as.
fn introduce(user: &User, command: &mut Command) {
    let home = user.home.display().to_string();
    command.env.insert("HOME".to_owned(), home);
    command.env.insert("USER".to_owned(), user.name.clone());
    command.env.insert("LOGNAME".to_owned(), user.name.clone());
}

/// The last line that says something.
fn last_line(output: &str) -> Option<&str> {
    output.lines().map(str::trim).rfind(|line| !line.is_empty())
}
