//! A controller and its agents as ordinary processes on loopback, without root, each with its own roots
//! under one temporary directory; nothing of them is left when the value is dropped.

mod agents;
mod desk;
mod program;

pub use agents::Agent;
pub use desk::{Desk, Ended};
pub use program::Program;

use crate::process;
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The environment that all agents belong to.
pub const ENVIRONMENT: &str = "production";

/// Far above what anything here takes; whoever waits so long has hung.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// What the controller says.
const LOG: &str = "controller.log";

/// The unit that starts a controller.
const UNIT: &str = include_str!("../../../controller/package/tamer-controller.service");

/// Every host is changed at once, nothing is waited for.
pub const AT_ONCE: &str = "max_parallel = \"100%\"\nall_at_once = true\nmin_healthy = \"0s\"\n";

/// An environment with this policy. Its checks run at their default interval, each of another type.
fn environment(applications: &[&str], policy: &str, metrics: SocketAddr) -> String {
    let mut text = "[place]\n".to_owned();
    for application in applications {
        text += &format!("\"{application}/app\" = {{ role = \"web\" }}\n");
    }
    text += &format!("\n[policy]\n{policy}");
    text += &format!("\n[checks.web]\ntype = \"http\"\nurl = \"http://{metrics}/healthz\"\n");
    text += &format!("\n[checks.port]\ntype = \"tcp\"\naddress = \"{metrics}\"\n");
    text
}

/// Where a controller shows its metrics.
#[derive(Debug, Clone, Copy)]
pub struct Gauges(SocketAddr);

impl Gauges {
    /// One of them, as [`Fleet::metric`] does.
    ///
    /// # Errors
    /// The controller does not answer, or has none of that name.
    pub fn read(self, name: &str) -> anyhow::Result<u64> {
        let name = format!("tamer_controller_{name} ");
        let mut stream = TcpStream::connect(self.0).context("cannot read the metrics")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        let value = value.with_context(|| format!("the controller has no metric {name}"))?;
        Ok(value.trim().parse()?)
    }
}

/// The fleet.
pub struct Fleet {
    /// The agents; dropped before the controller that they talk to.
    pub agents: Vec<Agent>,
    /// The controller.
    pub controller: Program,
    /// The operator.
    pub desk: Desk,
    /// Where the controller shows its metrics.
    metrics: SocketAddr,
    dir: TempDir,
}

impl Fleet {
    /// Starts a controller with an operator and an environment that places these applications, and
    /// `hosts` agents that are connected. `parent` is where everything is kept.
    ///
    /// # Errors
    /// Something does not start, or does not connect.
    pub async fn start(parent: &Path, hosts: usize, applications: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tamer-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        let (port, metrics) = (free_port()?, free_port()?);
        let file = dir.path().join("controller.toml");
        let listen = format!("127.0.0.1:{port}");
        let shown: SocketAddr = ([127, 0, 0, 1], metrics).into();
        let said = program::output(
            program::command("tamer-controller")?
                .arg("init")
                .arg("--config")
                .arg(&file)
                .args(["--name", "localhost", "--listen", &listen])
                .args(["--public", &listen])
                .args(["--metrics", &shown.to_string()])
                .arg("--data")
                .arg(dir.path().join("controller")),
        )?;
        let token = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("tamer login <<< "));
        let token = token.context("`tamer-controller init` printed no login line")?;
        let controller = serve(dir.path())?;
        wait_for("the controller to serve", || {
            Ok(TcpStream::connect(&listen).is_ok())
        })?;
        let mut desk = Desk::new(dir.path().join("desk"))?;
        let file = dir.path().join("token");
        fs::write(&file, token)?;
        desk.tamer(&["login", "--token-file", &file.display().to_string()])?;
        desk.tamer(&["trust", "init"])?;
        desk.connect().await?;
        let mut fleet = Self {
            agents: Vec::new(),
            controller,
            desk,
            metrics: shown,
            dir,
        };
        fleet.place(applications, AT_ONCE)?;
        for n in 1..=hosts {
            let token = fleet.desk.invite().await?;
            let place = fleet.dir.path().join(format!("host-{n}"));
            fleet
                .agents
                .push(Agent::join(&format!("host-{n}"), place, &token)?);
        }
        fleet.connected().await?;
        Ok(fleet)
    }

    /// Signs and applies the environment: these applications on every host, under this policy.
    ///
    /// # Errors
    /// It is refused.
    pub fn place(&self, applications: &[&str], policy: &str) -> anyhow::Result<()> {
        let environments = self.room("environments")?;
        let text = environment(applications, policy, self.metrics);
        fs::write(environments.join(format!("{ENVIRONMENT}.toml")), text)?;
        let place = environments.display().to_string();
        self.desk.tamer(&["env", "apply", &place]).map(drop)
    }

    /// Ends the controller by a signal and starts it anew, without waiting until it serves; gives the moment when the
    /// new process was started.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self, signal: Signal) -> anyhow::Result<Instant> {
        self.controller.end_by(signal)?;
        let begun = Instant::now();
        self.controller = serve(self.dir.path())?;
        Ok(begun)
    }

    /// Demands that the controller's process has not ended.
    ///
    /// # Errors
    /// It has; with what it said last.
    pub fn serves(&self) -> anyhow::Result<()> {
        // One that has ended, and that nobody has asked how, has no memory.
        let resident = process::resident(self.controller.id());
        resident.map(drop).with_context(|| {
            let said = fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default();
            let last = said.lines().last().unwrap_or("nothing").to_owned();
            format!("the controller has ended, and said: {last}")
        })
    }

    /// A directory for whatever else is needed; it goes with the fleet.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn room(&self, name: &str) -> anyhow::Result<PathBuf> {
        let room = self.dir.path().join(name);
        fs::create_dir_all(&room)?;
        Ok(room)
    }

    async fn connected(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.desk.connected().await? < self.agents.len() {
            if begun.elapsed() > LIMIT {
                bail!("the agents do not connect");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Demands that every agent's host runs this version of the application: the links on disk say so.
    ///
    /// # Errors
    /// One does not.
    pub fn runs(&self, application: &str, version: &str) -> anyhow::Result<()> {
        for agent in &self.agents {
            agent.runs(application, version)?;
        }
        Ok(())
    }

    /// The CPU time of the controller, and that of all agents together.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn cpu(&self) -> anyhow::Result<(Duration, Duration)> {
        let mut agents = Duration::ZERO;
        for agent in &self.agents {
            agents += process::cpu(agent.program.id())?;
        }
        Ok((process::cpu(self.controller.id())?, agents))
    }

    /// The bytes of archives and manifests that the controller has sent so far.
    ///
    /// # Errors
    /// It does not say.
    pub fn sent(&self) -> anyhow::Result<u64> {
        self.metric("artifact_sent_bytes_total")
    }

    /// One of the controller's metrics, without labels, by its name without the prefix.
    ///
    /// # Errors
    /// The controller does not answer, or has none of that name.
    pub fn metric(&self, name: &str) -> anyhow::Result<u64> {
        self.gauges().read(name)
    }

    /// Where the controller's metrics are read, for whoever does that beside something else.
    pub fn gauges(&self) -> Gauges {
        Gauges(self.metrics)
    }

    /// The largest peak of an agent, and the controller's, since [`Fleet::forget_peaks`]; in bytes.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn peaks(&self) -> anyhow::Result<(u64, u64)> {
        let mut most = 0;
        for agent in &self.agents {
            most = process::peak(agent.program.id())?.max(most);
        }
        Ok((most, process::peak(self.controller.id())?))
    }

    /// Begins to look for peaks anew.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn forget_peaks(&self) -> anyhow::Result<()> {
        for agent in &self.agents {
            process::forget_peak(agent.program.id())?;
        }
        process::forget_peak(self.controller.id())
    }

    /// Waits until nobody has anything left to do: less than 1 % of a core for 200 ms.
    ///
    /// # Errors
    /// They never are.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let window = Duration::from_millis(200);
        loop {
            let before = self.cpu()?;
            tokio::time::sleep(window).await;
            let after = self.cpu()?;
            let used = (after.0 + after.1).saturating_sub(before.0 + before.1);
            if used < window / 100 {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                bail!("the fleet does not come to rest");
            }
        }
    }
}

/// Starts the controller whose configuration lies here, as its unit does.
fn serve(dir: &Path) -> anyhow::Result<Program> {
    let mut serve = program::command("tamer-controller")?;
    serve.envs(program::environment(UNIT));
    serve
        .arg("serve")
        .arg("--config")
        .arg(dir.join("controller.toml"));
    Program::start(serve, &dir.join(LOG))
}

/// A port that is free now, of the kernel's choice.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("there is no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Asks again and again.
fn wait_for(what: &str, mut there: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !there()? {
        if begun.elapsed() > LIMIT {
            bail!("waited too long for {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
