//! One agent: joined, running, without root, with its install roots under a directory of its own.

use super::program::{self, Program};
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// An agent.
pub struct Agent {
    /// Its process.
    pub program: Program,
    place: PathBuf,
}

impl Agent {
    /// Joins the fleet with a token, and starts. `place` is made, and holds all that is the agent's.
    pub(super) fn join(name: &str, place: PathBuf, token: &str) -> anyhow::Result<Self> {
        fs::create_dir(&place)?;
        program::output(
            program::command("tamer-agent")?
                .arg("enroll")
                .env("TAMER_JOIN_TOKEN", token)
                .args(["--name", name, "--rootless"])
                .arg("--state")
                .arg(place.join("state"))
                .arg("--root-prefix")
                .arg(place.join("root"))
                .arg("--config")
                .arg(place.join("agent.toml")),
        )?;
        keep_two(&place.join("agent.toml"))?;
        Ok(Self {
            program: run(&place, "log")?,
            place,
        })
    }

    /// Ends it, and starts it anew with these lines more in front of its configuration.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_anew(&mut self, more: &str) -> anyhow::Result<()> {
        let config = self.place.join("agent.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(&config, format!("{more}{text}"))?;
        self.program.end();
        self.program = run(&self.place, "log-anew")?;
        Ok(())
    }

    /// Where the records of the application's releases lie.
    pub fn records(&self, application: &str) -> PathBuf {
        let name = format!("state/records/{application}.app.main");
        self.place.join(name)
    }

    /// Demands that the host runs this version of the application's component.
    pub(super) fn runs(&self, application: &str, version: &str) -> anyhow::Result<()> {
        let current = self.root(application).join("current");
        let target = fs::read_link(&current)
            .with_context(|| format!("cannot read {}", current.display()))?;
        let release = target.to_string_lossy();
        ensure!(
            release.contains(&format!("-{version}-")),
            "{} points to {release}, and should run {version}",
            current.display()
        );
        Ok(())
    }

    /// Where the application's component lives on this host.
    pub fn root(&self, application: &str) -> PathBuf {
        self.place.join("root/srv").join(application).join("app")
    }
}

/// Starts an agent as its unit does.
fn run(place: &Path, log: &str) -> anyhow::Result<Program> {
    const UNIT: &str = include_str!("../../../agent/package/tamer-agent.service");
    let mut run = program::command("tamer-agent")?;
    run.envs(program::environment(UNIT));
    run.arg("run").arg("--config").arg(place.join("agent.toml"));
    Program::start(run, &place.join(log))
}

/// Thirty hosts share one tmpfs: only the release that runs and one more stay.
fn keep_two(config: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(config)?;
    let kept = text.replacen("# keep = 5", "keep = 2", 1);
    ensure!(kept != text, "{} has no line for `keep`", config.display());
    fs::write(config, kept)?;
    Ok(())
}
