//! The `agent.toml` that `enroll` writes: what was chosen, and the rest as comments.

use std::net::SocketAddr;
use std::path::Path;

/// What was chosen.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    pub(super) controller: &'a str,
    pub(super) name: &'a str,
    pub(super) environment: &'a str,
    pub(super) state: &'a Path,
    pub(super) rootless: bool,
    pub(super) root_prefix: Option<&'a Path>,
    pub(super) metrics: Option<SocketAddr>,
}

/// The text of the file.
pub(super) fn template(chosen: &Chosen<'_>) -> String {
    let line = |key: &str, value: Option<String>, example: &str| match value {
        Some(value) => format!("{key} = {}", toml::Value::String(value)),
        None => format!("# {key} = \"{example}\""),
    };
    let path = |path: &Path| path.display().to_string();
    let controller = line("controller", Some(chosen.controller.to_owned()), "");
    let name = line("name", Some(chosen.name.to_owned()), "");
    let environment = line("environment", Some(chosen.environment.to_owned()), "");
    let state = line("state", Some(path(chosen.state)), "");
    let metrics = line(
        "metrics",
        chosen.metrics.map(|it| it.to_string()),
        "127.0.0.1:7402",
    );
    let prefix = line(
        "root_prefix",
        chosen.root_prefix.map(path),
        "/home/me/fleet/web-1",
    );
    let rootless = match chosen.rootless {
        true => "rootless = true",
        false => "# rootless = true",
    };
    format!(
        "\
# The Tamer agent of this host. What is commented out shows the default or an example.
# Unknown keys are refused.

# Fixed when the host joined: desired state for another environment is refused.
{controller}
{name}
{environment}

# Keys, journal, acceptance record, downloads.
{state}

# Prometheus metrics on /metrics, health on /healthz: plain HTTP, on loopback only.
# Without this line they are not served.
{metrics}

# No root: every install root is allowed, no user is switched to, and there are no units.
{rootless}
# Rootless only: put before every install root, so that several agents can live on one machine.
{prefix}

# What must stay free on a file system after a release was staged there.
# disk_reserve = \"5%\"

# How many bytes a second of releases are fetched at most, by all transfers together. Without this line:
# as fast as they come.
# fetch_limit = \"4MiB\"

# How many releases of a component stay on disk.
# keep = 5

# How often the running releases are compared with their manifests: what has changed since the last time
# is read.
# drift_interval = \"1h\"

# How often the running releases are read whole, in the background, and how many bytes a second at most.
# drift_full_interval = \"1d\"
# drift_limit = \"16MiB\"

# Values that checks may name as {{port}}, and that hooks see as TAMER_VAR_PORT.
[variables]
# port = \"8000\"

# The most that one hook may use, whatever tamer.toml asks for. Without a word: what it asks for.
[limits]
# open_files = 65536
# processes = 4096
# file_size = \"16GiB\"
# address_space = \"8GiB\"

# What an application may touch here. Without a word, the application `shop` may use this:
# [application.shop]
# roots = [\"/srv/shop\"]
# users = [\"shop\"]
# units = [\"shop-*.service\"]
# new_privileges = false    # true: setuid programs such as sudo give its hooks more rights
# capabilities = []         # what its files may have: [\"cap_net_bind_service\"]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_agent::config::Config;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        let mut chosen = Chosen {
            controller: "https://c.example:7400",
            name: "web-1",
            environment: "staging",
            state: Path::new("/var/lib/a \"b\""),
            rootless: false,
            root_prefix: None,
            metrics: None,
        };
        std::fs::write(&file, template(&chosen)).unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.state, chosen.state);
        assert!(!config.rootless && config.metrics.is_none());
        chosen.rootless = true;
        chosen.root_prefix = Some(Path::new("/tmp/x"));
        chosen.metrics = Some("127.0.0.1:7402".parse().unwrap());
        std::fs::write(&file, template(&chosen)).unwrap();
        let config = Config::load(&file).unwrap();
        assert!(config.rootless);
        assert_eq!(config.root_prefix.as_deref(), chosen.root_prefix);
        assert_eq!(config.metrics, chosen.metrics);
        assert_eq!(config.name.as_str(), "web-1");
    }

    /// What the comments call the default is the default.
    #[test]
    fn uncommented_defaults_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        let least = "controller = \"https://c:1\"\nname = \"a\"\nenvironment = \"e\"\n";
        std::fs::write(&file, least).unwrap();
        let plain = Config::load(&file).unwrap();
        let said = "disk_reserve = \"5%\"\nkeep = 5\ndrift_interval = \"1h\"\n\
                    drift_full_interval = \"1d\"\ndrift_limit = \"16MiB\"\n";
        std::fs::write(&file, format!("{least}{said}")).unwrap();
        assert_eq!(Config::load(&file).unwrap(), plain);
    }
}
