//! `tamer.toml`: what an application consists of, and what healthy means.

use crate::build::BuildSpec;
use crate::capability::Capability;
use crate::check::Checks;
use crate::id::{ApplicationName, ComponentName};
use crate::limits::{Limits, Umask};
use crate::moment::Span;
use crate::schema::range::WorksWith;
use crate::schema::spec::{self, Schemas};
use crate::text::{self, BadText};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An application as its repository describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its name.
    pub application: ApplicationName,
    /// Its components by name; at least one.
    #[serde(rename = "component")]
    pub components: BTreeMap<ComponentName, ComponentSpec>,
    /// Its databases by name.
    #[serde(rename = "schema", default)]
    pub schemas: Schemas,
    /// How it is built from a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildSpec>,
}

/// The longest path in a `tamer.toml`, in bytes: with a release's directory before it, it is far below what Linux takes.
const MAX_PATH: usize = 1024;

/// The longest name of a unit, in bytes (systemd.unit(5)).
const MAX_UNIT: usize = 255;

/// The longest name of a user, in bytes (useradd(8)).
const MAX_USER: usize = 32;

/// A component as `tamer.toml` describes it; carried, signed, in every manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentSpec {
    /// The directory, relative to `tamer.toml`, whose content the release is.
    pub files: String,
    /// Where the component lives on a server: an absolute path.
    pub root: String,
    /// The user its hooks and checks run as; without one, the application's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Paths that survive releases: kept in `shared/`, linked into every release. A trailing `/` marks a directory.
    #[serde(default)]
    pub shared: BTreeSet<String>,
    /// The systemd unit that is restarted at the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether the unit is reloaded at the switch and not restarted, where it runs and can be reloaded.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reload: bool,
    /// Executables inside the release, by the step they belong to.
    #[serde(default)]
    pub hooks: BTreeMap<Hook, String>,
    /// How long one hook may run.
    #[serde(default = "minute")]
    pub hook_timeout: Span,
    /// The permission bits that files made by its hooks do not get, in octal.
    #[serde(default = "umask", skip_serializing_if = "is_usual")]
    pub umask: Umask,
    /// What one hook may use of the host at most.
    #[serde(default, skip_serializing_if = "Limits::is_silent")]
    pub limits: Limits,
    /// Files inside the release that get a part of root's power, and which: whoever starts them has it. The agent
    /// sets it only where `agent.toml` allows it to the application.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, BTreeSet<Capability>>,
    /// Components of the same application that roll out before this one.
    #[serde(default)]
    pub needs: BTreeSet<ComponentName>,
    /// The databases that it uses, and the versions of each that it can live with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub works_with: WorksWith,
    /// The databases whose programs its releases carry. Not written here by people: [`Application::spec`]
    /// puts the application's into the manifest of the component that carries them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: Schemas,
    /// Checks that must hold after the switch.
    #[serde(default)]
    pub checks: Checks,
}

fn minute() -> Span {
    Span::secs(60)
}

fn umask() -> Umask {
    Umask::octal(0o027)
}

fn is_usual(given: &Umask) -> bool {
    *given == umask()
}

fn is_false(given: &bool) -> bool {
    !given
}

/// A step at which a component may run an executable of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Before anything changes; from the new release. Failing it refuses the release.
    PreActivate,
    /// Takes the host out of service; from the old release.
    Drain,
    /// Stops the old release; from the old release.
    Stop,
    /// Starts the new release; from the new release. The only hook that may leave something running, and
    /// only of a component without `service`.
    Start,
    /// Looks at the new release after its checks have held; from the new release.
    Validate,
    /// Takes the host into service again; from the new release. The last one: what ran after the commit
    /// could neither fail the release nor be sure to run.
    Admit,
}

impl Hook {
    /// Its name, as in `tamer.toml` and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreActivate => "pre-activate",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Validate => "validate",
            Self::Admit => "admit",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Application {
    /// Reads and validates a `tamer.toml`.
    ///
    /// # Errors
    /// [`BadText`] with the place and the reason.
    pub fn parse(file: &str, text: &str) -> Result<Self, BadText> {
        let application: Self = text::parse(file, text)?;
        application
            .validate()
            .map_err(|reason| BadText::new(file, reason))?;
        Ok(application)
    }

    fn validate(&self) -> Result<(), String> {
        if self.components.is_empty() {
            return Err("an application needs at least one [component.NAME]".to_owned());
        }
        for (name, spec) in &self.components {
            spec.validate()
                .map_err(|reason| format!("component `{name}`: {reason}"))?;
            for needed in &spec.needs {
                if !self.components.contains_key(needed) {
                    return Err(format!(
                        "component `{name}` needs `{needed}`, which is not a component of {}",
                        self.application
                    ));
                }
            }
            if let Some(schema) = spec.schemas.keys().next() {
                return Err(format!(
                    "component `{name}` has a schema of its own, and databases belong to the application: write [schema.{schema}]"
                ));
            }
        }
        let works_with = |(name, spec): (_, _)| -> (&ComponentName, &WorksWith) {
            let spec: &ComponentSpec = spec;
            (name, &spec.works_with)
        };
        spec::validate(
            &self.schemas,
            &self.components.iter().map(works_with).collect(),
        )?;
        if let Some(build) = &self.build {
            build.validate().map_err(|why| format!("build: {why}"))?;
        }
        self.order().map(drop)
    }

    /// A component as its manifests carry it: with the databases whose programs its releases bring along.
    pub fn spec(&self, name: &ComponentName) -> Option<ComponentSpec> {
        let mut component = self.components.get(name)?.clone();
        for (schema, spec) in &self.schemas {
            let carrier = spec::carrier(spec, self.components.keys());
            if carrier.as_ref() == Ok(name) {
                let mut spec = spec.clone();
                spec.component = carrier.ok();
                component.schemas.insert(schema.clone(), spec);
            }
        }
        Some(component)
    }

    /// The components in the order in which they roll out: each after all that it needs, else by name.
    ///
    /// # Errors
    /// A sentence that names the components which need one another in a circle.
    pub fn order(&self) -> Result<Vec<ComponentName>, String> {
        let needs = self
            .components
            .iter()
            .map(|(name, spec)| (name.clone(), spec.needs.clone()))
            .collect();
        order_by_needs(needs)
    }
}

/// Orders components: each after all that it needs, else by name. A need that is not among them counts as met.
///
/// # Errors
/// A sentence that names the components which need one another in a circle.
pub fn order_by_needs(
    mut waiting: BTreeMap<ComponentName, BTreeSet<ComponentName>>,
) -> Result<Vec<ComponentName>, String> {
    let mut order = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let Some(next) = waiting
            .iter()
            .find(|(_, needs)| needs.iter().all(|need| !waiting.contains_key(need)))
            .map(|(name, _)| name.clone())
        else {
            let names: Vec<_> = waiting.keys().map(ComponentName::as_str).collect();
            return Err(format!(
                "these components need one another in a circle: {}",
                names.join(", ")
            ));
        };
        waiting.remove(&next);
        order.push(next);
    }
    Ok(order)
}

impl ComponentSpec {
    /// Whether what a hook started may go on once the hook has ended well. Only `start` may leave
    /// something, and only where no unit runs the component: there the daemon it started is the component.
    pub fn may_leave(&self, hook: Hook) -> bool {
        hook == Hook::Start && self.service.is_none()
    }

    /// Refuses paths that could leave the place they are meant for.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let paths = self.shared.iter().chain(self.hooks.values());
        let paths = paths.chain(self.capabilities.keys());
        for path in paths.chain([&self.files, &self.root]) {
            if path.len() > MAX_PATH {
                return Err(format!(
                    "`{}…` is longer than {MAX_PATH} bytes, as no path in tamer.toml may be",
                    beginning(path)
                ));
            }
        }
        if !self.root.starts_with('/')
            || self.root.split('/').any(|part| part == ".." || part == ".")
        {
            return Err(format!(
                "`root` must be an absolute path without `..`, not `{}`",
                self.root
            ));
        }
        if self.root.chars().any(char::is_control) {
            return Err(format!("`root` has a control character: {:?}", self.root));
        }
        if self.root.trim_matches('/').is_empty() {
            return Err("`root` must be a directory of its own, not `/`".to_owned());
        }
        if let Some(path) = self.capabilities.iter().find(|it| it.1.is_empty()) {
            return Err(format!(
                "`capabilities` of `{}` are none: name one, or leave it out",
                path.0
            ));
        }
        let inside = self.shared.iter().chain(self.hooks.values());
        for path in inside.chain(self.capabilities.keys()) {
            if !is_inside(path.trim_end_matches('/')) {
                return Err(format!(
                    "`{path}` must be a relative path inside the release"
                ));
            }
        }
        if self.files.starts_with('/') || self.files.split('/').any(|part| part == "..") {
            return Err(format!(
                "`files` must be a directory below tamer.toml, not `{}`",
                self.files
            ));
        }
        self.limits
            .validate()
            .map_err(|reason| format!("`limits`: {reason}"))?;
        if self.reload && self.service.is_none() {
            return Err(
                "`reload` is about the unit in `service`: name one, or leave it out".into(),
            );
        }
        if let Some(unit) = &self.service {
            let plain = unit
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.@:".contains(c));
            if !plain
                || unit.len() > MAX_UNIT
                || unit.starts_with(['-', '.'])
                || !unit.ends_with(".service")
            {
                return Err(format!(
                    "`service` must be the name of a unit like shop-web.service, not `{}`",
                    beginning(unit)
                ));
            }
        }
        if let Some(user) = &self.user {
            let plain = user
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if !plain || user.is_empty() || user.len() > MAX_USER || user.starts_with(['-', '.']) {
                return Err(format!(
                    "`user` must be the name of a user like shop, not `{}`",
                    beginning(user)
                ));
            }
        }
        self.schemas.iter().try_for_each(|(name, spec)| {
            spec.validate()
                .map_err(|why| format!("schema `{name}`: {why}"))
        })
    }
}

/// As much of a text as a message quotes.
fn beginning(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether a path is relative, and made of plain names only.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Application, String> {
        Application::parse("tamer.toml", text).map_err(|e| e.to_string())
    }

    const TWO: &str = "application = \"shop\"\n[component.web]\nfiles = \"web\"\nroot = \"/srv/shop/web\"\nneeds = [\"worker\"]\n[component.worker]\nfiles = \"worker\"\nroot = \"/srv/shop/worker\"\n";

    #[test]
    fn components_roll_out_after_what_they_need() {
        let order = parse(TWO).unwrap().order().unwrap();
        assert_eq!(
            order.iter().map(ComponentName::as_str).collect::<Vec<_>>(),
            ["worker", "web"]
        );
    }

    #[test]
    fn circles_and_unknown_needs_are_refused() {
        let circle = format!("{TWO}needs = [\"web\"]\n");
        assert!(parse(&circle).unwrap_err().contains("circle: web, worker"));
        assert!(
            parse(&TWO.replace("[\"worker\"]", "[\"db\"]"))
                .unwrap_err()
                .contains("`db`")
        );
    }

    #[test]
    fn paths_that_leave_their_place_are_refused() {
        for (from, to) in [
            ("root = \"/srv/shop/web\"", "root = \"srv\""),
            ("root = \"/srv/shop/web\"", "root = \"/\""),
            ("root = \"/srv/shop/web\"", "root = \"/srv\\n\""),
            ("root = \"/srv/shop/web\"", "root = \"/srv/../etc\""),
            ("files = \"web\"", "files = \"../web\""),
            ("files = \"web\"", "files = \"web\"\nshared = [\"../x\"]"),
            (
                "files = \"web\"",
                "files = \"web\"\nhooks = { start = \"/bin/sh\" }",
            ),
            (
                "files = \"web\"",
                "files = \"web\"\nservice = \"--now.service\"",
            ),
            (
                "files = \"web\"",
                "files = \"web\"\nservice = \"a/b.service\"",
            ),
            ("files = \"web\"", "files = \"web\"\nreload = true"),
            ("files = \"web\"", "files = \"web\"\numask = \"27x\""),
            (
                "files = \"web\"",
                "files = \"web\"\nlimits = { open_files = 0 }",
            ),
            (
                "files = \"web\"",
                "files = \"web\"\ncapabilities = { \"../x\" = [\"cap_chown\"] }",
            ),
            (
                "files = \"web\"",
                "files = \"web\"\ncapabilities = { x = [] }",
            ),
            (
                "files = \"web\"",
                "files = \"web\"\ncapabilities = { x = [\"cap_all\"] }",
            ),
        ] {
            assert!(parse(&TWO.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let said = parse(&TWO.replacen("files", "flies", 1)).unwrap_err();
        assert!(said.contains("did you mean `files`?"), "{said}");
    }
}
