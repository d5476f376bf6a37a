//! What a release is told of the place where it runs: the environment of its hooks and `command` checks, and
//! the same for its unit, as the file `.tamer/environment` in the release.
//!
//! The file is as systemd.exec(5) wants an `EnvironmentFile=`, and a shell reads it to the same values. It is
//! written when shared paths are linked, and again at a start of the agent whose `agent.toml` says otherwise.

use super::{End, Stager, user};
use crate::allowed::{self, failure};
use crate::config::Config;
use crate::host::layout::Installed;
use crate::host::{blocking, shared};
use crate::process::User;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::release::ReleaseRef;
use tamer_core::version::Version;

/// The file's name, beside the manifest.
const FILE: &str = tamer_release::manifest::ENVIRONMENT;

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

/// The file's text: what is true of the release as long as it lies there. Who runs a unit, the unit says.
///
/// # Errors
/// [`FailureKind::NotAllowed`]: a value has a control character, which systemd would drop without a word.
fn text(environment: &BTreeMap<String, String>) -> Result<String, Failure> {
    let mut text = String::from("# The agent writes this file. For the unit: EnvironmentFile=\n");
    let lasting = environment
        .iter()
        .filter(|(name, _)| name.starts_with("TAMER_") && *name != "TAMER_PREVIOUS");
    for (name, value) in lasting {
        if value
            .chars()
            .any(|c| c.is_control() && c != '\t' && c != '\n')
        {
            return Err(failure(
                FailureKind::NotAllowed,
                format!(
                    "{name} has a control character, which no unit would be given: leave it out"
                ),
            ));
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            // What keeps a meaning between double quotes, in a shell and in systemd.
            if matches!(c, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

/// Whether the release has its file.
pub fn is_told(release: &Path) -> bool {
    shared::own_file(release, FILE).is_file()
}

impl Stager {
    /// Writes the file of a release on disk, unless it is there already as it should be.
    ///
    /// # Errors
    /// [`Failure`] of what the release may touch, or of the file system.
    pub async fn tell(
        &self,
        slot: &Slot,
        root: &Path,
        installed: &Installed,
    ) -> Result<(), Failure> {
        let place = allowed::place(&self.config, slot, &installed.spec)?;
        let user = user(&place).await?;
        let dir = crate::host::layout::releases(root).join(&installed.name);
        let group = user.map(|user| user.gid);
        let version = &installed.release.version;
        self.write_environment(slot, root, version, &dir, dir.clone(), group)
            .await
    }

    /// Writes the file of the release in `dir`, for its user's `group`; `into` is where the release lies until then.
    pub(super) async fn write_environment(
        &self,
        slot: &Slot,
        root: &Path,
        version: &Version,
        dir: &Path,
        into: PathBuf,
        group: Option<u32>,
    ) -> Result<(), Failure> {
        let about = About {
            slot,
            root,
            version,
            dir,
            previous: None,
            user: None,
        };
        let text = text(&environment(&self.config, &about))?;
        blocking(move || shared::write_own(&into, FILE, text.as_bytes(), group)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn variables(value: &str) -> BTreeMap<String, String> {
        [
            ("TAMER_VAR_IT", value),
            ("TAMER_PREVIOUS", "1.0.0"),
            ("HOME", "/home/shop"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Reads a file as systemd does (src/basic/env-file.c says the same in more words), without the
    /// forms that are never written here.
    fn as_systemd(text: &str) -> BTreeMap<String, String> {
        let (mut found, mut rest) = (BTreeMap::new(), text);
        while !rest.is_empty() {
            if let Some(comment) = rest.strip_prefix('#') {
                rest = comment.split_once('\n').unwrap().1;
                continue;
            }
            let (name, quoted) = rest.split_once("=\"").unwrap();
            let (mut value, mut chars) = (String::new(), quoted.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().unwrap() {
                        (_, '\n') => {}
                        (_, c) if "\"\\`$".contains(c) => value.push(c),
                        (_, c) => value.extend(['\\', c]),
                    },
                    (_, c) => value.push(c),
                }
            };
            found.insert(name.to_owned(), value);
            rest = quoted[end + 1..].strip_prefix('\n').unwrap();
        }
        found
    }

    #[test]
    fn only_what_lasts_is_written() {
        let text = text(&variables("8000")).unwrap();
        assert_eq!(text.lines().nth(1), Some("TAMER_VAR_IT=\"8000\""));
        assert_eq!(text.lines().count(), 2);
        let said = super::text(&variables("a\rb")).unwrap_err();
        assert!(said.message.starts_with("TAMER_VAR_IT has"), "{said}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn systemd_and_a_shell_read_what_was_meant(value in "([ -~\n\tä€]|[\"'\\\\$`!#;= ]){0,24}") {
            let text = text(&variables(&value)).unwrap();
            prop_assert_eq!(&as_systemd(&text)["TAMER_VAR_IT"], &value);
            let said = Command::new("sh")
                .args(["-c", "eval \"$1\"; printf %s. \"$TAMER_VAR_IT\"", "sh", &text])
                .output()
                .unwrap();
            prop_assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{value}."));
        }
    }
}
