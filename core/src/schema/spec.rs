//! `[schema.NAME]` of `tamer.toml`: how a database is read, brought up and, where possible, down.

use super::range::{VersionRange, WorksWith};
use crate::application::{ComponentSpec, is_inside};
use crate::id::{ComponentName, SchemaName};
use crate::moment::Span;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The databases of an application, or those whose programs a release carries.
pub type Schemas = BTreeMap<SchemaName, SchemaSpec>;

/// A database as `tamer.toml` describes it. It travels, signed, in the manifest of the component whose
/// releases carry the programs: who runs them has them verified, and a version that consists of
/// unchanged releases needs nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaSpec {
    /// The component whose releases carry the programs; the only one, where there is just one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentName>,
    /// Prints the version that the database has, a decimal number, as its last line.
    pub current: Program,
    /// The version that a release of this `tamer.toml` brings the database to.
    pub target: u64,
    /// Brings the database from the version that it has to `target`.
    pub up: Program,
    /// Brings it back to the version in `TAMER_SCHEMA_TARGET`; left out where there is no way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Program>,
    /// The versions whose step cannot be undone although there is a `down`: 42 is the step from 41 to 42.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub irreversible: BTreeSet<u64>,
    /// How long `up` or `down` may run.
    #[serde(default = "ten_minutes")]
    pub timeout: Span,
}

fn ten_minutes() -> Span {
    Span::secs(600)
}

/// What a release says of databases; its manifest carries it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Declared {
    /// The databases that it uses, and what it works with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub works_with: WorksWith,
    /// The databases whose programs it carries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: Schemas,
}

/// A program of a release with its arguments, split at white space. Nothing is quoted or expanded: what
/// needs more than that is a script in the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Program {
    path: String,
    args: Vec<String>,
}

// === impl Declared ===

impl Declared {
    /// The versions of a database that it works with: all, where it does not use it.
    pub fn range(&self, schema: &SchemaName) -> VersionRange {
        let named = self.works_with.get(schema).copied();
        named.unwrap_or(VersionRange::ALL)
    }
}

impl From<&ComponentSpec> for Declared {
    fn from(spec: &ComponentSpec) -> Self {
        Self {
            works_with: spec.works_with.clone(),
            schemas: spec.schemas.clone(),
        }
    }
}

// === impl Program ===

impl Program {
    /// Where it lies, relative to the release.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its arguments.
    pub fn args(&self) -> &[String] {
        &self.args
    }
}

impl TryFrom<String> for Program {
    type Error = String;
    fn try_from(given: String) -> Result<Self, String> {
        let mut words = given.split_whitespace().map(str::to_owned);
        let path = words.next().unwrap_or_default();
        if !is_inside(&path) {
            return Err(format!(
                "`{given}` must begin with the path of a program inside the release"
            ));
        }
        if let Some(word) = given
            .split_whitespace()
            .find(|word| word.contains(['"', '\'']))
        {
            return Err(format!(
                "`{word}` has a quotation mark: words are split at white space and nothing is quoted; \
                 put it into a script in the release"
            ));
        }
        Ok(Self {
            path,
            args: words.collect(),
        })
    }
}

impl From<Program> for String {
    fn from(program: Program) -> Self {
        program.to_string()
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

// === impl SchemaSpec ===

impl SchemaSpec {
    /// Why the steps down from `from` to `to` cannot be taken; `None` where they can.
    pub fn no_way_down(&self, from: u64, to: u64) -> Option<String> {
        if self.down.is_none() {
            return Some("there is no `down`".to_owned());
        }
        let step = self
            .irreversible
            .range(to + 1..=from.max(to + 1))
            .next_back()?;
        (*step <= from).then(|| format!("the step to {step} cannot be undone"))
    }

    /// Its programs, with the key each stands under.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, &Program)> {
        let down = self.down.iter().map(|down| ("down", down));
        [("current", &self.current), ("up", &self.up)]
            .into_iter()
            .chain(down)
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(step) = self
            .irreversible
            .iter()
            .find(|step| **step == 0 || **step > self.target)
        {
            return Err(format!(
                "`irreversible` names the step to {step}, and steps lead to 1 up to `target`, {}",
                self.target
            ));
        }
        if !self.irreversible.is_empty() && self.down.is_none() {
            return Err(
                "`irreversible` names steps, and without `down` no step can be undone: leave it out"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// Refuses databases that do not fit the components of the same `tamer.toml`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn validate(
    schemas: &Schemas,
    components: &BTreeMap<&ComponentName, &WorksWith>,
) -> Result<(), String> {
    for (component, works_with) in components {
        for name in works_with.keys() {
            if !schemas.contains_key(name) {
                let known = schemas.keys().map(SchemaName::as_str);
                let near = crate::text::nearest(name.as_str(), known)
                    .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
                return Err(format!(
                    "component `{component}` works with `{name}`, and there is no [schema.{name}]{near}"
                ));
            }
        }
    }
    for (name, schema) in schemas {
        let here = |reason: String| format!("schema `{name}`: {reason}");
        schema.validate().map_err(here)?;
        carrier(schema, components.keys().copied()).map_err(here)?;
        let mut users = 0;
        for (component, works_with) in components {
            let Some(range) = works_with.get(name) else {
                continue;
            };
            users += 1;
            if !range.contains(schema.target) {
                return Err(here(format!(
                    "`target` is {}, and component `{component}` of the same version works with {range} only",
                    schema.target
                )));
            }
        }
        if users == 0 {
            return Err(here(format!(
                "no component says that it works with it: write works_with = {{ {name} = \"{}\" }} into those that use it",
                schema.target
            )));
        }
    }
    Ok(())
}

/// The component whose releases carry the programs.
///
/// # Errors
/// A sentence: there is no such component, or several and none is named.
pub fn carrier<'a>(
    schema: &SchemaSpec,
    mut components: impl Iterator<Item = &'a ComponentName> + Clone,
) -> Result<ComponentName, String> {
    match &schema.component {
        Some(named) if components.clone().any(|known| known == named) => Ok(named.clone()),
        Some(named) => {
            let near = crate::text::nearest(named.as_str(), components.map(ComponentName::as_str));
            let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            Err(format!("there is no component `{named}`{near}"))
        }
        None => match (components.next(), components.next()) {
            (Some(only), None) => Ok(only.clone()),
            _ => Err("there are several components: say with `component` whose releases carry the programs".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Application;

    const SHOP: &str = "application = \"shop\"\n[component.web]\nfiles = \"web\"\nroot = \"/srv/shop/web\"\nworks_with = { main = \"41..=42\" }\n[schema.main]\ncurrent = \"bin/schema-version\"\ntarget = 42\nup = \"bin/migrate up\"\ndown = \"bin/migrate down\"\nirreversible = [40]\n";

    fn parse(text: &str) -> Result<Application, String> {
        Application::parse("tamer.toml", text).map_err(|e| e.to_string())
    }

    #[test]
    fn the_component_carries_the_programs() {
        let shop = parse(SHOP).unwrap();
        let web = shop.spec(&"web".parse().unwrap()).unwrap();
        let main = &web.schemas[&"main".parse::<SchemaName>().unwrap()];
        assert_eq!(main.up.path(), "bin/migrate");
        assert_eq!(main.up.args(), ["up"]);
        assert_eq!(main.timeout, Span::secs(600));
        assert_eq!(main.component.as_ref().unwrap().as_str(), "web");
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_reason() {
        for (from, to, word) in [
            ("\"41..=42\"", "\"42..=41\"", "holds no version"),
            ("\"41..=42\"", "\"41\"", "works with 41 only"),
            ("{ main", "{ mian", "did you mean `main`?"),
            (
                "works_with = { main = \"41..=42\" }\n",
                "",
                "works_with = { main = \"42\" }",
            ),
            ("target = 42", "target = -1", "integer"),
            ("[40]", "[43]", "the step to 43"),
            ("[40]", "[0]", "the step to 0"),
            ("down = \"bin/migrate down\"\n", "", "without `down`"),
            ("\"bin/migrate up\"", "\"/bin/sh\"", "inside the release"),
            ("\"bin/migrate up\"", "\"\"", "inside the release"),
            ("\"bin/migrate up\"", "\"../up\"", "inside the release"),
            ("\"bin/migrate up\"", "\"bin/up 'a b'\"", "quotation mark"),
            (
                "target = 42",
                "target = 42\ncomponent = \"wep\"",
                "did you mean `web`?",
            ),
            ("target = 42", "tarket = 42", "did you mean `target`?"),
            (
                "[schema.main]",
                "[component.worker]\nfiles = \"w\"\nroot = \"/srv/w\"\n[schema.main]",
                "several components",
            ),
            (
                "[schema.main]",
                "[component.web.schemas.x]\ncurrent = \"a\"\ntarget = 1\nup = \"b\"\n[schema.main]",
                "write [schema.x]",
            ),
        ] {
            assert!(SHOP.contains(from), "{from}");
            let said = parse(&SHOP.replacen(from, to, 1)).unwrap_err();
            assert!(said.contains(word), "{to}: {said}");
        }
    }

    #[test]
    fn a_step_that_cannot_be_undone_stands_in_the_way_down() {
        let shop = parse(SHOP).unwrap();
        let main = shop.schemas.values().next().unwrap();
        assert_eq!(main.no_way_down(42, 41), None);
        assert_eq!(main.no_way_down(42, 40), None);
        assert_eq!(
            main.no_way_down(42, 39).unwrap(),
            "the step to 40 cannot be undone"
        );
        assert!(main.no_way_down(40, 39).is_some());
        assert_eq!(main.no_way_down(39, 38), None);
        assert_eq!(main.no_way_down(39, 39), None);
        let mut without = main.clone();
        without.down = None;
        assert_eq!(without.no_way_down(42, 41).unwrap(), "there is no `down`");
    }
}
