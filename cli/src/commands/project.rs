//! An application's folder: `tamer.toml`, and the trees that it names.

use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_core::application::Application;
use tamer_core::id::ComponentName;
use tamer_core::text::nearest;
use tamer_core::version::Version;
use tamer_kit::config::MAX_CONFIG;
use tamer_kit::durable;
use tamer_release::pack::{PackSpec, Packed, pack};

/// An application, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Project {
    /// What `tamer.toml` says.
    pub(super) application: Application,
    folder: PathBuf,
    /// The time that unpacked files carry, where it is known already; in seconds since 1970.
    time: Option<u64>,
}

impl Project {
    /// Reads the text of a `tamer.toml`.
    pub(super) fn parse(name: &str, text: &str) -> Result<Application> {
        Application::parse(name, text).map_err(|error| Error::usage(error.to_string()))
    }

    /// The same, with a fixed time for unpacked files.
    pub(super) fn at_time(self, time: u64) -> Self {
        Self {
            time: Some(time),
            ..self
        }
    }

    /// Reads `tamer.toml`.
    pub(super) fn load(file: &Path) -> Result<Self> {
        let name = file.display().to_string();
        let doing = || format!("cannot read {name}");
        let bytes = durable::read_capped(file, MAX_CONFIG)
            .doing(Exit::Usage, doing)?
            .ok_or_else(|| Error::usage(format!("there is no {name}")).next("tamer init"))?;
        let text = String::from_utf8(bytes).doing(Exit::Usage, doing)?;
        let application = Self::parse(&name, &text)?;
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        Ok(Self {
            application,
            folder: folder.unwrap_or(Path::new(".")).to_owned(),
            time: None,
        })
    }

    /// The components asked for, or all, in the order in which they roll out.
    pub(super) fn chosen(&self, asked: &[ComponentName]) -> Result<Vec<ComponentName>> {
        let known = &self.application.components;
        for name in asked {
            if !known.contains_key(name) {
                let all = known.keys().map(ComponentName::as_str);
                let hint = match nearest(name.as_str(), all.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it has {}", all.collect::<Vec<_>>().join(", ")),
                };
                let application = &self.application.application;
                return Err(Error::usage(format!(
                    "{application} has no component `{name}`: {hint}"
                )));
            }
        }
        let order = self.application.order().map_err(Error::usage)?;
        let wanted = |name: &ComponentName| asked.is_empty() || asked.contains(name);
        Ok(order.into_iter().filter(wanted).collect())
    }

    /// Packs one component into the file `archive`. Blocks.
    pub(super) fn pack(
        &self,
        component: &ComponentName,
        version: &Version,
        archive: &Path,
    ) -> Result<Packed> {
        let application = &self.application.application;
        let spec = self.application.spec(component);
        let spec = spec
            .ok_or_else(|| Error::usage(format!("{application} has no component `{component}`")))?;
        let tree = self.folder.join(&spec.files);
        if !tree.is_dir() {
            return Err(Error::usage(format!(
                "component `{component}`: there is no directory {} (`files` in tamer.toml)",
                tree.display()
            ))
            .next("build the application first, or correct `files`"));
        }
        let what = PackSpec {
            application: application.clone(),
            component: component.clone(),
            version: version.clone(),
            spec,
            mtime: self.mtime()?,
        };
        pack(&tree, &what, archive).doing(Exit::Usage, || {
            format!("cannot pack {application}/{component} {version}")
        })
    }

    /// The time that unpacked files carry: `SOURCE_DATE_EPOCH`, or that of the commit, or none.
    fn mtime(&self) -> Result<u64> {
        if let Some(time) = self.time {
            return Ok(time);
        }
        match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(given) if !given.is_empty() => given.trim().parse().doing(Exit::Usage, || {
                format!("SOURCE_DATE_EPOCH is `{given}`, not a number of seconds")
            }),
            _ => Ok(commit_time(&self.folder).unwrap_or(0)),
        }
    }
}

/// When the commit that is checked out was made; `None` without git, or outside a repository.
fn commit_time(folder: &Path) -> Option<u64> {
    let mut git = Command::new("git");
    for secret in crate::keys::secret_variables() {
        git.env_remove(secret);
    }
    let output = git
        .arg("-C")
        .arg(folder)
        .args(["log", "-1", "--format=%ct"])
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "application = \"shop\"\n[component.web]\nfiles = \"web\"\nroot = \"/srv/shop/web\"\n[component.worker]\nfiles = \"worker\"\nroot = \"/srv/shop/worker\"\n";

    #[test]
    fn components_are_chosen_and_misspelt_ones_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tamer.toml");
        let said = Project::load(&file).unwrap_err();
        assert_eq!(said.next, ["tamer init"]);
        std::fs::write(&file, TOML).unwrap();
        let project = Project::load(&file).unwrap();
        assert_eq!(project.chosen(&[]).unwrap().len(), 2);
        let worker: ComponentName = "worker".parse().unwrap();
        let one = std::slice::from_ref(&worker);
        assert_eq!(project.chosen(one).unwrap(), one);
        let said = project.chosen(&["wroker".parse().unwrap()]).unwrap_err();
        assert!(said.message.contains("did you mean `worker`?"), "{said}");
        let said = project
            .pack(&worker, &"1.0.0".parse().unwrap(), &dir.path().join("a"))
            .unwrap_err();
        assert!(said.message.contains("there is no directory"), "{said}");
    }
}
