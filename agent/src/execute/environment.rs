//! What a release is told of the place where it runs: the environment of its hooks and `command` checks.

use super::End;
use crate::config::Config;
use crate::process::User;
use std::collections::BTreeMap;
use std::path::Path;
use tamer_core::desired::Slot;
use tamer_core::release::ReleaseRef;
use tamer_core::version::Version;

/// What the variables say it of.
pub(super) struct About<'a> {
    /// The component.
    pub(super) slot: &'a Slot,
    /// Its root.
    pub(super) root: &'a Path,
    /// The release's version.
    pub(super) version: &'a Version,
    /// Where the release lies.
    pub(super) dir: &'a Path,
    /// The other end of the switch.
    pub(super) previous: Option<&'a ReleaseRef>,
    /// Who runs it; `None` for the agent's own user.
    pub(super) user: Option<&'a User>,
}

impl<'a> About<'a> {
    pub(super) fn new(slot: &'a Slot, end: &'a End, previous: Option<&'a ReleaseRef>) -> Self {
        Self {
            slot,
            root: &end.place.root,
            version: &end.installed.release.version,
            dir: &end.dir,
            previous,
            user: end.user.as_ref(),
        }
    }
}

/// What a hook and a `command` check find in their environment.
pub(super) fn environment(config: &Config, about: &About<'_>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = [
        ("APPLICATION", about.slot.application.to_string()),
        ("COMPONENT", about.slot.component.to_string()),
        ("VERSION", about.version.to_string()),
        ("RELEASE", about.dir.display().to_string()),
        ("ROOT", about.root.display().to_string()),
        ("SHARED", about.root.join("shared").display().to_string()),
        ("HOST", config.name.to_string()),
        ("ENVIRONMENT", config.environment.to_string()),
        // Empty where nothing ran before.
        (
            "PREVIOUS",
            about
                .previous
                .map_or(String::new(), |it| it.version.to_string()),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (format!("TAMER_{name}"), value))
    .collect();
    for (name, value) in &config.variables {
        env.insert(format!("TAMER_VAR_{}", name.to_uppercase()), value.clone());
    }
    if let Some(user) = about.user {
        env.insert("HOME".to_owned(), user.home.display().to_string());
        env.insert("USER".to_owned(), user.name.clone());
        env.insert("LOGNAME".to_owned(), user.name.clone());
    }
    env
}
