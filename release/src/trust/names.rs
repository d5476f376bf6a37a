//! Names: of repositories, of their metadata files, of targets, of blobs. All in this one place,
//! all parsed strictly, because every one of them comes from outside and becomes part of a path.

use std::fmt;
use std::str::FromStr;
use tamer_core::digest::Digest;
use tamer_core::id::{ApplicationName, BadName, ComponentName, EnvironmentName};
use tamer_core::version::Version;

/// One small repository under the team's root: an application's or an environment's.
///
/// As text, in addresses and in directories: `app/shop`, `env/production`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub enum RepositoryName {
    /// The releases and versions of one application.
    Application(ApplicationName),
    /// The file of one environment.
    Environment(EnvironmentName),
}

/// Why a string does not name a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRepositoryName {
    /// Neither `app/NAME` nor `env/NAME`.
    #[error("a repository is named app/APPLICATION or env/ENVIRONMENT")]
    Form,
    /// The part after the `/` is not a name.
    #[error(transparent)]
    Name(#[from] BadName),
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application(name) => write!(f, "app/{name}"),
            Self::Environment(name) => write!(f, "env/{name}"),
        }
    }
}

impl FromStr for RepositoryName {
    type Err = BadRepositoryName;
    fn from_str(given: &str) -> Result<Self, BadRepositoryName> {
        match given.split_once('/') {
            Some(("app", name)) => Ok(Self::Application(name.parse()?)),
            Some(("env", name)) => Ok(Self::Environment(name.parse()?)),
            _ => Err(BadRepositoryName::Form),
        }
    }
}

impl TryFrom<String> for RepositoryName {
    type Error = BadRepositoryName;
    fn try_from(given: String) -> Result<Self, BadRepositoryName> {
        given.parse()
    }
}

impl From<RepositoryName> for String {
    fn from(name: RepositoryName) -> String {
        name.to_string()
    }
}

/// What a target is for: its name binds its content to this purpose, so that nothing signed for one
/// can be served for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The manifest of a release.
    Release {
        /// The component it is a release of.
        component: ComponentName,
        /// Its version.
        version: Version,
    },
    /// The set of releases that a version of the application consists of.
    Version(Version),
    /// The environment file.
    Environment,
}

impl RepositoryName {
    /// What a target of this repository is for; `None` for a name that does not belong here.
    pub fn purpose(&self, target: &str) -> Option<Purpose> {
        match self {
            Self::Environment(name) => {
                (target == environment_target(name)).then_some(Purpose::Environment)
            }
            Self::Application(application) => {
                let inside = target.strip_prefix(application.as_str())?;
                let path = inside.strip_prefix('/')?.strip_suffix(".json")?;
                let purpose = match path.split('/').collect::<Vec<_>>()[..] {
                    ["releases", component, version] => Purpose::Release {
                        component: component.parse().ok()?,
                        version: version.parse().ok()?,
                    },
                    ["versions", version] => Purpose::Version(version.parse().ok()?),
                    _ => return None,
                };
                Some(purpose)
            }
        }
    }
}

/// The target that holds a release's manifest: `shop/releases/web/1.4.2.json`.
pub fn release_target(
    application: &ApplicationName,
    component: &ComponentName,
    version: &Version,
) -> String {
    format!("{application}/releases/{component}/{version}.json")
}

/// The target that holds a version of an application: `shop/versions/1.4.2.json`.
pub fn version_target(application: &ApplicationName, version: &Version) -> String {
    format!("{application}/versions/{version}.json")
}

/// The target that holds an environment's file: `environments/production.toml`.
pub fn environment_target(environment: &EnvironmentName) -> String {
    format!("environments/{environment}.toml")
}

/// Where a content store keeps these bytes, relative to its base: `blobs/<sha256>`.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{digest}")
}

/// Where a content store keeps a metadata file, relative to its base: `trust/<repository>/<file>`,
/// and the team's root for `None`.
pub fn metadata_path(repository: Option<&RepositoryName>, file: &str) -> String {
    match repository {
        Some(repository) => format!("trust/{repository}/{file}"),
        None => format!("trust/team/{file}"),
    }
}

/// A metadata file of a repository with consistent snapshots (TUF 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetadataFile {
    /// `N.root.json`
    Root(u64),
    /// `N.targets.json`
    Targets(u64),
    /// `N.snapshot.json`
    Snapshot(u64),
    /// `timestamp.json`, the only one that is ever replaced.
    Timestamp,
}

/// Why a string does not name a metadata file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a metadata file: they are N.root.json, N.targets.json, N.snapshot.json, timestamp.json"
)]
pub struct BadMetadataFile;

impl fmt::Display for MetadataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(version) => write!(f, "{version}.root.json"),
            Self::Targets(version) => write!(f, "{version}.targets.json"),
            Self::Snapshot(version) => write!(f, "{version}.snapshot.json"),
            Self::Timestamp => f.write_str("timestamp.json"),
        }
    }
}

impl FromStr for MetadataFile {
    type Err = BadMetadataFile;
    fn from_str(given: &str) -> Result<Self, BadMetadataFile> {
        let (first, rest) = given.split_once('.').ok_or(BadMetadataFile)?;
        let file = match (first, rest) {
            ("timestamp", "json") => Self::Timestamp,
            (version, rest) => {
                let version = version.parse().map_err(|_| BadMetadataFile)?;
                match rest {
                    "root.json" => Self::Root(version),
                    "targets.json" => Self::Targets(version),
                    "snapshot.json" => Self::Snapshot(version),
                    _ => return Err(BadMetadataFile),
                }
            }
        };
        // One spelling a file: `+1` and `01` parse as numbers, and version 0 does not exist.
        let exact = file.to_string() == given && !given.starts_with("0.");
        exact.then_some(file).ok_or(BadMetadataFile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_by_what_they_hold() {
        for good in ["app/shop", "env/production"] {
            assert_eq!(good.parse::<RepositoryName>().unwrap().to_string(), good);
        }
        for bad in [
            "shop",
            "app/",
            "app/../x",
            "app/a/b",
            "env/Prod",
            "team/x",
            "/app/shop",
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_files_have_one_spelling() {
        for good in [
            "1.root.json",
            "20.targets.json",
            "3.snapshot.json",
            "timestamp.json",
        ] {
            assert_eq!(good.parse::<MetadataFile>().unwrap().to_string(), good);
        }
        for bad in [
            "root.json",
            "0.root.json",
            "01.root.json",
            "+1.root.json",
            "-1.root.json",
            "1.timestamp.json",
            "../1.root.json",
            "1.root.json/",
            "1.root.json\0",
            "99999999999999999999.root.json",
            "",
        ] {
            assert!(bad.parse::<MetadataFile>().is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_belong_to_one_repository() {
        let shop: RepositoryName = "app/shop".parse().unwrap();
        let production: RepositoryName = "env/production".parse().unwrap();
        let component = "web".parse().unwrap();
        let version: Version = "1.4.2".parse().unwrap();
        assert_eq!(
            shop.purpose(&release_target(
                &"shop".parse().unwrap(),
                &component,
                &version
            )),
            Some(Purpose::Release {
                component,
                version: version.clone()
            })
        );
        assert_eq!(
            shop.purpose(&version_target(&"shop".parse().unwrap(), &version)),
            Some(Purpose::Version(version))
        );
        assert_eq!(
            production.purpose("environments/production.toml"),
            Some(Purpose::Environment)
        );
        for stranger in [
            "environments/production.toml",
            "bank/versions/1.0.0.json",
            "shopx/versions/1.0.0.json",
            "shop/versions/../1.0.0.json",
            "shop/releases/web/x.json",
            "shop/versions/1.0.0",
        ] {
            assert_eq!(shop.purpose(stranger), None, "{stranger}");
        }
        assert_eq!(production.purpose("environments/staging.toml"), None);
    }
}
