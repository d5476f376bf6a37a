//! A program of this workspace as a process; it ends with the value.

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A program that runs.
pub struct Program(Child);

impl Program {
    /// Starts it; its log goes to a file.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end by a signal, and waits until it has.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) fn end_by(&mut self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.id()).context("no process id")?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to process {pid}"))?;
        self.0.wait().map(drop).context("cannot wait for it")
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// A program that was built with this one, and lies beside it.
pub(super) fn command(name: &str) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("where this program is cannot be found out")?;
    let path = own.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is not there: cargo build --release --package {name}",
        path.display()
    );
    let mut command = Command::new(path);
    // What a person has set for another controller is not meant.
    for variable in [
        "TAMER_CONTROLLER",
        "TAMER_CONTROLLER_CONFIG",
        "TAMER_AGENT_CONFIG",
    ] {
        command.env_remove(variable);
    }
    Ok(command)
}

/// The environment that a unit gives its program.
pub(super) fn environment(unit: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = unit.lines();
    let lines = lines.filter_map(|it| it.strip_prefix("Environment="));
    lines.flat_map(|it| it.split(' ').filter_map(|it| it.split_once('=')))
}

/// Runs a command to its end, which must be a good one; gives what it printed.
pub(super) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
