//! One agent: joined, running, without root, with its install roots under a directory of its own.

use super::program::{self, Program};
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::PathBuf;

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
                .args(["--token", token, "--name", name, "--rootless"])
                .arg("--state")
                .arg(place.join("state"))
                .arg("--root-prefix")
                .arg(place.join("root"))
                .arg("--config")
                .arg(place.join("agent.toml")),
        )?;
        keep_two(&place.join("agent.toml"))?;
        let mut run = program::command("tamer-agent")?;
        run.arg("run").arg("--config").arg(place.join("agent.toml"));
        Ok(Self {
            program: Program::start(run, &place.join("log"))?,
            place,
        })
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

/// Thirty hosts share one tmpfs: only the release that runs and one more stay.
fn keep_two(config: &std::path::Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(config)?;
    let kept = text.replacen("# keep = 5", "keep = 2", 1);
    ensure!(kept != text, "{} has no line for `keep`", config.display());
    fs::write(config, kept)?;
    Ok(())
}
