//! `controller.toml`: where the controller listens, keeps its things, and how it backs them up.
//!
//! Everything has a default, so an empty file is a good one. [`template`] is the file that
//! `tamer-controller init` writes, with every key explained.

mod file;
mod template;

pub use template::{Chosen, template};

use crate::artifacts::place::{Direct, Place};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tamer_kit::address::Address;

/// Where the configuration is looked for when no path is given.
pub const DEFAULT_FILE: &str = "/etc/tamer/controller.toml";

/// The controller's settings, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The one port: gRPC and artifacts, over mutual TLS. Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// What hosts and operators are told to connect to; it stands in every join token.
    pub public: Address,
    /// DNS names and IP addresses for the controller's certificate; `public`'s host is among them.
    pub names: Vec<String>,
    /// The file that these come from, if there is one.
    pub file: Option<PathBuf>,
    /// The directory of everything that the controller keeps.
    pub data: PathBuf,
    /// Where metrics are served, as plain HTTP on loopback; nowhere if `None`.
    pub metrics: Option<SocketAddr>,
    /// Where releases are stored.
    pub artifacts: Place,
    /// Where agents are sent for them.
    pub direct: Direct,
    /// The largest artifact that is taken, in bytes.
    pub max_artifact: u64,
    /// The automatic backups.
    pub backups: Backups,
}

/// When backups are made and which are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    /// Where they lie, and the mirror of what the store does not hold.
    pub directory: PathBuf,
    /// Whether the mirror has the releases, too.
    pub artifacts: bool,
    /// How many are kept, at least 1.
    pub keep: usize,
    /// How often one is made, at least once a minute's distance apart.
    pub every: Duration,
}

/// Every place below [`Config::data`], and those that may lie elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The data directory itself, mode 0700.
    pub data: PathBuf,
    /// The certificate authority.
    pub ca: PathBuf,
    /// The store.
    pub store: PathBuf,
    /// What must outlive the store: epoch, the `held` marker, the version that ran last.
    pub state: PathBuf,
    /// Signed metadata, as published: `team/`, `app/`, `env/`.
    pub trust: PathBuf,
    /// The online keys' directory.
    pub online: PathBuf,
    /// The online key that signs snapshots.
    pub snapshot_key: PathBuf,
    /// The online key that signs timestamps.
    pub timestamp_key: PathBuf,
    /// The audit log.
    pub audit: PathBuf,
    /// The directory of the artifact store, if it is one of this machine.
    pub artifacts: Option<PathBuf>,
    /// Where releases wait for a store on another machine.
    pub incoming: PathBuf,
    /// The keys that were shut out.
    pub revocations: PathBuf,
    /// What was done to databases.
    pub migrations: PathBuf,
    /// The backups.
    pub backups: PathBuf,
    /// The copy of what the store does not hold.
    pub mirror: PathBuf,
}

/// Where an online key lies that a rotation took out: `snapshot.old.pem`.
pub fn old_key(key: &Path) -> PathBuf {
    key.with_extension("old.pem")
}

impl Config {
    /// Reads and validates `path`. Relative paths in it count from its directory.
    ///
    /// # Errors
    /// The file is missing, has an unknown key, or a value that makes no sense; the message names
    /// the file, the key and what would do.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        Self::of(tamer_kit::config::load(path)?, path)
    }

    /// Validates what is about to be written to `path`, as [`Self::load`] would.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        Self::of(tamer_core::text::parse(&name, text)?, path)
    }

    fn of(raw: file::ConfigFile, path: &Path) -> anyhow::Result<Self> {
        let whole = std::path::absolute(path)?;
        let base = whole.parent().unwrap_or(Path::new("/"));
        let mut config = raw.resolve(&path.display().to_string(), base, &hostname())?;
        config.file = Some(whole.clone());
        Ok(config)
    }

    /// The defaults, as an empty file gives them.
    ///
    /// # Errors
    /// Never in practice: the defaults are valid.
    pub fn defaults() -> anyhow::Result<Self> {
        let raw = file::ConfigFile::default();
        Ok(raw.resolve("the defaults", Path::new("/"), &hostname())?)
    }

    /// Every place that the controller uses.
    pub fn paths(&self) -> Paths {
        let data = &self.data;
        let online = data.join("online");
        Paths {
            data: data.clone(),
            ca: data.join("ca"),
            store: data.join("store"),
            state: data.join("state"),
            trust: data.join("trust"),
            snapshot_key: online.join("snapshot.pem"),
            timestamp_key: online.join("timestamp.pem"),
            online,
            audit: data.join("audit.log"),
            revocations: data.join("revocations.log"),
            migrations: data.join("migrations.log"),
            artifacts: match &self.artifacts {
                Place::Directory(directory) => Some(directory.clone()),
                Place::S3(_) | Place::Http(_) => None,
            },
            incoming: data.join("incoming"),
            backups: self.backups.directory.clone(),
            mirror: self.backups.directory.join("mirror"),
        }
    }
}

/// This machine's name; `localhost` where it has none that can be used.
fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| file::is_name(name))
        .unwrap_or_else(|| "localhost".to_owned())
}
