//! Applications and their releases.

use clap::Args;
use std::path::PathBuf;
use tamer_core::id::{ApplicationName, ComponentName};
use tamer_core::version::Version;

/// `tamer init`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tamer init\n  tamer init services/shop")]
pub struct Init {
    /// The application's folder.
    #[arg(default_value = ".", value_name = "DIR")]
    pub folder: PathBuf,
}

/// `tamer pack`
#[derive(Debug, Args)]
#[command(after_help = "\
The same files give the same bytes, on any machine, at any time.

Examples:
  tamer pack --out dist
  tamer pack 1.0.0 --component web --out dist")]
pub struct Pack {
    /// The version that the manifests name.
    #[arg(default_value = "0.0.0")]
    pub version: Version,
    /// One component; may be given more than once [default: all].
    #[arg(long = "component", short, value_name = "NAME")]
    pub components: Vec<ComponentName>,
    /// The folder for archives and manifests.
    #[arg(long, short, value_name = "DIR")]
    pub out: PathBuf,
    /// The application's description.
    #[arg(long, short, value_name = "FILE", default_value = "tamer.toml")]
    pub file: PathBuf,
}

/// `tamer publish`
#[derive(Debug, Args)]
#[command(after_help = "\
A component whose content has not changed keeps the release it has, and is not rolled out again.

Examples:
  tamer publish 1.4.2
  tamer publish 1.4.3 --component web       the other components stay as in the newest version
  tamer publish 1.4.2 --file services/shop/tamer.toml")]
pub struct Publish {
    /// The version of the application.
    pub version: Version,
    /// Packs only this component; may be given more than once [default: all].
    #[arg(long = "component", short, value_name = "NAME")]
    pub components: Vec<ComponentName>,
    /// The application's description.
    #[arg(long, short, value_name = "FILE", default_value = "tamer.toml")]
    pub file: PathBuf,
}

/// `tamer releases`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tamer releases\n  tamer releases shop")]
pub struct Releases {
    /// One application [default: all].
    pub application: Option<ApplicationName>,
}
