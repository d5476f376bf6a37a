//! `agent.toml`: the controller's address, this host's name and environment, and what each
//! application may touch here.
//!
//! ```toml
//! controller  = "https://controller.internal:7400"
//! name        = "web-07.internal"
//! environment = "production"
//!
//! [variables]                  # `{port}` in checks, TAMER_VAR_PORT in hooks
//! port = "8000"
//!
//! [application.shop]           # without it: /srv/shop, user shop, units shop-*.service
//! roots = ["/srv/shop", "/opt/shop"]
//! users = ["shop"]
//! units = ["shop-*.service"]
//! ```

use crate::remote::pace::Pace;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use tamer_core::capability::Capability;
use tamer_core::check::Room;
use tamer_core::id::{ApplicationName, EnvironmentName, HostName};
use tamer_core::limits::Limits;
use tamer_core::moment::Span;

/// The agent's configuration, as `agent.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The controller's URL, `https://host:port`.
    pub controller: String,
    /// This host's name: what its certificate says.
    pub name: HostName,
    /// The environment that this host belongs to. Desired state for another one is refused.
    pub environment: EnvironmentName,
    /// Where the agent keeps its keys, journal, acceptance record and downloads.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// No root: every install root is allowed, no user is switched to, and there are no units.
    #[serde(default)]
    pub rootless: bool,
    /// Rootless only: put before every install root, so that several agents can live on one machine.
    #[serde(default)]
    pub root_prefix: Option<PathBuf>,
    /// Where Prometheus may fetch metrics; without it nothing listens.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// What must stay free on a file system after a release was staged there.
    #[serde(default = "disk_reserve")]
    pub disk_reserve: Room,
    /// How many bytes a second of releases are fetched at most, by all transfers together; without it, as fast as
    /// they come.
    #[serde(default)]
    pub fetch_limit: Option<Room>,
    /// How many releases of a component stay on disk, those that are needed counted in; at least 2.
    #[serde(default = "keep")]
    pub keep: usize,
    /// How often the running releases are compared with their manifests: what has changed since the last time
    /// is read.
    #[serde(default = "drift_interval")]
    pub drift_interval: Span,
    /// How often the running releases are read whole, in the background.
    #[serde(default = "drift_full_interval")]
    pub drift_full_interval: Span,
    /// How many bytes a second are read for that at most.
    #[serde(default = "drift_limit")]
    pub drift_limit: Room,
    /// Values that checks may name as `{name}` and that hooks see as `TAMER_VAR_NAME`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The most that one hook may use, whatever `tamer.toml` asks for.
    #[serde(default)]
    pub limits: Limits,
    /// The agent's own binary, where systemd can run it for other people's programs: never from the file.
    #[serde(skip)]
    pub runner: Option<PathBuf>,
    /// What applications may touch, where that differs from the default.
    #[serde(default, rename = "application")]
    pub applications: BTreeMap<ApplicationName, Allowed>,
}

/// What the releases of one application may name on this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Directories at or below which its components may be installed.
    #[serde(default)]
    pub roots: Vec<PathBuf>,
    /// Users that its hooks and checks may run as.
    #[serde(default)]
    pub users: Vec<String>,
    /// Units that may be restarted for it; `*` stands for any part of a name.
    #[serde(default)]
    pub units: Vec<String>,
    /// Whether its hooks may become more than their user through setuid programs such as `sudo` and
    /// `sendmail`.
    #[serde(default)]
    pub new_privileges: bool,
    /// The capabilities that files of its releases may have.
    #[serde(default)]
    pub capabilities: BTreeSet<Capability>,
}

fn state() -> PathBuf {
    PathBuf::from("/var/lib/tamer/agent")
}

fn disk_reserve() -> Room {
    Room::Percent(5)
}

fn keep() -> usize {
    5
}

fn drift_interval() -> Span {
    Span::secs(3600)
}

fn drift_full_interval() -> Span {
    Span::secs(24 * 3600)
}

fn drift_limit() -> Room {
    Room::Bytes(16 * 1024 * 1024)
}

// === impl Allowed ===

impl Allowed {
    /// What an application may touch where `agent.toml` says nothing of it: for `shop` that is
    /// `/srv/shop`, the user `shop` and the units `shop-*.service`.
    pub fn by_default(application: &ApplicationName) -> Self {
        Self {
            roots: vec![Path::new("/srv").join(application.as_str())],
            users: vec![application.to_string()],
            units: vec![format!("{application}-*.service")],
            new_privileges: false,
            capabilities: BTreeSet::new(),
        }
    }
}

// === impl Config ===

impl Config {
    /// Reads and validates the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, is not such a file, or contradicts itself; the message says where and why.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let config: Self = tamer_kit::config::load(path)?;
        config
            .validate()
            .map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))?;
        Ok(config)
    }

    /// How many bytes a second a full pass over a release reads at most.
    pub fn drift_bytes(&self) -> u64 {
        match self.drift_limit {
            Room::Bytes(bytes) => bytes,
            // Refused when it was read.
            Room::Percent(_) => u64::MAX,
        }
    }

    fn validate(&self) -> Result<(), String> {
        if !self.controller.starts_with("https://") {
            return Err(format!(
                "`controller` must be a URL like https://controller:7400, not `{}`",
                self.controller
            ));
        }
        if self.keep < 2 {
            return Err(
                "`keep` must be at least 2: the running release and one to go back to".into(),
            );
        }
        if matches!(self.fetch_limit, Some(Room::Percent(_) | Room::Bytes(0))) {
            return Err("`fetch_limit` must be bytes a second, like \"4MiB\"".into());
        }
        for (name, interval) in [
            ("drift_interval", self.drift_interval),
            ("drift_full_interval", self.drift_full_interval),
        ] {
            if interval.0.as_secs() == 0 {
                return Err(format!("`{name}` must be at least a second"));
            }
        }
        if matches!(self.drift_limit, Room::Percent(_) | Room::Bytes(0)) {
            return Err("`drift_limit` must be bytes a second, like \"16MiB\"".into());
        }
        let absolute = |name: &str, path: &Path| {
            let plain = path.is_absolute()
                && path
                    .components()
                    .all(|part| part != std::path::Component::ParentDir);
            plain.then_some(()).ok_or_else(|| {
                format!(
                    "`{name}` must be an absolute path without `..`, not `{}`",
                    path.display()
                )
            })
        };
        absolute("state", &self.state)?;
        if let Some(prefix) = &self.root_prefix {
            absolute("root_prefix", prefix)?;
            if !self.rootless {
                return Err("`root_prefix` is for `rootless = true` only".into());
            }
        }
        for (application, allowed) in &self.applications {
            for root in &allowed.roots {
                absolute(&format!("application.{application}.roots"), root)?;
            }
        }
        self.limits
            .validate()
            .map_err(|reason| format!("[limits]: {reason}"))?;
        for (name, value) in &self.variables {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!(
                    "[variables]: only a-z, 0-9 and `_` may stand in a name, not `{name}`"
                ));
            }
            if value
                .chars()
                .any(|c| c.is_control() && c != '\t' && c != '\n')
            {
                return Err(format!(
                    "[variables]: `{name}` has a control character, which no unit would be given: leave it out"
                ));
            }
        }
        Ok(())
    }

    /// The pace at which releases are fetched.
    pub fn pace(&self) -> Pace {
        Pace::new(match self.fetch_limit {
            Some(Room::Bytes(bytes)) => NonZeroU64::new(bytes),
            _ => None,
        })
    }

    /// What `application` may touch on this host.
    pub fn allowed(&self, application: &ApplicationName) -> Allowed {
        self.applications
            .get(application)
            .cloned()
            .unwrap_or_else(|| Allowed::by_default(application))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        "controller = \"https://c:7400\"\nname = \"web-1\"\nenvironment = \"staging\"\n";

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn three_lines_are_enough_and_the_rest_has_defaults() {
        let config = load(LEAST).unwrap();
        assert_eq!(config.state, Path::new("/var/lib/tamer/agent"));
        let shop = config.allowed(&"shop".parse().unwrap());
        assert_eq!(shop.roots, [Path::new("/srv/shop")]);
        assert_eq!(shop.users, ["shop"]);
        assert_eq!(shop.units, ["shop-*.service"]);
    }

    #[test]
    fn a_word_about_an_application_replaces_its_defaults() {
        let config = load(&format!("{LEAST}[application.shop]\nroots = [\"/opt\"]\n")).unwrap();
        let shop = config.allowed(&"shop".parse().unwrap());
        assert_eq!(shop.roots, [Path::new("/opt")]);
        assert!(shop.users.is_empty() && shop.units.is_empty());
    }

    #[test]
    fn contradictions_and_misspelt_keys_are_refused() {
        for (line, word) in [
            ("rootles = true", "did you mean `rootless`?"),
            ("root_prefix = \"/tmp/a\"", "rootless = true"),
            ("keep = 1", "at least 2"),
            ("fetch_limit = \"5%\"", "bytes a second"),
            ("fetch_limit = \"0\"", "bytes a second"),
            ("state = \"var\"", "absolute"),
            ("[variables]\nPort = \"1\"", "`Port`"),
            ("[variables]\nport = \"1\\u0007\"", "control character"),
            ("[limits]\nopen_file = 9", "did you mean `open_files`?"),
            ("[limits]\nprocesses = 0", "8 or more"),
            (
                "[application.shop]\ncapabilities = [\"cap_net_bind_servce\"]",
                "did you mean `cap_net_bind_service`?",
            ),
            ("[application.shop]\nroots = [\"/srv/../etc\"]", "absolute"),
            (
                "[application.shop]\nroot = [\"/srv\"]",
                "did you mean `roots`?",
            ),
        ] {
            let said = load(&format!("{LEAST}{line}\n")).unwrap_err();
            assert!(said.contains(word), "{line}: {said}");
        }
        let plain = LEAST.replace("https", "http");
        assert!(load(&plain).unwrap_err().contains("controller"));
    }
}
