//! The file as it is written, and how it becomes a [`Config`].

use super::{Backups, Config};
use crate::artifacts::place::PlaceFile;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tamer_core::moment::Span;
use tamer_core::text::BadText;
use tamer_kit::address::{Address, DEFAULT_PORT};

/// The data directory where none is named.
pub(super) const DEFAULT_DATA: &str = "/var/lib/tamer/controller";
/// 4 GiB: a release of that size is possible, one of more is rather a mistake.
pub(super) const DEFAULT_MAX_ARTIFACT: u64 = 4 << 30;
pub(super) const DEFAULT_KEEP: usize = 14;
pub(super) const DEFAULT_EVERY: Span = Span::secs(24 * 3600);
/// Backups in a closer sequence would be the controller's main work.
const SHORTEST_EVERY: Duration = Duration::from_secs(60);
/// More names than this in one certificate are a mistake, and make every handshake longer.
const MAX_NAMES: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigFile {
    listen: Option<SocketAddr>,
    public: Option<String>,
    names: Option<Vec<String>>,
    data: Option<PathBuf>,
    metrics: Option<SocketAddr>,
    artifacts: PlaceFile,
    max_artifact: Option<u64>,
    backups: BackupsFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BackupsFile {
    directory: Option<PathBuf>,
    artifacts: Option<bool>,
    keep: Option<usize>,
    every: Option<Span>,
}

impl ConfigFile {
    /// Fills in the defaults and refuses what makes no sense. `file` is named in refusals, relative
    /// paths count from `base`.
    pub(super) fn resolve(
        self,
        file: &str,
        base: &Path,
        hostname: &str,
    ) -> Result<Config, BadText> {
        let bad = |reason: String| BadText::new(file, reason);
        let listen = self
            .listen
            .unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into());
        let mut names = self.names.unwrap_or_else(|| {
            let mut names = vec![hostname.to_owned()];
            names.extend(["localhost", "127.0.0.1"].map(str::to_owned));
            names.dedup();
            names
        });
        if names.is_empty() {
            return Err(bad(
                "names: the certificate needs at least one name".to_owned()
            ));
        }
        if names.len() > MAX_NAMES {
            return Err(bad(format!("names: at most {MAX_NAMES} are allowed")));
        }
        if let Some(wrong) = names.iter().find(|name| !is_name(name)) {
            return Err(bad(format!(
                "names: `{wrong}` is neither a DNS name nor an IP address"
            )));
        }
        let public = public(self.public, &names[0], listen.port()).map_err(&bad)?;
        if !names.iter().any(|n| n.eq_ignore_ascii_case(public.host())) {
            names.push(public.host().to_owned());
        }
        if let Some(metrics) = self.metrics.filter(|metrics| !metrics.ip().is_loopback()) {
            return Err(bad(format!(
                "metrics: {metrics} is not on loopback: they are plain HTTP without any password; \
                 write 127.0.0.1:{}",
                metrics.port()
            )));
        }
        let data = self.data.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
        let data = base.join(data);
        let default = data.join("artifacts");
        let (artifacts, direct) = self.artifacts.resolve(base, default).map_err(&bad)?;
        let max_artifact = self.max_artifact.unwrap_or(DEFAULT_MAX_ARTIFACT);
        if max_artifact == 0 {
            return Err(bad(
                "max_artifact: with 0 bytes nothing could be published".to_owned()
            ));
        }
        Ok(Config {
            file: None,
            listen,
            public,
            names,
            metrics: self.metrics,
            artifacts,
            direct,
            max_artifact,
            backups: self.backups.resolve(base, &data).map_err(&bad)?,
            data,
        })
    }
}

impl BackupsFile {
    fn resolve(self, base: &Path, data: &Path) -> Result<Backups, String> {
        let keep = self.keep.unwrap_or(DEFAULT_KEEP);
        if keep == 0 {
            return Err("backups.keep: at least 1 must be kept".to_owned());
        }
        let every = self.every.unwrap_or(DEFAULT_EVERY).0;
        if every < SHORTEST_EVERY {
            return Err("backups.every: at least 1m, so that there is time for work".to_owned());
        }
        let directory = self.directory.map(|directory| base.join(directory));
        Ok(Backups {
            directory: directory.unwrap_or_else(|| data.join("backups")),
            artifacts: self.artifacts.unwrap_or(true),
            keep,
            every,
        })
    }
}

/// Whether this can stand in a certificate.
pub(super) fn is_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

fn public(given: Option<String>, first: &str, port: u16) -> Result<Address, String> {
    let given = match given {
        Some(given) => given,
        None if port == 0 => {
            return Err(
                "public: where the kernel chooses the port (listen port 0), say here what \
                        hosts connect to"
                    .to_owned(),
            );
        }
        None if first.contains(':') => format!("[{first}]:{port}"),
        None => format!("{first}:{port}"),
    };
    let address: Address = given.parse().map_err(|e| format!("public: {e}"))?;
    if is_name(address.host()) {
        Ok(address)
    } else {
        Err(format!(
            "public: `{}` is neither a DNS name nor an IP address",
            address.host()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Chosen, template};
    use tamer_core::text;

    fn read(content: &str) -> Result<Config, BadText> {
        text::parse::<ConfigFile>("controller.toml", content)?.resolve(
            "controller.toml",
            Path::new("/etc/tamer"),
            "ctl",
        )
    }

    #[test]
    fn an_empty_file_is_a_good_one() {
        let config = read("").unwrap();
        assert_eq!(config.listen.to_string(), "0.0.0.0:7400");
        assert_eq!(config.public.to_string(), "https://ctl:7400");
        assert_eq!(config.names, ["ctl", "localhost", "127.0.0.1"]);
        assert_eq!(config.metrics, None);
        let paths = config.paths();
        assert_eq!(
            paths.store,
            Path::new("/var/lib/tamer/controller/store"),
            "{paths:?}"
        );
        assert_eq!(
            paths.artifacts.unwrap(),
            Path::new("/var/lib/tamer/controller/artifacts")
        );
        assert_eq!(
            paths.backups,
            Path::new("/var/lib/tamer/controller/backups")
        );
        assert_eq!(config.backups.every, Duration::from_secs(86400));
    }

    #[test]
    fn what_is_written_is_taken() {
        let config = read(
            r#"
            listen = "[::1]:99"
            public = "deploy.example"
            names = ["::1"]
            data = "here"
            metrics = "127.0.0.1:9400"
            max_artifact = 1000
            x-note = "ours"
            [artifacts]
            url = "file:///srv/artifacts"
            [backups]
            directory = "/mnt/backups"
            artifacts = false
            keep = 3
            every = "6h"
            "#,
        )
        .unwrap();
        assert_eq!(config.public.to_string(), "https://deploy.example:7400");
        assert_eq!(
            config.names,
            ["::1", "deploy.example"],
            "public can be verified"
        );
        assert_eq!(config.data, Path::new("/etc/tamer/here"));
        assert_eq!(
            config.paths().artifacts.unwrap(),
            Path::new("/srv/artifacts")
        );
        assert_eq!(config.max_artifact, 1000);
        assert_eq!(config.backups.directory, Path::new("/mnt/backups"));
        assert_eq!(config.paths().mirror, Path::new("/mnt/backups/mirror"));
        assert!(!config.backups.artifacts);
        assert_eq!(config.backups.every, Duration::from_secs(6 * 3600));
        let v6 = read("names = [\"::1\"]\nlisten = \"[::]:70\"").unwrap();
        assert_eq!(v6.public.to_string(), "https://[::1]:70");
        assert_eq!(v6.names, ["::1"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (content, said) in [
            ("listn = \"0.0.0.0:1\"", "did you mean `listen`?"),
            ("[backups]\nkep = 3", "did you mean `keep`?"),
            ("listen = \"localhost:1\"", "controller.toml:1:10"),
            ("listen = \"127.0.0.1:0\"", "public"),
            ("public = \"http://x\"", "only https"),
            ("public = \"-x\"", "neither a DNS name"),
            ("names = []", "at least one"),
            ("names = [\"a b\"]", "`a b`"),
            ("metrics = \"0.0.0.0:9400\"", "127.0.0.1:9400"),
            ("[artifacts]\nurl = \"file://relative\"", "absolute"),
            ("max_artifact = 0", "nothing could be published"),
            ("[backups]\nkeep = 0", "at least 1"),
            ("[backups]\nevery = \"10s\"", "at least 1m"),
            ("[backups]\nevery = \"often\"", "often"),
        ] {
            let error = read(content).unwrap_err().to_string();
            assert!(error.contains(said), "{content}: {error}");
        }
    }

    #[test]
    fn the_template_says_what_the_defaults_are() {
        let plain = template(&Chosen::default());
        assert_eq!(read(&plain).unwrap(), read("").unwrap());
        // With every key uncommented it still means the defaults: what it shows is true.
        let shown: String = plain
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let mut default = read("").unwrap();
        default.metrics = Some("127.0.0.1:7401".parse().unwrap());
        let shown = shown.replace("controller.example", "ctl");
        assert_eq!(read(&shown).unwrap(), default, "{shown}");
        for key in [
            "listen",
            "public",
            "names",
            "data",
            "metrics",
            "url",
            "max_artifact",
            "directory",
            "keep",
            "every",
        ] {
            assert!(
                shown
                    .lines()
                    .any(|line| line.starts_with(&format!("{key} = "))),
                "{key}"
            );
        }
    }

    #[test]
    fn what_was_chosen_stands_in_the_template() {
        let chosen = Chosen {
            listen: Some("127.0.0.1:7777".parse().unwrap()),
            public: Some("ctl.example:7777".to_owned()),
            names: vec!["a\"b.example".to_owned()],
            data: Some(PathBuf::from("/srv/t\\amer")),
            metrics: Some("127.0.0.1:7778".parse().unwrap()),
        };
        let error = read(&template(&chosen)).unwrap_err().to_string();
        assert!(
            error.contains("`a\"b.example`"),
            "quoted, not broken: {error}"
        );
        let names = vec!["10.0.0.1".to_owned()];
        let config = read(&template(&Chosen { names, ..chosen })).unwrap();
        assert_eq!(config.listen.port(), 7777);
        assert_eq!(config.names, ["10.0.0.1", "ctl.example"]);
        assert_eq!(config.data, Path::new("/srv/t\\amer"));
        assert_eq!(config.metrics.unwrap().port(), 7778);
    }
}
