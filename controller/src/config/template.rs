//! The file that `init` writes: every key, explained, commented out where the default holds.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What was chosen on `init`'s command line; the rest stays at its default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chosen {
    /// The address to listen on.
    pub listen: Option<SocketAddr>,
    /// What hosts and operators connect to.
    pub public: Option<String>,
    /// The names in the certificate.
    pub names: Vec<String>,
    /// The data directory.
    pub data: Option<PathBuf>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
}

impl Chosen {
    /// Whether nothing was chosen.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The text of a `controller.toml` with these choices.
pub fn template(chosen: &Chosen) -> String {
    let names = (!chosen.names.is_empty()).then(|| chosen.names.clone());
    let listen = line(
        "listen",
        chosen.listen.map(|a| a.to_string()),
        "0.0.0.0:7400",
    );
    let public = line("public", chosen.public.clone(), "controller.example:7400");
    let names = line(
        "names",
        names,
        vec!["controller.example", "localhost", "127.0.0.1"],
    );
    let data = chosen.data.as_ref();
    let data = line(
        "data",
        data.map(|d| d.display().to_string()),
        "/var/lib/tamer/controller",
    );
    let metrics = line(
        "metrics",
        chosen.metrics.map(|a| a.to_string()),
        "127.0.0.1:7401",
    );
    format!(
        "\
# The Tamer controller. What is commented out shows the default or an example.
# Unknown keys are refused; keys that begin with x- are yours.

# The one port: agents, operators and artifacts, all over mutual TLS.
{listen}

# What hosts and operators connect to; it stands in every join token.
# The default is the first of `names` and the port of `listen`.
{public}

# DNS names and IP addresses in the controller's certificate.
# The default is this machine's name, localhost and 127.0.0.1.
{names}

# Everything that the controller keeps: CA, store, signed metadata, revocations, audit log.
# The backups below are all that is needed to have it again on another machine.
{data}

# Prometheus metrics on /metrics, health on /healthz: plain HTTP, on loopback only.
# Without this line they are not served.
{metrics}

# The largest artifact that is taken, in bytes (4 GiB).
# max_artifact = 4294967296

# Where releases are stored. The default is artifacts/ in the data directory; other places are
# s3://bucket/prefix, and https://server/path where PUT is allowed.
[artifacts]
# url = \"file:///var/lib/tamer/controller/artifacts\"
# More keys. Of s3:// stores: `endpoint`, where it is not Amazon's, `region`, and `credentials`, a file with
# access_key_id and secret_access_key; what is not said comes from AWS_… in the environment, or from the
# machine's role. `ca`: a file of certificate authorities that are trusted there beside the system's.
# `direct`: agents fetch releases straight from the store, with URLs that are signed for a quarter of an
# hour (\"presigned\"), or below this address of a CDN. They verify every byte anyway.

# Automatic backups of the store: one every so often, and one before every upgrade; and beside them
# mirror/, a copy of everything else that is kept up to date all the time, the CA's key included: guard
# it like this machine. Put them on another disk or a mounted share: then revocations and publications
# are there before they are acknowledged, and `tamer-controller restore --from` brings all of it back.
[backups]
# directory = \"/var/lib/tamer/controller/backups\"
# Whether releases are copied, too: not needed where the artifacts lie on a disk that is safe itself.
# artifacts = true
# keep = 14
# every = \"24h\"
"
    )
}

/// `key = value`, quoted as TOML wants it; commented out with the example where nothing was chosen.
fn line<T: Into<toml::Value>>(
    key: &str,
    chosen: Option<T>,
    example: impl Into<toml::Value>,
) -> String {
    match chosen {
        Some(value) => format!("{key} = {}", value.into()),
        None => format!("# {key} = {}", example.into()),
    }
}
